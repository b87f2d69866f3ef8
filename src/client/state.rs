//! The client's tables and the one place where events come in and effects go out. Pure: no socket,
//! no clock. The arms live in `requests`, `submit`, `window`, `replies`, `query`, `control` and
//! `waits`, beside it.

use super::bring::Brought;
use super::command::{ClientEvent, Command, EngineInfo, SubmissionId};
use super::event::{Channel, Effect, Event, Now, Number, Outgoing, raw};
use super::fetch::Fetches;
use super::files::Files;
use super::missing::Missing;
use super::names::Names;
use super::probe::Others;
use super::query::{Asked, Query};
use super::submission::Submission;
use super::waits::Wait;
use super::window::Window;
use prust::EngineId;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Engines are asked for again this often, in case a notification was lost while sockets connected.
const ENGINES_ASKED_EVERY: Duration = Duration::from_secs(5);
/// The first times are sooner: a subscription takes a moment to be in force.
const ENGINES_ASKED_FIRST: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(700)];
/// Uuids of lost engines remembered, so that late messages still find their number.
const LOST_ENGINES_MAX: usize = 1000;

/// What the client is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `Client::connect` in a cell waits for that many engines (for `CONNECT_WAIT_MAX` at most).
    pub n_engines_expected: usize,
    /// Submissions are numbered after this one: a cell may still hold handles of a client before.
    pub submissions_before: SubmissionId,
    /// Values and payloads kept, in bytes; beyond it the oldest results are dropped, unreferenced
    /// ones first.
    pub results_bytes_max: u64,
    /// A folder in memory that this process shares with cells and engines, all on this machine: for
    /// values too large to be sent.
    pub shared_folder: Option<Arc<str>>,
    /// The cluster is not this process's own: its engines may be of other languages, its controller
    /// may end without a word.
    pub foreign: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_engines_expected: 1,
            submissions_before: 0,
            results_bytes_max: 2 << 30,
            shared_folder: None,
            foreign: false,
        }
    }
}

pub(super) struct Engine {
    pub(super) uuid: Arc<str>,
    /// Direct tasks sent and not ended, oldest first; the first one runs.
    pub(super) queue: VecDeque<(SubmissionId, u32)>,
    /// The last number given out when the engine became known: a list that was asked for later
    /// knows it.
    known_at: Number,
}

pub(super) struct State {
    pub(super) settings: Settings,
    /// What every message id of ours starts with.
    pub(super) prefix: String,
    pub(super) n_numbers: Number,
    pub(super) connected: bool,
    pub(super) engines: BTreeMap<EngineId, Engine>,
    by_uuid: HashMap<Arc<str>, EngineId>,
    lost: VecDeque<(Arc<str>, EngineId, String)>,
    pub(super) others: Others,
    pub(super) fetches: Fetches,
    pub(super) missing: Missing,
    pub(super) brought: Brought,
    /// Boxed: the tree moves its entries about.
    pub(super) submissions: BTreeMap<SubmissionId, Box<Submission>>,
    pub(super) n_submissions: SubmissionId,
    pub(super) names: Names,
    pub(super) window: Window,
    /// The submission whose tasks have the numbers from here on.
    pub(super) by_number: BTreeMap<Number, SubmissionId>,
    /// Tasks that had to be sent again, under their later numbers.
    pub(super) aliases: HashMap<Number, (SubmissionId, u32)>,
    /// Replies whose output is still to come, by when it is not waited for any more.
    pub(super) settling: BTreeSet<(Duration, SubmissionId, u32)>,
    pub(super) waits: BTreeMap<u64, Wait>,
    pub(super) queries: BTreeMap<Number, Asked>,
    /// Submissions whose end has not been told.
    pub(super) active: BTreeSet<SubmissionId>,
    /// Those that have changed since the last look, and when the kernel is to hear of it.
    pub(super) touched: Vec<SubmissionId>,
    pub(super) due: BTreeSet<(Duration, SubmissionId)>,
    pub(super) bytes_held: u64,
    pub(super) files: Files,
    engines_asked: Option<Duration>,
    n_engines_asked: usize,
    pub(super) effects: Vec<Effect>,
    pub(super) empty: Arc<RawValue>,
}

