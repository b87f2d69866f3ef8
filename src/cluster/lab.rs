//! For tests: a cluster with a clock in the hand, and messages written as briefly as possible.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::{
    Channel, Cluster, Effect, Event, Frames, Head, Hwm, Keeps, Key, Message, Millis, Restored, Row,
    Scheme, Settings,
};

pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    pub(crate) now: Millis,
    /// What was asked for and not looked at yet. Beats and what goes to the store are left out.
    pub(crate) effects: Vec<Effect>,
    pub(crate) store: Store,
    /// The identities that came with each task, by engine and task: engines give them back.
    asked: HashMap<(Vec<u8>, String), Frames>,
    /// The invariants are checked after every event, or after so many of a large cluster.
    pub(crate) check_every: usize,
    n_events: usize,
}

/// What a store would have.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) rows: BTreeMap<Key, Row>,
    pub(crate) engines: Restored,
    /// How often a record was kept.
    pub(crate) n_kept: usize,
}

impl Store {
    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Keep(row) => {
                self.n_kept += 1;
                self.rows.insert(row.key, *row);
            }
            Effect::Forget(keys) => {
                for key in keys {
                    assert!(self.rows.remove(&key).is_some(), "{key} is forgotten, and not kept");
                }
            }
            Effect::KeepEngines { engines, next } => {
                self.engines = Restored { engines, next_engine: next, ..Restored::default() };
            }
            _ => unreachable!("that is not for a store"),
        }
    }

    fn restored(&self) -> Restored {
        Restored { rows: self.rows.values().cloned().collect(), ..self.engines.clone() }
    }
}

impl Lab {
    pub(crate) fn new(hwm: Hwm) -> Self {
        Self::with(Settings { hwm, ..settings() })
    }

