//! Direct work: requests for one engine (mux), and control messages. The engine's identity and the
//! client's change places; everything else is passed on untouched.

use serde::Deserialize;
use serde_json::json;

use crate::engine::Engine;
use crate::message::reply_type;
use crate::record::{Moment, Queue, Record};
use crate::stop::is_for_us;
use crate::{Channel, Cluster, Effect, EngineId, Failure, Head, Key, Message, Millis, iso};

impl Cluster {
    /// `[client, engine, ..]` from a client: passed on as `[engine, client, ..]`, and remembered if
    /// it is a request, so that it gets its one reply whatever becomes of the engine.
    pub(crate) fn direct_request(
        &mut self,
        mut message: Message,
        head: Head,
        now: Millis,
    ) -> Option<()> {
        if message.ids.len() < 2 {
            return None;
        }
        message.ids.swap(0, 1);
        let is_request = head.msg_type.ends_with("_request");
        let Some(engine) = self.engine_of(&message.ids[0]) else {
            if is_request {
                let uuid = String::from_utf8_lossy(&message.ids[0]).into_owned();
                self.refuse_direct(&message, &head, &Failure::NoSuchEngine { uuid }, now);
            }
            return Some(());
        };
        let id = engine.id;
        if is_request {
            if self.records.key_of(&head.msg_id).is_some() {
                self.counts.duplicate += 1;
                return Some(());
            }
            if self.records.is_full(1, message.n_bytes()) {
                self.refuse_direct(&message, &head, &Failure::QueueFull, now);
                return Some(());
            }
            let uuid = engine.uuid.clone();
            let record = Record::new(head, Queue::Mux, message.clone());
            let key = self.records.add(record);
            let record = self.records.open_mut(key);
            record.engine = Some(uuid);
            record.tell(now, Moment::Submitted);
            record.tell(now, Moment::Sent(id));
            self.engines.get_mut(&id).expect("looked up above").direct.insert(key);
        }
        let frames = message.join();
        self.effects.push(Effect::Forward { channel: Channel::EngineMux, frames });
        Some(())
    }

    /// `[engine, client, ..]` from an engine: passed on as `[client, engine, ..]` if the request is
    /// still open. A second reply, or one that comes after the engine was given up, is dropped.
    pub(crate) fn direct_reply(
        &mut self,
        mut message: Message,
        head: &Head,
        now: Millis,
    ) -> Option<()> {
        if message.ids.len() < 2 {
            return None;
        }
        if head.msg_type.ends_with("_reply") {
            let key = message.parent_id().and_then(|id| self.records.key_of(&id));
            let id = self.by_uuid.get(&message.ids[0]).copied();
            let engine = id.and_then(|id| self.engines.get_mut(&id));
            let (Some(key), Some(engine)) = (key, engine) else {
                self.counts.late += 1;
                return Some(());
            };
            let is_direct = self.records.get(key).is_some_and(|of| of.queue == Queue::Mux);
            if !is_direct || !engine.direct.remove(&key) {
                self.counts.late += 1;
                return Some(());
            }
            engine.has_ended(key);
            engine.note_completed(&self.records.open_mut(key).msg_id);
            let moment = Moment::Replied(engine.id);
            self.records.finish(key, message.clone(), moment, now);
        }
        message.ids.swap(0, 1);
        let frames = message.join();
        self.effects.push(Effect::Forward { channel: Channel::ClientMux, frames });
        Some(())
    }

