//! Broadcast work: one message for many engines, at depth 0: one root that is the only leaf.
//! Replies come back one by one, each for a record of its own, or coalesced into one, for the one
//! record of the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::message::{ReplyMetadata, reply_type};
use crate::record::{Moment, Queue, Record};
use crate::request::Request;
use crate::{Channel, Cluster, Effect, EngineId, Failure, Frames, Head, Key, Message, Millis, iso};

/// A coalescing broadcast of which replies are still missing.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) msg_id: String,
    /// The header of the request, as the client sent it.
    header: Map<String, Value>,
    targets: Vec<(String, Value)>,
    /// Engines whose reply is missing.
    pub(crate) waiting: BTreeMap<EngineId, String>,
    buffers: BTreeMap<String, Frames>,
    /// What becomes the coalesced reply: the first error, else the last reply.
    answer: Option<(bool, Message)>,
}

#[derive(Deserialize)]
struct Metadata {
    targets: Vec<(String, Value)>,
    #[serde(default)]
    is_coalescing: bool,
}

/// A broadcast that was just read.
struct Asked {
    head: Head,
    header: Map<String, Value>,
    targets: Vec<(String, Value)>,
    request: Request,
}

impl Cluster {
    /// `[client, ..]` from a client: one copy for each engine named in the metadata, each under a
    /// message id of its own.
    pub(crate) fn broadcast_request(
        &mut self,
        mut message: Message,
        head: Head,
        now: Millis,
    ) -> Option<()> {
        let metadata: Map<String, Value> = serde_json::from_slice(&message.metadata).ok()?;
        let mut metadata = Value::Object(metadata);
        let header: Map<String, Value> = serde_json::from_slice(&message.header).ok()?;
        let Metadata { mut targets, is_coalescing } = Metadata::deserialize(&metadata).ok()?;
        if message.ids.is_empty() {
            return None;
        }
        let mut named = BTreeSet::new();
        targets.retain(|(uuid, _)| named.insert(uuid.clone()));
        let is_known = |msg_id: &str| self.records.key_of(msg_id).is_some();
        let is_child_known = |(uuid, _): &(String, _)| is_known(&child_id(&head.msg_id, uuid));
        let is_shared = self.records.is_shared(&head.msg_id);
        if is_shared || is_known(&head.msg_id) || targets.iter().any(is_child_known) {
            self.counts.duplicate += 1;
            return Some(());
        }
        let n_records = if is_coalescing { 1 } else { targets.len() };
        let is_full = self.records.is_full(n_records, message.n_bytes());
        metadata["original_msg_id"] = json!(head.msg_id);
        message.metadata = metadata.to_string().into_bytes();
        // What is sent on is signed anew.
        message.signature = Vec::new();
        let asked = Asked { head, header, targets, request: message.into() };
        match (is_full, is_coalescing) {
            (true, _) => self.refuse_broadcast(asked, is_coalescing),
            (false, true) => self.broadcast_as_one(asked, now),
            (false, false) => self.broadcast_each(asked, now),
        }
        Some(())
    }

    /// One record for each engine.
    fn broadcast_each(&mut self, asked: Asked, now: Millis) {
        let Asked { head, header, targets, request } = asked;
        let original: Arc<str> = head.msg_id.as_str().into();
        for (uuid, _) in targets {
            let msg_id = child_id(&original, &uuid);
            let request = Request {
                ids: request.ids.clone(),
                signature: Vec::new(),
                header: with_msg_id(&header, &msg_id),
                body: Arc::clone(&request.body),
                shared: Some(Arc::clone(&original)),
            };
            let id = self.by_uuid.get(uuid.as_bytes()).copied();
            let head = Head { msg_id, ..head.clone() };
            let key = self.records.add(Record::new(head, Queue::Broadcast, request));
            let record = self.records.open_mut(key);
            record.engine = Some(uuid.clone());
            record.tell(now, Moment::Submitted);
            let Some(id) = id else {
                self.end_with_failure(key, None, &Failure::NoSuchEngine { uuid }, now);
                continue;
            };
            record.tell(now, Moment::Sent(id));
            let engine = self.engines.get_mut(&id).expect("by_uuid and engines agree");
            engine.direct.insert(key);
            self.effects.push(copy_of(&record.request, record.request.header.clone(), engine));
        }
    }

