//! What an engine puts into its replies: the metadata that schedulers and clients read, errors in
//! their wire form. Never decides which reply is due.
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::event::Fault;
use super::request::RequestMetadata;
use crate::wire::envelope::iso;
use crate::worker::Failure;

/// The metadata of one reply.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Metadata {
    /// Of a reply to work: every field is read by somebody (a scheduler loses a result without
    /// `status`, a coalescing broadcast one without `original_msg_id`).
    Work(Box<WorkMetadata>),
    Plain {
        engine: Arc<str>,
    },
}

#[derive(Debug, Serialize)]
pub struct WorkMetadata {
    pub started: String,
    pub dependencies_met: bool,
    pub engine: Arc<str>,
    pub is_broadcast: bool,
    pub is_coalescing: bool,
    pub original_msg_id: String,
    pub label: Value,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_info: Option<EngineInfo>,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub prust: Value,
}

/// Who failed, doing what.
#[derive(Clone, Debug, Serialize)]
pub struct EngineInfo {
    pub engine_uuid: Arc<str>,
    pub engine_id: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub method: &'static str,
}

impl WorkMetadata {
    pub fn new(
        request: &RequestMetadata,
        engine: Arc<str>,
        started: SystemTime,
        status: &'static str,
    ) -> Self {
        Self {
            started: iso(started),
            dependencies_met: true,
            engine,
            is_broadcast: request.is_broadcast,
            is_coalescing: request.is_coalescing,
            original_msg_id: request.original_msg_id.clone(),
            label: request.label.clone(),
            status,
            engine_info: None,
            prust: Value::Null,
        }
    }
}

/// The content of an error reply; `execution_count` for the replies that must have one.
pub fn error_content(fault: &Fault, info: &EngineInfo, execution_count: Option<u64>) -> Value {
    let mut content = json!({
        "status": "error",
        "ename": fault.ename,
        "evalue": fault.evalue,
        "traceback": fault.traceback,
        "engine_info": info,
    });
    if let Some(count) = execution_count {
        content["execution_count"] = count.into();
        content["user_expressions"] = json!({});
        content["payload"] = json!([]);
    }
    content
}

impl Fault {
    /// An error that is its own traceback.
    pub fn new(ename: &str, evalue: impl Into<String>) -> Self {
        let evalue = evalue.into();
        let traceback = vec![format!("{ename}: {evalue}")];
        Self { ename: ename.to_owned(), evalue, traceback }
    }

    /// User code that failed and was caught.
    pub fn caught(failure: &Failure, restored: bool) -> Self {
        let mut fault = Self::new(&failure.ename, failure.evalue.as_str());
        if !failure.file.is_empty() {
            let Failure { file, line, column, .. } = failure;
            fault.traceback.push(format!("  at {file}:{line}:{column}"));
        }
        fault.traceback.extend(failure.backtrace.iter().cloned());
        if restored {
            fault.traceback.push("the engine's variables are as they were before".to_owned());
        }
        fault
    }

    /// User code that took its process with it, by `why`.
    pub fn crash(why: &Failure, restored: bool, threads_lost: &[String]) -> Self {
        let mut fault = Self::caught(why, false);
        fault.traceback.push(after(restored, threads_lost));
        fault
    }

    pub fn interrupted(restored: bool, threads_lost: &[String]) -> Self {
        let after = if restored { after(true, threads_lost) } else { String::new() };
        let colon = if restored { "; " } else { "" };
        Self::new("Interrupted", format!("interrupted{colon}{after}"))
    }
}

/// What a person needs to know about the variables.
pub(super) fn after(restored: bool, threads_lost: &[String]) -> String {
    let variables = if restored {
        "the engine's variables are as they were before"
    } else {
        "the engine's variables are lost: no snapshot was there to take over"
    };
    if threads_lost.is_empty() {
        return variables.to_owned();
    }
    format!(
        "{variables}; background threads that did not survive: {}",
        crate::worker::names(threads_lost)
    )
}
