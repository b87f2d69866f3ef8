//! The tables of the task scheduler: which tasks wait, for what, and where. Tasks that may run at
//! the same places wait in one queue; each queue stands, with its oldest task, at the seats from
//! which it is called, so that an engine with room finds its next task at two of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::dependency::{Dependency, Fate};
use crate::engine::Engine;
use crate::pick::{Free, Rank};
use crate::{EngineId, Hwm, Key, Message, Millis, Scheme};

/// With `Hwm::Auto` an engine is given about so much work at a time, in microseconds.
const QUEUED_MICROS: u64 = 20_000;

/// With `Hwm::Auto` an engine never has more tasks than this in flight.
const IN_FLIGHT_MAX: usize = 64;

/// With `Hwm::Auto` an engine that has been at one task for so long gets no more behind it.
const SLOW_AFTER: Millis = Millis(40);

/// With `Hwm::Auto` an engine without work for so long is measured anew: what comes next may be
/// of another kind.
const IDLE_AFTER: Millis = Millis(20);

/// How many ended tasks are remembered for the dependencies of later ones.
const FATES_MAX: usize = 1 << 18;

impl Hwm {
    pub(crate) fn first_limit(self) -> usize {
        match self {
            Self::Auto => 1,
            Self::Unlimited | Self::Fixed(0) => usize::MAX,
            Self::Fixed(limit) => limit as usize,
        }
    }
}

impl Engine {
    /// Whether it may be given another task as far as numbers go.
    pub(crate) fn has_room(&self) -> bool {
        self.announced && self.load() < self.limit
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.len() + self.abandoned.len()
    }

    pub(crate) fn rank(&self) -> Option<Rank> {
        let rank = Rank { load: self.load(), last_used: self.last_used };
        self.has_room().then_some(rank)
    }

    /// Whether it has been at one task for so long that nothing should wait behind that.
    pub(crate) fn is_slow(&self, hwm: Hwm, now: Millis) -> bool {
        let sent = self.in_flight.front().map_or(now, |(_, sent)| *sent);
        hwm == Hwm::Auto && self.load() > 0 && now - sent.max(self.last_done) > SLOW_AFTER
    }

    /// An engine that had nothing to do is measured anew.
    pub(crate) fn wake(&mut self, hwm: Hwm, now: Millis) {
        if hwm == Hwm::Auto && self.load() == 0 && now - self.last_done > IDLE_AFTER {
            self.service_micros = None;
            self.limit = 1;
        }
    }

    /// Learns from a finished task how long one takes, and how many may therefore be in flight. The
    /// limit at most doubles.
    pub(crate) fn measure(&mut self, hwm: Hwm, sent: Millis, now: Millis) {
        let took_micros = (now - sent.max(self.last_done)).0 * 1000;
        self.last_done = now;
        if hwm != Hwm::Auto {
            return;
        }
        let mean = self.service_micros.map_or(took_micros, |mean| (mean * 7 + took_micros) / 8);
        self.service_micros = Some(mean);
        let wanted = usize::try_from(QUEUED_MICROS / mean.max(1)).unwrap_or(IN_FLIGHT_MAX);
        self.limit = wanted.min(self.limit * 2).clamp(1, IN_FLIGHT_MAX);
    }
}

/// Where a task may run. Tasks that may run at the same places wait in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Uuids; empty means anywhere.
    pub(crate) targets: BTreeSet<String>,
    /// Engines on which it failed or could not run.
    pub(crate) avoid: BTreeSet<EngineId>,
    pub(crate) follow: Dependency,
}

/// From where a queue is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seat {
    /// By every engine.
    Any,
    /// By the engine of this uuid.
    One(String),
}

/// The tasks that wait at one place.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) place: Arc<Place>,
    pub(crate) keys: BTreeSet<Key>,
    pub(crate) seats: Vec<Seat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Waits for the tasks named in `after`.
    Unmet,
    /// Waits for an engine.
    Queued,
    InFlight(EngineId),
}

