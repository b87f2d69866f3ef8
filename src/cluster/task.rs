//! Load-balanced work: a task comes in, runs somewhere, perhaps again somewhere else, and ends
//! once.

use serde::Deserialize;
use serde_json::json;

use crate::dependency::{Dependency, Fate, Spec};
use crate::engine::Engine;
use crate::message::{ReplyMetadata, reply_type};
use crate::record::{Moment, Queue, Record};
use crate::scheduler::{Place, State, Task};
use crate::{Channel, Cluster, Effect, EngineId, Failure, Frames, Head, Key, Message, Millis};

/// The longest time a task may wait, in seconds: ten years. More is taken for "for ever".
const TIMEOUT_SECONDS_MAX: f64 = 315_360_000.0;

/// The metadata of a task request, as far as it decides.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Options {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    after: Option<Spec>,
    #[serde(default)]
    follow: Option<Spec>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default)]
    retries: Option<u32>,
    /// Of ours: how many seconds one attempt may run.
    #[serde(default)]
    time_limit: Option<f64>,
}

impl Options {
    pub(crate) fn task(self) -> Result<Task, Failure> {
        let read = |spec| Dependency::read(spec).map_err(Failure::value);
        let span = |seconds: Option<f64>| {
            let seconds =
                seconds.filter(|seconds| *seconds > 0.0 && *seconds < TIMEOUT_SECONDS_MAX);
            seconds.map(|seconds| Millis((seconds * 1000.0).ceil() as u64))
        };
        Ok(Task {
            state: State::Unmet,
            after: read(self.after)?,
            place: Place {
                targets: self.targets.unwrap_or_default().into_iter().collect(),
                avoid: [].into(),
                follow: read(self.follow)?,
            },
            timeout: span(self.timeout),
            deadline: None,
            retries: self.retries.unwrap_or(0),
            n_sent: 0,
            idle: None,
            time_limit: span(self.time_limit),
            runs_until: None,
        })
    }
}

impl Cluster {
    /// `[client, ..]` from a client: one task for some engine.
    pub(crate) fn task_request(&mut self, message: Message, head: Head, now: Millis) -> Option<()> {
        if message.ids.is_empty() {
            return None;
        }
        let options = serde_json::from_slice::<Options>(&message.metadata);
        if options.as_ref().is_err_and(|error| !error.is_data()) {
            return None;
        }
        if self.records.key_of(&head.msg_id).is_some() || self.scheduler.has_ended(&head.msg_id) {
            self.counts.duplicate += 1;
            return Some(());
        }
        if self.records.is_full(1, message.n_bytes()) {
            self.refuse_task(message, &head);
            return Some(());
        }
        let task = options.map_err(|error| Failure::value(error.to_string()));
        self.submit(message, head, task.and_then(Options::task), now);
        Some(())
    }

    /// Records a task and queues it, or ends it at once if it cannot run.
    pub(crate) fn submit(
        &mut self,
        message: Message,
        head: Head,
        task: Result<Task, Failure>,
        now: Millis,
    ) {
        let msg_id = head.msg_id.clone();
        let key = self.records.add(Record::new(head, Queue::Task, message));
        self.records.open_mut(key).tell(now, Moment::Submitted);
        let (task, refusal) = match task {
            Ok(task) => {
                let refusal = self.dependency_failure(&msg_id, &task);
                (task, refusal)
            }
            Err(failure) => {
                (Options::default().task().expect("no options are valid"), Some(failure))
            }
        };
        let is_ready = task.after.is_met(|id| self.scheduler.fate(id));
        self.scheduler.add(key, task);
        if let Some(failure) = refusal {
            self.fail_task(key, None, &failure, now);
        } else if is_ready {
            self.offer_task(key, now);
        } else {
            self.scheduler.start_timer(key, now);
            self.records.open_mut(key).tell(now, Moment::Waiting);
        }
    }

