//! The one door of the zmq crate: a group of sockets owned by one thread, which hands what arrives
//! to a channel and sends what it is given. Never reads a message, never blocks its callers.
//!
//! `ZMQ_FD` falls silent once its socket was touched, be it by a send: the thread polls the
//! descriptors and sleeps only when every socket woken or touched has said that it has nothing.
//! (`zmq_poll` asks all sockets, a system call each, several times per message.) A burst writes the
//! eventfd once.
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use zmq::Context;
use zmq::PollItem;

use super::curve;
pub use super::spec::{End, Kind, Spec};

/// One message as its frames.
pub type Frames = Vec<Vec<u8>>;
/// Messages with the position of their socket in the group.
pub type Batch = Vec<(usize, Frames)>;

/// Messages sent between two looks at what arrived, so that a long queue does not starve reading.
const SENDS_PER_TURN_MAX: usize = 1024;
/// Messages read from one socket before the next socket has its turn.
const READS_PER_TURN_MAX: usize = 256;
/// Messages kept for a socket that has no peer yet; the oldest is dropped (and counted) beyond it.
/// A million small messages are some hundred megabytes, more than any submission in flight.
const OVERFLOW_MESSAGES_MAX: usize = 1_000_000;
/// Frames up to this size are copied into libzmq's own small messages; larger ones are handed over.
const COPIED_BYTES_MAX: usize = 1024;
/// How long the last messages may take to leave once a socket is closed.
const LINGER_MS: i32 = 1000;

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
            Self::Thread { source } => write!(f, "start the thread of a socket group: {source}"),
        }
    }
}

impl std::error::Error for SocketError {}

/// An opened group.
#[derive(Debug)]
pub struct Opened {
    pub sockets: Sockets,
    /// Unbounded because the thread must never wait for a reader; what may be in flight is limited
    /// by the protocols above (queues per engine, one running cell).
    pub incoming: UnboundedReceiver<Batch>,
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
    let mut members = Vec::with_capacity(specs.len());
    let mut endpoints = Vec::with_capacity(specs.len());
    for spec in specs {
        let (member, resolved) = open_one(context, spec)?;
        members.push(member);
        endpoints.push(resolved);
    }
    let wake = crate::process::event_fd().map_err(|source| SocketError::Thread { source })?;
    let shared = Arc::new(Shared { queue: Mutex::default(), wake });
    let (sender, incoming) = unbounded_channel();
    let owner = Owner { members, shared: Arc::clone(&shared), sender };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || owner.run())
        .map_err(|source| SocketError::Thread { source })?;
    let handle = Handle { shared, thread: Mutex::new(Some(thread)) };
    Ok(Opened { sockets: Sockets(Arc::new(handle)), incoming, endpoints })
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
    /// still be on their way: dropping the `Context` waits for them, up to `LINGER_MS`.
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

/// Every socket is asked this often even if no descriptor woke: a wake-up that libzmq might lose
/// costs a delay, not a hang.
const SWEEP_MILLIS: i64 = 500;

struct Member {
    socket: zmq::Socket,
    kind: Kind,
    echo: bool,
    /// Messages that libzmq would not take yet: a DEALER whose peer has not come.
    overflow: VecDeque<Frames>,
    n_dropped: u64,
    stirred: bool,
}

struct Owner {
    members: Vec<Member>,
    shared: Arc<Shared>,
    sender: UnboundedSender<Batch>,
}

impl Owner {
    fn run(mut self) {
        let mut backlog = VecDeque::new();
        loop {
            let busy = !backlog.is_empty() || self.members.iter().any(|member| member.stirred);
            if !self.wait(busy) {
                return;
            }
            let closing = self.take_queue(&mut backlog);
            self.send_some(&mut backlog, closing);
            self.receive_some();
            if closing && backlog.is_empty() {
                return;
            }
        }
    }

    /// Waits for something to do, or only looks when `busy`. False when the context has ended.
    fn wait(&mut self, busy: bool) -> bool {
        let mut items = Vec::with_capacity(self.members.len() + 1);
        items.push(PollItem::from_fd(self.shared.wake.as_raw_fd(), zmq::POLLIN));
        for member in &self.members {
            items.push(PollItem::from_fd(member.socket.get_fd().unwrap_or(-1), zmq::POLLIN));
        }
        let timeout = if busy { 0 } else { SWEEP_MILLIS };
        let ready = loop {
            match zmq::poll(&mut items, timeout) {
                Ok(n_ready) => break n_ready,
                Err(zmq::Error::EINTR) => (),
                Err(_) => return false,
            }
        };
        let sweep = ready == 0 && !busy;
        for (member, item) in self.members.iter_mut().zip(&items[1..]) {
            member.stirred |= sweep || item.is_readable();
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
            match self.members.get_mut(position) {
                Some(member) => member.send_or_keep(frames),
                None => debug_assert!(false, "no socket {position} in this group"),
            }
        }
    }

    /// Reads what has arrived at marked sockets, up to the budget; one that gave less loses its
    /// mark.
    fn receive_some(&mut self) {
        let mut batch = Batch::new();
        for (position, member) in self.members.iter_mut().enumerate() {
            if !member.stirred {
                continue;
            }
            if member.kind == Kind::Pub {
                // Takes in subscriptions, which no read does here; an error shows at the next send.
                let _ = member.socket.get_events();
            }
            let mut n_read = 0;
            while n_read < READS_PER_TURN_MAX
                && let Some(frames) = receive(&member.socket)
            {
                n_read += 1;
                if member.echo {
                    member.send_or_keep(frames);
                } else {
                    batch.push((position, frames));
                }
            }
            member.retry_overflow();
            member.stirred = n_read == READS_PER_TURN_MAX;
        }
        if !batch.is_empty() {
            // A receiver that is gone wants nothing any more; sending goes on until the close.
            let _ = self.sender.send(batch);
        }
    }
}