    /// One record for all engines.
    fn broadcast_as_one(&mut self, asked: Asked, now: Millis) {
        let Asked { head, header, targets, request } = asked;
        if targets.is_empty() {
            // There is nobody to speak.
            return;
        }
        let mut broadcast = Broadcast {
            msg_id: head.msg_id.clone(),
            header,
            targets,
            waiting: BTreeMap::new(),
            buffers: BTreeMap::new(),
            answer: None,
        };
        let key = self.records.add(Record::new(head, Queue::Broadcast, request));
        let record = self.records.open_mut(key);
        record.tell(now, Moment::Submitted);
        let mut unknown = Vec::new();
        for (uuid, _) in &broadcast.targets {
            let Some(id) = self.by_uuid.get(uuid.as_bytes()).copied() else {
                unknown.push(uuid.clone());
                continue;
            };
            record.tell(now, Moment::Sent(id));
            broadcast.waiting.insert(id, uuid.clone());
            let engine = self.engines.get_mut(&id).expect("by_uuid and engines agree");
            engine.broadcasts.insert(key);
            let header = with_msg_id(&broadcast.header, &child_id(&broadcast.msg_id, uuid));
            self.effects.push(copy_of(&record.request, header, engine));
        }
        self.broadcasts.insert(key, broadcast);
        for uuid in unknown.iter().cloned() {
            self.fail_copy(key, &Failure::NoSuchEngine { uuid }, now);
        }
        if let Some(uuid) = unknown.pop() {
            self.copy_ended(key, Moment::Failed(Failure::NoSuchEngine { uuid }), now);
        }
    }

    /// `[engine, client, ..]` from an engine: one reply to one copy.
    pub(crate) fn broadcast_reply(&mut self, mut message: Message, now: Millis) -> Option<()> {
        let metadata = ReplyMetadata::read(&message)?;
        if message.ids.len() < 2 {
            return None;
        }
        let uuid = message.ids.remove(0);
        let child = message.parent_id().and_then(|id| self.records.key_of(&id));
        let original = metadata.original_msg_id.as_ref();
        let original = original.and_then(|original| self.records.key_of(original));
        let id = self.by_uuid.get(&uuid).copied();
        let Some(engine) = id.and_then(|id| self.engines.get_mut(&id)) else {
            self.counts.late += 1;
            return Some(());
        };
        let of = |key: &Key| self.records.get(*key).map(|record| record.queue);
        let child = child.filter(|key| of(key) == Some(Queue::Broadcast));
        if let Some(key) = child.filter(|key| engine.direct.remove(key)) {
            engine.has_ended(key);
            engine.note_completed(&self.records.open_mut(key).msg_id);
            let moment = Moment::Replied(engine.id);
            self.records.finish(key, message.clone(), moment, now);
            let frames = message.join();
            self.effects.push(Effect::Forward { channel: Channel::ClientBroadcast, frames });
            return Some(());
        }
        let Some(key) = original.filter(|key| engine.broadcasts.remove(key)) else {
            self.counts.late += 1;
            return Some(());
        };
        let broadcast = self.broadcasts.get_mut(&key).expect("engines list open broadcasts");
        engine.note_completed(&broadcast.msg_id);
        let uuid = broadcast.waiting.remove(&engine.id).expect("engines list open broadcasts");
        broadcast.buffers.insert(uuid, std::mem::take(&mut message.buffers));
        broadcast.keep_answer(metadata.is_ok(), message);
        let moment = Moment::Replied(engine.id);
        self.copy_ended(key, moment, now);
        Some(())
    }

    /// Answers the copy of a coalescing broadcast that was on a lost engine.
    pub(crate) fn fail_broadcast_copy(
        &mut self,
        key: Key,
        engine: &Engine,
        cause: &str,
        now: Millis,
    ) {
        let broadcast = self.broadcasts.get_mut(&key).expect("engines list open broadcasts");
        broadcast.waiting.remove(&engine.id);
        let failure = Failure::EngineLost {
            engine: engine.id,
            uuid: engine.uuid.clone(),
            msg_id: broadcast.msg_id.clone(),
            cause: cause.to_owned(),
        };
        self.fail_copy(key, &failure, now);
        self.copy_ended(key, Moment::Lost(engine.id, cause.to_owned()), now);
    }

    /// Answers one copy with an error of ours. The whole is answered once, when the other copies
    /// have come back.
    fn fail_copy(&mut self, key: Key, failure: &Failure, now: Millis) {
        let (Failure::NoSuchEngine { uuid } | Failure::EngineLost { uuid, .. }) = failure else {
            unreachable!("copies fail with their engines")
        };
        let broadcast = self.broadcasts.get_mut(&key).expect("the caller holds an open broadcast");
        let record = self.records.open_mut(key);
        let metadata = json!({
            "status": "error", "engine": uuid, "date": iso(now), "is_broadcast": true,
            "is_coalescing": true, "original_msg_id": broadcast.msg_id
        });
        let child = child_id(&broadcast.msg_id, uuid);
        let header = json!({
            "msg_id": child, "msg_type": reply_type(&record.msg_type), "username": "prust",
            "session": self.settings.session, "date": iso(now), "version": "5.4"
        });
        let answer = Message {
            ids: record.request.ids.clone(),
            signature: Vec::new(),
            header: header.to_string().into_bytes(),
            parent: with_msg_id(&broadcast.header, &child),
            metadata: metadata.to_string().into_bytes(),
            content: failure.content().to_string().into_bytes(),
            buffers: Vec::new(),
        };
        broadcast.keep_answer(false, answer);
    }

