//! What the kernel says to the cluster client and what it hears back: the two closed enums of this
//! room.

use super::summary::Summary;
use crate::cell::namespace::Delta;
use prust::request::TaskMetadata;
use prust::{EngineId, Error, RemoteError, Targets};
use prust_runtime::frame::Status;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

pub use prust::request::{Signal, Stopped};

/// Names one user call for as long as the client lives. Starts at 1.
pub type SubmissionId = u64;

/// From the kernel.
#[derive(Debug)]
pub enum Command {
    /// A request of the local worker under the topic `prust::request::TOPIC`, as it came. Answered
    /// by one [`ClientEvent::Answer`] to `from`; `from` 0 expects none.
    Request {
        from: u64,
        cell: String,
        head: Vec<u8>,
        body: Vec<u8>,
    },
    /// The cell was interrupted: every pending request is answered as interrupted.
    Interrupt,
    /// Runs a compiled cell, one run per engine (`%%px`, or the answer to a `CellRequested`).
    Cell(CellWork),
    /// The cell of a `CellRequested` or `CellStale` cannot be compiled: its tasks fail with this.
    CellFailed {
        submission: SubmissionId,
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
    /// The panel's buttons and their magics.
    Stop {
        submission: SubmissionId,
        running: bool,
    },
    Retry {
        tag: u64,
        submission: SubmissionId,
    },
    Signal {
        targets: Targets,
        signal: Signal,
    },
    /// Answers [`ClientEvent::Paused`].
    ReadOn {
        engine: EngineId,
    },
    /// Answers [`ClientEvent::Lacks`]: these are in `folder`, but for the system's.
    Bring {
        engine: EngineId,
        names: Vec<String>,
        folder: PathBuf,
    },
    /// A query of the controller; answered by [`ClientEvent::Hub`].
    Hub {
        tag: u64,
        msg_type: String,
        content: Value,
    },
    /// An engine's process is known to be gone (the pool's owner saw it end).
    EngineGone {
        uuid: String,
        cause: String,
    },
    Close,
}

/// A cell for engines.
#[derive(Clone, Debug)]
pub struct CellWork {
    /// Comes back in [`ClientEvent::CellSubmitted`].
    pub tag: u64,
    /// The submission of the `CellRequested` or `CellStale` this answers.
    pub submission: Option<SubmissionId>,
    pub runs: Vec<CellRun>,
    pub code: String,
    /// As in Jupyter: no count, no value, and what waits behind it is not aborted by its failure.
    pub silent: bool,
    pub label: Option<String>,
}

/// One engine's run of a cell.
#[derive(Clone, Debug)]
pub struct CellRun {
    pub engine: EngineId,
    /// The content of `metadata.prust`; `Null` for an engine that compiles for itself.
    pub prust: Value,
}

/// A live engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    pub id: EngineId,
    pub uuid: String,
}

/// An engine that is registered and does not take our work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherEngine {
    pub id: EngineId,
    pub uuid: String,
    /// What it says it is, for example `ipython`.
    pub implementation: Option<String>,
}

/// To the kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The controller has answered for the first time.
    Connected,
    /// The engines after a change. `lost`: those that went with this change, and why.
    Engines {
        live: Vec<EngineInfo>,
        lost: Vec<(EngineId, String)>,
    },
    /// Engines of somebody else's cluster that are not ours, or have not said what they are: no
    /// work goes there.
    Others {
        engines: Vec<OtherEngine>,
    },
    /// For `Worker::reply`.
    Answer {
        to: u64,
        status: Status,
        head: Vec<u8>,
        body: Vec<u8>,
    },
    /// A cell called `view.execute(source)`: compile and come back with [`Command::Cell`] or
    /// `CellFailed`.
    CellRequested {
        submission: SubmissionId,
        engines: Vec<EngineId>,
        source: String,
    },
    /// The engine's namespace was another one than the cell was compiled against; nothing ran.
    /// `prust` is the reply's `metadata.prust` with the namespace in full. Come back as for
    /// `CellRequested`.
    CellStale {
        submission: SubmissionId,
        engine: EngineId,
        prust: Value,
    },
    CellSubmitted {
        tag: u64,
        submission: SubmissionId,
    },
    /// `Command::Retry` made a new submission, or could not.
    Retried {
        tag: u64,
        submission: Result<SubmissionId, Error>,
    },
    /// One engine has finished a cell and all its output is here. `prust`: the reply's
    /// `metadata.prust`.
    TaskFinished {
        submission: SubmissionId,
        task: Box<TaskMetadata>,
        prust: Value,
    },
    /// A call (`push`, `scatter`) has made variables on an engine: its namespace has changed by
    /// this.
    Defined {
        engine: EngineId,
        delta: Box<Delta>,
    },
    /// What an engine printed or showed in a cell, live and in order.
    Output {
        submission: SubmissionId,
        engine: EngineId,
        output: Output,
    },
    /// An engine has printed so much in a cell that it waits for [`Command::ReadOn`]: to be given
    /// when what came before this has been handled.
    Paused {
        engine: EngineId,
    },
    /// An engine on another host waits for libraries that its host does not have.
    Lacks {
        engine: EngineId,
        names: Vec<String>,
    },
    /// All tasks of a submission have ended. `failed` holds the first failures, of `n_failed`.
    Finished {
        submission: SubmissionId,
        n_values: u64,
        n_failed: u64,
        failed: Vec<RemoteError>,
    },
    /// Counters of a submission, at most ten times a second, and always the final ones.
    Progress {
        summary: Arc<Summary>,
    },
    /// A cell has waited for this submission for longer than `BLOCKED_AFTER`, or asked for its
    /// panel: show it under the cell now.
    Blocked {
        from: u64,
        submission: SubmissionId,
    },
    /// The reply to [`Command::Hub`].
    Hub {
        tag: u64,
        msg_type: String,
        content: Value,
    },
    /// The client has ended; nothing follows.
    Closed,
}

/// One piece of output of an engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Stream {
        stderr: bool,
        text: String,
    },
    /// `display_data`, `update_display_data` or `clear_output`, with its content.
    Display {
        msg_type: String,
        content: Value,
    },
    /// `execute_result`, with its content.
    Result {
        content: Value,
    },
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
}
