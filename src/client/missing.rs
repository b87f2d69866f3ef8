//! Tasks of which nothing is heard for long. A connection that is cut loses what is on its way, to
//! the controller or back, and nobody says so. So the controller is asked what it knows of them:
//! what has ended is fetched, and what it has never seen is sent again. Work in this process's own
//! cluster is never asked about: nothing is between.

use super::command::SubmissionId;
use super::event::{Channel, Effect, Now, Number, Outgoing, raw};
use super::query::Query;
use super::state::State;
use super::submission::Work;
use super::task::End;
use super::window::Writing;
use prust::outcome::Failure;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A submission of which nothing was heard for so long is asked about. Work that takes long is
/// asked about less and less often.
const QUIET_FIRST: Duration = Duration::from_secs(5);
const QUIET_MAX: Duration = Duration::from_secs(60);
/// Tasks asked about at once, the oldest of each submission first.
const ASKED_MAX: usize = 10_000;
/// A task that the controller does not know, however often it is sent, is given up.
const SENT_AGAIN_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Missing {
    /// When to look next; absent before the first look.
    look_at: Option<Duration>,
    /// Counts the looks.
    round: u64,
    /// Tasks that the controller did not know, and in which round that was first so. It may only
    /// not know them yet.
    unknown: BTreeMap<Number, u64>,
    sent_again: BTreeMap<Number, u32>,
    /// Ended there; their results were asked for.
    fetched: BTreeSet<Number>,
    /// Cells as they were sent: nothing else can make them again.
    cells: BTreeMap<Number, Outgoing>,
}

impl Missing {
    pub(super) fn next(&self) -> Option<Duration> {
        self.look_at
    }

    /// A cell is sent by a connection that may lose it.
    pub(super) fn keep_cell(&mut self, outgoing: &Outgoing) {
        self.cells.insert(outgoing.number, outgoing.clone());
    }

    #[cfg(test)]
    pub(super) fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// A task has ended.
    pub(super) fn forget(&mut self, number: Number) {
        self.cells.remove(&number);
        self.unknown.remove(&number);
        self.sent_again.remove(&number);
        self.fetched.remove(&number);
    }
}

/// When something was heard of a submission last, and how long it may be quiet from now on.
#[derive(Debug)]
pub(super) struct Quiet {
    since: Duration,
    limit: Duration,
}

impl Quiet {
    pub(super) fn new(at: Duration) -> Self {
        Self { since: at, limit: QUIET_FIRST }
    }

    pub(super) fn heard(&mut self, now: Now) {
        *self = Self::new(now.at);
    }

    /// Whether it has been quiet for too long; it may be so for longer the next time.
    fn is_over(&mut self, now: Now) -> bool {
        let is_over = now.at >= self.since + self.limit;
        if is_over {
            self.since = now.at;
            self.limit = (self.limit * 2).min(QUIET_MAX);
        }
        is_over
    }
}

impl State {
    /// Asks about submissions that have been quiet for too long.
    pub(super) fn look_for_missing(&mut self, now: Now) {
        if !self.settings.foreign || self.missing.look_at.is_some_and(|at| now.at < at) {
            return;
        }
        self.missing.look_at = Some(now.at + QUIET_FIRST);
        self.missing.round += 1;
        let mut numbers = Vec::new();
        for id in &self.active {
            let Some(submission) = self.submissions.get_mut(id) else { continue };
            if matches!(submission.work, Work::Fetched) || !submission.quiet.is_over(now) {
                continue;
            }
            let out = submission.tasks.iter().zip(0u32..).filter(|(task, _)| task.is_out());
            let out = out.map(|(task, idx)| task.number_now(submission.first_number, idx));
            let out = out.filter(|number| !self.missing.fetched.contains(number));
            numbers.extend(out.take(ASKED_MAX - numbers.len()));
        }
        self.ask_about(numbers, now);
    }

