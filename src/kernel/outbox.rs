//! What goes out: replies, and the broadcast with its topics, its welcome and its coalesced
//! streams. Decides when text is sent and in which order; never touches a socket.
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;

use super::face::{Effect, Parent};
use crate::wire::connection::Channel;
use crate::wire::jupyter::{ExecutionState, Object, Status, Stdio, StreamContent};

/// Text waits this long for more text: at most twenty messages a second per stream.
pub(super) const COALESCE: Duration = Duration::from_millis(50);
/// Text beyond this is sent without waiting.
const STREAM_BYTES_MAX: usize = 1 << 20;
/// Changes between stdout and stderr kept apart within one interval; beyond, each stream's text is
/// put together, so that alternating lines cannot flood a frontend.
const SEGMENTS_MAX: usize = 8;
/// Messages held for the first subscriber; more than a start ever makes.
const HELD_MAX: usize = 1000;

/// One message on its way out; the header is made when it is sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) channel: Channel,
    /// Routing identities, or the topic.
    pub(super) ids: Vec<Vec<u8>>,
    /// Chosen here only when an answer to it has to be recognised.
    pub(super) msg_id: Option<String>,
    /// When it was made, for one that waits for the first subscriber.
    pub(super) date: Option<SystemTime>,
    pub(super) msg_type: String,
    pub(super) parent: Parent,
    pub(super) metadata: Object,
    pub(super) content: Box<RawValue>,
    pub(super) buffers: Vec<Vec<u8>>,
}

struct Segment {
    name: Stdio,
    text: String,
    parent: Parent,
}

pub(super) struct Outbox {
    effects: Vec<Effect>,
    /// The first part of every topic.
    topic: String,
    /// Broadcasts from before the first subscription.
    held: Option<Vec<Outgoing>>,
    segments: Vec<Segment>,
    last_flush: Option<Instant>,
    /// The date of the event being handled.
    pub(super) wall: SystemTime,
}

impl Outbox {
    pub(super) fn new(kernel_id: &str) -> Self {
        Self {
            effects: Vec::new(),
            topic: format!("kernel.{kernel_id}"),
            held: Some(Vec::new()),
            segments: Vec::new(),
            last_flush: None,
            wall: SystemTime::UNIX_EPOCH,
        }
    }

    pub(super) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// A broadcast with no metadata and no buffers.
    pub(super) fn publish(&mut self, msg_type: &str, parent: &Parent, content: &impl Serialize) {
        self.publish_with(msg_type, parent, Object::new(), content, Vec::new());
    }

    pub(super) fn publish_with(
        &mut self,
        msg_type: &str,
        parent: &Parent,
        metadata: Object,
        content: &impl Serialize,
        buffers: Vec<Vec<u8>>,
    ) {
        self.flush();
        let topic = format!("{}.{msg_type}", self.topic).into_bytes();
        self.broadcast(topic, msg_type, parent, metadata, content, buffers);
    }

    /// A broadcast about a comm, under the comm's own topic.
    pub(super) fn publish_comm(
        &mut self,
        comm_id: &str,
        msg_type: &str,
        parent: &Parent,
        metadata: Object,
        content: &impl Serialize,
        buffers: Vec<Vec<u8>>,
    ) {
        self.flush();
        let topic = format!("comm-{comm_id}").into_bytes();
        self.broadcast(topic, msg_type, parent, metadata, content, buffers);
    }

    pub(super) fn status(&mut self, state: ExecutionState, parent: &Parent) {
        self.publish("status", parent, &Status { execution_state: state });
    }

    /// A reply or request on one of the routed channels.
    pub(super) fn route(&mut self, outgoing: Outgoing) {
        self.effects.push(Effect::Send(outgoing));
    }

    /// Takes printed text; sends it now or at `deadline`.
    pub(super) fn stream(&mut self, name: Stdio, text: &str, parent: &Parent, now: Instant) {
        if text.is_empty() {
            return;
        }
        let same = |segment: &Segment| segment.name == name && segment.parent == *parent;
        let crowded = self.segments.len() >= SEGMENTS_MAX;
        let position = match self.segments.last() {
            Some(last) if same(last) => Some(self.segments.len() - 1),
            Some(_) if crowded => self.segments.iter().rposition(same),
            _ => None,
        };
        match position {
            Some(position) => self.segments[position].text.push_str(text),
            None => {
                let text = text.to_owned();
                self.segments.push(Segment { name, text, parent: parent.clone() });
            }
        }
        let n_bytes: usize = self.segments.iter().map(|segment| segment.text.len()).sum();
        let waited = self.last_flush.is_none_or(|last| now.duration_since(last) >= COALESCE);
        if waited || n_bytes > STREAM_BYTES_MAX {
            self.flush_at(now);
        }
    }

    /// When `tick` wants to be called, if at all.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let last = self.last_flush?;
        (!self.segments.is_empty()).then(|| last + COALESCE)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.flush_at(now);
        }
    }

    /// A subscriber came: welcomes it, and lets go of what was held for the first one.
    pub(super) fn subscribed(&mut self, subscription: &[u8]) {
        let content = Subscription { subscription: &String::from_utf8_lossy(subscription) };
        let welcome = outgoing(
            subscription.to_vec(),
            "iopub_welcome",
            &Parent::default(),
            Object::new(),
            &content,
            Vec::new(),
        );
        self.effects.push(Effect::Send(welcome));
        self.release();
    }

    /// Stops waiting for a first subscriber.
    pub(super) fn release(&mut self) {
        for outgoing in self.held.take().unwrap_or_default() {
            self.effects.push(Effect::Send(outgoing));
        }
    }

    fn flush_at(&mut self, now: Instant) {
        self.last_flush = Some(now);
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        for Segment { name, text, parent } in std::mem::take(&mut self.segments) {
            let topic = match name {
                Stdio::Stdout => "stream.stdout",
                Stdio::Stderr => "stream.stderr",
            };
            let topic = topic.as_bytes().to_vec();
            let content = StreamContent { name, text };
            self.broadcast(topic, "stream", &parent, Object::new(), &content, Vec::new());
        }
    }

    fn broadcast(
        &mut self,
        topic: Vec<u8>,
        msg_type: &str,
        parent: &Parent,
        metadata: Object,
        content: &impl Serialize,
        buffers: Vec<Vec<u8>>,
    ) {
        let outgoing = outgoing(topic, msg_type, parent, metadata, content, buffers);
        match &mut self.held {
            Some(held) if held.len() < HELD_MAX => {
                held.push(Outgoing { date: Some(self.wall), ..outgoing });
            }
            _ => self.effects.push(Effect::Send(outgoing)),
        }
    }
}

/// The text of a content, made once.
pub(super) fn body(content: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(content).expect("message contents are JSON objects")
}

#[derive(Serialize)]
struct Subscription<'a> {
    subscription: &'a str,
}

fn outgoing(
    topic: Vec<u8>,
    msg_type: &str,
    parent: &Parent,
    metadata: Object,
    content: &impl Serialize,
    buffers: Vec<Vec<u8>>,
) -> Outgoing {
    Outgoing {
        channel: Channel::IoPub,
        ids: vec![topic],
        date: None,
        msg_id: None,
        msg_type: msg_type.to_owned(),
        parent: parent.clone(),
        metadata,
        content: body(content),
        buffers,
    }
}
