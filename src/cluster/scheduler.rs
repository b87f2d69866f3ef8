//! The queues of the task scheduler: which tasks wait, for what, and which engine gets the next
//! one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::dependency::{Dependency, Fate};
use crate::engine::Engine;
use crate::record::{Moment, Record};
use crate::{Channel, Cluster, Effect, EngineId, Failure, Hwm, Key, Millis};

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
    fn has_room(&self, hwm: Hwm, now: Millis) -> bool {
        let is_slow = || {
            let sent = self.in_flight.front().map_or(now, |(_, sent)| *sent);
            now - sent.max(self.last_done) > SLOW_AFTER
        };
        let n_in_flight = self.in_flight.len();
        n_in_flight < self.limit && (hwm != Hwm::Auto || n_in_flight == 0 || !is_slow())
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
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Uuids; empty means anywhere.
    pub(crate) targets: BTreeSet<String>,
    /// Engines on which it failed or could not run.
    pub(crate) avoid: BTreeSet<EngineId>,
    pub(crate) follow: Dependency,
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
    pub(crate) n_sent: usize,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    fate: Fate,
    engine: Option<EngineId>,
}

#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    pub(crate) tasks: BTreeMap<Key, Task>,
    pub(crate) queues: BTreeMap<Place, BTreeSet<Key>>,
    pub(crate) timers: BTreeSet<(Millis, Key)>,
    /// Task -> open tasks that named it in `after` or `follow`; lookups only.
    dependents: HashMap<String, Vec<Key>>,
    /// Ended tasks; lookups only.
    ended: HashMap<String, Ended>,
    ended_order: VecDeque<String>,
    /// Tasks that ended and whose dependents were not looked at yet.
    unsettled: VecDeque<String>,
    n_assigned: u64,
    /// Whether any task was sent more than once.
    pub(crate) has_resent: bool,
}

