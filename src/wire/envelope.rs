//! One message as frames: identities, delimiter, signature, header, parent, metadata, content,
//! buffers. Signs, checks, and refuses what is truncated, unsigned, forged, replayed or not JSON.
//! Never looks into content, and never builds a JSON tree.
//!
//! <https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol>
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::socket::Frames;
use super::{Draft, date};
pub use date::{iso, now_iso, parse_iso};

/// Separates routing identities from the message.
pub const DELIMITER: &[u8] = b"<IDS|MSG>";
/// The version of the messaging protocol this program speaks.
pub const PROTOCOL_VERSION: &str = "5.5";
/// Signatures remembered to recognise a replayed message, as many as Python's clients keep.
const SIGNATURES_REMEMBERED_MAX: usize = 65_536;

/// A message's header. Missing, null or odd fields read as empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    #[serde(deserialize_with = "text")]
    pub msg_id: String,
    #[serde(deserialize_with = "text")]
    pub session: String,
    #[serde(deserialize_with = "text")]
    pub username: String,
    #[serde(deserialize_with = "text")]
    pub date: String,
    #[serde(deserialize_with = "text")]
    pub msg_type: String,
    #[serde(deserialize_with = "text")]
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subshell_id: Option<String>,
}

/// A message that was checked: its signature holds and its four JSON frames are JSON objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Routing identities, outermost first; a reply carries them back.
    pub ids: Vec<Vec<u8>>,
    pub header: Header,
    /// The header as it came, to be the parent of every answer, unknown fields included.
    pub raw_header: Vec<u8>,
    pub raw_parent: Vec<u8>,
    pub raw_metadata: Vec<u8>,
    pub raw_content: Vec<u8>,
    pub buffers: Vec<Vec<u8>>,
}

impl Message {
    /// Reads the content as `T`.
    ///
    /// # Errors
    /// When a field that `T` demands is missing or of another type.
    pub fn content<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.raw_content)
    }

    /// The metadata as a tree; `{}` if it cannot be one.
    pub fn metadata_value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.raw_metadata)
            .unwrap_or_else(|_| serde_json::Value::Object(serde_json::Map::new()))
    }

    /// The parent's header; `None` for a message nobody asked for.
    pub fn parent(&self) -> Option<Header> {
        let header: Header = serde_json::from_slice(&self.raw_parent).ok()?;
        (!header.msg_id.is_empty()).then_some(header)
    }
}

/// Makes messages of one session. Clones share the counter, so ids stay unique.
#[derive(Clone)]
pub struct Writer {
    signer: Signer,
    session: Arc<str>,
    /// The fields between the type and the date, which never change, as JSON.
    fixed: Arc<str>,
    pid: u32,
    n_written: Arc<AtomicU64>,
    /// The latest date given out, in microseconds since 1970: dates never go back, clocks may.
    latest: Arc<AtomicU64>,
}

impl Writer {
    /// `key`: the connection file's; empty means that nothing is signed.
    pub fn new(key: &str, session: String, username: &str) -> Self {
        let fixed = format!(
            r#","username":{},"session":{},"version":"{PROTOCOL_VERSION}","date":""#,
            json_text(username),
            json_text(&session)
        );
        Self {
            signer: Signer::new(key),
            session: session.into(),
            fixed: fixed.into(),
            pid: std::process::id(),
            n_written: Arc::default(),
            latest: Arc::default(),
        }
    }

    /// The one session id of everything this writer makes.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// A message id that no other message of this session has.
    pub fn next_id(&self) -> String {
        let n = self.n_written.fetch_add(1, Ordering::Relaxed);
        format!("{}_{}_{n}", self.session, self.pid)
    }

    /// Returns the new message's id and its frames.
    pub fn write(&self, draft: Draft<'_, impl Serialize, impl Serialize>) -> (String, Frames) {
        let id = draft.msg_id.unwrap_or_else(|| self.next_id());
        let header = self.header(&id, draft.msg_type, draft.date.unwrap_or_else(|| self.now()));
        let parent = if draft.raw_parent.is_empty() { b"{}" } else { draft.raw_parent };
        let signed = [header, parent.to_vec(), json(draft.metadata), json(draft.content)];
        (id, self.frames(draft.ids, signed, draft.buffers))
    }

