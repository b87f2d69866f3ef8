//! A group of sockets owned by a thread of its own, which hands what arrives to a channel and sends
//! what it is given: for those who send from several places, and for what has to be answered while
//! its reader is busy. Never reads a message, never blocks its callers. A loop that does all the
//! reading and sending itself has its sockets without a thread between (see `own`).
//!
//! The thread polls the sockets' descriptors and an eventfd, which a burst writes once.
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};

pub use zmq::Context;
use zmq::PollItem;

use super::group::{AGAIN, Group, SWEEP};
pub use super::spec::{End, Kind, Spec};

/// One message as its frames.
pub type Frames = Vec<Vec<u8>>;
/// Messages with the position of their socket in the group.
pub type Batch = Vec<(usize, Frames)>;

/// Messages sent between two looks at what arrived, so that a long queue does not starve reading.
const SENDS_PER_TURN_MAX: usize = 1024;
/// Batches that wait for their reader. No more is read then: peers wait, their connections full.
const BATCHES_MAX: usize = 16;

/// Why a group could not be opened.
#[derive(Debug)]
pub enum SocketError {
    /// The address belongs to somebody else: a second start on one connection file.
    InUse {
        endpoint: String,
    },
    Open {
        endpoint: String,
        source: zmq::Error,
    },
    Listen {
        endpoint: String,
        source: std::io::Error,
    },
    Thread {
        source: std::io::Error,
    },
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { endpoint } => {
                write!(f, "open {endpoint}: the address is in use by another process")
            }
            Self::Open { endpoint, source } => write!(f, "open {endpoint}: {source}"),
            Self::Listen { endpoint, source } => write!(f, "open {endpoint}: {source}"),
            Self::Thread { source } => write!(f, "start the thread of a socket group: {source}"),
        }
    }
}

impl std::error::Error for SocketError {}

/// An opened group.
#[derive(Debug)]
pub struct Opened {
    pub sockets: Sockets,
    pub incoming: Receiver<Batch>,
    /// Sockets with a limit: the peers that a message did not reach, because they are gone or do
    /// not read. Unbounded: each entry stands for a message that was dropped.
    pub unreached: UnboundedReceiver<(usize, Vec<u8>)>,
    /// The resolved addresses, per spec, per end.
    pub endpoints: Vec<Vec<String>>,
}

/// The handle of a group. The last one dropped closes it.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: File,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<(usize, Frames)>,
    closing: bool,
}

/// Opens every socket of `specs` and starts the thread that owns them. `name` is the thread's name.
///
/// # Errors
/// `InUse` when an address to bind belongs to another process, `Open` for every other refusal of
/// libzmq, `Thread` when the operating system has no thread or descriptor left.
pub fn open(context: &Context, name: &str, specs: Vec<Spec>) -> Result<Opened, SocketError> {
    let (group, endpoints) = Group::open(context, specs)?;
    let wake = crate::process::event_fd().map_err(|source| SocketError::Thread { source })?;
    let shared = Arc::new(Shared { queue: Mutex::default(), wake });
    let (sender, incoming) = channel(BATCHES_MAX);
    let (unreached_sender, unreached) = unbounded_channel();
    let shared_with_owner = Arc::clone(&shared);
    let owner = Owner { group, shared: shared_with_owner, sender, unreached_sender, unread: None };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || owner.run())
        .map_err(|source| SocketError::Thread { source })?;
    let handle = Handle { shared, thread: Mutex::new(Some(thread)) };
    Ok(Opened { sockets: Sockets(Arc::new(handle)), incoming, unreached, endpoints })
}

