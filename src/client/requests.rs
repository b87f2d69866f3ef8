//! What cells ask: one arm per request.

use super::command::SubmissionId;
use super::event::{Now, raw};
use super::query::Query;
use super::state::State;
use super::waits::{CONNECT_WAIT_MAX, Goal};
use prust::request::{Answer, Asked, Request};
use prust::{Error, codec};
use std::time::Duration;

/// How long `stdout()` and the like wait for output that was announced.
const OUTPUT_WAIT_MAX: Duration = Duration::from_secs(2);

impl State {
    pub(super) fn request(&mut self, from: u64, cell: &str, head: &[u8], body: Vec<u8>, now: Now) {
        match codec::from_bytes::<Asked>(head) {
            Ok(Asked { mut request, .. }) => match self.names.resolve(&mut request) {
                Ok(()) => self.asked(from, cell, request, body, now),
                Err(error) => {
                    self.refuse(from, &error);
                    if let Request::Submit { name, .. } = request {
                        self.name(name, Err(error));
                    }
                }
            },
            Err(error) => {
                let reason = format!("a request that cannot be read: {error}");
                self.refuse(from, &Error::Disconnected { reason });
            }
        }
    }

    fn asked(&mut self, from: u64, cell: &str, request: Request, body: Vec<u8>, now: Now) {
        match request {
            Request::Connect { to: None } => {
                self.wait(from, Goal::Connected, Some(CONNECT_WAIT_MAX), now);
            }
            Request::Connect { to: Some(to) } => self.refuse_second(from, &to),
            Request::Engines => {
                let answer = self.ids_answer();
                self.answer(from, &answer, Vec::new());
            }
            Request::SharedFolder => {
                let folder = self.settings.shared_folder.as_deref().map(str::to_owned);
                self.answer(from, &Answer::SharedFolder(folder), Vec::new());
            }
            Request::WaitForEngines { n, timeout } => {
                self.wait(from, Goal::Engines { n: n as usize }, timeout, now);
            }
            Request::Submit { name, submit } => {
                let submitted = self.submit(cell, *submit, body, now);
                self.name(name, submitted.clone());
                self.answer_submitted(from, submitted, now);
            }
            Request::Submitted { submission } => self.answer_submitted(from, Ok(submission), now),
            Request::Heard => self.answer(from, &Answer::Done, Vec::new()),
            Request::Results { submission, from: start, want, timeout } => {
                self.remember(submission);
                let goal = Goal::Results { submission, from: start, want };
                self.wait(from, goal, timeout, now);
            }
            Request::Wait { submissions, until, timeout } => {
                self.wait(from, Goal::Submissions { submissions, until }, timeout, now);
            }
            Request::Status { submission } => self.answer_status(from, submission, now),
            Request::Metadata { submission, settled: false } => {
                self.answer_metadata(from, submission, now);
            }
            Request::Metadata { submission, settled: true } => {
                self.wait_for_output(from, submission, now);
            }
            Request::Stop { submission, running } => match self.stop(submission, running, now) {
                Ok(stopped) => self.answer(from, &Answer::Stopped(stopped), Vec::new()),
                Err(error) => self.refuse(from, &error),
            },
            Request::Retry { submission } => {
                let submitted = self.retry(submission, now);
                self.answer_submitted(from, submitted, now);
            }
            Request::Forget { submission } => self.forget(submission, now),
            Request::Interactive { submission } => {
                self.emit(super::command::ClientEvent::Blocked { from, submission });
                self.answer(from, &Answer::Done, Vec::new());
            }
            Request::Signal { targets, signal } => match self.signal(&targets, signal, now) {
                Ok(stopped) => self.answer(from, &Answer::Stopped(stopped), Vec::new()),
                Err(error) => self.refuse(from, &error),
            },
            Request::Fetch { msg_ids, returns } => self.fetch(from, msg_ids, returns, now),
            Request::Hub { msg_type, content } => match serde_json::from_str(&content) {
                Ok(content) => self.query(Query::Hub { from }, &msg_type, raw(&content), now),
                Err(error) => {
                    let what = "the query's content".to_owned();
                    let reason = error.to_string();
                    self.refuse(from, &Error::NotSerializable { what, reason });
                }
            },
        }
    }

    fn refuse_second(&mut self, from: u64, to: &str) {
        let what = format!(
            "a second cluster beside the notebook's (%cluster attach {to} uses it instead)"
        );
        self.refuse(from, &Error::Unsupported { what });
    }

    pub(super) fn answer_submitted(
        &mut self,
        from: u64,
        submitted: Result<SubmissionId, Error>,
        now: Now,
    ) {
        // The kernel hears of the work before the cell goes on or ends: should the cell fail, its
        // error names what it leaves running.
        if let Ok(id) = submitted {
            self.tell_new(id, now);
        }
        let known = submitted
            .and_then(|id| self.submissions.get(&id).ok_or(Error::ResultPurged { submission: id }));
        match known {
            Ok(submission) => {
                let answer = Answer::Submitted {
                    submission: submission.id,
                    n_tasks: submission.tasks.len() as u64,
                    n_values: submission.n_values(),
                };
                self.answer(from, &answer, Vec::new());
            }
            Err(error) => self.refuse(from, &error),
        }
    }

    fn answer_status(&mut self, from: u64, id: SubmissionId, now: Now) {
        let n_free = self.engines.len();
        match self.submissions.get(&id).map(|submission| submission.status(n_free, now)) {
            Some(status) => self.answer(from, &Answer::Status(status), Vec::new()),
            None => self.refuse(from, &Error::ResultPurged { submission: id }),
        }
    }

    /// Output is waited for only when the work has ended; before that, what is there is told.
    fn wait_for_output(&mut self, from: u64, id: SubmissionId, now: Now) {
        if self.submissions.get(&id).is_some_and(|submission| submission.is_finished()) {
            let goal = Goal::Metadata { submission: id };
            self.wait(from, goal, Some(OUTPUT_WAIT_MAX), now);
        } else {
            self.answer_metadata(from, id, now);
        }
    }

    fn remember(&mut self, id: SubmissionId) {
        if let Some(submission) = self.submissions.get_mut(&id) {
            submission.forgotten = false;
            submission.abandoned = false;
        }
    }

    /// The last handle is gone. Work goes on without one, unless an interrupt took it away.
    fn forget(&mut self, id: SubmissionId, now: Now) {
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        submission.forgotten = true;
        if submission.abandoned && !submission.is_finished() {
            let _nobody_asks = self.stop(id, true, now);
        }
    }
}
