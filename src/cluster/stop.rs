//! Work that is to end before it ends by itself: tasks that clients cancel, and tasks that have
//! run longer than they may. What waits here ends here; what runs is interrupted on its engine.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::hub::Answer;
use crate::hub_records::texts;
use crate::scheduler::State;
use crate::{Channel, Cluster, Effect, Failure, Frames, Key, Millis};

/// Stands where the identity of a client would be in what the controller itself asks of engines.
const CONTROLLER: &[u8] = b"prust-controller";

/// The number of the signal that interrupts a Python engine: SIGINT, sent by its nanny.
const SIGINT: i32 = 2;

impl Cluster {
    /// `cancel_request` on the registration port, which ipyparallel does not have: ends the named
    /// work, waiting or running. What runs answers by its engine, as interrupted.
    pub(crate) fn cancel(&mut self, content: &Value, now: Millis) -> Answer {
        let (mut aborted, mut interrupted, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for msg_id in texts(content, "msg_ids")? {
            let Some(key) = self.records.key_of(&msg_id) else {
                unknown.push(msg_id);
                continue;
            };
            if self.records.get(key).is_none_or(|record| !record.is_open()) {
                continue;
            }
            let state = self.scheduler.tasks.get(&key).map(|task| task.state);
            if matches!(state, Some(State::Unmet | State::Queued)) {
                self.fail_task(key, None, &Failure::Aborted, now);
                aborted.push(msg_id);
                continue;
            }
            let uuid = self.records.get(key).and_then(|record| record.engine.clone());
            let id = uuid.and_then(|uuid| self.by_uuid.get(uuid.as_bytes()).copied());
            let Some(engine) = id.and_then(|id| self.engines.get(&id)) else { continue };
            let is_running = engine.at_work(&self.records) == Some(key);
            let asked = interruption(engine, std::slice::from_ref(&msg_id), is_running);
            self.effects.extend(asked);
            interrupted.push(msg_id);
        }
        let reply = json!({
            "status": "ok", "aborted": aborted, "interrupted": interrupted, "unknown": unknown
        });
        Ok((reply, Frames::new()))
    }

    /// An engine has begun with a task: from now on its time runs.
    pub(crate) fn limit_begins(&mut self, key: Key, now: Millis) {
        let Some(task) = self.scheduler.tasks.get_mut(&key) else { return };
        if let (Some(limit), None) = (task.time_limit, task.runs_until) {
            task.runs_until = Some(now + limit);
            self.scheduler.limits.insert((now + limit, key));
        }
    }

    /// Ends the tasks that have run longer than they may. Their engines count as busy until they
    /// have said that they are not.
    pub(crate) fn stop_overdue(&mut self, now: Millis) {
        while let Some((at, key)) = self.scheduler.limits.first().copied() {
            if at > now {
                return;
            }
            let task = &self.scheduler.tasks[&key];
            let State::InFlight(id) = task.state else {
                unreachable!("limits are of running tasks")
            };
            let limit = task.time_limit.unwrap_or_default();
            let msg_id = self.records.open_mut(key).msg_id.clone();
            let engine = self.engines.get_mut(&id).expect("tasks are in flight on live engines");
            engine.in_flight.retain(|(in_flight, _)| *in_flight != key);
            engine.has_ended(key);
            engine.abandoned.push(msg_id.clone());
            self.effects.extend(interruption(engine, std::slice::from_ref(&msg_id), true));
            let failure = Failure::TimeLimit { msg_id, engine: id, limit };
            let at = Some(engine.name());
            self.fail_task(key, at, &failure, now);
        }
    }
}

/// Asks an engine to drop work that waits there, and to interrupt it if it runs.
pub(crate) fn interruption(engine: &Engine, msg_ids: &[String], is_running: bool) -> Vec<Effect> {
    let ask = |msg_type: &str, content: Value| Effect::Write {
        channel: Channel::EngineControl,
        ids: vec![engine.ident(), CONTROLLER.to_vec()],
        msg_type: msg_type.to_owned(),
        parent: Vec::new(),
        metadata: json!({}),
        content,
        buffers: Vec::new(),
    };
    let mut effects = vec![ask("abort_request", json!({"msg_ids": msg_ids}))];
    if engine.is_ours {
        // It knows what it runs, and interrupts nothing else.
        effects.push(ask("interrupt_request", json!({"msg_ids": msg_ids})));
    } else if is_running {
        effects.push(ask("signal_request", json!({"sig": SIGINT})));
    }
    effects
}

/// Whether a control reply answers the controller itself, and so nobody waits for it.
pub(crate) fn is_for_us(ids: &Frames) -> bool {
    ids.get(1).is_some_and(|id| id == CONTROLLER)
}
