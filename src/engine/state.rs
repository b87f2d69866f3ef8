//! Decides everything an engine does: registration, the one queue of work, control requests, the
//! end. [`Engine::handle`] takes one event and returns what is to be done; it does no I/O and reads
//! no clock. What concerns the work in hand is in `work.rs`.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::ahead::AheadList;
use super::event::{Channel, Effect, Event, Fault, Now, Publication, Reply};
use super::libraries::Libraries;
use super::python::Made;
use super::reply::{EngineInfo, Metadata, error_content};
use super::request::{Route, Task, Withdrawn};
use super::work::Running;
use crate::cell::namespace::Namespace;
use crate::process::Signal;
use crate::wire::Message;
use crate::worker::WorkerEvent;

/// Work waiting in this engine; more is refused. Schedulers send a few tasks ahead, direct views a
/// few per engine; the limit only stops a runaway loop from filling memory.
pub const QUEUE_TASKS_MAX: usize = 100_000;
/// Heartbeats that may fail to come before the controller counts as gone, as in ipyparallel: long
/// enough to restart a controller under a living cluster.
pub const PINGS_MISSED_MAX: u32 = 50;
/// Added to each heartbeat period, as in ipyparallel.
const PING_GRACE: Duration = Duration::from_millis(500);
/// How long an engine that has printed much waits for the word of a client of ours that it has
/// been shown, and how long where the client gives no such word.
pub(super) const READ_ON_MAX: Duration = Duration::from_secs(5);
pub(super) const READ_ON_PACE: Duration = Duration::from_millis(125);
/// The controller's period where it does not say.
const PING_PERIOD_DEFAULT_MS: u64 = 3000;

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub uuid: Arc<str>,
    /// The id to ask for.
    pub id: Option<u32>,
    /// How long worker and registration may take.
    pub timeout: Duration,
}

#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) phase: Phase,
    pub(super) worker_ready: bool,
    pub(super) queue: VecDeque<Task>,
    pub(super) running: Option<Running>,
    pub(super) ahead: AheadList,
    pub(super) libraries: Libraries,
    pub(super) withdrawn: Withdrawn,
    /// Requests to clear, answered when the new worker is ready.
    pub(super) clears: Vec<Route>,
    /// What the worker knows, and its hash.
    pub(super) namespace: Namespace,
    pub(super) namespace_hash: String,
    /// How variables came from Python.
    pub(super) made: Made,
    /// The namespace that goes with the worker's snapshot, where it is another one.
    pub(super) before: Option<Namespace>,
    /// Whether the worker has run nothing yet.
    pub(super) pristine: bool,
    /// Whether the last call was over within `QUICK_TIME`.
    pub(super) was_quick: bool,
    pub(super) execution_count: u64,
    /// The user knows that the worker is too large for snapshots.
    pub(super) said_unprotected: bool,
    pub(super) run_last: u64,
    /// The worker has printed so much that no more is read of it until a client says so, or this
    /// moment.
    pub(super) read_on_at: Option<Instant>,
    /// The header of the work that output belongs to: the running one, else the last.
    pub(super) parent: Arc<[u8]>,
    pub(super) effects: Vec<Effect>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The worker has not connected.
    Starting {
        until: Instant,
    },
    /// The controller has not answered.
    Registering {
        until: Instant,
    },
    Registered {
        id: u32,
        silence_max: Duration,
        last_ping: Instant,
    },
    Ended,
}

#[derive(Deserialize)]
struct RegistrationReply {
    #[serde(default)]
    status: String,
    id: Option<u32>,
    hb_period: Option<f64>,
    #[serde(default)]
    evalue: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ControlContent {
    msg_ids: Option<MsgIds>,
    sig: Option<Value>,
    restart: bool,
}

/// ipyparallel sends one id bare.
#[derive(Deserialize)]
#[serde(untagged)]
enum MsgIds {
    One(String),
    Many(Vec<String>),
}

impl Engine {
    pub fn new(settings: Settings, now: Now) -> Self {
        let namespace = Namespace::default();
        let namespace_hash = namespace.hash();
        let until = now.instant + settings.timeout;
        Self {
            settings,
            phase: Phase::Starting { until },
            worker_ready: false,
            queue: VecDeque::new(),
            running: None,
            ahead: AheadList::default(),
            libraries: Libraries::default(),
            withdrawn: Withdrawn::default(),
            clears: Vec::new(),
            namespace,
            namespace_hash,
            made: Made::new(),
            before: None,
            pristine: true,
            was_quick: false,
            execution_count: 0,
            said_unprotected: false,
            run_last: 0,
            read_on_at: None,
            parent: Arc::from(&b"{}"[..]),
            effects: Vec::new(),
        }
    }

