//! The panel as HTML: title, bar, figures and lanes for the live widgets, and the frozen page that
//! stays in the notebook. Uses only tags and inline styles that JupyterLab's sanitiser keeps for
//! untrusted notebooks: no script, no style sheet, no SVG; positions instead of flex boxes. The
//! live widgets show the same HTML, so freezing changes nothing that the eye can follow.
use std::fmt::Write as _;

use super::pace::{self, Figures};
use super::sections::Section;
use super::words::{self, escape};
use super::{lanes, text};
use crate::client::summary::{State, Summary};

/// Colours follow the theme. The sanitiser keeps a `var()` only with an `rgb()` inside.
pub(super) const DONE: &str = "var(--jp-brand-color1,rgb(25,118,210))";
pub(super) const RUNNING: &str = "var(--jp-brand-color2,rgb(100,181,246))";
pub(super) const FAILED: &str = "var(--jp-error-color1,rgb(211,47,47))";
pub(super) const SUCCESS: &str = "var(--jp-success-color1,rgb(56,142,60))";
pub(super) const CANCELLED: &str = "rgba(128,128,128,0.7)";
pub(super) const TRACK: &str = "rgba(128,128,128,0.16)";
/// Secondary text: the inherited colour, paler, so that it fits any theme.
pub(super) const MUTED: &str = "opacity:0.65";
/// Digits of one width. Sanitisers drop it, without harm.
pub(super) const NUMERIC: &str = "font-variant-numeric:tabular-nums";

/// Calms the accordion of the live widgets; never part of the static page, where sanitisers drop
/// it.
pub(super) const LIVE_STYLE: &str = "<style>.prust-accordion .jupyter-widget-Collapse-header{\
     padding:3px 6px;font-size:12px;font-weight:400;line-height:18px;border:none;\
     background-color:transparent;color:inherit}.prust-accordion .jupyter-widget-Collapse{margin:0}\
     .prust-accordion .jupyter-widget-Collapse-contents{padding:2px 6px 6px;border:none;\
     background-color:transparent}.prust-hbox .jupyter-widget-html-content{min-width:0}</style>";

/// Returns the static page: self-contained, and readable without a kernel, offline and untrusted.
pub fn frozen(summary: &Summary) -> String {
    let mut out = format!(
        "<div class=\"prust-panel\" role=\"group\" aria-label=\"{}\" \
         style=\"max-width:960px;font-size:13px;line-height:1.4;text-align:left\">",
        escape(&text::label(summary))
    );
    out.push_str(&title(summary));
    out.push_str(&body(summary, &pace::overall(summary)));
    for section in Section::ALL {
        let content = section.html(summary);
        if content.is_empty() {
            continue;
        }
        let open = section == Section::Errors && !summary.errors.is_empty();
        let _ = write!(
            out,
            "<details{} style=\"margin-top:4px\"><summary style=\"cursor:pointer;\
             font-size:12px\">{}\
             </summary><div style=\"margin-top:4px;max-height:360px;overflow:auto\">{content}</div>\
             </details>",
            if open { " open" } else { "" },
            section.title(summary)
        );
    }
    if let Some(twin) = twin(summary) {
        let _ = write!(out, "<div style=\"font-size:11px;margin-top:6px;{MUTED}\">{twin}</div>");
    }
    out.push_str("</div>");
    out
}

/// Returns the first line: state and label.
pub(super) fn title(summary: &Summary) -> String {
    let label = escape(&text::label(summary));
    format!(
        "<div class=\"prust-title\" style=\"height:26px;line-height:26px;white-space:nowrap;\
         overflow:hidden;text-overflow:ellipsis\"><span class=\"prust-state\" role=\"status\" \
         style=\"display:inline-block;width:86px;font-size:12px\">\
         <span style=\"display:inline-block;\
         width:9px;height:9px;border-radius:5px;margin-right:7px;background-color:{}\"></span>{}\
         </span><span title=\"{label}\" style=\"font-size:14px;\
         font-weight:600\">{label}</span></div>",
        state_colour(summary.state),
        text::state_word(summary.state)
    )
}

/// Returns everything that moves: bar, legend, figures, lanes, notes.
pub(super) fn body(summary: &Summary, figures: &Figures) -> String {
    let finished = finished(summary.state);
    let mut out = String::with_capacity(8 * 1024);
    out.push_str("<div class=\"prust-body\" style=\"line-height:1.4;font-size:13px\">");
    bar(&mut out, summary);
    legend(&mut out, summary);
    figures_row(&mut out, summary, figures);
    out.push_str(&lanes::draw(&summary.lanes, summary.elapsed, finished));
    for note in text::notes(summary) {
        let _ = write!(
            out,
            "<div class=\"prust-note\" role=\"note\" style=\"margin-top:6px;padding:3px 8px;\
             font-size:12px;background-color:{TRACK};\
             border-left:3px solid rgb(245,124,0)\">{}</div>",
            escape(&note)
        );
    }
    out.push_str("</div>");
    out
}

/// Returns whether nothing more will happen to a submission in this state.
pub(super) fn finished(state: State) -> bool {
    match state {
        State::Waiting | State::Running => false,
        State::Done | State::Failed | State::Cancelled => true,
    }
}

