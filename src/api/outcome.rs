//! The bytes of one call: what a trampoline is given (payload) and what it gives back (outcomes of
//! its items). The client cuts payloads together and counts outcomes; only trampolines know the
//! types.

use crate::codec::{self, CodecError};
use crate::items::{Items, ItemsWriter, Lengths};
use crate::mapped::{self, Bytes, Mapped, SENT_BYTES_MAX};
use prust_runtime::frame;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Failures of one task that keep their traceback; the rest keep name and text.
pub const TRACEBACKS_MAX: usize = 16;

/// Why an item failed, in the user's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub ename: String,
    pub evalue: String,
    pub traceback: Vec<String>,
}

impl Failure {
    pub fn new(ename: &str, evalue: impl Into<String>) -> Self {
        Self { ename: ename.to_owned(), evalue: evalue.into(), traceback: Vec::new() }
    }
}

impl From<frame::Failure> for Failure {
    fn from(failure: frame::Failure) -> Self {
        let place = if failure.file.is_empty() {
            None
        } else {
            Some(format!("at {}:{}:{}", failure.file, failure.line, failure.column))
        };
        Self {
            ename: failure.ename,
            evalue: failure.evalue,
            traceback: place.into_iter().chain(failure.backtrace).collect(),
        }
    }
}

/// The part of a payload that all tasks of a submission share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The user's function as (library, offset) when it is a pointer; a function item has no
    /// address to send.
    pub function: Option<(String, u64)>,
    /// Encoded arguments of `apply_with`, shared value of `map_with`, name of a variable.
    #[serde(with = "crate::codec::raw")]
    pub shared: Vec<u8>,
}

/// The part of a payload that differs from task to task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub lengths: Lengths,
    /// Where the items are; empty if they come along.
    pub items: Vec<Mapped>,
    /// The folder for results that are too large to be sent.
    pub folder: Option<String>,
}

/// A payload, taken apart.
pub struct Payload<'a> {
    pub prefix: Prefix,
    pub lengths: Lengths,
    pub bytes: Bytes<'a>,
    pub folder: Option<String>,
}

/// Puts a payload together: encoded [`Prefix`], and the items unless they are in a file.
pub fn write_payload(prefix: &[u8], table: &Table, bytes: &[u8]) -> Vec<u8> {
    let table = codec::to_bytes(table).expect("numbers and texts are always written");
    let mut payload = Vec::with_capacity(8 + prefix.len() + table.len() + bytes.len());
    for part in [prefix, &table] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(part);
    }
    payload.extend_from_slice(bytes);
    payload
}

/// Takes a payload apart.
///
/// # Errors
/// Malformed bytes.
pub fn read_payload(payload: &[u8]) -> Result<Payload<'_>, CodecError> {
    let (prefix, rest) = part(payload)?;
    let (table, bytes) = part(rest)?;
    let Table { lengths, items, folder } = codec::from_bytes(table)?;
    let bytes = values(bytes, &items, &lengths)?;
    Ok(Payload { prefix: codec::from_bytes(prefix)?, lengths, bytes, folder })
}

/// The bytes of values that came along, or are elsewhere.
fn values<'a>(
    bytes: &'a [u8],
    there: &[Mapped],
    lengths: &Lengths,
) -> Result<Bytes<'a>, CodecError> {
    let n_bytes = (bytes.len() as u64).checked_add(mapped::n_bytes(there));
    let is_split = !there.is_empty() && !bytes.is_empty();
    if is_split || lengths.n_bytes().map(|n| n as u64) != n_bytes {
        return Err(CodecError::Malformed { at: 0, what: "table of lengths" });
    }
    if there.is_empty() { Ok(Bytes::Here(bytes)) } else { mapped::read(there) }
}

fn part(bytes: &[u8]) -> Result<(&[u8], &[u8]), CodecError> {
    let truncated = CodecError::Truncated { at: bytes.len(), wanted: 1 };
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(truncated.clone())?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(truncated)
}