    /// Signs ready-made JSON frames: header, parent, metadata, content.
    pub fn frames(&self, ids: &[Vec<u8>], signed: [Vec<u8>; 4], buffers: Vec<Vec<u8>>) -> Frames {
        let mut frames = Frames::with_capacity(ids.len() + 6 + buffers.len());
        frames.extend_from_slice(ids);
        frames.push(DELIMITER.to_vec());
        frames.push(self.signer.sign(&signed));
        frames.extend(signed);
        frames.extend(buffers);
        frames
    }

    /// The clock, held where it would go back.
    fn now(&self) -> SystemTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let before = self.latest.fetch_max(micros, Ordering::Relaxed);
        UNIX_EPOCH + Duration::from_micros(micros.max(before))
    }

    fn header(&self, msg_id: &str, msg_type: &str, date: SystemTime) -> Vec<u8> {
        let mut header = Vec::with_capacity(192 + msg_id.len() + self.fixed.len());
        header.extend_from_slice(br#"{"msg_id":"#);
        header.extend_from_slice(json_text(msg_id).as_bytes());
        header.extend_from_slice(br#","msg_type":"#);
        header.extend_from_slice(json_text(msg_type).as_bytes());
        header.extend_from_slice(self.fixed.as_bytes());
        date::write_iso(date, &mut header);
        header.extend_from_slice(b"\"}");
        header
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Writer").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// No delimiter, or fewer than five frames behind it.
    Truncated,
    Unsigned,
    BadSignature,
    /// A signature seen before.
    Replayed,
    /// One of the four frames is not a JSON object.
    NotJson {
        frame: &'static str,
    },
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("truncated"),
            Self::Unsigned => f.write_str("unsigned"),
            Self::BadSignature => f.write_str("wrongly signed"),
            Self::Replayed => f.write_str("replayed"),
            Self::NotJson { frame } => write!(f, "its {frame} is not a JSON object"),
        }
    }
}

/// How many messages were dropped, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedCounts {
    pub truncated: u64,
    pub unsigned: u64,
    pub badly_signed: u64,
    pub replayed: u64,
    pub not_json: u64,
}

impl DroppedCounts {
    pub fn total(&self) -> u64 {
        self.truncated + self.unsigned + self.badly_signed + self.replayed + self.not_json
    }
}

/// Checks and takes apart what arrives.
pub struct Reader {
    signer: Signer,
    seen: History,
    /// The metadata of the message before, which was checked.
    metadata_before: Vec<u8>,
    dropped: DroppedCounts,
    /// Somebody else has checked what comes.
    is_checked: bool,
}

impl Reader {
    pub fn new(key: &str) -> Self {
        Self {
            signer: Signer::new(key),
            seen: History::default(),
            metadata_before: b"{}".to_vec(),
            dropped: DroppedCounts::default(),
            is_checked: false,
        }
    }

    /// For messages that a reader of this process has checked: takes them apart, and no more.
    pub fn of_checked() -> Self {
        Self { is_checked: true, ..Self::new("") }
    }

    /// Takes one message apart. Call once per message: a second time is a replay.
    ///
    /// # Errors
    /// `Dropped` says why it was refused; it has been counted.
    pub fn read(&mut self, frames: Frames) -> Result<Message, Dropped> {
        let result = self.check(frames);
        if let Err(cause) = &result {
            let counts = &mut self.dropped;
            let count = match cause {
                Dropped::Truncated => &mut counts.truncated,
                Dropped::Unsigned => &mut counts.unsigned,
                Dropped::BadSignature => &mut counts.badly_signed,
                Dropped::Replayed => &mut counts.replayed,
                Dropped::NotJson { .. } => &mut counts.not_json,
            };
            *count += 1;
            tracing::debug!(%cause, total = counts.total(), "a message was dropped");
        }
        result
    }

    pub fn dropped(&self) -> DroppedCounts {
        self.dropped
    }

    /// Says in the log how many messages were dropped, if any.
    pub fn log_dropped(&self) {
        if self.dropped != DroppedCounts::default() {
            tracing::warn!(dropped = ?self.dropped, "messages were dropped");
        }
    }

    fn check(&mut self, mut frames: Frames) -> Result<Message, Dropped> {
        let delimiter =
            frames.iter().position(|frame| frame == DELIMITER).ok_or(Dropped::Truncated)?;
        if frames.len() < delimiter + 6 {
            return Err(Dropped::Truncated);
        }
        let buffers = frames.split_off(delimiter + 6);
        let signed = &frames[delimiter + 2..];
        self.check_signature(&frames[delimiter + 1], signed)?;
        let header = read_header(&signed[0])?;
        if !self.is_checked {
            self.check_objects(&signed[1..])?;
        }
        let mut rest = frames.drain(delimiter + 2..);
        let mut next = || rest.next().unwrap_or_default();
        let [raw_header, raw_parent, raw_metadata, raw_content] = [next(), next(), next(), next()];
        drop(rest);
        frames.truncate(delimiter);
        Ok(Message {
            ids: frames,
            header,
            raw_header,
            raw_parent,
            raw_metadata,
            raw_content,
            buffers,
        })
    }

