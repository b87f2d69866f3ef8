//! The kernel's Jupyter face as pure state: one event in, effects out. Knows the order of messages;
//! never touches a socket, never waits, reads no clock.
//!
//! Executions and history requests are answered one after another. Everything else on shell, and
//! all of control, is answered at once, also while a cell runs; the running cell's `busy` is then
//! published again, because frontends show the last status they saw.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use super::comm::Comms;
use super::outbox::{Outbox, Outgoing, body};
use super::seam::{Names, Outcome, Report, Run, RunId, Work};
use super::session::{Origin, Running, Session};
use super::stdin::Questions;
use super::{magics, requests};
use crate::wire::Message;
use crate::wire::connection::Channel;
use crate::wire::envelope::iso;
use crate::wire::jupyter::{
    ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest, ExecutionState, Object, ShutdownReply,
    ShutdownRequest,
};

/// Executions that may wait; more are aborted at once. A notebook has some hundred cells.
const QUEUE_MAX: usize = 10_000;

/// Everything that can set the kernel in motion.
#[derive(Debug)]
pub(super) enum Event {
    Shell(Message),
    Control(Message),
    Stdin(Message),
    /// Somebody subscribed to the broadcast.
    Subscribed(Vec<u8>),
    Report(Report),
    /// SIGINT.
    Interrupt,
    /// SIGTERM, or the process that started the kernel died.
    Terminate,
    /// No subscriber came in time: nothing is held back any more.
    HoldOver,
    /// `Face::deadline` has passed.
    Tick,
}

/// Everything the face wants done.
#[derive(Debug)]
pub(super) enum Effect {
    Send(Outgoing),
    Work(Work),
    /// Comes back as an event, after what has arrived in the meantime.
    Report(Report),
    Exit,
}

/// A request's header as it came, to be sent back byte for byte; empty for nobody's request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parent(pub(super) Arc<[u8]>);

impl Parent {
    pub(super) fn of(message: &Message) -> Self {
        Self(message.raw_header.as_slice().into())
    }
}

/// The time of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

pub(super) struct Face {
    pub(super) session_id: String,
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    pub(super) comms: Comms,
    pub(super) questions: Questions,
    pub(super) names: Arc<Names>,
    pub(super) rust_version: String,
    pub(super) ports: Object,
    /// When a cell that floods is read on, if one waits; and when one was read on last.
    pub(super) read_on_at: Option<Instant>,
    pub(super) read_on_last: Option<Instant>,
    closing: bool,
}

impl Face {
    /// `ports`: what a `connect_request` is told.
    pub(super) fn new(session_id: &str, kernel_id: &str, ports: Object) -> Self {
        let mut outbox = Outbox::new(kernel_id);
        outbox.status(ExecutionState::Starting, &Parent::default());
        Self {
            session_id: session_id.to_owned(),
            outbox,
            session: Session::default(),
            comms: Comms::default(),
            questions: Questions::default(),
            names: Arc::default(),
            rust_version: env!("CARGO_PKG_RUST_VERSION").to_owned(),
            ports,
            read_on_at: None,
            read_on_last: None,
            closing: false,
        }
    }

