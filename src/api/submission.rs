//! The handle behind both result types: a submission of the kernel's cluster client, or the error that kept
//! the work from being submitted. Holds no values; whatever it tells, it asks for.

use crate::EngineId;
use crate::ask::{ask, tell, unexpected};
use crate::call::Value;
use crate::error::{Error, RemoteError, RemoteFailure, Result};
use crate::outcome::{self, Failure};
use crate::request::{
    Answer, Request, Status, Stopped, Submit, TaskEnd, TaskMetadata, TaskResult, Until, Want,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One user call, as far as a cell holds on to it. Clones share it; the last one tells the client.
#[derive(Clone)]
pub(crate) struct Submission(Arc<Inner>);

struct Inner {
    cluster: u32,
    state: Result<Known, Error>,
}

#[derive(Clone, Copy)]
struct Known {
    submission: u64,
    n_values: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(known) = &self.state {
            tell(self.cluster, Request::Forget { submission: known.submission });
        }
    }
}

/// A task's values, decoded.
pub(crate) struct Batch<R> {
    pub(crate) engine_id: Option<EngineId>,
    pub(crate) values: Vec<Result<R, RemoteError>>,
}

impl Submission {
    fn new(cluster: u32, state: Result<Known, Error>) -> Self {
        Self(Arc::new(Inner { cluster, state }))
    }

    /// The handle of work that could not be submitted.
    pub(crate) fn refused(cluster: u32, error: Error) -> Self {
        Self::new(cluster, Err(error))
    }

    /// Submits. Whatever goes wrong is told by the handle.
    pub(crate) fn submit(cluster: u32, submit: Submit, body: &[u8]) -> Self {
        Self::requested(cluster, Request::Submit(submit), body)
    }

    pub(crate) fn requested(cluster: u32, request: Request, body: &[u8]) -> Self {
        let state = ask(cluster, request, body).and_then(|(answer, _)| match answer {
            Answer::Submitted { submission, n_values, .. } => Ok(Known { submission, n_values }),
            answer => Err(unexpected(&answer)),
        });
        Self::new(cluster, state)
    }

    /// The handle of work that the kernel submitted (`%%px --out`).
    pub(crate) fn attach(cluster: u32, submission: u64) -> Self {
        let state =
            ask(cluster, Request::Status { submission }, &[]).and_then(
                |(answer, _)| match answer {
                    Answer::Status(status) => Ok(Known { submission, n_values: status.n_values }),
                    answer => Err(unexpected(&answer)),
                },
            );
        Self::new(cluster, state)
    }

    pub(crate) fn id(&self) -> Result<u64> {
        self.known().map(|known| known.submission)
    }

    pub(crate) fn n_values(&self) -> u64 {
        self.known().map_or(0, |known| known.n_values)
    }

    fn known(&self) -> Result<Known> {
        self.0.state.clone()
    }

    fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<(Answer, Vec<u8>)> {
        ask(self.0.cluster, request(self.id()?), &[])
    }

    pub(crate) fn status(&self) -> Result<Status> {
        match self.ask(|submission| Request::Status { submission })?.0 {
            Answer::Status(status) => Ok(status),
            answer => Err(unexpected(&answer)),
        }
    }

    /// `false` when the time was over first.
    pub(crate) fn wait(&self, until: Until, timeout: Option<Duration>) -> Result<bool> {
        let wait = |submission| Request::Wait { submissions: vec![submission], until, timeout };
        match self.ask(wait)?.0 {
            Answer::Waited(reached) => Ok(reached),
            answer => Err(unexpected(&answer)),
        }
    }

    pub(crate) fn interactive(&self) -> Result<()> {
        self.ask(|submission| Request::Interactive { submission }).map(|_| ())
    }

    pub(crate) fn metadata(&self, settled: bool) -> Result<Vec<TaskMetadata>> {
        match self.ask(|submission| Request::Metadata { submission, settled })?.0 {
            Answer::Metadata(tasks) => Ok(tasks),
            answer => Err(unexpected(&answer)),
        }
    }

    pub(crate) fn stop(&self, running: bool) -> Result<Stopped> {
        match self.ask(|submission| Request::Stop { submission, running })?.0 {
            Answer::Stopped(stopped) => Ok(stopped),
            answer => Err(unexpected(&answer)),
        }
    }

    pub(crate) fn retry(&self) -> Self {
        match self.id() {
            Ok(submission) => Self::requested(self.0.cluster, Request::Retry { submission }, &[]),
            Err(error) => Self::refused(self.0.cluster, error),
        }
    }

    /// Decoded tasks from the `from`th on; where to go on, and whether that was all.
    pub(crate) fn batches<R: Value>(
        &self,
        from: u64,
        want: Want,
        timeout: Option<Duration>,
    ) -> Result<(Vec<Batch<R>>, u64, bool)> {
        let results = |submission| Request::Results { submission, from, want, timeout };
        let (answer, body) = self.ask(results)?;
        let Answer::Results { tasks, next, complete } = answer else {
            return Err(unexpected(&answer));
        };
        let mut rest = body.as_slice();
        let mut batches = Vec::with_capacity(tasks.len());
        for task in tasks {
            let engine_id = task.engine_id;
            batches.push(Batch { engine_id, values: decode(task, &mut rest)? });
        }
        Ok((batches, next, complete))
    }

