//! The store: a directory per toolchain and prust version, with libraries named by the hash of what
//! they were made from. Shared by notebooks and engines: files appear whole, by rename, and never
//! change.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::CompileError;
use crate::cell::namespace::hex;

/// The directory of one toolchain.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) root: PathBuf,
}

impl Store {
    /// Opens (making it where it is missing) the store for `key` under `cache`.
    pub(super) fn open(cache: &Path, key: &str) -> Result<Self, CompileError> {
        let root = cache.join(key);
        let store = Self { root };
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

    /// Libraries of cells, units and dependency sets: one folder, so that `$ORIGIN` finds them all.
    pub(super) fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// Generated sources, kept for backtraces and for reading.
    pub(super) fn src(&self) -> PathBuf {
        self.root.join("src")
    }

    /// Metadata (rlibs, proc macros) of the crates inside dependency sets.
    pub(super) fn deps(&self) -> PathBuf {
        self.root.join("deps")
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Waits for the lock that builders of shared things hold.
    pub(super) fn lock(&self, name: &str) -> Result<File, CompileError> {
        let path = self.root.join(format!("{name}.lock"));
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        open.and_then(|file| file.lock().map(|()| file))
            .map_err(|source| CompileError::Cache { path, source })
    }
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

/// A short hash over parts; the same parts give the same hash everywhere.
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()[..12])
}
