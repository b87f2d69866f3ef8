//! What comes back of a task: busy, output, the reply, idle, or the loss of its engine. Every task
//! ends here, exactly once; what comes for an ended task is ignored.

use super::command::{ClientEvent, Output, SubmissionId};
use super::event::{Channel, Now, Number, Published, Reply, Verdict, raw};
use super::state::{Engine, State};
use super::submission::Work;
use super::task::{
    DATA_KEYS_MAX, DISPLAYS_MAX, End, STREAM_BYTES_MAX, Stage, TaskOutput, append_bounded,
};
use prust::items::write_items;
use prust::outcome::{self, Failure};
use prust::{CellReply, EngineId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a cell's reply waits for the rest of its output.
const SETTLE_MAX: Duration = Duration::from_secs(2);

impl State {
    pub(super) fn reply(&mut self, reply: Reply, now: Now) {
        let Some((id, idx)) = self.task_of(reply.number) else { return };
        let engine = reply.uuid.as_deref().and_then(|uuid| self.engine_of(uuid));
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let is_cell = submission.method == "execute";
        let task = &mut submission.tasks[idx as usize];
        if !task.is_open() || task.number_now(submission.first_number, idx) != reply.number {
            return;
        }
        submission.quiet.heard(now);
        if engine.is_some() && engine != task.engine {
            submission.tally.unstart(idx, task.engine);
            task.engine = engine;
        }
        let stale = matches!(&reply.verdict, Verdict::Error(why) if why.ename == "StaleNamespace");
        if is_cell && stale && !matches!(submission.work, Work::Fetched) {
            return self.stale(id, idx, reply.prust);
        }
        task.started = reply.started;
        task.completed = reply.completed;
        task.received = Some(now.date);
        let n_published = reply.prust.get("published").and_then(Value::as_u64);
        let published_some = n_published.is_some_and(|n| n > 0);
        let failed_there = matches!(reply.verdict, Verdict::Error(_)) && reply.has_engine_info;
        if is_cell {
            let answered = matches!(reply.verdict, Verdict::Ok(_)) || failed_there;
            task.output().expects_idle |= answered;
            task.output().prust = reply.prust;
            task.output().execution_count = reply.execution_count;
        } else if published_some {
            task.output().expects_idle = true;
        }
        let end = match reply.verdict {
            Verdict::Ok(value) => End::Value(Some(value)),
            Verdict::Error(failure) => End::Failed(failure),
            Verdict::Aborted => End::Aborted(aborted()),
        };
        let output = task.output.as_deref_mut();
        let unsettled = output.filter(|known| known.expects_idle && !known.idle);
        let waits = unsettled.is_some();
        if let Some(output) = unsettled {
            output.settle_by = Some(now.at + SETTLE_MAX);
            self.settling.insert((now.at + SETTLE_MAX, id, idx));
        }
        if is_cell && waits {
            task.stage = Stage::Settling { end };
            self.leave_queue(id, idx, now);
        } else {
            self.leave_queue(id, idx, now);
            self.end_task(id, idx, end, now);
        }
    }

    /// Puts the end of a task on record and tells everybody who waits for it.
    pub(super) fn end_task(&mut self, id: SubmissionId, idx: u32, end: End, now: Now) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let is_cell = submission.method == "execute";
        let task = &submission.tasks[idx as usize];
        let end = match end {
            End::Value(_) if is_cell => {
                End::Value(Some(cell_value(task.engine, task.output.as_deref())))
            }
            end => end,
        };
        let delta = match (&submission.work, &end, task.engine) {
            (Work::Call(call), End::Value(_), Some(engine)) => {
                call.delta.clone().map(|delta| (engine, delta))
            }
            _ => None,
        };
        let is_call = matches!(submission.work, Work::Call(_));
        let was_out = submission.balanced && is_call && task.is_out();
        let number = submission.number(idx);
        let held = submission.bytes_held;
        let there = submission.end_task(idx, end, now);
        self.bytes_held += submission.bytes_held - held;
        let folder = self.settings.shared_folder.as_deref();
        self.files.hold(folder, submission, &there);
        if is_cell {
            let prust = submission.tasks[idx as usize].output().prust.take();
            let number = submission.number(idx);
            let mut metadata = submission.metadata(idx, String::new());
            metadata.msg_id = self.msg_id(number);
            metadata.engine_uuid = metadata.engine_id.and_then(|engine| self.uuid_of(engine));
            let task = Box::new(metadata);
            self.emit(ClientEvent::TaskFinished { submission: id, task, prust });
        }
        // Told before the answer, so that the cell's next step sees the variables.
        if let Some((engine, delta)) = delta {
            self.emit(ClientEvent::Defined { engine, delta: delta.into() });
        }
        if was_out {
            self.is_back(id);
        }
        self.missing.forget(number);
        self.touch(id);
        self.refresh_hint(id);
        self.end_waits(id, now);
    }

    /// The engine's variables are not what the cell was compiled against: back to the kernel.
    fn stale(&mut self, id: SubmissionId, idx: u32, prust: Value) {
        let number = self.next_number();
        self.aliases.insert(number, (id, idx));
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let task = &mut submission.tasks[idx as usize];
        task.stage = Stage::Compiling;
        task.alias = Some(number);
        task.output = None;
        let Some(engine) = task.engine else { return };
        submission.tally.unstart(idx, Some(engine));
        if let Some(engine) = self.engines.get_mut(&engine) {
            engine.queue.retain(|queued| *queued != (id, idx));
        }
        self.emit(ClientEvent::CellStale { submission: id, engine, prust });
    }

    /// The task is not the engine's any more; the next one runs.
    fn leave_queue(&mut self, id: SubmissionId, idx: u32, now: Now) {
        let task = self.submissions.get(&id).map(|known| &known.tasks[idx as usize]);
        let Some(engine_id) = task.and_then(|task| task.engine) else { return };
        let Some(engine) = self.engines.get_mut(&engine_id) else { return };
        if let Some(place) = engine.queue.iter().position(|queued| *queued == (id, idx)) {
            engine.queue.remove(place);
            self.start_next(engine_id, now);
        }
    }

    /// Direct tasks run one after the other: the first in an engine's queue is what it works on.
    pub(super) fn start_next(&mut self, engine_id: EngineId, now: Now) {
        let Some(engine) = self.engines.get(&engine_id) else { return };
        let Some((id, idx)) = engine.queue.front().copied() else { return };
        self.started(id, idx, engine_id, now);
    }

    fn started(&mut self, id: SubmissionId, idx: u32, engine: EngineId, now: Now) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let task = &mut submission.tasks[idx as usize];
        if !matches!(task.stage, Stage::Sent) {
            return;
        }
        task.stage = Stage::Running;
        task.engine = Some(engine);
        let at = now.at.saturating_sub(submission.at);
        submission.tally.start(idx, task.n_values, engine, at);
        self.touch(id);
    }

    pub(super) fn published(
        &mut self,
        number: Number,
        engine: Option<EngineId>,
        what: Published,
        now: Now,
    ) {
        if let (Published::Paused, Some(engine)) = (&what, engine) {
            return self.paused(number, engine);
        }
        let Some((id, idx)) = self.task_of(number) else { return };
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let is_cell = submission.method == "execute";
        let task = &mut submission.tasks[idx as usize];
        if task.number_now(submission.first_number, idx) != number {
            return;
        }
        let engine = engine.or(task.engine);
        submission.quiet.heard(now);
        match what {
            Published::Paused => (),
            Published::Lacks { names } => {
                if let Some(engine) = engine {
                    self.emit(ClientEvent::Lacks { engine, names });
                }
            }
            Published::Busy => {
                // What a lost engine said of a task that is elsewhere by now means nothing.
                if let Some(engine) = engine.filter(|engine| self.engines.contains_key(engine)) {
                    self.started(id, idx, engine, now);
                }
            }
            Published::Idle => self.idle(id, idx, now),
            Published::Data { key, text } => {
                let data = &mut task.output().data;
                if data.len() < DATA_KEYS_MAX || data.contains_key(&key) {
                    data.insert(key, text);
                }
            }
            Published::Output(output) => {
                keep(task.output(), &output);
                if let (Output::Stream { text, .. }, Some(engine)) = (&output, engine) {
                    submission.tally.print(engine, text);
                    self.touch(id);
                }
                if let (true, Some(engine)) = (is_cell, engine) {
                    self.emit(ClientEvent::Output { submission: id, engine, output });
                }
            }
        }
    }

    /// What a cell prints is shown, which takes its time; what a call prints is on record by now.
    fn paused(&mut self, number: Number, engine: EngineId) {
        let submission = self.task_of(number).and_then(|(id, _)| self.submissions.get(&id));
        if submission.is_some_and(|submission| submission.method == "execute") {
            self.emit(ClientEvent::Paused { engine });
        } else {
            self.read_on(engine);
        }
    }

    /// Whether the task has ended meanwhile or not: an engine waits.
    pub(super) fn read_on(&mut self, engine: EngineId) {
        if let Some(uuid) = self.engines.get(&engine).map(|engine| engine.uuid.clone()) {
            self.send_plain(Channel::Control, Some(uuid), "read_on_request", raw(&json!({})));
        }
    }

    /// Nothing more will be published of this task.
    fn idle(&mut self, id: SubmissionId, idx: u32, now: Now) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let output = submission.tasks[idx as usize].output();
        output.idle = true;
        if let Some(until) = output.settle_by.take() {
            self.settling.remove(&(until, id, idx));
            self.settled(id, idx, now);
        }
    }

    /// The output that a reply announced is complete, or is not waited for any more.
    fn settled(&mut self, id: SubmissionId, idx: u32, now: Now) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let task = &mut submission.tasks[idx as usize];
        let output = task.output();
        output.idle = true;
        output.settle_by = None;
        match std::mem::replace(&mut task.stage, Stage::Sent) {
            Stage::Settling { end } => self.end_task(id, idx, end, now),
            stage => {
                task.stage = stage;
                submission.n_settled += 1;
                self.touch(id);
                self.end_waits(id, now);
            }
        }
    }

    /// Output that was announced and did not come is not waited for any longer.
    pub(super) fn settle_by_time(&mut self, now: Now) {
        while let Some((until, id, idx)) = self.settling.first().copied() {
            if until > now.at {
                return;
            }
            self.settling.pop_first();
            self.settled(id, idx, now);
        }
    }

    pub(super) fn next_settling(&self) -> Option<Duration> {
        self.settling.first().map(|(until, ..)| *until)
    }

    /// Ends what a lost engine had. Balanced tasks are the scheduler's to move or to fail.
    pub(super) fn fail_stranded(&mut self, id: EngineId, engine: &Engine, cause: &str, now: Now) {
        let uuid = &engine.uuid;
        for (submission_id, idx) in engine.queue.clone() {
            let Some(submission) = self.submissions.get_mut(&submission_id) else { continue };
            let msg_id = format!("{}{}", self.prefix, submission.number(idx));
            let task = &submission.tasks[idx as usize];
            let was = if matches!(task.stage, Stage::Running) { "ran" } else { "had" };
            if task.is_open() {
                let text =
                    format!("engine {id} ({uuid}) was lost while it {was} task {msg_id}: {cause}");
                let end = End::Failed(Failure::new("EngineError", text));
                self.end_task(submission_id, idx, end, now);
            }
        }
        let settling: Vec<_> = self.settling.iter().copied().collect();
        for (until, submission_id, idx) in settling {
            let submission = self.submissions.get(&submission_id);
            let engine = submission.and_then(|known| known.tasks[idx as usize].engine);
            if engine == Some(id) {
                self.settling.remove(&(until, submission_id, idx));
                self.settled(submission_id, idx, now);
            }
        }
        self.lose_in_tallies(id, cause, now);
    }

    /// Lanes show the loss; cells that were still being compiled for the engine fail; balanced
    /// tasks that ran there wait again.
    fn lose_in_tallies(&mut self, engine: EngineId, cause: &str, now: Now) {
        let mut compiling = Vec::new();
        for id in self.active.clone() {
            let Some(submission) = self.submissions.get_mut(&id) else { continue };
            if submission.engines().contains(&engine) || submission.balanced {
                submission.tally.lose(engine, cause);
            }
            let balanced = submission.balanced;
            for (task, idx) in submission.tasks.iter_mut().zip(0u32..) {
                if task.engine != Some(engine) {
                    continue;
                }
                match task.stage {
                    Stage::Compiling => compiling.push((id, idx)),
                    Stage::Running if balanced => {
                        task.stage = Stage::Sent;
                        task.engine = None;
                        submission.tally.unstart(idx, Some(engine));
                    }
                    _ => (),
                }
            }
            self.touch(id);
            self.refresh_hint(id);
        }
        for (id, idx) in compiling {
            let text = format!("engine {engine} was lost while the cell was compiled: {cause}");
            self.end_task(id, idx, End::Failed(Failure::new("EngineError", text)), now);
        }
    }

    /// Nobody is left who could give out balanced tasks.
    pub(super) fn fail_balanced(&mut self, cause: &str, now: Now) {
        for id in self.active.clone() {
            let Some(submission) = self.submissions.get(&id) else { continue };
            let open = submission.tasks.iter().zip(0u32..).filter(|(task, _)| task.is_open());
            for idx in open.map(|(_, idx)| idx).collect::<Vec<_>>() {
                let end = End::Failed(Failure::new("EngineError", cause));
                self.end_task(id, idx, end, now);
            }
        }
    }
}

