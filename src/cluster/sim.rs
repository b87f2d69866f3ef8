//! A seeded simulation: clients, up to hundreds of engines that fail, die, hang, come back and
//! answer twice, messages that take their time and overtake each other where the transport allows
//! it, and a clock. After every event all invariants are checked; at the end every submission has
//! exactly one reply. Half of the runs have a store, and a controller that is killed and started
//! again on what that has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

mod effects;

use crate::lab::{Lab, message};
use crate::pick::Random;
use crate::{Channel, Hwm, Keeps, Message, Row, Scheme, Settings};

const SEEDS: std::ops::Range<u64> = 0..40;
const STEPS: usize = 400;

#[test]
fn every_submission_gets_exactly_one_reply_whatever_happens() {
    let said = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = said("FIRST").unwrap_or(0);
    let seeds = said("SEEDS").map_or(SEEDS, |n_seeds| first..first + n_seeds);
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

/// One seed in so many has hundreds of engines; the invariants, which look at all of them, are
/// then checked after so many events.
const CROWDED_ONE_IN: usize = 20;
const CROWDED_CHECK_EVERY: usize = 50;

/// Seconds at the end in which all that was begun ends: at least so many, in which silent engines
/// are given up; hundreds of engines may need more.
const DRAIN_ROUNDS_MIN: usize = 40;
const DRAIN_ROUNDS_MAX: usize = 1000;

struct SimEngine {
    id: Option<u64>,
    is_ours: bool,
    is_alive: bool,
    /// Whether it answers, works and beats; a hung engine is found by its silence.
    is_awake: bool,
    work: VecDeque<(Channel, Message)>,
}

struct World {
    lab: Lab,
    random: Random,
    engines: BTreeMap<String, SimEngine>,
    n_engines_max: usize,
    /// What is on its way to the controller. One connection keeps its order, several do not.
    transit: BTreeMap<(String, Channel), VecDeque<Message>>,
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
        let mut random = Random::new(seed);
        let hwms = [Hwm::Auto, Hwm::Fixed(1), Hwm::Fixed(3), Hwm::Unlimited];
        let schemes =
            [Scheme::LeastLoad, Scheme::Lru, Scheme::PlainRandom, Scheme::TwoBin, Scheme::Weighted];
        let has_store = random.below(2) == 0;
        let settings = Settings {
            keeps: if has_store { Keeps::Store } else { Keeps::Memory },
            hwm: hwms[random.below(hwms.len())],
            scheme: schemes[random.below(schemes.len())],
            seed: random.next(),
            ..crate::lab::settings()
        };
        let is_crowded = random.below(CROWDED_ONE_IN) == 0;
        let n_engines_max = if is_crowded { 100 + random.below(200) } else { 5 };
        let mut lab = Lab::with(settings);
        lab.check_every = if is_crowded { CROWDED_CHECK_EVERY } else { 1 };
        Self {
            lab,
            random,
            engines: BTreeMap::new(),
            n_engines_max,
            transit: BTreeMap::new(),
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
        match self.random.below(24) {
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
            15 if self.has_store && self.one_in(5) => self.restart(),
            15 | 16 => self.wait(),
            17..=20 => self.arrive(),
            _ => self.work(),
        }
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
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
        let is_crowded = self.n_engines_max > 50;
        let n_new = if is_crowded && !self.is_draining { self.n_engines_max / 2 } else { 1 };
        for _ in 0..n_new {
            if n_alive >= self.n_engines_max && !self.is_draining {
                return;
            }
            let uuid = self.next_id("e");
            let is_ours = self.one_in(2);
            let work = VecDeque::new();
            let engine = SimEngine { id: None, is_ours, is_alive: true, is_awake: true, work };
            self.engines.insert(uuid.clone(), engine);
            let name = if is_ours { "prust" } else { "ipython" };
            self.lab.register(json!({"uuid": uuid, "implementation": {"name": name}}));
            if self.is_draining || self.one_in(2) {
                self.lab.echo(&uuid);
            }
        }
    }

    fn some_engine(&mut self) -> Option<String> {
        let at = self.random.below(self.engines.len());
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
            if self.one_in(6) && !self.tasks.is_empty() {
                let n = 1 + self.random.below(3);
                let ids: Vec<_> = (0..n).map(|_| self.some_task()).collect();
                metadata[name] = json!({
                    "dependencies": ids, "all": self.one_in(2),
                    "success": !self.one_in(4), "failure": self.one_in(2)
                });
            }
        }
        if self.one_in(5) {
            let n = 1 + self.random.below(2);
            let targets: Vec<_> = (0..n).filter_map(|_| self.some_engine()).collect();
            metadata["targets"] = json!(targets);
        }
        if self.one_in(4) {
            metadata["timeout"] = json!(self.random.below(3000) as f64 / 1000.0);
        }
        if self.one_in(6) {
            metadata["time_limit"] = json!(self.random.below(500) as f64 / 1000.0);
        }
        metadata["retries"] = json!(self.random.below(3));
        self.tasks.push(msg_id.clone());
        self.submit(Channel::ClientTask, &["client"], &msg_id, metadata);
    }

    fn some_task(&mut self) -> String {
        if self.one_in(40) {
            return "unknown".to_owned();
        }
        let n = self.tasks.len().min(20);
        let at = self.tasks.len() - 1 - self.random.below(n);
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
        let is_coalescing = self.one_in(2);
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
        let mut msg_type = types[self.random.below(4)];
        if self.one_in(4) {
            msg_type = "purge_request";
        }
        let ask = message(&["asker"], "q", msg_type, None, json!({}), all);
        self.lab.receive(Channel::Registration, ask);
        if self.one_in(3)
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
        if self.one_in(2) {
            let content = json!({"msg_ids": [self.some_task(), self.some_task(), "nobody"]});
            let cancel = message(&["asker"], "q", "cancel_request", None, json!({}), content);
            self.lab.receive(Channel::Registration, cancel);
        }
    }

    fn wait(&mut self) {
        let millis = if self.one_in(10) { 20_000 } else { self.random.below(60) as u64 };
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

    /// One engine ends its oldest piece of work; or says that it has begun with it.
    fn work(&mut self) {
        let busy = self.engines.iter().filter(|(_, engine)| {
            engine.is_alive && (engine.is_awake || self.is_draining) && !engine.work.is_empty()
        });
        let busy: Vec<_> = busy.map(|(uuid, _)| uuid.clone()).collect();
        if busy.is_empty() {
            return;
        }
        let uuid = busy[self.random.below(busy.len())].clone();
        if !self.is_draining && self.one_in(3) {
            return self.begin(&uuid);
        }
        let engine = self.engines.get_mut(&uuid).unwrap();
        let (channel, request) = engine.work.pop_front().unwrap();
        let outcome = if self.is_draining { 9 } else { self.random.below(10) };
        let (status, dependencies_met) = match outcome {
            0 | 1 => ("error", true),
            2 => ("error", false),
            3 => ("aborted", true),
            _ => ("ok", true),
        };
        self.answer(&uuid, channel, request, status, dependencies_met);
    }

    fn begin(&mut self, uuid: &str) {
        let engine = &self.engines[uuid];
        let (Some(id), Some((_, request))) = (engine.id, engine.work.front()) else { return };
        let topic = format!("engine.{id}.status");
        let of = request.head().unwrap().msg_id;
        let content = json!({"execution_state": "busy"});
        let status = message(&[&topic], "s", "status", Some(&of), json!({}), content);
        self.send(uuid, Channel::EngineIopub, status);
    }

    fn answer(
        &mut self,
        uuid: &str,
        channel: Channel,
        request: Message,
        status: &str,
        dependencies_met: bool,
    ) {
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
        self.send(uuid, channel, reply);
    }

    /// A message leaves an engine.
    fn send(&mut self, uuid: &str, channel: Channel, message: Message) {
        self.transit.entry((uuid.to_owned(), channel)).or_default().push_back(message);
    }

    /// The oldest message of one connection arrives.
    fn arrive(&mut self) {
        let at = self.random.below(self.transit.len());
        let Some(connection) = self.transit.keys().nth(at).cloned() else { return };
        let queue = self.transit.get_mut(&connection).unwrap();
        let message = queue.pop_front().expect("empty ones are removed");
        if queue.is_empty() {
            self.transit.remove(&connection);
        }
        self.lab.receive(connection.1, message);
    }

    fn is_anything_left(&self) -> bool {
        let mut alive = self.engines.values().filter(|engine| engine.is_alive);
        !self.transit.is_empty() || alive.any(|engine| !engine.work.is_empty())
    }

    /// Nothing new: every engine works off what it has, a fresh one takes the rest.
    fn drain(&mut self) {
        self.is_draining = true;
        for _ in 0..3 {
            self.register();
            self.observe();
        }
        for round in 0..DRAIN_ROUNDS_MAX {
            if round >= DRAIN_ROUNDS_MIN && !self.is_anything_left() {
                break;
            }
            self.lab.wait(1000);
            self.echo();
            for _ in 0..200 {
                self.work();
                self.arrive();
                self.observe();
            }
        }
        let status = self.lab.query("queue_request", json!({"targets": null}));
        assert_eq!(status["unassigned"], 0, "tasks are left over");
    }
}
