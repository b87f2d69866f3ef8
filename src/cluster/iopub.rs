//! What engines publish: passed on to every client as it came, and kept in the task's record. A
//! `shutdown_reply` among it ends the engine.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::record::{Record, append_bounded};
use crate::scheduler::{State, Task};
use crate::{Channel, Cluster, Effect, EngineId, Head, Key, Message, Millis};

/// Contents of results and errors up to this size are kept in records.
const KEPT_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Stream {
    name: String,
    text: String,
}

#[derive(Deserialize)]
struct Status {
    execution_state: String,
}

#[derive(Deserialize)]
struct Input {
    code: String,
}

/// What a status message says its sender does.
fn state(message: &Message) -> Option<String> {
    let status = serde_json::from_slice::<Status>(&message.content);
    status.ok().map(|status| status.execution_state)
}

impl Cluster {
    /// `[topic, ..]` from an engine.
    pub(crate) fn published(&mut self, message: Message, head: &Head, now: Millis) -> Option<()> {
        if message.ids.is_empty() {
            return None;
        }
        let may_be_late = self.scheduler.has_resent && head.msg_type != "shutdown_reply";
        if may_be_late && self.is_of_lost_attempt(&message) {
            self.counts.late += 1;
            return Some(());
        }
        match head.msg_type.as_str() {
            "shutdown_reply" => {
                let id = self.by_uuid.get(head.session.as_bytes()).copied();
                self.forward_published(message);
                if let Some(id) = id {
                    self.lose(id, "it was shut down", now);
                }
                return Some(());
            }
            "status" => match state(&message).as_deref() {
                Some("busy") => self.note_busy(&message, now),
                Some("idle") => {
                    self.note_idle(message);
                    return Some(());
                }
                _ => {}
            },
            "stream" | "error" | "execute_input" | "execute_result" => {
                self.keep(&message, head, now);
            }
            _ => {}
        }
        self.forward_published(message);
        Some(())
    }

    /// Whether it is about a task that was given to another engine meanwhile, and comes from the
    /// one before: `engine.3.stdout` is what engine 3 prints.
    fn is_of_lost_attempt(&self, message: &Message) -> bool {
        let topic = message.ids.first().and_then(|topic| std::str::from_utf8(topic).ok());
        let from = topic.and_then(|topic| topic.strip_prefix("engine.")?.split('.').next());
        let from = from.and_then(|id| id.parse::<EngineId>().ok());
        let key = message.parent_id().and_then(|id| self.records.key_of(&id));
        let record = key.and_then(|key| self.records.get(key));
        let sent = record.and_then(Record::last_sent);
        matches!((from, sent), (Some(from), Some(sent)) if from != sent)
    }

    /// Passes on that there is no more output of a task. Clients let go of a task that has its
    /// reply and whose output has ended (ipyparallel's do), so of one that may be tried again they
    /// hear it once: when it has its last reply, and from the attempt that gave that.
    fn note_idle(&mut self, message: Message) {
        let key = message.parent_id().and_then(|id| self.records.key_of(&id));
        let task = key.and_then(|key| self.scheduler.tasks.get_mut(&key));
        match task.filter(|task| task.retries > 0 || task.n_sent > 1) {
            None => self.forward_published(message),
            Some(task) if matches!(task.state, State::InFlight(_)) => {
                task.idle = Some(Box::new(message));
            }
            Some(_) => {}
        }
    }

    /// Passes on what [`Cluster::note_idle`] held back of a task that has ended.
    pub(crate) fn pass_on_idle(&mut self, ended: Task) {
        if let Some(idle) = ended.idle {
            self.forward_published(*idle);
        }
    }

    /// Learns what an engine works on, should it be lost.
    fn note_busy(&mut self, message: &Message, now: Millis) {
        let Some(key) = message.parent_id().and_then(|id| self.records.key_of(&id)) else { return };
        let uuid = self.records.get(key).and_then(|record| record.engine.as_ref());
        let id = uuid.and_then(|uuid| self.by_uuid.get(uuid.as_bytes()));
        if let Some(engine) = id.and_then(|id| self.engines.get_mut(id)) {
            let is_task = engine.in_flight.iter().any(|(in_flight, _)| *in_flight == key);
            if let Some(task) = self.scheduler.tasks.get_mut(&key) {
                // What is held back is of an attempt before, at the same engine.
                task.idle = None;
            }
            if is_task || engine.direct.contains(&key) {
                engine.busy = Some(key);
                if is_task {
                    self.limit_begins(key, now);
                }
            }
        }
    }

    /// Finds the record that output belongs to. Engines know their copy of a coalescing broadcast
    /// by a message id of its own, which ends in the engine's uuid: the session of what it
    /// publishes.
    fn key_of_output(&self, parent_id: &str, session: &str) -> Option<Key> {
        self.records.key_of(parent_id).or_else(|| {
            let original = parent_id.strip_suffix(session)?.strip_suffix('_')?;
            let key = self.records.key_of(original)?;
            self.broadcasts_as_one(key).then_some(key)
        })
    }

    fn forward_published(&mut self, message: Message) {
        let frames = message.join();
        self.effects.push(Effect::Forward { channel: Channel::ClientIopub, frames });
    }

    /// Keeps output in the record of the task it belongs to. The request always came through here
    /// first, so output of an unknown task belongs to none that is remembered.
    fn keep(&mut self, message: &Message, head: &Head, now: Millis) {
        let key = message.parent_id().and_then(|id| self.key_of_output(&id, &head.session));
        let Some(key) = key else { return };
        let content = &message.content;
        let kept = || {
            let is_small = content.len() <= KEPT_BYTES_MAX;
            is_small.then(|| serde_json::from_slice::<&RawValue>(content).ok()).flatten()
        };
        match head.msg_type.as_str() {
            "stream" => {
                let Ok(stream) = serde_json::from_slice::<Stream>(content) else { return };
                self.records.change(key, now, |record| match stream.name.as_str() {
                    "stdout" => append_bounded(&mut record.stdout, &stream.text),
                    "stderr" => append_bounded(&mut record.stderr, &stream.text),
                    _ => {}
                });
            }
            "execute_input" => {
                let Ok(input) = serde_json::from_slice::<Input>(content) else { return };
                if input.code.len() <= KEPT_BYTES_MAX {
                    self.records.change(key, now, |record| record.execute_input = Some(input.code));
                }
            }
            "error" => {
                let error = kept().map(|raw| raw.get().as_bytes().to_vec());
                self.records.change(key, now, |record| record.error = error);
            }
            _ => {
                let result = kept().map(|raw| raw.get().as_bytes().to_vec());
                self.records.change(key, now, |record| record.execute_result = result);
            }
        }
    }
}
