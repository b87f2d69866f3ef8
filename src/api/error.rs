//! What can go wrong with parallel work, by ipyparallel's names: one `Error` for `?`, printed so
//! that a traceback in a notebook reads well.

use crate::request::NAMES;
use crate::targets::TargetError;
use crate::{EngineId, codec::CodecError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

/// Tracebacks that a [`CompositeError`] prints; the rest is counted.
pub const TRACEBACKS_SHOWN_MAX: usize = 4;

/// The result of anything that asks the cluster.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with parallel work.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Error {
    /// The user's code failed on an engine.
    RemoteError(RemoteError),
    /// Several tasks of one result failed.
    CompositeError(CompositeError),
    /// The engine that ran the task was lost.
    EngineError(RemoteError),
    /// The task was aborted or cancelled.
    TaskAborted(RemoteError),
    /// The task waited longer for its dependencies than its view's `timeout`.
    TaskTimeout(RemoteError),
    /// The task depends on work that failed or does not exist.
    ImpossibleDependency(RemoteError),
    /// The work is not finished within the time given; it still runs.
    Timeout {
        done: u64,
        total: u64,
    },
    NoEnginesRegistered,
    /// A target that is not there.
    InvalidTarget(TargetError),
    /// An argument or item that cannot be sent; the work was not submitted.
    NotSerializable {
        what: String,
        reason: String,
    },
    /// The value came back, but not as the type that was asked for.
    NotDeserializable {
        reason: String,
    },
    /// A function that is no function item, no closure without captures and no function pointer.
    NotCallable {
        what: String,
    },
    /// The work is still running; the question can be answered only afterwards.
    NotReady {
        question: String,
    },
    /// One engine ran more than one task, so there is no one value per engine.
    ManyPerEngine {
        engine: EngineId,
    },
    /// The results were dropped to stay within the memory set aside for them, or the id is unknown.
    ResultPurged {
        submission: u64,
    },
    /// There is no cluster behind this client any more.
    Disconnected {
        reason: String,
    },
    /// The controller refused a query.
    HubError {
        ename: String,
        evalue: String,
    },
    /// Not something this build of prust does.
    Unsupported {
        what: String,
    },
}

impl Error {
    /// The name of the error, as ipyparallel has it.
    pub fn ename(&self) -> &'static str {
        match self {
            Self::RemoteError(_) => "RemoteError",
            Self::CompositeError(_) => "CompositeError",
            Self::EngineError(_) => "EngineError",
            Self::TaskAborted(_) => "TaskAborted",
            Self::TaskTimeout(_) => "TaskTimeout",
            Self::ImpossibleDependency(_) => "ImpossibleDependency",
            Self::Timeout { .. } => "TimeoutError",
            Self::NoEnginesRegistered => "NoEnginesRegistered",
            Self::InvalidTarget(_) => "InvalidTarget",
            Self::NotSerializable { .. } => "NotSerializable",
            Self::NotDeserializable { .. } => "NotDeserializable",
            Self::NotCallable { .. } => "NotCallable",
            Self::NotReady { .. } => "NotReady",
            Self::ManyPerEngine { .. } => "ManyPerEngine",
            Self::ResultPurged { .. } => "ResultPurged",
            Self::Disconnected { .. } => "Disconnected",
            Self::HubError { .. } => "HubError",
            Self::Unsupported { .. } => "UnsupportedOperation",
        }
    }

    /// The failure on the engine behind this error, the first one of several.
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            Self::RemoteError(remote)
            | Self::EngineError(remote)
            | Self::TaskAborted(remote)
            | Self::TaskTimeout(remote)
            | Self::ImpossibleDependency(remote) => Some(remote),
            Self::CompositeError(composite) => composite.errors.first(),
            _ => None,
        }
    }

    pub(crate) fn not_serializable(what: impl Into<String>, error: &CodecError) -> Self {
        Self::NotSerializable { what: what.into(), reason: error.to_string() }
    }
}

impl From<TargetError> for Error {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::NoEngines => Self::NoEnginesRegistered,
            error => Self::InvalidTarget(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoteError(remote)
            | Self::EngineError(remote)
            | Self::TaskAborted(remote)
            | Self::TaskTimeout(remote)
            | Self::ImpossibleDependency(remote) => remote.fmt(formatter),
            Self::CompositeError(composite) => composite.fmt(formatter),
            Self::Timeout { done, total } => {
                write!(formatter, "{done} of {total} done in time; the work is still running")
            }
            Self::NoEnginesRegistered => formatter
                .write_str("no engines are registered; start some with %cluster start -n 4"),
            Self::InvalidTarget(error) => error.fmt(formatter),
            Self::NotSerializable { what, reason } => {
                write!(formatter, "{what} cannot be sent: {reason}")
            }
            Self::NotDeserializable { reason } => {
                write!(formatter, "the value that came back is of another type: {reason}")
            }
            Self::NotCallable { what } => write!(
                formatter,
                "{what} cannot be called on an engine: pass a function or a closure that captures \
                 nothing, and hand values over with map_with, apply_with or Reference"
            ),
            Self::NotReady { question } => {
                write!(
                    formatter,
                    "{question} is known only when the work has finished: call wait()"
                )
            }
            Self::ManyPerEngine { engine } => write!(
                formatter,
                "engine {engine} ran more than one task, so there is no one value per engine"
            ),
            Self::ResultPurged { submission: NAMES.. } => {
                formatter.write_str("these results are not kept any more")
            }
            Self::ResultPurged { submission } => {
                write!(formatter, "the results of submission {submission} are not kept any more")
            }
            Self::Disconnected { reason } => write!(formatter, "no cluster: {reason}"),
            Self::HubError { ename, evalue } => {
                write!(formatter, "the controller answered {ename}: {evalue}")
            }
            Self::Unsupported { what } => write!(formatter, "{what} is not supported"),
        }
    }
}