    /// `[engine, client, ..]` from an engine: the reply to the task, if that is still open there
    /// and the reply is of its present attempt.
    pub(crate) fn task_reply(&mut self, message: Message, now: Millis) -> Option<()> {
        if message.ids.len() < 2 {
            return None;
        }
        let msg_id = message.parent_id();
        let key = msg_id.as_ref().and_then(|id| self.records.key_of(id));
        let Some(id) = self.by_uuid.get(&message.ids[0]).copied() else {
            self.counts.late += 1;
            return Some(());
        };
        let engine = self.engines.get_mut(&id).expect("by_uuid and engines agree");
        let is_present = |key: &Key| {
            let sent = self.scheduler.tasks.get(key).map(|task| task.n_sent);
            let asked = self.records.get(*key).map_or(0, |record| record.request.ids.len());
            sent == Some(attempt(&message.ids, asked))
        };
        let at = key.filter(is_present).and_then(|key| {
            Some((key, engine.in_flight.iter().position(|(in_flight, _)| *in_flight == key)?))
        });
        let Some((key, at)) = at else {
            self.counts.late += 1;
            engine.abandoned.retain(|abandoned| Some(abandoned) != msg_id.as_ref());
            self.offer_engine(id, now);
            return Some(());
        };
        let (_, sent) = engine.in_flight.remove(at).expect("position was found above");
        engine.measure(self.settings.hwm, sent, now);
        engine.has_ended(key);
        let reply = ReplyMetadata::read(&message).unwrap_or_default();
        let could_run = reply.dependencies_met.unwrap_or(true);
        if !could_run || self.may_retry(key, &reply) {
            self.retry(key, id, could_run, now);
        } else {
            self.end_with_reply(key, id, &reply, message, now);
        }
        self.offer_engine(id, now);
        Some(())
    }

    fn end_with_reply(
        &mut self,
        key: Key,
        id: EngineId,
        reply: &ReplyMetadata,
        mut message: Message,
        now: Millis,
    ) {
        let engine = self.engines.get_mut(&id).expect("it replied just now");
        let record = self.records.open_mut(key);
        if !reply.is_aborted() {
            engine.note_completed(&record.msg_id);
        }
        let fate = if reply.is_ok() { Fate::Succeeded } else { Fate::Failed };
        let task = self.scheduler.end(key, &record.msg_id, fate, Some(id));
        let client = record.client_ids();
        self.records.finish(key, message.clone(), Moment::Replied(id), now);
        if let Some(mut ids) = client {
            ids.insert(1, std::mem::take(&mut message.ids[0]));
            message.ids = ids;
            let frames = message.join();
            self.effects.push(Effect::Forward { channel: Channel::ClientTask, frames });
        }
        self.pass_on_idle(task);
    }

    /// Ends the tasks that found no engine in time.
    pub(crate) fn expire_tasks(&mut self, now: Millis) {
        while let Some((at, key)) = self.scheduler.timers.first().copied() {
            if at > now {
                break;
            }
            let msg_id = self.records.open_mut(key).msg_id.clone();
            self.fail_task(key, None, &Failure::Timeout { msg_id }, now);
        }
    }

    /// Ends a task that waits here; one that is on an engine, or unknown, is left alone.
    pub(crate) fn abort_waiting(&mut self, msg_id: &str, now: Millis) {
        let Some(key) = self.records.key_of(msg_id) else { return };
        let state = self.scheduler.tasks.get(&key).map(|task| task.state);
        if matches!(state, Some(State::Unmet | State::Queued)) {
            self.fail_task(key, None, &Failure::Aborted, now);
        }
    }

    /// Takes the tasks of a lost engine back. The one it worked on has failed. The others only
    /// waited there, and move on.
    pub(crate) fn take_back(
        &mut self,
        engine: &Engine,
        at_work: Option<Key>,
        cause: &str,
        now: Millis,
    ) {
        for (key, _) in &engine.in_flight {
            let record = self.records.open_mut(*key);
            record.tell(now, Moment::Lost(engine.id, cause.to_owned()));
            let failure = Failure::EngineLost {
                engine: engine.id,
                uuid: engine.uuid.clone(),
                msg_id: record.msg_id.clone(),
                cause: cause.to_owned(),
            };
            self.scheduler.leave(*key);
            let task = self.scheduler.tasks.get_mut(key).expect("tasks in flight are open");
            let was_running = at_work == Some(*key);
            if was_running && task.retries == 0 {
                self.fail_task(*key, Some(engine.name()), &failure, now);
                continue;
            }
            task.retries -= u32::from(was_running);
            self.offer_task(*key, now);
        }
        for key in self.scheduler.waiting_for(&engine.uuid) {
            self.offer_task(key, now);
        }
    }

