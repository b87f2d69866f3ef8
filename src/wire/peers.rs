//! How much may wait for a peer. libzmq limits the number of messages that wait, not their bytes,
//! and a limit that is lowered later lets peers that read wait for ever: what they read is told
//! only after half of the old number. So libzmq holds few messages for one peer of a ROUTER, and
//! what does not fit waits here, for each peer by itself, its bytes counted: none keeps another
//! waiting. A peer that does not read is cut off: what waits for it is dropped, and so is what
//! comes, until it reads again.
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::member::n_bytes;
use super::socket::Frames;

/// Messages that libzmq may hold for one peer of a ROUTER, beside what waits here. It tells that a
/// peer reads when half of them are gone.
pub(super) const PIPE_MESSAGES_MAX: i32 = 32;
/// Messages of one peer that libzmq may hold until they are read here; its connection then waits.
pub(super) const UNREAD_MESSAGES_MAX: i32 = 1024;
/// What is published is counted in messages of so many bytes.
const PUBLISHED_BYTES: usize = 16 << 10;
/// A peer that has taken nothing for so long does not read.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// A peer that reads, but slowly, may have so many times the limit waiting.
const SLOW_FACTOR: usize = 4;
/// A peer that was cut off and is sent nothing any more is forgotten after this time.
const CUT_OFF_FOR: Duration = Duration::from_secs(600);
/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = 1024;

/// How many published messages libzmq may hold for one subscriber; who is slower misses some.
pub(super) fn published_max(limit: usize) -> i32 {
    i32::try_from(limit / PUBLISHED_BYTES).unwrap_or(i32::MAX).max(1000)
}

/// What became of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// The peer has no room now.
    Full,
    /// There is no such peer.
    Nobody,
}

/// The peers of a ROUTER that have no room.
#[derive(Debug)]
pub(super) struct Peers {
    limit: usize,
    /// How long what is for a peer that is not there waits for it: it may be connecting.
    grace: Duration,
    full: HashMap<Vec<u8>, Peer>,
    unreached: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Peer {
    queue: VecDeque<Frames>,
    n_bytes: usize,
    /// When it took something, or had room, or was tried last after it was cut off.
    last_read: Instant,
    /// Since when it is not there.
    gone: Option<Instant>,
    /// Messages dropped since it was cut off.
    n_missed: Option<u64>,
}

impl Peers {
    pub(super) fn new(limit: usize, grace: Duration) -> Self {
        Self { limit, grace, full: HashMap::new(), unreached: Vec::new() }
    }

    pub(super) fn is_any_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether something waits for a peer to read.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.full.values().any(|peer| !peer.queue.is_empty())
    }

    /// The peers that something did not reach since the last call.
    pub(super) fn unreached(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.unreached)
    }

    /// Sends a message whose first frame names the peer, now or later.
    pub(super) fn send(
        &mut self,
        mut frames: Frames,
        now: Instant,
        attempt: impl Fn(&mut Frames) -> Sent,
    ) {
        let Some(name) = frames.first() else { return };
        if let Some(peer) = self.full.get_mut(name)
            && peer.n_missed.is_none()
        {
            peer.keep(frames);
            if peer.is_stuck(self.limit, now) {
                let name = peer.queue[0][0].clone();
                peer.cut_off(&name);
                self.unreached.push(name);
            }
            return;
        }
        let sent = attempt(&mut frames);
        let name = std::mem::take(&mut frames[0]);
        match (sent, self.full.get_mut(&name)) {
            (Sent::Whole, None) => (),
            (Sent::Whole, Some(_)) => self.reads_again(&name),
            (Sent::Full, Some(peer)) => {
                peer.n_missed = peer.n_missed.map(|n_missed| n_missed + 1);
                peer.last_read = now;
                self.unreached.push(name);
            }
            (Sent::Nobody, _) if self.grace.is_zero() => {
                self.full.remove(&name);
                self.unreached.push(name);
            }
            (Sent::Full | Sent::Nobody, _) => {
                frames[0].clone_from(&name);
                let gone = (sent == Sent::Nobody).then_some(now);
                let queue = VecDeque::new();
                let mut peer = Peer { queue, n_bytes: 0, last_read: now, gone, n_missed: None };
                peer.keep(frames);
                self.full.insert(name, peer);
            }
        }
    }

    /// Sends what waits, as far as there is room; whether anything was sent.
    pub(super) fn retry(&mut self, now: Instant, attempt: impl Fn(&mut Frames) -> Sent) -> bool {
        let mut is_any_sent = false;
        let Self { full, unreached, grace, .. } = self;
        full.retain(|name, peer| {
            while let Some(mut frames) = peer.queue.pop_front() {
                let n_waiting = n_bytes(&frames);
                match attempt(&mut frames) {
                    Sent::Whole => {
                        peer.n_bytes -= n_waiting;
                        is_any_sent = true;
                        (peer.last_read, peer.gone) = (now, None);
                    }
                    Sent::Full => {
                        peer.queue.push_front(frames);
                        return true;
                    }
                    Sent::Nobody => {
                        let gone = *peer.gone.get_or_insert(now);
                        if now.duration_since(gone) < *grace {
                            peer.queue.push_front(frames);
                            return true;
                        }
                        unreached.push(name.clone());
                        return false;
                    }
                }
            }
            peer.n_missed.is_some() && now.duration_since(peer.last_read) < CUT_OFF_FOR
        });
        is_any_sent
    }

    fn reads_again(&mut self, name: &[u8]) {
        let peer = self.full.remove(name);
        if let Some(n_missed) = peer.and_then(|peer| peer.n_missed) {
            let peer = String::from_utf8_lossy(name);
            tracing::warn!(%peer, n_missed, "a peer that was cut off reads again");
        }
    }
}

