//! What a cluster leaves in its profile's security directory so that others find it: a record
//! (`prust-cluster[-ID].json`, for its owner only) and beside it a lock that is held as long as the
//! supervisor lives, however it ends. ipyparallel's own `cluster-*.json` are of another form; the
//! names do not meet.
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::arguments::Place;
use crate::wire::connection::write_private;

/// How often the lock is asked for: whoever looks whether a cluster lives holds it for a moment.
const ATTEMPTS: u32 = 10;

/// A cluster of `prust cluster start`, as its supervisor describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) cluster_id: String,
    /// Of the supervisor.
    pub(super) pid: u32,
    pub(super) host: String,
    pub(super) started: String,
    pub(super) version: String,
    pub(super) n_engines: usize,
    pub(super) detached: bool,
    pub(super) client_file: PathBuf,
    pub(super) log: Option<PathBuf>,
    /// The processes of the engines that run now, by uuid.
    pub(super) engines: BTreeMap<String, u32>,
}

/// The files of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Files {
    record: PathBuf,
    lock: PathBuf,
}

impl Files {
    pub(super) fn of(place: &Place) -> Self {
        let infix = match place.cluster_id.as_str() {
            "" => String::new(),
            id => format!("-{id}"),
        };
        let security = place.profile_dir.join("security");
        Self {
            record: security.join(format!("{STEM}{infix}.json")),
            lock: security.join(format!("{STEM}{infix}.lock")),
        }
    }

    /// The record, if there is one that can be read.
    pub(super) fn read(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(&self.record).ok()?).ok()
    }

    /// Whether the supervisor lives.
    pub(super) fn is_held(&self) -> bool {
        let lock = File::open(&self.lock);
        lock.is_ok_and(|lock| lock.try_lock_shared().is_err())
    }

    /// Removes what a supervisor that is gone has left.
    pub(super) fn remove(&self) {
        for path in [&self.record, &self.lock] {
            // Another one may have been faster.
            let _ = fs::remove_file(path);
        }
    }
}

/// What the names of the files begin with.
const STEM: &str = "prust-cluster";

/// The ids of the clusters that have a record in a profile, in order.
pub(super) fn recorded(profile_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(profile_dir.join("security"));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    let id = |name: &str| {
        let infix = name.strip_prefix(STEM)?.strip_suffix(".json")?;
        Some(infix.strip_prefix('-').unwrap_or(infix).to_owned())
    };
    let mut ids: Vec<String> = names.filter_map(|name| id(name.to_str()?)).collect();
    ids.sort();
    ids
}

/// The right to be the cluster of a place; given back when dropped, and by the system when the
/// process ends.
#[derive(Debug)]
pub(super) struct Claim {
    files: Files,
    _lock: File,
}

impl Claim {
    /// Takes the place; `None` if a cluster lives there.
    ///
    /// # Errors
    /// The security directory cannot be written.
    pub(super) fn take(place: &Place) -> io::Result<Option<Self>> {
        let files = Files::of(place);
        let security = place.profile_dir.join("security");
        DirBuilder::new().recursive(true).mode(0o700).create(security)?;
        for _ in 0..ATTEMPTS {
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&files.lock)?;
            if lock.try_lock().is_err() {
                std::thread::sleep(std::time::Duration::from_millis(20));
                continue;
            }
            // The one before may have removed the file that was opened here.
            let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
            let there = fs::metadata(&files.lock).ok().map(inode);
            if there == Some(inode(lock.metadata()?)) {
                return Ok(Some(Self { files, _lock: lock }));
            }
        }
        Ok(None)
    }

    /// Writes the record anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        write_private(&self.files.record, &serde_json::to_vec_pretty(record)?)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.files.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cluster_holds_a_place_until_it_is_dropped() {
        let profile_dir = std::env::temp_dir().join(format!("record-{}", uuid::Uuid::new_v4()));
        let place = Place { profile_dir: profile_dir.clone(), cluster_id: "a".to_owned() };
        let claim = Claim::take(&place).expect("it is writable").expect("it is free");
        let files = Files::of(&place);
        assert!(files.is_held());
        assert!(Claim::take(&place).expect("it is writable").is_none());
        let record = Record {
            cluster_id: "a".to_owned(),
            pid: 1,
            host: "here".to_owned(),
            started: String::new(),
            version: String::new(),
            n_engines: 2,
            detached: true,
            client_file: place.client_file(),
            log: None,
            engines: BTreeMap::from([("e0".to_owned(), 2)]),
        };
        claim.write(&record).expect("it is writable");
        assert_eq!(files.read(), Some(record));
        assert_eq!(recorded(&profile_dir), ["a"]);
        drop(claim);
        assert!(!files.is_held() && recorded(&profile_dir).is_empty());
        assert!(Claim::take(&place).expect("it is writable").is_some());
        fs::remove_dir_all(profile_dir).expect("it is ours");
    }
}
