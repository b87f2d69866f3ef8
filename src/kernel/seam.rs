//! Everything the face and the executor may say to each other. Data only.
//!
//! The rules of the conversation:
//! - The face sends one `Work::Run` at a time and the next one only after its `Report::Done`.
//! - Every `Run` gets exactly one `Done`, also after `Work::Interrupt` or a death of the worker;
//!   all output of the run is reported before it.
//! - Every `Report::Input` gets exactly one `Work::Input` with its `request`, unless the run's
//!   `Done` or a `Work::Interrupt` comes first: an interrupt takes back every open question.
//! - Reports about work that goes on after its cell (`run: Some(..)` of an earlier cell) may come
//!   at any time; the face chooses the parent that frontends accept.
//! - After `Work::Shutdown` the executor ends its processes and drops its sender of reports.
use std::sync::Arc;

use serde_json::Value;

use super::magics;
use crate::wire::jupyter::{Object, Stdio};

/// Numbers the executions of one kernel, silent ones included, from 1.
pub type RunId = u64;

/// What the face asks of the executor.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Run(Run),
    /// End the running cell within a second; its `Done` says `Outcome::Error`.
    Interrupt,
    /// The answer to `Report::Input`.
    Input {
        request: u64,
        answer: Answer,
    },
    /// The answer to `Report::Paused`.
    ReadOn,
    /// A frontend wrote to a comm the executor opened. Changes of widget state (`data.method` is
    /// `update`) have been taken over into the face's copy and echoed already.
    Comm {
        comm_id: String,
        data: Object,
        buffers: Vec<Vec<u8>>,
    },
    /// A frontend closed a comm the executor opened.
    CommClosed {
        comm_id: String,
    },
    /// A page asked for all widgets: one that was loaded anew, or opened beside another.
    PageLoaded,
    Shutdown {
        restart: bool,
    },
}

/// One cell to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub run: RunId,
    /// What diagnostics call the cell: `In[5]`, or `In[*]` for one that is not stored.
    pub label: String,
    /// The text as it came.
    pub code: String,
    /// The same, taken apart. (Text whose magics cannot be read never gets here.)
    pub cell: magics::Cell,
    /// The frontend's id of the cell; running the same cell again replaces what it defined.
    pub cell_id: Option<String>,
    /// Nothing of it is shown; the face drops its output.
    pub silent: bool,
    /// Expressions (name, code) to be evaluated when the cell has succeeded; mostly none.
    pub expressions: Vec<(String, String)>,
}

/// What became of an input request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Line(String),
    EndOfFile,
    /// The frontend said that it cannot ask anybody.
    Refused,
}

/// What the executor tells the face. `run: None` means the cell that runs now, or ran last.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Text as it was printed; any amount, the face coalesces.
    Output {
        run: Option<RunId>,
        stream: Stdio,
        text: String,
    },
    /// The cell has printed so much that no more is read of it until `Work::ReadOn`, which says
    /// that all before this is on its way to frontends.
    Paused,
    /// The value of the final expression.
    Result {
        run: RunId,
        data: Object,
        metadata: Object,
    },
    Display {
        run: Option<RunId>,
        id: Option<String>,
        data: Object,
        metadata: Object,
    },
    UpdateDisplay {
        run: Option<RunId>,
        id: String,
        data: Object,
        metadata: Object,
    },
    Clear {
        run: Option<RunId>,
        wait: bool,
    },
    Input {
        request: u64,
        prompt: String,
        password: bool,
    },
    /// What became of one of the run's `expressions`: `{"status": "ok", "data": {..}, "metadata":
    /// {}}` or `{"status": "error", "ename": .., "evalue": .., "traceback": []}`.
    Expression {
        run: RunId,
        name: String,
        value: Value,
    },
    Done {
        run: RunId,
        outcome: Outcome,
    },
    /// What completion and inspection know from now on.
    Names(Arc<Names>),
    /// The version of the user's compiler, for `kernel_info`.
    Toolchain {
        version: String,
    },
    /// Opens a comm towards frontends. For the target `jupyter.widget`, `data` holds
    /// `{"state": {..}, "buffer_paths": []}`; the face keeps the state up to date from `CommMsg`s
    /// and answers frontends that ask for it.
    CommOpen {
        run: Option<RunId>,
        comm_id: String,
        target: String,
        data: Object,
        metadata: Object,
    },
    CommMsg {
        run: Option<RunId>,
        comm_id: String,
        data: Object,
        buffers: Vec<Vec<u8>>,
    },
    CommClose {
        run: Option<RunId>,
        comm_id: String,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// `payload`: Jupyter's, such as `{"source": "page", ..}`; mostly empty.
    Ok { payload: Vec<Value> },
    Error {
        ename: String,
        evalue: String,
        /// Lines for people, with ANSI colours if any.
        traceback: Vec<String>,
    },
}

impl Outcome {
    /// Success with nothing more to say.
    pub fn ok() -> Self {
        Self::Ok { payload: Vec::new() }
    }
}

/// What a cell can mention: a snapshot after each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub variables: Vec<Variable>,
    pub items: Vec<Item>,
    /// Crates that cells may use by name.
    pub crates: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// As the user would write it.
    pub type_text: String,
    pub mutable: bool,
    /// Which cell defined it, for example `In[3]`.
    pub cell: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    /// `fn`, `struct`, `enum`, `trait`, `const`, `static`, `type`, `mod`, `macro`, `use`.
    pub kind: String,
    /// Its text up to the body.
    pub signature: String,
    /// Its doc comment.
    pub docs: String,
    pub cell: String,
}
