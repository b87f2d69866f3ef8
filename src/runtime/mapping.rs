//! Bytes of a file as memory, for values that are too large to be sent: one process writes them,
//! others on the same machine read them where they are.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::{Deref, Range};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::os;

/// A stretch of a file, mapped for reading. The file may be removed meanwhile.
pub struct Mapping {
    pages: os::Pages,
    /// The stretch in the pages.
    within: Range<usize>,
}

impl Mapping {
    /// Maps a stretch of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened or is shorter than that.
    pub fn of(path: &Path, range: Range<u64>) -> io::Result<Self> {
        let file = File::open(path)?;
        let beyond = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short");
        if range.start > range.end || range.end > file.metadata()?.len() {
            return Err(beyond());
        }
        let start = range.start - range.start % os::PAGE_BYTES;
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| beyond());
        let within = size(range.start - start)?..size(range.end - start)?;
        Ok(Self { pages: os::Pages::of(&file, start, within.end)?, within })
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("n_bytes", &self.within.len()).finish_non_exhaustive()
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages.bytes()[self.within.clone()]
    }
}

/// Writes parts, one after the other, to a new file that only its owner can read. Nothing is left
/// of it on an error, such as when there is no memory for it.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_from_any_place_also_after_the_file_is_gone() {
        let path = std::env::temp_dir().join(format!("prust-mapping-{}", std::process::id()));
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        write(&path, &[&bytes[..7], &bytes[7..]]).unwrap();
        assert!(write(&path, &[&bytes]).is_err(), "it is there already");
        let n = bytes.len() as u64;
        let ranges = [0..n, 5..9, 4096..8192, 4095..4098, n - 1..n, 7..7];
        let mappings = ranges.clone().map(|range| Mapping::of(&path, range).unwrap());
        assert!(Mapping::of(&path, n..n + 1).is_err());
        std::fs::remove_file(&path).unwrap();
        for (mapping, range) in mappings.iter().zip(ranges) {
            assert_eq!(**mapping, bytes[range.start as usize..range.end as usize]);
        }
        assert!(Mapping::of(&path, 0..1).is_err());
    }
}
