//! What the panel and `progress()` know of one submission: counters, lanes, errors, tails. Built
//! from counters, so a million tasks cost no more to show than ten. Never holds results.
use std::time::{Duration, SystemTime};

/// Where a submission stands, as one word for its badge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// Items (not messages) by where they stand. `done + failed + cancelled + running + waiting ==
/// total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub running: u64,
    pub waiting: u64,
}

/// One stretch of work on an engine, as offsets from the submission's start.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub from: Duration,
    /// `None` while it runs.
    pub to: Option<Duration>,
    pub items: u64,
    pub failed: bool,
}

/// One engine's share of a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub engine: u32,
    pub done: u64,
    pub failed: u64,
    pub running: u64,
    /// The latest `SPANS_MAX` stretches of work, oldest first.
    pub spans: Vec<Span>,
    pub busy: Duration,
    /// Set when the engine was lost: the cause in words.
    pub lost: Option<String>,
    /// The last lines this engine printed for the submission.
    pub tail: String,
}

/// Errors that share a name and first line.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorGroup {
    pub ename: String,
    pub evalue: String,
    pub count: u64,
    pub engines: Vec<u32>,
    /// The first full traceback of the group.
    pub traceback: Vec<String>,
}

/// One row of the metadata table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub msg_id: String,
    pub engine: Option<u32>,
    pub items: u64,
    pub status: String,
    pub submitted: Option<SystemTime>,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
    pub received: Option<SystemTime>,
}

/// Everything a panel shows of one submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub submission: u64,
    /// The user's label, else the function's name or an excerpt of the cell.
    pub label: String,
    pub state: State,
    pub counts: Counts,
    /// Messages behind the items.
    pub tasks: u64,
    pub submitted: SystemTime,
    /// Time since submission; stops at the last result.
    pub elapsed: Duration,
    /// Sum of the engines' busy time over completed tasks.
    pub serial: Duration,
    pub lanes: Vec<Lane>,
    pub errors: Vec<ErrorGroup>,
    /// The first `ROWS_MAX` tasks, failed first, then slowest.
    pub rows: Vec<Row>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// A hint when nothing moves, for example "no engine is connected".
    pub hint: Option<String>,
}

/// Stretches of work kept per lane; more would not be told apart at panel width.
pub const SPANS_MAX: usize = 120;
/// Rows kept for the metadata table.
pub const ROWS_MAX: usize = 200;
/// Error groups kept; later kinds are counted in the last one.
pub const ERROR_GROUPS_MAX: usize = 20;
/// Bytes of printed text kept per lane.
pub const TAIL_BYTES_MAX: usize = 4096;
