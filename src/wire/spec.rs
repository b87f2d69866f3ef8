//! What a socket is to be, before there is one: plain data for [`super::socket::open`].

use std::time::Duration;

use super::curve::ServerKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Router,
    Dealer,
    Pub,
    XPub,
    Sub,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `tcp://127.0.0.1:0` takes a free port.
    Bind(String),
    Connect(String),
}

/// What one socket of a group is.
#[derive(Clone, Debug)]
pub struct Spec {
    pub kind: Kind,
    pub ends: Vec<End>,
    pub identity: Option<Vec<u8>>,
    /// Bytes that may wait for one peer. A subscriber misses what is beyond it; another peer is cut
    /// off (see `peers`). No limit if absent: the protocol above has one of its own.
    pub limit: Option<usize>,
    /// An identity is not to be taken from a peer that is alive, and one that has not answered
    /// ZeroMQ's own heartbeats for so long is dead. Where strangers can connect (over TCP, without
    /// CURVE) a gate sees to it; elsewhere, and if absent, who comes last has the identity.
    pub taken: Option<Duration>,
    /// Makes the socket a server of CURVE: it speaks encrypted alone.
    pub curve: Option<ServerKey>,
    /// Returns every message as it came, in the socket's own thread: a heartbeat.
    pub echo: bool,
    /// Peers of this host may come by a link instead, if the group has links (see `link`).
    pub linked: bool,
    /// So may a peer in this process (see `guest`).
    pub hosts: bool,
}

impl Spec {
    pub fn bind(kind: Kind, endpoint: impl Into<String>) -> Self {
        Self::new(kind, End::Bind(endpoint.into()))
    }

    pub fn connect(kind: Kind, endpoint: impl Into<String>) -> Self {
        Self::new(kind, End::Connect(endpoint.into()))
    }

    fn new(kind: Kind, end: End) -> Self {
        Self {
            kind,
            ends: vec![end],
            identity: None,
            limit: None,
            taken: None,
            curve: None,
            echo: false,
            linked: false,
            hosts: false,
        }
    }

    pub fn identity(mut self, identity: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    pub fn limit(mut self, n_bytes: usize) -> Self {
        self.limit = Some(n_bytes);
        self
    }

    pub fn taken(mut self, dead_after: Duration) -> Self {
        self.taken = Some(dead_after);
        self
    }

    pub fn curve(mut self, key: Option<ServerKey>) -> Self {
        self.curve = key;
        self
    }

    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }
}
