//! Broadcast work: one message for many engines, at depth 0: one root that is the only leaf.
//! Replies come back one by one, or coalesced into one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::message::{ReplyMetadata, reply_type};
use crate::{Channel, Cluster, Effect, EngineId, Failure, Frames, Head, Key, Message, Millis, iso};

/// One broadcast of which replies are still missing.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) msg_id: String,
    msg_type: String,
    client: Frames,
    /// The header of the request, as the client sent it.
    header: Map<String, Value>,
    is_coalescing: bool,
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

impl Cluster {
    /// `[client, ..]` from a client: one copy for each engine named in the metadata, each under a
    /// message id of its own.
    pub(crate) fn broadcast_request(
        &mut self,
        message: Message,
        head: Head,
        now: Millis,
    ) -> Option<()> {
        let metadata: Map<String, Value> = serde_json::from_slice(&message.metadata).ok()?;
        let mut metadata = Value::Object(metadata);
        let header: Map<String, Value> = serde_json::from_slice(&message.header).ok()?;
        let Metadata { targets, is_coalescing } = Metadata::deserialize(&metadata).ok()?;
        if message.ids.is_empty() {
            return None;
        }
        if self.broadcast_by_id.contains_key(&head.msg_id) {
            self.counts.duplicate += 1;
            return Some(());
        }
        metadata["original_msg_id"] = json!(head.msg_id);
        let metadata = metadata.to_string().into_bytes();
        let key = self.broadcasts.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut unknown = Vec::new();
        let mut waiting = BTreeMap::new();
        for (uuid, _) in &targets {
            let Some(id) = self.by_uuid.get(uuid.as_bytes()).copied() else {
                unknown.push(uuid.clone());
                continue;
            };
            waiting.insert(id, uuid.clone());
            let engine = self.engines.get_mut(&id).expect("by_uuid and engines agree");
            engine.broadcasts.insert(key);
            let mut ids = message.ids.clone();
            ids.insert(0, engine.ident());
            self.effects.push(Effect::Resign {
                channel: Channel::EngineBroadcast,
                ids,
                header: with_msg_id(&header, &format!("{}_{uuid}", head.msg_id)),
                parent: message.parent.clone(),
                metadata: metadata.clone(),
                content: message.content.clone(),
                buffers: message.buffers.clone(),
            });
        }
        self.broadcast_by_id.insert(head.msg_id.clone(), key);
        let broadcast = Broadcast {
            msg_id: head.msg_id,
            msg_type: head.msg_type,
            client: message.ids,
            header,
            is_coalescing,
            targets,
            waiting,
            buffers: BTreeMap::new(),
            answer: None,
        };
        self.broadcasts.insert(key, broadcast);
        for uuid in unknown {
            let failure = Failure::NoSuchEngine { uuid: uuid.clone() };
            self.fail_child(key, &uuid, &failure, now);
        }
        self.end_broadcast_if_complete(key);
        Some(())
    }

    /// `[engine, client, ..]` from an engine: one reply to one copy.
    pub(crate) fn broadcast_reply(&mut self, mut message: Message) -> Option<()> {
        let metadata = ReplyMetadata::read(&message)?;
        let is_ok = metadata.is_ok();
        let original = metadata.original_msg_id?;
        if message.ids.len() < 2 {
            return None;
        }
        let uuid = message.ids.remove(0);
        let id = self.by_uuid.get(&uuid).copied();
        let key = self.broadcast_by_id.get(&original).copied();
        let (Some(id), Some(key)) = (id, key) else {
            self.counts.late += 1;
            return Some(());
        };
        let broadcast = self.broadcasts.get_mut(&key).expect("both tables agree");
        let Some(uuid) = broadcast.waiting.remove(&id) else {
            self.counts.late += 1;
            return Some(());
        };
        let engine = self.engines.get_mut(&id).expect("by_uuid and engines agree");
        engine.broadcasts.remove(&key);
        engine.note_completed(&format!("{original}_{uuid}"));
        if !broadcast.is_coalescing {
            let frames = message.join();
            self.effects.push(Effect::Forward { channel: Channel::ClientBroadcast, frames });
            self.end_broadcast_if_complete(key);
            return Some(());
        }
        broadcast.buffers.insert(uuid, std::mem::take(&mut message.buffers));
        broadcast.keep_answer(is_ok, message);
        self.end_broadcast_if_complete(key);
        Some(())
    }

