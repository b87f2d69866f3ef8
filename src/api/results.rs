//! `AsyncResult<T>` and `AsyncMapResult<R>`: what a submitting call gives at once. Each is a
//! handle; values, states and times are asked for when wanted.

use crate::EngineId;
use crate::call::Value;
use crate::codec::CodecError;
use crate::error::{self, Error, RemoteError, Result};
use crate::items;
use crate::request::{Stopped, TaskMetadata, Until, Want};
use crate::submission::{Moment, Submission, TaskPart};
use prust_runtime::show::Display;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// One task: `get` gives a `T`.
pub struct AsyncResult<T> {
    submission: Submission,
    /// Makes the one value out of the values of the tasks.
    combine: fn(&Submission, Option<Duration>) -> Result<T>,
}

/// Many values: one per engine (`direct_view.apply`) or per item (`map`); `get` gives a `Vec<R>`.
pub struct AsyncMapResult<R> {
    submission: Submission,
    unordered: bool,
    marker: PhantomData<fn() -> R>,
}

impl<T> Clone for AsyncResult<T> {
    fn clone(&self) -> Self {
        Self { submission: self.submission.clone(), combine: self.combine }
    }
}

impl<R> Clone for AsyncMapResult<R> {
    fn clone(&self) -> Self {
        let submission = self.submission.clone();
        Self { submission, unordered: self.unordered, marker: PhantomData }
    }
}

/// What both kinds of results have.
macro_rules! shared_members {
    ($type:ident<$value:ident>) => {
        impl<$value> $type<$value> {
            pub(crate) fn submission(&self) -> &Submission {
                &self.submission
            }

            /// Waits for the end, however it turns out. Never raises the tasks' errors.
            pub fn wait(&self) -> &Self {
                self.submission.wait_quietly(Until::Finished);
                self
            }

            /// As [`Self::wait`], for a while; `false` when the work is still running.
            pub fn wait_timeout(&self, timeout: Duration) -> bool {
                self.submission.wait_or_fail(Until::Finished, timeout)
            }

            /// Waits for the first failure, or for the end if there is none.
            pub fn wait_first_error(&self) -> &Self {
                self.submission.wait_quietly(Until::FirstError);
                self
            }

            /// Waits until what the engines printed and displayed has arrived as well.
            pub fn wait_for_output(&self, timeout: Duration) -> bool {
                self.submission.wait_or_fail(Until::Settled, timeout)
            }

            /// Waits with the live panel.
            pub fn wait_interactive(&self) -> &Self {
                self.submission.wait_interactive();
                self
            }

            /// Whether the work has ended, however it turned out.
            pub fn ready(&self) -> bool {
                self.submission.ready()
            }

            /// Whether everything went well.
            ///
            /// # Errors
            /// The work is still running.
            pub fn successful(&self) -> Result<bool> {
                self.submission.successful()
            }

            /// Items (or engines) that have ended.
            pub fn progress(&self) -> u64 {
                self.submission.progress()
            }

            /// Items (or engines) in all.
            pub fn len(&self) -> u64 {
                self.submission.n_values()
            }

            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Time since submission; stops at the last result.
            pub fn elapsed(&self) -> Duration {
                self.submission.elapsed()
            }

            /// The engines' busy time, all together: what one engine would have taken.
            ///
            /// # Errors
            /// The work is still running.
            pub fn serial_time(&self) -> Result<Duration> {
                self.submission.serial_time()
            }

            /// From submission to the last result.
            ///
            /// # Errors
            /// The work is still running.
            pub fn wall_time(&self) -> Result<Duration> {
                self.submission.wall_time()
            }

            /// `serial_time / wall_time`.
            ///
            /// # Errors
            /// The work is still running.
            pub fn speedup(&self) -> Result<f64> {
                self.submission.speedup()
            }

            /// From the earliest `from` to the latest `to` of all tasks.
            ///
            /// # Errors
            /// A task has no such timestamp yet.
            pub fn timedelta(&self, from: Moment, to: Moment) -> Result<Duration> {
                self.submission.timedelta(from, to)
            }

            /// One record per task; none when the work was not submitted or is not known any more.
            pub fn metadata(&self) -> Vec<TaskMetadata> {
                self.submission.metadata(false).unwrap_or_default()
            }

            /// What each task printed.
            pub fn stdout(&self) -> Vec<String> {
                self.submission.printed(|task| task.stdout)
            }

            /// What each task printed to standard error.
            pub fn stderr(&self) -> Vec<String> {
                self.submission.printed(|task| task.stderr)
            }

            /// What each task published, by key.
            pub fn data(&self) -> Vec<BTreeMap<String, String>> {
                self.submission.data()
            }

            /// The engine of each task; `None` where none has taken it yet.
            pub fn engine_ids(&self) -> Vec<Option<EngineId>> {
                self.submission.engine_ids()
            }

            pub fn msg_ids(&self) -> Vec<String> {
                self.submission.msg_ids()
            }

            /// Drops what has not started.
            ///
            /// # Errors
            /// The work was not submitted, or is not known any more.
            pub fn abort(&self) -> Result<Stopped> {
                self.submission.stop(false)
            }

            /// Drops what has not started and interrupts what runs; the engines' variables stay.
            ///
            /// # Errors
            /// As [`Self::abort`].
            pub fn cancel(&self) -> Result<Stopped> {
                self.submission.stop(true)
            }
        }

        impl<$value> fmt::Display for $type<$value> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.submission.describe(stringify!($type)))
            }
        }

        impl<$value> fmt::Debug for $type<$value> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl<$value> Display for $type<$value> {
            fn bundle(&self) -> Vec<(String, String)> {
                self.submission.bundle(stringify!($type))
            }
        }

        impl<$value> Display for &$type<$value> {
            fn bundle(&self) -> Vec<(String, String)> {
                self.submission.bundle(stringify!($type))
            }
        }
    };
}

