//! From a message to a piece of work: reads the contents and metadata of requests, leniently, as
//! different clients write them. Never runs or answers anything.
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::event::{Channel, Fault};
use super::python::{self, helper};
use crate::cell::namespace::Delta;
use crate::cell::plan::leaf::ENTRY;
use crate::wire::Message;
use crate::worker::Call;

/// Where the answer to a request goes.
#[derive(Clone, Debug)]
pub struct Route {
    pub channel: Channel,
    pub ids: Vec<Vec<u8>>,
    /// The request's header, byte for byte.
    pub parent: Arc<[u8]>,
    pub msg_id: String,
    pub msg_type: String,
    /// The client that asked.
    pub session: String,
}

/// One `execute_request` or `apply_request`.
#[derive(Debug)]
pub struct Task {
    pub route: Route,
    pub metadata: RequestMetadata,
    pub work: Work,
}

#[derive(Debug)]
pub enum Work {
    Execute(Execute),
    Call {
        /// Given to the worker when it starts.
        call: Option<Call>,
        mutates: bool,
        /// What a `push` adds to the namespace.
        delta: Option<Box<Delta>>,
    },
    /// Variables for a client in Python.
    Python(Box<python::Request>),
    /// Cannot be run here; the reason is its reply.
    Refused {
        method: &'static str,
        fault: Fault,
    },
}

#[derive(Debug)]
pub struct Execute {
    pub code: String,
    pub silent: bool,
    pub stop_on_error: bool,
    /// Compiled by the client, or to be compiled here.
    pub compiled: Option<Compiled>,
}

#[derive(Debug)]
pub struct Compiled {
    /// `None`: nothing to run, the cell only defines items or imports.
    pub library: Option<PathBuf>,
    pub entry: String,
    /// The namespace it was compiled against.
    pub namespace: String,
    pub delta: Option<Box<Delta>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RequestMetadata {
    #[serde(deserialize_with = "lenient")]
    pub is_broadcast: bool,
    #[serde(deserialize_with = "lenient")]
    pub is_coalescing: bool,
    #[serde(deserialize_with = "lenient")]
    pub original_msg_id: String,
    pub label: Value,
    prust: Option<Prust>,
    /// Whether the client is one of ours.
    #[serde(skip)]
    pub ours: bool,
    /// Whether the client wants the whole namespace with the reply.
    #[serde(skip)]
    pub want: bool,
}

/// `metadata.prust` of both kinds of request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prust {
    library: Option<PathBuf>,
    entry: Option<String>,
    /// Only of cells that the client has compiled.
    namespace: Option<String>,
    delta: Option<Box<Delta>>,
    offset: Option<u64>,
    mutates: bool,
    want: bool,
}

#[derive(Debug, Deserialize)]
struct ExecuteContent {
    code: String,
    #[serde(default)]
    silent: bool,
    #[serde(default = "yes")]
    stop_on_error: bool,
}

fn yes() -> bool {
    true
}

/// A value of the wrong type is the default: metadata is advice.
fn lenient<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + for<'a> Deserialize<'a>,
    D: Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).unwrap_or_default())
}

impl Route {
    pub fn new(channel: Channel, message: &mut Message) -> Self {
        Self {
            channel,
            ids: std::mem::take(&mut message.ids),
            parent: std::mem::take(&mut message.raw_header).into(),
            msg_id: std::mem::take(&mut message.header.msg_id),
            msg_type: std::mem::take(&mut message.header.msg_type),
            session: std::mem::take(&mut message.header.session),
        }
    }

    /// `execute_request` is answered by `execute_reply`.
    pub fn reply_type(&self) -> String {
        let stem = self.msg_type.strip_suffix("_request").unwrap_or(&self.msg_type);
        format!("{stem}_reply")
    }
}

impl Task {
    /// Reads an `execute_request` or `apply_request`, whose route has been taken already. Never
    /// fails: what cannot be read becomes work that is refused, so that it gets its reply.
    pub fn read(route: Route, mut message: Message) -> Self {
        let execute = route.msg_type == "execute_request";
        let method = if execute { "execute" } else { "apply" };
        let (metadata, prust) = match serde_json::from_slice(&message.raw_metadata) {
            Ok(metadata) => split(metadata),
            Err(error) => {
                let fault =
                    Fault::new("BadRequest", format!("the metadata is unreadable: {error}"));
                let work = Work::Refused { method, fault };
                return Self { route, metadata: RequestMetadata::default(), work };
            }
        };
        let work = if execute {
            read_execute(&message, prust)
        } else {
            read_apply(&mut message.buffers, prust)
        };
        let work = work.unwrap_or_else(|fault| Work::Refused { method, fault });
        Self { route, metadata, work }
    }

    /// Whether busy, idle and the like are published for it. Our own client takes the reply of a
    /// call as its end, so a small call costs two messages and not six.
    pub fn is_followed(&self) -> bool {
        !(self.metadata.ours && matches!(self.work, Work::Call { .. }))
    }

    pub fn method(&self) -> &'static str {
        match self.work {
            Work::Execute(_) => "execute",
            Work::Call { .. } | Work::Python(_) => "apply",
            Work::Refused { method, .. } => method,
        }
    }
}

fn split(mut metadata: RequestMetadata) -> (RequestMetadata, Option<Prust>) {
    let prust = metadata.prust.take();
    metadata.ours = prust.is_some();
    metadata.want = prust.as_ref().is_some_and(|prust| prust.want);
    (metadata, prust)
}

fn read_execute(message: &Message, prust: Option<Prust>) -> Result<Work, Fault> {
    let content: ExecuteContent = message
        .content()
        .map_err(|error| Fault::new("BadRequest", format!("the content is unreadable: {error}")))?;
    let compiled = prust.and_then(|Prust { library, entry, namespace, delta, .. }| {
        let entry = entry.unwrap_or_else(|| ENTRY.to_owned());
        Some(Compiled { library, entry, namespace: namespace?, delta })
    });
    let ExecuteContent { code, silent, stop_on_error } = content;
    Ok(Work::Execute(Execute { code, silent, stop_on_error, compiled }))
}

fn read_apply(buffers: &mut Vec<Vec<u8>>, prust: Option<Prust>) -> Result<Work, Fault> {
    let Some(prust) = prust else {
        let helper = helper::read(std::mem::take(buffers))?;
        return Ok(Work::Python(Box::new(python::Request::new(helper))));
    };
    let (Some(library), Some(offset)) = (prust.library, prust.offset) else {
        return Err(Fault::new("BadRequest", "metadata.prust lacks library or offset"));
    };
    let payload = if buffers.is_empty() { Vec::new() } else { buffers.swap_remove(0) };
    let mutates = prust.mutates || prust.delta.is_some();
    let call = Some(Call { library, offset, payload, mutates });
    Ok(Work::Call { call, mutates, delta: prust.delta })
}

/// Message ids withdrawn before they arrived, the oldest forgotten first.
#[derive(Debug, Default)]
pub struct Withdrawn {
    known: HashSet<String>,
    order: VecDeque<String>,
}

/// An abort overtakes its tasks by milliseconds, so this holds many more than can be on their way.
pub const WITHDRAWN_MAX: usize = 16_384;

impl Withdrawn {
    pub fn insert(&mut self, msg_id: String) {
        if !self.known.insert(msg_id.clone()) {
            return;
        }
        self.order.push_back(msg_id);
        if self.order.len() > WITHDRAWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it was withdrawn; asking uses it up.
    pub fn take(&mut self, msg_id: &str) -> bool {
        self.known.remove(msg_id)
    }
}