    /// Takes one event and returns what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Ended) {
            match event {
                Event::RegistrationReply(message) => self.registration_reply(&message, now),
                Event::Request { channel, message } => self.request(channel, message, now),
                Event::Ping(payload) => self.ping(payload, now),
                Event::Worker(event) => self.worker(event, now),
                Event::Compiled { run, result } => self.compiled(run, result, now),
                Event::Trampolines { run, result } => self.trampolines(run, result, now),
                Event::Found { run, found } => self.found(run, found, now),
                Event::Stop { cause } => self.end(0, cause),
                Event::Interrupt => {
                    self.interrupt(None, now);
                }
                Event::Tick => self.tick(now),
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] is due if nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let busy = self.running.as_ref().and_then(Running::busy_due);
        match self.phase {
            Phase::Ended => None,
            _ => {
                let others = [busy, self.read_on_at, self.libraries_due()];
                self.patience().into_iter().chain(others.into_iter().flatten()).min()
            }
        }
    }

    /// Until when this engine waits for somebody else: its worker, its controller.
    fn patience(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Starting { until } | Phase::Registering { until } => Some(*until),
            Phase::Registered { silence_max, last_ping, .. } => Some(*last_ping + *silence_max),
            Phase::Ended => None,
        }
    }

    /// The number the controller gave this engine.
    pub fn id(&self) -> Option<u32> {
        match self.phase {
            Phase::Registered { id, .. } => Some(id),
            _ => None,
        }
    }

    fn registration_reply(&mut self, message: &Message, now: Now) {
        if !matches!(self.phase, Phase::Registering { .. }) {
            return;
        }
        let reply = match message.content::<RegistrationReply>() {
            Ok(reply) => reply,
            Err(error) => {
                return self.end(1, format!("the controller's answer is unreadable: {error}"));
            }
        };
        let (true, Some(id)) = (reply.status == "ok", reply.id) else {
            let mut cause = format!("the controller refused the registration: {}", reply.evalue);
            if reply.evalue.contains("in use") {
                cause += "; an engine of this name is at work: stop it, or give another --uuid";
            }
            return self.end(1, cause);
        };
        let period_ms = reply.hb_period.map_or(PING_PERIOD_DEFAULT_MS, |period| period as u64);
        let silence_max = (Duration::from_millis(period_ms) + PING_GRACE) * PINGS_MISSED_MAX;
        self.phase = Phase::Registered { id, silence_max, last_ping: now.instant };
        self.effects.push(Effect::Join { id });
    }

    fn ping(&mut self, payload: Vec<u8>, now: Now) {
        if let Phase::Registered { last_ping, .. } = &mut self.phase {
            *last_ping = now.instant;
            self.effects.push(Effect::Pong(payload));
        }
    }

    fn tick(&mut self, now: Now) {
        self.tell_busy(now);
        self.ask_for_libraries(now);
        if self.read_on_at.is_some_and(|at| at <= now.instant) {
            self.read_on();
        }
        if self.patience().is_none_or(|until| now.instant < until) {
            return;
        }
        match self.phase {
            Phase::Starting { .. } => self.end(1, "the worker did not start in time".to_owned()),
            Phase::Registering { .. } => {
                self.end(1, "the controller did not answer the registration in time".to_owned());
            }
            Phase::Registered { .. } => self.end(1, "the controller is silent".to_owned()),
            Phase::Ended => (),
        }
    }

    fn worker(&mut self, event: WorkerEvent, now: Now) {
        match event {
            WorkerEvent::Ready { .. } => self.worker_is_ready(now),
            WorkerEvent::Output { stream, text } => self.output(stream, &text),
            WorkerEvent::Display { kind, id, data } => self.display(kind, id, data),
            WorkerEvent::Paused => self.paused(now),
            WorkerEvent::Request { request, topic, head, body } => {
                self.user_request(request, &topic, &head, body);
            }
            WorkerEvent::Done { run, outcome } => self.done(run, outcome, now),
            WorkerEvent::Recalled { runs } => self.recalled(&runs, now),
            WorkerEvent::Died { cause, restored, threads_lost } => {
                self.worker_died(&cause, restored, &threads_lost);
            }
            WorkerEvent::Failed { why } => self.worker_failed(why, now),
            WorkerEvent::Unprotected { resident_bytes } => self.unprotected(resident_bytes),
            WorkerEvent::InterruptCosts => self.interrupt_costs(),
            WorkerEvent::Stuck { threads_lost } => self.stuck(&threads_lost),
            // Answers to what an engine does not ask.
            WorkerEvent::NoSnapshot
            | WorkerEvent::Measured { .. }
            | WorkerEvent::Surroundings(_) => (),
        }
    }

    fn worker_is_ready(&mut self, now: Now) {
        self.worker_ready = true;
        // A process that has just started knows nothing, whatever the one before it knew.
        self.forget_namespace();
        if let Phase::Starting { .. } = self.phase {
            self.phase = Phase::Registering { until: now.instant + self.settings.timeout };
            self.effects.push(Effect::Register { id: self.settings.id });
            return;
        }
        for route in std::mem::take(&mut self.clears) {
            self.reply_plain(route, json!({"status": "ok"}));
        }
        self.start_next(now);
    }

    fn request(&mut self, channel: Channel, mut message: Message, now: Now) {
        let route = Route::new(channel, &mut message);
        match route.msg_type.as_str() {
            "execute_request" | "apply_request" => self.enqueue(Task::read(route, message), now),
            "library_request" => self.brought(route, message, now),
            "kernel_info_request" => self.reply_plain(route, kernel_info()),
            "abort_request" | "clear_request" | "shutdown_request" | "interrupt_request"
            | "signal_request" => self.control(route, &message, now),
            "read_on_request" => {
                self.read_on();
                self.reply_plain(route, json!({"status": "ok"}));
            }
            msg_type if msg_type.ends_with("_request") => {
                let fault = Fault::new("UnsupportedOperation", "an engine does not answer this");
                self.reply_fault(route, &fault);
            }
            // Comm messages and whatever a later protocol adds: nobody waits for an answer.
            _ => (),
        }
    }

    fn control(&mut self, route: Route, message: &Message, now: Now) {
        let content = match message.content::<ControlContent>() {
            Ok(content) => content,
            Err(error) => {
                let fault = Fault::new("BadRequest", format!("the content is unreadable: {error}"));
                return self.reply_fault(route, &fault);
            }
        };
        let msg_ids = content.msg_ids.map(|msg_ids| match msg_ids {
            MsgIds::One(msg_id) => vec![msg_id],
            MsgIds::Many(msg_ids) => msg_ids,
        });
        match route.msg_type.as_str() {
            "abort_request" => self.abort(route, msg_ids, now),
            "clear_request" => self.clear(route, now),
            "interrupt_request" => {
                let interrupted = self.interrupt(msg_ids.as_deref(), now);
                self.reply_plain(route, json!({"status": "ok", "interrupted": interrupted}));
            }
            "signal_request" => self.signal(route, content.sig.as_ref(), now),
            _ if content.restart => self.restart(route, now),
            _ => self.shut_down(route),
        }
    }

    /// Takes `msg_ids` (or everything) out of the queue; each gets its reply at once. Ids that are
    /// not here may still be on their way.
    pub(super) fn abort(&mut self, route: Route, msg_ids: Option<Vec<String>>, now: Now) {
        let Some((route, msg_ids)) = self.waits_for_ahead(route, msg_ids) else { return };
        match msg_ids {
            None => self.abort_queued(|_| true, now),
            Some(msg_ids) => {
                let wanted = msg_ids.iter().map(String::as_str).collect::<Vec<_>>();
                let wanted = wanted.into_iter().collect::<std::collections::HashSet<_>>();
                let waits = |task: &Task| wanted.contains(task.route.msg_id.as_str());
                let here = self.queue.iter().filter(|task| waits(task));
                let mut here: Vec<String> = here.map(|task| task.route.msg_id.clone()).collect();
                here.extend(self.running.as_ref().map(|running| running.msg_id().to_owned()));
                self.abort_queued(waits, now);
                let here = here.into_iter().collect::<std::collections::HashSet<_>>();
                let absent = msg_ids.into_iter().filter(|msg_id| !here.contains(msg_id));
                absent.for_each(|msg_id| self.withdrawn.insert(msg_id));
            }
        }
        self.reply_plain(route, json!({"status": "ok"}));
    }

    /// A fresh worker once the running work has ended; the queue waits for it.
    fn clear(&mut self, route: Route, now: Now) {
        if self.pristine && self.running.is_none() && self.worker_ready {
            return self.reply_plain(route, json!({"status": "ok"}));
        }
        self.clears.push(route);
        self.start_next(now);
    }

    fn signal(&mut self, route: Route, sig: Option<&Value>, now: Now) {
        let text = match sig {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        if text == "0" {
            return self.reply_plain(route, json!({"status": "ok"}));
        }
        match Signal::read(&text).map(Signal::number) {
            Some(number) if number == Signal::Interrupt.number() => {
                self.interrupt(None, now);
                self.reply_plain(route, json!({"status": "ok"}));
            }
            Some(number) if ENDING_SIGNALS.contains(&number) => {
                self.reply_plain(route, json!({"status": "ok"}));
                let name = crate::process::signal_name(number);
                self.end(128 + number, format!("killed by {name}, as a client asked"));
            }
            _ => {
                let text = format!("signal {text:?} is not one an engine takes");
                self.reply_fault(route, &Fault::new("UnsupportedOperation", text));
            }
        }
    }

    /// The worker is replaced under the same engine id; work in hand ends as an error.
    fn restart(&mut self, route: Route, now: Now) {
        self.clears.push(route);
        self.abort_ahead(now);
        self.abort_queued(|_| true, now);
        if let Some(running) = self.running.take() {
            let fault = Fault::new("EngineError", "the engine was restarted while this ran");
            self.finish_fault(running, &fault, now);
        }
        self.start_next(now);
    }

    fn shut_down(&mut self, route: Route) {
        let content = json!({"status": "ok", "restart": false});
        // The hub also takes the copy on iopub as an unregistration.
        self.publish_for(
            Arc::clone(&route.parent),
            "shutdown",
            "shutdown_reply",
            content.clone(),
            Vec::new(),
        );
        self.reply_plain(route, content);
        self.end(0, "shut down by a client".to_owned());
    }

    pub(super) fn end(&mut self, code: i32, cause: String) {
        if let Some(id) = self.id() {
            self.effects.push(Effect::Unregister { id, cause: cause.clone() });
        }
        self.phase = Phase::Ended;
        self.effects.push(Effect::Exit { code, cause });
    }

    pub(super) fn reply_plain(&mut self, route: Route, content: Value) {
        let msg_type = route.reply_type();
        let Route { channel, ids, parent, .. } = route;
        let metadata = Metadata::Plain { engine: Arc::clone(&self.settings.uuid) };
        let buffers = Vec::new();
        let reply = Reply { channel, ids, parent, msg_type, metadata, content, buffers };
        self.effects.push(Effect::Reply(Box::new(reply)));
    }

    pub(super) fn reply_fault(&mut self, route: Route, fault: &Fault) {
        let content = error_content(fault, &self.engine_info(""), None);
        self.reply_plain(route, content);
    }

    pub(super) fn publish_for(
        &mut self,
        parent: Arc<[u8]>,
        topic: &str,
        msg_type: &'static str,
        content: Value,
        buffers: Vec<Vec<u8>>,
    ) {
        let Some(id) = self.id() else { return };
        let topic = format!("engine.{id}.{topic}");
        let publication = Publication { topic, parent, msg_type, content, buffers };
        self.effects.push(Effect::Publish(Box::new(publication)));
    }

    pub(super) fn engine_info(&self, method: &'static str) -> EngineInfo {
        EngineInfo {
            engine_uuid: Arc::clone(&self.settings.uuid),
            engine_id: self.id().map_or(-1, i64::from),
            method,
        }
    }
}

/// HUP, QUIT, ABRT, KILL, TERM: what a signal to the engine's process would end.
const ENDING_SIGNALS: [i32; 5] = [1, 3, 6, 9, 15];

fn kernel_info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.4",
        "implementation": "prust",
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "rust",
            "version": "",
            "mimetype": "text/rust",
            "file_extension": ".rs",
        },
        "banner": "prust engine",
        "help_links": [],
    })
}
