//! Arbitrary bytes as what happens to a controller: messages on every channel, heartbeats, answers
//! of engines, time that passes, a controller that ends and another one that goes on with what its
//! store has. After each event all invariants hold; no request is answered more often than it was
//! sent; what is due is done.
//!
//! The first byte says how the cluster is set up. Events are separated by a byte, their frames by
//! another one, neither of which JSON has a use for; the first byte of an event says what it is.

use std::collections::{BTreeMap, HashMap, VecDeque};

use prust_cluster::{
    Channel, Cluster, Effect, Event, Frames, Head, Hwm, Keeps, Key, Message, Millis, Restored, Row,
    Scheme, Settings,
};
use prust_kernel::wire::envelope::{DELIMITER, Reader};
use serde_json::json;

const END_OF_EVENT: u8 = 0xFE;
const END_OF_FRAME: u8 = 0xFF;

/// More events in one input only make it slow.
const EVENTS_MAX: usize = 96;
/// Deadlines that one event may let pass.
const TICKS_MAX: usize = 64;
/// What engines were sent and can still be answered.
const ASKED_MAX: usize = 32;

const RECEIVED: [Channel; 10] = [
    Channel::Registration,
    Channel::ClientMux,
    Channel::ClientTask,
    Channel::ClientControl,
    Channel::ClientBroadcast,
    Channel::EngineMux,
    Channel::EngineTask,
    Channel::EngineControl,
    Channel::EngineBroadcast,
    Channel::EngineIopub,
];

/// One input.
pub fn run(data: &[u8]) {
    let Some((setup, rest)) = data.split_first() else { return };
    let mut world = World::new(*setup);
    for event in rest.split(|byte| *byte == END_OF_EVENT).take(EVENTS_MAX) {
        if let Some((kind, rest)) = event.split_first() {
            world.step(*kind, rest);
        }
    }
}

struct World {
    cluster: Cluster,
    now: Millis,
    reader: Reader,
    beat: Vec<u8>,
    asked: VecDeque<(Channel, Message)>,
    last: Option<(Channel, Message)>,
    /// How often a task or a direct request was sent, less its replies.
    unanswered: HashMap<String, usize>,
    n_replies: u32,
    settings: Settings,
    /// What a store has.
    rows: BTreeMap<Key, Row>,
    engines: Restored,
    /// Clients of a controller before this one may be answered, or not.
    has_restarted: bool,
}

impl World {
    fn new(setup: u8) -> Self {
        let hwm = [Hwm::Auto, Hwm::Fixed(1), Hwm::Fixed(3), Hwm::Unlimited];
        let schemes =
            [Scheme::LeastLoad, Scheme::Lru, Scheme::PlainRandom, Scheme::TwoBin, Scheme::Weighted];
        let settings = Settings {
            period: Millis(3000),
            lost_after: Millis(3000),
            hwm: hwm[usize::from(setup & 3)],
            scheme: schemes[usize::from((setup & 63) >> 2) % schemes.len()],
            seed: 1,
            keeps: if setup & 64 == 0 { Keeps::Memory } else { Keeps::Store },
            session: "hub".to_owned(),
            connection_info: json!({}),
        };
        let now = Millis(1_790_000_000_000);
        Self {
            cluster: Cluster::new(settings.clone(), now),
            now,
            reader: Reader::new(""),
            beat: Vec::new(),
            asked: VecDeque::new(),
            last: None,
            unanswered: HashMap::new(),
            n_replies: 0,
            settings,
            rows: BTreeMap::new(),
            engines: Restored::default(),
            has_restarted: false,
        }
    }

    fn step(&mut self, kind: u8, rest: &[u8]) {
        let frames: Vec<&[u8]> = rest.split(|byte| *byte == END_OF_FRAME).collect();
        match usize::from(kind % 16) {
            at @ 0..10 => self.receive(RECEIVED[at], &frames, kind & 16 == 0),
            10 => {
                let frames = frames.iter().map(|frame| frame.to_vec()).collect();
                self.handle(Event::Echo { frames });
            }
            11 => {
                let frames = vec![rest.to_vec(), self.beat.clone()];
                self.handle(Event::Echo { frames });
            }
            12 => self.wait(rest),
            13 => self.reply(&frames),
            14 => self.publish(&frames),
            _ if kind & 32 != 0 => self.restart(),
            _ => {
                if let Some((channel, message)) = self.last.clone() {
                    self.deliver(channel, message);
                }
            }
        }
    }

    /// The controller ends without a word; the next one has what was kept.
    fn restart(&mut self) {
        if self.settings.keeps != Keeps::Store {
            return;
        }
        self.cluster = Cluster::new(self.settings.clone(), self.now);
        let rows = self.rows.values().cloned().collect();
        let restored = Restored { rows, ..self.engines.clone() };
        self.has_restarted = true;
        self.unanswered.clear();
        for effect in self.cluster.restore(restored, self.now) {
            self.observe(effect);
        }
        self.cluster.check();
    }

    /// Identities with commas between them, then the frames behind the signature. What a
    /// controller receives was checked at its door; what was not must do no harm either.
    fn receive(&mut self, channel: Channel, frames: &[&[u8]], is_checked: bool) {
        let Some((ids, rest)) = frames.split_first() else { return };
        let ids = ids.split(|byte| *byte == b',').filter(|id| !id.is_empty());
        let mut frames: Frames = ids.map(<[u8]>::to_vec).collect();
        frames.extend([DELIMITER.to_vec(), b"signature".to_vec()]);
        frames.extend(rest.iter().map(|frame| frame.to_vec()));
        if is_checked && self.reader.read(frames.clone()).is_err() {
            return;
        }
        if let Some(message) = Message::split(frames) {
            self.deliver(channel, message);
        }
    }