    /// A control message for one engine. An abort also ends the named tasks that still wait here.
    pub(crate) fn control_request(
        &mut self,
        mut message: Message,
        head: &Head,
        now: Millis,
    ) -> Option<()> {
        #[derive(Deserialize)]
        struct Abort {
            #[serde(default)]
            msg_ids: Vec<String>,
        }
        if message.ids.len() < 2 {
            return None;
        }
        if head.msg_type == "abort_request" {
            let abort: Abort = serde_json::from_slice(&message.content).ok()?;
            for msg_id in &abort.msg_ids {
                self.abort_waiting(msg_id, now);
            }
        }
        message.ids.swap(0, 1);
        if self.engine_of(&message.ids[0]).is_some() {
            let frames = message.join();
            self.effects.push(Effect::Forward { channel: Channel::EngineControl, frames });
        } else {
            let uuid = String::from_utf8_lossy(&message.ids[0]).into_owned();
            message.ids.swap(0, 1);
            let content = Failure::NoSuchEngine { uuid }.content();
            self.effects.push(Effect::Write {
                channel: Channel::ClientControl,
                ids: message.ids,
                msg_type: reply_type(&head.msg_type),
                parent: message.header,
                metadata: json!({}),
                content,
                buffers: Vec::new(),
            });
        }
        Some(())
    }

    pub(crate) fn control_reply(&mut self, mut message: Message) -> Option<()> {
        if message.ids.len() < 2 {
            return None;
        }
        if is_for_us(&message.ids) {
            return Some(());
        }
        message.ids.swap(0, 1);
        let frames = message.join();
        self.effects.push(Effect::Forward { channel: Channel::ClientControl, frames });
        Some(())
    }

    /// Answers a direct request for an engine that was lost.
    pub(crate) fn fail_direct(&mut self, key: Key, engine: &Engine, cause: &str, now: Millis) {
        let record = self.records.open_mut(key);
        record.tell(now, Moment::Lost(engine.id, cause.to_owned()));
        let failure = Failure::EngineLost {
            engine: engine.id,
            uuid: engine.uuid.clone(),
            msg_id: record.msg_id.clone(),
            cause: cause.to_owned(),
        };
        self.end_with_failure(key, Some(engine.name()), &failure, now);
    }

    /// Ends an open record with an error reply of our own, and sends that to its client.
    pub(crate) fn end_with_failure(
        &mut self,
        key: Key,
        at: Option<(EngineId, String)>,
        failure: &Failure,
        now: Millis,
    ) {
        let record = self.records.open_mut(key);
        let msg_type = reply_type(&record.msg_type);
        let client = record.client_ids();
        let parent = record.request.header.clone();
        let mut metadata = json!({"status": failure.status(), "date": iso(now)});
        if let Some((id, uuid)) = at {
            metadata["engine"] = json!(uuid);
            metadata["engine_id"] = json!(id);
        }
        let channel = match record.queue {
            Queue::Mux => Channel::ClientMux,
            Queue::Task => Channel::ClientTask,
            Queue::Broadcast => {
                metadata["engine"] = json!(record.engine);
                metadata["is_broadcast"] = json!(true);
                metadata["is_coalescing"] = json!(false);
                metadata["original_msg_id"] = json!(record.request.shared);
                Channel::ClientBroadcast
            }
        };
        let content = failure.content();
        let header = json!({"msg_type": msg_type, "msg_id": "", "date": iso(now)});
        let reply = Message {
            ids: Vec::new(),
            signature: Vec::new(),
            header: header.to_string().into_bytes(),
            parent: parent.clone(),
            metadata: metadata.to_string().into_bytes(),
            content: content.to_string().into_bytes(),
            buffers: Vec::new(),
        };
        self.records.finish(key, reply, Moment::Failed(failure.clone()), now);
        if let Some(ids) = client {
            let buffers = Vec::new();
            self.effects.push(Effect::Write {
                channel,
                ids,
                msg_type,
                parent,
                metadata,
                content,
                buffers,
            });
        }
    }

    fn refuse_direct(&mut self, message: &Message, head: &Head, failure: &Failure, now: Millis) {
        let mut ids = message.ids.clone();
        ids.swap(0, 1);
        self.effects.push(Effect::Write {
            channel: Channel::ClientMux,
            ids,
            msg_type: reply_type(&head.msg_type),
            parent: message.header.clone(),
            metadata: json!({"status": failure.status(), "date": iso(now)}),
            content: failure.content(),
            buffers: Vec::new(),
        });
    }
}
