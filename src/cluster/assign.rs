//! Tasks meet engines: a task that becomes ready is offered to the engines with room, an engine
//! that gets room is offered the oldest task it may run. Between two events no engine with room
//! stands beside a task it may run, so each event looks only at what it has changed.

use std::collections::BTreeSet;

use crate::dependency::Fate;
use crate::engine::Engine;
use crate::record::{Moment, Record};
use crate::scheduler::{Place, Seat, State};
use crate::{Channel, Cluster, Effect, EngineId, Failure, Key, Millis};

impl Cluster {
    /// Offers a waiting task to the engines with room; it waits if there is none, and fails if
    /// there can never be one.
    pub(crate) fn offer_task(&mut self, key: Key, now: Millis) {
        let task = &self.scheduler.tasks[&key];
        if matches!(task.state, State::InFlight(_)) {
            return;
        }
        if let Some(why) = self.why_impossible(&task.place) {
            return self.fail_task(key, None, &Failure::ImpossibleDependency { why }, now);
        }
        let seats = self.seats_of(&task.place);
        match self.engine_for(key, &seats, now) {
            Some(id) => self.send_task(key, id, now),
            None => self.scheduler.enter(key, seats, now),
        }
    }

    /// Gives an engine the oldest tasks it may run, as long as it has room.
    pub(crate) fn offer_engine(&mut self, id: EngineId, now: Millis) {
        loop {
            let Some(engine) = self.engines.get(&id) else { return };
            let rank = engine.rank().filter(|_| !engine.is_slow(self.settings.hwm, now));
            self.scheduler.free.set(id, rank);
            if rank.is_none() {
                return;
            }
            let Some(key) = self.scheduler.next_for(engine) else { return };
            self.send_task(key, id, now);
        }
    }

    /// Offers an engine that has come back the tasks that follow what it ran before: while it was
    /// away, nobody knew that they may run there.
    pub(crate) fn offer_followers(&mut self, id: EngineId, now: Millis) {
        let scheduler = &self.scheduler;
        let ran_there =
            |task: &String| scheduler.ended.get(task).is_some_and(|ended| ended.engine == Some(id));
        let queues = scheduler.queues.iter();
        let queues = queues.filter(|(place, _)| place.follow.ids.iter().any(ran_there));
        let mut keys: Vec<Key> = queues.flat_map(|(_, queue)| queue.keys.iter().copied()).collect();
        keys.sort_unstable();
        for key in keys {
            self.offer_task(key, now);
        }
    }