impl Peer {
    fn keep(&mut self, frames: Frames) {
        self.n_bytes += n_bytes(&frames);
        self.queue.push_back(frames);
    }

    fn is_stuck(&self, limit: usize, now: Instant) -> bool {
        let n_bytes = self.n_bytes + self.queue.len() * MESSAGE_BYTES;
        let is_silent = now.duration_since(self.last_read) > STUCK_AFTER;
        n_bytes > limit.saturating_mul(SLOW_FACTOR) || n_bytes > limit && is_silent
    }

    fn cut_off(&mut self, name: &[u8]) {
        let peer = String::from_utf8_lossy(name);
        let (n_messages, n_bytes) = (self.queue.len(), self.n_bytes);
        tracing::warn!(
            %peer, n_messages, n_bytes,
            "a peer does not read what it is sent: it is cut off, what waited for it is dropped"
        );
        self.queue = VecDeque::new();
        self.n_bytes = 0;
        self.n_missed = Some(n_messages as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn message(name: &str, n_bytes: usize) -> Frames {
        vec![name.as_bytes().to_vec(), vec![0; n_bytes]]
    }

    /// A ROUTER of which some peers have no room, and some are gone.
    #[derive(Default)]
    struct Socket {
        full: Vec<&'static str>,
        gone: Vec<&'static str>,
        sent: RefCell<Vec<String>>,
    }

    impl Socket {
        fn attempt(&self, frames: &mut Frames) -> Sent {
            let name = String::from_utf8(frames[0].clone()).unwrap();
            if self.gone.contains(&name.as_str()) {
                return Sent::Nobody;
            }
            if self.full.contains(&name.as_str()) {
                return Sent::Full;
            }
            self.sent.borrow_mut().push(format!("{name}{}", frames[1].len()));
            Sent::Whole
        }
    }

    #[test]
    fn what_waits_for_one_peer_keeps_no_other_waiting_and_stays_in_order() {
        let (mut peers, mut socket) = (Peers::new(10_000, Duration::ZERO), Socket::default());
        let now = Instant::now();
        socket.full = vec!["a"];
        for (name, n) in [("a", 1), ("b", 2), ("a", 3), ("b", 4)] {
            peers.send(message(name, n), now, |frames| socket.attempt(frames));
        }
        assert_eq!(*socket.sent.borrow(), ["b2", "b4"]);
        socket.full.clear();
        peers.send(message("a", 5), now, |frames| socket.attempt(frames));
        peers.retry(now, |frames| socket.attempt(frames));
        assert_eq!(*socket.sent.borrow(), ["b2", "b4", "a1", "a3", "a5"]);
        assert!(!peers.is_any_full() && peers.unreached().is_empty());
    }

    #[test]
    fn a_peer_that_does_not_read_is_cut_off_and_holds_nothing() {
        let (mut peers, mut socket) = (Peers::new(10_000, Duration::ZERO), Socket::default());
        let (now, later) = (Instant::now(), Instant::now() + STUCK_AFTER * 2);
        socket.full = vec!["a"];
        for _ in 0..9 {
            peers.send(message("a", 1000), now, |frames| socket.attempt(frames));
        }
        assert!(peers.unreached().is_empty(), "it may be slow");
        peers.send(message("a", 1000), later, |frames| socket.attempt(frames));
        assert_eq!(peers.unreached(), [b"a"]);
        assert_eq!(peers.full[b"a".as_slice()].n_bytes, 0);
        peers.send(message("a", 1000), later, |frames| socket.attempt(frames));
        assert_eq!((peers.unreached().len(), peers.full[b"a".as_slice()].n_missed), (1, Some(11)));
        socket.full.clear();
        peers.send(message("a", 7), later, |frames| socket.attempt(frames));
        assert_eq!(*socket.sent.borrow(), ["a7"]);
        assert!(!peers.is_any_full());
    }

    #[test]
    fn even_a_peer_that_reads_has_a_limit_and_who_is_gone_is_told() {
        let (mut peers, mut socket) = (Peers::new(10_000, Duration::ZERO), Socket::default());
        let now = Instant::now();
        socket.full = vec!["a", "b"];
        peers.send(message("a", 30_000), now, |frames| socket.attempt(frames));
        assert!(peers.unreached().is_empty());
        peers.send(message("a", 30_000), now, |frames| socket.attempt(frames));
        assert_eq!(peers.unreached(), [b"a"]);
        peers.send(message("b", 1), now, |frames| socket.attempt(frames));
        socket.gone = vec!["b", "c"];
        peers.retry(now, |frames| socket.attempt(frames));
        peers.send(message("c", 1), now, |frames| socket.attempt(frames));
        assert_eq!(peers.unreached(), [b"b", b"c"]);
    }

    #[test]
    fn what_is_for_a_peer_that_is_connecting_waits_for_a_while() {
        let grace = Duration::from_secs(2);
        let (mut peers, mut socket) = (Peers::new(10_000, grace), Socket::default());
        let now = Instant::now();
        socket.gone = vec!["a", "b"];
        peers.send(message("a", 1), now, |frames| socket.attempt(frames));
        peers.send(message("b", 2), now, |frames| socket.attempt(frames));
        peers.retry(now + grace / 2, |frames| socket.attempt(frames));
        assert!(peers.unreached().is_empty());
        socket.gone = vec!["b"];
        peers.retry(now + grace, |frames| socket.attempt(frames));
        assert_eq!(*socket.sent.borrow(), ["a1"]);
        assert_eq!(peers.unreached(), [b"b"]);
        assert!(!peers.is_any_full());
    }
}
