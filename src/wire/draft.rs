//! A message before it is written: what it says and to whom, not how it looks as frames.
use std::time::SystemTime;

use serde::Serialize;

/// A message to be written. What is not said stays empty: no recipient, no parent, `{}` as
/// metadata.
#[derive(Clone, Debug)]
pub struct Draft<'a, M, C> {
    pub(super) msg_type: &'a str,
    pub(super) content: &'a C,
    pub(super) metadata: &'a M,
    pub(super) msg_id: Option<String>,
    pub(super) date: Option<SystemTime>,
    pub(super) ids: &'a [Vec<u8>],
    pub(super) raw_parent: &'a [u8],
    pub(super) buffers: Vec<Vec<u8>>,
}

/// The metadata of a message that has none.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NoMetadata {}

impl<'a, C> Draft<'a, NoMetadata, C> {
    pub fn new(msg_type: &'a str, content: &'a C) -> Self {
        Self {
            msg_type,
            content,
            metadata: &NoMetadata {},
            msg_id: None,
            date: None,
            ids: &[],
            raw_parent: b"",
            buffers: Vec::new(),
        }
    }
}

impl<'a, M, C> Draft<'a, M, C> {
    /// To whom it is routed, outermost identity first.
    #[must_use]
    pub fn to(self, ids: &'a [Vec<u8>]) -> Self {
        Self { ids, ..self }
    }

    /// The raw header of the message that this one answers; empty if nobody asked.
    #[must_use]
    pub fn answering(self, raw_parent: &'a [u8]) -> Self {
        Self { raw_parent, ..self }
    }

    #[must_use]
    pub fn buffers(self, buffers: Vec<Vec<u8>>) -> Self {
        Self { buffers, ..self }
    }

    /// An id of the caller's instead of the writer's next one. It must be fresh: receivers drop
    /// what they have seen.
    #[must_use]
    pub fn msg_id(self, msg_id: impl Into<Option<String>>) -> Self {
        Self { msg_id: msg_id.into(), ..self }
    }

    /// When it was made, for one that has waited; now, if not given.
    #[must_use]
    pub fn date(self, date: impl Into<Option<SystemTime>>) -> Self {
        Self { date: date.into(), ..self }
    }

    #[must_use]
    pub fn metadata<N>(self, metadata: &'a N) -> Draft<'a, N, C> {
        let Self { msg_type, content, msg_id, date, ids, raw_parent, buffers, .. } = self;
        Draft { msg_type, content, metadata, msg_id, date, ids, raw_parent, buffers }
    }
}
