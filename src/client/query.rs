//! Questions to the controller. A connection that is cut may lose one, or its answer, and nobody
//! says so: what has no answer in time is asked again. Cells do not wait for a controller that has
//! ended.

use super::command::ClientEvent;
use super::event::{Channel, Now, Number};
use super::state::State;
use prust::Error;
use prust::request::Answer;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How soon a question is asked again, at first and at last: the answer may be a large one.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// What would be done twice if it were asked twice: it is given up instead.
const ONCE: &str = "resubmit_request";

/// A question whose answer somebody waits for.
#[derive(Debug)]
pub(super) enum Query {
    Hub {
        from: u64,
    },
    KernelHub {
        tag: u64,
    },
    /// What the controller knows of some messages.
    Records {
        from: u64,
        msg_ids: Vec<String>,
        returns: String,
    },
    /// One result of somebody else's work.
    Result {
        number: Number,
    },
    /// Which of those have ended.
    Polled,
    /// Tasks of ours of which nothing was heard for long.
    Missing {
        numbers: Vec<Number>,
    },
    /// One of which the controller has no record.
    Unknown {
        number: Number,
    },
}

#[derive(Debug)]
pub(super) struct Asked {
    query: Query,
    msg_type: Arc<str>,
    content: Arc<RawValue>,
    again_at: Duration,
    pause: Duration,
}

impl State {
    pub(super) fn query(&mut self, query: Query, msg_type: &str, content: Arc<RawValue>, now: Now) {
        let number = self.send_plain(Channel::Query, None, msg_type, content.clone());
        let (msg_type, pause) = (msg_type.into(), AGAIN_FIRST);
        let again_at = now.at + pause;
        self.queries.insert(number, Asked { query, msg_type, content, again_at, pause });
    }

    pub(super) fn next_query(&self) -> Option<Duration> {
        let asked = self.queries.values().filter(|_| self.settings.foreign);
        asked.map(|asked| asked.again_at).min()
    }

    /// Asks again what has no answer yet. Nothing is between this process and its own controller.
    pub(super) fn ask_again(&mut self, now: Now) {
        if self.next_query().is_none_or(|at| now.at < at) {
            return;
        }
        // Lost work is looked for at a pace of its own, with a new question each time.
        let is_renewed =
            |query: &Query| matches!(query, Query::Missing { .. } | Query::Unknown { .. });
        self.queries.retain(|_, asked| now.at < asked.again_at || !is_renewed(&asked.query));
        let mut again = Vec::new();
        let mut undone = Vec::new();
        for (number, asked) in &mut self.queries {
            if now.at < asked.again_at {
                continue;
            }
            if &*asked.msg_type == ONCE {
                undone.push(*number);
                continue;
            }
            asked.pause = (asked.pause * 2).min(AGAIN_MAX);
            asked.again_at = now.at + asked.pause;
            again.push((*number, asked.msg_type.clone(), asked.content.clone()));
        }
        for (number, msg_type, content) in again {
            self.send_numbered(number, Channel::Query, None, msg_type, content);
        }
        let seconds = AGAIN_FIRST.as_secs();
        let reason = format!(
            "the controller has not answered a {ONCE} for {seconds} s; whether it was done is not \
             known"
        );
        self.give_up_queries(undone, &reason);
        if self.others.is_silent() {
            self.give_up_all_queries("the controller does not answer");
        }
    }

    /// The controller has ended: nobody needs to wait.
    pub(super) fn give_up_all_queries(&mut self, reason: &str) {
        self.give_up_queries(self.queries.keys().copied().collect(), reason);
    }

    /// Tells those who wait for an answer. Questions of our own stay: a controller may come back.
    fn give_up_queries(&mut self, numbers: Vec<Number>, reason: &str) {
        for number in numbers {
            match self.queries[&number].query {
                Query::Hub { from } | Query::Records { from, .. } => {
                    self.refuse(from, &Error::Disconnected { reason: reason.to_owned() });
                }
                Query::KernelHub { tag } => {
                    let content =
                        json!({"status": "error", "ename": "Disconnected", "evalue": reason});
                    let msg_type = "hub_error".to_owned();
                    self.emit(ClientEvent::Hub { tag, msg_type, content });
                }
                _ => continue,
            }
            self.queries.remove(&number);
        }
    }

    /// The controller has answered a question.
    pub(super) fn answered(
        &mut self,
        number: Number,
        msg_type: String,
        content: Value,
        buffers: Vec<Vec<u8>>,
        now: Now,
    ) {
        self.heard(now);
        match self.queries.remove(&number).map(|asked| asked.query) {
            Some(Query::Hub { from } | Query::Records { from, .. })
                if content["status"] == "error" =>
            {
                let text = |key: &str| content[key].as_str().unwrap_or_default().to_owned();
                let error = Error::HubError { ename: text("ename"), evalue: text("evalue") };
                self.refuse(from, &error);
            }
            Some(Query::Hub { from }) => {
                let answer = Answer::Hub { content: content.to_string() };
                self.answer(from, &answer, Vec::new());
            }
            Some(Query::Records { from, msg_ids, returns }) => {
                self.records_came(from, msg_ids, &returns, &content, now);
            }
            Some(Query::Result { number }) => self.result_came(number, &content, buffers, now),
            Some(Query::Polled) => self.polled(&content, now),
            Some(Query::Missing { numbers }) => self.missing_told(numbers, &content, now),
            Some(Query::Unknown { number }) => self.unknown_told(number, &content, now),
            Some(Query::KernelHub { tag }) => {
                self.emit(ClientEvent::Hub { tag, msg_type, content });
            }
            None => (),
        }
    }
}
