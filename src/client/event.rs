//! What can set the client in motion and what it may ask of the outside. Plain data.

use super::command::{ClientEvent, Command, Output};
use prust::EngineId;
use prust::outcome::Failure;
use serde_json::Value;
use serde_json::value::RawValue;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since the client started; never goes back.
    pub(super) at: Duration,
    pub(super) date: SystemTime,
}

/// A message of ours, by the number at the end of its id.
pub(super) type Number = u64;

#[derive(Debug)]
pub(super) enum Event {
    Command(Command),
    /// The controller's list of live engines, with the number of the query.
    EngineList(Number, Vec<(EngineId, String)>),
    Registered {
        id: EngineId,
        uuid: String,
    },
    Unregistered {
        id: EngineId,
        uuid: String,
        cause: Option<String>,
    },
    /// The controller is going away.
    ControllerStops,
    Reply(Box<Reply>),
    /// The answer to a query of the controller or to an engine's control message.
    Answered {
        number: Number,
        msg_type: String,
        content: Value,
        buffers: Vec<Vec<u8>>,
    },
    /// An engine has answered what it is, or has not understood the question.
    EngineSaid {
        number: Number,
        implementation: Option<String>,
    },
    Published {
        number: Number,
        engine: Option<EngineId>,
        what: Published,
    },
    /// The moment of `State::next_deadline` has come.
    Tick,
}

/// The end of a task, as an engine or the scheduler tells it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) number: Number,
    pub(super) uuid: Option<String>,
    pub(super) started: Option<SystemTime>,
    pub(super) completed: Option<SystemTime>,
    pub(super) verdict: Verdict,
    pub(super) execution_count: u64,
    /// The reply's `metadata.prust`.
    pub(super) prust: Value,
    /// Whether the engine says who it is in its error: then its output will end with `idle`.
    pub(super) has_engine_info: bool,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Ok(Vec<u8>),
    Error(Failure),
    Aborted,
}

/// Something an engine published about a task.
#[derive(Debug)]
pub(super) enum Published {
    Busy,
    Idle,
    /// The engine prints no more until it is told to.
    Paused,
    /// The engine's host does not have these libraries.
    Lacks {
        names: Vec<String>,
    },
    Output(Output),
    Data {
        key: String,
        text: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Query,
    Control,
    Mux,
    Task,
}

#[derive(Debug)]
pub(super) enum Effect {
    Send(Outgoing),
    Emit(ClientEvent),
    /// Send an engine libraries, as far as they are on this host.
    Bring {
        to: Arc<str>,
        number: Number,
        names: Vec<String>,
        folder: PathBuf,
    },
    /// A file of large values that nobody needs any more.
    Remove {
        path: String,
    },
    Close,
}

/// A message to be signed and sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) channel: Channel,
    /// The engine's identity on mux and control.
    pub(super) to: Option<Arc<str>>,
    pub(super) number: Number,
    pub(super) msg_type: Arc<str>,
    pub(super) metadata: Arc<RawValue>,
    pub(super) content: Arc<RawValue>,
    pub(super) buffers: Vec<Vec<u8>>,
}

/// JSON that is written once and sent many times.
pub(super) fn raw(value: &Value) -> Arc<RawValue> {
    serde_json::value::to_raw_value(value).expect("a JSON tree is always written").into()
}
