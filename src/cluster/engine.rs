//! Engines: registration, the end of an engine and what follows from it.

use std::collections::{BTreeSet, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::records::Records;
use crate::{
    Channel, Cluster, Effect, EngineId, Failure, Key, Message, Millis, NOTICE_AFTER_REPLIES,
};

/// How many ids of finished tasks an engine remembers, for `queue_status(verbose=True)`.
const COMPLETED_IDS_MAX: usize = 4096;

/// An engine may ask for a number below this: the next ones follow it, and must not run out.
const ASKED_ID_MAX: EngineId = 1 << 24;

/// One registered engine and everything that is on it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    pub(crate) uuid: String,
    /// Whether it is one of ours: it then beats faster, and knows a few requests more.
    pub(crate) is_ours: bool,
    pub(crate) announced: bool,
    pub(crate) registered: Millis,
    pub(crate) misses: u32,
    pub(crate) heard: bool,
    pub(crate) last_heard: Millis,
    /// Tasks of the task scheduler on this engine, oldest first, with the time they were sent.
    pub(crate) in_flight: VecDeque<(Key, Millis)>,
    /// Tasks that have ended here but perhaps not there: it was asked to interrupt them.
    pub(crate) abandoned: Vec<String>,
    /// How many tasks may be in flight here now, and the mean time one takes, in microseconds.
    pub(crate) limit: usize,
    pub(crate) service_micros: Option<u64>,
    pub(crate) last_done: Millis,
    /// Rises with each task given out; of equally loaded engines the one with the lowest is next.
    pub(crate) last_used: u64,
    pub(crate) direct: BTreeSet<Key>,
    /// What it has said to be busy with, until that ends.
    pub(crate) busy: Option<Key>,
    pub(crate) broadcasts: BTreeSet<Key>,
    pub(crate) n_completed: u64,
    pub(crate) completed: VecDeque<String>,
}

impl Engine {
    /// What it works on: what it says, or else what was sent to it first.
    pub(crate) fn at_work(&self, records: &Records) -> Option<Key> {
        let direct = self.direct.first().copied();
        let sent =
            |key| records.get(key).and_then(|record| record.story.first()).map(|(at, _)| *at);
        let direct = direct.and_then(|key| Some((sent(key)?, key)));
        let task = self.in_flight.front().map(|(key, sent)| (*sent, *key));
        // In case of doubt the task has run: it must not run twice.
        let first = match (direct, task) {
            (Some(direct), Some(task)) if direct.0 < task.0 => Some(direct),
            (direct, task) => task.or(direct),
        };
        self.busy.or(first.map(|(_, key)| key))
    }

    /// Forgets what has ended.
    pub(crate) fn has_ended(&mut self, key: Key) {
        self.busy.take_if(|busy| *busy == key);
    }

    /// When it registered, and how many beats it has missed in a row.
    pub(crate) fn heart(&self) -> (Millis, u32) {
        (self.registered, self.misses)
    }

    pub(crate) fn ident(&self) -> Vec<u8> {
        self.uuid.clone().into_bytes()
    }

    pub(crate) fn name(&self) -> (EngineId, String) {
        (self.id, self.uuid.clone())
    }

    pub(crate) fn note_completed(&mut self, msg_id: &str) {
        self.n_completed += 1;
        if self.completed.len() == COMPLETED_IDS_MAX {
            self.completed.pop_front();
        }
        self.completed.push_back(msg_id.to_owned());
    }
}

/// The name by which engines of ours register.
const OURS: &str = "prust";

#[derive(Deserialize)]
struct Registration {
    uuid: String,
    #[serde(default)]
    id: Option<EngineId>,
    /// What our engines say of themselves.
    #[serde(default)]
    implementation: Option<Implementation>,
}