pub(super) fn aborted() -> Failure {
    Failure::new("TaskAborted", "aborted before it started")
}

/// Keeps what a task printed and showed, within limits.
fn keep(kept: &mut TaskOutput, output: &Output) {
    kept.n_published += 1;
    match output {
        Output::Stream { stderr: false, text } => {
            append_bounded(&mut kept.stdout, text, STREAM_BYTES_MAX);
        }
        Output::Stream { stderr: true, text } => {
            append_bounded(&mut kept.stderr, text, STREAM_BYTES_MAX);
        }
        Output::Display { content, .. } => {
            if kept.displays.len() < DISPLAYS_MAX {
                kept.displays.push(content.to_string());
            }
        }
        Output::Result { content } => {
            let data = content["data"].as_object().into_iter().flatten();
            kept.result = data.map(|(mime, value)| (mime.clone(), text_of(value))).collect();
        }
        Output::Error { .. } => (),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A cell's reply as the value of its task.
fn cell_value(engine_id: Option<EngineId>, output: Option<&TaskOutput>) -> Vec<u8> {
    let (execution_count, data) = output
        .map_or((0, BTreeMap::new()), |output| (output.execution_count, output.result.clone()));
    let reply = CellReply { engine_id, execution_count, data };
    let items = write_items(&[reply]).expect("texts and numbers are always written");
    outcome::write_outcomes(1, Vec::new(), items, None)
}

/// The error of a reply's content, without the first line that repeats it.
pub(super) fn failure_of(content: &Value) -> Failure {
    let text = |key: &str| content[key].as_str().unwrap_or_default().to_owned();
    let (ename, evalue) = (text("ename"), text("evalue"));
    let lines = content["traceback"].as_array().into_iter().flatten();
    let mut traceback: Vec<String> =
        lines.filter_map(|line| line.as_str().map(str::to_owned)).collect();
    if traceback.first().is_some_and(|line| *line == format!("{ename}: {evalue}")) {
        traceback.remove(0);
    }
    Failure { ename, evalue, traceback }
}

/// Tells an engine's control what to do with these tasks.
pub(super) fn about(msg_ids: &[String]) -> Value {
    json!({ "msg_ids": msg_ids })
}
