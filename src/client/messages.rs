//! Between ipyparallel's messages and this room's events: reads what the sockets bring, signs what
//! the tables send. Decides nothing.

use super::command::Output;
use super::event::{Channel, Event, Number, Outgoing, Published, Reply, Verdict};
use super::replies::failure_of;
use super::sockets::{CONTROL, IOPUB, MUX, NOTIFICATION, QUERY, TASK};
use crate::wire::envelope::parse_iso;
use crate::wire::{Batch, Draft, Frames, Message, Reader, Writer};
use prust::EngineId;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// The id of the message that one answers, and nothing else of its header.
#[derive(Deserialize)]
struct ParentId<'a> {
    #[serde(borrow, default)]
    msg_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ReplyMetadata<'a> {
    #[serde(borrow, default)]
    started: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    engine: Option<Cow<'a, str>>,
    #[serde(default)]
    prust: Value,
}

#[derive(Deserialize)]
struct ReplyContent<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(default)]
    execution_count: Option<u64>,
}

#[derive(Deserialize)]
struct Notification {
    id: EngineId,
    uuid: String,
    #[serde(default)]
    cause: Option<String>,
}

/// Both directions of one connection.
pub(super) struct Messages {
    writer: Writer,
    reader: Reader,
    prefix: String,
}

impl Messages {
    pub(super) fn new(key: &str, session: String, username: &str) -> Self {
        let prefix = format!("{session}_{}_", std::process::id());
        let writer = Writer::new(key, session, username);
        Self { writer, reader: Reader::new(key), prefix }
    }

    /// Takes what comes as it is: a controller in this process has checked it.
    pub(super) fn trusting(self) -> Self {
        Self { reader: Reader::of_checked(), ..self }
    }

    /// What every message id starts with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Puts one message into a batch.
    pub(super) fn write(&self, outgoing: Outgoing, batch: &mut Batch) {
        let Outgoing { channel, to, number, msg_type, metadata, content, buffers } = outgoing;
        let ids: Vec<Vec<u8>> = to.into_iter().map(|uuid| uuid.as_bytes().to_vec()).collect();
        let msg_id = format!("{}{number}", self.prefix);
        let draft = Draft::new(&msg_type, &content).to(&ids).metadata(&metadata);
        let (_, frames) = self.writer.write(draft.buffers(buffers).msg_id(msg_id));
        let socket = match channel {
            Channel::Query => QUERY,
            Channel::Control => CONTROL,
            Channel::Mux => MUX,
            Channel::Task => TASK,
        };
        batch.push((socket, frames));
    }

    /// What a message means; nothing for what is forged, unreadable or not ours.
    pub(super) fn read(&mut self, socket: usize, frames: Frames) -> Option<Event> {
        let message = self.reader.read(frames).ok()?;
        match socket {
            NOTIFICATION => notification(&message),
            IOPUB => published(self.number(&message)?, &message),
            QUERY => query_reply(self.number(&message)?, message),
            MUX if message.header.msg_type == "kernel_info_reply" => {
                let content: Value = message.content().ok()?;
                let implementation = content["implementation"].as_str().map(str::to_owned);
                Some(Event::EngineSaid { number: self.number(&message)?, implementation })
            }
            MUX | TASK => reply(self.number(&message)?, message),
            _ => Some(Event::Answered {
                number: self.number(&message)?,
                msg_type: message.header.msg_type.clone(),
                content: message.content().ok()?,
                buffers: Vec::new(),
            }),
        }
    }

    /// The number of the message of ours that this one answers.
    fn number(&self, message: &Message) -> Option<Number> {
        let parent: ParentId<'_> = serde_json::from_slice(&message.raw_parent).ok()?;
        parent.msg_id.strip_prefix(&self.prefix)?.parse().ok()
    }
}

fn notification(message: &Message) -> Option<Event> {
    let content = || message.content::<Notification>().ok();
    match message.header.msg_type.as_str() {
        "registration_notification" => {
            let Notification { id, uuid, .. } = content()?;
            Some(Event::Registered { id, uuid })
        }
        "unregistration_notification" => {
            let Notification { id, uuid, cause } = content()?;
            Some(Event::Unregistered { id, uuid, cause })
        }
        "shutdown_notification" => Some(Event::ControllerStops),
        _ => None,
    }
}