    /// Ends an open task with an error reply of our own; `at` is the engine that it ran on.
    pub(crate) fn fail_task(
        &mut self,
        key: Key,
        at: Option<(EngineId, String)>,
        failure: &Failure,
        now: Millis,
    ) {
        let msg_id = self.records.open_mut(key).msg_id.clone();
        let at_id = at.as_ref().map(|(id, _)| *id);
        let task = self.scheduler.end(key, &msg_id, Fate::Failed, at_id);
        self.end_with_failure(key, at, failure, now);
        self.pass_on_idle(task);
    }

    fn dependency_failure(&self, msg_id: &str, task: &Task) -> Option<Failure> {
        let fate = |id: &str| self.scheduler.fate(id);
        for dependency in [&task.after, &task.place.follow] {
            let is_known = |id: &str| {
                let key = self.records.key_of(id);
                self.scheduler.has_ended(id)
                    || key.is_some_and(|key| self.scheduler.tasks.contains_key(&key))
            };
            let unknown = |id: &&String| id.as_str() == msg_id || !is_known(id);
            if let Some(id) = dependency.ids.iter().find(unknown) {
                let why = format!("it depends on {id}, which is no earlier task");
                return Some(Failure::InvalidDependency { why });
            }
            if dependency.is_unreachable(fate) {
                let why = "it depends on tasks that ended otherwise".to_owned();
                return Some(Failure::ImpossibleDependency { why });
            }
        }
        None
    }

    fn may_retry(&self, key: Key, reply: &ReplyMetadata) -> bool {
        !reply.is_ok() && !reply.is_aborted() && self.scheduler.tasks[&key].retries > 0
    }

    /// Queues a task again after it failed, or could not run, on an engine. It goes to another one.
    /// If all have failed it and it has no timeout to wait for, it goes to any; if all have said
    /// that they cannot run it, it has failed: nobody should wait for ever.
    fn retry(&mut self, key: Key, engine: EngineId, could_run: bool, now: Millis) {
        self.scheduler.leave(key);
        let task = self.scheduler.tasks.get_mut(&key).expect("it was in flight just now");
        task.place.avoid.insert(engine);
        task.retries -= u32::from(could_run);
        let uuids = &task.place.targets;
        let is_left = |engine: &Engine| {
            let is_target = uuids.is_empty() || uuids.contains(&engine.uuid);
            engine.announced && is_target && !task.place.avoid.contains(&engine.id)
        };
        let waits_in_vain = task.timeout.is_none() && !self.engines.values().any(is_left);
        if waits_in_vain && could_run {
            task.place.avoid.clear();
        }
        self.records.open_mut(key).tell(now, Moment::Retried(engine));
        if waits_in_vain && !could_run {
            let why = "every engine has said that it does not meet what the task depends on";
            let failure = Failure::ImpossibleDependency { why: why.to_owned() };
            self.fail_task(key, None, &failure, now);
        } else {
            self.offer_task(key, now);
        }
    }

    fn refuse_task(&mut self, message: Message, head: &Head) {
        self.effects.push(Effect::Write {
            channel: Channel::ClientTask,
            ids: message.ids,
            msg_type: reply_type(&head.msg_type),
            parent: message.header,
            metadata: json!({"status": "error"}),
            content: Failure::QueueFull.content(),
            buffers: Vec::new(),
        });
    }
}

/// Which attempt a reply is of: the number behind the identities that the request had, else the
/// first.
fn attempt(ids: &Frames, n_asked: usize) -> usize {
    let tag = ids.get(n_asked + 1).and_then(|tag| std::str::from_utf8(tag).ok());
    tag.and_then(|tag| tag.parse().ok()).unwrap_or(1)
}
