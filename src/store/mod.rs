//! The records and engines of a controller in a file, so that the next controller can go on with
//! them. A thread of its own writes behind, in batches; whoever hands something over never waits
//! for the disk. What was handed over less than [`BATCH_AFTER`] ago may be missing after a crash.
mod file;
mod pending;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use prust_cluster::{EngineId, KeptEngine, Key, Restored, Row};

pub use self::file::StoreError;
use self::file::{Database, Fault};
use self::pending::{Batch, Pending};

/// A batch is written this long after its first change, or when it has so many rows.
const BATCH_AFTER: Duration = Duration::from_millis(200);
const BATCH_ROWS: usize = 500;

/// A running store. Dropping it writes what is left and waits for that.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// There is something to write, there is enough for a batch, or it is the end.
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // What a panicking thread leaves is whole: every change of it is.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the file, or makes one, readable by its owner only. With `restore` returns what is in
    /// it; otherwise what was in it is set aside, as `<file>.before`. A file that cannot be read is
    /// set aside too, with a warning.
    ///
    /// # Errors
    /// If another controller uses the file, if it is the database of something else, or if the disk
    /// refuses it.
    pub fn open(path: &Path, restore: bool) -> Result<(Self, Restored), StoreError> {
        let lock = lock(path)?;
        let (database, restored) = begin(path, restore)?;
        let shared = Arc::new(Shared::default());
        shared.lock().saved.extend(restored.rows.iter().map(|row| row.key));
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("prust-store".to_owned())
            .spawn(move || {
                write_behind(&writer, database);
                drop(lock);
            })
            .map_err(|source| StoreError::Disk { path: path.to_owned(), source })?;
        Ok((Self { shared, thread: Some(thread) }, restored))
    }

    /// Keeps a record in place of what the file has of it.
    pub fn keep(&self, row: Row) {
        let mut pending = self.shared.lock();
        let was_empty = pending.is_empty();
        pending.keep(row);
        let is_worth_it = was_empty || pending.n_rows() == BATCH_ROWS;
        drop(pending);
        if is_worth_it {
            self.shared.changed.notify_one();
        }
    }

    /// Removes records.
    pub fn forget(&self, keys: Vec<Key>) {
        let mut pending = self.shared.lock();
        pending.forget(keys);
        drop(pending);
        self.shared.changed.notify_one();
    }

    /// Keeps the engines there are now, and the number of the next new one.
    pub fn keep_engines(&self, engines: Vec<KeptEngine>, next: EngineId) {
        self.shared.lock().engines = Some((engines, next));
        self.shared.changed.notify_one();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

/// Writes batches until the store is closed and everything is written.
fn write_behind(shared: &Shared, mut database: Database) {
    let mut is_failing = false;
    while let Some(batch) = next_batch(shared) {
        match database.write(&batch) {
            Ok(()) if is_failing => {
                is_failing = false;
                tracing::warn!("the store can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                if !is_failing {
                    tracing::error!(%error, "records are not saved: the store cannot be written");
                }
                is_failing = true;
                shared.lock().put_back(batch);
            }
        }
    }
    database.close();
}

fn next_batch(shared: &Shared) -> Option<Batch> {
    let nothing_yet = |pending: &mut Pending| pending.is_empty() && !pending.is_closed;
    let too_few = |pending: &mut Pending| pending.n_rows() < BATCH_ROWS && !pending.is_closed;
    let pending = shared.changed.wait_while(shared.lock(), nothing_yet);
    let pending = pending.unwrap_or_else(PoisonError::into_inner);
    let waited = shared.changed.wait_timeout_while(pending, BATCH_AFTER, too_few);
    let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if pending.is_empty() {
        return None;
    }
    Some(pending.take())
}

/// Opens the database and reads it; what cannot be read is set aside, and it begins anew.
fn begin(path: &Path, restore: bool) -> Result<(Database, Restored), StoreError> {
    let opened = Database::open(path).and_then(|mut database| {
        let restored = if restore { database.load()? } else { Restored::default() };
        Ok((database, restored))
    });
    let why = match opened {
        Ok((database, restored)) if restore || database.is_new() => {
            return Ok((database, restored));
        }
        Ok((database, _)) => {
            // Closed first: closing removes what lies beside the file, by its name.
            database.close();
            "before".to_owned()
        }
        Err(Fault::Store(error)) => return Err(error),
        Err(Fault::Damaged(error)) => {
            tracing::warn!(path = %path.display(), %error, "a damaged store is set aside");
            "damaged".to_owned()
        }
        Err(Fault::Version(version)) => {
            let path = path.display();
            tracing::warn!(%path, version, "a store of another version of prust is set aside");
            format!("version-{version}")
        }
    };
    set_aside(path, &why)?;
    let database = Database::open(path).map_err(|fault| fault.at(path))?;
    Ok((database, Restored::default()))
}

/// Renames the file and what SQLite keeps beside it; an older one of that name is gone then.
fn set_aside(path: &Path, why: &str) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(path, &format!(".{why}{suffix}")));
        let moved = match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::remove_file(&to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            moved => moved,
        };
        moved.map_err(|source| StoreError::Disk { path: from, source })?;
    }
    Ok(())
}

/// Takes the lock that says that a controller uses the file. It lies beside it, because the file
/// itself may be set aside.
fn lock(path: &Path) -> Result<fs::File, StoreError> {
    let at = beside(path, ".lock");
    let failed = |source| StoreError::Disk { path: at.clone(), source };
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let lock = private(&at).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Opens a file that only its owner can read, and makes it if it is not there.
fn private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = file.open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