    /// With records that a store keeps.
    pub(crate) fn with_store(hwm: Hwm) -> Self {
        Self::with(Settings { hwm, keeps: Keeps::Store, ..settings() })
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let now = Millis(1_000_000);
        Self {
            cluster: Cluster::new(settings, now),
            now,
            effects: Vec::new(),
            store: Store::default(),
            asked: HashMap::new(),
            check_every: 1,
            n_events: 0,
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let effects = self.cluster.handle(event, self.now);
        self.take_in(effects);
    }

    /// Ends the controller without a word and starts another one on what the store has.
    pub(crate) fn restart(&mut self) {
        // Every controller has a session of its own.
        let mut settings = self.cluster.settings.clone();
        settings.session.push_str("-next");
        self.cluster = Cluster::new(settings, self.now);
        let effects = self.cluster.restore(self.store.restored(), self.now);
        self.take_in(effects);
    }

    /// Ends the controller in good order.
    pub(crate) fn end(&mut self) {
        let effects = self.cluster.keep_rest(self.now);
        self.take_in(effects);
    }

    fn take_in(&mut self, effects: Vec<Effect>) {
        self.n_events += 1;
        if self.n_events.is_multiple_of(self.check_every) {
            self.cluster.check();
        }
        for (ids, msg_id) in effects.iter().filter_map(asked) {
            self.asked.insert((ids[0].clone(), msg_id), ids);
        }
        for effect in effects {
            match effect {
                Effect::Keep(_) | Effect::Forget(_) | Effect::KeepEngines { .. } => {
                    self.store.take(effect);
                }
                _ if is_beat(&effect) => {}
                _ => self.effects.push(effect),
            }
        }
    }

    pub(crate) fn receive(&mut self, channel: Channel, message: Message) {
        let head = message.head().expect("tests write JSON headers");
        self.handle(Event::Received { channel, head, message });
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn wait(&mut self, millis: u64) {
        let end = self.now + Millis(millis);
        while self.cluster.next_deadline() <= end {
            self.now = self.now.max(self.cluster.next_deadline());
            self.handle(Event::Tick);
        }
        self.now = end;
    }

    /// Registers an engine, lets it answer a beat, and returns its number.
    pub(crate) fn engine(&mut self, uuid: &str) -> u64 {
        self.register(json!({"uuid": uuid}));
        self.echo(uuid);
        let id = self.taken().iter().find_map(|effect| match effect {
            Effect::Write { channel: Channel::Notification, content, .. } => content["id"].as_u64(),
            _ => None,
        });
        id.expect("an engine that answers is announced")
    }

    /// Has an engine print during a task.
    pub(crate) fn print(&mut self, uuid: &str, id: u64, of: &str, text: &str) {
        let content = json!({"name": "stdout", "text": text});
        self.publish(uuid, &format!("engine.{id}.stdout"), "stream", of, content);
    }

    /// Has an engine say that it begins with a task or is through with it.
    pub(crate) fn status(&mut self, uuid: &str, id: u64, of: &str, state: &str) {
        let content = json!({"execution_state": state});
        self.publish(uuid, &format!("engine.{id}.status"), "status", of, content);
    }

    fn publish(&mut self, uuid: &str, topic: &str, msg_type: &str, of: &str, content: Value) {
        let mut published = message(&[topic], "m", msg_type, Some(of), json!({}), content);
        published.header = serde_json::to_vec(&json!({
            "msg_id": "m", "msg_type": msg_type, "session": uuid
        }))
        .expect("it can be written");
        self.receive(Channel::EngineIopub, published);
    }

    /// Lets an engine answer the newest beat.
    pub(crate) fn echo(&mut self, uuid: &str) {
        let beat = self.cluster.n_beats().saturating_sub(1).to_string();
        self.handle(Event::Echo { frames: vec![uuid.as_bytes().to_vec(), beat.into_bytes()] });
    }

    pub(crate) fn register(&mut self, content: Value) {
        let message =
            message(&["registrar"], "r", "registration_request", None, json!({}), content);
        self.receive(Channel::Registration, message);
    }

    pub(crate) fn unregister(&mut self, id: u64, cause: &str) {
        let content = json!({"id": id, "cause": cause});
        let message = message(&["nanny"], "u", "unregistration_request", None, json!({}), content);
        self.receive(Channel::Registration, message);
    }

    pub(crate) fn task(&mut self, msg_id: &str, metadata: Value) {
        let task = message(&["client"], msg_id, "apply_request", None, metadata, json!({}));
        self.receive(Channel::ClientTask, task);
    }

    pub(crate) fn reply(&mut self, uuid: &str, msg_id: &str, metadata: Value) {
        let content = json!({"status": metadata["status"]});
        let id = format!("{msg_id}-reply");
        let mut reply = message(&[], &id, "apply_reply", Some(msg_id), metadata, content);
        let asked = self.asked.get(&(uuid.as_bytes().to_vec(), msg_id.to_owned()));
        reply.ids = asked.expect("an engine answers what it was asked").clone();
        self.receive(Channel::EngineTask, reply);
    }

    pub(crate) fn query(&mut self, msg_type: &str, content: Value) -> Value {
        self.taken();
        let query = message(&["client"], "q", msg_type, None, json!({}), content);
        self.receive(Channel::Registration, query);
        let reply = self.taken().into_iter().find_map(|effect| match effect {
            Effect::Write { channel: Channel::Registration, content, .. } => Some(content),
            _ => None,
        });
        reply.expect("every query is answered")
    }

    pub(crate) fn taken(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Returns what was asked for, one line per effect, and forgets it.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.taken().iter().map(line).collect()
    }

    /// Asserts that exactly these effects were asked for.
    #[track_caller]
    pub(crate) fn expect(&mut self, lines: &[&str]) {
        assert_eq!(self.lines(), lines);
    }
}

pub(crate) fn ok() -> Value {
    json!({"status": "ok"})
}

pub(crate) fn failed() -> Value {
    json!({"status": "error"})
}

pub(crate) fn settings() -> Settings {
    Settings {
        period: Millis(3000),
        lost_after: Millis(3000),
        hwm: Hwm::Auto,
        scheme: Scheme::LeastLoad,
        seed: 1,
        keeps: Keeps::Memory,
        session: "hub".to_owned(),
        connection_info: json!({"interface": "tcp://127.0.0.1"}),
    }
}

pub(crate) fn message(
    ids: &[&str],
    msg_id: &str,
    msg_type: &str,
    parent_id: Option<&str>,
    metadata: Value,
    content: Value,
) -> Message {
    let date = "2026-11-22T12:00:00.000000Z";
    let header = json!({"msg_id": msg_id, "msg_type": msg_type, "session": "s", "date": date});
    let parent = parent_id.map_or_else(|| json!({}), |msg_id| json!({"msg_id": msg_id}));
    let bytes = |value: Value| value.to_string().into_bytes();
    Message {
        ids: ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
        signature: b"signature".to_vec(),
        header: bytes(header),
        parent: bytes(parent),
        metadata: bytes(metadata),
        content: bytes(content),
        buffers: Vec::new(),
    }
}

/// Describes an effect in one line: channel, identities, type, message it answers, what it says.
pub(crate) fn line(effect: &Effect) -> String {
    let ids = |ids: &[Vec<u8>]| {
        ids.iter().map(|id| String::from_utf8_lossy(id)).collect::<Vec<_>>().join(",")
    };
    match effect {
        Effect::Forward { channel, frames } => {
            let message = Message::split(frames.clone()).expect("a message is forwarded");
            let head = message.head().unwrap_or_default();
            format!("{channel:?} [{}] {} {}", ids(&message.ids), head.msg_type, head.msg_id)
        }
        Effect::Resign { channel, ids: to, header, .. } => {
            let head: Head = serde_json::from_slice(header).unwrap_or_default();
            format!("{channel:?} [{}] {} {} resigned", ids(to), head.msg_type, head.msg_id)
        }
        Effect::Write { channel, ids: to, msg_type, parent, content, .. } => {
            let parent: Head = serde_json::from_slice(parent).unwrap_or_default();
            let said = [&content["ename"], &content["status"], &content["id"]];
            let said = said.into_iter().find(|value| !value.is_null()).unwrap_or(&Value::Null);
            format!("{channel:?} [{}] {msg_type} to {} {said}", ids(to), parent.msg_id)
        }
        Effect::Keep(row) => format!("keep {}", row.msg_id),
        Effect::Forget(keys) => format!("forget {keys:?}"),
        Effect::KeepEngines { engines, next } => format!("engines {}, {next}", engines.len()),
        Effect::Stop => "stop".to_owned(),
    }
}

/// The identities and the message id of a task that goes to an engine.
fn asked(effect: &Effect) -> Option<(Frames, String)> {
    match effect {
        Effect::Forward { channel: Channel::EngineTask, frames } => {
            let message = Message::split(frames.clone())?;
            let msg_id = message.head()?.msg_id;
            Some((message.ids, msg_id))
        }
        Effect::Resign { channel: Channel::EngineTask, ids, header, .. } => {
            let head: Head = serde_json::from_slice(header).ok()?;
            Some((ids.clone(), head.msg_id))
        }
        _ => None,
    }
}

fn is_beat(effect: &Effect) -> bool {
    matches!(effect, Effect::Forward { channel: Channel::Ping, .. })
}
