//! Requests of cells that are not answered yet: what each waits for, and their end by success, time
//! or interrupt.

use super::command::{ClientEvent, SubmissionId};
use super::event::Now;
use super::state::State;
use super::submission::Submission;
use prust::codec;
use prust::request::{ANSWER_BYTES_MAX, Answer, Until, Want};
use prust::{EngineId, Error};
use prust_runtime::frame::Status;
use std::time::Duration;

/// A cell that waits longer sees the panel of what it waits for.
pub(super) const BLOCKED_AFTER: Duration = Duration::from_millis(300);
/// How long `Client::connect` waits for the engines that are being started.
pub(super) const CONNECT_WAIT_MAX: Duration = Duration::from_secs(15);

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) goal: Goal,
    /// When it ends without success.
    pub(super) until: Option<Duration>,
    /// When the kernel is told that a cell is blocked.
    pub(super) blocked_at: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(super) enum Goal {
    Connected,
    Engines { n: usize },
    Results { submission: SubmissionId, from: u64, want: Want },
    Submissions { submissions: Vec<SubmissionId>, until: Until },
    Metadata { submission: SubmissionId },
}

impl Goal {
    fn submissions(&self) -> &[SubmissionId] {
        match self {
            Self::Connected | Self::Engines { .. } => &[],
            Self::Results { submission, .. } | Self::Metadata { submission } => {
                std::slice::from_ref(submission)
            }
            Self::Submissions { submissions, .. } => submissions,
        }
    }
}

impl Wait {
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.until.into_iter().chain(self.blocked_at).min()
    }
}

impl State {
    /// Answers at once if the goal is reached, else when it is.
    pub(super) fn wait(&mut self, from: u64, goal: Goal, timeout: Option<Duration>, now: Now) {
        if self.try_end(from, &goal, now) || from == 0 {
            return;
        }
        let blocks = matches!(goal, Goal::Results { .. } | Goal::Submissions { .. });
        let blocked_at = blocks.then_some(now.at + BLOCKED_AFTER);
        let until = timeout.map(|timeout| now.at.saturating_add(timeout));
        self.waits.insert(from, Wait { goal, until, blocked_at });
    }

    /// Ends the waits that this submission's change fulfils.
    pub(super) fn end_waits(&mut self, changed: SubmissionId, now: Now) {
        let waits =
            self.waits.iter().filter(|(_, wait)| wait.goal.submissions().contains(&changed));
        let waits: Vec<(u64, Goal)> =
            waits.map(|(from, wait)| (*from, wait.goal.clone())).collect();
        for (from, goal) in waits {
            if self.try_end(from, &goal, now) {
                self.waits.remove(&from);
            }
        }
    }

    pub(super) fn end_engine_waits(&mut self) {
        let n_live = self.engines.len();
        let n_expected = self.settings.n_engines_expected;
        let connected = self.connected;
        let reached: Vec<(u64, Goal)> = self
            .waits
            .iter()
            .filter(|(_, wait)| match wait.goal {
                Goal::Connected => connected && n_live >= n_expected,
                Goal::Engines { n } => n_live >= n,
                _ => false,
            })
            .map(|(from, wait)| (*from, wait.goal.clone()))
            .collect();
        for (from, goal) in reached {
            self.waits.remove(&from);
            self.answer(from, &engines_reached(&goal, true), Vec::new());
        }
    }

    /// Answers if the goal is reached.
    fn try_end(&mut self, from: u64, goal: &Goal, now: Now) -> bool {
        match goal {
            Goal::Connected | Goal::Engines { .. } => {
                let n = match goal {
                    Goal::Engines { n } => *n,
                    _ => self.settings.n_engines_expected,
                };
                let reached = self.connected && self.engines.len() >= n;
                if reached {
                    self.answer(from, &engines_reached(goal, true), Vec::new());
                }
                reached
            }
            Goal::Results { submission, from: start, want } => {
                self.try_results(from, *submission, *start, *want)
            }
            Goal::Submissions { submissions, until } => {
                let reached = submissions.iter().all(|id| self.has_reached(*id, *until));
                if reached {
                    self.answer(from, &Answer::Waited(true), Vec::new());
                }
                reached
            }
            Goal::Metadata { submission } => {
                let settled = self.has_reached(*submission, Until::Settled);
                if settled {
                    self.answer_metadata(from, *submission, now);
                }
                settled
            }
        }
    }

    /// A submission that is not known any more has reached everything.
    fn has_reached(&self, id: SubmissionId, until: Until) -> bool {
        self.submissions.get(&id).is_none_or(|submission| match until {
            Until::Finished => submission.is_finished(),
            Until::FirstError => submission.is_finished() || submission.has_failed(),
            Until::Settled => submission.is_settled(),
        })
    }

    fn try_results(&mut self, to: u64, id: SubmissionId, from: u64, want: Want) -> bool {
        let Some(submission) = self.submissions.get(&id).filter(|known| !known.purged) else {
            self.refuse(to, &Error::ResultPurged { submission: id });
            return true;
        };
        let n_tasks = submission.tasks.len() as u64;
        let reached = from >= n_tasks
            || match want {
                Want::All => submission.is_finished(),
                Want::Next => submission.tasks[from as usize].end().is_some(),
                Want::NextFinished => submission.finished.len() as u64 > from,
            };
        if reached {
            let (answer, body) = collect(submission, from, want, |number| self.msg_id(number));
            self.answer(to, &answer, body);
        }
        reached
    }