impl Member {
    fn send_or_keep(&mut self, frames: Frames) {
        self.stirred = true;
        if self.overflow.is_empty() {
            if let Some(frames) = send(&self.socket, frames) {
                self.overflow.push_back(frames);
            }
            return;
        }
        if self.overflow.len() >= OVERFLOW_MESSAGES_MAX {
            self.overflow.pop_front();
            self.n_dropped += 1;
            if self.n_dropped.is_power_of_two() {
                tracing::warn!(n_dropped = self.n_dropped, "messages without a peer were dropped");
            }
        }
        self.overflow.push_back(frames);
    }

    fn retry_overflow(&mut self) {
        while let Some(frames) = self.overflow.pop_front() {
            if let Some(frames) = send(&self.socket, frames) {
                self.overflow.push_front(frames);
                return;
            }
        }
    }
}

/// Sends one message; gives it back when the socket cannot take it now.
fn send(socket: &zmq::Socket, mut frames: Frames) -> Option<Frames> {
    let n_frames = frames.len();
    for idx in 0..n_frames {
        let flags = if idx + 1 < n_frames { zmq::DONTWAIT | zmq::SNDMORE } else { zmq::DONTWAIT };
        // The first frame decides for the whole message; it is copied so that it can be kept.
        let frame = &mut frames[idx];
        let result = if idx == 0 || frame.len() <= COPIED_BYTES_MAX {
            socket.send(frame.as_slice(), flags)
        } else {
            socket.send(std::mem::take(frame), flags)
        };
        match result {
            Ok(()) => (),
            Err(zmq::Error::EAGAIN) if idx == 0 => return Some(frames),
            // Nobody is there to be told, and half a message is never delivered.
            Err(error) => {
                tracing::debug!(%error, "a message was not sent");
                return None;
            }
        }
    }
    None
}

fn receive(socket: &zmq::Socket) -> Option<Frames> {
    let mut frames = Frames::with_capacity(8);
    let mut message = zmq::Message::new();
    loop {
        match socket.recv(&mut message, zmq::DONTWAIT) {
            Ok(()) => frames.push(message.to_vec()),
            Err(zmq::Error::EINTR) => continue,
            Err(_) => return None,
        }
        if !message.get_more() {
            return Some(frames);
        }
    }
}

fn open_one(context: &Context, spec: Spec) -> Result<(Member, Vec<String>), SocketError> {
    let first = match spec.ends.first() {
        Some(End::Bind(endpoint) | End::Connect(endpoint)) => curve::address(endpoint).to_owned(),
        None => "a socket without address".to_owned(),
    };
    let socket = configured(context, &spec)
        .map_err(|source| SocketError::Open { endpoint: first, source })?;
    let mut resolved = Vec::with_capacity(spec.ends.len());
    for end in &spec.ends {
        resolved.push(attach(&socket, end)?);
    }
    let member = Member {
        socket,
        stirred: true,
        kind: spec.kind,
        echo: spec.echo,
        overflow: VecDeque::new(),
        n_dropped: 0,
    };
    Ok((member, resolved))
}

fn configured(context: &Context, spec: &Spec) -> Result<zmq::Socket, zmq::Error> {
    let socket = context.socket(match spec.kind {
        Kind::Router => zmq::ROUTER,
        Kind::Dealer => zmq::DEALER,
        Kind::Pub => zmq::PUB,
        Kind::XPub => zmq::XPUB,
        Kind::Sub => zmq::SUB,
    })?;
    // Limits of our own (and of the protocols above) replace those of libzmq, which drop silently.
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    // A subscriber has only subscriptions to send, and would wait for a peer that is gone.
    socket.set_linger(if spec.kind == Kind::Sub { 0 } else { LINGER_MS })?;
    if let Some(identity) = &spec.identity {
        socket.set_identity(identity)?;
    }
    if let Some(key) = &spec.curve {
        key.apply(&socket)?;
    }
    match spec.kind {
        // A client that comes back with its old identity takes its place again.
        Kind::Router => socket.set_router_handover(true)?,
        // Without this, only the first subscription to a topic is reported, and so welcomed.
        Kind::XPub => socket.set_xpub_verbose(true)?,
        Kind::Sub => socket.set_subscribe(b"")?,
        Kind::Dealer | Kind::Pub => (),
    }
    Ok(socket)
}

fn attach(socket: &zmq::Socket, end: &End) -> Result<String, SocketError> {
    match end {
        End::Connect(endpoint) => match curve::connect(socket, endpoint) {
            Ok(()) => Ok(endpoint.clone()),
            Err(source) => {
                Err(SocketError::Open { endpoint: curve::address(endpoint).to_owned(), source })
            }
        },
        End::Bind(endpoint) => {
            let in_use = || SocketError::InUse { endpoint: endpoint.clone() };
            // libzmq takes over the file of another process's ipc socket without a word.
            if let Some(path) = endpoint.strip_prefix("ipc://")
                && UnixStream::connect(path).is_ok()
            {
                return Err(in_use());
            }
            match socket.bind(endpoint) {
                Ok(()) => (),
                Err(zmq::Error::EADDRINUSE) => return Err(in_use()),
                Err(source) => {
                    return Err(SocketError::Open { endpoint: endpoint.clone(), source });
                }
            }
            match socket.get_last_endpoint() {
                Ok(Ok(resolved)) if !resolved.is_empty() => Ok(resolved),
                _ => Ok(endpoint.clone()),
            }
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
