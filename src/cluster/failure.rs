//! The errors a controller makes itself, in the form clients expect: as ipyparallel's
//! `wrap_exception` writes them.

use serde_json::{Value, json};

use crate::{EngineId, Millis};

/// Why a task ended without an engine's reply, or a query without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    EngineLost {
        engine: EngineId,
        uuid: String,
        msg_id: String,
        cause: String,
    },
    NoSuchEngine {
        uuid: String,
    },
    InvalidDependency {
        why: String,
    },
    ImpossibleDependency {
        why: String,
    },
    Timeout {
        msg_id: String,
    },
    /// It ran longer than its `time_limit`.
    TimeLimit {
        msg_id: String,
        engine: EngineId,
        limit: Millis,
    },
    Aborted,
    QueueFull,
    /// A controller before this one knew it, and did not see its end.
    Restarted {
        msg_id: String,
    },
    /// A query that cannot be answered: the exception's name and its text.
    Query {
        ename: &'static str,
        evalue: String,
    },
}

impl Failure {
    pub(crate) fn key(evalue: impl Into<String>) -> Self {
        Self::Query { ename: "KeyError", evalue: evalue.into() }
    }

    pub(crate) fn index(evalue: impl Into<String>) -> Self {
        Self::Query { ename: "IndexError", evalue: evalue.into() }
    }

    pub(crate) fn value(evalue: impl Into<String>) -> Self {
        Self::Query { ename: "ValueError", evalue: evalue.into() }
    }

    /// Returns the content of the error reply. `engine_info` is empty: with it a client would wait
    /// for output of the engine.
    pub fn content(&self) -> Value {
        if *self == Self::Aborted {
            return json!({"status": "aborted"});
        }
        let (ename, evalue) = (self.ename(), self.evalue());
        let traceback = [format!("{ename}: {evalue}")];
        json!({
            "status": "error", "ename": ename, "evalue": evalue, "traceback": traceback,
            "engine_info": {}
        })
    }

    pub(crate) fn status(&self) -> &'static str {
        if *self == Self::Aborted { "aborted" } else { "error" }
    }

    fn ename(&self) -> &'static str {
        match self {
            Self::EngineLost { .. } | Self::NoSuchEngine { .. } | Self::Restarted { .. } => {
                "EngineError"
            }
            Self::InvalidDependency { .. } => "InvalidDependency",
            Self::ImpossibleDependency { .. } => "ImpossibleDependency",
            Self::Timeout { .. } | Self::TimeLimit { .. } => "TaskTimeout",
            Self::Aborted => "TaskAborted",
            Self::QueueFull => "QueueFull",
            Self::Query { ename, .. } => ename,
        }
    }

    fn evalue(&self) -> String {
        match self {
            Self::EngineLost { engine, uuid, msg_id, cause } => {
                format!("engine {engine} ({uuid}) was lost while it ran task {msg_id}: {cause}")
            }
            Self::NoSuchEngine { uuid } => format!("there is no engine {uuid}"),
            Self::InvalidDependency { why } | Self::ImpossibleDependency { why } => why.clone(),
            Self::Timeout { msg_id } => format!("task {msg_id} found no engine in time"),
            Self::TimeLimit { msg_id, engine, limit } => {
                let seconds = limit.0 as f64 / 1000.0;
                format!(
                    "task {msg_id} ran for more than {seconds} s, its limit, on engine {engine}, \
                     and was interrupted there"
                )
            }
            Self::Aborted => String::new(),
            Self::Restarted { msg_id } => format!(
                "the controller was restarted while {msg_id} was open; whether it ran is not known"
            ),
            Self::QueueFull => format!(
                "there is no room: at most {} tasks of {} GiB together may be open",
                crate::TASKS_OPEN_MAX,
                crate::records::OPEN_BYTES_MAX >> 30
            ),
            Self::Query { evalue, .. } => evalue.clone(),
        }
    }
}