#[derive(Deserialize)]
struct Implementation {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Unregistration {
    id: EngineId,
    #[serde(default)]
    cause: Option<String>,
}

impl Cluster {
    /// Registers an engine. It is announced after its first echo of a beat: an engine connects its
    /// other sockets when it has its number, and what is sent to it before is lost without a trace.
    pub(crate) fn register(&mut self, message: &Message, now: Millis) -> Option<()> {
        let request: Registration = serde_json::from_slice(&message.content).ok()?;
        if self.by_uuid.contains_key(request.uuid.as_bytes()) {
            let failure = Failure::key(format!("uuid {:?} in use", request.uuid));
            self.registration_reply(message, failure.content());
            return Some(());
        }
        let before = self.away.take(request.uuid.as_bytes()).map(|away| away.id);
        let requested = request.id.filter(|id| *id < ASKED_ID_MAX && self.is_unused(*id));
        let id = before.or(requested).unwrap_or(self.next_engine);
        self.next_engine = self.next_engine.max(id.saturating_add(1));
        self.by_uuid.insert(request.uuid.clone().into_bytes(), id);
        let is_ours = request.implementation.is_some_and(|of| of.name == OURS);
        self.engines.insert(id, self.new_engine(id, request.uuid, is_ours, now));
        self.silent.insert(id);
        let reply = json!({
            "status": "ok", "id": id, "hb_period": self.settings.period.0,
            "connection_info": self.settings.connection_info, "prust": {}
        });
        self.registration_reply(message, reply);
        self.beat.next_extra = Some(now);
        Some(())
    }

    /// Ends an engine that asked for it, or whose process was seen to end.
    pub(crate) fn unregister(&mut self, message: &Message, now: Millis) -> Option<()> {
        let request: Unregistration = serde_json::from_slice(&message.content).ok()?;
        let cause =
            request.cause.unwrap_or_else(|| "it unregistered, or its process ended".to_owned());
        self.lose(request.id, &cause, now);
        Some(())
    }

    /// Says who is here. A client asks for the engines before it hears of new ones, or at the same
    /// time, and would never know of those that came in between. Who knows them learns nothing.
    pub(crate) fn announce_again(&mut self) {
        for (id, uuid) in self.engines() {
            self.notify("registration_notification", json!({"id": id, "uuid": uuid}));
        }
    }

    /// Ends an engine: what runs on it fails at once, what only waited there moves on, clients are
    /// told.
    pub(crate) fn lose(&mut self, id: EngineId, cause: &str, now: Millis) {
        let Some(engine) = self.engines.remove(&id) else { return };
        self.by_uuid.remove(engine.uuid.as_bytes());
        self.scheduler.free.set(id, None);
        self.silent.remove(&id);
        self.n_announced -= usize::from(engine.announced);
        self.n_ours -= usize::from(engine.announced && engine.is_ours);
        let at_work = engine.at_work(&self.records);
        for key in &engine.direct {
            self.fail_direct(*key, &engine, cause, now);
        }
        for key in &engine.broadcasts {
            self.fail_broadcast_copy(*key, &engine, cause, now);
        }
        self.take_back(&engine, at_work, cause, now);
        if engine.announced {
            self.engines_changed(now);
            let content = json!({"id": id, "uuid": engine.uuid, "cause": cause});
            if engine.direct.is_empty() && engine.broadcasts.is_empty() && self.notices.is_empty() {
                self.notify("unregistration_notification", content);
            } else {
                self.notices.push_back((now + NOTICE_AFTER_REPLIES, content));
            }
        }
    }

    fn is_unused(&self, id: EngineId) -> bool {
        let is_taken = self.engines.contains_key(&id) || self.away.knows_id(id);
        id >= self.next_engine || !is_taken
    }

    fn registration_reply(&mut self, message: &Message, content: Value) {
        self.effects.push(Effect::Write {
            channel: Channel::Registration,
            ids: message.ids.clone(),
            msg_type: "registration_reply".to_owned(),
            parent: Vec::new(),
            metadata: json!({}),
            content,
            buffers: Vec::new(),
        });
    }

    pub(crate) fn new_engine(
        &self,
        id: EngineId,
        uuid: String,
        is_ours: bool,
        now: Millis,
    ) -> Engine {
        Engine {
            id,
            uuid,
            is_ours,
            announced: false,
            registered: now,
            misses: 0,
            heard: false,
            last_heard: now,
            in_flight: VecDeque::new(),
            abandoned: Vec::new(),
            limit: self.settings.hwm.first_limit(),
            service_micros: None,
            last_done: now,
            last_used: 0,
            direct: BTreeSet::new(),
            busy: None,
            broadcasts: BTreeSet::new(),
            n_completed: 0,
            completed: VecDeque::new(),
        }
    }
}
