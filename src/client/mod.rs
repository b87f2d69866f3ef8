//! The cluster client inside the kernel process: submits work, follows it, cancels it, answers the
//! cells. One task owns all tables, and six sockets or, where the controller is in the same
//! process, its seat as that one's guest. The kernel speaks to it by [`Command`] and hears
//! [`ClientEvent`]. It compiles nothing and shows nothing.
//!
//! * A request of the local worker (topic `prust::request::TOPIC`) goes in as [`Command::Request`]
//!   and its answer comes out as [`ClientEvent::Answer`], possibly much later. When the cell is
//!   interrupted, send [`Command::Interrupt`].
//! * `%%px`: resolve targets against the latest [`ClientEvent::Engines`]
//!   (`prust::Targets::resolve`), compile, send [`Command::Cell`]. What the engines print comes as
//!   [`ClientEvent::Output`], each engine's end as `TaskFinished`, the end of all as `Finished`.
//! * `view.execute(source)` in a cell comes as [`ClientEvent::CellRequested`]; the kernel compiles
//!   and answers with `Command::Cell` (with that submission) or `Command::CellFailed`. The same for
//!   [`ClientEvent::CellStale`], when an engine's variables were not those compiled against.
//! * Panels read [`ClientEvent::Progress`] alone.
//!
//! Reading order: `command`, `event`, `state`, `submit`, `cells`, `replies`, `waits`, `fetch` and
//! `probe` (what is somebody else's), then `room`. Beside it, for those who submit nothing: `ask`
//! and `report`.

pub mod ask;
mod bring;
mod cells;
mod chunk;
mod command;
mod control;
mod event;
mod fetch;
mod files;
mod keep;
mod messages;
mod metadata;
mod missing;
mod names;
mod probe;
mod progress;
mod query;
mod replies;
pub mod report;
mod requests;
mod room;
mod sockets;
mod state;
mod submission;
mod submit;
pub mod summary;
mod tally;
mod task;
#[cfg(test)]
mod tests;
mod waits;
mod window;

use self::messages::Messages;
use self::sockets::Sockets;
use crate::process::Alarm;
use crate::wire::connection::ClientFile;
use crate::wire::{Context, Guest, SocketError};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use command::{
    CellRun, CellWork, ClientEvent, Command, EngineInfo, OtherEngine, Output, Signal, Stopped,
    SubmissionId,
};
pub use state::Settings;
pub use summary::Summary;

/// Where a controller listens: its connection file's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub query: String,
    pub control: String,
    pub mux: String,
    pub task: String,
    pub notification: String,
    pub iopub: String,
}

impl From<&ClientFile> for Endpoints {
    fn from(file: &ClientFile) -> Self {
        Self {
            query: file.endpoint(file.registration),
            control: file.endpoint(file.control),
            mux: file.endpoint(file.mux),
            task: file.endpoint(file.task),
            notification: file.endpoint(file.notification),
            iopub: file.endpoint(file.iopub),
        }
    }
}

/// A handle to a running client; clones speak to the same one. It ends when the last one is
/// dropped.
#[derive(Clone, Debug)]
pub struct Client {
    commands: UnboundedSender<Command>,
}

impl Client {
    /// Never blocks. A command to a client that has ended is dropped: it has said so by
    /// [`ClientEvent::Closed`].
    pub fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Connects to a controller; returns at once, [`ClientEvent::Connected`] follows. Must be called
/// within a tokio runtime. `key` is the connection file's.
///
/// # Errors
/// A socket could not be opened.
pub fn connect(
    context: &Context,
    key: &str,
    endpoints: &Endpoints,
    settings: Settings,
) -> Result<(Client, UnboundedReceiver<ClientEvent>), SocketError> {
    let sockets = Sockets::open(context, endpoints)?;
    Ok(start(sockets, messages(key), settings))
}

/// As [`connect`], to a controller in this process, as its guest.
pub fn join(
    guest: Guest,
    key: &str,
    settings: Settings,
) -> (Client, UnboundedReceiver<ClientEvent>) {
    start(Sockets::Within(guest), messages(key).trusting(), settings)
}

fn messages(key: &str) -> Messages {
    let session = uuid::Uuid::new_v4().simple().to_string();
    Messages::new(key, session, "prust")
}

fn start(
    sockets: Sockets,
    messages: Messages,
    settings: Settings,
) -> (Client, UnboundedReceiver<ClientEvent>) {
    let (commands, command_receiver) = unbounded_channel();
    let (events, event_receiver) = unbounded_channel();
    let room = room::Room {
        state: state::State::new(messages.prefix().to_owned(), settings),
        messages,
        sockets,
        commands: command_receiver,
        events,
        start: Instant::now(),
        alarm: Alarm::new(),
    };
    tokio::spawn(room.run());
    (Client { commands }, event_receiver)
}
