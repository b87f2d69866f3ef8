//! Many values side by side: a table of lengths and their bytes, so that a range of items can be
//! cut out without reading them. Vectors of plain numbers are copied as a whole.

use crate::codec::{self, CodecError};
use crate::numbers;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::any::Any;
use std::ops::Range;

/// What stands before the elements of a vector takes no more.
const LENGTH_BYTES_MAX: usize = 10;

/// How long each item is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lengths {
    /// `n` items of `size` bytes each.
    Fixed {
        n: u64,
        size: u32,
    },
    Each(Vec<u32>),
}

impl Default for Lengths {
    fn default() -> Self {
        Self::Fixed { n: 0, size: 0 }
    }
}

impl Lengths {
    pub fn n_items(&self) -> u64 {
        match self {
            Self::Fixed { n, .. } => *n,
            Self::Each(lengths) => lengths.len() as u64,
        }
    }

    /// Bytes of all items together; `None` when no machine could hold them.
    pub fn n_bytes(&self) -> Option<usize> {
        match self {
            Self::Fixed { n, size } => usize::try_from(n.checked_mul(u64::from(*size))?).ok(),
            Self::Each(lengths) => {
                lengths.iter().try_fold(0usize, |sum, n| sum.checked_add(*n as usize))
            }
        }
    }

    /// The table of a range of items. `range` must lie within the items.
    pub fn cut(&self, range: Range<u64>) -> Self {
        match self {
            Self::Fixed { size, .. } => Self::Fixed { n: range.end - range.start, size: *size },
            Self::Each(lengths) => {
                Self::Each(lengths[range.start as usize..range.end as usize].to_vec())
            }
        }
    }

    /// Where each item ends, for cutting many ranges; empty for fixed sizes.
    pub fn ends(&self) -> Vec<u64> {
        match self {
            Self::Fixed { .. } => Vec::new(),
            Self::Each(lengths) => lengths
                .iter()
                .scan(0, |sum, n| {
                    *sum += u64::from(*n);
                    Some(*sum)
                })
                .collect(),
        }
    }

    /// The bytes of a range of items; `ends` is what [`Lengths::ends`] gave.
    pub fn span(&self, ends: &[u64], range: Range<u64>) -> Range<usize> {
        let offset = |item: u64| match self {
            Self::Fixed { size, .. } => (item * u64::from(*size)) as usize,
            Self::Each(_) if item == 0 => 0,
            Self::Each(_) => ends[item as usize - 1] as usize,
        };
        offset(range.start)..offset(range.end)
    }
}

/// Encoded items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    pub lengths: Lengths,
    pub bytes: Vec<u8>,
}

/// Collects lengths item by item; stays `Fixed` as long as all are alike.
#[derive(Default)]
pub struct ItemsWriter {
    n: u64,
    first: u32,
    each: Option<Vec<u32>>,
    bytes: Vec<u8>,
}

impl ItemsWriter {
    /// Appends one item.
    ///
    /// # Errors
    /// The value cannot be written, or takes 4 GiB or more; the items so far are unchanged.
    pub fn push<T: Serialize + 'static>(&mut self, value: &T) -> Result<(), CodecError> {
        let before = self.bytes.len();
        append_value(&mut self.bytes, value)?;
        self.count_from(before)
    }

    /// Counts what was appended behind `before` as one item.
    #[inline(never)]
    fn count_from(&mut self, before: usize) -> Result<(), CodecError> {
        let Ok(length) = u32::try_from(self.bytes.len() - before) else {
            self.bytes.truncate(before);
            return Err(CodecError::Custom("one item of 4 GiB or more".to_owned()));
        };
        self.count(length);
        Ok(())
    }

    fn count(&mut self, length: u32) {
        if self.n == 0 {
            self.first = length;
        }
        match &mut self.each {
            Some(each) => each.push(length),
            None if length != self.first => {
                let mut each = vec![self.first; self.n as usize];
                each.push(length);
                self.each = Some(each);
            }
            None => (),
        }
        self.n += 1;
    }

    #[inline(never)]
    pub fn finish(self) -> Items {
        let lengths = match self.each {
            Some(each) => Lengths::Each(each),
            None => Lengths::Fixed { n: self.n, size: self.first },
        };
        Items { lengths, bytes: self.bytes }
    }
}

