//! The parts of the panel that fill only when opened: what engines printed, errors by kind, and the
//! table of tasks. Each is bounded by the constants here.
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::html::{FAILED, MUTED, muted};
use super::words::{self, escape};
use crate::client::summary::{Row, State, Summary};

/// Lines of output shown for one engine.
pub const OUTPUT_LINES_MAX: usize = 40;
/// Bytes of output shown over all engines.
pub const OUTPUT_BYTES_MAX: usize = 48 * 1024;
/// Lines of a traceback shown.
pub const TRACE_LINES_MAX: usize = 40;
/// Rows of the table of tasks.
pub const TABLE_ROWS_MAX: usize = 50;

const PRE: &str = "font-family:monospace;font-size:12px;line-height:1.4;white-space:pre-wrap;\
                   margin:2px 0 8px 0;padding:4px 8px;background-color:rgba(128,128,128,0.1);\
                   border-radius:2px";

/// A section of the panel, in the order of the accordion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Output,
    Errors,
    Tasks,
}

impl Section {
    pub const ALL: [Self; 3] = [Self::Output, Self::Errors, Self::Tasks];

    /// Returns the section at a position of the accordion.
    pub fn at(position: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(position).ok()?).copied()
    }

    /// Returns the heading, with a count where there is something to count.
    pub(super) fn title(self, summary: &Summary) -> String {
        let (name, n) = match self {
            Self::Output => {
                let printed = summary.lanes.iter().filter(|lane| !lane.tail.is_empty());
                ("Output", printed.count() as u64)
            }
            Self::Errors => ("Errors", summary.errors.iter().map(|group| group.count).sum()),
            Self::Tasks => ("Tasks", summary.tasks),
        };
        match (self, n) {
            (_, 0) => name.to_owned(),
            (Self::Output, n) => format!("{name} ({})", words::counted(n, "engine")),
            (Self::Errors | Self::Tasks, n) => format!("{name} ({})", words::count(n)),
        }
    }

    /// Returns the content, empty if there is nothing to say.
    pub(super) fn html(self, summary: &Summary) -> String {
        match self {
            Self::Output => output(summary),
            Self::Errors => errors(summary),
            Self::Tasks => tasks(summary),
        }
    }

    /// Returns the content, or a line that says there is none yet.
    pub(super) fn html_or_note(self, summary: &Summary) -> String {
        let content = self.html(summary);
        if !content.is_empty() {
            return format!("<div style=\"line-height:1.4\">{content}</div>");
        }
        muted(match self {
            Self::Output => "No engine has printed anything.",
            Self::Errors => "No errors.",
            Self::Tasks => "No task has started yet.",
        })
    }
}

fn output(summary: &Summary) -> String {
    let mut out = String::new();
    let mut left_out = 0;
    for lane in summary.lanes.iter().filter(|lane| !lane.tail.is_empty()) {
        let shown = words::tail(&lane.tail, OUTPUT_LINES_MAX);
        if out.len() + shown.len() > OUTPUT_BYTES_MAX {
            left_out += 1;
            continue;
        }
        let _ = write!(
            out,
            "<div style=\"font-size:11px;{MUTED}\">engine {}</div><pre style=\"{PRE}\">{}</pre>",
            lane.engine,
            escape(&shown)
        );
    }
    if left_out > 0 {
        out.push_str(&muted(&format!("{left_out} more engines printed; see stdout()")));
    }
    out
}

fn errors(summary: &Summary) -> String {
    let mut out = String::new();
    for group in &summary.errors {
        let times = if group.count > 1 {
            format!("{} times, ", words::count(group.count))
        } else {
            String::new()
        };
        let noun = if group.engines.len() == 1 { "engine" } else { "engines" };
        let _ = write!(
            out,
            "<div style=\"font-size:12px\"><span style=\"font-weight:600;\
             color:{FAILED}\">{}</span> \
             {} <span style=\"{MUTED}\">({times}{noun} {})</span></div>",
            escape(&words::one_line(&group.ename, 80)),
            escape(&words::one_line(&group.evalue, 400)),
            words::engines(&group.engines)
        );
        if !group.traceback.is_empty() {
            let lines = group.traceback.iter().flat_map(|part| part.lines());
            let mut trace: Vec<&str> = lines.clone().take(TRACE_LINES_MAX).collect();
            if lines.count() > TRACE_LINES_MAX {
                trace.push("…");
            }
            let _ = write!(out, "<pre style=\"{PRE}\">{}</pre>", escape(&trace.join("\n")));
        }
    }
    out
}