    /// The wait's time is over, or the kernel is to be told that it lasts.
    pub(super) fn end_waits_by_time(&mut self, now: Now) {
        let over = |time: Option<Duration>| time.is_some_and(|time| now.at >= time);
        let due: Vec<u64> = self
            .waits
            .iter()
            .filter(|(_, wait)| over(wait.deadline()))
            .map(|(from, _)| *from)
            .collect();
        for from in due {
            let Some(wait) = self.waits.get_mut(&from) else { continue };
            if over(wait.until) {
                let goal = wait.goal.clone();
                self.waits.remove(&from);
                self.end_in_vain(from, &goal, now);
                continue;
            }
            wait.blocked_at = None;
            if let Some(submission) = wait.goal.submissions().last().copied() {
                self.emit(ClientEvent::Blocked { from, submission });
            }
        }
    }

    fn end_in_vain(&mut self, from: u64, goal: &Goal, now: Now) {
        match goal {
            Goal::Connected | Goal::Engines { .. } => {
                self.answer(from, &engines_reached(goal, false), Vec::new());
            }
            Goal::Submissions { .. } => self.answer(from, &Answer::Waited(false), Vec::new()),
            Goal::Metadata { submission } => self.answer_metadata(from, *submission, now),
            Goal::Results { submission, .. } => {
                let counts = self.submissions.get(submission).map(|known| known.tally.counts);
                let (done, total) = counts.map_or((0, 0), |counts| {
                    (counts.done + counts.failed + counts.cancelled, counts.total)
                });
                self.refuse(from, &Error::Timeout { done, total });
            }
        }
    }

    /// The cell is interrupted where it waits.
    pub(super) fn interrupt_waits(&mut self) {
        for (from, wait) in std::mem::take(&mut self.waits) {
            for id in wait.goal.submissions() {
                if let Some(submission) = self.submissions.get_mut(id) {
                    submission.abandoned = true;
                }
            }
            let (head, body) = (Vec::new(), Vec::new());
            self.emit(ClientEvent::Answer { to: from, status: Status::Interrupted, head, body });
        }
    }

    pub(super) fn refuse_waits(&mut self, error: &Error) {
        for from in std::mem::take(&mut self.waits).into_keys() {
            self.refuse(from, error);
        }
    }

    pub(super) fn answer(&mut self, to: u64, answer: &Answer, body: Vec<u8>) {
        if to != 0 {
            let head = codec::to_bytes(answer).expect("answers are plain data");
            self.emit(ClientEvent::Answer { to, status: Status::Ok, head, body });
        }
    }

    pub(super) fn refuse(&mut self, to: u64, error: &Error) {
        if to != 0 {
            let head = codec::to_bytes(error).expect("errors are plain data");
            let body = Vec::new();
            self.emit(ClientEvent::Answer { to, status: Status::Error, head, body });
        }
    }

    pub(super) fn answer_metadata(&mut self, to: u64, id: SubmissionId, _now: Now) {
        let Some(submission) = self.submissions.get(&id) else {
            return self.refuse(to, &Error::ResultPurged { submission: id });
        };
        let tasks = (0..submission.tasks.len() as u32).map(|idx| {
            let mut task = submission.metadata(idx, self.msg_id(submission.number(idx)));
            task.engine_uuid = task.engine_id.and_then(|engine| self.uuid_of(engine));
            task
        });
        let answer = Answer::Metadata(tasks.collect());
        self.answer(to, &answer, Vec::new());
    }

    /// Engines known to be live.
    pub(super) fn ids_answer(&self) -> Answer {
        let ids: Vec<EngineId> = self.live();
        Answer::Engines(ids)
    }
}

fn engines_reached(goal: &Goal, reached: bool) -> Answer {
    match goal {
        Goal::Connected => Answer::Connected { cluster: 0 },
        _ => Answer::Waited(reached),
    }
}

/// Ended tasks from the `from`th on and their values, up to `ANSWER_BYTES_MAX`.
fn collect(
    submission: &Submission,
    from: u64,
    want: Want,
    msg_id: impl Fn(u64) -> String,
) -> (Answer, Vec<u8>) {
    let n_tasks = submission.tasks.len() as u64;
    let mut body = Vec::new();
    let mut tasks = Vec::new();
    let mut next = from;
    while next < n_tasks && (body.is_empty() || (body.len() as u64) < ANSWER_BYTES_MAX) {
        let idx = match want {
            Want::All | Want::Next => Some(next as u32),
            Want::NextFinished => submission.finished.get(next as usize).copied(),
        };
        let ended = |idx: &u32| submission.tasks[*idx as usize].end().is_some();
        let Some(idx) = idx.filter(ended) else { break };
        let (task, value) = submission.result(idx, msg_id(submission.number(idx)));
        body.extend_from_slice(value);
        tasks.push(task);
        next += 1;
    }
    (Answer::Results { tasks, next, complete: next >= n_tasks }, body)
}