    /// Time passes, deadline by deadline.
    fn wait(&mut self, rest: &[u8]) {
        let bytes = rest.iter().take(4).fold(0, |number, byte| number * 256 + u64::from(*byte));
        let end = self.now + Millis(bytes);
        for _ in 0..TICKS_MAX {
            if self.cluster.next_deadline() > end {
                break;
            }
            self.now = self.cluster.next_deadline();
            self.handle(Event::Tick);
        }
        self.now = self.now.max(end);
        self.handle(Event::Tick);
    }

    /// An engine answers something that it was sent: which, with what metadata and content.
    fn reply(&mut self, frames: &[&[u8]]) {
        let which = frames.first().and_then(|frame| frame.first()).copied().unwrap_or(0);
        let Some((channel, request)) = self.asked.get(usize::from(which)).cloned() else { return };
        let part = |at: usize| frames.get(at).filter(|part| !part.is_empty());
        let part = |at| part(at).map_or_else(|| br#"{"status":"ok"}"#.to_vec(), |of| of.to_vec());
        let request_type = request.head().unwrap_or_default().msg_type;
        let reply_type = format!("{}_reply", request_type.trim_end_matches("_request"));
        let message = self.answer(&request, request.ids.clone(), &reply_type, [part(1), part(2)]);
        self.deliver(channel, message);
    }

    /// An engine publishes something about what it was sent: which, of what type, what.
    fn publish(&mut self, frames: &[&[u8]]) {
        let [which, msg_type, content] = frames else { return };
        let which = usize::from(which.first().copied().unwrap_or(0));
        let Some((_, request)) = self.asked.get(which).cloned() else { return };
        let msg_type = String::from_utf8_lossy(msg_type).into_owned();
        let parts = [b"{}".to_vec(), content.to_vec()];
        let topic = vec![format!("engine.0.{msg_type}").into_bytes()];
        let message = self.answer(&request, topic, &msg_type, parts);
        self.deliver(Channel::EngineIopub, message);
    }

    fn answer(
        &mut self,
        request: &Message,
        ids: Frames,
        msg_type: &str,
        [metadata, content]: [Vec<u8>; 2],
    ) -> Message {
        self.n_replies += 1;
        let session = String::from_utf8_lossy(&request.ids[0]).into_owned();
        let msg_id = format!("r{}", self.n_replies);
        let header = json!({"msg_id": msg_id, "msg_type": msg_type, "session": session});
        Message {
            ids,
            signature: b"signature".to_vec(),
            header: header.to_string().into_bytes(),
            parent: request.header.clone(),
            metadata,
            content,
            buffers: Vec::new(),
        }
    }

    fn deliver(&mut self, channel: Channel, message: Message) {
        let Some(head) = message.head() else { return };
        if matches!(channel, Channel::ClientTask | Channel::ClientMux) {
            *self.unanswered.entry(head.msg_id.clone()).or_default() += 1;
        }
        self.last = Some((channel, message.clone()));
        self.handle(Event::Received { channel, head, message });
    }

    fn handle(&mut self, event: Event) {
        let effects = self.cluster.handle(event, self.now);
        self.cluster.check();
        assert!(self.cluster.next_deadline() > self.now, "what is due was not done");
        for effect in effects {
            self.observe(effect);
        }
    }

    fn observe(&mut self, effect: Effect) {
        match effect {
            Effect::Forward { channel: Channel::Ping, frames } => self.beat = frames[0].clone(),
            Effect::Forward { channel, frames } => {
                let message = Message::split(frames).expect("what is passed on is a message");
                self.sent(channel, message);
            }
            Effect::Resign { channel, ids, header, parent, metadata, content, buffers } => {
                let signature = b"signature".to_vec();
                let message =
                    Message { ids, signature, header, parent, metadata, content, buffers };
                self.sent(channel, message);
            }
            Effect::Write { channel, ids, msg_type, parent, .. } => {
                assert!(channel == Channel::Notification || !ids.is_empty(), "to nobody");
                if matches!(channel, Channel::ClientTask | Channel::ClientMux) {
                    assert!(msg_type.ends_with("_reply"), "a controller only answers");
                    let head: Head = serde_json::from_slice(&parent).unwrap_or_default();
                    self.answered(&head.msg_id);
                }
            }
            Effect::Keep(row) => drop(self.rows.insert(row.key, *row)),
            Effect::Forget(keys) => {
                for key in keys {
                    assert!(self.rows.remove(&key).is_some(), "{key} is forgotten, and not kept");
                }
            }
            Effect::KeepEngines { engines, next } => {
                self.engines = Restored { engines, next_engine: next, ..Restored::default() };
            }
            Effect::Stop => {}
        }
    }

    fn sent(&mut self, channel: Channel, message: Message) {
        match channel {
            Channel::EngineMux | Channel::EngineTask | Channel::EngineBroadcast => {
                assert!(!message.ids.is_empty(), "to no engine");
                if self.asked.len() == ASKED_MAX {
                    self.asked.pop_front();
                }
                self.asked.push_back((channel, message));
            }
            Channel::ClientTask | Channel::ClientMux => {
                let is_reply = message.head().is_some_and(|head| head.msg_type.ends_with("_reply"));
                let parent = message.parent_id();
                if let Some(msg_id) = parent.filter(|_| is_reply || channel == Channel::ClientTask)
                {
                    self.answered(&msg_id);
                }
            }
            _ => (),
        }
    }

    fn answered(&mut self, msg_id: &str) {
        let Some(left) = self.unanswered.get_mut(msg_id) else {
            assert!(self.has_restarted, "only what was asked is answered");
            return;
        };
        assert!(*left > 0, "{msg_id} was answered twice: {:?}", self.cluster.story(msg_id));
        *left -= 1;
    }
}