shared_members!(AsyncResult<T>);
shared_members!(AsyncMapResult<R>);

impl<T: Value> AsyncResult<T> {
    pub(crate) fn one(submission: Submission) -> Self {
        Self { submission, combine: only_value }
    }
}

impl<T: Value> AsyncResult<Vec<T>> {
    /// The vectors of all tasks, end to end.
    pub(crate) fn joined(submission: Submission) -> Self {
        Self { submission, combine: joined_values }
    }
}

impl<T> AsyncResult<T> {
    /// The value; waits for it.
    ///
    /// # Errors
    /// The task's own failure, or whatever kept it from being submitted.
    pub fn get(&self) -> Result<T> {
        (self.combine)(&self.submission, None)
    }

    /// As [`Self::get`], for a while.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the work still running, besides those of `get`.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        (self.combine)(&self.submission, Some(timeout))
    }

    /// The failed task again, as a new result.
    pub fn retry(&self) -> Self {
        Self { submission: self.submission.retry(), combine: self.combine }
    }
}

impl<R: Value> AsyncMapResult<R> {
    pub(crate) fn new(submission: Submission, unordered: bool) -> Self {
        Self { submission, unordered, marker: PhantomData }
    }

    /// The result of work that the kernel submitted (`%%px --out`).
    #[doc(hidden)]
    pub fn attach(cluster: u32, submission: u64) -> Self {
        Self::new(Submission::attach(cluster, submission), false)
    }

    /// The values in order; waits for all of them.
    ///
    /// # Errors
    /// [`Error::CompositeError`] when some failed (the failure itself when there is but one value),
    /// or whatever kept the work from being submitted.
    pub fn get(&self) -> Result<Vec<R>> {
        values(&self.submission, None)
    }

    /// As [`Self::get`], for a while.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the work still running, besides those of `get`.
    pub fn get_timeout(&self, timeout: Duration) -> Result<Vec<R>> {
        values(&self.submission, Some(timeout))
    }

    /// Every value or failure, in order: nothing is thrown away when some fail. What kept the work
    /// from being submitted is one failure.
    pub fn results(&self) -> Vec<Result<R, RemoteError>> {
        let mut out = Vec::new();
        if let Err(error) = self.submission.parts(None, &mut |part| unfold(&mut out, part)) {
            out.push(Err(RemoteError::of(&error)));
        }
        out
    }

