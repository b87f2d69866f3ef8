//! A seeded simulation: clients, engines that fail, die, hang and answer twice, and a clock. After
//! every event all invariants are checked; at the end every submission has exactly one reply. Half
//! of the runs have a store, and a controller that is killed and started again on what that has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::lab::{Lab, line, message};
use crate::{Channel, Effect, Hwm, Message, Row};

const SEEDS: std::ops::Range<u64> = 0..40;
const STEPS: usize = 400;

#[test]
fn every_submission_gets_exactly_one_reply_whatever_happens() {
    let said = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = said("SEEDS").map_or(SEEDS, |n_seeds| 0..n_seeds);
    for seed in said("SEED").map_or(seeds, |seed| seed..seed + 1) {
        // A failing seed is in the name of the thread, and so in the message of the panic.
        let run = std::thread::Builder::new().name(format!("make sim SEED={seed}"));
        let run = run.spawn(move || World::new(seed).run()).unwrap();
        assert!(run.join().is_ok(), "replay with: make sim SEED={seed}");
    }
}

#[test]
fn the_same_events_give_the_same_effects() {
    assert_eq!(World::new(7).run(), World::new(7).run());
}

/// xorshift64*: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct SimEngine {
    id: Option<u64>,
    is_alive: bool,
    /// Whether it answers, works and beats; a hung engine is found by its silence.
    is_awake: bool,
    work: VecDeque<(Channel, Message)>,
}