/// As a notebook shows an unhandled error: the name, the text, the tracebacks.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {self}", self.ename())
    }
}

impl std::error::Error for Error {}

/// What kind of end a failed task met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteKind {
    /// The user's code failed.
    Code,
    /// The engine was lost.
    Engine,
    Aborted,
    Timeout,
    Dependency,
}

/// The failure of one task or item on an engine. One pointer wide, so that a million results stay
/// small.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteError(Box<RemoteFailure>);

/// What a [`RemoteError`] says; its fields are read through it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteFailure {
    pub ename: String,
    pub evalue: String,
    pub traceback: Vec<String>,
    /// `None` when no engine had taken the task.
    pub engine_id: Option<EngineId>,
    /// `apply`, `map` or `execute`.
    pub method: String,
    pub msg_id: String,
    /// The position of the failed item in a map.
    pub item: Option<u64>,
}

impl RemoteError {
    /// An error of the whole submission, as one of its results.
    pub(crate) fn of(error: &Error) -> Self {
        Self::new(RemoteFailure {
            ename: error.ename().to_owned(),
            evalue: error.to_string(),
            traceback: Vec::new(),
            engine_id: None,
            method: String::new(),
            msg_id: String::new(),
            item: None,
        })
    }

    pub fn new(failure: RemoteFailure) -> Self {
        Self(Box::new(failure))
    }

    /// What kind of end this was.
    pub fn kind(&self) -> RemoteKind {
        match self.ename.as_str() {
            "EngineError" => RemoteKind::Engine,
            "TaskAborted" => RemoteKind::Aborted,
            "TaskTimeout" | "DependencyTimeout" => RemoteKind::Timeout,
            "ImpossibleDependency" | "InvalidDependency" | "UnmetDependency" => {
                RemoteKind::Dependency
            }
            _ => RemoteKind::Code,
        }
    }
}

impl Deref for RemoteError {
    type Target = RemoteFailure;

    fn deref(&self) -> &RemoteFailure {
        &self.0
    }
}

impl From<RemoteError> for Error {
    fn from(remote: RemoteError) -> Self {
        match remote.kind() {
            RemoteKind::Code => Self::RemoteError(remote),
            RemoteKind::Engine => Self::EngineError(remote),
            RemoteKind::Aborted => Self::TaskAborted(remote),
            RemoteKind::Timeout => Self::TaskTimeout(remote),
            RemoteKind::Dependency => Self::ImpossibleDependency(remote),
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.engine_id {
            Some(engine) => write!(formatter, "[{engine}:{}] ", self.method)?,
            None => write!(formatter, "[{}] ", self.method)?,
        }
        if let Some(item) = self.item {
            write!(formatter, "item {item}: ")?;
        }
        write!(formatter, "{}: {}", self.ename, self.evalue)?;
        for line in &self.traceback {
            write!(formatter, "\n    {line}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RemoteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for RemoteError {}

/// Several failures of one result.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CompositeError {
    /// All values asked for, failed or not.
    pub total: u64,
    /// Failures in all; `errors` may hold fewer.
    pub failed: u64,
    /// The failures, in order.
    pub errors: Vec<RemoteError>,
}

impl fmt::Display for CompositeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} failed", self.failed, self.total)?;
        for error in self.errors.iter().take(TRACEBACKS_SHOWN_MAX) {
            write!(formatter, "\n{error}")?;
        }
        match self.failed.saturating_sub(TRACEBACKS_SHOWN_MAX as u64) {
            0 => Ok(()),
            1 => formatter.write_str("\n... 1 more exception ..."),
            n => write!(formatter, "\n... {n} more exceptions ..."),
        }
    }
}

impl fmt::Debug for CompositeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for CompositeError {}

/// The one error of many failures: itself when there is but one value, else a [`CompositeError`].
pub(crate) fn collect(total: u64, mut errors: Vec<RemoteError>) -> Error {
    if total == 1 && errors.len() == 1 {
        return errors.remove(0).into();
    }
    let failed = errors.len() as u64;
    Error::CompositeError(CompositeError { total, failed, errors })
}

/// Refuses a list with an engine in it twice.
pub(crate) fn once_each(engines: &[Option<EngineId>]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match engines.iter().flatten().find(|engine| !seen.insert(**engine)) {
        Some(engine) => Err(Error::ManyPerEngine { engine: *engine }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(engine: EngineId) -> RemoteError {
        RemoteError::new(RemoteFailure {
            ename: "panic".to_owned(),
            evalue: "no luck".to_owned(),
            traceback: vec!["at In[2]:1:5".to_owned()],
            engine_id: Some(engine),
            method: "apply".to_owned(),
            msg_id: "m".to_owned(),
            item: None,
        })
    }

    #[test]
    fn a_composite_prints_four_tracebacks_and_counts_the_rest() {
        let error = collect(9, (0..6).map(remote).collect());
        let text = format!("{error:?}");
        assert!(text.starts_with("CompositeError: 6 of 9 failed\n[0:apply] panic: no luck\n"));
        assert_eq!(text.matches("at In[2]").count(), 4);
        assert!(text.ends_with("... 2 more exceptions ..."));
    }

    #[test]
    fn one_failure_of_one_task_is_itself() {
        assert_eq!(collect(1, vec![remote(3)]).ename(), "RemoteError");
        let lost = RemoteFailure { ename: "EngineError".to_owned(), ..(*remote(3)).clone() };
        let lost = RemoteError::new(lost);
        assert_eq!(collect(1, vec![lost]).ename(), "EngineError");
    }
}