    /// One engine is done with a coalescing broadcast. After the last one it ends, with the one
    /// reply to it.
    fn copy_ended(&mut self, key: Key, moment: Moment, now: Millis) {
        let record = self.records.open_mut(key);
        if !self.broadcasts[&key].waiting.is_empty() {
            return record.tell(now, moment);
        }
        let broadcast = self.broadcasts.remove(&key).expect("looked at above");
        let mut reply = broadcast.coalesced();
        reply.ids.clone_from(&record.request.ids);
        self.records.finish(key, reply.clone(), moment, now);
        let Message { ids, header, parent, metadata, content, buffers, .. } = reply;
        let channel = Channel::ClientBroadcast;
        let effect = Effect::Resign { channel, ids, header, parent, metadata, content, buffers };
        self.effects.push(effect);
    }

    /// Answers a broadcast for which there is no room: as one, or for each engine.
    fn refuse_broadcast(&mut self, asked: Asked, is_coalescing: bool) {
        let Asked { head, header, targets, request } = asked;
        let mut metadata = json!({
            "status": "error", "is_broadcast": true, "is_coalescing": is_coalescing,
            "original_msg_id": head.msg_id
        });
        if is_coalescing {
            metadata["broadcast_targets"] = json!(targets);
        }
        let n_replies = if is_coalescing { 1 } else { targets.len() };
        for (uuid, _) in targets.iter().take(n_replies) {
            metadata["engine"] = json!(uuid);
            self.effects.push(Effect::Write {
                channel: Channel::ClientBroadcast,
                ids: request.ids.clone(),
                msg_type: reply_type(&head.msg_type),
                parent: with_msg_id(&header, &child_id(&head.msg_id, uuid)),
                metadata: metadata.clone(),
                content: Failure::QueueFull.content(),
                buffers: Vec::new(),
            });
        }
    }

    /// Whether a record is of a coalescing broadcast.
    pub(crate) fn broadcasts_as_one(&self, key: Key) -> bool {
        let record = self.records.get(key);
        record.is_some_and(|of| of.queue == Queue::Broadcast && of.request.shared.is_none())
    }
}

impl Broadcast {
    fn keep_answer(&mut self, is_ok: bool, message: Message) {
        if self.answer.as_ref().is_none_or(|(was_ok, _)| *was_ok) {
            self.answer = Some((is_ok, message));
        }
    }

    /// Returns the one reply to a coalescing broadcast, with the buffers of all engines.
    fn coalesced(mut self) -> Message {
        let (_, mut answer) = self.answer.expect("every copy was answered");
        let mut metadata: Map<String, Value> =
            serde_json::from_slice(&answer.metadata).unwrap_or_default();
        metadata.insert("broadcast_targets".to_owned(), json!(self.targets));
        answer.metadata = Value::Object(metadata).to_string().into_bytes();
        let buffers = self.targets.iter();
        let buffers = buffers.flat_map(|(uuid, _)| self.buffers.remove(uuid).unwrap_or_default());
        answer.buffers = buffers.collect();
        answer
    }
}

/// The message id of the copy of a broadcast that one engine gets, as stock clients expect it.
pub(crate) fn child_id(original: &str, uuid: &str) -> String {
    format!("{original}_{uuid}")
}

fn copy_of(request: &Request, header: Vec<u8>, engine: &Engine) -> Effect {
    let mut message = request.message();
    message.ids.insert(0, engine.ident());
    Effect::Resign {
        channel: Channel::EngineBroadcast,
        ids: message.ids,
        header,
        parent: message.parent,
        metadata: message.metadata,
        content: message.content,
        buffers: message.buffers,
    }
}

/// Returns a header with another message id and everything else as it was.
pub(crate) fn with_msg_id(header: &Map<String, Value>, msg_id: &str) -> Vec<u8> {
    let mut header = header.clone();
    header.insert("msg_id".to_owned(), json!(msg_id));
    Value::Object(header).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hwm;
    use crate::lab::{Lab, message};

    #[test]
    fn a_broadcast_without_room_is_refused_as_it_would_be_answered() {
        let mut lab = Lab::new(Hwm::Auto);
        for (is_coalescing, parents) in [(false, &["b_e0", "b_e1"][..]), (true, &["b_e0"])] {
            let request = message(&["c"], "b", "apply_request", None, json!({}), json!({}));
            let asked = Asked {
                head: request.head().unwrap(),
                header: serde_json::from_slice(&request.header).unwrap(),
                targets: ["e0", "e1"].map(|uuid| (uuid.to_owned(), json!(0))).into(),
                request: request.into(),
            };
            lab.cluster.refuse_broadcast(asked, is_coalescing);
            let lines: Vec<_> =
                lab.cluster.effects.drain(..).map(|of| crate::lab::line(&of)).collect();
            let line = |parent: &&str| {
                format!("ClientBroadcast [c] apply_reply to {parent} \"QueueFull\"")
            };
            assert_eq!(lines, parents.iter().map(line).collect::<Vec<_>>());
        }
    }
}
