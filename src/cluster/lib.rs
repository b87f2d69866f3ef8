//! The controller's state machine: events in, effects out. It opens no socket, reads no clock,
//! signs nothing and prints nothing; the same events give the same effects.
//!
//! It decides what ipyparallel's hub and schedulers decide: who is registered, where a task runs,
//! who is told what, and which record is kept of it. The wire protocol it speaks is ipyparallel's,
//! frame by frame, so that stock clients and stock engines can be at either end.
//!
//! The caller owns the sockets: it checks signatures, hands every message to [`Cluster::handle`]
//! with the time, carries out the effects, and comes back with [`Event::Tick`] at
//! [`Cluster::next_deadline`].

mod assign;
#[cfg(test)]
mod attempt_tests;
mod broadcast;
mod check;
mod dependency;
mod direct;
mod engine;
#[cfg(test)]
mod engine_tests;
mod event;
mod failure;
mod heart;
#[cfg(test)]
mod hostile_tests;
mod hub;
mod hub_records;
mod iopub;
mod keep;
#[cfg(test)]
mod lab;
mod message;
mod pick;
mod query;
mod record;
#[cfg(test)]
mod record_tests;
mod records;
mod request;
mod restore;
mod row;
mod scheduler;
#[cfg(test)]
mod sim;
mod status;
mod stop;
mod task;
#[cfg(test)]
mod tests;
mod time;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use broadcast::Broadcast;
use engine::Engine;
pub use event::{Channel, Effect, Event};
pub use failure::Failure;
use heart::{AwayList, Beat};
pub use keep::{Keeps, KeptEngine};
pub use message::{Frames, Head, Message};
pub use record::{Moment, Queue, Record};
use records::Records;
pub use records::{RECORD_BYTES_MAX, RECORDS_MAX};
pub use request::Body;
pub use restore::Restored;
pub use row::Row;
use scheduler::Scheduler;
pub use time::{Millis, iso, parse_iso};

/// The number of an engine, counted from 0 and never used twice.
pub type EngineId = u32;

/// The position of a record in the order of submission; a store knows records by it.
pub type Key = u64;

/// How many tasks, in all queues together, may be open. The next one is refused with an error
/// reply.
pub const TASKS_OPEN_MAX: usize = 1 << 20;

/// How long the notice of a lost engine waits after the error replies for its work. A stock client
/// fails that work by itself when the notice overtakes the replies, and stumbles over them later.
const NOTICE_AFTER_REPLIES: Millis = Millis(20);

/// How long a shutdown waits, so that its reply and its notice leave first.
const STOP_AFTER: Millis = Millis(200);

/// How many tasks may be in flight on one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hwm {
    /// About 20 ms of work per engine, measured, between 1 and 64 tasks.
    Auto,
    /// As many as there are.
    Unlimited,
    /// Exactly so many.
    Fixed(u32),
}

/// How the engine for a task is chosen among those that may run it and have room; the names are
/// ipyparallel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// The engine with the fewest tasks; of equals the one that was used longest ago.
    #[default]
    LeastLoad,
    /// The engine that was used longest ago, whatever it has.
    Lru,
    /// Any engine.
    PlainRandom,
    /// Of two that are drawn, the one that was used longest ago.
    TwoBin,
    /// Of two that are drawn, with the better odds the less they have, the one with fewer tasks.
    Weighted,
}

impl Scheme {
    /// Every scheme with the name that users and connection files give it.
    pub const NAMES: [(Self, &str); 5] = [
        (Self::LeastLoad, "leastload"),
        (Self::Lru, "lru"),
        (Self::PlainRandom, "plainrandom"),
        (Self::TwoBin, "twobin"),
        (Self::Weighted, "weighted"),
    ];

    /// Returns the name, as it stands in the client file.
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(scheme, _)| *scheme == self);
        named.expect("every scheme is in the list").1
    }
}

/// What a cluster is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time between two beats of the heart monitor; never 0.
    pub period: Millis,
    /// For how long an engine of ours may be silent; stock engines may miss ten beats.
    pub lost_after: Millis,
    pub hwm: Hwm,
    pub scheme: Scheme,
    /// What the random schemes draw from.
    pub seed: u64,
    /// What becomes of records.
    pub keeps: Keeps,
    /// The text that makes message ids of resubmitted tasks unique: the session of the controller.
    pub session: String,
    /// `connection_info` of every registration reply: the engine file as JSON.
    pub connection_info: serde_json::Value,
}

/// What arrived and led to nothing, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that are no message: no delimiter, a header that is no JSON, a missing identity.
    pub malformed: u64,
    /// A second submission under a message id that is known.
    pub duplicate: u64,
    /// A reply nobody waits for (any more), for example from an engine that was given up.
    pub late: u64,
}

/// The whole state of a controller.
pub struct Cluster {
    settings: Settings,
    engines: BTreeMap<EngineId, Engine>,
    /// uuid -> id of every registered engine, announced or not; lookups only.
    by_uuid: HashMap<Vec<u8>, EngineId>,
    next_engine: EngineId,
    /// Registered engines that were not announced yet.
    silent: BTreeSet<EngineId>,
    n_announced: usize,
    /// Announced engines of ours.
    n_ours: usize,
    away: AwayList,
    /// When all that had arrived was handled last.
    caught_up: Millis,
    scheduler: Scheduler,
    /// Open coalescing broadcasts, by their records.
    broadcasts: BTreeMap<Key, Broadcast>,
    records: Records,
    /// When the store is told which engines there are.
    engines_due: Option<Millis>,
    beat: Beat,
    /// Notices of lost engines that wait for `NOTICE_AFTER_REPLIES`, in order of time.
    notices: VecDeque<(Millis, serde_json::Value)>,
    stop_at: Option<Millis>,
    stopped: bool,
    n_resubmitted: u64,
    counts: Counts,
    watch: status::Watch,
    effects: Vec<Effect>,
}

