//! One socket of a group: how it is opened, and how much may wait in it. No peer, however slow or
//! dead, makes it hold more than its limit, or keeps messages for others waiting.
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::curve;
use super::gate::Gate;
use super::peers::{self, PIPE_MESSAGES_MAX, Peers, Sent, UNREAD_MESSAGES_MAX};
use super::socket::{Context, Frames, SocketError};
use super::spec::{End, Kind, Spec};

/// Messages kept for a socket that has no peer yet; the oldest is dropped (and counted) beyond it.
/// A million small messages are some hundred megabytes, more than any submission in flight.
const OVERFLOW_MESSAGES_MAX: usize = 1_000_000;
/// How long the last messages may take to leave once a socket is closed.
const LINGER_MS: i32 = 1000;
/// How long a message waits for a peer that is about to connect, for the first time or again.
const CONNECTING_FOR: Duration = Duration::from_secs(2);
/// Connections that the gate makes before libzmq has taken them in; beyond that they are refused.
const BACKLOG_MAX: i32 = 1024;

/// The number of a socket, for whose messages something else stands in.
pub type Lane = u8;

/// By which peers come without libzmq.
pub(super) trait Way: Send + Sync {
    /// Sends a message whose first frame names the peer; nothing if it does not lead there. What is
    /// behind the name may be taken from a message that was sent.
    fn send(&self, lane: Lane, frames: &mut Frames) -> Option<Sent>;

    /// Sends a message to everybody who has room.
    fn publish(&self, lane: Lane, frames: &[Vec<u8>]);
}

/// The ways to one socket's peers.
#[derive(Default)]
pub(super) struct Ways {
    lane: Lane,
    all: Vec<Arc<dyn Way>>,
}

impl Ways {
    /// Adds one, on which the socket has this number.
    pub(super) fn open(&mut self, way: &Arc<dyn Way>, lane: Lane) {
        self.lane = lane;
        self.all.push(Arc::clone(way));
    }

    fn send(&self, frames: &mut Frames) -> Option<Sent> {
        self.all.iter().find_map(|way| way.send(self.lane, frames))
    }

    fn publish(&self, frames: &[Vec<u8>]) {
        self.all.iter().for_each(|way| way.publish(self.lane, frames));
    }
}

pub(super) struct Member {
    pub(super) socket: zmq::Socket,
    pub(super) kind: Kind,
    pub(super) echo: bool,
    /// Whether peers may come by a link, and whether one may be a guest.
    pub(super) is_linked: bool,
    pub(super) is_host: bool,
    /// By which peers come that do not come by libzmq.
    pub(super) ways: Ways,
    /// There may be something to read or to send.
    pub(super) stirred: bool,
    /// Messages that libzmq would not take yet: a DEALER whose peer has not come.
    overflow: VecDeque<Frames>,
    n_dropped: u64,
    /// The peers of a ROUTER with a limit that do not read as fast as they are written to.
    peers: Option<Peers>,
    /// Who does not read misses what is published.
    is_lossy: bool,
}

