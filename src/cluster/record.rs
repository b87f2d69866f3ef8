//! The record of one piece of work: what was asked, what came back, what was printed, and its
//! story.

use std::sync::Arc;

use crate::request::Request;
use crate::{EngineId, Failure, Frames, Head, Message, Millis};

/// How much of one stream of one task is kept: the beginning.
const STREAM_BYTES_MAX: usize = 1 << 20;

/// How many moments of one task are remembered; the last place is for the newest.
const MOMENTS_MAX: usize = 32;

/// Stands where the identity of the client would be in a task that the hub submitted again.
pub(crate) const RESUBMITTED: &[u8] = b"prust-resubmitted";

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    Submitted,
    /// It waits for other tasks, for an engine that may run it, or for a free one.
    Waiting,
    Sent(EngineId),
    /// An attempt failed or could not run there; it will be tried on another engine.
    Retried(EngineId),
    /// The engine it was on is gone, and why.
    Lost(EngineId, String),
    Replied(EngineId),
    Failed(Failure),
}

/// The way a piece of work took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// To the engine that the client named.
    Mux,
    /// To the engine that the scheduler chose.
    Task,
    /// To many engines at once.
    Broadcast,
}

impl Queue {
    const ALL: [Self; 3] = [Self::Mux, Self::Task, Self::Broadcast];

    /// Returns its name in queries; ipyparallel has the first two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mux => "mux",
            Self::Task => "task",
            Self::Broadcast => "broadcast",
        }
    }

    /// Returns the queue of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.name() == name)
    }
}

/// One task, one direct request, one engine's part of a broadcast, or a coalescing broadcast.
#[derive(Debug)]
pub struct Record {
    pub(crate) msg_id: String,
    pub(crate) msg_type: String,
    pub(crate) session: String,
    pub(crate) queue: Queue,
    pub(crate) request: Request,
    pub(crate) engine: Option<String>,
    /// Without identities and signature.
    pub(crate) reply: Option<Arc<Message>>,
    pub(crate) received: Option<Millis>,
    pub(crate) resubmitted: Option<String>,
    pub(crate) execute_input: Option<String>,
    /// Raw JSON contents of the last messages of these types.
    pub(crate) execute_result: Option<Vec<u8>>,
    pub(crate) error: Option<Vec<u8>>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) story: Vec<(Millis, Moment)>,
    /// When it went to the store last, and when it is to go there again.
    pub(crate) kept: Option<Millis>,
    pub(crate) due: Option<Millis>,
}

impl Record {
    pub(crate) fn new(head: Head, queue: Queue, request: impl Into<Request>) -> Self {
        Self {
            msg_id: head.msg_id,
            msg_type: head.msg_type,
            session: head.session,
            queue,
            request: request.into(),
            engine: None,
            reply: None,
            received: None,
            resubmitted: None,
            execute_input: None,
            execute_result: None,
            error: None,
            stdout: String::new(),
            stderr: String::new(),
            story: Vec::new(),
            kept: None,
            due: None,
        }
    }

    pub(crate) fn tell(&mut self, now: Millis, moment: Moment) {
        if self.story.len() == MOMENTS_MAX {
            self.story.pop();
        }
        self.story.push((now, moment));
    }

    /// The engine that a task was given to last.
    pub(crate) fn last_sent(&self) -> Option<EngineId> {
        self.story.iter().rev().find_map(|(_, moment)| match moment {
            Moment::Sent(engine) => Some(*engine),
            _ => None,
        })
    }

    /// Returns the identities of the client that waits for the reply; a resubmitted task has none.
    pub(crate) fn client_ids(&self) -> Option<Frames> {
        let mut ids = self.request.ids.clone();
        if self.queue == Queue::Mux {
            ids.swap(0, 1);
        }
        (ids[0] != RESUBMITTED).then_some(ids)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.reply.is_none()
    }

    /// What it holds alone: what the requests of a broadcast share is left out.
    pub(crate) fn n_bytes(&self) -> usize {
        self.request.n_bytes()
            + self.reply.as_ref().map_or(0, |reply| reply.n_bytes())
            + self.stdout.len()
            + self.stderr.len()
            + self.execute_input.as_ref().map_or(0, String::len)
            + self.execute_result.as_ref().map_or(0, Vec::len)
            + self.error.as_ref().map_or(0, Vec::len)
    }
}

/// Appends to a stream as far as it is kept.
pub(crate) fn append_bounded(stream: &mut String, text: &str) {
    let room = STREAM_BYTES_MAX.saturating_sub(stream.len());
    stream.push_str(&text[..text.floor_char_boundary(room)]);
}
