//! What the messages of a call say beside its payload: how an engine of ours runs it, and what a
//! scheduler is asked for (ipyparallel's names).

use super::submission::CallWork;
use crate::cell::namespace::Delta;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;

/// What a balanced task asks of its scheduler.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Wishes {
    pub(super) targets: Vec<String>,
    pub(super) retries: u32,
    /// Seconds, as `time_limit`; no limit if it is 0.
    pub(super) timeout: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_limit: Option<f64>,
    pub(super) after: Vec<String>,
    pub(super) follow: Vec<String>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    label: &'a str,
    prust: OfCall<'a>,
    #[serde(flatten)]
    wishes: Option<&'a Wishes>,
}

#[derive(Serialize)]
struct OfCall<'a> {
    library: &'a str,
    offset: u64,
    /// The bytes of a value do not tell what they are to who fetches them later.
    returns: &'a str,
    items: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a Delta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutates: Option<bool>,
}

impl CallWork {
    /// The metadata of a task with so many values.
    pub(super) fn metadata(&self, items: u64) -> Arc<RawValue> {
        let call = &self.call;
        let delta = self.delta.as_ref();
        let prust = OfCall {
            library: &call.library,
            offset: call.offset,
            returns: &call.returns,
            items,
            delta,
            mutates: delta.map(|_| true),
        };
        let metadata = Metadata { label: &self.label, prust, wishes: self.wishes.as_ref() };
        to_raw_value(&metadata).expect("texts and numbers are always written").into()
    }
}
