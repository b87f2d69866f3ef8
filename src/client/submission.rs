//! One user call: its tasks, its payload, its counters. Knows nothing of engines' lives or of
//! sockets.

use super::command::SubmissionId;
use super::event::{Now, Number};
use super::metadata::Wishes;
use super::missing::Quiet;
use super::summary::{Counts, Row, State, Summary};
use super::tally::{Ended, Tally};
use super::task::{End, Stage, Task};
use crate::cell::namespace::Delta;
use prust::items::Lengths;
use prust::mapped::{self, Mapped};
use prust::outcome::{self, Failure};
use prust::request::{Status, TaskEnd, TaskMetadata, TaskResult};
use prust::{EngineId, RemoteError, RemoteFailure};
use prust_runtime::mapping::Mapping;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Failures handed to the kernel with the end of a submission.
pub(super) const FAILURES_TOLD_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Submission {
    pub(super) id: SubmissionId,
    pub(super) label: String,
    /// `apply`, `map`, `push`, ..., or `execute`.
    pub(super) method: &'static str,
    pub(super) work: Work,
    pub(super) balanced: bool,
    pub(super) tasks: Vec<Task>,
    /// All tasks before this one have ended.
    open_from: u32,
    /// All tasks before this one have been sent, or ended without.
    pub(super) held_from: u32,
    /// Balanced tasks that are with the controller.
    pub(super) n_out: usize,
    /// Tasks in the order in which they ended.
    pub(super) finished: Vec<u32>,
    pub(super) n_settled: usize,
    pub(super) tally: Tally,
    pub(super) submitted: SystemTime,
    pub(super) at: Duration,
    /// When the last task ended.
    pub(super) ended_at: Option<Duration>,
    pub(super) bytes_sent: u64,
    /// Encoded values held.
    pub(super) bytes_held: u64,
    /// Files in which it has items or values.
    pub(super) files: Vec<String>,
    /// When something was heard of it last.
    pub(super) quiet: Quiet,
    /// A stop was asked for: what ends as interrupted counts as cancelled.
    pub(super) stopping: bool,
    pub(super) forgotten: bool,
    /// A cell was interrupted while it waited for this: should its handle go, so does the work.
    pub(super) abandoned: bool,
    pub(super) purged: bool,
    pub(super) after: Vec<String>,
    pub(super) follow: Vec<String>,
    pub(super) progress: Progress,
    pub(super) hint: Option<String>,
    /// The first task's number; they are consecutive.
    pub(super) first_number: Number,
}

/// When the kernel was last told, and when it is to be told again.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) told: Option<Duration>,
    pub(super) due: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Work {
    Call(Arc<CallWork>),
    Cell,
    /// Submitted by somebody else; its results are the controller's to give.
    Fetched,
}

/// What is needed to make the payload of any range of items, again if need be.
#[derive(Debug)]
pub(super) struct CallWork {
    pub(super) call: prust::request::Call,
    pub(super) body: Vec<u8>,
    pub(super) prefix: usize,
    pub(super) lengths: Lengths,
    pub(super) ends: Vec<u64>,
    /// Where the items are if they are not in the body.
    pub(super) there: Vec<Mapped>,
    /// What lies there.
    pub(super) near: Option<Mapping>,
    /// Where engines put large results.
    pub(super) folder: Option<Arc<str>>,
    /// Every task gets all items.
    pub(super) replicate: bool,
    /// What a success adds to the engine's namespace.
    pub(super) delta: Option<Delta>,
    pub(super) label: String,
    pub(super) wishes: Option<Wishes>,
    pub(super) content: Arc<RawValue>,
}

impl CallWork {
    pub(super) fn payload(&self, range: std::ops::Range<u64>) -> Vec<u8> {
        let range = if self.replicate { 0..self.lengths.n_items() } else { range };
        let (prefix, bytes) = self.body.split_at(self.prefix);
        let (lengths, ends, there) = (&self.lengths, &self.ends, &self.there);
        let folder = self.folder.as_deref();
        let near = self.near.as_deref();
        outcome::Cut { prefix, lengths, ends, bytes, there, near, folder }.payload(range)
    }
}

/// What a submission is made of.
pub(super) struct Parts {
    pub(super) id: SubmissionId,
    pub(super) label: String,
    pub(super) method: &'static str,
    pub(super) work: Work,
    pub(super) balanced: bool,
    pub(super) tasks: Vec<Task>,
    pub(super) first_number: Number,
    pub(super) after: Vec<String>,
    pub(super) follow: Vec<String>,
}