impl State {
    /// `prefix`: what every message id starts with; a number follows.
    pub(super) fn new(prefix: String, settings: Settings) -> Self {
        let n_submissions = settings.submissions_before;
        Self {
            settings,
            prefix,
            n_numbers: 0,
            connected: false,
            engines: BTreeMap::new(),
            by_uuid: HashMap::new(),
            lost: VecDeque::new(),
            others: Others::default(),
            fetches: Fetches::default(),
            missing: Missing::default(),
            brought: Brought::default(),
            submissions: BTreeMap::new(),
            n_submissions,
            names: Names::default(),
            window: Window::default(),
            by_number: BTreeMap::new(),
            aliases: HashMap::new(),
            settling: BTreeSet::new(),
            waits: BTreeMap::new(),
            queries: BTreeMap::new(),
            active: BTreeSet::new(),
            touched: Vec::new(),
            due: BTreeSet::new(),
            bytes_held: 0,
            files: Files::default(),
            engines_asked: None,
            n_engines_asked: 0,
            effects: Vec::new(),
            empty: raw(&json!({})),
        }
    }

    /// Takes one event; gives what is to be done, in order.
    pub(super) fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Command(command) => self.command(command, now),
            Event::EngineList(number, engines) => self.engine_list(number, engines, now),
            Event::Registered { id, uuid } => {
                // An engine that had fallen silent may come back as who it was.
                self.lost.retain(|(lost, ..)| **lost != uuid);
                self.registered(vec![(id, uuid)], now);
            }
            Event::EngineSaid { number, implementation } => {
                self.engine_said(number, implementation, now);
            }
            Event::Unregistered { id, uuid, cause } => {
                self.lose_other(id, &uuid);
                self.unregistered(id, &uuid, cause, now);
            }
            Event::ControllerStops => self.controller_stops(now),
            Event::Reply(reply) => self.reply(*reply, now),
            Event::Answered { number, msg_type, content, buffers } => {
                self.answered(number, msg_type, content, buffers, now);
            }
            Event::Published { number, engine, what } => self.published(number, engine, what, now),
            Event::Tick => (),
        }
        self.ask_for_engines(now);
        self.end_by_silence(now);
        self.ask_again(now);
        self.poll_fetches(now);
        self.look_for_missing(now);
        self.end_waits_by_time(now);
        self.settle_by_time(now);
        self.tell_progress(now);
        std::mem::take(&mut self.effects)
    }

    fn command(&mut self, command: Command, now: Now) {
        match command {
            Command::Request { from, cell, head, body } => {
                self.request(from, &cell, &head, body, now);
            }
            Command::Interrupt => self.interrupt_waits(),
            Command::ReadOn { engine } => self.read_on(engine),
            Command::Bring { engine, names, folder } => self.bring(engine, names, folder, now),
            Command::Cell(work) => self.cell(work, now),
            Command::CellFailed { submission, ename, evalue, traceback } => {
                let failure = prust::outcome::Failure { ename, evalue, traceback };
                self.cell_failed(submission, &failure, now);
            }
            Command::Stop { submission, running } => {
                let _counted = self.stop(submission, running, now);
            }
            Command::Retry { tag, submission } => {
                let submission = self.retry(submission, now);
                self.emit(ClientEvent::Retried { tag, submission });
            }
            Command::Signal { targets, signal } => {
                let _told_by_the_engines = self.signal(&targets, signal, now);
            }
            Command::Hub { tag, msg_type, content } => {
                self.query(Query::KernelHub { tag }, &msg_type, raw(&content), now);
            }
            Command::EngineGone { uuid, cause } => {
                if let Some(id) = self.by_uuid.get(uuid.as_str()).copied() {
                    // The controller would notice by missing heartbeats only, and keep what the
                    // engine had until then.
                    let content = raw(&json!({"id": id, "cause": cause}));
                    self.send_plain(Channel::Query, None, "unregistration_request", content);
                    self.unregistered(id, &uuid, Some(cause), now);
                }
            }
            Command::Close => self.close(),
        }
    }

    /// When `handle` wants to be called with `Tick` at the latest.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let waits = self.waits.values().filter_map(Wait::deadline);
        let others = [self.next_settling(), self.next_progress(), Some(self.engines_due())];
        waits
            .chain(
                others
                    .into_iter()
                    .chain([self.next_query(), self.fetches.next(), self.missing.next()])
                    .flatten(),
            )
            .min()
    }

    pub(super) fn emit(&mut self, event: ClientEvent) {
        self.effects.push(Effect::Emit(event));
    }

    pub(super) fn next_number(&mut self) -> Number {
        self.n_numbers += 1;
        self.n_numbers
    }

    pub(super) fn msg_id(&self, number: Number) -> String {
        let others = self.fetches.id(number).map(str::to_owned);
        others.unwrap_or_else(|| format!("{}{number}", self.prefix))
    }

    /// Sends a message that is not a task; gives its number.
    pub(super) fn send_plain(
        &mut self,
        channel: Channel,
        to: Option<Arc<str>>,
        msg_type: &str,
        content: Arc<RawValue>,
    ) -> Number {
        let number = self.next_number();
        self.send_numbered(number, channel, to, msg_type.into(), content);
        number
    }

    pub(super) fn send_numbered(
        &mut self,
        number: Number,
        channel: Channel,
        to: Option<Arc<str>>,
        msg_type: Arc<str>,
        content: Arc<RawValue>,
    ) {
        let metadata = self.empty.clone();
        let buffers = Vec::new();
        self.effects.push(Effect::Send(Outgoing {
            channel,
            to,
            number,
            msg_type,
            metadata,
            content,
            buffers,
        }));
    }

    pub(super) fn live(&self) -> Vec<EngineId> {
        self.engines.keys().copied().collect()
    }

    pub(super) fn engine_of(&self, uuid: &str) -> Option<EngineId> {
        let lost = || self.lost.iter().find(|(known, ..)| &**known == uuid).map(|(_, id, _)| *id);
        self.by_uuid.get(uuid).copied().or_else(lost)
    }

    /// The task that a message of this number is.
    pub(super) fn task_of(&self, number: Number) -> Option<(SubmissionId, u32)> {
        if let Some(task) = self.aliases.get(&number) {
            return Some(*task).filter(|(id, _)| self.submissions.contains_key(id));
        }
        let (first, id) = self.by_number.range(..=number).next_back()?;
        let task = u32::try_from(number - first).ok()?;
        let n_tasks = self.submissions.get(id)?.tasks.len();
        ((task as usize) < n_tasks).then_some((*id, task))
    }

    fn engines_due(&self) -> Duration {
        let every = ENGINES_ASKED_FIRST.get(self.n_engines_asked.saturating_sub(1));
        self.engines_asked
            .map_or(Duration::ZERO, |asked| asked + every.copied().unwrap_or(ENGINES_ASKED_EVERY))
    }

    fn ask_for_engines(&mut self, now: Now) {
        if now.at >= self.engines_due() {
            self.engines_asked = Some(now.at);
            self.n_engines_asked += 1;
            let content = self.empty.clone();
            self.send_plain(Channel::Query, None, "connection_request", content);
        }
    }

    fn engine_list(&mut self, number: Number, engines: Vec<(EngineId, String)>, now: Now) {
        if !self.connected {
            self.connected = true;
            self.emit(ClientEvent::Connected);
        }
        self.heard(now);
        self.keep_others(&engines);
        let gone: Vec<(EngineId, Arc<str>)> = self
            .engines
            .iter()
            .filter(|(id, engine)| {
                engine.known_at < number && !engines.iter().any(|(live, _)| live == *id)
            })
            .map(|(id, engine)| (*id, engine.uuid.clone()))
            .collect();
        for (id, uuid) in gone {
            self.unregistered(id, &uuid, None, now);
        }
        // The list may be older than a notification that is here already; no uuid lives twice.
        let lost = |uuid: &str| self.lost.iter().any(|(lost, ..)| &**lost == uuid);
        let engines = engines.into_iter().filter(|(_, uuid)| !lost(uuid)).collect();
        self.registered(engines, now);
    }

    fn registered(&mut self, engines: Vec<(EngineId, String)>, now: Now) {
        let engines = self.probe(engines, now);
        self.live_now(engines, now);
    }

    pub(super) fn is_live(&self, id: EngineId, uuid: &str) -> bool {
        self.engines.get(&id).is_some_and(|engine| &*engine.uuid == uuid)
    }

    /// These engines take work.
    pub(super) fn live_now(&mut self, engines: Vec<(EngineId, String)>, now: Now) {
        let mut lost = Vec::new();
        let mut changed = false;
        for (id, uuid) in engines {
            match self.engines.get(&id) {
                Some(known) if *known.uuid == *uuid => continue,
                Some(known) => {
                    let uuid = known.uuid.clone();
                    let cause = "another engine has taken its number";
                    lost.extend(self.lose(id, &uuid, cause, now));
                }
                None => (),
            }
            let uuid: Arc<str> = uuid.into();
            self.by_uuid.insert(uuid.clone(), id);
            let known_at = self.n_numbers;
            self.engines.insert(id, Engine { uuid, queue: VecDeque::new(), known_at });
            changed = true;
        }
        if changed {
            self.tell_engines(lost);
        }
        self.end_engine_waits();
        for id in self.active.clone() {
            self.refresh_hint(id);
        }
    }

    fn unregistered(&mut self, id: EngineId, uuid: &str, cause: Option<String>, now: Now) {
        let cause = cause.unwrap_or_else(|| "it left or stopped answering".to_owned());
        let lost = self.lose(id, uuid, &cause, now);
        if lost.is_some() {
            self.tell_engines(lost.into_iter().collect());
        }
    }

    fn lose(
        &mut self,
        id: EngineId,
        uuid: &str,
        cause: &str,
        now: Now,
    ) -> Option<(EngineId, String)> {
        if self.engines.get(&id).is_none_or(|engine| &*engine.uuid != uuid) {
            return None;
        }
        let engine = self.engines.remove(&id)?;
        self.by_uuid.remove(&engine.uuid);
        self.lost.push_back((engine.uuid.clone(), id, cause.to_owned()));
        if self.lost.len() > LOST_ENGINES_MAX {
            self.lost.pop_front();
        }
        self.fail_stranded(id, &engine, cause, now);
        Some((id, cause.to_owned()))
    }

    fn tell_engines(&mut self, lost: Vec<(EngineId, String)>) {
        let live = self.engines.iter();
        let live = live.map(|(id, engine)| EngineInfo { id: *id, uuid: engine.uuid.to_string() });
        let event = ClientEvent::Engines { live: live.collect(), lost };
        self.emit(event);
    }

    /// The uuid behind an engine's number, live or lost.
    pub(super) fn uuid_of(&self, id: EngineId) -> Option<String> {
        let live = self.engines.get(&id).map(|engine| engine.uuid.to_string());
        let lost = || self.lost.iter().rev().find(|(_, known, _)| *known == id);
        live.or_else(|| lost().map(|(uuid, ..)| uuid.to_string()))
    }

    fn controller_stops(&mut self, now: Now) {
        self.controller_gone("the controller has stopped", now);
    }

    /// Engines that were lost with their controller come back with it.
    pub(super) fn forget_lost(&mut self, engines: &[EngineId]) {
        self.lost.retain(|(_, id, _)| !engines.contains(id));
    }

    pub(super) fn controller_gone(&mut self, cause: &str, now: Now) {
        let engines: Vec<(EngineId, Arc<str>)> =
            self.engines.iter().map(|(id, engine)| (*id, engine.uuid.clone())).collect();
        for (id, uuid) in engines {
            self.unregistered(id, &uuid, Some(cause.to_owned()), now);
        }
        self.fail_balanced(cause, now);
        self.give_up_all_queries(cause);
    }

    fn close(&mut self) {
        self.refuse_waits(&prust::Error::Disconnected {
            reason: "the client was closed".to_owned(),
        });
        self.effects.push(Effect::Close);
    }
}
