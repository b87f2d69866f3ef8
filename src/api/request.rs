//! What a cell asks the kernel's cluster client, and what it answers: one pair of enums. The head
//! of a request or answer is one of these in [`crate::codec`]; large bytes (payloads, values) are
//! its body.

use crate::items::Lengths;
use crate::mapped::Mapped;
use crate::outcome::Failure;
use crate::targets::Targets;
use crate::{EngineId, Error};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// The topic under which the worker's door carries these.
pub const TOPIC: &str = "client";

/// Values sent back in one answer at most, unless one task's value alone is larger; the rest is
/// asked for again.
pub const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A request with the cluster it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// 0 is the kernel's own cluster; others come from [`Answer::Connected`].
    pub cluster: u32,
    pub request: Request,
}

/// From a cell to the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Makes sure that a cluster is there: the kernel's own, or one by connection file or profile.
    Connect {
        to: Option<String>,
    },
    Engines,
    /// Where large values may be put instead of into a body.
    SharedFolder,
    WaitForEngines {
        n: u64,
        timeout: Option<Duration>,
    },
    /// Body: the bytes that [`Work`] says. Whoever waits for no answer calls the submission `name`
    /// from then on, in the place of its number; also when it is refused, so that whatever is asked
    /// of it is answered by that error.
    Submit {
        name: u64,
        submit: Box<Submit>,
    },
    /// Answered like a `Submit` that is waited for.
    Submitted {
        submission: u64,
    },
    /// Answered when all that was told before has been taken in.
    Heard,
    /// Values of finished tasks, from the `from`th on.
    Results {
        submission: u64,
        from: u64,
        want: Want,
        timeout: Option<Duration>,
    },
    /// Answered when all are finished, or the first one failed, or `timeout` is over.
    Wait {
        submissions: Vec<u64>,
        until: Until,
        timeout: Option<Duration>,
    },
    Status {
        submission: u64,
    },
    /// `settled`: wait until the engines' output has arrived as well.
    Metadata {
        submission: u64,
        settled: bool,
    },
    /// Drops what has not started; `running`: interrupts what runs, too.
    Stop {
        submission: u64,
        running: bool,
    },
    Retry {
        submission: u64,
    },
    /// The last handle is gone: these results go first when memory is short.
    Forget {
        submission: u64,
    },
    /// The cell wants to see the panel now and waits for the end.
    Interactive {
        submission: u64,
    },
    Signal {
        targets: Targets,
        signal: Signal,
    },
    /// Results by message id, of work that an earlier session or another client has submitted;
    /// answered like a `Submit` when the controller knows all of them. `returns`: the type of their
    /// values as it is written.
    Fetch {
        msg_ids: Vec<String>,
        returns: String,
    },
    /// Any query of the controller: message type and JSON content.
    Hub {
        msg_type: String,
        content: String,
    },
}

/// From here on the numbers are names that a cell gives.
pub const NAMES: u64 = 1 << 63;

impl Request {
    /// The submissions that it is about, by number or by name.
    pub fn submissions(&mut self) -> Vec<&mut u64> {
        match self {
            Self::Submit { submit, .. } => {
                let Options { after, follow, .. } = &mut submit.options;
                after.iter_mut().chain(follow).collect()
            }
            Self::Wait { submissions, .. } => submissions.iter_mut().collect(),
            Self::Submitted { submission }
            | Self::Results { submission, .. }
            | Self::Status { submission }
            | Self::Metadata { submission, .. }
            | Self::Stop { submission, .. }
            | Self::Retry { submission }
            | Self::Forget { submission }
            | Self::Interactive { submission } => vec![submission],
            Self::Connect { .. }
            | Self::Engines
            | Self::SharedFolder
            | Self::WaitForEngines { .. }
            | Self::Heard
            | Self::Signal { .. }
            | Self::Fetch { .. }
            | Self::Hub { .. } => Vec::new(),
        }
    }
}

/// What is done to engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    Interrupt,
    Clear,
    Shutdown,
    Restart,
    /// Drops all that has not started.
    Abort,
}

/// How much a request for results waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// At least the next task in order of items.
    Next,
    /// At least the next task that finished.
    NextFinished,
    /// All tasks.
    All,
}