    /// Every task, in order, each with its values; waits until all have finished.
    pub(crate) fn all<R: Value>(
        &self,
        timeout: Option<Duration>,
        mut each: impl FnMut(Batch<R>),
    ) -> Result<()> {
        let mut from = 0;
        loop {
            let (batches, next, complete) = self.batches(from, Want::All, timeout)?;
            batches.into_iter().for_each(&mut each);
            if complete {
                return Ok(());
            }
            from = next;
        }
    }

    /// Wall time: from the first submission to the last result.
    pub(crate) fn wall_time(&self) -> Result<Duration> {
        let status = self.finished_status("wall_time()")?;
        Ok(status.elapsed)
    }

    pub(crate) fn finished_status(&self, question: &str) -> Result<Status> {
        let status = self.status()?;
        if status.finished {
            Ok(status)
        } else {
            Err(Error::NotReady { question: question.to_owned() })
        }
    }

    /// From the earliest `from` to the latest `to` of all tasks.
    pub(crate) fn timedelta(&self, from: Moment, to: Moment) -> Result<Duration> {
        let not_ready = || Error::NotReady { question: "timedelta()".to_owned() };
        let tasks = self.metadata(false)?;
        let start = tasks.iter().filter_map(|task| from.of(task)).min().ok_or_else(not_ready)?;
        let all = tasks.iter().map(|task| to.of(task)).collect::<Option<Vec<_>>>();
        let end = all.and_then(|ends| ends.into_iter().max()).ok_or_else(not_ready)?;
        Ok(end.duration_since(start).unwrap_or_default())
    }

    /// `<AsyncMapResult(is_prime): 12 of 400 done>`.
    pub(crate) fn describe(&self, kind: &str) -> String {
        let status = match self.status() {
            Ok(status) => status,
            Err(error) => return format!("<{kind}: {}: {error}>", error.ename()),
        };
        let state = match &status {
            Status { finished: true, failed: 0, cancelled: 0, .. } => "finished".to_owned(),
            Status { finished: true, failed, cancelled: 0, .. } => {
                format!("{failed} of {} failed", status.n_values)
            }
            Status { finished: true, failed, cancelled, .. } => {
                format!("{cancelled} of {} cancelled, {failed} failed", status.n_values)
            }
            Status { done, failed, .. } => format!("{} of {} done", done + failed, status.n_values),
        };
        format!("<{kind}({}): {state}>", status.label)
    }

    /// What makes the kernel show the live panel, and the same in words.
    pub(crate) fn bundle(&self, kind: &str) -> Vec<(String, String)> {
        let mut bundle = Vec::new();
        if let Ok(known) = self.known() {
            let content =
                format!("{{\"submission\":{},\"cluster\":{}}}", known.submission, self.0.cluster);
            bundle.push((SUBMISSION_MIME.to_owned(), content));
        }
        bundle.push(("text/plain".to_owned(), self.describe(kind)));
        bundle
    }
}

/// The kernel replaces a representation of this type by the panel of that submission.
pub const SUBMISSION_MIME: &str = "application/vnd.prust.submission+json";

/// One of the four timestamps of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Submitted,
    Started,
    Completed,
    Received,
}

impl Moment {
    fn of(self, task: &TaskMetadata) -> Option<SystemTime> {
        match self {
            Self::Submitted => task.submitted,
            Self::Started => task.started,
            Self::Completed => task.completed,
            Self::Received => task.received,
        }
    }
}

/// The values of one task, taken from the front of `rest`.
fn decode<R: Value>(
    task: TaskResult,
    rest: &mut &[u8],
) -> Result<Vec<Result<R, RemoteError>>, Error> {
    let TaskResult { first_item, n, engine_id, msg_id, method, end } = task;
    let of_map = method == "map";
    let remote = |idx: u64, failure: Failure| {
        let Failure { ename, evalue, traceback } = failure;
        let item = of_map.then_some(first_item + idx);
        let (method, msg_id) = (method.clone(), msg_id.clone());
        RemoteError::new(RemoteFailure {
            ename,
            evalue,
            traceback,
            engine_id,
            method,
            msg_id,
            item,
        })
    };
    let bytes = match end {
        TaskEnd::Failed(failure) => {
            return Ok((0..n).map(|idx| Err(remote(idx, failure.clone()))).collect());
        }
        TaskEnd::Value { bytes } => bytes as usize,
    };
    let Some((value, after)) = rest.split_at_checked(bytes) else {
        let reason = "an answer is shorter than it says".to_owned();
        return Err(Error::Disconnected { reason });
    };
    *rest = after;
    let (outcomes, values) =
        outcome::read_outcomes(value).map_err(|error| Error::not_deserializable::<R>(&error))?;
    let items =
        outcomes.unfold::<R>(values).map_err(|error| Error::not_deserializable::<R>(&error))?;
    let items = items.into_iter().zip(0..);
    Ok(items.map(|(item, idx)| item.map_err(|failure| remote(idx, failure))).collect())
}
