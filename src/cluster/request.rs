//! What was asked, as a record keeps it. The requests of one broadcast differ in their headers only
//! and share everything else, so that a big one is in memory once, however many engines it is for.

use std::sync::Arc;

use crate::message::{Frames, Message};

/// What requests may share: all but identities, signature and header.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub parent: Vec<u8>,
    pub metadata: Vec<u8>,
    pub content: Vec<u8>,
    pub buffers: Frames,
}

impl Body {
    pub fn n_bytes(&self) -> usize {
        let parts = [&self.parent, &self.metadata, &self.content];
        parts.iter().map(|part| part.len()).sum::<usize>()
            + self.buffers.iter().map(Vec::len).sum::<usize>()
    }
}

/// A request whose body it may share with others.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ids: Frames,
    pub(crate) signature: Vec<u8>,
    pub(crate) header: Vec<u8>,
    pub(crate) body: Arc<Body>,
    /// The message id of the broadcast whose requests share the body.
    pub(crate) shared: Option<Arc<str>>,
}

impl From<Message> for Request {
    fn from(message: Message) -> Self {
        let Message { ids, signature, header, parent, metadata, content, buffers } = message;
        let body = Arc::new(Body { parent, metadata, content, buffers });
        Self { ids, signature, header, body, shared: None }
    }
}

impl Request {
    /// Returns the request as a message of its own.
    pub(crate) fn message(&self) -> Message {
        Message {
            ids: self.ids.clone(),
            signature: self.signature.clone(),
            header: self.header.clone(),
            parent: self.body.parent.clone(),
            metadata: self.body.metadata.clone(),
            content: self.body.content.clone(),
            buffers: self.body.buffers.clone(),
        }
    }

    /// What it holds alone: a shared body is nobody's own.
    pub(crate) fn n_bytes(&self) -> usize {
        let body = if self.shared.is_some() { 0 } else { self.body.n_bytes() };
        self.header.len() + body
    }
}