/// What became of the items of one task: failures by index, the values of the others in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    pub n: u64,
    /// In ascending order of index.
    pub failed: Vec<(u64, Failure)>,
    /// Lengths of the encoded values of the items that did not fail.
    pub lengths: Lengths,
    /// Where the values are if they did not come along.
    pub values: Option<Mapped>,
}

/// A stretch of one task's items: values that came back, or one failure.
pub enum Part<'a> {
    Values { lengths: Lengths, bytes: &'a [u8] },
    Failed { idx: u64, failure: Failure },
}

impl Outcomes {
    /// All items of one task in order, given what is behind the outcomes.
    ///
    /// # Errors
    /// Those of `each`, or the values cannot be read where they are.
    pub fn parts<E: From<CodecError>>(
        self,
        bytes: &[u8],
        each: &mut dyn FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = &*values(bytes, self.values.as_slice(), &self.lengths)?;
        if self.failed.is_empty() {
            return each(Part::Values { lengths: self.lengths, bytes });
        }
        let ends = self.lengths.ends();
        let n_values = self.lengths.n_items();
        let mut at = 0;
        for (n_failed, (idx, failure)) in (0..).zip(self.failed) {
            let values = at..(idx - n_failed).min(n_values);
            if !values.is_empty() {
                at = values.end;
                let bytes = &bytes[self.lengths.span(&ends, values.clone())];
                each(Part::Values { lengths: self.lengths.cut(values), bytes })?;
            }
            each(Part::Failed { idx, failure })?;
        }
        if at < n_values {
            let bytes = &bytes[self.lengths.span(&ends, at..n_values)];
            each(Part::Values { lengths: self.lengths.cut(at..n_values), bytes })?;
        }
        Ok(())
    }
}

/// Collects what becomes of the items of one task, on the engine.
#[derive(Default)]
pub struct OutcomesWriter {
    n: u64,
    failed: Vec<(u64, Failure)>,
    values: ItemsWriter,
}

impl OutcomesWriter {
    /// The next item's value; a failure when it cannot be written.
    pub fn value<R: Serialize + 'static>(&mut self, value: &R) {
        match self.values.push(value) {
            Ok(()) => self.n += 1,
            Err(error) => self.refused(std::any::type_name::<R>(), &error),
        }
    }

    #[inline(never)]
    fn refused(&mut self, ty: &str, error: &CodecError) {
        let text = format!("the result, a {ty}, cannot be sent: {error}");
        self.fail(Failure::new("NotSerializable", text));
    }

    /// The next item's failure.
    #[inline(never)]
    pub fn fail(&mut self, failure: Failure) {
        self.failed.push((self.n, failure));
        self.n += 1;
    }

    /// Ends the list. Large values go to a file in `folder`, if there is one.
    #[inline(never)]
    pub fn finish(self, folder: Option<&str>) -> Vec<u8> {
        write_outcomes(self.n, self.failed, self.values.finish(), folder)
    }
}

/// Encodes outcomes with the values of the items that did not fail.
pub fn write_outcomes(
    n: u64,
    failed: Vec<(u64, Failure)>,
    values: Items,
    folder: Option<&str>,
) -> Vec<u8> {
    write_outcomes_of(n, failed, values.lengths, &[&values.bytes], folder)
}

