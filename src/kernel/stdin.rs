//! Questions of the running cell to the person at the frontend. One is open at a time; never waits.
use std::collections::VecDeque;

use super::face::{Effect, Face};
use super::outbox::{Outgoing, body};
use super::seam::{Answer, Work};
use crate::wire::Message;
use crate::wire::connection::Channel;
use crate::wire::jupyter::{InputReply, InputRequest, Object};

/// What frontends send for the end of input (Ctrl-D).
const END_OF_FILE: &str = "\u{4}";

struct Question {
    request: u64,
    prompt: String,
    password: bool,
}

/// The questions that are not answered yet; the first one is open if it has an id.
#[derive(Default)]
pub(super) struct Questions {
    waiting: VecDeque<Question>,
    open_id: Option<String>,
    n_asked: u64,
}

impl Questions {
    /// Forgets all; late answers will be dropped.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.open_id = None;
    }
}

impl Face {
    pub(super) fn ask(&mut self, request: u64, prompt: String, password: bool) {
        let may_ask = self.session.running.as_ref().is_some_and(|running| running.allow_stdin);
        if !may_ask {
            let answer = Answer::Refused;
            return self.outbox.push(Effect::Work(Work::Input { request, answer }));
        }
        self.questions.waiting.push_back(Question { request, prompt, password });
        self.ask_next();
    }

    /// Takes an input reply; one that nobody waits for is dropped.
    pub(super) fn answered(&mut self, message: &Message) {
        let Some(open_id) = &self.questions.open_id else { return };
        // Python's clients send no parent; the others name the question they answer.
        let stale = message
            .parent()
            .is_some_and(|parent| parent.msg_type == "input_request" && parent.msg_id != *open_id);
        if message.header.msg_type != "input_reply" || stale {
            return;
        }
        let InputReply { value } = message.content().unwrap_or_default();
        let Some(question) = self.questions.waiting.pop_front() else { return };
        self.questions.open_id = None;
        let answer = if value == END_OF_FILE { Answer::EndOfFile } else { Answer::Line(value) };
        self.outbox.push(Effect::Work(Work::Input { request: question.request, answer }));
        self.ask_next();
    }

    fn ask_next(&mut self) {
        let questions = &mut self.questions;
        let (Some(question), None) = (questions.waiting.front(), &questions.open_id) else {
            return;
        };
        let Some(running) = &self.session.running else { return };
        questions.n_asked += 1;
        let msg_id = format!("{}_input_{}", self.session_id, questions.n_asked);
        questions.open_id = Some(msg_id.clone());
        let content = InputRequest { prompt: question.prompt.clone(), password: question.password };
        // What the cell printed is the context of its question.
        self.outbox.flush();
        self.outbox.route(Outgoing {
            channel: Channel::Stdin,
            ids: running.ids.clone(),
            date: None,
            msg_id: Some(msg_id),
            msg_type: "input_request".to_owned(),
            parent: running.origin.parent.clone(),
            metadata: Object::new(),
            content: body(&content),
            buffers: Vec::new(),
        });
    }
}