    /// When `Event::Tick` is due, if at all; ask again after every event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.outbox.deadline().into_iter().chain(self.read_on_at).min()
    }

    pub(super) fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        self.outbox.wall = now.wall;
        match event {
            Event::Shell(message) => self.shell(message, now),
            Event::Control(message) => self.control(&message, now),
            Event::Stdin(message) => self.answered(&message),
            Event::Subscribed(subscription) => self.outbox.subscribed(&subscription),
            Event::Report(report) => self.report(report, now),
            Event::Interrupt => self.interrupt(),
            Event::Terminate => self.end(false, now),
            Event::HoldOver => self.outbox.release(),
            Event::Tick => {
                self.outbox.tick(now.instant);
                self.read_on(now.instant);
            }
        }
        self.outbox.take()
    }

    fn shell(&mut self, message: Message, now: Moment) {
        match message.header.msg_type.as_str() {
            "execute_request" | "history_request" if self.closing => self.abort(&message),
            "execute_request" | "history_request" => {
                if self.session.queue.len() >= QUEUE_MAX {
                    self.abort(&message);
                } else {
                    self.session.queue.push_back(message);
                    self.advance(now);
                }
            }
            "shutdown_request" => self.shutdown(Channel::Shell, &message, now),
            _ => self.answer(Channel::Shell, &message),
        }
    }

    fn control(&mut self, message: &Message, now: Moment) {
        match message.header.msg_type.as_str() {
            "shutdown_request" => self.shutdown(Channel::Control, message, now),
            _ => self.answer(Channel::Control, message),
        }
    }

    /// Answers a request that need not wait for the running cell.
    fn answer(&mut self, channel: Channel, message: &Message) {
        let parent = Parent::of(message);
        self.outbox.status(ExecutionState::Busy, &parent);
        requests::answer(self, channel, message, &parent);
        self.outbox.status(ExecutionState::Idle, &parent);
        if let Some(running) = &self.session.running {
            self.outbox.status(ExecutionState::Busy, &running.origin.parent);
        }
    }

    /// Sends a reply to `message` on the channel it came from.
    pub(super) fn reply(
        &mut self,
        channel: Channel,
        message: &Message,
        msg_type: &str,
        content: &impl Serialize,
    ) {
        let (ids, parent) = (message.ids.clone(), Parent::of(message));
        self.reply_to(channel, ids, &parent, msg_type, Object::new(), content);
    }

    fn reply_to(
        &mut self,
        channel: Channel,
        ids: Vec<Vec<u8>>,
        parent: &Parent,
        msg_type: &str,
        metadata: Object,
        content: &impl Serialize,
    ) {
        self.outbox.route(Outgoing {
            channel,
            ids,
            date: None,
            msg_id: None,
            msg_type: msg_type.to_owned(),
            parent: parent.clone(),
            metadata,
            content: body(content),
            buffers: Vec::new(),
        });
    }

    /// Starts the next waiting request if nothing runs.
    fn advance(&mut self, now: Moment) {
        while self.session.running.is_none() && !self.closing {
            let Some(message) = self.session.queue.pop_front() else { return };
            match message.header.msg_type.as_str() {
                "execute_request" => self.execute(&message, now),
                _ => self.answer(Channel::Shell, &message),
            }
        }
    }

    fn execute(&mut self, message: &Message, now: Moment) {
        let parent = Parent::of(message);
        self.outbox.status(ExecutionState::Busy, &parent);
        let request: ExecuteRequest = match message.content() {
            Ok(request) => request,
            Err(error) => {
                let reply = requests::bad_request(&error);
                self.reply(Channel::Shell, message, "execute_reply", &reply);
                self.outbox.status(ExecutionState::Idle, &parent);
                return;
            }
        };
        let blank = request.code.trim().is_empty();
        let stored = request.store_history() && !blank;
        let count = match stored {
            true => self.session.store(&request.code),
            false => self.session.count(),
        };
        if !request.silent {
            let input = ExecuteInput { code: &request.code, execution_count: count };
            self.outbox.publish("execute_input", &parent, &input);
        }
        let metadata = message.metadata_value();
        let cell_id = metadata["cellId"].as_str().map(str::to_owned);
        let origin = Origin {
            run: self.session.next_run(),
            parent,
            has_cell_id: cell_id.is_some(),
            silent: request.silent,
        };
        self.session.remember(origin.clone());
        let label = if stored { format!("In[{count}]") } else { "In[*]".to_owned() };
        let run = origin.run;
        self.session.running = Some(Running {
            origin,
            ids: message.ids.clone(),
            count,
            allow_stdin: request.allow_stdin,
            stop_on_error: request.stop_on_error() && !request.silent,
            stored,
            expressions: request.expressions().into_iter().map(|(name, _)| (name, None)).collect(),
            started: iso(now.wall),
        });
        self.submit(run, label, request, blank, cell_id);
    }

    /// Hands a cell to the executor, unless it is settled by reading it.
    fn submit(
        &mut self,
        run: RunId,
        label: String,
        request: ExecuteRequest,
        blank: bool,
        cell_id: Option<String>,
    ) {
        if blank {
            let outcome = Outcome::ok();
            self.outbox.push(Effect::Report(Report::Done { run, outcome }));
            return;
        }
        let names = Arc::clone(&self.names);
        let effect = match magics::read(&request.code, &|name| names.knows(name)) {
            Ok(cell) => {
                let expressions = request.expressions();
                let ExecuteRequest { code, silent, .. } = request;
                let run = Run { run, label, code, cell, cell_id, silent, expressions };
                Effect::Work(Work::Run(run))
            }
            Err(problem) => {
                let outcome = problem.outcome(&label);
                Effect::Report(Report::Done { run, outcome })
            }
        };
        self.outbox.push(effect);
    }

    pub(super) fn done(&mut self, run: RunId, outcome: Outcome, now: Moment) {
        let is_now = |running: &mut Running| running.origin.run == run;
        let Some(running) = self.session.running.take_if(is_now) else {
            tracing::debug!(run, "a run that had ended was reported again");
            return;
        };
        let stop = matches!(outcome, Outcome::Error { .. }) && running.stop_on_error;
        self.conclude(running, outcome);
        if stop {
            self.abort_queue();
        }
        self.advance(now);
    }

    /// The error, the reply and idle of a run, back to back.
    fn conclude(&mut self, running: Running, outcome: Outcome) {
        self.questions.clear();
        let execution_count = running.count;
        let parent = running.origin.parent;
        let (status, reply) = match outcome {
            Outcome::Ok { payload } => {
                let user_expressions = completed(running.expressions);
                ("ok", ExecuteReply::Ok { execution_count, payload, user_expressions })
            }
            Outcome::Error { ename, evalue, traceback } => {
                let error = ErrorOutput { ename, evalue, traceback };
                if !running.origin.silent {
                    self.outbox.publish("error", &parent, &error);
                }
                let ErrorOutput { ename, evalue, traceback } = error;
                let reply = ExecuteReply::Error {
                    execution_count,
                    ename,
                    evalue,
                    traceback,
                    payload: Vec::new(),
                    user_expressions: Object::new(),
                };
                ("error", reply)
            }
        };
        let mut metadata = Object::new();
        metadata.insert("started".to_owned(), running.started.into());
        metadata.insert("status".to_owned(), status.into());
        // The idle flushes, but the text must come before the reply on the wire, too.
        self.outbox.flush();
        self.reply_to(Channel::Shell, running.ids, &parent, "execute_reply", metadata, &reply);
        self.outbox.status(ExecutionState::Idle, &parent);
    }

    /// Aborts the executions that wait, and keeps the other requests.
    fn abort_queue(&mut self) {
        let queue = std::mem::take(&mut self.session.queue);
        let is_execution = |message: &Message| message.header.msg_type == "execute_request";
        let (executions, others): (VecDeque<_>, VecDeque<_>) =
            queue.into_iter().partition(is_execution);
        self.session.queue = others;
        for message in executions {
            self.abort(&message);
        }
    }

    fn abort(&mut self, message: &Message) {
        let parent = Parent::of(message);
        let msg_type = message.header.msg_type.replace("_request", "_reply");
        let reply = ExecuteReply::Aborted { execution_count: self.session.count() };
        self.outbox.status(ExecutionState::Busy, &parent);
        self.reply(Channel::Shell, message, &msg_type, &reply);
        self.outbox.status(ExecutionState::Idle, &parent);
        if let Some(running) = &self.session.running {
            self.outbox.status(ExecutionState::Busy, &running.origin.parent);
        }
    }

    /// Interrupts the running cell, if any; its questions are taken back.
    pub(super) fn interrupt(&mut self) {
        if self.session.running.is_some() {
            self.questions.clear();
            self.outbox.push(Effect::Work(Work::Interrupt));
        }
    }

    fn shutdown(&mut self, channel: Channel, message: &Message, now: Moment) {
        let parent = Parent::of(message);
        let request: ShutdownRequest = message.content().unwrap_or_default();
        self.outbox.status(ExecutionState::Busy, &parent);
        let reply = ShutdownReply { status: "ok", restart: request.restart };
        self.stop(request.restart);
        self.reply(channel, message, "shutdown_reply", &reply);
        self.outbox.publish("shutdown_reply", &parent, &reply);
        self.outbox.status(ExecutionState::Idle, &parent);
        self.end(request.restart, now);
    }

    /// Ends what runs and what waits, once.
    fn stop(&mut self, restart: bool) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        self.outbox.push(Effect::Work(Work::Shutdown { restart }));
        if let Some(running) = self.session.running.take() {
            let outcome = Outcome::Error {
                ename: "Interrupted".to_owned(),
                evalue: "the kernel was shut down".to_owned(),
                traceback: vec!["Interrupted: the kernel was shut down".to_owned()],
            };
            self.conclude(running, outcome);
        }
        self.abort_queue();
    }

    fn end(&mut self, restart: bool, now: Moment) {
        self.stop(restart);
        self.outbox.release();
        self.outbox.tick(now.instant);
        self.outbox.push(Effect::Exit);
    }
}

impl Names {
    /// Whether a cell could mean a variable or an item by `name`.
    pub fn knows(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| variable.name == name)
            || self.items.iter().any(|item| item.name == name)
    }
}

/// What the executor said of each user expression; one it said nothing of is an error.
fn completed(expressions: Vec<(String, Option<Value>)>) -> Object {
    let unsaid = || {
        json!({
            "status": "error",
            "ename": "UnsupportedOperation",
            "evalue": "this expression was not evaluated",
            "traceback": [],
        })
    };
    let said = |(name, value): (String, Option<Value>)| (name, value.unwrap_or_else(unsaid));
    expressions.into_iter().map(said).collect()
}

#[cfg(test)]
#[path = "face_tests.rs"]
mod tests;