/// As [`write_outcomes`], for values whose bytes are in several places.
pub(crate) fn write_outcomes_of(
    n: u64,
    mut failed: Vec<(u64, Failure)>,
    lengths: Lengths,
    values: &[&[u8]],
    folder: Option<&str>,
) -> Vec<u8> {
    for (_, failure) in failed.iter_mut().skip(TRACEBACKS_MAX) {
        failure.traceback.clear();
    }
    let there = mapped::share(folder, values);
    let along = if there.is_some() { &[][..] } else { values };
    let head = Outcomes { n, failed, lengths, values: there };
    let head = codec::to_bytes(&head).expect("numbers and texts are always written");
    let n_along = along.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(4 + head.len() + n_along);
    bytes.extend_from_slice(&(u32::try_from(head.len()).unwrap_or(u32::MAX)).to_le_bytes());
    bytes.extend_from_slice(&head);
    for part in along {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The outcomes at the front of a task's value, and what is behind them: the encoded values, unless
/// these are in a file.
///
/// # Errors
/// Malformed bytes, or counts that contradict each other.
pub fn read_outcomes(value: &[u8]) -> Result<(Outcomes, &[u8]), CodecError> {
    let (head, bytes) = part(value)?;
    let outcomes: Outcomes = codec::from_bytes(head)?;
    let counted = outcomes.lengths.n_items().checked_add(outcomes.failed.len() as u64);
    let ascending = outcomes.failed.is_sorted_by(|a, b| a.0 < b.0);
    let within = outcomes.failed.last().is_none_or(|last| last.0 < outcomes.n);
    if counted != Some(outcomes.n) || !ascending || !within {
        return Err(CodecError::Malformed { at: 0, what: "list of outcomes" });
    }
    let n_bytes = outcomes.values.as_ref().map_or(bytes.len() as u64, Mapped::n_bytes);
    if outcomes.lengths.n_bytes().map(|n| n as u64) != Some(n_bytes) {
        return Err(CodecError::Malformed { at: 0, what: "table of lengths" });
    }
    Ok((outcomes, bytes))
}

/// The items of a submission, from which payloads are cut.
pub struct Cut<'a> {
    /// The encoded [`Prefix`].
    pub prefix: &'a [u8],
    pub lengths: &'a Lengths,
    /// What [`Lengths::ends`] gave.
    pub ends: &'a [u64],
    /// All items, unless they are in files.
    pub bytes: &'a [u8],
    pub there: &'a [Mapped],
    /// What lies there, if it is at hand.
    pub near: Option<&'a [u8]>,
    /// The folder for results that are too large to be sent.
    pub folder: Option<&'a str>,
}

impl Cut<'_> {
    /// The items of a range as a payload.
    pub fn payload(&self, range: Range<u64>) -> Vec<u8> {
        let span = self.lengths.span(self.ends, range.clone());
        let (along, items) = match self.near.filter(|_| span.len() <= SENT_BYTES_MAX) {
            _ if self.there.is_empty() => (&self.bytes[span], Vec::new()),
            Some(near) => (&near[span], Vec::new()),
            None => (&[][..], mapped::part(self.there, span.start as u64..span.end as u64)),
        };
        let folder = self.folder.map(str::to_owned);
        let table = Table { lengths: self.lengths.cut(range), items, folder };
        write_payload(self.prefix, &table, along)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::{read_items, write_items};

    #[test]
    fn a_payload_cut_from_many_items_holds_exactly_its_range() {
        let items = write_items(&["a", "bcd", "", "ef"].map(str::to_owned)).unwrap();
        let prefix = Prefix { function: Some(("lib.so".to_owned(), 7)), shared: vec![1, 2] };
        let encoded = codec::to_bytes(&prefix).unwrap();
        let ends = items.lengths.ends();
        let cut = Cut {
            prefix: &encoded,
            lengths: &items.lengths,
            ends: &ends,
            bytes: &items.bytes,
            there: &[],
            near: None,
            folder: Some("/shared"),
        };
        let payload = cut.payload(1..3);
        let read = read_payload(&payload).unwrap();
        assert_eq!((read.prefix, read.folder.as_deref()), (prefix, Some("/shared")));
        let mut values = Vec::<String>::new();
        read_items(&mut values, &read.lengths, &read.bytes).unwrap();
        assert_eq!(values, ["bcd", ""]);
        for end in 0..payload.len() {
            assert!(read_payload(&payload[..end]).is_err());
        }
    }

    #[test]
    fn large_items_and_results_stay_in_a_file() {
        let folder = std::env::temp_dir();
        let folder = folder.to_str();
        let numbers: Vec<u64> = (0..200_000).collect();
        let items = write_items(&numbers).unwrap();
        let there = mapped::share(folder, &[&items.bytes]).expect("it is large");
        let prefix = codec::to_bytes(&Prefix { function: None, shared: Vec::new() }).unwrap();
        let (lengths, ends) = (&items.lengths, &[]);
        let at = std::slice::from_ref(&there);
        let near = mapped::near(at);
        let cut = Cut { prefix: &prefix, lengths, ends, bytes: &[], there: at, near: None, folder };
        for (near, range, is_along) in [
            (None, 150_000..200_000, false),
            (None, 199_999..200_000, false),
            (near.as_deref(), 150_000..200_000, false),
            (near.as_deref(), 199_000..200_000, true),
            (near.as_deref(), 7..8, true),
            (near.as_deref(), 7..7, true),
        ] {
            let payload = Cut { near, ..cut }.payload(range.start as u64..range.end as u64);
            assert!(payload.len() < if is_along { 9_000 } else { 1_000 });
            let read = read_payload(&payload).unwrap();
            assert_eq!(matches!(read.bytes, Bytes::Here(_)), is_along);
            let mut values = Vec::<u64>::new();
            read_items(&mut values, &read.lengths, &read.bytes).unwrap();
            assert_eq!(values, numbers[range]);
        }
        // Small results come along, large ones do not.
        let small = write_outcomes(1, Vec::new(), write_items(&[7u64]).unwrap(), folder);
        assert_eq!(read_outcomes(&small).unwrap().0.values, None);
        let large = write_outcomes(200_000, Vec::new(), items.clone(), folder);
        assert!(large.len() < 1000);
        let (outcomes, rest) = read_outcomes(&large).unwrap();
        let path = outcomes.values.clone().expect("it is large").path;
        let mut read = Vec::<u64>::new();
        let mut each = |part: Part<'_>| match part {
            Part::Values { lengths, bytes } => read_items(&mut read, &lengths, bytes),
            Part::Failed { .. } => unreachable!("nothing failed"),
        };
        outcomes.clone().parts(rest, &mut each).unwrap();
        assert_eq!(read, numbers);
        for path in [&path, &there.path] {
            std::fs::remove_file(path).unwrap();
        }
        let gone = outcomes.parts(rest, &mut |_| Ok::<(), CodecError>(())).unwrap_err();
        assert!(gone.to_string().contains(&path), "{gone}");
    }

    #[test]
    fn outcomes_unfold_in_the_order_of_their_items() {
        let values = write_items(&[10u32, 11, 12]).unwrap();
        let failed = vec![(1, Failure::new("E", "one")), (4, Failure::new("E", "four"))];
        let bytes = write_outcomes(5, failed, values, None);
        let (outcomes, rest) = read_outcomes(&bytes).unwrap();
        let mut texts = Vec::new();
        let mut each = |part: Part<'_>| {
            match part {
                Part::Values { lengths, bytes } => {
                    let mut values = Vec::<u32>::new();
                    read_items(&mut values, &lengths, bytes)?;
                    texts.extend(values.iter().map(u32::to_string));
                }
                Part::Failed { failure, .. } => texts.push(failure.evalue),
            }
            Ok::<(), CodecError>(())
        };
        outcomes.parts(rest, &mut each).unwrap();
        assert_eq!(texts, ["10", "one", "11", "12", "four"]);
    }

    #[test]
    fn contradicting_counts_are_an_error() {
        let values = write_items(&[10u32]).unwrap();
        for (n, failed) in
            [(1, vec![(0, Failure::default())]), (3, vec![]), (2, vec![(2, Failure::default())])]
        {
            assert!(read_outcomes(&write_outcomes(n, failed, values.clone(), None)).is_err());
        }
    }
}
