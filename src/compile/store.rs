//! The store: a directory per toolchain and prust version, with libraries named by the hash of what
//! they were made from. Shared by notebooks and engines: files appear whole, by rename, and never
//! change. Every process says which libraries it has handed out, so that `sweep` leaves them; what
//! it says is forgotten by the system when it ends, however it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::CompileError;
use crate::cell::namespace::hex;
use crate::process::{self, ByteLock};

/// The file whose bytes are locked by users: one byte for the directory, one for each library.
const USES: &str = "uses";
/// The file whose bytes are locked by builders.
const LOCKS: &str = "locks";
/// Marks a directory whose dependencies alone are over the limit: the next process that has it for
/// itself starts it anew.
const OVERFULL: &str = "overfull";
/// The byte of the directory itself.
const WHOLE: u64 = 0;

/// The directory of one toolchain. Clones share what they use.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) root: PathBuf,
    /// `USES`, opened once: its locks say what this process uses.
    uses: Arc<File>,
}

impl Store {
    /// Opens (making it where it is missing) the store for `key` under `cache`.
    pub(super) fn open(cache: &Path, key: &str) -> Result<Self, CompileError> {
        let root = cache.join(key);
        let uses = Self::entered(&root)
            .map_err(|source| CompileError::Cache { path: root.clone(), source })?;
        let store = Self { root, uses: Arc::new(uses) };
        for folder in [store.lib(), store.src(), store.deps(), store.bin()] {
            fs::create_dir_all(&folder)
                .map_err(|source| CompileError::Cache { path: folder.clone(), source })?;
        }
        // A directory that exists may still refuse writing.
        let probe = scratch_name(&store.root.join("probe"));
        fs::write(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|source| CompileError::Cache { path: store.root.clone(), source })?;
        Ok(store)
    }

    /// Makes the directory and says that it is used. Nobody removes it from then on.
    fn entered(root: &Path) -> io::Result<File> {
        loop {
            fs::create_dir_all(root)?;
            let path = root.join(USES);
            let uses = open(&path)?;
            if root.join(OVERFULL).exists()
                && process::lock_byte(&uses, WHOLE, ByteLock::Alone, false)?
            {
                empty(root)?;
                continue;
            }
            process::lock_byte(&uses, WHOLE, ByteLock::Shared, true)?;
            // It may have been removed before it was locked.
            let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
            if fs::metadata(&path)
                .is_ok_and(|there| uses.metadata().is_ok_and(|ours| inode(there) == inode(ours)))
            {
                // When it was used last.
                uses.set_modified(SystemTime::now())?;
                return Ok(uses);
            }
        }
    }

    /// Says that this process uses a library, and that it was used now. To be said before looking
    /// whether it is there.
    pub(super) fn hold(&self, name: &str) -> io::Result<()> {
        process::lock_byte(&self.uses, byte_of(name), ByteLock::Shared, true)?;
        if let Ok(record) = File::options().append(true).open(self.record(name)) {
            record.set_modified(SystemTime::now())?;
        }
        Ok(())
    }

    /// What is remembered beside a library.
    pub(super) fn record(&self, name: &str) -> PathBuf {
        self.lib().join(format!("{name}.json"))
    }

    /// Marks the directory as too large in what cannot be removed while it is used.
    pub(super) fn set_overfull(&self) -> io::Result<()> {
        open(&self.root.join(OVERFULL)).map(drop)
    }

    /// Libraries of cells, units and dependency sets: one folder, so that `$ORIGIN` finds them all.
    pub(super) fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// Generated sources, kept for backtraces and for reading.
    pub(super) fn src(&self) -> PathBuf {
        self.root.join("src")
    }

    /// The crates inside dependency sets (rlibs) and procedural macros: what rustc reads.
    pub(super) fn deps(&self) -> PathBuf {
        self.root.join("deps")
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Waits for the lock that builders of one thing hold.
    pub(super) fn lock(&self, name: &str) -> Result<File, CompileError> {
        let path = self.root.join(LOCKS);
        // Opened anew: two tasks of one process keep each other out, too.
        open(&path)
            .and_then(|file| {
                process::lock_byte(&file, byte_of(name), ByteLock::Alone, true).map(|_| file)
            })
            .map_err(|source| CompileError::Cache { path, source })
    }

    /// Takes the lock of one thing's builders if it is free.
    pub(super) fn try_lock(&self, name: &str) -> Option<File> {
        let file = open(&self.root.join(LOCKS)).ok()?;
        process::lock_byte(&file, byte_of(name), ByteLock::Alone, false).ok()?.then_some(file)
    }

    /// Keeps everybody from using a library, while the result lives; nothing if somebody uses it,
    /// this process included.
    pub(super) fn try_withdraw(&self, name: &str) -> Option<File> {
        let file = open(&self.root.join(USES)).ok()?;
        process::lock_byte(&file, byte_of(name), ByteLock::Alone, false).ok()?.then_some(file)
    }
}

/// Removes the directory of a toolchain unless a process uses it.
pub(super) fn remove_unused(root: &Path) -> io::Result<bool> {
    let uses = open(&root.join(USES))?;
    let unused = process::lock_byte(&uses, WHOLE, ByteLock::Alone, false)?;
    if unused {
        empty(root)?;
    }
    Ok(unused)
}

/// When the directory of a toolchain was used last; nothing for a directory that is no store. One
/// whose removal was interrupted was used never.
pub(super) fn last_use(root: &Path) -> Option<SystemTime> {
    if root.file_name()?.to_str()?.starts_with('.') {
        return Some(SystemTime::UNIX_EPOCH);
    }
    fs::metadata(root.join(USES)).and_then(|metadata| metadata.modified()).ok()
}

/// Removes a directory, under another name: who waits for its lock sees that it is gone, and may
/// make it anew at once.
fn empty(root: &Path) -> io::Result<()> {
    let going = scratch_name(root);
    fs::rename(root, &going)?;
    fs::remove_dir_all(&going)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

/// The byte that stands for a name in files of locks. Two names of one byte only wait for each
/// other.
fn byte_of(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let first = digest.first_chunk().copied().unwrap_or_default();
    (u64::from_le_bytes(first) >> 2) + 1
}

/// Writes a file so that others see it whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let scratch = scratch_name(path);
    fs::write(&scratch, bytes)?;
    fs::rename(&scratch, path)
}

/// Copies a file so that others see it whole or not at all.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let scratch = scratch_name(to);
    fs::copy(from, &scratch)?;
    fs::rename(&scratch, to)
}

/// A name beside `path` that no other process uses.
pub(super) fn scratch_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = uuid::Uuid::new_v4().simple();
    path.with_file_name(format!(".{unique}-{name}"))
}

/// A short hash of a file's content.
pub(super) fn hash_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

/// A short hash over parts; the same parts give the same hash everywhere.
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()[..12])
}
