//! Results of work that an earlier session, or another client, has submitted: the controller keeps
//! them by message id. One question for what is known of all ids, then one for each result, because
//! a reply does not tell whose buffers are whose. Open ones are asked for again at a bounded pace.

use super::command::SubmissionId;
use super::event::{Now, Number, Reply, Verdict, raw};
use super::query::Query;
use super::replies::failure_of;
use super::state::State;
use super::submission::Work;
use super::submit::Plan;
use super::task::Task;
use crate::wire::envelope::parse_iso;
use prust::{CellReply, Error};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

/// Results asked for at a time: each may be large.
const ASKED_MAX: usize = 4;
/// How soon open ones are asked for again, at first and at last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Ids named in an error; the rest is counted.
const NAMED_MAX: usize = 4;

/// What is still to be fetched.
#[derive(Default)]
pub(super) struct Fetches {
    /// Ended as far as the controller knows, not asked for yet.
    ready: VecDeque<Number>,
    /// Asked for.
    asked: BTreeSet<Number>,
    /// Not ended when last asked, by the number they have here.
    open: BTreeSet<Number>,
    poll_at: Option<Duration>,
    pause: Duration,
    /// The ids that messages have which are not ours, by the number they have here.
    ids: HashMap<Number, Box<str>>,
}

impl Fetches {
    pub(super) fn id(&self, number: Number) -> Option<&str> {
        self.ids.get(&number).map(AsRef::as_ref)
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.poll_at
    }

    /// A submission is forgotten.
    pub(super) fn forget(&mut self, numbers: std::ops::Range<Number>) {
        self.ids.retain(|number, _| !numbers.contains(number));
        self.open.retain(|number| !numbers.contains(number));
        self.ready.retain(|number| !numbers.contains(number));
        self.asked.retain(|number| !numbers.contains(number));
    }
}

impl State {
    /// A cell wants results by id.
    pub(super) fn fetch(&mut self, from: u64, msg_ids: Vec<String>, returns: String, now: Now) {
        let keys = ["msg_id", "header", "metadata", "engine_uuid", "submitted"];
        let content = json!({"query": {"msg_id": {"$in": msg_ids}}, "keys": keys});
        self.query(Query::Records { from, msg_ids, returns }, "db_request", raw(&content), now);
    }

    /// The controller has told what it knows of them.
    pub(super) fn records_came(
        &mut self,
        from: u64,
        msg_ids: Vec<String>,
        returns: &str,
        content: &Value,
        now: Now,
    ) {
        let rows = content["records"].as_array().into_iter().flatten();
        let rows: HashMap<&str, &Value> =
            rows.filter_map(|row| Some((row["msg_id"].as_str()?, row))).collect();
        let unknown: Vec<&String> =
            msg_ids.iter().filter(|id| !rows.contains_key(id.as_str())).collect();
        if !unknown.is_empty() {
            return self.refuse(from, &unknown_ids(&unknown));
        }
        let known: Vec<Known> =
            msg_ids.iter().map(|id| Known::read(id, rows[id.as_str()])).collect();
        if let Some(other) = known.iter().find_map(|known| known.refusal(returns)) {
            return self.refuse(from, &other);
        }
        let id = self.start_fetch(known, now);
        self.answer_submitted(from, Ok(id), now);
        self.ask_for_results(now);
    }

    fn start_fetch(&mut self, known: Vec<Known>, now: Now) -> SubmissionId {
        let mut first_item = 0_u64;
        let mut tasks = Vec::new();
        for record in &known {
            let items = first_item..first_item.saturating_add(record.items);
            first_item = items.end;
            let engine = record.engine_uuid.as_deref().and_then(|uuid| self.engine_of(uuid));
            let mut task = Task::new(items, record.items, engine);
            task.output().submitted = record.submitted;
            tasks.push(task);
        }
        let first = known.first();
        let label = first.map_or_else(String::new, |record| record.label.clone());
        let method = match first {
            Some(record) if record.is_cell => "execute",
            _ if known.iter().any(|record| record.items != 1) => "map",
            _ => "apply",
        };
        let first_number = self.n_numbers + 1;
        for (number, record) in (first_number..).zip(known) {
            self.fetches.ids.insert(number, record.msg_id.into());
            self.fetches.ready.push_back(number);
        }
        self.start(
            Plan {
                label,
                method,
                work: Work::Fetched,
                balanced: false,
                tasks,
                after: Vec::new(),
                follow: Vec::new(),
            },
            now,
        )
    }

    /// Asks for the result of a task of ours that has ended without our hearing of it.
    pub(super) fn want_result(&mut self, number: Number, now: Now) {
        let id = self.msg_id(number);
        self.fetches.ids.insert(number, id.into());
        self.fetches.ready.push_back(number);
        self.ask_for_results(now);
    }

    /// Asks for the next results, as many at a time as may be.
    fn ask_for_results(&mut self, now: Now) {
        while self.fetches.asked.len() < ASKED_MAX {
            let Some(number) = self.fetches.ready.pop_front() else { return };
            let Some(id) = self.fetches.ids.get(&number) else { continue };
            let content = json!({"msg_ids": [id], "status_only": false});
            self.fetches.asked.insert(number);
            self.query(Query::Result { number }, "result_request", raw(&content), now);
        }
    }

