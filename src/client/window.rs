//! How many balanced tasks are with the controller at once. The rest of a long submission stays
//! here, where a task is a range of items and no message yet: the controller has a record of every
//! task it knows, and a million at once would be its memory and nobody's gain.

use super::command::SubmissionId;
use super::event::{Channel, Effect, Now, Number, Outgoing};
use super::state::State;
use super::submission::{CallWork, Submission, Work};
use super::task::{End, Stage};
use prust::outcome::Failure;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Balanced tasks of one submission that may be with the controller at once. Engines are given some
/// hundred ahead of their work at most, so that none waits for what is kept here. Each submission
/// has its own: one whose engines are busy or gone keeps no other waiting.
pub(super) const TASKS_MAX: usize = 8192;
/// Bytes that these tasks may carry, by their mean.
const BYTES_MAX: u64 = 256 << 20;
/// Tasks that may be there in any case: an engine that has ended one finds the next.
const FEW_TASKS_MAX: usize = 64;
/// Tasks of all submissions: when so many are there, each has a few.
const ALL_TASKS_MAX: usize = 8 * TASKS_MAX;

/// What is with the controller, and who has more.
#[derive(Debug, Default)]
pub(super) struct Window {
    n_out: usize,
    /// Submissions with tasks that were not sent yet.
    waiting: BTreeSet<SubmissionId>,
}

impl Window {
    /// How many tasks of this submission may be with the controller.
    fn size(&self, submission: &Submission) -> usize {
        let Work::Call(work) = &submission.work else { return 0 };
        if self.n_out >= ALL_TASKS_MAX {
            return FEW_TASKS_MAX;
        }
        let n_parts = if work.replicate { 1 } else { submission.tasks.len().max(1) };
        let mean = (work.body.len() / n_parts).max(1) as u64;
        let n_by_bytes = usize::try_from(BYTES_MAX / mean).unwrap_or(usize::MAX);
        n_by_bytes.clamp(FEW_TASKS_MAX, TASKS_MAX)
    }
}

impl State {
    /// Sends the tasks of a new submission, as many as there is room for.
    pub(super) fn send_balanced(&mut self, id: SubmissionId) {
        self.window.waiting.insert(id);
        self.send_more(id);
    }

    /// A balanced task has ended, which makes room for others of its submission. They are sent when
    /// half of the room is free, so that sending is worth its while.
    pub(super) fn is_back(&mut self, id: SubmissionId) {
        self.window.n_out -= 1;
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        submission.n_out -= 1;
        if self.window.waiting.contains(&id) && submission.n_out <= self.window.size(submission) / 2
        {
            self.send_more(id);
        }
    }

    /// Sends what is left of submissions that others are to wait for: the scheduler refuses to wait
    /// for a task that it has never heard of.
    pub(super) fn send_all(&mut self, submissions: &[SubmissionId]) {
        for id in submissions {
            if self.window.waiting.contains(id) {
                self.send_some(*id, usize::MAX);
            }
        }
    }

    fn send_more(&mut self, id: SubmissionId) {
        let Some(submission) = self.submissions.get(&id) else { return };
        let room = self.window.size(submission).saturating_sub(submission.n_out);
        self.send_some(id, room);
    }

    /// Sends the next tasks of a submission.
    fn send_some(&mut self, id: SubmissionId, n_max: usize) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let Work::Call(work) = &submission.work else { return };
        let work = Arc::clone(work);
        let mut writing = Writing::new();
        let mut n_sent = 0;
        let mut idx = submission.held_from as usize;
        while idx < submission.tasks.len() && n_sent < n_max {
            if matches!(submission.tasks[idx].stage, Stage::Held) {
                submission.tasks[idx].stage = Stage::Sent;
                let outgoing = writing.message(submission, idx, &work);
                self.effects.push(Effect::Send(Outgoing { channel: Channel::Task, ..outgoing }));
                n_sent += 1;
            }
            idx += 1;
        }
        submission.held_from = idx as u32;
        submission.n_out += n_sent;
        self.window.n_out += n_sent;
        if idx == submission.tasks.len() {
            self.window.waiting.remove(&id);
        }
    }

    /// Sends the tasks of a submission to the engines that they are meant for.
    pub(super) fn send_direct(&mut self, id: SubmissionId, now: Now) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let Work::Call(work) = &submission.work else { return };
        let work = Arc::clone(work);
        let mut writing = Writing::new();
        let mut stranded = Vec::new();
        for idx in 0..submission.tasks.len() {
            let task = &mut submission.tasks[idx];
            let engine = task.engine.and_then(|engine| self.engines.get_mut(&engine));
            let Some(engine) = engine else {
                stranded.push(idx as u32);
                continue;
            };
            task.stage = Stage::Sent;
            engine.queue.push_back((id, idx as u32));
            let to = Some(engine.uuid.clone());
            let outgoing = writing.message(submission, idx, &work);
            self.effects.push(Effect::Send(Outgoing { to, ..outgoing }));
        }
        for engine in submission.engines() {
            self.start_next(engine, now);
        }
        for idx in stranded {
            let failure =
                Failure::new("EngineError", "the engine was lost before the task was sent");
            self.end_task(id, idx, End::Failed(failure), now);
        }
    }
}

/// What the messages of several tasks have in common, written once.
pub(super) struct Writing {
    msg_type: Arc<str>,
    /// By the number of items, in which it differs.
    metadata: HashMap<u64, Arc<RawValue>>,
}

impl Writing {
    pub(super) fn new() -> Self {
        Self { msg_type: "apply_request".into(), metadata: HashMap::new() }
    }

    /// A task as a message to its engine.
    pub(super) fn message(
        &mut self,
        submission: &mut Submission,
        idx: usize,
        work: &CallWork,
    ) -> Outgoing {
        let task = &submission.tasks[idx];
        let n_items = task.n_values;
        let metadata = self.metadata.entry(n_items).or_insert_with(|| work.metadata(n_items));
        let payload = work.payload(task.items.clone());
        submission.bytes_sent += payload.len() as u64;
        Outgoing {
            channel: Channel::Mux,
            to: None,
            number: submission.first_number + idx as Number,
            msg_type: Arc::clone(&self.msg_type),
            metadata: Arc::clone(metadata),
            content: Arc::clone(&work.content),
            buffers: vec![payload],
        }
    }
}