/// What a wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Until {
    Finished,
    /// The first failure, or the end without one.
    FirstError,
    /// The end, and the engines' output has arrived.
    Settled,
}

/// Work to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    pub work: Work,
    pub targets: Targets,
    /// One engine or any (load-balanced), or every engine of `targets`.
    pub balanced: bool,
    pub options: Options,
    /// Where the items are if they are not in the body.
    pub there: Vec<Mapped>,
}

/// What the engines are to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// One call per engine, each with all items (none, but for `push`). Body as for `Map`.
    Apply { call: Call, prefix: u64, lengths: Lengths },
    /// One call per chunk of items. Body: `prefix` bytes of prefix, then the items.
    Map { call: Call, prefix: u64, lengths: Lengths },
    /// A cell from text. No body.
    Execute { source: String },
}

/// A trampoline by place, and what to say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub library: String,
    pub offset: u64,
    /// The function's name, for labels.
    pub name: String,
    /// `apply`, `map`, `push`, `pull`, `scatter`.
    pub method: String,
    /// Variables that the call makes on the engine: name and type.
    pub defines: Vec<(String, String)>,
    /// One value comes back per task, not per item.
    pub per_task: bool,
    /// The type of a value as it is written.
    pub returns: String,
}

/// The flags of a view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub label: Option<String>,
    pub chunksize: Option<u64>,
    pub retries: u32,
    pub timeout: Option<Duration>,
    pub time_limit: Option<Duration>,
    pub after: Vec<u64>,
    pub follow: Vec<u64>,
    pub unordered: bool,
}

/// From the client to a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Connected {
        cluster: u32,
    },
    Engines(Vec<EngineId>),
    /// None where not all engines are on this machine.
    SharedFolder(Option<String>),
    Submitted {
        submission: u64,
        n_tasks: u64,
        n_values: u64,
    },
    /// Body: the values of `tasks`, one after the other. Ask again from `next` until `complete`.
    Results {
        tasks: Vec<TaskResult>,
        next: u64,
        complete: bool,
    },
    /// `false`: the time was over first.
    Waited(bool),
    Status(Status),
    Metadata(Vec<TaskMetadata>),
    Stopped(Stopped),
    /// The controller's reply: its JSON content.
    Hub {
        content: String,
    },
}

/// The end of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    pub first_item: u64,
    /// Values expected of this task.
    pub n: u64,
    pub engine_id: Option<EngineId>,
    pub msg_id: String,
    pub method: String,
    pub end: TaskEnd,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TaskEnd {
    /// `bytes` of the body hold the task's outcomes.
    Value {
        bytes: u64,
    },
    Failed(Failure),
}

/// What is known of a submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub label: String,
    pub n_tasks: u64,
    pub n_values: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub running: u64,
    pub finished: bool,
    /// Time since submission; stops at the last result.
    pub elapsed: Duration,
    /// Sum of the engines' busy time over finished tasks.
    pub serial: Duration,
}

/// Everything recorded of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskMetadata {
    pub msg_id: String,
    pub engine_id: Option<EngineId>,
    pub engine_uuid: Option<String>,
    pub submitted: Option<SystemTime>,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
    pub received: Option<SystemTime>,
    /// `waiting`, `running`, `ok`, `error` or `aborted`.
    pub status: String,
    pub attempts: u32,
    pub stdout: String,
    pub stderr: String,
    /// What the task displayed: MIME bundles as JSON.
    pub outputs: Vec<String>,
    pub error: Option<Failure>,
    pub label: Option<String>,
    pub after: Vec<String>,
    pub follow: Vec<String>,
    /// Published values by key: MIME-free JSON or text.
    pub data: std::collections::BTreeMap<String, String>,
    /// Items of a map in this task.
    pub items: u64,
}

/// What a stop did, in tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Had not started and will not.
    pub aborted: u64,
    /// Ran and was interrupted.
    pub interrupted: u64,
    /// Ran and was left running.
    pub left_running: u64,
    /// Had ended before.
    pub finished: u64,
}

/// Why a request was refused; the head of an error answer.
pub type Fault = Error;
