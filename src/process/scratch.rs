//! Directories in the temporary directory that live as long as the process that made them. One
//! whose process was killed is removed by the next process that makes one.
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// What their names start with; 32 hexadecimal digits follow, so that no user's own directory is
/// taken for one.
const PREFIX: &str = "prust-of-";

/// Where Linux has files in memory, for POSIX shared memory.
const MEMORY: &str = "/dev/shm";

/// A private directory, removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// The directory itself, locked: the system lets go of the lock when this process ends, however
    /// it ends. Held in memory only; no program started from here inherits it.
    _lock: File,
}

impl Scratch {
    /// Makes a directory that only its owner can enter.
    ///
    /// # Errors
    /// When the temporary directory cannot be written.
    pub fn new() -> io::Result<Self> {
        static SWEPT: Once = Once::new();
        let parent = std::env::temp_dir();
        SWEPT.call_once(|| sweep(&parent));
        Self::inside(&parent)
    }

    /// Makes one whose files are in memory.
    ///
    /// # Errors
    /// When the system has no such directory, or it cannot be written.
    pub fn in_memory() -> io::Result<Self> {
        static SWEPT: Once = Once::new();
        let parent = Path::new(MEMORY);
        SWEPT.call_once(|| sweep(parent));
        Self::inside(parent)
    }

    fn inside(parent: &Path) -> io::Result<Self> {
        loop {
            let path = parent.join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
            DirBuilder::new().mode(0o700).create(&path)?;
            // A sweep may find it before it is locked; then another one is made.
            if let Some(lock) = locked(&path) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a sweep.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The locked directory; nothing if another process holds or removes it.
fn locked(path: &Path) -> Option<File> {
    let directory = File::open(path).ok()?;
    directory.try_lock().ok()?;
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let same = inode(fs::symlink_metadata(path).ok()?) == inode(directory.metadata().ok()?);
    same.then_some(directory)
}

/// Removes the directories whose processes have ended.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let unique = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let ours = unique.is_some_and(|unique| uuid::Uuid::try_parse(unique).is_ok());
        let path = entry.path();
        // Those of other users cannot be opened. The lock is kept while it is removed, so that
        // nobody takes a directory that is going.
        if ours && let Some(_lock) = locked(&path) {
            let removed = fs::remove_dir_all(&path);
            tracing::debug!(path = %path.display(), ?removed, "left by a process that was killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_stays_while_its_process_holds_it_and_no_longer() {
        let held = Scratch::new().expect("the temporary directory can be written");
        let parent = held.path().parent().expect("it is inside").to_owned();
        let mode = fs::metadata(held.path()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        // As a killed process leaves it: there, and not locked.
        let left = parent.join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&left).expect("it is new");
        fs::write(left.join("file"), b"").expect("it is ours");
        let other = parent.join(format!("{PREFIX}a-user-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&other).expect("it is new");
        sweep(&parent);
        assert!(held.path().exists() && !left.exists() && other.exists());
        let path = held.path().to_owned();
        drop(held);
        assert!(!path.exists());
        fs::remove_dir(&other).expect("it is empty");
    }
}