struct World {
    lab: Lab,
    random: Random,
    engines: BTreeMap<String, SimEngine>,
    /// What was submitted, and how many replies it has had.
    replies: BTreeMap<String, u32>,
    tasks: Vec<String>,
    last: Option<(Channel, Message)>,
    has_store: bool,
    /// Submissions that a restart has met; their clients may have had a reply, or not.
    lost: BTreeSet<String>,
    n_messages: u64,
    is_draining: bool,
    log: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let hwm = [Hwm::Auto, Hwm::Fixed(1), Hwm::Fixed(3), Hwm::Unlimited];
        let hwm = hwm[random.below(4) as usize];
        let has_store = random.one_in(2);
        Self {
            lab: if has_store { Lab::with_store(hwm) } else { Lab::new(hwm) },
            random,
            engines: BTreeMap::new(),
            replies: BTreeMap::new(),
            tasks: Vec::new(),
            last: None,
            has_store,
            lost: BTreeSet::new(),
            n_messages: 0,
            is_draining: false,
            log: String::new(),
        }
    }

    fn run(mut self) -> String {
        for _ in 0..STEPS {
            self.step();
            self.observe();
        }
        self.drain();
        for (msg_id, n) in &self.replies {
            let story = self.lab.cluster.story(msg_id);
            assert_eq!(*n, 1, "{msg_id} has {n} replies; {story:?}");
        }
        if self.has_store {
            self.compare_with_store();
        }
        self.log
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0 => self.register(),
            1 => self.end_engine(),
            2 => self.hang_engine(),
            3..=8 => self.submit_task(),
            9 | 10 => self.submit_direct(),
            11 => self.submit_broadcast(),
            12 => self.repeat(),
            13 => self.ask(),
            14 => self.abort(),
            // The last submission may still be looked at as open.
            15 if self.has_store && self.random.one_in(5) => self.restart(),
            15 | 16 => self.wait(),
            _ => self.work(),
        }
    }

    /// What was open has failed, what had ended is as it was.
    fn restart(&mut self) {
        let open = self.lab.store.rows.values().filter(|row| row.reply.is_none());
        let open: Vec<_> = open.map(|row| row.msg_id.clone()).collect();
        self.lab.restart();
        self.last = None;
        self.replies.retain(|msg_id, n_replies| {
            let is_open = *n_replies == 0;
            if is_open {
                self.lost.insert(msg_id.clone());
            }
            !is_open
        });
        for msg_id in open {
            let result = self.lab.query("result_request", json!({"msg_ids": [msg_id]}));
            assert_eq!(result[&msg_id]["result_content"]["ename"], "EngineError", "{msg_id}");
        }
        // Who was announced just before is not known any more.
        let known: BTreeSet<_> =
            self.lab.store.engines.engines.iter().map(|engine| engine.uuid.as_str()).collect();
        for (uuid, engine) in &mut self.engines {
            engine.id = engine.id.filter(|_| known.contains(uuid.as_str()));
        }
    }

    /// The store has exactly the records that the controller has, as they are.
    fn compare_with_store(&mut self) {
        self.lab.wait(2000);
        let records = self.lab.cluster.records.iter();
        let rows: BTreeMap<_, _> = records.map(|(key, of)| (key, Row::of(key, of))).collect();
        assert_eq!(rows, self.lab.store.rows);
    }

    fn next_id(&mut self, prefix: &str) -> String {
        self.n_messages += 1;
        format!("{prefix}{}", self.n_messages)
    }

    fn register(&mut self) {
        let n_alive = self.engines.values().filter(|engine| engine.is_alive).count();
        if n_alive >= 5 && !self.is_draining {
            return;
        }
        let uuid = self.next_id("e");
        let engine = SimEngine { id: None, is_alive: true, is_awake: true, work: VecDeque::new() };
        self.engines.insert(uuid.clone(), engine);
        self.lab.register(json!({"uuid": uuid}));
        if self.is_draining || self.random.one_in(2) {
            self.lab.echo(&uuid);
        }
    }

    fn some_engine(&mut self) -> Option<String> {
        let n = self.engines.len() as u64;
        let at = self.random.below(n) as usize;
        self.engines.keys().nth(at).cloned()
    }

    fn end_engine(&mut self) {
        let Some(uuid) = self.some_engine() else { return };
        let engine = self.engines.get_mut(&uuid).unwrap();
        engine.is_alive = false;
        if let Some(id) = engine.id {
            self.lab.unregister(id, "killed");
        }
    }

    fn hang_engine(&mut self) {
        let Some(uuid) = self.some_engine() else { return };
        let engine = self.engines.get_mut(&uuid).unwrap();
        engine.is_awake = !engine.is_awake;
    }

    fn submit_task(&mut self) {
        let msg_id = self.next_id("t");
        let mut metadata = json!({});
        for name in ["after", "follow"] {
            if self.random.one_in(6) && !self.tasks.is_empty() {
                let n = 1 + self.random.below(3);
                let ids: Vec<_> = (0..n).map(|_| self.some_task()).collect();
                metadata[name] = json!({
                    "dependencies": ids, "all": self.random.one_in(2),
                    "success": !self.random.one_in(4), "failure": self.random.one_in(2)
                });
            }
        }
        if self.random.one_in(5) {
            let n = 1 + self.random.below(2);
            let targets: Vec<_> = (0..n).filter_map(|_| self.some_engine()).collect();
            metadata["targets"] = json!(targets);
        }
        if self.random.one_in(4) {
            metadata["timeout"] = json!(self.random.below(3000) as f64 / 1000.0);
        }
        metadata["retries"] = json!(self.random.below(3));
        self.tasks.push(msg_id.clone());
        self.submit(Channel::ClientTask, &["client"], &msg_id, metadata);
    }

    fn some_task(&mut self) -> String {
        if self.random.one_in(40) {
            return "unknown".to_owned();
        }
        let n = self.tasks.len().min(20);
        let at = self.tasks.len() - 1 - self.random.below(n as u64) as usize;
        self.tasks[at].clone()
    }

    fn submit_direct(&mut self) {
        let Some(uuid) = self.some_engine() else { return };
        let msg_id = self.next_id("m");
        self.submit(Channel::ClientMux, &["client", &uuid], &msg_id, json!({}));
    }

    fn submit_broadcast(&mut self) {
        let msg_id = self.next_id("b");
        let uuids: Vec<_> = self.engines.keys().cloned().collect();
        let targets: Vec<_> = uuids.iter().map(|uuid| json!([uuid, 0])).collect();
        let is_coalescing = self.random.one_in(2);
        let metadata = json!({"targets": targets, "is_coalescing": is_coalescing});
        if is_coalescing {
            // No target, no reply: there is nobody to speak.
            if uuids.is_empty() {
                return;
            }
            self.replies.insert(msg_id.clone(), 0);
        } else {
            for uuid in uuids {
                self.replies.insert(crate::broadcast::child_id(&msg_id, &uuid), 0);
            }
        }
        let request = message(&["client"], &msg_id, "apply_request", None, metadata, json!({}));
        self.last = Some((Channel::ClientBroadcast, request.clone()));
        self.lab.receive(Channel::ClientBroadcast, request);
    }

    fn submit(&mut self, channel: Channel, ids: &[&str], msg_id: &str, metadata: Value) {
        self.replies.insert(msg_id.to_owned(), 0);
        let request = message(ids, msg_id, "apply_request", None, metadata, json!({}));
        if channel == Channel::ClientTask {
            self.last = Some((channel, request.clone()));
        }
        self.lab.receive(channel, request);
    }

    /// The same message once more: a reply, or a task.
    fn repeat(&mut self) {
        if let Some((channel, message)) = self.last.clone()
            && channel != Channel::ClientBroadcast
        {
            self.lab.receive(channel, message);
        }
    }

    fn ask(&mut self) {
        let all = json!({"msg_ids": "all", "targets": null, "verbose": true});
        let types = ["queue_request", "history_request", "connection_request", "db_request"];
        let mut msg_type = types[self.random.below(4) as usize];
        if self.random.one_in(4) {
            msg_type = "purge_request";
        }
        let ask = message(&["asker"], "q", msg_type, None, json!({}), all);
        self.lab.receive(Channel::Registration, ask);
        if self.random.one_in(3)
            && let Some(msg_id) = self.tasks.last().cloned()
        {
            let again = json!({"msg_ids": [msg_id]});
            let ask = message(&["asker"], "q", "resubmit_request", None, json!({}), again);
            self.lab.receive(Channel::Registration, ask);
        }
    }

    fn abort(&mut self) {
        let (Some(uuid), false) = (self.some_engine(), self.tasks.is_empty()) else { return };
        let content = json!({"msg_ids": [self.some_task(), self.some_task()]});
        let abort = message(&["client", &uuid], "a", "abort_request", None, json!({}), content);
        self.lab.receive(Channel::ClientControl, abort);
    }

    fn wait(&mut self) {
        let millis = if self.random.one_in(10) { 20_000 } else { self.random.below(60) };
        for _ in 0..=millis / 1000 {
            self.lab.wait(millis.min(1000));
            self.echo();
        }
    }

    fn echo(&mut self) {
        for (uuid, engine) in &self.engines {
            if engine.is_alive && engine.is_awake {
                self.lab.echo(uuid);
            }
        }
    }

    /// One engine ends its oldest piece of work.
    fn work(&mut self) {
        let busy = self.engines.iter().filter(|(_, engine)| {
            engine.is_alive && (engine.is_awake || self.is_draining) && !engine.work.is_empty()
        });
        let busy: Vec<_> = busy.map(|(uuid, _)| uuid.clone()).collect();
        if busy.is_empty() {
            return;
        }
        let uuid = busy[self.random.below(busy.len() as u64) as usize].clone();
        let engine = self.engines.get_mut(&uuid).unwrap();
        let (channel, request) = engine.work.pop_front().unwrap();
        let outcome = if self.is_draining { 9 } else { self.random.below(10) };
        let (status, dependencies_met) = match outcome {
            0 | 1 => ("error", true),
            2 => ("error", false),
            3 => ("aborted", true),
            _ => ("ok", true),
        };
        let head = request.head().unwrap();
        let metadata: Value = serde_json::from_slice(&request.metadata).unwrap();
        let reply = json!({
            "status": status, "dependencies_met": dependencies_met,
            "original_msg_id": metadata["original_msg_id"],
        });
        let id = self.next_id("r");
        let content = json!({"status": status});
        let mut reply = message(&[], &id, "apply_reply", Some(&head.msg_id), reply, content);
        reply.ids = request.ids;
        self.last = Some((channel, reply.clone()));
        self.lab.receive(channel, reply);
    }

    /// Carries effects to engines and counts the replies clients see.
    fn observe(&mut self) {
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

    /// Nothing new: every engine works off what it has, a fresh one takes the rest.
    fn drain(&mut self) {
        self.is_draining = true;
        for _ in 0..3 {
            self.register();
            self.observe();
        }
        for _ in 0..40 {
            self.lab.wait(1000);
            self.echo();
            for _ in 0..200 {
                self.work();
                self.observe();
            }
        }
        let status = self.lab.query("queue_request", json!({"targets": null}));
        assert_eq!(status["unassigned"], 0, "tasks are left over");
    }
}

fn is_for_clients(channel: Channel) -> bool {
    matches!(channel, Channel::ClientTask | Channel::ClientMux | Channel::ClientBroadcast)
}