impl Member {
    pub(super) fn send_or_keep(&mut self, frames: Frames) {
        if self.peers.is_some() {
            return self.send_to_peer(frames);
        }
        self.stirred = true;
        let Self { socket, ways, .. } = self;
        if self.is_lossy {
            ways.publish(&frames);
            send(socket, &frames);
            return;
        }
        if self.overflow.is_empty() {
            if send(&self.socket, &frames) == Sent::Full {
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

    /// A socket is stirred by what goes through it, not by what goes another way.
    fn send_to_peer(&mut self, frames: Frames) {
        let Self { socket, ways, peers, stirred, .. } = self;
        let is_touched = Cell::new(false);
        if let Some(peers) = peers {
            peers.send(frames, Instant::now(), |frames| {
                ways.send(frames).unwrap_or_else(|| {
                    is_touched.set(true);
                    send(socket, frames)
                })
            });
        }
        *stirred |= is_touched.get();
    }

    /// Sends what had to wait, as far as there is room. Sending stirs the socket.
    pub(super) fn retry_overflow(&mut self) {
        let Self { socket, ways, .. } = self;
        if let Some(peers) = &mut self.peers
            && peers.is_any_full()
        {
            self.stirred |= peers.retry(Instant::now(), |frames| {
                ways.send(frames).unwrap_or_else(|| send(socket, frames))
            });
        }
        while let Some(frames) = self.overflow.pop_front() {
            if send(&self.socket, &frames) == Sent::Full {
                self.overflow.push_front(frames);
                return;
            }
            self.stirred = true;
        }
    }

    /// Whether something waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        !self.overflow.is_empty() || self.peers.as_ref().is_some_and(Peers::is_any_waiting)
    }

    /// Reads one message, if there is one.
    pub(super) fn receive(&mut self) -> Option<Frames> {
        receive(&self.socket)
    }

    /// The peers that messages did not reach since the last call.
    pub(super) fn unreached(&mut self) -> Vec<Vec<u8>> {
        self.peers.as_mut().map_or_else(Vec::new, Peers::unreached)
    }
}

pub(super) fn n_bytes(frames: &Frames) -> usize {
    frames.iter().map(Vec::len).sum()
}

/// Sends one message; leaves it whole when the socket cannot take it now.
fn send(socket: &zmq::Socket, frames: &[Vec<u8>]) -> Sent {
    send_by(frames, |frame, flags| socket.send(frame, flags))
}

/// Sends one message frame by frame. libzmq copies each: a signal may interrupt it (a child has
/// ended, say), and what it has not taken is to be there still.
fn send_by(frames: &[Vec<u8>], mut push: impl FnMut(&[u8], i32) -> Result<(), zmq::Error>) -> Sent {
    for (idx, frame) in frames.iter().enumerate() {
        let more = if idx + 1 < frames.len() { zmq::SNDMORE } else { 0 };
        let result = loop {
            match push(frame, zmq::DONTWAIT | more) {
                Err(zmq::Error::EINTR) => (),
                result => break result,
            }
        };
        // The first frame decides for the whole message.
        match result {
            Ok(()) => (),
            Err(zmq::Error::EAGAIN) if idx == 0 => return Sent::Full,
            Err(zmq::Error::EHOSTUNREACH) if idx == 0 => return Sent::Nobody,
            // Nobody is there to be told, and half a message is never delivered.
            Err(error) => {
                tracing::debug!(%error, "a message was not sent");
                return Sent::Nobody;
            }
        }
    }
    Sent::Whole
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

pub(super) fn open_one(
    context: &Context,
    gate: &mut Gate,
    spec: Spec,
) -> Result<(Member, Vec<String>), SocketError> {
    let first = match spec.ends.first() {
        Some(End::Bind(endpoint) | End::Connect(endpoint)) => curve::address(endpoint).to_owned(),
        None => "a socket without address".to_owned(),
    };
    let socket = configured(context, &spec)
        .map_err(|source| SocketError::Open { endpoint: first, source })?;
    let mut resolved = Vec::with_capacity(spec.ends.len());
    for end in &spec.ends {
        resolved.push(match end {
            End::Bind(endpoint) if needs_gate(&spec, endpoint) => {
                bind_behind(gate, context, &socket, endpoint)?
            }
            end => attach(&socket, end)?,
        });
    }
    // Peers whose identities mean something connect again.
    let grace = spec.taken.map_or(Duration::ZERO, |_| CONNECTING_FOR);
    let member = Member {
        socket,
        stirred: true,
        kind: spec.kind,
        echo: spec.echo,
        is_linked: spec.linked,
        is_host: spec.hosts,
        ways: Ways::default(),
        overflow: VecDeque::new(),
        n_dropped: 0,
        peers: spec.limit.filter(|_| spec.kind == Kind::Router).map(|n| Peers::new(n, grace)),
        is_lossy: spec.limit.is_some() && spec.kind != Kind::Router,
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
    if let Some(limit) = spec.limit {
        socket.set_rcvhwm(UNREAD_MESSAGES_MAX)?;
        socket.set_sndhwm(match spec.kind {
            Kind::Router => PIPE_MESSAGES_MAX,
            _ => peers::published_max(limit),
        })?;
        if spec.kind == Kind::Router {
            // Says who cannot be reached, and who has no room, instead of dropping silently.
            socket.set_router_mandatory(true)?;
        }
    }
    // A subscriber has only subscriptions to send, and would wait for a peer that is gone.
    socket.set_linger(if spec.kind == Kind::Sub { 0 } else { LINGER_MS })?;
    if let Some(identity) = &spec.identity {
        socket.set_identity(identity)?;
    }
    if let Some(key) = &spec.curve {
        key.apply(&socket)?;
    }
    if let Some(dead_after) = spec.taken {
        let millis = i32::try_from(dead_after.as_millis()).unwrap_or(i32::MAX);
        socket.set_heartbeat_ivl((millis / 3).max(1))?;
        socket.set_heartbeat_timeout(millis)?;
    }
    match spec.kind {
        // A peer that comes back with its old identity takes its place again.
        Kind::Router => socket.set_router_handover(true)?,
        // Without this, only the first subscription to a topic is reported, and so welcomed.
        Kind::XPub => socket.set_xpub_verbose(true)?,
        Kind::Sub => socket.set_subscribe(b"")?,
        Kind::Dealer | Kind::Pub => (),
    }
    Ok(socket)
}

/// Whether strangers can connect, who must not take an identity that is another's.
fn needs_gate(spec: &Spec, endpoint: &str) -> bool {
    spec.taken.is_some() && spec.curve.is_none() && endpoint.starts_with("tcp://")
}

/// Has the gate listen at an address, and the socket behind it.
fn bind_behind(
    gate: &mut Gate,
    context: &Context,
    socket: &zmq::Socket,
    endpoint: &str,
) -> Result<String, SocketError> {
    let refused = |source| SocketError::Open { endpoint: endpoint.to_owned(), source };
    let at = address(context, endpoint).map_err(refused)?;
    let (at, path) = gate.listen(at).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => SocketError::InUse { endpoint: endpoint.to_owned() },
        _ => SocketError::Listen { endpoint: endpoint.to_owned(), source },
    })?;
    socket.set_backlog(BACKLOG_MAX).map_err(refused)?;
    socket.bind(&format!("ipc://{}", path.display())).map_err(refused)?;
    Ok(format!("tcp://{at}"))
}

/// What an address means to libzmq, which also knows `*` and the names of interfaces: it is asked
/// where it would listen.
fn address(context: &Context, endpoint: &str) -> Result<SocketAddr, zmq::Error> {
    let (host, port) = endpoint.rsplit_once(':').ok_or(zmq::Error::EINVAL)?;
    let probe = context.socket(zmq::ROUTER)?;
    probe.bind(&format!("{host}:0"))?;
    let resolved = probe.get_last_endpoint()?.unwrap_or_default();
    let resolved = resolved.strip_prefix("tcp://").and_then(|at| at.parse::<SocketAddr>().ok());
    let mut at = resolved.ok_or(zmq::Error::EINVAL)?;
    at.set_port(if port == "*" { 0 } else { port.parse().map_err(|_| zmq::Error::EINVAL)? });
    Ok(at)
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
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_interrupts_libzmq_costs_no_frame() {
        let frames: Frames = ["engine.0.stdout", "{}", "text"].map(|it| it.into()).into();
        let (mut n_calls, mut taken) = (0, Vec::new());
        let sent = send_by(&frames, |frame, flags| {
            n_calls += 1;
            if n_calls % 3 != 0 {
                return Err(zmq::Error::EINTR);
            }
            taken.push((frame.to_vec(), flags & zmq::SNDMORE != 0));
            Ok(())
        });
        assert!(matches!(sent, Sent::Whole));
        let flags = [true, true, false];
        assert_eq!(taken, frames.into_iter().zip(flags).collect::<Vec<_>>());
    }
}