fn tasks(summary: &Summary) -> String {
    if summary.rows.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<div style=\"font-size:12px;margin-bottom:4px;{MUTED}\">{}</div>",
        timing(summary)
    );
    let cell = "padding:2px 12px 2px 0";
    out.push_str(
        "<table style=\"border-collapse:collapse;margin:0;font-size:11px;white-space:nowrap;\
         text-align:right;font-variant-numeric:tabular-nums\"><thead><tr>",
    );
    for (name, align) in COLUMNS {
        let _ = write!(out, "<th style=\"{cell}{align};font-weight:600;{MUTED}\">{name}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for row in summary.rows.iter().take(TABLE_ROWS_MAX) {
        out.push_str("<tr>");
        let failed = !matches!(row.status.as_str(), "ok" | "running" | "waiting" | "done");
        for ((_, align), value) in COLUMNS.iter().zip(row_cells(row, summary.submitted)) {
            let _ = write!(out, "<td style=\"{cell}{align}");
            if failed && !align.is_empty() {
                let _ = write!(out, ";color:{FAILED}");
            }
            let _ = write!(out, "\">{}</td>", escape(&value));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    let hidden = summary.tasks.saturating_sub(summary.rows.len().min(TABLE_ROWS_MAX) as u64);
    if hidden > 0 {
        out.push_str(&muted(&format!(
            "and {}; failed ones come first, then the slowest",
            words::counted(hidden, "more task")
        )));
    }
    out
}

const LEFT: &str = ";text-align:left";
/// The columns of the table of tasks; numbers are aligned right, as the table is.
const COLUMNS: [(&str, &str); 8] = [
    ("status", LEFT),
    ("engine", ""),
    ("items", ""),
    ("sent at", ""),
    ("waited", ""),
    ("ran", ""),
    ("returned in", ""),
    ("message", LEFT),
];

fn row_cells(row: &Row, zero: SystemTime) -> [String; 8] {
    let between = |from: Option<SystemTime>, to: Option<SystemTime>| match (from, to) {
        (Some(from), Some(to)) => to.duration_since(from).map_or("0 s".to_owned(), words::duration),
        _ => "–".to_owned(),
    };
    [
        words::one_line(&row.status, 40),
        row.engine.map_or("–".to_owned(), |engine| engine.to_string()),
        words::count(row.items),
        between(Some(zero), row.submitted),
        between(row.submitted, row.started),
        between(row.started, row.completed),
        between(row.completed, row.received),
        short_id(&row.msg_id),
    ]
}

/// Returns the part of a message id that differs between the tasks of one session.
fn short_id(msg_id: &str) -> String {
    match msg_id.rsplit_once('_') {
        Some((_, number)) if msg_id.len() > 16 => format!("…{}", words::one_line(number, 12)),
        _ => words::one_line(msg_id, 16),
    }
}

fn timing(summary: &Summary) -> String {
    let mut parts = vec![format!(
        "{} for {}",
        words::counted(summary.tasks, "task"),
        words::counted(summary.counts.total, "item")
    )];
    let slowest = summary.rows.iter().filter_map(|row| Some((ran(row)?, row)));
    if let Some((time, row)) = slowest.max_by_key(|(time, _)| *time) {
        let engine = row.engine.map_or(String::new(), |engine| format!(" (engine {engine})"));
        parts.push(format!("slowest {}{engine}", words::duration(time)));
    }
    if summary.state != State::Waiting {
        parts.push(format!(
            "{} sent, {} received",
            words::bytes(summary.bytes_sent),
            words::bytes(summary.bytes_received)
        ));
    }
    parts.join(" · ")
}

fn ran(row: &Row) -> Option<Duration> {
    row.completed?.duration_since(row.started?).ok()
}