/// The port of a `tcp://host:port` address.
pub fn port_of(endpoint: &str) -> Option<u16> {
    endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

impl Sockets {
    /// Queues one message; never blocks. A message for a closed group is dropped.
    pub fn send(&self, socket: usize, frames: Frames) {
        self.push(|messages| messages.push_back((socket, frames)));
    }

    /// Queues many messages under one lock and one wake-up.
    pub fn send_batch(&self, batch: Batch) {
        if !batch.is_empty() {
            self.push(|messages| messages.extend(batch));
        }
    }

    /// Sends what is queued, closes the sockets and waits for the thread. The last messages may
    /// still be on their way: dropping the `Context` waits for them, up to a second.
    pub fn close(&self) {
        self.0.shared.close();
        let thread = self.0.thread.lock().unwrap_or_else(|poison| poison.into_inner()).take();
        if let Some(thread) = thread {
            // A panic of the thread has been reported by its hook; there is nothing left to close.
            let _ = thread.join();
        }
    }

    fn push(&self, add: impl FnOnce(&mut VecDeque<(usize, Frames)>)) {
        let shared = &self.0.shared;
        let mut queue = shared.lock();
        if queue.closing {
            return;
        }
        let was_empty = queue.messages.is_empty();
        add(&mut queue.messages);
        drop(queue);
        if was_empty {
            shared.wake();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is valid after any panic: pushes and swaps leave no half-made state.
        self.queue.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn wake(&self) {
        // A full counter (2^64 - 1) is the only failure, and then the thread is awake anyway.
        let _ = (&self.wake).write(&1u64.to_ne_bytes());
    }

    fn close(&self) {
        self.lock().closing = true;
        self.wake();
    }
}

struct Owner {
    group: Group,
    shared: Arc<Shared>,
    sender: Sender<Batch>,
    unreached_sender: UnboundedSender<(usize, Vec<u8>)>,
    /// Read, but its reader has no room for it.
    unread: Option<Batch>,
}

impl Owner {
    fn run(mut self) {
        let mut backlog = VecDeque::new();
        loop {
            let busy = !backlog.is_empty() || self.unread.is_none() && self.group.is_stirred();
            if !self.wait(busy) {
                return;
            }
            let closing = self.take_queue(&mut backlog);
            self.send_some(&mut backlog, closing);
            if self.hand_over() {
                self.unread = Some(self.group.receive()).filter(|batch| !batch.is_empty());
                self.hand_over();
            }
            for unreached in self.group.retry() {
                // Who does not care has dropped the receiver.
                let _ = self.unreached_sender.send(unreached);
            }
            if closing && backlog.is_empty() {
                return;
            }
        }
    }

    /// Waits for something to do, or only looks when `busy`. False when the context has ended.
    fn wait(&mut self, busy: bool) -> bool {
        let mut items = vec![PollItem::from_fd(self.shared.wake.as_raw_fd(), zmq::POLLIN)];
        items.extend(self.group.descriptors().map(|fd| PollItem::from_fd(fd, zmq::POLLIN)));
        let timeout = match &self.unread {
            _ if busy => Duration::ZERO,
            None if !self.group.is_waiting() => SWEEP,
            _ => AGAIN,
        };
        let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let ready = loop {
            match zmq::poll(&mut items, timeout) {
                Ok(n_ready) => break n_ready,
                Err(zmq::Error::EINTR) => (),
                Err(_) => return false,
            }
        };
        let sweep = ready == 0 && !busy;
        for (position, item) in items[1..].iter().enumerate() {
            if sweep || item.is_readable() {
                self.group.stir(position);
            }
        }
        true
    }

    /// Takes everything queued; true when the group is to be closed.
    fn take_queue(&self, backlog: &mut VecDeque<(usize, Frames)>) -> bool {
        let mut count = [0; 8];
        // An empty counter is an error that says so; the queue is looked at in any case.
        let _ = (&self.shared.wake).read(&mut count);
        let mut queue = self.shared.lock();
        if backlog.is_empty() {
            std::mem::swap(backlog, &mut queue.messages);
        } else {
            backlog.append(&mut queue.messages);
        }
        queue.closing
    }

    fn send_some(&mut self, backlog: &mut VecDeque<(usize, Frames)>, closing: bool) {
        let n_sends = if closing { backlog.len() } else { backlog.len().min(SENDS_PER_TURN_MAX) };
        for (position, frames) in backlog.drain(..n_sends) {
            self.group.send(position, frames);
        }
    }

    /// Gives what was read to its reader. False if there is no room for it yet.
    fn hand_over(&mut self) -> bool {
        let Some(batch) = self.unread.take() else { return true };
        match self.sender.try_send(batch) {
            Err(TrySendError::Full(batch)) => self.unread = Some(batch),
            // A receiver that is gone wants nothing any more; sending goes on until the close.
            Ok(()) | Err(TrySendError::Closed(_)) => (),
        }
        self.unread.is_none()
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