    /// Answers the copy of a broadcast that was on a lost engine.
    pub(crate) fn fail_broadcast_child(
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
        self.fail_child(key, &engine.uuid, &failure, now);
        self.end_broadcast_if_complete(key);
    }

    /// Answers one copy with an error of ours; a coalescing broadcast is answered once, when the
    /// other copies have come back.
    fn fail_child(&mut self, key: Key, uuid: &str, failure: &Failure, now: Millis) {
        let broadcast = self.broadcasts.get_mut(&key).expect("the caller holds an open broadcast");
        let metadata = json!({
            "status": "error", "engine": uuid, "date": iso(now), "is_broadcast": true,
            "is_coalescing": broadcast.is_coalescing, "original_msg_id": broadcast.msg_id
        });
        let child = format!("{}_{uuid}", broadcast.msg_id);
        let parent = with_msg_id(&broadcast.header, &child);
        if !broadcast.is_coalescing {
            self.effects.push(Effect::Write {
                channel: Channel::ClientBroadcast,
                ids: broadcast.client.clone(),
                msg_type: reply_type(&broadcast.msg_type),
                parent,
                metadata,
                content: failure.content(),
                buffers: Vec::new(),
            });
            return;
        }
        let msg_type = reply_type(&broadcast.msg_type);
        let header = json!({
            "msg_id": child, "msg_type": msg_type, "session": self.settings.session,
            "username": "prust", "date": iso(now), "version": "5.4"
        });
        let answer = Message {
            ids: broadcast.client.clone(),
            signature: Vec::new(),
            header: header.to_string().into_bytes(),
            parent,
            metadata: metadata.to_string().into_bytes(),
            content: failure.content().to_string().into_bytes(),
            buffers: Vec::new(),
        };
        broadcast.keep_answer(false, answer);
    }

    /// Forgets a broadcast whose replies are all there, after the one reply to a coalescing one.
    fn end_broadcast_if_complete(&mut self, key: Key) {
        if self.broadcasts.get(&key).is_none_or(|broadcast| !broadcast.waiting.is_empty()) {
            return;
        }
        let broadcast = self.broadcasts.remove(&key).expect("looked at above");
        self.broadcast_by_id.remove(&broadcast.msg_id);
        self.effects.extend(broadcast.coalesced());
    }
}

impl Broadcast {
    fn keep_answer(&mut self, is_ok: bool, message: Message) {
        if self.answer.as_ref().is_none_or(|(was_ok, _)| *was_ok) {
            self.answer = Some((is_ok, message));
        }
    }

    /// Returns the one reply to a coalescing broadcast, with the buffers of all engines.
    fn coalesced(mut self) -> Option<Effect> {
        let (_, answer) = self.answer?;
        let mut metadata: Map<String, Value> =
            serde_json::from_slice(&answer.metadata).unwrap_or_default();
        metadata.insert("broadcast_targets".to_owned(), json!(self.targets));
        let buffers = self.targets.iter();
        let buffers = buffers.flat_map(|(uuid, _)| self.buffers.remove(uuid).unwrap_or_default());
        Some(Effect::Resign {
            channel: Channel::ClientBroadcast,
            buffers: buffers.collect(),
            ids: self.client,
            header: answer.header,
            parent: answer.parent,
            metadata: Value::Object(metadata).to_string().into_bytes(),
            content: answer.content,
        })
    }
}

/// Returns a header with another message id and everything else as it was.
pub(crate) fn with_msg_id(header: &Map<String, Value>, msg_id: &str) -> Vec<u8> {
    let mut header = header.clone();
    header.insert("msg_id".to_owned(), json!(msg_id));
    Value::Object(header).to_string().into_bytes()
}