    /// Parent header, metadata and content.
    fn check_objects(&mut self, frames: &[Vec<u8>]) -> Result<(), Dropped> {
        check_object(&frames[0], "parent header")?;
        // The tasks of one submission have the same metadata.
        if frames[1] != self.metadata_before {
            check_object(&frames[1], "metadata")?;
            self.metadata_before.clone_from(&frames[1]);
        }
        check_object(&frames[2], "content")
    }

    fn check_signature(&mut self, signature: &[u8], signed: &[Vec<u8>]) -> Result<(), Dropped> {
        let Some(mac) = self.signer.digest(signed) else { return Ok(()) };
        if signature.is_empty() {
            return Err(Dropped::Unsigned);
        }
        let claimed = read_hex(signature).ok_or(Dropped::BadSignature)?;
        // Compares in constant time.
        mac.verify_slice(&claimed).map_err(|_| Dropped::BadSignature)?;
        if self.seen.insert(claimed) { Ok(()) } else { Err(Dropped::Replayed) }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// The key, already mixed into the hash's first block, so that each message saves that work.
#[derive(Clone)]
struct Signer(Option<Hmac<Sha256>>);

impl Signer {
    fn new(key: &str) -> Self {
        if key.is_empty() {
            return Self(None);
        }
        Self(Some(Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length")))
    }

    fn digest(&self, signed: &[Vec<u8>]) -> Option<Hmac<Sha256>> {
        let mut mac = self.0.clone()?;
        for frame in signed {
            mac.update(frame);
        }
        Some(mac)
    }

    /// The lowercase hexadecimal signature; empty without a key.
    fn sign(&self, signed: &[Vec<u8>]) -> Vec<u8> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let Some(mac) = self.digest(signed) else { return Vec::new() };
        let digest = mac.finalize().into_bytes();
        let mut text = Vec::with_capacity(64);
        for byte in digest {
            text.push(DIGITS[usize::from(byte >> 4)]);
            text.push(DIGITS[usize::from(byte & 15)]);
        }
        text
    }
}

/// The latest signatures, forgotten oldest first.
#[derive(Default)]
struct History {
    known: HashSet<[u8; 32], BuildHasherDefault<FirstBytes>>,
    order: VecDeque<[u8; 32]>,
}

impl History {
    /// False if it was known.
    fn insert(&mut self, signature: [u8; 32]) -> bool {
        if !self.known.insert(signature) {
            return false;
        }
        if self.order.len() == SIGNATURES_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(signature);
        true
    }
}

/// A verified signature is a hash already: its first bytes need no hashing.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_ne_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn read_header(frame: &[u8]) -> Result<Header, Dropped> {
    let refused = Dropped::NotJson { frame: "header" };
    let text = object_text(frame).ok_or(refused)?;
    serde_json::from_str(text).map_err(|_| refused)
}

/// The text of what may be an object; UTF-8 is checked because it is sent on.
fn object_text(frame: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(frame).ok()?;
    text.trim_ascii_start().starts_with('{').then_some(text)
}

/// Walks through the text without building anything.
fn check_object(frame: &[u8], name: &'static str) -> Result<(), Dropped> {
    let refused = Dropped::NotJson { frame: name };
    if frame == b"{}" {
        return Ok(());
    }
    let text = object_text(frame).ok_or(refused)?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|_| refused)
}

fn read_hex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Only maps with odd keys and failing `Serialize` impls err, and ours have neither.
    serde_json::to_vec(value).expect("message contents are JSON objects")
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("any text is a JSON string")
}

/// Reads text, and anything else as the empty text.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Lenient;
    impl<'de> Visitor<'de> for Lenient {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_unit<E>(self) -> Result<String, E> {
            Ok(String::new())
        }
        fn visit_bool<E>(self, _: bool) -> Result<String, E> {
            Ok(String::new())
        }
        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_f64<E>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(String::new())
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(String::new())
        }
    }
    deserializer.deserialize_any(Lenient)
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
