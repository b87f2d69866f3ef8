//! What a cell gives back that ran on an engine.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The reply of one engine to a cell: what it showed as its value.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CellReply {
    pub engine_id: Option<crate::EngineId>,
    pub execution_count: u64,
    /// The value of the final expression by MIME type; empty when there was none.
    pub data: BTreeMap<String, String>,
}

impl CellReply {
    /// The value as text.
    pub fn text(&self) -> Option<&str> {
        self.data.get("text/plain").map(String::as_str)
    }
}

impl fmt::Display for CellReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.engine_id {
            Some(engine) => write!(formatter, "Out[{engine}:{}]", self.execution_count)?,
            None => write!(formatter, "Out[{}]", self.execution_count)?,
        }
        match self.text() {
            Some(text) => write!(formatter, ": {text}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CellReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
