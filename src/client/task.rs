//! One message on one engine, and what became of it.

use super::event::Number;
use prust::EngineId;
use prust::outcome::{self, Failure};
use prust::request::TaskMetadata;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

/// Printed text kept per task and stream; the head is dropped beyond it.
pub(super) const STREAM_BYTES_MAX: usize = 256 << 10;
/// Displays kept per task.
pub(super) const DISPLAYS_MAX: usize = 64;
/// Published values kept per task.
pub(super) const DATA_KEYS_MAX: usize = 256;

/// The first failure among a call's encoded outcomes.
fn first_failure(value: &[u8]) -> Option<Failure> {
    let (outcomes, _) = outcome::read_outcomes(value).ok()?;
    outcomes.failed.into_iter().next().map(|(_, failure)| failure)
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) items: Range<u64>,
    /// Values that come back: one per item, or one in all.
    pub(super) n_values: u64,
    pub(super) engine: Option<EngineId>,
    pub(super) stage: Stage,
    pub(super) started: Option<SystemTime>,
    pub(super) completed: Option<SystemTime>,
    pub(super) received: Option<SystemTime>,
    pub(super) output: Option<Box<TaskOutput>>,
    /// The number of its latest message, when it had to be sent again.
    pub(super) alias: Option<Number>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// A cell that the kernel compiles.
    Compiling,
    /// Not sent yet, because enough is with the controller (see `window`).
    Held,
    Sent,
    /// An engine has said that it works on it.
    Running,
    /// Its reply is here, its output not yet.
    Settling {
        end: End,
    },
    Ended(End),
}

#[derive(Debug)]
pub(super) enum End {
    /// Encoded outcomes; `None` when dropped for memory.
    Value(Option<Vec<u8>>),
    Failed(Failure),
    Aborted(Failure),
}

/// What a task printed, showed and published.
#[derive(Debug, Default)]
pub(super) struct TaskOutput {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) displays: Vec<String>,
    /// The value of a cell by MIME type.
    pub(super) result: BTreeMap<String, String>,
    pub(super) data: BTreeMap<String, String>,
    pub(super) n_published: u64,
    pub(super) idle: bool,
    /// The reply says that something was published: `idle` will follow it.
    pub(super) expects_idle: bool,
    /// Until when it is waited for.
    pub(super) settle_by: Option<Duration>,
    /// When it was submitted, if that was not by its submission here.
    pub(super) submitted: Option<SystemTime>,
    /// Of a cell's reply.
    pub(super) execution_count: u64,
    pub(super) prust: Value,
}

impl Task {
    pub(super) fn new(items: Range<u64>, n_values: u64, engine: Option<EngineId>) -> Self {
        Self {
            items,
            n_values,
            engine,
            stage: Stage::Sent,
            started: None,
            completed: None,
            received: None,
            output: None,
            alias: None,
        }
    }

    /// The number of the message it is known by; `first` is the submission's first one.
    pub(super) fn number_now(&self, first: Number, idx: u32) -> Number {
        self.alias.unwrap_or(first + Number::from(idx))
    }

    pub(super) fn end(&self) -> Option<&End> {
        match &self.stage {
            Stage::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether it is with the controller or an engine.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.stage, Stage::Sent | Stage::Running)
    }

    /// Ended without any value.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.end(), Some(End::Failed(_) | End::Aborted(_)))
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Compiling | Stage::Held | Stage::Sent | Stage::Running)
    }

    /// Whether all that the engine published of it has arrived.
    pub(super) fn is_settled(&self) -> bool {
        let waits = |output: &TaskOutput| output.expects_idle && !output.idle;
        self.end().is_some() && !self.output.as_deref().is_some_and(waits)
    }

    pub(super) fn output(&mut self) -> &mut TaskOutput {
        self.output.get_or_insert_default()
    }

    pub(super) fn status(&self) -> &'static str {
        match &self.stage {
            Stage::Compiling => "compiling",
            Stage::Held | Stage::Sent => "waiting",
            Stage::Running => "running",
            Stage::Settling { end } | Stage::Ended(end) => match end {
                End::Value(_) => "ok",
                End::Failed(_) => "error",
                End::Aborted(_) => "aborted",
            },
        }
    }

    /// The public record, without what only its submission knows.
    pub(super) fn metadata(&self) -> TaskMetadata {
        let output = self.output.as_deref();
        let text = |of: fn(&TaskOutput) -> &String| output.map(of).cloned().unwrap_or_default();
        let error = match &self.stage {
            Stage::Settling { end: End::Failed(failure) | End::Aborted(failure) }
            | Stage::Ended(End::Failed(failure) | End::Aborted(failure)) => Some(failure.clone()),
            // The call came back; the user's function may have failed in it, for one item or all.
            Stage::Settling { end: End::Value(Some(value)) }
            | Stage::Ended(End::Value(Some(value))) => first_failure(value),
            _ => None,
        };
        let status = match (self.status(), &error) {
            ("ok", Some(_)) => "error",
            (status, _) => status,
        };
        TaskMetadata {
            engine_id: self.engine,
            started: self.started,
            completed: self.completed,
            received: self.received,
            status: status.to_owned(),
            attempts: 1,
            stdout: text(|output| &output.stdout),
            stderr: text(|output| &output.stderr),
            outputs: output.map(|output| output.displays.clone()).unwrap_or_default(),
            data: output.map(|output| output.data.clone()).unwrap_or_default(),
            error,
            items: self.n_values,
            ..TaskMetadata::default()
        }
    }
}

/// Appends text and drops the head beyond `max` bytes, at a character's border.
pub(super) fn append_bounded(kept: &mut String, text: &str, max: usize) {
    kept.push_str(text);
    if kept.len() > max {
        let mut cut = kept.len() - max;
        while !kept.is_char_boundary(cut) {
            cut += 1;
        }
        kept.drain(..cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_text_is_the_latest_and_whole_characters() {
        let mut kept = String::new();
        append_bounded(&mut kept, "ääää", 5);
        assert_eq!(kept, "ää");
        append_bounded(&mut kept, "xyz", 5);
        assert_eq!(kept, "äxyz");
    }
}
