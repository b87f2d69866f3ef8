//! Snapshots: before a cell runs the worker forks; the child connects to the host and sleeps as the
//! state before the cell, the parent runs it. Woken, the child becomes the worker. Only the forking
//! thread exists there: the other threads are named to the host.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::door::Door;
use crate::frame::{self, FromWorker, ToWorker};
use crate::future;
use crate::os::{self, Fork};
use crate::{door, last_words, panics};

/// How often this process and those that it woke up from have been woken.
static WAKES: AtomicUsize = AtomicUsize::new(0);

const STACK_BYTES: usize = 2 << 20;
const STACK_BYTES_MORE: usize = 64 << 10;

/// A stack size for threads that are made after a wake. The C library hands a lost thread's stack
/// to the next one of its size; but what the lost thread had put there may still be in lists of the
/// user's crates (parking_lot's queues), which would then lead into another thread's stack. So
/// every life makes its threads larger than those of the lives before.
pub fn stack_bytes() -> usize {
    STACK_BYTES + STACK_BYTES_MORE * WAKES.load(Ordering::Relaxed)
}

/// The sleeping child, 0 when there is none.
static SLEEPING: AtomicI32 = AtomicI32::new(0);

/// Written page by page to see what writing under a snapshot costs.
const SAMPLE_BYTES: usize = 32 << 20;
const PAGE_BYTES: usize = 4096;

/// The running worker is killed for memory before its snapshot is.
const OOM_RUNNING: &str = "500";
const OOM_SLEEPING: &str = "300";

pub(crate) fn prefer_for_oom_kill(score: &str) {
    // Without /proc there is no such preference to set.
    let _ = std::fs::write("/proc/self/oom_score_adj", score);
}

/// Takes a snapshot for `run`, replacing the one before. In the worker it returns `None` at once;
/// in a woken snapshot it returns, later, the commands of its new life.
///
/// # Errors
/// When the process cannot fork.
pub(crate) fn take(socket: &str, run: u64) -> io::Result<Option<Arc<Door>>> {
    discard();
    let threads = other_threads();
    os::flush();
    let stdout = std::io::stdout().lock();
    let held = door::hold();
    let fork = os::fork_here()?;
    drop(held);
    drop(stdout);
    match fork {
        Fork::Parent { child } => {
            SLEEPING.store(child, Ordering::Relaxed);
            Ok(None)
        }
        Fork::Child => {
            door::abandon();
            SLEEPING.store(0, Ordering::Relaxed);
            WAKES.fetch_add(1, Ordering::Relaxed);
            Ok(Some(sleep_until_woken(socket, run, threads)))
        }
    }
}

/// Ends the sleeping snapshot, if there is one.
pub(crate) fn discard() {
    match SLEEPING.swap(0, Ordering::Relaxed) {
        0 => (),
        pid => os::end_child(pid),
    }
}

/// Measures what a snapshot of the state as it is costs: the fork, and the first write to each page
/// afterwards, in microseconds per gibibyte. The state and its snapshot stay as they are.
///
/// # Errors
/// When the process cannot fork.
pub(crate) fn measure() -> io::Result<(u64, u64)> {
    let mut sample = vec![1_u8; SAMPLE_BYTES];
    let stdout = std::io::stdout().lock();
    let started = Instant::now();
    let child = match os::fork_here()? {
        Fork::Parent { child } => child,
        Fork::Child => {
            // Killed by the parent as soon as it has measured.
            door::abandon();
            os::pause_ms(5000);
            os::exit_now(0)
        }
    };
    let fork = started.elapsed();
    drop(stdout);
    let started = Instant::now();
    for page in sample.chunks_mut(PAGE_BYTES) {
        page[0] = std::hint::black_box(page[0] + 1);
    }
    let wrote = started.elapsed();
    os::end_child(child);
    drop(std::hint::black_box(sample));
    let per_gibibyte = wrote.as_micros() * ((1 << 30) / SAMPLE_BYTES as u128);
    let number = |micros: u128| u64::try_from(micros).unwrap_or(u64::MAX);
    Ok((number(fork.as_micros()), number(per_gibibyte)))
}

fn sleep_until_woken(socket: &str, run: u64, threads: Vec<String>) -> Arc<Door> {
    prefer_for_oom_kill(OOM_SLEEPING);
    let threads_lost = !threads.is_empty();
    let woken = connect(socket, run, threads).and_then(|stream| {
        let body = frame::receive(&stream)?;
        match ToWorker::read(&body)? {
            ToWorker::Wake => door::open(stream),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    });
    match woken {
        Ok(commands) => {
            future::forget();
            prefer_for_oom_kill(OOM_RUNNING);
            if threads_lost {
                mend();
            }
            commands
        }
        // The host is gone, or this snapshot is no longer wanted.
        Err(_) => os::exit_now(0),
    }
}

/// What makes up for lost threads, each once.
static MENDERS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Has `mend` called whenever this process has woken up without the threads it had: a pool whose
/// threads are gone can be given others there. On the main thread, before any cell runs.
pub fn after_wake(mend: fn()) {
    let mut menders = MENDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !menders.iter().any(|known| std::ptr::fn_addr_eq(*known, mend)) {
        menders.push(mend);
    }
}

fn mend() {
    let menders = MENDERS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for mend in menders {
        // What cannot be mended waits in vain, which the host notices and says.
        let _ = panics::catch(mend);
    }
}

/// Connects to the host and says who we are.
pub(crate) fn connect(socket: &str, run: u64, threads: Vec<String>) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    let hello = FromWorker::Hello { pid: std::process::id(), snapshot: run, threads };
    frame::send(&stream, &hello.write())?;
    Ok(stream)
}

/// Names of the process's threads other than this one and ours.
fn other_threads() -> Vec<String> {
    let own = os::thread_id().to_string();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter(|task| task.file_name().to_string_lossy() != own)
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .filter(|name| name != door::THREAD_NAME && name != last_words::THREAD_NAME)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn what_mends_is_called_once_each_time_and_may_panic() {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        fn count() {
            CALLS.fetch_add(1, Ordering::Relaxed);
        }
        fn fail() {
            std::panic::resume_unwind(Box::new("not today"));
        }
        for mend in [fail as fn(), count, count] {
            after_wake(mend);
        }
        mend();
        mend();
        assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    }
}