/// Encodes items in order.
///
/// # Errors
/// The index of the first item that cannot be written, and why.
pub fn write_items<T: Serialize + 'static>(values: &[T]) -> Result<Items, (u64, CodecError)> {
    if let Some(bytes) = numbers::bytes_of(values) {
        return Ok(Items { lengths: table_of::<T>(values.len()), bytes: bytes.to_vec() });
    }
    let mut writer = ItemsWriter::default();
    for value in values {
        if let Err(error) = writer.push(value) {
            return Err((writer.n, error));
        }
    }
    Ok(writer.finish())
}

/// Decodes items that fill `bytes` exactly, and appends them to `out`.
///
/// # Errors
/// A table that does not fit the bytes, or the first malformed item.
pub fn read_items<T: DeserializeOwned + 'static>(
    out: &mut Vec<T>,
    lengths: &Lengths,
    bytes: &[u8],
) -> Result<(), CodecError> {
    if lengths.n_bytes() != Some(bytes.len()) {
        return Err(CodecError::Malformed { at: 0, what: "table of lengths" });
    }
    let is_plain =
        matches!(lengths, Lengths::Fixed { size, .. } if *size as usize == size_of::<T>());
    if is_plain && numbers::extend(out, bytes) {
        return Ok(());
    }
    let mut cuts = Cuts::new(lengths, bytes);
    while let Some(item) = cuts.next() {
        out.push(codec::from_bytes(item)?);
    }
    Ok(())
}

/// Decodes items that are vectors each, and appends what is in them to `out`.
///
/// # Errors
/// As [`read_items`].
pub(crate) fn read_vectors<T: DeserializeOwned + 'static>(
    out: &mut Vec<T>,
    lengths: &Lengths,
    bytes: &[u8],
) -> Result<(), CodecError> {
    let mut cuts = Cuts::new(lengths, bytes);
    while let Some(item) = cuts.next() {
        if numbers::is_number::<T>() {
            let (n, rest) = codec::split_length(item)?;
            if n.checked_mul(size_of::<T>() as u64) == Some(rest.len() as u64) {
                numbers::extend(out, rest);
                continue;
            }
        }
        out.append(&mut codec::from_bytes::<Vec<T>>(item)?);
    }
    Ok(())
}

/// The items of a table one by one. Not an `Iterator`, so that nothing of it is compiled again in
/// cells.
struct Cuts<'a> {
    lengths: &'a Lengths,
    rest: &'a [u8],
    at: u64,
}

impl<'a> Cuts<'a> {
    fn new(lengths: &'a Lengths, bytes: &'a [u8]) -> Self {
        Self { lengths, rest: bytes, at: 0 }
    }

    #[inline(never)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let length = match self.lengths {
            Lengths::Fixed { n, size } => (self.at < *n).then_some(*size)?,
            Lengths::Each(each) => *each.get(self.at as usize)?,
        };
        self.at += 1;
        let (item, rest) = self.rest.split_at_checked(length as usize)?;
        self.rest = rest;
        Some(item)
    }
}

/// The table of `n` plain numbers of type `T`.
pub(crate) fn table_of<T>(n: usize) -> Lengths {
    Lengths::Fixed { n: n as u64, size: size_of::<T>() as u32 }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {
        /// Fills `out` (an `Option<Vec<number>>`) from one value; leaves everything else alone.
        #[inline(never)]
        fn read_whole(out: &mut dyn Any, bytes: &[u8]) -> Result<(), CodecError> {
            $(if let Some(slot) = out.downcast_mut::<Option<Vec<$type>>>() {
                let (n, rest) = codec::split_length(bytes)?;
                if n.checked_mul(size_of::<$type>() as u64) == Some(rest.len() as u64) {
                    numbers::extend(slot.insert(Vec::new()), rest);
                }
                return Ok(());
            })*
            Ok(())
        }
    };
}

