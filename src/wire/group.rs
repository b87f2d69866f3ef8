//! What a group of sockets does whoever drives it: a thread of its own (`socket`) or the loop that
//! reads them (`own`). Sends, reads in turns, tries again what had to wait. Never waits.
//!
//! `ZMQ_FD` falls silent once its socket was touched, be it by a send. So a socket that was woken
//! or touched is *stirred* until it has said that it has nothing, and nobody sleeps before.
//! (`zmq_poll` asks all sockets, a system call each, several times per message.) That a peer has
//! room again can be swallowed by any call, unseen: while something waits for room it is tried
//! again soon in any case.
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::member::{Lane, Member, Way, n_bytes, open_one};
use super::socket::{Batch, Context, Frames, SocketError};
use super::spec::{Kind, Spec};

/// Messages read from one socket before the next socket has its turn.
const READS_PER_TURN_MAX: usize = 256;
/// Bytes read from one socket before the next socket has its turn.
const READ_BYTES_PER_TURN_MAX: usize = 1 << 20;
/// Every socket is asked this often even if no descriptor woke: a wake-up that libzmq might lose
/// costs a delay, not a hang. What waits for a peer that is gone is tried as often.
pub(super) const SWEEP: Duration = Duration::from_millis(500);

/// How soon what waits for room is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(1);

/// Sockets by their position in the specs.
pub(super) struct Group {
    members: Vec<Member>,
    /// Closed after the sockets, of which it lets the last bytes out.
    _gate: Gate,
}

impl Group {
    /// Opens every socket, and says where: the resolved addresses, per spec, per end.
    pub(super) fn open(
        context: &Context,
        specs: Vec<Spec>,
    ) -> Result<(Self, Vec<Vec<String>>), SocketError> {
        let mut members = Vec::with_capacity(specs.len());
        let mut endpoints = Vec::with_capacity(specs.len());
        let mut gate = Gate::default();
        for spec in specs {
            let (member, resolved) = open_one(context, &mut gate, spec)?;
            members.push(member);
            endpoints.push(resolved);
        }
        gate.open().map_err(|source| SocketError::Thread { source })?;
        Ok((Self { members, _gate: gate }, endpoints))
    }

    /// Has peers of some sockets come by a way of their own.
    pub(super) fn open_way(&mut self, way: &Arc<dyn Way>, is_open_to: fn(&Member) -> bool) {
        for (position, member) in self.members.iter_mut().enumerate() {
            if is_open_to(member)
                && let Ok(lane) = Lane::try_from(position)
            {
                member.ways.open(way, lane);
            }
        }
    }

    /// What came by such a way, behind its peer's name, as its socket would have given it; nothing
    /// if it may not come that way.
    pub(super) fn came(
        &self,
        position: usize,
        mut frames: Frames,
        is_open_to: fn(&Member) -> bool,
    ) -> Option<(usize, Frames)> {
        let member = self.members.get(position).filter(|member| is_open_to(member))?;
        if member.kind != Kind::Router {
            frames.remove(0);
        }
        Some((position, frames))
    }

    /// The descriptor of each socket, or -1, which nobody waits for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.members.iter().map(|member| member.socket.get_fd().unwrap_or(-1))
    }

    /// There may be something to read or to send at this socket.
    pub(super) fn stir(&mut self, position: usize) {
        self.members[position].stirred = true;
    }

    pub(super) fn is_stirred(&self) -> bool {
        self.members.iter().any(|member| member.stirred)
    }

    /// Sends a message, now or as soon as its peer has room.
    pub(super) fn send(&mut self, position: usize, frames: Frames) {
        match self.members.get_mut(position) {
            Some(member) => member.send_or_keep(frames),
            None => debug_assert!(false, "no socket {position} in this group"),
        }
    }

    /// Reads what has arrived at stirred sockets, up to a limit; one that gave less is stirred no
    /// more.
    pub(super) fn receive(&mut self) -> Batch {
        let mut batch = Batch::new();
        for (position, member) in self.members.iter_mut().enumerate() {
            if !member.stirred {
                continue;
            }
            if member.kind == Kind::Pub {
                // Takes in subscriptions, which no read does here; an error shows at the next send.
                let _ = member.socket.get_events();
            }
            let (mut n_read, mut n_read_bytes) = (0, 0);
            let mut is_empty = false;
            while n_read < READS_PER_TURN_MAX && n_read_bytes < READ_BYTES_PER_TURN_MAX {
                let Some(frames) = member.receive() else {
                    is_empty = true;
                    break;
                };
                n_read += 1;
                n_read_bytes += n_bytes(&frames);
                if member.echo {
                    member.send_or_keep(frames);
                } else {
                    batch.push((position, frames));
                }
            }
            member.stirred = !is_empty;
        }
        batch
    }

    /// Whether something waits for a peer to have room, or to be there.
    pub(super) fn is_waiting(&self) -> bool {
        self.members.iter().any(Member::is_waiting)
    }

    /// Sends what had to wait, and says which peers messages did not reach since the last call. To
    /// be called after `receive`, which takes in the news that there is room.
    pub(super) fn retry(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut unreached = Vec::new();
        for (position, member) in self.members.iter_mut().enumerate() {
            member.retry_overflow();
            unreached.extend(member.unreached().into_iter().map(|name| (position, name)));
        }
        unreached
    }
}
