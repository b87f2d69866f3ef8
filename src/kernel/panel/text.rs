//! The panel in words: `text/plain` for saved notebooks and consoles, and one line for terminals.
//! Never contains ANSI codes.
use super::pace::{self, Figures};
use super::words;
use crate::client::summary::{State, Summary};

/// Lines of `text/plain` at most.
pub const LINES_MAX: usize = 12;
/// Lost engines named one by one.
const LOST_MAX: usize = 3;

/// Returns the word for a state.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Running => "running",
        State::Done => "done",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

/// Returns what the panel shows, in one to `LINES_MAX` lines without a newline at the end.
pub fn plain(summary: &Summary) -> String {
    let figures = pace::overall(summary);
    let counts = summary.counts;
    let mut lines = vec![format!(
        "{}: {}, {} of {} done ({}%) in {}",
        label(summary),
        state_word(summary.state),
        words::count(counts.done),
        words::counted(counts.total, "item"),
        words::percent(counts.done, counts.total),
        words::duration(summary.elapsed)
    )];
    let others = others(summary);
    if !others.is_empty() {
        lines.push(others.join(", "));
    }
    lines.push(speed(summary, &figures));
    for group in summary.errors.iter().take(2) {
        let times = if group.count == 1 { "once" } else { &format!("{} times", group.count) };
        lines.push(format!(
            "{}: {} ({times}, {} {})",
            words::one_line(&group.ename, 40),
            words::one_line(&group.evalue, 200),
            if group.engines.len() == 1 { "engine" } else { "engines" },
            words::engines(&group.engines)
        ));
    }
    if summary.errors.len() > 2 {
        lines.push(format!("and {} more kinds of error", summary.errors.len() - 2));
    }
    lines.extend(notes(summary));
    match summary.state {
        State::Waiting | State::Running => {
            lines.push(format!("cancel with %px_cancel {}", summary.submission));
        }
        State::Failed => lines.push(format!("retry with %px_retry {}", summary.submission)),
        State::Done | State::Cancelled => {}
    }
    lines.truncate(LINES_MAX);
    lines.join("\n")
}

/// Returns the label on one line, never empty.
pub(super) fn label(summary: &Summary) -> String {
    let label = words::one_line(&summary.label, words::LABEL_CHARS_MAX);
    if label.is_empty() { format!("submission {}", summary.submission) } else { label }
}

/// Returns the counts besides `done` that are not zero, in words.
pub(super) fn others(summary: &Summary) -> Vec<String> {
    let counts = summary.counts;
    [
        (counts.running, "running"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.waiting, "waiting"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{} {word}", words::count(*n)))
    .collect()
}

/// Returns what the user should know besides the figures: the hint, and engines that were lost.
pub(super) fn notes(summary: &Summary) -> Vec<String> {
    let mut notes: Vec<String> =
        summary.hint.iter().map(|hint| words::one_line(hint, 200)).collect();
    let lost = summary.lanes.iter().filter_map(|lane| Some((lane.engine, lane.lost.as_ref()?)));
    let n_lost = lost.clone().count();
    notes.extend(lost.take(LOST_MAX).map(|(engine, cause)| {
        format!("engine {engine} was lost: {}", words::one_line(cause, 120))
    }));
    if n_lost > LOST_MAX {
        notes.push(format!("{} more engines were lost", n_lost - LOST_MAX));
    }
    notes
}

fn speed(summary: &Summary, figures: &Figures) -> String {
    let engines = words::counted(summary.lanes.len() as u64, "engine");
    let mut parts = Vec::new();
    if let Some(rate) = figures.rate {
        parts.push(format!("{} items{}", rate_number(rate), rate_unit(rate)));
    }
    match (figures.speedup, figures.efficiency) {
        (Some(speedup), Some(efficiency)) => {
            parts.push(format!("speed-up {speedup:.1} on {engines} ({efficiency:.0}%)"));
        }
        _ => parts.push(format!("on {engines}")),
    }
    parts.push(words::counted(summary.tasks, "task"));
    parts.join(", ")
}

fn rate_number(rate: f64) -> String {
    words::rate(rate).split('/').next().unwrap_or_default().to_owned()
}

fn rate_unit(rate: f64) -> &'static str {
    if rate < 1.0 { "/min" } else { "/s" }
}
