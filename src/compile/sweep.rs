//! Keeps the cache directory below its limit: what was used longest ago goes first, whether a
//! library of this toolchain or the whole directory of another one. What a process uses, has loaded
//! or builds stays, however much that is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::cell::Compiler;
use super::store::{self, Store};
use crate::cell::place::COPY;

/// The most that the cache directory holds. A leaf takes some 20 kB, the directory of a toolchain
/// 100 MB, a large dependency set 1 GB.
pub(super) const STORE_BYTES_MAX: u64 = 8 << 30;

/// Cells compiled between two looks.
const CELLS_PER_SWEEP: u64 = 500;

/// What the names of units, leaves and the files that they include start with.
const CELL_PREFIXES: [&str; 3] = ["unit_", "leaf_", COPY];

/// What can be removed.
#[derive(Debug)]
enum Thing {
    /// A unit or leaf of this toolchain: library, record and source.
    Library { name: String, files: Vec<PathBuf> },
    /// The directory of another toolchain.
    Root { path: PathBuf },
}

#[derive(Debug)]
struct Candidate {
    used: SystemTime,
    bytes: u64,
    thing: Thing,
}

impl Compiler {
    /// Removes what was used longest ago from the cache directory, in the background, if it is over
    /// its limit. Call it once when a kernel starts; later looks come by themselves.
    pub fn sweep(&self) {
        let store = self.shared.store.clone();
        let thread = std::thread::Builder::new().name("prust-sweep".to_owned());
        // Nobody waits for it, not even the end of the process: another look removes the rest.
        if let Err(error) = thread.spawn(move || sweep(&store, STORE_BYTES_MAX)) {
            tracing::warn!(%error, "the cache directory was not looked at");
        }
    }

    pub(super) fn sweep_now_and_then(&self) {
        let before = self.shared.n_built.fetch_add(1, Ordering::Relaxed);
        if before % CELLS_PER_SWEEP == CELLS_PER_SWEEP - 1 {
            self.sweep();
        }
    }
}

/// Brings the cache directory below `bytes_max`, as far as what is in use allows.
pub(super) fn sweep(store: &Store, bytes_max: u64) {
    // One at a time is enough.
    let Some(_lock) = store.try_lock("sweep") else { return };
    remove_leftovers(store);
    let Some(cache) = store.root.parent() else { return };
    let mut bytes = size_of(cache);
    let mut candidates = libraries(store);
    candidates.extend(other_roots(cache, &store.root));
    candidates.sort_by_key(|candidate| candidate.used);
    let mut loaded = None;
    for candidate in candidates {
        if bytes <= bytes_max {
            return;
        }
        let loaded = loaded.get_or_insert_with(|| files_loaded(&store.lib()));
        if remove(store, &candidate.thing, loaded) {
            bytes = bytes.saturating_sub(candidate.bytes);
        }
    }
    if bytes > bytes_max {
        let marked = store.set_overfull();
        tracing::info!(bytes, bytes_max, ?marked, "the cache is over its limit, by what is in use");
    }
}

/// False if it is in use.
fn remove(store: &Store, thing: &Thing, loaded: &HashSet<PathBuf>) -> bool {
    match thing {
        Thing::Root { path } => store::remove_unused(path).unwrap_or(false),
        Thing::Library { name, files } => {
            if files.iter().any(|file| loaded.contains(file)) {
                return false;
            }
            let Some(_withdrawn) = store.try_withdraw(name) else { return false };
            // The record goes first: without it, a library is built anew.
            files.iter().rev().all(|file| fs::remove_file(file).is_ok())
        }
    }
}

/// Units and leaves, with sources of cells that did not compile.
fn libraries(store: &Store) -> Vec<Candidate> {
    let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
    for folder in [store.src(), store.lib()] {
        let mut files: Vec<PathBuf> = entries(&folder);
        // Records last: they say when the library was used.
        files.sort_by_key(|file| file.extension().is_some_and(|extension| extension == "json"));
        for file in files {
            let Some(name) = library_of(&file) else { continue };
            let Ok(metadata) = fs::symlink_metadata(&file) else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let candidate = found.entry(name.clone()).or_insert_with(|| Candidate {
                used,
                bytes: 0,
                thing: Thing::Library { name, files: Vec::new() },
            });
            candidate.used = candidate.used.max(used);
            candidate.bytes += metadata.len();
            if let Thing::Library { files, .. } = &mut candidate.thing {
                files.push(file);
            }
        }
    }
    found.into_values().collect()
}

/// The unit or leaf that a file belongs to: `libleaf_1.so`, `leaf_1.json`, `leaf_1.rs`.
fn library_of(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let name = stem.strip_prefix("lib").unwrap_or(stem);
    let ours = CELL_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    ours.then(|| name.to_owned())
}

fn other_roots(cache: &Path, own: &Path) -> Vec<Candidate> {
    let others = entries(cache).into_iter().filter(|path| path != own);
    let candidate = |path: PathBuf| {
        let used = store::last_use(&path)?;
        Some(Candidate { used, bytes: size_of(&path), thing: Thing::Root { path } })
    };
    others.filter_map(candidate).collect()
}

/// Removes what builders that were killed have left: folders and files whose names start with a
/// dot and end in the name of a library that nobody builds.
fn remove_leftovers(store: &Store) {
    for path in entries(&store.lib()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((_, of)) = name.strip_prefix('.').and_then(|name| name.split_once('-')) else {
            continue;
        };
        let Some(name) = library_of(Path::new(of)) else { continue };
        if let Some(_lock) = store.try_lock(&name) {
            // A build that begins now makes a new one.
            let removed = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            tracing::debug!(path = %path.display(), ?removed, "left by a build that was killed");
        }
    }
}

/// Files of a folder that a process of this user has loaded, snapshots included.
fn files_loaded(folder: &Path) -> HashSet<PathBuf> {
    // Processes are listed with the paths behind any links.
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let prefix = format!("{}/", real.display());
    let mut loaded = HashSet::new();
    for process in entries(Path::new("/proc")) {
        // Those of other users cannot be read, and neither can they load what is ours.
        let Ok(maps) = fs::read_to_string(process.join("maps")) else { continue };
        let names = maps.lines().filter_map(|line| line.split_once(&prefix));
        loaded.extend(names.map(|(_, name)| folder.join(name)));
    }
    loaded
}

fn size_of(folder: &Path) -> u64 {
    let size = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => size_of(&path),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries(folder).into_iter().map(size).sum()
}

/// What a folder holds; nothing if it cannot be read or has just gone.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
