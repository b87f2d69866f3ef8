//! What the kernel is told of a submission while it goes on: counters at most ten times a second,
//! and once at the end. Costs nothing for submissions that do not move.

use super::command::{ClientEvent, SubmissionId};
use super::event::{Effect, Now};
use super::state::State;
use super::task::Stage;
use std::time::Duration;

/// Between two `Progress` events of one submission.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

impl State {
    /// Something about the submission has changed.
    pub(super) fn touch(&mut self, id: SubmissionId) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }

    /// Tells what is due, and the end of what has ended.
    pub(super) fn tell_progress(&mut self, now: Now) {
        for id in std::mem::take(&mut self.touched) {
            let Some(submission) = self.submissions.get_mut(&id) else { continue };
            if !self.active.contains(&id) {
                continue;
            }
            if submission.is_finished() && submission.is_settled() {
                if let Some(due) = submission.progress.due.take() {
                    self.due.remove(&(due, id));
                }
                self.active.remove(&id);
                self.tell_one(id, now);
                self.tell_end(id);
            } else if submission.progress.due.is_none() {
                let told = submission.progress.told;
                let due = told.map_or(now.at, |told| told + PROGRESS_EVERY);
                submission.progress.due = Some(due);
                self.due.insert((due, id));
            }
        }
        while let Some((due, id)) = self.due.first().copied() {
            if due > now.at {
                return;
            }
            self.due.pop_first();
            self.tell_one(id, now);
        }
    }

    /// Tells of a submission that nothing has been told of.
    pub(super) fn tell_new(&mut self, id: SubmissionId, now: Now) {
        let submission = self.submissions.get(&id);
        if submission.is_some_and(|submission| submission.progress.told.is_none()) {
            self.tell_one(id, now);
        }
    }

    /// When something is to be told at the latest.
    pub(super) fn next_progress(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    fn tell_one(&mut self, id: SubmissionId, now: Now) {
        let n_free = self.engines.len();
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        submission.progress.told = Some(now.at);
        submission.progress.due = None;
        let Some(submission) = self.submissions.get(&id) else { return };
        let summary = submission.summary(|number| self.msg_id(number), n_free, now);
        self.effects.push(Effect::Emit(ClientEvent::Progress { summary: summary.into() }));
    }

    fn tell_end(&mut self, id: SubmissionId) {
        let Some(submission) = self.submissions.get(&id) else { return };
        let counts = submission.tally.counts;
        let event = ClientEvent::Finished {
            submission: id,
            n_values: submission.n_values(),
            n_failed: counts.failed + counts.cancelled,
            failed: submission.failures(|number| self.msg_id(number)),
        };
        self.emit(event);
    }

    /// Says why nothing moves, or that it does.
    pub(super) fn refresh_hint(&mut self, id: SubmissionId) {
        let n_live = self.engines.len();
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let compiling =
            submission.tasks.first().is_some_and(|task| matches!(task.stage, Stage::Compiling));
        let hint = match () {
            () if submission.is_finished() => None,
            () if n_live == 0 => Some("no engine is connected"),
            () if compiling => Some("compiling"),
            () => None,
        };
        if submission.hint.as_deref() != hint {
            submission.hint = hint.map(str::to_owned);
            self.touch(id);
        }
    }
}
