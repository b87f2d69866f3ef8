//! Large values that stay in memory which the processes of one machine share, while messages carry
//! only where they are. Who submits writes the items to a file, each engine reads its part of it
//! where it lies, and does the same with a large result. The kernel's client removes the files.

use crate::codec::CodecError;
use prust_runtime::mapping::{self, Mapping};
use serde::{Deserialize, Serialize};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is smaller travels in messages: it is as fast, and leaves nothing to clean up.
pub const MAPPED_BYTES_MIN: usize = 1 << 20;

/// So few of the bytes in a file are sent all the same: to open and map it takes longer.
pub(crate) const SENT_BYTES_MAX: usize = 8 << 10;

/// A stretch of bytes in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    pub path: String,
    pub start: u64,
    pub end: u64,
}

impl Mapped {
    pub fn n_bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Maps the stretch.
    fn read(&self) -> Result<Mapping, CodecError> {
        Mapping::of(Path::new(&self.path), self.start..self.end).map_err(|error| {
            CodecError::Custom(format!("the values are not in {} any more: {error}", self.path))
        })
    }
}

/// Bytes of all stretches together.
pub fn n_bytes(stretches: &[Mapped]) -> u64 {
    stretches.iter().map(Mapped::n_bytes).sum()
}

/// A range of the bytes that lie in these stretches, one after the other.
pub fn part(stretches: &[Mapped], range: Range<u64>) -> Vec<Mapped> {
    let mut parts = Vec::new();
    let mut before = 0;
    for stretch in stretches {
        let after = before + stretch.n_bytes();
        let (from, to) = (range.start.max(before), range.end.min(after));
        if from < to {
            let (start, end) = (stretch.start + from - before, stretch.start + to - before);
            parts.push(Mapped { path: stretch.path.clone(), start, end });
        }
        before = after;
    }
    parts
}

/// The bytes of all stretches, one after the other. A single one is not copied.
///
/// # Errors
/// One of the files is not here (any more).
pub(crate) fn read(stretches: &[Mapped]) -> Result<Bytes<'static>, CodecError> {
    if let [one] = stretches {
        return Ok(Bytes::There(one.read()?));
    }
    let mut bytes = Vec::new();
    for stretch in stretches {
        bytes.extend_from_slice(&stretch.read()?);
    }
    Ok(Bytes::Gathered(bytes))
}

/// All bytes of one stretch, for whoever cuts items from it. Nothing where there are several, or
/// the file is not here.
pub fn near(stretches: &[Mapped]) -> Option<Mapping> {
    match stretches {
        [one] => one.read().ok(),
        _ => None,
    }
}

/// Puts bytes into a new file of the shared folder, part after part, if they are large and there is
/// one.
pub(crate) fn share(folder: Option<&str>, parts: &[&[u8]]) -> Option<Mapped> {
    static N_WRITTEN: AtomicU64 = AtomicU64::new(0);
    let n_bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    let folder = folder.filter(|_| n_bytes >= MAPPED_BYTES_MIN)?;
    let number = N_WRITTEN.fetch_add(1, Ordering::Relaxed);
    let path = format!("{folder}/{}-{number}", std::process::id());
    // Without room there the bytes travel in the message.
    mapping::write(Path::new(&path), parts).ok()?;
    Some(Mapped { path, start: 0, end: n_bytes as u64 })
}

/// Bytes that came with a message, or lie in a file.
pub enum Bytes<'a> {
    Here(&'a [u8]),
    There(Mapping),
    Gathered(Vec<u8>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::There(mapping) => mapping,
            Self::Gathered(bytes) => bytes,
        }
    }
}