fn query_reply(number: Number, message: Message) -> Option<Event> {
    let content: Value = message.content().ok()?;
    if message.header.msg_type != "connection_reply" {
        let (msg_type, buffers) = (message.header.msg_type, message.buffers);
        return Some(Event::Answered { number, msg_type, content, buffers });
    }
    let engines = content["engines"].as_object().into_iter().flatten();
    let engine = |(id, uuid): (&String, &Value)| {
        Some((id.parse::<EngineId>().ok()?, uuid.as_str()?.to_owned()))
    };
    Some(Event::EngineList(number, engines.filter_map(engine).collect()))
}

fn reply(number: Number, mut message: Message) -> Option<Event> {
    let metadata: ReplyMetadata<'_> = serde_json::from_slice(&message.raw_metadata).ok()?;
    let content: ReplyContent<'_> = serde_json::from_slice(&message.raw_content).ok()?;
    let ident = message.ids.first().and_then(|ident| std::str::from_utf8(ident).ok());
    let uuid = ident.map(str::to_owned).or_else(|| metadata.engine.map(Cow::into_owned));
    let mut has_engine_info = false;
    let verdict = match &*content.status {
        "ok" => {
            Verdict::Ok(std::mem::take(&mut message.buffers).into_iter().next().unwrap_or_default())
        }
        "aborted" => Verdict::Aborted,
        _ => {
            let content: Value = message.content().ok()?;
            has_engine_info = content.get("engine_info").is_some_and(|info| !info.is_null());
            Verdict::Error(failure_of(&content))
        }
    };
    Some(Event::Reply(Box::new(Reply {
        number,
        uuid,
        started: metadata.started.as_deref().and_then(parse_iso),
        completed: parse_iso(&message.header.date),
        verdict,
        execution_count: content.execution_count.unwrap_or(0),
        prust: metadata.prust,
        has_engine_info,
    })))
}

fn published(number: Number, message: &Message) -> Option<Event> {
    let topic = message.ids.first().and_then(|topic| std::str::from_utf8(topic).ok());
    let engine =
        topic.and_then(|topic| topic.strip_prefix("engine.")?.split('.').next()?.parse().ok());
    let what = publication(message)?;
    Some(Event::Published { number, engine, what })
}

fn publication(message: &Message) -> Option<Published> {
    #[derive(Deserialize)]
    struct Status<'a> {
        #[serde(borrow)]
        execution_state: Cow<'a, str>,
    }
    let msg_type = message.header.msg_type.as_str();
    if msg_type == "status" {
        let status: Status<'_> = serde_json::from_slice(&message.raw_content).ok()?;
        return match &*status.execution_state {
            "busy" => Some(Published::Busy),
            "idle" => Some(Published::Idle),
            _ => None,
        };
    }
    if msg_type == "prust_paused" {
        return Some(Published::Paused);
    }
    let content: Value = message.content().ok()?;
    if msg_type == "prust_library_missing" {
        let names = serde_json::from_value(content["names"].clone()).ok()?;
        return Some(Published::Lacks { names });
    }
    let text = |key: &str| content[key].as_str().unwrap_or_default().to_owned();
    let output = match msg_type {
        "stream" => Output::Stream { stderr: content["name"] == "stderr", text: text("text") },
        "execute_result" => Output::Result { content },
        "display_data" | "update_display_data" | "clear_output" => {
            Output::Display { msg_type: msg_type.to_owned(), content }
        }
        "error" => {
            let failure = failure_of(&content);
            let (ename, evalue) = (failure.ename, failure.evalue);
            Output::Error { ename, evalue, traceback: failure.traceback }
        }
        "prust_data" => {
            let bytes = message.buffers.first().map(Vec::as_slice).unwrap_or_default();
            let value = String::from_utf8_lossy(bytes).into_owned();
            return Some(Published::Data { key: text("key"), text: value });
        }
        _ => return None,
    };
    Some(Published::Output(output))
}
