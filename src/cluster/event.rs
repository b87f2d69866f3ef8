//! What goes into a cluster and what comes out: events, effects, and the channels of the protocol.

use serde_json::Value;

use crate::keep::KeptEngine;
use crate::message::{Frames, Head, Message};
use crate::row::Row;
use crate::{EngineId, Key};

/// One socket of the controller, by who is at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// ROUTER for engines and clients: registration and queries.
    Registration,
    /// XPUB to clients: engines come and go.
    Notification,
    ClientMux,
    EngineMux,
    ClientTask,
    EngineTask,
    ClientControl,
    EngineControl,
    ClientBroadcast,
    EngineBroadcast,
    /// SUB: what engines publish.
    EngineIopub,
    /// XPUB to clients: what engines publish, passed on.
    ClientIopub,
    /// PUB to engines: beats. Raw, unsigned frames.
    Ping,
    /// ROUTER from engines: echoes of beats. Raw, unsigned frames.
    Pong,
}

impl Channel {
    pub const ALL: [Self; 14] = [
        Self::Registration,
        Self::Notification,
        Self::ClientMux,
        Self::EngineMux,
        Self::ClientTask,
        Self::EngineTask,
        Self::ClientControl,
        Self::EngineControl,
        Self::ClientBroadcast,
        Self::EngineBroadcast,
        Self::EngineIopub,
        Self::ClientIopub,
        Self::Ping,
        Self::Pong,
    ];

    /// Its position in [`Self::ALL`].
    pub fn place(self) -> usize {
        let at = Self::ALL.iter().position(|other| *other == self);
        at.expect("every channel is in the list")
    }

    /// Whether clients connect here.
    pub fn is_of_clients(self) -> bool {
        matches!(
            self,
            Self::Registration
                | Self::Notification
                | Self::ClientMux
                | Self::ClientTask
                | Self::ClientControl
                | Self::ClientBroadcast
                | Self::ClientIopub
        )
    }

    /// Whether engines connect here.
    pub fn is_of_engines(self) -> bool {
        matches!(self, Self::Registration | Self::EngineIopub | Self::Ping | Self::Pong)
            || self.is_to_engines()
    }

    /// Whether what is sent on this channel goes to one engine.
    pub fn is_to_engines(self) -> bool {
        matches!(
            self,
            Self::EngineMux | Self::EngineTask | Self::EngineControl | Self::EngineBroadcast
        )
    }

    /// Whether messages on this channel carry a signature. Heartbeats are the exception.
    pub fn is_signed(self) -> bool {
        !matches!(self, Self::Ping | Self::Pong)
    }
}

/// What a cluster is told.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is nearly every event")]
pub enum Event {
    /// A message came in. The caller has checked its signature, and that its parts are JSON
    /// objects.
    Received { channel: Channel, head: Head, message: Message },
    /// Frames came in on [`Channel::Pong`].
    Echo { frames: Frames },
    /// A client hears [`Channel::Notification`] from now on.
    Subscribed,
    /// Something that was sent to an engine did not reach it: its connection is gone, or it does
    /// not read.
    Unreached { engine: Vec<u8> },
    /// The deadline has come.
    Tick,
}

/// What has to be done, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send these frames as they are; they are signed already, or need no signature.
    Forward { channel: Channel, frames: Frames },
    /// Write, sign and send a message of our own. `parent` is a raw header, or empty.
    Write {
        channel: Channel,
        ids: Frames,
        msg_type: String,
        parent: Vec<u8>,
        metadata: Value,
        content: Value,
        buffers: Frames,
    },
    /// Sign these parts anew and send them: a message of somebody else that we had to change.
    Resign {
        channel: Channel,
        ids: Frames,
        header: Vec<u8>,
        parent: Vec<u8>,
        metadata: Vec<u8>,
        content: Vec<u8>,
        buffers: Frames,
    },
    /// Keep this record in the store, in place of what it has of it.
    Keep(Box<Row>),
    /// These records are gone.
    Forget(Vec<Key>),
    /// These are the engines now, and the number of the next new one.
    KeepEngines { engines: Vec<KeptEngine>, next: EngineId },
    /// The controller was asked to end.
    Stop,
}