impl Submission {
    pub(super) fn new(parts: Parts, now: Now) -> Self {
        let Parts { id, label, method, work, balanced, tasks, first_number, after, follow } = parts;
        let total = tasks.iter().map(|task| task.n_values).sum();
        let bytes_held = match &work {
            Work::Call(call) => call.body.len() as u64 + mapped::n_bytes(&call.there),
            Work::Cell | Work::Fetched => 0,
        };
        Self {
            id,
            label,
            method,
            work,
            balanced,
            ended_at: tasks.is_empty().then_some(now.at),
            tasks,
            open_from: 0,
            held_from: 0,
            n_out: 0,
            finished: Vec::new(),
            n_settled: 0,
            tally: Tally::new(total),
            submitted: now.date,
            at: now.at,
            bytes_sent: 0,
            bytes_held,
            files: Vec::new(),
            quiet: Quiet::new(now.at),
            stopping: false,
            forgotten: false,
            abandoned: false,
            purged: false,
            after,
            follow,
            progress: Progress::default(),
            hint: None,
            first_number,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.len() == self.tasks.len()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.n_settled == self.tasks.len()
    }

    pub(super) fn number(&self, task: u32) -> Number {
        self.tasks[task as usize].number_now(self.first_number, task)
    }

    pub(super) fn n_values(&self) -> u64 {
        self.tally.counts.total
    }

    /// The task has ended: counters, order, times.
    /// Gives the files in which its values are.
    pub(super) fn end_task(&mut self, idx: u32, end: End, now: Now) -> Vec<Mapped> {
        let ran = !matches!(end, End::Aborted(_));
        let span = self.span(idx).filter(|_| ran);
        let stopping = self.stopping;
        let task = &mut self.tasks[idx as usize];
        let (engine, n) = (task.engine, task.n_values);
        let mut ended = Ended::default();
        let mut there = None;
        match &end {
            End::Value(Some(value)) => {
                let mut failed = Vec::new();
                if let Ok((outcomes, _)) = outcome::read_outcomes(value) {
                    (failed, there) = (outcomes.failed, outcomes.values);
                }
                ended.failed = failed.len() as u64;
                ended.done = n.saturating_sub(ended.failed);
                let n_bytes = value.len() as u64 + mapped::n_bytes(there.as_slice());
                self.bytes_held += n_bytes;
                self.tally.bytes_received += n_bytes;
                for (_, failure) in &failed {
                    self.tally.error(failure, engine, 1);
                }
            }
            End::Value(None) => ended.done = n,
            End::Failed(failure) if stopping && is_interrupt(failure) => ended.cancelled = n,
            End::Failed(failure) => {
                ended.failed = n;
                self.tally.error(failure, engine, n.max(1));
            }
            End::Aborted(_) => ended.cancelled = n,
        }
        task.stage = Stage::Ended(end);
        self.tally.end(idx, engine, ended, span);
        self.finished.push(idx);
        let ended = |task: &Task| matches!(task.stage, Stage::Ended(_));
        while self.tasks.get(self.open_from as usize).is_some_and(ended) {
            self.open_from += 1;
        }
        if self.tasks[idx as usize].is_settled() {
            self.n_settled += 1;
        }
        if self.is_finished() {
            self.ended_at = Some(now.at);
        }
        there.into_iter().collect()
    }

    /// The engine's own account of when it worked, as offsets from the submission.
    fn span(&self, idx: u32) -> Option<(Duration, Duration)> {
        let task = &self.tasks[idx as usize];
        // Work of an earlier session began before.
        let from = task.started.map_or(self.submitted, |started| started.min(self.submitted));
        let offset = |time: SystemTime| time.duration_since(from).unwrap_or_default();
        Some((offset(task.started?), offset(task.completed?)))
    }

    /// One value failed or was cancelled.
    pub(super) fn has_failed(&self) -> bool {
        self.tally.counts.failed + self.tally.counts.cancelled > 0
    }

    pub(super) fn elapsed(&self, now: Now) -> Duration {
        self.ended_at.unwrap_or(now.at).saturating_sub(self.at)
    }

    /// `n_free`: engines that may be working on balanced tasks without having said so.
    pub(super) fn counts(&self, n_free: usize) -> Counts {
        let mut counts = self.tally.counts;
        if self.balanced && counts.waiting > 0 {
            let n_silent = n_free.saturating_sub(self.tally.n_running());
            let open = &self.tasks[self.open_from as usize..];
            let silent = open.iter().filter(|task| matches!(task.stage, Stage::Sent));
            let running: u64 = silent.take(n_silent).map(|task| task.n_values).sum();
            counts.running += running;
            counts.waiting = counts.waiting.saturating_sub(running);
        }
        counts
    }

    pub(super) fn status(&self, n_free: usize, now: Now) -> Status {
        let counts = self.counts(n_free);
        Status {
            label: self.label.clone(),
            n_tasks: self.tasks.len() as u64,
            n_values: counts.total,
            done: counts.done,
            failed: counts.failed,
            cancelled: counts.cancelled,
            running: counts.running,
            finished: self.is_finished(),
            elapsed: self.elapsed(now),
            serial: self.tally.serial,
        }
    }

    pub(super) fn summary(
        &self,
        msg_id: impl Fn(Number) -> String,
        n_free: usize,
        now: Now,
    ) -> Summary {
        let counts = self.counts(n_free);
        let state = match () {
            () if !self.is_finished() && counts.running + counts.done + counts.failed > 0 => {
                State::Running
            }
            () if !self.is_finished() => State::Waiting,
            () if counts.failed > 0 => State::Failed,
            () if counts.cancelled > 0 => State::Cancelled,
            () => State::Done,
        };
        let rows = self.tally.rows(self.tasks.len() as u32).into_iter();
        let rows = rows.map(|idx| {
            let task = &self.tasks[idx as usize];
            Row {
                msg_id: msg_id(self.number(idx)),
                engine: task.engine,
                items: task.n_values,
                status: task.status().to_owned(),
                submitted: Some(self.submitted),
                started: task.started,
                completed: task.completed,
                received: task.received,
            }
        });
        Summary {
            submission: self.id,
            label: self.label.clone(),
            state,
            counts,
            tasks: self.tasks.len() as u64,
            submitted: self.submitted,
            elapsed: self.elapsed(now),
            serial: self.tally.serial,
            lanes: self.tally.lanes(),
            errors: self.tally.errors(),
            rows: rows.collect(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.tally.bytes_received,
            hint: self.hint.clone(),
        }
    }

    /// One task for an answer, and its value.
    pub(super) fn result(&self, idx: u32, msg_id: String) -> (TaskResult, &[u8]) {
        let task = &self.tasks[idx as usize];
        let (end, value): (TaskEnd, &[u8]) = match task.end() {
            Some(End::Value(Some(value))) => (TaskEnd::Value { bytes: value.len() as u64 }, value),
            Some(End::Value(None)) | None => (TaskEnd::Failed(purged()), &[]),
            Some(End::Failed(failure) | End::Aborted(failure)) => {
                (TaskEnd::Failed(failure.clone()), &[])
            }
        };
        let result = TaskResult {
            first_item: task.items.start,
            n: task.n_values,
            engine_id: task.engine,
            msg_id,
            method: self.method.to_owned(),
            end,
        };
        (result, value)
    }

    /// The first failures of all tasks.
    pub(super) fn failures(&self, msg_id: impl Fn(Number) -> String) -> Vec<RemoteError> {
        let mut failures = Vec::new();
        for (task, idx) in self.tasks.iter().zip(0u32..) {
            let mut add = |item: Option<u64>, failure: &Failure| {
                failures.push(RemoteError::new(RemoteFailure {
                    ename: failure.ename.clone(),
                    evalue: failure.evalue.clone(),
                    traceback: failure.traceback.clone(),
                    engine_id: task.engine,
                    method: self.method.to_owned(),
                    msg_id: msg_id(self.number(idx)),
                    item,
                }));
            };
            match task.end() {
                Some(End::Failed(failure) | End::Aborted(failure)) => add(None, failure),
                Some(End::Value(Some(value))) => {
                    let outcomes = outcome::read_outcomes(value);
                    for (item, failure) in outcomes.into_iter().flat_map(|(all, _)| all.failed) {
                        add(Some(task.items.start + item), &failure);
                    }
                }
                Some(End::Value(None)) | None => (),
            }
            if failures.len() >= FAILURES_TOLD_MAX {
                failures.truncate(FAILURES_TOLD_MAX);
                break;
            }
        }
        failures
    }

    pub(super) fn metadata(&self, idx: u32, msg_id: String) -> TaskMetadata {
        TaskMetadata {
            msg_id,
            submitted: self.submitted_at(idx),
            label: Some(self.label.clone()),
            after: self.after.clone(),
            follow: self.follow.clone(),
            ..self.tasks[idx as usize].metadata()
        }
    }

    fn submitted_at(&self, idx: u32) -> Option<SystemTime> {
        let output = self.tasks[idx as usize].output.as_deref();
        output.and_then(|output| output.submitted).or(Some(self.submitted))
    }

    /// Drops values and payload, keeps the record; gives the files that are not needed any more.
    pub(super) fn purge(&mut self) -> Vec<String> {
        for task in &mut self.tasks {
            if let Stage::Ended(End::Value(value)) = &mut task.stage {
                *value = None;
            }
        }
        self.work = Work::Cell;
        self.bytes_held = 0;
        self.purged = true;
        std::mem::take(&mut self.files)
    }

    pub(super) fn engines(&self) -> Vec<EngineId> {
        let mut engines: Vec<EngineId> = self.tasks.iter().filter_map(|task| task.engine).collect();
        engines.sort_unstable();
        engines.dedup();
        engines
    }
}

pub(super) fn is_interrupt(failure: &Failure) -> bool {
    matches!(failure.ename.as_str(), "Interrupted" | "KeyboardInterrupt")
}

fn purged() -> Failure {
    Failure::new("ResultPurged", "the value was dropped to stay within the memory set aside for it")
}
