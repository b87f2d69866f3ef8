//! The handle behind both result types: a submission of the kernel's cluster client, or the error
//! that kept the work from being submitted. Holds no values; whatever it tells, it asks for. To
//! submit is to tell: nothing is waited for before something is asked.

use crate::EngineId;
use crate::ask::{ask, tell, tell_soon, tell_work, unexpected};
use crate::codec::CodecError;
use crate::error::{self, Error, RemoteError, RemoteFailure, Result};
use crate::items::Lengths;
use crate::outcome::{self, Failure, Part};
use crate::request::{
    Answer, NAMES, Request, Status, Stopped, Submit, TaskEnd, TaskMetadata, TaskResult, Until, Want,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// One user call, as far as a cell holds on to it. Clones share it; the last one tells the client.
#[derive(Clone)]
pub(crate) struct Submission(Arc<Inner>);

/// What is kept of results for a moment longer than anybody needs them.
const LITTLE_BYTES: usize = 4 << 10;

struct Inner {
    cluster: u32,
    /// The number of the submission, or the name that this cell gave it.
    handle: Result<u64, Error>,
    /// What the kernel says of it, as soon as that was asked.
    known: OnceLock<Result<Known, Error>>,
    /// All results were read, and were little.
    was_little: AtomicBool,
}

#[derive(Clone, Copy)]
struct Known {
    submission: u64,
    n_values: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(handle) = &self.handle {
            let forget = Request::Forget { submission: *handle };
            match self.was_little.load(Ordering::Relaxed) {
                true => tell_soon(self.cluster, forget),
                false => tell(self.cluster, forget),
            }
        }
    }
}

/// Takes encoded values with the engine they are from.
type EachValues<'a> = dyn FnMut(Option<EngineId>, &Lengths, &[u8]) -> Result<(), CodecError> + 'a;

/// A stretch of one task's results.
pub(crate) enum TaskPart<'a> {
    Values { engine_id: Option<EngineId>, lengths: Lengths, bytes: &'a [u8] },
    Failed(RemoteError),
}

fn known(answer: Answer) -> Result<Known> {
    match answer {
        Answer::Submitted { submission, n_values, .. } => Ok(Known { submission, n_values }),
        answer => Err(unexpected(&answer)),
    }
}

impl Submission {
    fn new(
        cluster: u32,
        handle: Result<u64, Error>,
        known: OnceLock<Result<Known, Error>>,
    ) -> Self {
        let was_little = AtomicBool::new(false);
        Self(Arc::new(Inner { cluster, handle, known, was_little }))
    }

    /// The handle of work that could not be submitted.
    pub(crate) fn refused(cluster: u32, error: Error) -> Self {
        Self::new(cluster, Err(error), OnceLock::new())
    }

    /// Submits. Whatever goes wrong is told by the handle.
    pub(crate) fn submit(cluster: u32, submit: Submit, body: &[u8]) -> Self {
        // Of this process alone: the names of one that died are asked for by nobody.
        static NEXT: AtomicU64 = AtomicU64::new(NAMES);
        let name = NEXT.fetch_add(1, Ordering::Relaxed);
        let request = Request::Submit { name, submit: Box::new(submit) };
        let told = tell_work(cluster, request, body);
        Self::new(cluster, told.map(|()| name), OnceLock::new())
    }

    pub(crate) fn requested(cluster: u32, request: Request, body: &[u8]) -> Self {
        Self::answered(cluster, ask(cluster, request, body).and_then(|(answer, _)| known(answer)))
    }

    fn answered(cluster: u32, known: Result<Known, Error>) -> Self {
        let handle = known.clone().map(|known| known.submission);
        Self::new(cluster, handle, OnceLock::from(known))
    }

    /// The handle of work that the kernel submitted (`%%px --out`).
    pub(crate) fn attach(cluster: u32, submission: u64) -> Self {
        Self::requested(cluster, Request::Submitted { submission }, &[])
    }

    /// Its number or its name.
    pub(crate) fn handle(&self) -> Result<u64> {
        self.0.handle.clone()
    }

    pub(crate) fn n_values(&self) -> u64 {
        self.known().map_or(0, |known| known.n_values)
    }

    fn known(&self) -> Result<Known> {
        let submission = self.handle()?;
        let asks = || {
            let request = Request::Submitted { submission };
            ask(self.0.cluster, request, &[]).and_then(|(answer, _)| known(answer))
        };
        self.0.known.get_or_init(asks).clone()
    }

    fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<(Answer, Vec<u8>)> {
        ask(self.0.cluster, request(self.handle()?), &[])
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
        match self.handle() {
            Ok(submission) => Self::requested(self.0.cluster, Request::Retry { submission }, &[]),
            Err(error) => Self::refused(self.0.cluster, error),
        }
    }

