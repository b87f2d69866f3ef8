//! Magics: lines that begin with `%`, `:` or `!`, and cells that begin with `%%`. Takes a cell's
//! text apart (pure); never runs anything. Text that stays Rust keeps its line numbers.
mod help;
mod outline;
mod read;
mod table;
mod words;

use std::time::Duration;

pub use help::{help, list, quick_reference};
pub use outline::{Outline, outline};
pub use read::{Problem, read};
pub use table::{Choice, Form, MAGICS, Spec, find};

use crate::worker::Snapshots;

/// A cell, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The `%%` lines at its top, outermost first.
    pub wraps: Vec<CellMagic>,
    /// What is to be done, in order. Directives (`:dep`, `%opt`, `%fmt`, `%env NAME=VALUE`) come
    /// first wherever they stand.
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A magic on the line `line` (from 1).
    Magic { line: usize, magic: Magic },
    /// Rust: the whole cell's text with every other line blank, so that positions stay true.
    Code(String),
}

/// A magic that applies to the whole cell.
#[derive(Clone, Debug, PartialEq)]
pub enum CellMagic {
    Px(PxOptions),
    Time,
    Timeit(TimeitOptions),
    /// The optimisation level of this cell only; `None`: by what the code is.
    Opt(Option<u8>),
    WriteFile {
        path: String,
        append: bool,
        body: String,
    },
    Bash {
        body: String,
    },
}

/// A magic on a line of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Magic {
    Px {
        options: PxOptions,
        code: String,
    },
    PxResult(PxOptions),
    PxConfig(PxOptions),
    AutoPx,
    PxCancel {
        submission: Option<u64>,
    },
    PxRetry {
        submission: Option<u64>,
    },
    Cluster(Cluster),
    /// Lines of a `[dependencies]` table; with `manifest` a whole cargo-script front matter.
    Dep {
        text: String,
        manifest: bool,
    },
    Vars {
        targets: Option<String>,
    },
    Type {
        name: String,
    },
    Undo,
    /// `None` asks how it is set.
    Snapshot(Option<Snapshots>),
    Restart,
    Clear,
    Time {
        code: String,
    },
    Timeit {
        options: TimeitOptions,
        code: String,
    },
    /// `None` asks how it is set; `Some(None)`: by what the code is.
    Opt(Option<Option<u8>>),
    /// On or off, in turn.
    Types,
    Timing,
    ShowDeps,
    Version,
    Fmt {
        format: String,
    },
    Env(Env),
    LsMagic,
    Help {
        topic: Option<String>,
    },
    QuickRef,
    Shell {
        command: String,
    },
}

/// What `%px` and its relatives were told; `None` means: as configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PxOptions {
    pub targets: Option<String>,
    pub block: Option<bool>,
    pub local: bool,
    pub out: Option<String>,
    pub verbose: Option<bool>,
    pub stream: Option<bool>,
    pub group: Option<GroupBy>,
    pub progress_after: Option<Duration>,
    pub signal_on_interrupt: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Engine,
    Order,
    Type,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeitOptions {
    /// Runs per measurement; chosen by the time one takes when absent.
    pub loops: Option<u32>,
    /// Measurements.
    pub repeat: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    Status,
    Start { n: Option<u32>, detach: bool, cluster_id: Option<String> },
    Stop,
    Restart,
    Attach { to: String },
    Detach,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Env {
    All,
    Show { name: String },
    Set { name: String, value: String },
}

impl Magic {
    /// Whether it sets the stage for the cell's code and so goes first.
    fn is_directive(&self) -> bool {
        matches!(
            self,
            Self::Dep { .. } | Self::Opt(Some(_)) | Self::Fmt { .. } | Self::Env(Env::Set { .. })
        )
    }
}

#[cfg(test)]
mod tests;