    fn ask_about(&mut self, numbers: Vec<Number>, now: Now) {
        if numbers.is_empty() {
            return;
        }
        let ids: Vec<String> = numbers.iter().map(|number| self.msg_id(*number)).collect();
        let content = json!({"query": {"msg_id": {"$in": ids}}, "keys": ["msg_id", "completed"]});
        self.query(Query::Missing { numbers }, "db_request", raw(&content), now);
    }

    /// The controller has told what it knows of them.
    pub(super) fn missing_told(&mut self, numbers: Vec<Number>, content: &Value, now: Now) {
        let Some(rows) = content["records"].as_array() else { return };
        let row =
            |row: &Value| Some((row["msg_id"].as_str()?.to_owned(), !row["completed"].is_null()));
        let known: HashMap<String, bool> = rows.iter().filter_map(row).collect();
        for number in numbers.into_iter().filter(|number| self.is_out(*number)).collect::<Vec<_>>()
        {
            match known.get(&self.msg_id(number)) {
                Some(true) => {
                    self.missing.fetched.insert(number);
                    self.want_result(number, now);
                }
                Some(false) => {
                    self.missing.unknown.remove(&number);
                }
                None => self.is_unknown(number, now),
            }
        }
    }

    /// A task may have ended so long ago that there is no record of it any more, which the
    /// controller knows, too.
    fn is_unknown(&mut self, number: Number, now: Now) {
        let round = self.missing.round;
        if *self.missing.unknown.entry(number).or_insert(round) < round {
            self.missing.unknown.remove(&number);
            let content = json!({"msg_ids": [self.msg_id(number)], "status_only": true});
            self.query(Query::Unknown { number }, "result_request", raw(&content), now);
        }
    }

    /// The controller has told whether it has ever seen a task of which it has no record.
    pub(super) fn unknown_told(&mut self, number: Number, content: &Value, now: Now) {
        let Some((id, idx)) = self.task_of(number).filter(|_| self.is_out(number)) else { return };
        let is_in = |name: &str| content[name].as_array().is_some_and(|all| !all.is_empty());
        if content["status"] != "ok" {
            self.send_again(number, now);
        } else if is_in("completed") {
            let text = "its result was lost on the way, and the controller has dropped its record";
            self.end_task(id, idx, End::Failed(Failure::new("ResultPurged", text)), now);
        }
    }

    fn is_out(&self, number: Number) -> bool {
        let task = self.task_of(number);
        task.is_some_and(|(id, idx)| self.submissions[&id].tasks[idx as usize].is_out())
    }

    /// The controller has never seen this task.
    fn send_again(&mut self, number: Number, now: Now) {
        let Some((id, idx)) = self.task_of(number).filter(|_| self.is_out(number)) else { return };
        let n_sent_again = self.missing.sent_again.entry(number).or_insert(0);
        *n_sent_again += 1;
        let may_send = *n_sent_again <= SENT_AGAIN_MAX;
        match self.message_again(number, id, idx).filter(|_| may_send) {
            Some(outgoing) => self.effects.push(Effect::Send(outgoing)),
            None => {
                let text = "it was lost on its way to the controller, which does not know it";
                self.end_task(id, idx, End::Failed(Failure::new("TaskLost", text)), now);
            }
        }
    }

    /// A call or a cell as it was sent.
    fn message_again(&mut self, number: Number, id: SubmissionId, idx: u32) -> Option<Outgoing> {
        if let Some(cell) = self.missing.cells.get(&number) {
            return Some(cell.clone());
        }
        let submission = self.submissions.get_mut(&id)?;
        let Work::Call(work) = &submission.work else { return None };
        let work = Arc::clone(work);
        let outgoing = Writing::new().message(submission, idx as usize, &work);
        if submission.balanced {
            return Some(Outgoing { channel: Channel::Task, ..outgoing });
        }
        let engine = submission.tasks[idx as usize].engine?;
        let to = Some(self.engines.get(&engine)?.uuid.clone());
        Some(Outgoing { to, ..outgoing })
    }
}
