//! What a cell has printed reaches the host even when the line is unfinished and the process dies:
//! a thread of ours flushes stdout while something runs, and once more when a signal ends the
//! process. Decides nothing about the death itself.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::{door, os};

/// The name of the flushing thread, so that it is not counted among the user's.
pub const THREAD_NAME: &str = "prust-flush";

/// An unfinished line waits at most this long.
const TICK: Duration = Duration::from_millis(100);

/// Ticks without a run after which the thread sleeps until the next one.
const IDLE_TICKS: u32 = 10;

/// A dying process waits at most this long for its output: the cell may hold stdout's lock.
const DEATH_STEPS: u32 = 200;

/// The flushing thread of this life, leaked: a signal handler may neither lock nor allocate.
static FLUSHER: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());
static RUNNING: AtomicBool = AtomicBool::new(false);
static SLEEPS: AtomicBool = AtomicBool::new(false);
/// Set by a dying thread, cleared when all is flushed.
static DYING: AtomicBool = AtomicBool::new(false);
/// How often a flush has ended.
static FLUSHED: AtomicU32 = AtomicU32::new(0);

/// Starts the thread, at the beginning of each life.
pub(crate) fn open() -> io::Result<()> {
    SLEEPS.store(false, Ordering::Relaxed);
    DYING.store(false, Ordering::Relaxed);
    let flusher = door::start(THREAD_NAME, flush_as_it_comes)?;
    let thread = Box::leak(Box::new(flusher.thread().clone()));
    FLUSHER.store(thread, Ordering::Release);
    Ok(())
}

/// Has the signals of a crash flush first. Once per process; a fork inherits it.
pub(crate) fn heed_signals() {
    os::before_death(flush_before_death);
}

/// Says that user code begins or has ended.
pub(crate) fn running(on: bool) {
    RUNNING.store(on, Ordering::SeqCst);
    if on && SLEEPS.swap(false, Ordering::SeqCst) {
        wake();
    }
}

fn wake() {
    // Only a flag and a futex behind it: this is also called from a signal handler.
    if let Some(flusher) = os::leaked(&FLUSHER) {
        flusher.unpark();
    }
}

fn flush_as_it_comes() {
    let mut idle = 0;
    loop {
        if idle < IDLE_TICKS {
            std::thread::park_timeout(TICK);
        } else {
            SLEEPS.store(true, Ordering::SeqCst);
            // A run that began meanwhile saw no sleeper.
            if !RUNNING.load(Ordering::SeqCst) && !DYING.load(Ordering::SeqCst) {
                std::thread::park();
            }
            SLEEPS.store(false, Ordering::SeqCst);
            idle = 0;
        }
        let dying = DYING.swap(false, Ordering::SeqCst);
        if RUNNING.load(Ordering::SeqCst) || dying {
            idle = 0;
            os::flush();
            FLUSHED.fetch_add(1, Ordering::SeqCst);
        } else {
            idle += 1;
        }
    }
}

/// Called by a thread that a signal has stopped: it may only touch atomics and sleep.
fn flush_before_death() {
    let before = FLUSHED.load(Ordering::SeqCst);
    DYING.store(true, Ordering::SeqCst);
    wake();
    for _ in 0..DEATH_STEPS {
        // A flush that had begun already may have missed the last words: wait for the one asked.
        if !DYING.load(Ordering::SeqCst) && FLUSHED.load(Ordering::SeqCst) != before {
            return;
        }
        os::pause_ms(1);
    }
}
