//! The invariants of a cluster. `check` walks everything; it is for tests and simulations.

use std::collections::BTreeSet;

use crate::record::Queue;
use crate::scheduler::State;
use crate::{Cluster, Key};

impl Cluster {
    /// Checks every invariant.
    ///
    /// # Panics
    /// If one does not hold; that is a bug of this crate.
    pub fn check(&self) {
        self.records.check();
        self.check_engines();
        self.check_tasks();
        self.check_broadcasts();
    }

    /// Every open record is exactly one open task, one open request of one engine, or one open
    /// coalescing broadcast.
    fn check_engines(&self) {
        assert_eq!(self.by_uuid.len(), self.engines.len());
        let announced = || self.engines.values().filter(|engine| engine.announced);
        assert_eq!(announced().count(), self.n_announced);
        assert_eq!(announced().filter(|engine| engine.is_ours).count(), self.n_ours);
        assert_eq!(self.silent.len() + self.n_announced, self.engines.len());
        let mut direct = BTreeSet::new();
        for (id, engine) in &self.engines {
            assert_eq!(self.by_uuid.get(engine.uuid.as_bytes()), Some(id));
            assert!(!self.away.has(engine.uuid.as_bytes()), "engine {id} is here and away");
            assert!(*id < self.next_engine, "engine {id} has a number that is still to be given");
            for (key, _) in &engine.in_flight {
                let task = &self.scheduler.tasks[key];
                assert_eq!(task.state, State::InFlight(*id), "task {key} is on two engines");
            }
            let n_distinct =
                engine.in_flight.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len();
            assert_eq!(n_distinct, engine.in_flight.len(), "a task is twice on engine {id}");
            for key in &engine.direct {
                assert!(direct.insert(*key), "direct request {key} is on two engines");
            }
            for key in &engine.broadcasts {
                assert!(self.broadcasts[key].waiting.contains_key(id));
            }
        }
        for (key, record) in self.records.iter() {
            let is_known = match record.queue {
                Queue::Mux => direct.contains(&key),
                Queue::Task => self.scheduler.tasks.contains_key(&key),
                Queue::Broadcast if record.request.shared.is_some() => direct.contains(&key),
                Queue::Broadcast => self.broadcasts.contains_key(&key),
            };
            assert_eq!(is_known, record.is_open(), "{}: {:?}", record.msg_id, record.story);
        }
    }

    /// Every open task is in exactly the place its state says, and no engine idles beside a task it
    /// may run.
    fn check_tasks(&self) {
        let scheduler = &self.scheduler;
        scheduler.check();
        let mut queued: BTreeSet<Key> = BTreeSet::new();
        for (place, queue) in &scheduler.queues {
            assert_eq!(self.why_impossible(place), None, "tasks wait for what cannot come");
            for engine in self.engines.values().filter(|engine| engine.announced) {
                let is_idle = engine.load() == 0 && scheduler.allows(place, engine);
                assert!(!is_idle, "engine {} idles beside work", engine.id);
            }
            for key in &queue.keys {
                assert_eq!(scheduler.tasks[key].place, **place);
                assert!(queued.insert(*key), "task {key} waits twice");
            }
        }
        for (key, task) in &scheduler.tasks {
            let record = self.records.get(*key).expect("open tasks have records");
            assert!(record.is_open(), "{} has ended: {:?}", record.msg_id, record.story);
            assert_eq!(task.state == State::Queued, queued.contains(key));
            if let State::InFlight(id) = task.state {
                let engine = &self.engines[&id];
                assert!(engine.in_flight.iter().any(|(in_flight, _)| in_flight == key));
            }
            let timer = task.deadline.map(|deadline| (deadline, *key));
            assert!(timer.is_none_or(|timer| scheduler.timers.contains(&timer)));
        }
        for (at, key) in &scheduler.timers {
            assert_eq!(scheduler.tasks[key].deadline, Some(*at));
        }
    }

    fn check_broadcasts(&self) {
        for (key, broadcast) in &self.broadcasts {
            assert!(!broadcast.waiting.is_empty(), "a complete broadcast is kept");
            let record = self.records.get(*key).expect("open broadcasts have records");
            assert!(record.is_open(), "{} has ended: {:?}", record.msg_id, record.story);
            assert_eq!(record.msg_id, broadcast.msg_id);
            for id in broadcast.waiting.keys() {
                assert!(self.engines[id].broadcasts.contains(key));
            }
        }
    }
}
