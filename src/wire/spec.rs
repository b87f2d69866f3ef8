//! What a socket is to be, before there is one: plain data for [`super::socket::open`].

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
    /// Makes the socket a server of CURVE: it speaks encrypted alone.
    pub curve: Option<ServerKey>,
    /// Returns every message as it came, in the socket's own thread: a heartbeat.
    pub echo: bool,
}

impl Spec {
    pub fn bind(kind: Kind, endpoint: impl Into<String>) -> Self {
        Self {
            kind,
            ends: vec![End::Bind(endpoint.into())],
            identity: None,
            curve: None,
            echo: false,
        }
    }

    pub fn connect(kind: Kind, endpoint: impl Into<String>) -> Self {
        Self {
            kind,
            ends: vec![End::Connect(endpoint.into())],
            identity: None,
            curve: None,
            echo: false,
        }
    }

    pub fn identity(mut self, identity: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(identity.into());
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

    /// One more address of the same socket.
    pub fn and(mut self, end: End) -> Self {
        self.ends.push(end);
        self
    }
}