pub(super) fn state_colour(state: State) -> &'static str {
    match state {
        State::Waiting | State::Cancelled => CANCELLED,
        State::Running => DONE,
        State::Done => SUCCESS,
        State::Failed => FAILED,
    }
}

/// The parts of the bar in drawing order; what is left of the track is waiting.
fn parts(summary: &Summary) -> [(&'static str, u64, &'static str); 4] {
    let counts = summary.counts;
    [
        ("done", counts.done, DONE),
        ("failed", counts.failed, FAILED),
        ("running", counts.running, RUNNING),
        ("cancelled", counts.cancelled, CANCELLED),
    ]
}

fn bar(out: &mut String, summary: &Summary) {
    let total = summary.counts.total.max(1);
    let _ = write!(
        out,
        "<div class=\"prust-bar\" role=\"progressbar\" aria-valuemin=\"0\" aria-valuemax=\"{}\" \
         aria-valuenow=\"{}\" aria-label=\"items done\" style=\"position:relative;height:10px;\
         overflow:hidden;border-radius:3px;background-color:{TRACK}\">",
        summary.counts.total, summary.counts.done
    );
    let mut left = 0.0;
    for (name, n, colour) in parts(summary) {
        let width = n as f64 / total as f64 * 100.0;
        let _ = write!(
            out,
            "<div class=\"prust-bar-{name}\" data-items=\"{n}\" title=\"{} {name}\" style=\"\
             position:absolute;top:0;height:100%;left:{left:.4}%;width:{width:.4}%;\
             background-color:{colour}\"></div>",
            words::count(n)
        );
        left += width;
    }
    out.push_str("</div>");
}

fn legend(out: &mut String, summary: &Summary) {
    out.push_str(
        "<div class=\"prust-legend\" style=\"height:20px;line-height:20px;overflow:hidden;\
         white-space:nowrap;font-size:11px;font-variant-numeric:tabular-nums\">",
    );
    let waiting = ("waiting", summary.counts.waiting, "rgba(128,128,128,0.3)");
    for (name, n, colour) in parts(summary).into_iter().chain([waiting]) {
        if n == 0 && name != "done" {
            continue;
        }
        let _ = write!(
            out,
            "<span style=\"display:inline-block;margin-right:16px\"><span style=\"display:\
             inline-block;width:8px;height:8px;margin-right:5px;border-radius:2px;\
             background-color:{colour}\"></span>{} <span style=\"{MUTED}\">{name}</span></span>",
            words::count(n)
        );
    }
    out.push_str("</div>");
}

fn figures_row(out: &mut String, summary: &Summary, figures: &Figures) {
    let counts = summary.counts;
    let engines = words::counted(summary.lanes.len() as u64, "engine");
    let none = || "–".to_owned();
    let (time_left, time_caption) = match (finished(summary.state), figures.left) {
        (false, Some((low, high))) => (words::range(low, high), "left"),
        (false, None) => (none(), "left"),
        (true, _) => (words::duration(summary.serial), "engine time"),
    };
    let elapsed = if finished(summary.state) {
        words::duration(summary.elapsed)
    } else {
        words::clock(summary.elapsed)
    };
    let (speedup, speedup_caption) = match (figures.speedup, figures.efficiency) {
        (Some(speedup), Some(share)) => {
            (format!("{speedup:.1}×"), format!("speed-up, {share:.0}% of {engines}"))
        }
        _ => (none(), format!("speed-up on {engines}")),
    };
    let tiles = [
        (format!("{}%", words::percent(counts.done, counts.total)), progress_caption(summary), 190),
        (elapsed, "elapsed".to_owned(), 100),
        (figures.rate.map_or_else(none, words::rate), "rate".to_owned(), 124),
        (time_left, time_caption.to_owned(), 100),
        (speedup, speedup_caption, 180),
    ];
    out.push_str(
        "<div class=\"prust-figures\" style=\"margin-top:4px;font-variant-numeric:tabular-nums\">",
    );
    for (value, caption, width) in tiles {
        let _ = write!(
            out,
            "<div style=\"display:inline-block;vertical-align:top;width:{width}px;height:38px;\
             overflow:hidden;white-space:nowrap\"><div style=\"font-size:16px;line-height:22px\">\
             {value}</div><div style=\"font-size:11px;line-height:14px;\
             {MUTED}\">{caption}</div></div>"
        );
    }
    out.push_str("</div>");
}

fn progress_caption(summary: &Summary) -> String {
    let counts = summary.counts;
    format!("{} of {}", words::count(counts.done), words::counted(counts.total, "item"))
}

/// Returns how to do by magic what the buttons did.
fn twin(summary: &Summary) -> Option<String> {
    let id = summary.submission;
    match summary.state {
        State::Failed => Some(format!("Failed items again: <code>%px_retry {id}</code>")),
        State::Waiting | State::Running => Some(format!(
            "As of {}; it was still {}. Cancel: <code>%px_cancel {id}</code>",
            words::clock(summary.elapsed),
            text::state_word(summary.state)
        )),
        State::Done | State::Cancelled => None,
    }
}

/// Returns a muted line, for sections that have nothing to show.
pub(super) fn muted(line: &str) -> String {
    format!("<div style=\"font-size:12px;{MUTED}\">{}</div>", escape(line))
}