whole_numbers!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, f32, f64);

/// Writes one value at the end of `bytes`, copying vectors of plain numbers as a whole. The bytes
/// are the same either way.
///
/// # Errors
/// As [`codec::append`].
pub fn append_value<T: Serialize + 'static>(
    bytes: &mut Vec<u8>,
    value: &T,
) -> Result<(), CodecError> {
    let Some((n, numbers)) = numbers::whole(value) else { return codec::append(bytes, value) };
    bytes.reserve(numbers.len() + LENGTH_BYTES_MAX);
    codec::append_length(bytes, n);
    bytes.extend_from_slice(numbers);
    Ok(())
}

/// As [`append_value`], into a vector of its own.
///
/// # Errors
/// As [`codec::append`].
pub fn write_value<T: Serialize + 'static>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    append_value(&mut bytes, value)?;
    Ok(bytes)
}

/// Reads one value that fills `bytes`.
///
/// # Errors
/// As [`codec::from_bytes`].
pub fn read_value<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut out: Option<T> = None;
    read_whole(&mut out, bytes)?;
    match out {
        Some(value) => Ok(value),
        None => codec::from_bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T>(values: Vec<T>, fixed: bool)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
    {
        let items = write_items(&values).unwrap();
        assert_eq!(matches!(items.lengths, Lengths::Fixed { .. }), fixed);
        let read = |lengths: &Lengths, bytes: &[u8]| {
            let mut out = Vec::<T>::new();
            read_items(&mut out, lengths, bytes).map(|()| out)
        };
        assert_eq!(read(&items.lengths, &items.bytes).unwrap(), values);
        let ends = items.lengths.ends();
        let n = values.len() as u64;
        for (start, end) in [(0, n), (0, n / 2), (n / 2, n), (n / 3, n / 3)] {
            let lengths = items.lengths.cut(start..end);
            let bytes = &items.bytes[items.lengths.span(&ends, start..end)];
            let part = read(&lengths, bytes).unwrap();
            assert_eq!(part, values[start as usize..end as usize]);
        }
        let whole = write_value(&values).unwrap();
        assert_eq!(whole, codec::to_bytes(&values).unwrap());
        assert_eq!(read_value::<Vec<T>>(&whole).unwrap(), values);
    }

    #[test]
    fn items_come_back_whole_and_cut() {
        check((0..1000u64).collect(), true);
        check((0..100).map(f64::from).collect(), true);
        check(vec![true, false, true], true);
        check(vec!["a".to_owned(), String::new(), "longer".to_owned()], false);
        check(vec!["aa".to_owned(), "bb".to_owned()], true);
        check(vec![(); 5], true);
        check(Vec::<i32>::new(), true);
    }

    #[test]
    fn a_table_that_does_not_fit_is_an_error() {
        let bytes = [0; 7];
        for lengths in [
            Lengths::Fixed { n: 2, size: 4 },
            Lengths::Fixed { n: u64::MAX, size: 8 },
            Lengths::Each(vec![3, 3]),
            Lengths::Each(vec![u32::MAX; 3]),
        ] {
            assert!(read_items(&mut Vec::<u32>::new(), &lengths, &bytes).is_err());
            assert!(read_items(&mut Vec::<String>::new(), &lengths, &bytes).is_err());
        }
        assert!(read_value::<Vec<f64>>(&[200, 1, 2]).is_err());
        let mut units: Vec<()> = Vec::new();
        assert!(read_items(&mut units, &Lengths::Fixed { n: 3, size: 0 }, &[]).is_ok());
        assert_eq!(units.len(), 3);
    }
}
