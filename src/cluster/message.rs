//! A message as the controller needs it: its frames told apart, and the few fields it decides by.
//! The frames themselves are passed on untouched.

use serde::Deserialize;

pub type Frames = Vec<Vec<u8>>;

const DELIMITER: &[u8] = b"<IDS|MSG>";

/// The frames of one message: identities, signature, the four signed parts, buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub ids: Frames,
    pub signature: Vec<u8>,
    pub header: Vec<u8>,
    pub parent: Vec<u8>,
    pub metadata: Vec<u8>,
    pub content: Vec<u8>,
    pub buffers: Frames,
}

impl Message {
    /// Tells the frames of a message apart; `None` if there is no delimiter or too little behind
    /// it.
    pub fn split(mut frames: Frames) -> Option<Self> {
        let at = frames.iter().position(|frame| frame == DELIMITER)?;
        if frames.len() < at + 6 {
            return None;
        }
        let buffers = frames.split_off(at + 6);
        let mut parts = frames.drain(at + 1..);
        let (signature, header) = (parts.next()?, parts.next()?);
        let (parent, metadata, content) = (parts.next()?, parts.next()?, parts.next()?);
        drop(parts);
        frames.truncate(at);
        Some(Self { ids: frames, signature, header, parent, metadata, content, buffers })
    }

    /// Puts the frames together again, with the identities the message has now.
    pub fn join(self) -> Frames {
        let mut frames = self.ids;
        frames.reserve(6 + self.buffers.len());
        frames.push(DELIMITER.to_vec());
        frames.extend([self.signature, self.header, self.parent, self.metadata, self.content]);
        frames.extend(self.buffers);
        frames
    }

    /// Returns the head of the message; `None` if its header is no JSON object.
    pub fn head(&self) -> Option<Head> {
        serde_json::from_slice(&self.header).ok()
    }

    /// Returns the id of the message this one answers; `None` if it answers none.
    pub fn parent_id(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Parent {
            msg_id: String,
        }
        let parent: Parent = serde_json::from_slice(&self.parent).ok()?;
        Some(parent.msg_id)
    }

    pub fn n_bytes(&self) -> usize {
        let parts = [&self.header, &self.parent, &self.metadata, &self.content];
        parts.iter().map(|part| part.len()).sum::<usize>()
            + self.buffers.iter().map(Vec::len).sum::<usize>()
    }
}

/// The fields of a header that decide.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Head {
    #[serde(default)]
    pub msg_id: String,
    #[serde(default)]
    pub msg_type: String,
    #[serde(default)]
    pub session: String,
}

/// The metadata of a reply, as far as it decides. Other engines leave fields out.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ReplyMetadata {
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) dependencies_met: Option<bool>,
    #[serde(default)]
    pub(crate) original_msg_id: Option<String>,
}

impl ReplyMetadata {
    /// Reads the metadata of a reply; the status is taken from the content if the metadata has
    /// none.
    pub(crate) fn read(message: &Message) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            #[serde(default)]
            status: Option<String>,
        }
        let mut metadata: Self = serde_json::from_slice(&message.metadata).ok()?;
        if metadata.status.is_none() {
            let content: Content = serde_json::from_slice(&message.content).ok()?;
            metadata.status = content.status;
        }
        Some(metadata)
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.status.as_deref() == Some("ok")
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.status.as_deref() == Some("aborted")
    }
}

/// Returns the type of the reply to a request: `execute_reply` to `execute_request`.
pub(crate) fn reply_type(request_type: &str) -> String {
    match request_type.strip_suffix("_request") {
        Some(stem) => format!("{stem}_reply"),
        None => format!("{request_type}_reply"),
    }
}