    /// The values by engine.
    ///
    /// # Errors
    /// Those of `get`, and [`Error::ManyPerEngine`] when an engine ran more than one task.
    pub fn get_dict(&self) -> Result<BTreeMap<EngineId, R>> {
        let mut values = Vec::new();
        let mut engines: Vec<Option<EngineId>> = Vec::new();
        self.submission.values(None, &mut |engine, lengths, bytes| {
            items::read_items(&mut values, lengths, bytes)?;
            engines.resize(values.len(), engine);
            Ok(())
        })?;
        error::once_each(&engines)?;
        Ok(engines.into_iter().flatten().zip(values).collect())
    }

    /// Values and failures as they are wanted, while the rest still runs: in order, or as they
    /// arrive when the view was `unordered`.
    pub fn iter(&self) -> Iter<R> {
        Iter { result: self.clone(), ready: Vec::new().into_iter(), from: 0, complete: false }
    }

    /// The failed items again, as a new result.
    pub fn retry(&self) -> Self {
        Self::new(self.submission.retry(), self.unordered)
    }
}

impl<R: Value> IntoIterator for &AsyncMapResult<R> {
    type Item = Result<R, RemoteError>;
    type IntoIter = Iter<R>;

    fn into_iter(self) -> Iter<R> {
        self.iter()
    }
}

impl<R: Value> IntoIterator for AsyncMapResult<R> {
    type Item = Result<R, RemoteError>;
    type IntoIter = Iter<R>;

    fn into_iter(self) -> Iter<R> {
        self.iter()
    }
}

/// The values of an [`AsyncMapResult`], each as soon as it is there.
pub struct Iter<R> {
    result: AsyncMapResult<R>,
    ready: std::vec::IntoIter<Result<R, RemoteError>>,
    from: u64,
    complete: bool,
}

impl<R: Value> Iterator for Iter<R> {
    type Item = Result<R, RemoteError>;

    /// # Panics
    /// When the work could not be submitted or its results are not kept any more: there is no item
    /// that could carry that error.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.ready.next() {
                return Some(value);
            }
            if self.complete {
                return None;
            }
            let want = if self.result.unordered { Want::NextFinished } else { Want::Next };
            let mut out = Vec::new();
            let submission = &self.result.submission;
            match submission.some_parts(self.from, want, None, &mut |part| unfold(&mut out, part)) {
                Ok((next, complete)) => {
                    self.from = next;
                    self.complete = complete;
                    self.ready = out.into_iter();
                }
                Err(error) => std::panic::panic_any(format!("{error:?}")),
            }
        }
    }
}

/// Decodes one part behind what is there.
fn unfold<R: Value>(
    out: &mut Vec<Result<R, RemoteError>>,
    part: TaskPart<'_>,
) -> Result<(), CodecError> {
    match part {
        TaskPart::Values { lengths, bytes, .. } => {
            let mut values = Vec::new();
            items::read_items(&mut values, &lengths, bytes)?;
            out.extend(values.into_iter().map(Ok));
        }
        TaskPart::Failed(error) => out.push(Err(error)),
    }
    Ok(())
}

fn values<R: Value>(submission: &Submission, timeout: Option<Duration>) -> Result<Vec<R>> {
    let mut out = Vec::new();
    submission
        .values(timeout, &mut |_, lengths, bytes| items::read_items(&mut out, lengths, bytes))?;
    Ok(out)
}

fn only_value<T: Value>(submission: &Submission, timeout: Option<Duration>) -> Result<T> {
    let mut values: Vec<T> = values(submission, timeout)?;
    match values.pop() {
        Some(value) => Ok(value),
        None => Err(Error::Disconnected { reason: "a task without a value".to_owned() }),
    }
}

fn joined_values<T: Value>(submission: &Submission, timeout: Option<Duration>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    submission
        .values(timeout, &mut |_, lengths, bytes| items::read_vectors(&mut out, lengths, bytes))?;
    Ok(out)
}