    /// Looks at the tasks that waited for tasks that have ended, until nothing more follows.
    pub(crate) fn settle(&mut self, now: Millis) {
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
                    self.offer_task(key, now);
                }
            }
        }
    }

    /// Says why no engine can ever run a task of this place; `None` as long as one can, or may
    /// come.
    pub(crate) fn why_impossible(&self, place: &Place) -> Option<String> {
        let scheduler = &self.scheduler;
        let open = |id: &String| scheduler.fate(id) == Fate::Open;
        let ran_at = |id: &String| scheduler.ended.get(id).and_then(|ended| ended.engine);
        let follow = &place.follow;
        if !follow.is_empty() {
            let allowed = |id: &String| {
                let engine = ran_at(id).and_then(|engine| self.announced(engine));
                engine.is_some_and(|engine| {
                    scheduler.ran_on(place, id, engine.id)
                        && !place.avoid.contains(&engine.id)
                        && (place.targets.is_empty() || place.targets.contains(&engine.uuid))
                })
            };
            let is_possible = if follow.all {
                let ended: BTreeSet<_> = follow.ids.iter().filter(|id| !open(id)).collect();
                let n_engines = ended.iter().map(|id| ran_at(id)).collect::<BTreeSet<_>>().len();
                n_engines <= 1 && ended.iter().all(|id| allowed(id))
            } else {
                follow.ids.iter().any(|id| open(id) || allowed(id))
            };
            if !is_possible {
                return Some("no engine ran all the tasks it has to follow".to_owned());
            }
        }
        let is_left = |uuid: &String| {
            let id = self.by_uuid.get(uuid.as_bytes());
            id.is_some_and(|id| !place.avoid.contains(id) && self.announced(*id).is_some())
        };
        let none_left = !place.targets.is_empty() && !place.targets.iter().any(is_left);
        none_left.then(|| "every engine it may run on is gone or has failed it".to_owned())
    }

    pub(crate) fn announced(&self, id: EngineId) -> Option<&Engine> {
        self.engines.get(&id).filter(|engine| engine.announced)
    }

    /// From where tasks of this place are called: by its engines, as far as they are known. What
    /// follows others is called by every engine that any of them ran on.
    fn seats_of(&self, place: &Place) -> Vec<Seat> {
        if place.targets.is_empty() && place.follow.is_empty() {
            return vec![Seat::Any];
        }
        let ended = place.follow.ids.iter().filter_map(|id| self.scheduler.ended.get(id));
        let ran_at = ended.filter_map(|ended| self.engines.get(&ended.engine?));
        let uuids: BTreeSet<&String> =
            place.targets.iter().chain(ran_at.map(|engine| &engine.uuid)).collect();
        uuids.into_iter().map(|uuid| Seat::One(uuid.clone())).collect()
    }

    /// Chooses an engine with room for a task, by the scheme.
    fn engine_for(&mut self, key: Key, seats: &[Seat], now: Millis) -> Option<EngineId> {
        let Self { scheduler, engines, by_uuid, settings, .. } = self;
        loop {
            let place = &scheduler.tasks[&key].place;
            let id = if seats == [Seat::Any] {
                scheduler.free.choose(|id| !place.avoid.contains(&id))?
            } else {
                let named = seats.iter().filter_map(|seat| match seat {
                    Seat::Any => None,
                    Seat::One(uuid) => engines.get(by_uuid.get(uuid.as_bytes())?),
                });
                let allowed = named.filter(|engine| scheduler.allows(place, engine));
                let ids: Vec<_> = allowed.map(|engine| engine.id).collect();
                scheduler.free.choose_of(ids.into_iter())?
            };
            if !engines[&id].is_slow(settings.hwm, now) {
                return Some(id);
            }
            // It comes back with its next reply.
            scheduler.free.set(id, None);
        }
    }

    fn send_task(&mut self, key: Key, id: EngineId, now: Millis) {
        let Self { scheduler, engines, records, .. } = self;
        scheduler.leave(key);
        scheduler.n_in_flight += 1;
        scheduler.n_assigned += 1;
        let engine = engines.get_mut(&id).expect("only live engines are chosen");
        engine.wake(self.settings.hwm, now);
        engine.in_flight.push_back((key, now));
        engine.last_used = scheduler.n_assigned;
        scheduler.free.set(id, engine.rank());
        let task = scheduler.tasks.get_mut(&key).expect("waiting tasks are open");
        task.state = State::InFlight(id);
        task.n_sent += 1;
        task.idle = None;
        scheduler.has_resent |= task.n_sent > 1;
        let record = records.open_mut(key);
        record.engine = Some(engine.uuid.clone());
        record.tell(now, Moment::Sent(id));
        records.changes.note(key);
        let record = records.open_mut(key);
        let effect = task_effect(record, engine, task.n_sent, now);
        self.effects.push(effect);
    }
}

/// The first time a task is sent its frames go out as they came. The same frames must never reach
/// an engine twice (it would take them for a replay), so later attempts have the date of their own,
/// and a longer metadata frame should two be made in one millisecond. They also carry their number
/// behind the client's identity: engines give all identities back, and so say which attempt it is
/// that they answer.
fn task_effect(record: &Record, engine: &Engine, n_sent: usize, now: Millis) -> Effect {
    let mut message = record.request.message();
    message.ids.insert(0, engine.ident());
    let channel = Channel::EngineTask;
    if n_sent == 1 && !message.signature.is_empty() {
        return Effect::Forward { channel, frames: message.join() };
    }
    if n_sent > 1 {
        message.ids.push(n_sent.to_string().into_bytes());
        message.metadata.extend(std::iter::repeat_n(b' ', n_sent - 1));
    }
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