/// An open task of the task scheduler. Its messages are in its record.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) state: State,
    pub(crate) place: Place,
    pub(crate) after: Dependency,
    pub(crate) timeout: Option<Millis>,
    pub(crate) deadline: Option<Millis>,
    pub(crate) retries: u32,
    /// How often it was sent: the number of its present attempt.
    pub(crate) n_sent: usize,
    /// The engine's word that its present attempt puts out no more, until it is known whether that
    /// attempt is the last.
    pub(crate) idle: Option<Box<Message>>,
    /// How long one attempt may run, and until when the present one may.
    pub(crate) time_limit: Option<Millis>,
    pub(crate) runs_until: Option<Millis>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) fate: Fate,
    pub(crate) engine: Option<EngineId>,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) tasks: BTreeMap<Key, Task>,
    pub(crate) queues: HashMap<Arc<Place>, Queue>,
    /// The oldest task of every queue, at each of its seats.
    heads: HashMap<Seat, BTreeSet<(Key, Arc<Place>)>>,
    pub(crate) free: Free,
    /// When waiting tasks give up.
    pub(crate) timers: BTreeSet<(Millis, Key)>,
    /// When running tasks are to be stopped.
    pub(crate) limits: BTreeSet<(Millis, Key)>,
    /// Task -> open tasks that named it in `after` or `follow`; lookups only.
    pub(crate) dependents: HashMap<String, Vec<Key>>,
    /// Ended tasks; lookups only.
    pub(crate) ended: HashMap<String, Ended>,
    ended_order: VecDeque<String>,
    /// Tasks that ended and whose dependents were not looked at yet.
    pub(crate) unsettled: VecDeque<String>,
    pub(crate) n_in_flight: usize,
    pub(crate) n_assigned: u64,
    /// Whether any task was sent more than once.
    pub(crate) has_resent: bool,
}