    /// Tasks from the `from`th on, part by part; where to go on, and whether that was all.
    pub(crate) fn some_parts(
        &self,
        from: u64,
        want: Want,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(TaskPart<'_>) -> Result<(), CodecError>,
    ) -> Result<(u64, bool)> {
        let results = |submission| Request::Results { submission, from, want, timeout };
        let (answer, body) = self.ask(results)?;
        let Answer::Results { tasks, next, complete } = answer else {
            return Err(unexpected(&answer));
        };
        let mut rest = body.as_slice();
        let mut n_bytes = 0;
        for task in tasks {
            parts(task, &mut rest, &mut |part| {
                if let TaskPart::Values { bytes, .. } = &part {
                    n_bytes += bytes.len();
                }
                each(part)
            })?;
        }
        let is_little = from == 0 && complete && n_bytes <= LITTLE_BYTES;
        self.0.was_little.store(is_little, Ordering::Relaxed);
        Ok((next, complete))
    }

    /// Every task in order, part by part; waits until all have finished.
    pub(crate) fn parts(
        &self,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(TaskPart<'_>) -> Result<(), CodecError>,
    ) -> Result<()> {
        let mut from = 0;
        loop {
            match self.some_parts(from, Want::All, timeout, each)? {
                (_, true) => return Ok(()),
                (next, false) => from = next,
            }
        }
    }

    /// The encoded values of all tasks in order; the one error of many if any failed.
    pub(crate) fn values(
        &self,
        timeout: Option<Duration>,
        each: &mut EachValues<'_>,
    ) -> Result<()> {
        let mut errors = Vec::new();
        self.parts(timeout, &mut |part| match part {
            TaskPart::Values { engine_id, lengths, bytes } => each(engine_id, &lengths, bytes),
            TaskPart::Failed(error) => {
                errors.push(error);
                Ok(())
            }
        })?;
        if errors.is_empty() { Ok(()) } else { Err(error::collect(self.n_values(), errors)) }
    }

    /// From the first submission to the last result.
    pub(crate) fn wall_time(&self) -> Result<Duration> {
        Ok(self.finished_status("wall_time()")?.elapsed)
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

    /// Waits and tells nothing: `get` will.
    pub(crate) fn wait_quietly(&self, until: Until) {
        let _told_by_get = self.wait(until, None);
    }

    /// Whether it has ended, or never began.
    pub(crate) fn wait_or_fail(&self, until: Until, timeout: Duration) -> bool {
        self.wait(until, Some(timeout)).unwrap_or(true)
    }

    pub(crate) fn wait_interactive(&self) {
        if self.ask(|submission| Request::Interactive { submission }).is_ok() {
            self.wait_quietly(Until::Finished);
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.status().map_or(true, |status| status.finished)
    }

    pub(crate) fn successful(&self) -> Result<bool> {
        if self.known().is_err() {
            return Ok(false);
        }
        let status = self.finished_status("successful()")?;
        Ok(status.failed == 0 && status.cancelled == 0)
    }

    pub(crate) fn progress(&self) -> u64 {
        self.status().map_or(0, |status| status.done + status.failed + status.cancelled)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.status().map_or(Duration::ZERO, |status| status.elapsed)
    }

    pub(crate) fn serial_time(&self) -> Result<Duration> {
        Ok(self.finished_status("serial_time()")?.serial)
    }

    pub(crate) fn speedup(&self) -> Result<f64> {
        let status = self.finished_status("speedup()")?;
        let wall = status.elapsed.as_secs_f64();
        Ok(if wall > 0.0 { status.serial.as_secs_f64() / wall } else { 0.0 })
    }

    /// One text of every task, when all output has arrived.
    pub(crate) fn printed(&self, of: fn(TaskMetadata) -> String) -> Vec<String> {
        self.metadata(true).unwrap_or_default().into_iter().map(of).collect()
    }

    pub(crate) fn data(&self) -> Vec<BTreeMap<String, String>> {
        let tasks = self.metadata(false).unwrap_or_default();
        tasks.into_iter().map(|task| task.data).collect()
    }

    pub(crate) fn engine_ids(&self) -> Vec<Option<EngineId>> {
        let tasks = self.metadata(false).unwrap_or_default();
        tasks.into_iter().map(|task| task.engine_id).collect()
    }

    pub(crate) fn msg_ids(&self) -> Vec<String> {
        let tasks = self.metadata(false).unwrap_or_default();
        tasks.into_iter().map(|task| task.msg_id).collect()
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

/// The parts of one task, whose value is at the front of `rest`.
fn parts(
    task: TaskResult,
    rest: &mut &[u8],
    each: &mut dyn FnMut(TaskPart<'_>) -> Result<(), CodecError>,
) -> Result<()> {
    let TaskResult { first_item, n, engine_id, msg_id, method, end } = task;
    let of_map = method == "map";
    let remote = |idx: u64, failure: Failure| {
        let Failure { ename, evalue, traceback } = failure;
        let item = of_map.then_some(first_item + idx);
        let (method, msg_id) = (method.clone(), msg_id.clone());
        let failure = RemoteFailure { ename, evalue, traceback, engine_id, method, msg_id, item };
        TaskPart::Failed(RemoteError::new(failure))
    };
    let wrong_type = |error: CodecError| Error::NotDeserializable { reason: error.to_string() };
    let bytes = match end {
        TaskEnd::Failed(failure) => {
            let mut failed = (0..n).map(|idx| each(remote(idx, failure.clone())));
            return failed.try_for_each(|outcome| outcome).map_err(wrong_type);
        }
        TaskEnd::Value { bytes } => bytes as usize,
    };
    let Some((value, after)) = rest.split_at_checked(bytes) else {
        let reason = "an answer is shorter than it says".to_owned();
        return Err(Error::Disconnected { reason });
    };
    *rest = after;
    let (outcomes, values) = outcome::read_outcomes(value).map_err(wrong_type)?;
    let mut told = |part: Part<'_>| match part {
        Part::Values { lengths, bytes } => each(TaskPart::Values { engine_id, lengths, bytes }),
        Part::Failed { idx, failure } => each(remote(idx, failure)),
    };
    outcomes.parts(values, &mut told).map_err(wrong_type)
}
