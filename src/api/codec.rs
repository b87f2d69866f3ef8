//! How values travel: compact, little-endian, not self-describing, through serde. Both ends are the
//! same source, so there is no version in the bytes. Malformed input is an error, never a panic,
//! and a length never allocates more than the input could hold. Knows nothing of messages.

mod read;
mod write;

use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Nesting allowed in a value; deeper is an error rather than an overflowing stack.
pub const DEPTH_MAX: u32 = 128;

/// What a value could not be written or read for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The value's own `Serialize` or `Deserialize` refused.
    Custom(String),
    /// The bytes end inside a value; `wanted` more were expected at `at`.
    Truncated {
        at: usize,
        wanted: u64,
    },
    /// `n` bytes are left over after the value.
    Trailing {
        n: usize,
    },
    /// A tag, a character or a text that no value has.
    Malformed {
        at: usize,
        what: &'static str,
    },
    TooDeep,
    /// The type asks the bytes what they are (`serde_json::Value`, an untagged enum, `flatten`).
    SelfDescribing,
}

impl fmt::Display for CodecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom(text) => formatter.write_str(text),
            Self::Truncated { at, wanted } => {
                write!(formatter, "the bytes end at {at}, {wanted} more were expected")
            }
            Self::Trailing { n } => write!(formatter, "{n} bytes are left over after the value"),
            Self::Malformed { at, what } => write!(formatter, "byte {at} is not a valid {what}"),
            Self::TooDeep => {
                write!(formatter, "the value is nested more than {DEPTH_MAX} levels deep")
            }
            Self::SelfDescribing => formatter.write_str(
                "this type needs a self-describing format (an untagged or flattened type, or \
                 serde_json::Value): send it as a String",
            ),
        }
    }
}

impl std::error::Error for CodecError {}

impl serde::ser::Error for CodecError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for CodecError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

/// Writes one value.
///
/// # Errors
/// What the value's `Serialize` refuses, or nesting beyond [`DEPTH_MAX`].
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    append(&mut bytes, value)?;
    Ok(bytes)
}

/// Writes one value at the end of `bytes`; on an error `bytes` is as it was.
///
/// # Errors
/// As [`to_bytes`].
pub fn append<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    let before = bytes.len();
    let outcome = value.serialize(&mut write::Writer::new(bytes));
    if outcome.is_err() {
        bytes.truncate(before);
    }
    outcome
}

/// Reads one value that fills `bytes` exactly.
///
/// # Errors
/// Malformed, truncated or left-over bytes.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = read::Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    match reader.left() {
        0 => Ok(value),
        n => Err(CodecError::Trailing { n }),
    }
}

/// For fields that hold bytes: copied as a whole (`#[serde(with = "codec::raw")]`).
pub(crate) mod raw {
    use serde::{Deserializer, Serializer, de};
    use std::fmt;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Appends what stands before a sequence of `n` elements.
pub fn append_length(bytes: &mut Vec<u8>, n: u64) {
    let (length, size) = write::varint(n);
    bytes.extend_from_slice(&length[..size]);
}

/// Splits a sequence into its number of elements and the rest.
pub(crate) fn split_length(bytes: &[u8]) -> Result<(u64, &[u8]), CodecError> {
    let mut reader = read::Reader::new(bytes);
    let n = reader.varint()?;
    Ok((n, &bytes[bytes.len() - reader.left()..]))
}

#[cfg(test)]
mod tests;