    /// The controller has answered for one result.
    pub(super) fn result_came(
        &mut self,
        number: Number,
        content: &Value,
        buffers: Vec<Vec<u8>>,
        now: Now,
    ) {
        self.fetches.asked.remove(&number);
        if let Some(id) = self.fetches.ids.get(&number).map(ToString::to_string) {
            let record = &content[id.as_str()];
            if content["status"] == "error" {
                let reply = told(number, Verdict::Error(failure_of(content)));
                self.reply(reply, now);
            } else if record.is_object() {
                self.take_result(number, record, buffers, now);
            } else {
                self.fetches.open.insert(number);
                self.fetches.pause = PAUSE_FIRST;
                self.fetches.poll_at.get_or_insert(now.at + PAUSE_FIRST);
            }
        }
        self.ask_for_results(now);
    }

    /// Puts a result on record as if its reply had come.
    fn take_result(&mut self, number: Number, record: &Value, buffers: Vec<Vec<u8>>, now: Now) {
        let content = &record["result_content"];
        let verdict = match content["status"].as_str() {
            Some("ok") => Verdict::Ok(buffers.into_iter().next().unwrap_or_default()),
            Some("aborted") => Verdict::Aborted,
            _ => Verdict::Error(failure_of(content)),
        };
        let metadata = &record["result_metadata"];
        let time = |value: &Value| value.as_str().and_then(parse_iso);
        let mut reply = told(number, verdict);
        reply.uuid = metadata["engine"].as_str().map(str::to_owned);
        reply.started = time(&metadata["started"]);
        reply.completed = time(&record["result_header"]["date"]);
        reply.execution_count = content["execution_count"].as_u64().unwrap_or(0);
        if let Some((id, idx)) = self.task_of(number)
            && let Some(submission) = self.submissions.get_mut(&id)
        {
            let io = &record["io"];
            let text = |name: &str| io[name].as_str().unwrap_or_default().to_owned();
            let output = submission.tasks[idx as usize].output();
            (output.stdout, output.stderr) = (text("stdout"), text("stderr"));
            let data = io["execute_result"]["data"].as_object().into_iter().flatten();
            let shown = |value: &Value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            };
            output.result = data.map(|(mime, value)| (mime.clone(), shown(value))).collect();
            // All that it has published is in the record.
            output.idle = true;
        }
        self.reply(reply, now);
    }

    /// Asks which of the open ones have ended, when it is time.
    pub(super) fn poll_fetches(&mut self, now: Now) {
        if self.fetches.poll_at.is_none_or(|at| now.at < at) {
            return;
        }
        self.fetches.poll_at = None;
        let open = self.fetches.open.iter();
        let ids: Vec<&str> = open.filter_map(|number| self.fetches.id(*number)).collect();
        if ids.is_empty() {
            return;
        }
        let content = raw(&json!({"msg_ids": ids, "status_only": true}));
        self.query(Query::Polled, "result_request", content, now);
    }

    /// The controller has told which have ended.
    pub(super) fn polled(&mut self, content: &Value, now: Now) {
        self.fetches.pause = (self.fetches.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        let pending = content["pending"].as_array();
        let is_pending =
            |id: &str| pending.is_some_and(|pending| pending.iter().any(|pending| pending == id));
        // Without a list every one is asked for, and tells its own error.
        let open = self.fetches.open.iter().copied();
        let ended: Vec<Number> =
            open.filter(|number| !self.fetches.id(*number).is_some_and(is_pending)).collect();
        for number in ended {
            self.fetches.open.remove(&number);
            self.fetches.ready.push_back(number);
            self.fetches.pause = PAUSE_FIRST;
        }
        let is_open = !self.fetches.open.is_empty();
        self.fetches.poll_at = is_open.then(|| now.at + self.fetches.pause);
        self.ask_for_results(now);
    }
}

/// What a controller knows of one message.
struct Known {
    msg_id: String,
    label: String,
    items: u64,
    engine_uuid: Option<String>,
    submitted: Option<SystemTime>,
    is_cell: bool,
    /// Whether it is a call of ours, and the type of its values as it was written then.
    ours: bool,
    returns: Option<String>,
}

impl Known {
    fn read(msg_id: &str, row: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let prust = &row["metadata"]["prust"];
        Self {
            msg_id: msg_id.to_owned(),
            label: text(&row["metadata"]["label"]).unwrap_or_default(),
            items: prust["items"].as_u64().unwrap_or(1),
            engine_uuid: text(&row["engine_uuid"]),
            submitted: row["submitted"].as_str().and_then(parse_iso),
            is_cell: row["header"]["msg_type"] == "execute_request",
            ours: prust.is_object(),
            returns: text(&prust["returns"]),
        }
    }

    /// Why its values cannot be had as that type. The bytes of a value do not tell what they are.
    fn refusal(&self, wanted: &str) -> Option<Error> {
        let id = &self.msg_id;
        let is = match (self.is_cell, &self.returns) {
            (true, _) => std::any::type_name::<CellReply>(),
            (false, Some(returns)) => returns,
            (false, None) if self.ours => return None,
            (false, None) => {
                let what = format!("the result of {id}, which is not a call of prust,");
                return Some(Error::Unsupported { what });
            }
        };
        (is != wanted).then(|| Error::NotDeserializable {
            reason: format!("message {id} gives {is}, asked for was {wanted}"),
        })
    }
}

fn unknown_ids(unknown: &[&String]) -> Error {
    let named: Vec<&str> = unknown.iter().take(NAMED_MAX).map(|id| id.as_str()).collect();
    let more = match unknown.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Error::HubError {
        ename: "KeyError".to_owned(),
        evalue: format!(
            "no such message: {}{more}; a controller keeps what it has seen itself, and the \
             latest results only",
            named.join(", ")
        ),
    }
}

fn told(number: Number, verdict: Verdict) -> Reply {
    Reply {
        number,
        uuid: None,
        started: None,
        completed: None,
        verdict,
        execution_count: 0,
        prust: Value::Null,
        has_engine_info: false,
    }
}
