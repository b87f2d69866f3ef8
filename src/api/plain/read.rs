//! Bytes to a [`Plain`]. Never trusts a length.

use super::{Number, Plain, tag};
use crate::codec::{CodecError, DEPTH_MAX};

/// Reads one value that fills `bytes`.
///
/// # Errors
/// Malformed, truncated or left-over bytes, and nesting beyond [`DEPTH_MAX`].
pub fn read(bytes: &[u8]) -> Result<Plain<'_>, CodecError> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    match bytes.len() - reader.at {
        0 => Ok(value),
        n => Err(CodecError::Trailing { n }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], CodecError> {
        let left = &self.bytes[self.at..];
        let taken = usize::try_from(n).ok().and_then(|n| left.get(..n));
        let Some(taken) = taken else {
            let wanted = n - left.len() as u64;
            return Err(CodecError::Truncated { at: self.bytes.len(), wanted });
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    fn value(&mut self, depth: u32) -> Result<Plain<'a>, CodecError> {
        if depth > DEPTH_MAX {
            return Err(CodecError::TooDeep);
        }
        let at = self.at;
        let tag = self.byte()?;
        if let Some(number) = Number::of_tag(tag) {
            return Ok(Plain::One(number, self.numbers(number, 1)?));
        }
        if tag == tag::UNIT {
            return Ok(Plain::Unit);
        }
        let kind = self.byte()?;
        let length = self.take(8)?.try_into().expect("take gives eight bytes");
        let length = u64::from_le_bytes(length);
        match tag {
            tag::TEXT => {
                let bytes = self.take(length)?;
                let text = std::str::from_utf8(bytes);
                text.map(Plain::Text).map_err(|_| CodecError::Malformed { at, what: "text" })
            }
            tag::BYTES => Ok(Plain::Bytes(self.take(length)?)),
            tag::MANY => {
                let number = Number::of_tag(kind);
                let number = number.ok_or(CodecError::Malformed { at, what: "kind of numbers" })?;
                Ok(Plain::Many(number, self.numbers(number, length)?))
            }
            tag::LIST => Ok(Plain::List(self.values(length, depth)?)),
            tag::TUPLE => Ok(Plain::Tuple(self.values(length, depth)?)),
            tag::MAP => {
                let mut entries = Vec::new();
                for _ in 0..length {
                    entries.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
                Ok(Plain::Map(entries))
            }
            _ => Err(CodecError::Malformed { at, what: "value" }),
        }
    }

    fn numbers(&mut self, number: Number, n: u64) -> Result<&'a [u8], CodecError> {
        let at = self.at;
        let length = n.saturating_mul(number.size() as u64);
        let bytes = self.take(length)?;
        if number == Number::Bool && bytes.iter().any(|byte| *byte > 1) {
            return Err(CodecError::Malformed { at, what: "bool" });
        }
        Ok(bytes)
    }

    /// As many as are told; each takes a byte at least, so that a bogus length ends.
    fn values(&mut self, n: u64, depth: u32) -> Result<Vec<Plain<'a>>, CodecError> {
        let mut values = Vec::new();
        for _ in 0..n {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }
}