impl Scheduler {
    pub(crate) fn next_timeout(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
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

    /// Takes an ended task out of everything and remembers how it ended.
    pub(crate) fn end(&mut self, key: Key, msg_id: &str, fate: Fate, engine: Option<EngineId>) {
        self.leave_queue(key);
        self.tasks.remove(&key).expect("only open tasks end");
        self.ended.insert(msg_id.to_owned(), Ended { fate, engine });
        self.ended_order.push_back(msg_id.to_owned());
        if self.ended_order.len() > FATES_MAX {
            let oldest = self.ended_order.pop_front().expect("it is longer than its limit");
            self.ended.remove(&oldest);
        }
        if self.dependents.contains_key(msg_id) {
            self.unsettled.push_back(msg_id.to_owned());
        }
    }

    pub(crate) fn enter_queue(&mut self, key: Key, now: Millis) {
        let task = self.tasks.get_mut(&key).expect("only open tasks are queued");
        task.state = State::Queued;
        match self.queues.get_mut(&task.place) {
            Some(queue) => queue.insert(key),
            None => self.queues.entry(task.place.clone()).or_default().insert(key),
        };
        self.start_timer(key, now);
    }

    pub(crate) fn start_timer(&mut self, key: Key, now: Millis) {
        let task = self.tasks.get_mut(&key).expect("only open tasks have timers");
        let Some(timeout) = task.timeout else { return };
        let deadline = *task.deadline.get_or_insert(now + timeout);
        self.timers.insert((deadline, key));
    }

    fn leave_queue(&mut self, key: Key) {
        let task = self.tasks.get_mut(&key).expect("only open tasks leave queues");
        if task.state == State::Queued {
            let queue = self.queues.get_mut(&task.place).expect("it was queued there");
            queue.remove(&key);
            if queue.is_empty() {
                self.queues.remove(&task.place);
            }
        }
        if let Some(deadline) = task.deadline.take() {
            self.timers.remove(&(deadline, key));
        }
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = Key> {
        let tasks = self.tasks.iter();
        tasks.filter(|(_, task)| !matches!(task.state, State::InFlight(_))).map(|(key, _)| *key)
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting().count()
    }

    /// Whether the engine may run tasks of this place. A task that follows others runs where they
    /// ran.
    pub(crate) fn allows(&self, place: &Place, engine: &Engine) -> bool {
        (place.targets.is_empty() || place.targets.contains(&engine.uuid))
            && !place.avoid.contains(&engine.id)
            && (place.follow.is_empty()
                || place.follow.quantify(|id| self.ran_on(place, id, engine)))
    }

    fn ran_on(&self, place: &Place, msg_id: &str, engine: &Engine) -> bool {
        let ended = self.ended.get(msg_id);
        ended
            .is_some_and(|ended| ended.engine == Some(engine.id) && place.follow.counts(ended.fate))
    }
}

impl Cluster {
    /// Says why no engine can ever run a task of this place; `None` as long as one can, or may
    /// come.
    pub(crate) fn why_impossible(&self, place: &Place) -> Option<String> {
        let scheduler = &self.scheduler;
        let live = || self.engines.values().filter(|engine| engine.announced);
        let open = |id: &String| scheduler.fate(id) == Fate::Open;
        let follow = &place.follow;
        if !follow.is_empty() {
            let allowed = |id: &String| {
                live().any(|engine| {
                    scheduler.ran_on(place, id, engine)
                        && !place.avoid.contains(&engine.id)
                        && (place.targets.is_empty() || place.targets.contains(&engine.uuid))
                })
            };
            let is_possible = if follow.all {
                let places: BTreeSet<_> = follow.ids.iter().filter(|id| !open(id)).collect();
                let first = |id: &&String| scheduler.ended.get(*id).map(|ended| ended.engine);
                let n_engines = places.iter().map(first).collect::<BTreeSet<_>>().len();
                n_engines <= 1 && places.iter().all(|id| allowed(id))
            } else {
                follow.ids.iter().any(|id| open(id) || allowed(id))
            };
            if !is_possible {
                return Some("no engine ran all the tasks it has to follow".to_owned());
            }
        }
        let targets = &place.targets;
        let is_left =
            |engine: &Engine| targets.contains(&engine.uuid) && !place.avoid.contains(&engine.id);
        let none_left = !targets.is_empty() && !live().any(is_left);
        none_left.then(|| "every engine it may run on is gone or has failed it".to_owned())
    }

    /// Gives waiting tasks to engines with room: the least loaded engine first, the oldest task
    /// first.
    pub(crate) fn assign(&mut self, now: Millis) {
        self.settle(now);
        while !self.scheduler.queues.is_empty() {
            let hwm = self.settings.hwm;
            let free = self.engines.values();
            let free = free.filter(|engine| engine.announced && engine.has_room(hwm, now));
            let mut free: Vec<_> =
                free.map(|engine| (engine.in_flight.len(), engine.last_used, engine.id)).collect();
            free.sort_unstable();
            let next = free.iter().find_map(|(_, _, id)| {
                let engine = &self.engines[id];
                let queues = self.scheduler.queues.iter();
                let open = queues.filter(|(place, _)| self.scheduler.allows(place, engine));
                open.filter_map(|(_, queue)| queue.first()).min().map(|key| (*key, *id))
            });
            let Some((key, id)) = next else { return };
            self.send_task(key, id, now);
        }
    }

    fn send_task(&mut self, key: Key, id: EngineId, now: Millis) {
        self.scheduler.leave_queue(key);
        self.scheduler.n_assigned += 1;
        let engine = self.engines.get_mut(&id).expect("assign chose a live engine");
        let was_idle = engine.in_flight.is_empty() && now - engine.last_done > IDLE_AFTER;
        if was_idle && self.settings.hwm == Hwm::Auto {
            engine.service_micros = None;
            engine.limit = 1;
        }
        engine.in_flight.push_back((key, now));
        engine.last_used = self.scheduler.n_assigned;
        let task = self.scheduler.tasks.get_mut(&key).expect("queued tasks are open");
        task.state = State::InFlight(id);
        task.n_sent += 1;
        self.scheduler.has_resent |= task.n_sent > 1;
        let record = self.records.open_mut(key);
        record.engine = Some(engine.uuid.clone());
        record.tell(now, Moment::Sent(id));
        let effect = task_effect(record, engine, task.n_sent, now);
        self.effects.push(effect);
    }

    /// Looks at the tasks that waited for tasks that have ended, until nothing more follows.
    fn settle(&mut self, now: Millis) {
        while let Some(msg_id) = self.scheduler.unsettled.pop_front() {
            for key in self.scheduler.dependents.remove(&msg_id).unwrap_or_default() {
                let scheduler = &self.scheduler;
                let Some(task) = scheduler.tasks.get(&key) else { continue };
                if matches!(task.state, State::InFlight(_)) {
                    continue;
                }
                let fate = |id: &str| scheduler.fate(id);
                let (after, follow) = (&task.after, &task.place.follow);
                let is_lost = after.is_unreachable(fate) || follow.is_unreachable(fate);
                let is_unmet = task.state == State::Unmet;
                let is_ready = is_unmet && after.is_met(fate);
                if is_lost {
                    let why = format!("it depends on {msg_id}, which ended otherwise");
                    self.fail_task(key, None, &Failure::ImpossibleDependency { why }, now);
                } else if is_ready || !is_unmet {
                    self.requeue(key, now);
                }
            }
        }
    }

    /// Puts a waiting task into the queue of its place, or fails it if no engine can ever run it.
    pub(crate) fn requeue(&mut self, key: Key, now: Millis) {
        let task = &self.scheduler.tasks[&key];
        if matches!(task.state, State::InFlight(_)) {
            return;
        }
        if let Some(why) = self.why_impossible(&task.place) {
            self.fail_task(key, None, &Failure::ImpossibleDependency { why }, now);
        } else {
            self.scheduler.enter_queue(key, now);
        }
    }
}

/// The first time a task is sent its frames go out as they came. The same frames must never reach
/// an engine twice (it would take them for a replay), so later attempts have the date of their own,
/// and a longer metadata frame should two be made in one millisecond.
fn task_effect(record: &Record, engine: &Engine, n_sent: usize, now: Millis) -> Effect {
    let mut message = record.request.clone();
    message.ids.insert(0, engine.ident());
    let channel = Channel::EngineTask;
    if n_sent == 1 && !message.signature.is_empty() {
        return Effect::Forward { channel, frames: message.join() };
    }
    message.metadata.extend(std::iter::repeat_n(b' ', n_sent - 1));
    Effect::Resign {
        channel,
        ids: message.ids,
        header: dated(&message.header, now),
        parent: message.parent,
        metadata: message.metadata,
        content: message.content,
        buffers: message.buffers,
    }
}

/// A header with another date; one that is no JSON object stays what it is.
fn dated(header: &[u8], now: Millis) -> Vec<u8> {
    let read = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(header);
    let Ok(mut fields) = read else { return header.to_vec() };
    fields.insert("date".to_owned(), crate::iso(now).into());
    serde_json::to_vec(&fields).unwrap_or_else(|_| header.to_vec())
}
