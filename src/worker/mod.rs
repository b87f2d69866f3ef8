//! The host's side of a worker: start it, send it work, read its output as it comes, interrupt it,
//! and wake its snapshot when it dies. Used alike by the kernel (local worker) and by an engine.
//! Never runs user code in this process, never compiles.
//!
//! The room's loop is [`actor`]: one task owns the worker's socket, its pipes and its snapshot. A
//! run ends exactly once, with [`WorkerEvent::Done`]; all output of a run is delivered before that.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

mod actor;
mod death;
mod forms;
mod life;
mod output;
mod question;
mod utf8;
mod watch;

use question::Question;

pub use death::{names, size};
pub use question::Surroundings;
pub use utf8::Utf8;

pub use prust_runtime::frame::{DisplayKind, Failure, Status};

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The worker executable that the user's rustc built.
    pub exe: PathBuf,
    /// The directory its cells see as current.
    pub cwd: PathBuf,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Above this resident size, in bytes, no snapshot is taken.
    pub snapshot_bytes_max: u64,
    /// So many bytes are told of what is printed without a [`Worker::read_on`].
    pub ahead_bytes_max: usize,
}

/// [`Config::ahead_bytes_max`] of a worker whose owner shows what it prints by itself.
pub const AHEAD_BYTES_MAX: usize = 4 << 20;

/// Which of the worker's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Std {
    Out,
    Err,
}

/// A function call: a trampoline by library and offset, and its encoded arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub library: PathBuf,
    pub offset: u64,
    pub payload: Vec<u8>,
    /// The call changes variables (`push`): the next call gets a fresh snapshot.
    pub mutates: bool,
}

/// How a run or call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `value`: a call's encoded result; empty for a leaf.
    Ok { value: Vec<u8> },
    /// A panic or a `?` error. `restored`: a variable was lost in unwinding, so the snapshot took
    /// over. `lost`: variables that are gone, because there was no snapshot.
    Error { failure: Failure, restored: bool, lost: Vec<String>, threads_lost: Vec<String> },
    /// The process died of `why`. `cause` in a word ("SIGSEGV", "exit code 3").
    Crashed { cause: String, why: Failure, restored: bool, threads_lost: Vec<String> },
    /// Ended on request. `restored` is false when the cell unwound by itself and needed no
    /// snapshot. (Killed without a snapshot to wake, it is `Crashed`.)
    Interrupted { restored: bool, threads_lost: Vec<String> },
}

/// What a worker's host hears.
#[derive(Debug)]
pub enum WorkerEvent {
    /// Connected and waiting for work; also after a restart.
    Ready {
        pid: u32,
    },
    Output {
        stream: Std,
        text: String,
    },
    Display {
        kind: DisplayKind,
        id: String,
        data: Vec<(String, String)>,
    },
    /// So much was printed and shown that no more is read until [`Worker::read_on`]: to be called
    /// once all events before this one are on their way to whoever looks at them.
    Paused,
    /// A cell asks; answer with [`Worker::reply`]. `request` 0 expects no answer.
    Request {
        request: u64,
        topic: String,
        head: Vec<u8>,
        body: Vec<u8>,
    },
    Done {
        run: u64,
        outcome: Outcome,
    },
    /// Calls that were taken back, or that a worker had not begun when it died: they do not run.
    Recalled {
        runs: Vec<u64>,
    },
    /// Died between runs. `restored` false: all variables are gone.
    Died {
        cause: String,
        restored: bool,
        threads_lost: Vec<String>,
    },
    /// The executable cannot be started; no further event follows.
    Failed {
        why: String,
    },
    /// No snapshot was taken for the run now starting, because the worker is larger than the limit.
    Unprotected {
        resident_bytes: u64,
    },
    /// An interrupt was asked for while there is no snapshot: the next one ends the process, and
    /// all variables with it.
    InterruptCosts,
    /// [`Worker::undo`] found nothing to go back to; all is as it was.
    NoSnapshot,
    /// What runs has done nothing for a while, and threads that it may wait for are lost.
    Stuck {
        threads_lost: Vec<String>,
    },
    /// The answer to [`Worker::surroundings`].
    Surroundings(Surroundings),
    /// The answer to [`Worker::measure`].
    Measured {
        costs: Costs,
    },
}

/// What a snapshot of a worker costs, measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    pub resident_bytes: u64,
    /// Above this size none is taken of itself.
    pub bytes_max: u64,
    pub fork_micros: u64,
    /// The first write to each page after it.
    pub write_micros_per_gibibyte: u64,
}

