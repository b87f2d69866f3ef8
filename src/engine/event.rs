//! The closed list of what can set an engine in motion, and of what it may ask the outside for.
//! Plain data: nothing here touches a socket, a process or a clock.
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::Value;

use super::reply::Metadata;
use crate::cell::namespace::{Delta, Namespace};
use crate::cell::plan::trampoline::Way;
use crate::compile::{Found, Trampoline};
use crate::wire::Message;
use crate::worker::{Call, Status, WorkerEvent};

/// The sockets through which requests arrive and by which their replies must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Mux,
    Task,
    Broadcast,
    Control,
}

/// Both clocks at one moment: deadlines follow the first, dates on the wire the second.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub date: SystemTime,
}

#[derive(Debug)]
pub enum Event {
    /// What the controller's registrar said.
    RegistrationReply(Message),
    Request {
        channel: Channel,
        message: Message,
    },
    /// The controller's heartbeat.
    Ping(Vec<u8>),
    Worker(WorkerEvent),
    /// The end of a [`Effect::Compile`].
    Compiled {
        run: u64,
        result: Result<Prepared, Fault>,
    },
    /// The end of a [`Effect::Trampolines`]: one for each that was wanted.
    Trampolines {
        run: u64,
        result: Result<Vec<Trampoline>, Fault>,
    },
    /// The end of a [`Effect::Find`], or of a [`Effect::Keep`] that failed.
    Found {
        run: u64,
        found: Result<Found, Fault>,
    },
    /// The owner is gone or asks us to end; `cause` is for the log and the controller.
    Stop {
        cause: String,
    },
    /// A SIGINT to the engine's process.
    Interrupt,
    /// The moment of [`super::state::Engine::next_deadline`] has come.
    Tick,
}

/// An error in the user's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub ename: String,
    pub evalue: String,
    pub traceback: Vec<String>,
}

/// A compiled cell.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// `None`: nothing to run, the cell only defines items or imports.
    pub library: Option<PathBuf>,
    pub entry: String,
    /// What the worker knows once it has run.
    pub delta: Option<Box<Delta>>,
    /// Rendered for a person; shown as standard error.
    pub warnings: String,
}

/// A function that is to be compiled: for a type, which is that of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub way: Way,
    pub name: String,
    pub type_text: String,
}

#[derive(Debug)]
pub enum Effect {
    /// Announce this engine to the controller.
    Register {
        id: Option<u32>,
    },
    /// Connect the sockets that carry work and heartbeat.
    Join {
        id: u32,
    },
    /// Tell the controller that this engine ends.
    Unregister {
        id: u32,
        cause: String,
    },
    /// Answer a request on the socket it came by.
    Reply(Box<Reply>),
    /// Tell everybody who follows `parent`.
    Publish(Box<Publication>),
    /// Return the controller's heartbeat.
    Pong(Vec<u8>),
    Compile {
        run: u64,
        code: String,
        label: String,
        namespace: Box<Namespace>,
    },
    /// Compile what calls of Python clients need.
    Trampolines {
        run: u64,
        wanted: Vec<Wanted>,
        namespace: Box<Namespace>,
    },
    CancelCompile,
    /// Look for the library of a task, and for those that it needs; the client has none of
    /// `absent`.
    Find {
        run: u64,
        library: PathBuf,
        absent: HashSet<String>,
    },
    /// Libraries that came from a client, by name.
    Keep {
        run: u64,
        files: Vec<(String, Vec<u8>)>,
    },
    Run {
        run: u64,
        library: PathBuf,
        entry: String,
    },
    Call {
        run: u64,
        call: Call,
    },
    /// Take back the calls that the worker has not begun; [`WorkerEvent::Recalled`] follows.
    Recall,
    Interrupt,
    /// All that was printed so far has been published: read on.
    ReadOn,
    /// Start a new worker without variables in the place of the present one.
    ReplaceWorker,
    Answer {
        request: u64,
        status: Status,
        head: Vec<u8>,
        body: Vec<u8>,
    },
    /// End the process, after everything sent has left.
    Exit {
        code: i32,
        cause: String,
    },
}

#[derive(Debug)]
pub struct Reply {
    pub channel: Channel,
    pub ids: Vec<Vec<u8>>,
    pub parent: Arc<[u8]>,
    pub msg_type: String,
    pub metadata: Metadata,
    pub content: Value,
    pub buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub struct Publication {
    pub topic: String,
    pub parent: Arc<[u8]>,
    pub msg_type: &'static str,
    pub content: Value,
    pub buffers: Vec<Vec<u8>>,
}
