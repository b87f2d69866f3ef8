//! Engines: registration, heartbeats, the end of an engine and what follows from it.

use std::collections::{BTreeSet, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::record::Records;
use crate::{
    Channel, Cluster, Effect, EngineId, Failure, Frames, Key, Message, Millis, NOTICE_AFTER_REPLIES,
};

/// An engine that misses more beats than this in a row is given up, as in ipyparallel.
const MISSES_MAX: u32 = 10;

/// While an engine waits for its first echo beats come this fast, so that it is announced within
/// milliseconds of being connected; and a little slower if it takes long.
const FIRST_BEAT_PERIOD: Millis = Millis(10);
const LATER_BEAT_PERIOD: Millis = Millis(100);
const LATER_AFTER: Millis = Millis(1000);

/// A registration without an echo is forgotten after this time.
const STALLED_AFTER: Millis = Millis(30_000);

/// How many ids of finished tasks an engine remembers, for `queue_status(verbose=True)`.
const COMPLETED_IDS_MAX: usize = 4096;

/// One registered engine and everything that is on it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    pub(crate) uuid: String,
    pub(crate) announced: bool,
    registered: Millis,
    misses: u32,
    heard: bool,
    /// Tasks of the task scheduler on this engine, oldest first, with the time they were sent.
    pub(crate) in_flight: VecDeque<(Key, Millis)>,
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

    pub(crate) fn ident(&self) -> Vec<u8> {
        self.uuid.clone().into_bytes()
    }

    pub(crate) fn note_completed(&mut self, msg_id: &str) {
        self.n_completed += 1;
        if self.completed.len() == COMPLETED_IDS_MAX {
            self.completed.pop_front();
        }
        self.completed.push_back(msg_id.to_owned());
    }
}

/// The heart monitor: when the next beat is due, and which echoes count.
#[derive(Debug)]
pub(crate) struct Beat {
    n_sent: u64,
    /// The first beat of the period before this one; older echoes do not count.
    oldest: u64,
    period_start: u64,
    next_period: Millis,
    next_extra: Option<Millis>,
}

impl Beat {
    pub(crate) fn new(now: Millis) -> Self {
        Self { n_sent: 0, oldest: 0, period_start: 0, next_period: now, next_extra: None }
    }
}

#[derive(Deserialize)]
struct Registration {
    uuid: String,
    #[serde(default)]
    id: Option<EngineId>,
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
        let requested = request.id.filter(|id| *id < EngineId::MAX && self.is_unused(*id));
        let id = requested.unwrap_or(self.next_engine);
        self.next_engine = self.next_engine.max(id.saturating_add(1));
        self.by_uuid.insert(request.uuid.clone().into_bytes(), id);
        self.engines.insert(id, self.new_engine(id, request.uuid, now));
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

    /// Takes the echo of a beat in: `[uuid, beat]`, as every stock engine sends it.
    pub(crate) fn echo(&mut self, frames: &Frames) {
        let [uuid, beat] = frames.as_slice() else {
            self.counts.malformed += 1;
            return;
        };
        let number = std::str::from_utf8(beat).ok().and_then(|text| text.parse::<u64>().ok());
        let (Some(id), Some(number)) = (self.by_uuid.get(uuid), number) else {
            self.counts.malformed += 1;
            return;
        };
        if number >= self.beat.oldest && number < self.beat.n_sent {
            self.engines.get_mut(id).expect("by_uuid and engines agree").heard = true;
        }
    }

    #[cfg(test)]
    pub(crate) fn n_beats(&self) -> u64 {
        self.beat.n_sent
    }

    pub(crate) fn next_beat(&self) -> Millis {
        let extra = self.beat.next_extra.unwrap_or(self.beat.next_period);
        extra.min(self.beat.next_period)
    }

    /// Announces engines that were heard, and sends the beats that are due.
    pub(crate) fn beat_if_due(&mut self, now: Millis) {
        if self.beat.next_extra.is_some() {
            let silent: Vec<_> = self.engines.values().filter(|engine| !engine.announced).collect();
            let heard: Vec<_> =
                silent.iter().filter(|engine| engine.heard).map(|engine| engine.id).collect();
            if heard.len() == silent.len() {
                self.beat.next_extra = None;
            }
            for id in heard {
                self.announce(id, now);
            }
        }
        if self.beat.next_period <= now {
            self.count_misses(now);
            self.beat.oldest = self.beat.period_start;
            self.beat.period_start = self.beat.n_sent;
            self.beat.next_period = now + self.settings.period;
            self.send_beat(now);
        } else if self.beat.next_extra.is_some_and(|at| at <= now) {
            self.send_beat(now);
        }
    }

    fn send_beat(&mut self, now: Millis) {
        let beat = self.beat.n_sent.to_string().into_bytes();
        self.beat.n_sent += 1;
        self.effects.push(Effect::Forward { channel: Channel::Ping, frames: vec![beat] });
        if self.beat.next_extra.is_some() {
            let mut silent = self.engines.values().filter(|engine| !engine.announced);
            let is_new = silent.any(|engine| now - engine.registered < LATER_AFTER);
            let period = if is_new { FIRST_BEAT_PERIOD } else { LATER_BEAT_PERIOD };
            self.beat.next_extra = Some(now + period);
        }
    }

    fn count_misses(&mut self, now: Millis) {
        let mut silent = Vec::new();
        for engine in self.engines.values_mut() {
            engine.misses = if engine.heard { 0 } else { engine.misses + 1 };
            let stalled = !engine.announced && now - engine.registered > STALLED_AFTER;
            if stalled || engine.announced && engine.misses > MISSES_MAX {
                silent.push((engine.id, engine.misses));
            }
            engine.heard &= !engine.announced;
        }
        for (id, misses) in silent {
            self.lose(id, &format!("it did not answer {misses} heartbeats"), now);
        }
    }

    fn announce(&mut self, id: EngineId, now: Millis) {
        let engine = self.engines.get_mut(&id).expect("only registered engines are announced");
        engine.announced = true;
        engine.misses = 0;
        engine.heard = true;
        let content = json!({"id": id, "uuid": engine.uuid});
        self.notify("registration_notification", content);
        self.assign(now);
    }

    /// Ends an engine: what runs on it fails at once, what only waited there moves on, clients are
    /// told.
    pub(crate) fn lose(&mut self, id: EngineId, cause: &str, now: Millis) {
        let Some(engine) = self.engines.remove(&id) else { return };
        self.by_uuid.remove(engine.uuid.as_bytes());
        let at_work = engine.at_work(&self.records);
        for key in &engine.direct {
            self.fail_direct(*key, &engine, cause, now);
        }
        for key in &engine.broadcasts {
            self.fail_broadcast_child(*key, &engine, cause, now);
        }
        self.take_back(&engine, at_work, cause, now);
        if engine.announced {
            let content = json!({"id": id, "uuid": engine.uuid, "cause": cause});
            if engine.direct.is_empty() && engine.broadcasts.is_empty() && self.notices.is_empty() {
                self.notify("unregistration_notification", content);
            } else {
                self.notices.push_back((now + NOTICE_AFTER_REPLIES, content));
            }
        }
        self.assign(now);
    }

    fn is_unused(&self, id: EngineId) -> bool {
        id >= self.next_engine || !self.engines.contains_key(&id)
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

    fn new_engine(&self, id: EngineId, uuid: String, now: Millis) -> Engine {
        Engine {
            id,
            uuid,
            announced: false,
            registered: now,
            misses: 0,
            heard: false,
            in_flight: VecDeque::new(),
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