/// When cells get a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshots {
    /// Below [`Config::snapshot_bytes_max`].
    #[default]
    Sized,
    Always,
    Never,
}

/// Cells get no snapshot of themselves above this resident size, or above a quarter of the memory:
/// the first write to each page after a fork costs about a second per gigabyte.
pub fn snapshot_bytes_max() -> u64 {
    const BYTES_MAX: u64 = 2 << 30;
    BYTES_MAX.min(crate::process::memory_bytes() / 4)
}

enum Command {
    Run { run: u64, library: PathBuf, entry: String, first: bool },
    Call { run: u64, call: Call },
    Reply { request: u64, status: Status, head: Vec<u8>, body: Vec<u8> },
    Load { library: PathBuf },
    Snapshots { when: Snapshots },
    Ask(Question),
    Recall,
    ReadOn,
    Interrupt,
    Undo,
    Restart,
    Stop,
}

/// A handle to one worker; clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Worker {
    commands: UnboundedSender<Command>,
}

/// Starts a worker. Returns at once; [`WorkerEvent::Ready`] follows.
///
/// # Errors
/// When the directory for its socket or its pipes cannot be made.
pub fn start(config: Config) -> std::io::Result<(Worker, UnboundedReceiver<WorkerEvent>)> {
    let (commands, receiver) = unbounded_channel();
    let (events, event_receiver) = unbounded_channel();
    let actor = actor::Actor::new(config, events)?;
    tokio::spawn(actor.run(receiver));
    Ok((Worker { commands }, event_receiver))
}

impl Worker {
    fn command(&self, command: Command) {
        // A stopped worker has said so by its last event.
        let _ = self.commands.send(command);
    }

    /// Runs a leaf, with a snapshot before it.
    pub fn run(&self, run: u64, library: &Path, entry: &str) {
        let (library, entry) = (library.into(), entry.into());
        self.command(Command::Run { run, library, entry, first: true });
    }

    /// Runs a leaf as a further part of what the run before has begun: the snapshot of that one
    /// stays.
    pub fn run_on(&self, run: u64, library: &Path, entry: &str) {
        let (library, entry) = (library.into(), entry.into());
        self.command(Command::Run { run, library, entry, first: false });
    }

    /// Runs a call. Calls queue in order behind what runs.
    pub fn call(&self, run: u64, call: Call) {
        self.command(Command::Call { run, call });
    }

    /// Takes back the calls that have not begun; [`WorkerEvent::Recalled`] follows.
    pub fn recall(&self) {
        self.command(Command::Recall);
    }

    /// Answers [`WorkerEvent::Request`]. An answer to a worker that died meanwhile is dropped.
    pub fn reply(&self, request: u64, status: Status, head: Vec<u8>, body: Vec<u8>) {
        self.command(Command::Reply { request, status, head, body });
    }

    /// Loads a library ahead of its use.
    pub fn load(&self, library: &Path) {
        self.command(Command::Load { library: library.into() });
    }

    /// Ends what runs: as an error at the request it waits on, else by waking the snapshot. Without
    /// one the first call only warns ([`WorkerEvent::InterruptCosts`]).
    pub fn interrupt(&self) {
        self.command(Command::Interrupt);
    }

    /// Answers [`WorkerEvent::Paused`].
    pub fn read_on(&self) {
        self.command(Command::ReadOn);
    }

    /// Goes back to the state before the last cell: [`WorkerEvent::Died`] with `restored` says it
    /// worked.
    pub fn undo(&self) {
        self.command(Command::Undo);
    }

    /// Starts over with no variables; [`WorkerEvent::Ready`] follows.
    pub fn restart(&self) {
        self.command(Command::Restart);
    }

    /// Which cells get snapshots.
    pub fn set_snapshots(&self, when: Snapshots) {
        self.command(Command::Snapshots { when });
    }

    /// Measures what a snapshot costs now; [`WorkerEvent::Measured`] follows when nothing runs.
    pub fn measure(&self) {
        self.command(Command::Ask(Question::Costs));
    }

    /// Asks for the working folder and the environment of the cells;
    /// [`WorkerEvent::Surroundings`] follows when nothing runs.
    pub fn surroundings(&self) {
        self.command(Command::Ask(Question::Surroundings));
    }

    /// Ends the worker and its snapshot.
    pub fn stop(&self) {
        self.command(Command::Stop);
    }
}
