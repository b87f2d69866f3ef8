//! What the controller does reaches engines and clients. Part of the [`World`].

use std::fmt::Write;

use serde_json::{Value, json};

use super::World;
use crate::lab::line;
use crate::{Channel, Effect, Message};

impl World {
    /// An engine drops what it is told to drop.
    fn told(&mut self, uuid: &str, content: &Value) {
        let Some(engine) = self.engines.get_mut(uuid).filter(|engine| engine.is_alive) else {
            return;
        };
        let unwanted = |message: &Message| {
            let msg_id = message.head().unwrap().msg_id;
            content["msg_ids"].as_array().unwrap().contains(&json!(msg_id))
        };
        let work = std::mem::take(&mut engine.work);
        let (dropped, kept): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|(_, message)| unwanted(message));
        engine.work = kept.into();
        for (channel, request) in dropped {
            self.answer(uuid, channel, request, "aborted", true);
        }
    }

    /// Carries effects to engines and counts the replies clients see.
    pub(super) fn observe(&mut self) {
        for effect in self.lab.taken() {
            writeln!(self.log, "{}", line(&effect)).unwrap();
            match effect {
                Effect::Forward { channel, frames } => {
                    self.deliver(channel, Message::split(frames).unwrap());
                }
                Effect::Resign { channel, ids, header, parent, metadata, content, buffers } => {
                    let signature = b"new".to_vec();
                    let message =
                        Message { ids, signature, header, parent, metadata, content, buffers };
                    self.deliver(channel, message);
                }
                Effect::Write { channel: Channel::Notification, content, .. } => {
                    let uuid = content["uuid"].as_str().unwrap();
                    let engine = self.engines.get_mut(uuid).unwrap();
                    engine.id = engine.id.is_none().then(|| content["id"].as_u64()).flatten();
                }
                Effect::Write {
                    channel: Channel::EngineControl, ids, msg_type, content, ..
                } => {
                    let uuid = String::from_utf8(ids[0].clone()).unwrap();
                    if msg_type == "abort_request" {
                        self.told(&uuid, &content);
                    }
                    let is_ours = self.engines[&uuid].is_ours;
                    assert!(msg_type != "interrupt_request" || is_ours, "{msg_type} to {uuid}");
                }
                Effect::Write { channel, parent, metadata, .. } if is_for_clients(channel) => {
                    let parent: Value = serde_json::from_slice(&parent).unwrap();
                    self.count(&metadata, parent["msg_id"].as_str().unwrap());
                }
                Effect::Write { .. }
                | Effect::Keep(_)
                | Effect::Forget(_)
                | Effect::KeepEngines { .. }
                | Effect::Stop => {}
            }
        }
    }

    fn deliver(&mut self, channel: Channel, message: Message) {
        if is_for_clients(channel) {
            let metadata: Value = serde_json::from_slice(&message.metadata).unwrap();
            let parent = message.parent_id().unwrap();
            return self.count(&metadata, &parent);
        }
        let uuid = String::from_utf8(message.ids[0].clone()).unwrap();
        let channel_back = match channel {
            Channel::EngineMux | Channel::EngineTask | Channel::EngineBroadcast => channel,
            _ => return,
        };
        if let Some(engine) = self.engines.get_mut(&uuid).filter(|engine| engine.is_alive) {
            engine.work.push_back((channel_back, message));
        }
    }

    fn count(&mut self, metadata: &Value, parent_id: &str) {
        let original = metadata["original_msg_id"].as_str();
        let is_known = self.replies.contains_key(parent_id);
        let msg_id = if is_known { parent_id } else { original.unwrap_or(parent_id) };
        match self.replies.get_mut(msg_id) {
            Some(n_replies) => *n_replies += 1,
            None => assert!(self.lost.contains(msg_id), "a reply to nothing submitted: {msg_id}"),
        }
    }
}

fn is_for_clients(channel: Channel) -> bool {
    matches!(channel, Channel::ClientTask | Channel::ClientMux | Channel::ClientBroadcast)
}