impl Scheduler {
    pub(crate) fn new(scheme: Scheme, seed: u64) -> Self {
        Self {
            tasks: BTreeMap::new(),
            queues: HashMap::new(),
            heads: HashMap::new(),
            free: Free::new(scheme, seed),
            timers: BTreeSet::new(),
            limits: BTreeSet::new(),
            dependents: HashMap::new(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            unsettled: VecDeque::new(),
            n_in_flight: 0,
            n_assigned: 0,
            has_resent: false,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Millis> {
        let first = [self.timers.first(), self.limits.first()];
        first.into_iter().flatten().map(|(at, _)| *at).min()
    }

    pub(crate) fn fate(&self, msg_id: &str) -> Fate {
        self.ended.get(msg_id).map_or(Fate::Open, |ended| ended.fate)
    }

    pub(crate) fn has_ended(&self, msg_id: &str) -> bool {
        self.ended.contains_key(msg_id)
    }

    pub(crate) fn add(&mut self, key: Key, task: Task) {
        for id in task.after.ids.union(&task.place.follow.ids) {
            if !self.ended.contains_key(id) {
                self.dependents.entry(id.clone()).or_default().push(key);
            }
        }
        self.tasks.insert(key, task);
    }

    /// Takes an ended task out of everything, remembers how it ended, and returns it.
    pub(crate) fn end(
        &mut self,
        key: Key,
        msg_id: &str,
        fate: Fate,
        engine: Option<EngineId>,
    ) -> Task {
        self.leave(key);
        let task = self.tasks.remove(&key).expect("only open tasks end");
        self.remember(msg_id, fate, engine);
        if self.dependents.contains_key(msg_id) {
            self.unsettled.push_back(msg_id.to_owned());
        }
        task
    }

    /// Remembers how a task ended, for the dependencies of later ones.
    pub(crate) fn remember(&mut self, msg_id: &str, fate: Fate, engine: Option<EngineId>) {
        self.ended.insert(msg_id.to_owned(), Ended { fate, engine });
        self.ended_order.push_back(msg_id.to_owned());
        if self.ended_order.len() > FATES_MAX {
            let oldest = self.ended_order.pop_front().expect("it is longer than its limit");
            self.ended.remove(&oldest);
        }
    }

    /// Puts a task into the queue of its place, which is called from these seats now.
    pub(crate) fn enter(&mut self, key: Key, seats: Vec<Seat>, now: Millis) {
        self.leave_state(key);
        let task = self.tasks.get_mut(&key).expect("only open tasks are queued");
        task.state = State::Queued;
        let place = match self.queues.get_key_value(&task.place) {
            Some((place, _)) => Arc::clone(place),
            None => Arc::new(task.place.clone()),
        };
        let empty =
            || Queue { place: Arc::clone(&place), keys: BTreeSet::new(), seats: Vec::new() };
        let mut queue = self.queues.remove(&place).unwrap_or_else(empty);
        self.stand_up(&queue);
        queue.seats = seats;
        queue.keys.insert(key);
        self.sit_down(&queue);
        self.queues.insert(place, queue);
        self.start_timer(key, now);
    }

    fn stand_up(&mut self, queue: &Queue) {
        let Some(head) = queue.keys.first() else { return };
        let entry = (*head, Arc::clone(&queue.place));
        for seat in &queue.seats {
            let heads = self.heads.get_mut(seat).expect("a queue sits at its seats");
            heads.remove(&entry);
            if heads.is_empty() {
                self.heads.remove(seat);
            }
        }
    }

    fn sit_down(&mut self, queue: &Queue) {
        let Some(head) = queue.keys.first() else { return };
        for seat in &queue.seats {
            let heads = self.heads.entry(seat.clone()).or_default();
            heads.insert((*head, Arc::clone(&queue.place)));
        }
    }

    pub(crate) fn start_timer(&mut self, key: Key, now: Millis) {
        let task = self.tasks.get_mut(&key).expect("only open tasks have timers");
        let Some(timeout) = task.timeout else { return };
        let deadline = *task.deadline.get_or_insert(now + timeout);
        self.timers.insert((deadline, key));
    }

    /// A task leaves its queue, or its engine; its timers stop.
    pub(crate) fn leave(&mut self, key: Key) {
        self.leave_state(key);
        let task = self.tasks.get_mut(&key).expect("only open tasks leave");
        if let Some(deadline) = task.deadline.take() {
            self.timers.remove(&(deadline, key));
        }
    }

    fn leave_state(&mut self, key: Key) {
        let task = self.tasks.get_mut(&key).expect("only open tasks leave");
        let state = std::mem::replace(&mut task.state, State::Unmet);
        if let Some(at) = task.runs_until.take() {
            self.limits.remove(&(at, key));
        }
        match state {
            State::Unmet => (),
            State::InFlight(_) => self.n_in_flight -= 1,
            State::Queued => {
                let place = &self.tasks[&key].place;
                let mut queue = self.queues.remove(place).expect("it was queued there");
                self.stand_up(&queue);
                queue.keys.remove(&key);
                self.sit_down(&queue);
                if !queue.keys.is_empty() {
                    self.queues.insert(Arc::clone(&queue.place), queue);
                }
            }
        }
    }

    /// The oldest task that waits and that this engine may run.
    pub(crate) fn next_for(&self, engine: &Engine) -> Option<Key> {
        let seats = [Seat::Any, Seat::One(engine.uuid.clone())];
        let heads = seats.iter().filter_map(|seat| self.heads.get(seat));
        let next = |heads: &BTreeSet<(Key, Arc<Place>)>| {
            heads.iter().find(|(_, place)| self.allows(place, engine)).map(|(key, _)| *key)
        };
        heads.filter_map(next).min()
    }

    /// The tasks that wait for this engine by name.
    pub(crate) fn waiting_for(&self, uuid: &str) -> Vec<Key> {
        let heads = self.heads.get(&Seat::One(uuid.to_owned()));
        let places = heads.into_iter().flatten().map(|(_, place)| &self.queues[place]);
        places.flat_map(|queue| queue.keys.iter().copied()).collect()
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = Key> {
        let tasks = self.tasks.iter();
        tasks.filter(|(_, task)| !matches!(task.state, State::InFlight(_))).map(|(key, _)| *key)
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.tasks.len() - self.n_in_flight
    }

    /// Whether the engine may run tasks of this place. A task that follows others runs where they
    /// ran.
    pub(crate) fn allows(&self, place: &Place, engine: &Engine) -> bool {
        (place.targets.is_empty() || place.targets.contains(&engine.uuid))
            && !place.avoid.contains(&engine.id)
            && (place.follow.is_empty()
                || place.follow.quantify(|id| self.ran_on(place, id, engine.id)))
    }

    pub(crate) fn ran_on(&self, place: &Place, msg_id: &str, engine: EngineId) -> bool {
        let ended = self.ended.get(msg_id);
        ended.is_some_and(|ended| ended.engine == Some(engine) && place.follow.counts(ended.fate))
    }

    /// Asserts that every queue sits where it says, with its oldest task, and nothing else does.
    pub(crate) fn check(&self) {
        let mut n_seated = 0;
        for (place, queue) in &self.queues {
            let head = queue.keys.first().expect("an empty queue is kept");
            for seat in &queue.seats {
                assert!(self.heads[seat].contains(&(*head, Arc::clone(place))));
                n_seated += 1;
            }
        }
        assert_eq!(self.heads.values().map(BTreeSet::len).sum::<usize>(), n_seated);
        let in_flight = |task: &&Task| matches!(task.state, State::InFlight(_));
        assert_eq!(self.tasks.values().filter(in_flight).count(), self.n_in_flight);
        for (at, key) in &self.limits {
            assert_eq!(self.tasks[key].runs_until, Some(*at));
        }
    }
}