impl Cluster {
    /// Returns a cluster without engines. The first beat is due at `now`.
    ///
    /// # Panics
    /// If the heartbeat period is 0.
    pub fn new(settings: Settings, now: Millis) -> Self {
        assert!(settings.period > Millis(0), "a heart monitor needs a period");
        Self {
            scheduler: Scheduler::new(settings.scheme, settings.seed),
            engines: BTreeMap::new(),
            by_uuid: HashMap::new(),
            next_engine: 0,
            silent: BTreeSet::new(),
            n_announced: 0,
            n_ours: 0,
            away: AwayList::default(),
            caught_up: now,
            broadcasts: BTreeMap::new(),
            records: Records::new(settings.keeps),
            engines_due: None,
            beat: Beat::new(now),
            notices: VecDeque::new(),
            stop_at: None,
            stopped: false,
            n_resubmitted: 0,
            counts: Counts::default(),
            watch: status::Watch::new(now),
            effects: Vec::new(),
            settings,
        }
    }

    /// Takes one event in and returns what has to be done, in order. `now` is milliseconds since
    /// the Unix epoch and must never go back. Call [`Cluster::next_deadline`] again afterwards.
    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Effect> {
        match event {
            Event::Received { channel, head, message } => {
                self.received(channel, head, message, now)
            }
            Event::Echo { frames } => self.echo(&frames, now),
            Event::Unreached { engine } => self.unreached(&engine, now),
            Event::Subscribed => self.announce_again(),
            Event::Tick => self.caught_up(now),
        }
        self.tick(now);
        self.settle(now);
        self.look(now);
        self.keep_changes(now);
        std::mem::take(&mut self.effects)
    }

    /// Takes note that nothing that has arrived waits to be handled. Who is not heard while much
    /// waits is not silent: what was said may be among it. [`Event::Tick`] says the same.
    pub fn caught_up(&mut self, now: Millis) {
        self.caught_up = now;
    }

    /// Returns when [`Event::Tick`] is due. There is always a next beat.
    pub fn next_deadline(&self) -> Millis {
        let timer = self.scheduler.next_timeout();
        let notice = self.notices.front().map(|(at, _)| *at);
        let stop = self.stop_at.filter(|_| !self.stopped);
        let keep = self.records.changes.next_due();
        let due = [Some(self.next_beat()), timer, notice, stop, keep, self.engines_due];
        due.into_iter().flatten().min().expect("there is always a next beat")
    }

    /// Returns what happened to a task or a direct request, oldest first, as far as it is
    /// remembered.
    pub fn story(&self, msg_id: &str) -> Option<&[(Millis, Moment)]> {
        self.records.by_id(msg_id).map(|record| record.story.as_slice())
    }

    /// Returns what arrived and led to nothing.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the announced engines: number and uuid, by number.
    pub fn engines(&self) -> Vec<(EngineId, String)> {
        let announced = self.engines.values().filter(|engine| engine.announced);
        announced.map(|engine| (engine.id, engine.uuid.clone())).collect()
    }

    /// Returns how many engines are announced.
    pub fn n_engines(&self) -> usize {
        self.n_announced
    }

    fn received(&mut self, channel: Channel, head: Head, message: Message, now: Millis) {
        if head.msg_id.is_empty() || head.msg_type.is_empty() {
            self.counts.malformed += 1;
            return;
        }
        let done = match channel {
            Channel::Registration => self.hub_request(message, &head, now),
            Channel::ClientMux => self.direct_request(message, head, now),
            Channel::EngineMux => self.direct_reply(message, &head, now),
            Channel::ClientControl => self.control_request(message, &head, now),
            Channel::EngineControl => self.control_reply(message),
            Channel::ClientTask => self.task_request(message, head, now),
            Channel::EngineTask => self.task_reply(message, now),
            Channel::ClientBroadcast => self.broadcast_request(message, head, now),
            Channel::EngineBroadcast => self.broadcast_reply(message, now),
            Channel::EngineIopub => self.published(message, &head, now),
            Channel::Notification | Channel::ClientIopub | Channel::Ping | Channel::Pong => None,
        };
        if done.is_none() {
            self.counts.malformed += 1;
        }
    }

    fn tick(&mut self, now: Millis) {
        self.beat_if_due(now);
        self.expire_tasks(now);
        self.stop_overdue(now);
        while self.notices.front().is_some_and(|(at, _)| *at <= now) {
            let (_, content) = self.notices.pop_front().expect("front was looked at above");
            self.notify("unregistration_notification", content);
        }
        if self.stop_at.is_some_and(|at| at <= now) && !self.stopped {
            self.stopped = true;
            self.effects.push(Effect::Stop);
        }
    }

    fn notify(&mut self, msg_type: &'static str, content: serde_json::Value) {
        self.effects.push(Effect::Write {
            channel: Channel::Notification,
            ids: Vec::new(),
            msg_type: msg_type.to_owned(),
            parent: Vec::new(),
            metadata: serde_json::json!({}),
            content,
            buffers: Vec::new(),
        });
    }

    fn engine_of(&self, uuid: &[u8]) -> Option<&Engine> {
        self.engines.get(self.by_uuid.get(uuid)?)
    }

    fn live_engines(&self) -> BTreeSet<EngineId> {
        self.engines.values().filter(|engine| engine.announced).map(|engine| engine.id).collect()
    }
}
