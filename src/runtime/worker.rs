//! The worker's main: connect to the host, then run what it sends, one thing at a time, on the main
//! thread. Opens no network socket and reads no Jupyter message.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::door::Door;
use crate::frame::{Failure, FromWorker, ToWorker};
use crate::{call, cell, door, last_words, os, panics, slots, snapshot};

/// Where the host listens; set for us, removed before user code runs.
pub const SOCKET_VARIABLE: &str = "PRUST_WORKER_SOCKET";

/// The C library chooses wrongly every other time.
const STARTS_MAX: usize = 12;

/// The main thread's stack. An array of a cell is there, and again for each call that takes it.
const STACK_BYTES: u64 = 64 << 20;

/// Starts the process over where that makes it what it was asked to be.
fn start_well() {
    const STARTS: &str = "PRUST_WORKER_STARTS";
    let starts = os::take_variable(STARTS).and_then(|text| text.parse().ok()).unwrap_or(1);
    // The system reads the limit when a program starts.
    let has_little_stack = os::raise_stack(STACK_BYTES);
    if starts <= STARTS_MAX && (has_little_stack || lacks_huge_pages()) {
        // Returns only when it cannot start: then this process goes on as it is.
        os::start_over(STARTS, &(starts + 1).to_string());
    }
}

/// Whether the C library does not make large allocations of huge pages although it was asked to: it
/// compares what the system says with text that it forgets to end (glibc 2.35 to 2.36 at least), so
/// that the answer depends on where the stack happens to be.
fn lacks_huge_pages() -> bool {
    const ASKED: &str = "glibc.malloc.hugetlb=1";
    let asked = std::env::var("GLIBC_TUNABLES").is_ok_and(|tunables| tunables.contains(ASKED));
    let offered = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| modes.contains("[madvise]"));
    asked && offered && !large_allocations_are_huge()
}

fn large_allocations_are_huge() -> bool {
    let large: Vec<u8> = Vec::with_capacity(8 << 20);
    std::hint::black_box(&large);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut flags = maps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.any(|flags| flags.split(' ').any(|flag| flag == "hg"))
}

/// Whether the work before has printed what nobody had read when it ended.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Runs until the host says so or is gone.
pub fn main() -> ! {
    start_well();
    let Some(socket) = os::take_variable(SOCKET_VARIABLE) else {
        os::exit_now(2);
    };
    panics::install();
    last_words::heed_signals();
    snapshot::prefer_for_oom_kill("500");
    let commands = snapshot::connect(&socket, 0, Vec::new()).and_then(door::open);
    match commands {
        Ok(commands) => serve(&socket, commands),
        Err(_) => os::exit_now(3),
    }
}

fn serve(socket: &str, mut commands: Arc<Door>) -> ! {
    loop {
        // A woken snapshot returns here, into the loop of its new life.
        if let Some(woken) = handle(socket, commands.take()) {
            commands = woken;
        }
    }
}

fn handle(socket: &str, command: ToWorker) -> Option<Arc<Door>> {
    match command {
        ToWorker::Run { run, library, entry, snapshot } => {
            if let Some(woken) = take_snapshot(socket, run, snapshot) {
                return Some(woken);
            }
            slots::begin();
            panics::install();
            last_words::running(true);
            finish(run, leaf(&library, &entry).map(|()| slots::sizes()));
        }
        ToWorker::Call { run, library, offset, snapshot, payload } => {
            // It may follow at once on another one.
            if UNREAD.swap(false, Ordering::Relaxed) {
                door::settle();
            }
            if let Some(woken) = take_snapshot(socket, run, snapshot) {
                return Some(woken);
            }
            slots::begin();
            panics::install();
            last_words::running(true);
            finish(run, call::call(&library, offset, &payload));
        }
        ToWorker::Load { library } => {
            // A failure shows when the library is used, with the loader's words.
            let _ = call::load(&library);
        }
        ToWorker::Measure => {
            // A process that cannot fork has no costs to tell.
            let (fork_micros, write_micros_per_gibibyte) = snapshot::measure().unwrap_or_default();
            door::tell(&FromWorker::Measured { fork_micros, write_micros_per_gibibyte });
        }
        ToWorker::Surroundings => door::tell(&surroundings()),
        ToWorker::Reply { .. } | ToWorker::Recall | ToWorker::Wake | ToWorker::Exit => (),
    }
    None
}

fn surroundings() -> FromWorker {
    let folder = std::env::current_dir().unwrap_or_default().into_os_string().into_vec();
    let variable =
        |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    FromWorker::Surroundings { folder, variables: std::env::vars_os().map(variable).collect() }
}

fn take_snapshot(socket: &str, run: u64, wanted: bool) -> Option<Arc<Door>> {
    if !wanted {
        return None;
    }
    // Without a snapshot the cell still runs; the host sees that none connected.
    snapshot::take(socket, run).unwrap_or(None)
}

fn leaf(library: &str, name: &str) -> Result<(), Failure> {
    let entry = call::entry(library, name).map_err(|why| Failure {
        ename: "LoadError".into(),
        evalue: missing(&why).unwrap_or(why),
        ..Failure::default()
    })?;
    let outcome = entry();
    let ended = cell::end();
    outcome.and(ended)
}

/// What the loader says of a function in C that is nowhere.
fn missing(why: &str) -> Option<String> {
    let (_, symbol) = why.split_once("undefined symbol: ")?;
    let symbol = symbol.trim();
    let is_rusts = symbol.starts_with("_ZN") || symbol.starts_with("_R");
    (!is_rusts).then(|| {
        format!(
            "no library has `{symbol}`, which an `extern` block declares: name one that does, by \
             `#[link(name = \"..\")]` before the block"
        )
    })
}

fn finish(run: u64, outcome: Result<Vec<u8>, Failure>) {
    last_words::running(false);
    os::flush();
    let lost = slots::lost();
    let (value, failure) = match outcome {
        Ok(value) => (value, None),
        Err(failure) => (Vec::new(), Some(failure.bounded())),
    };
    let unread = os::has_unread(1) || os::has_unread(2);
    UNREAD.store(unread, Ordering::Relaxed);
    door::tell(&FromWorker::Done { run, failure, lost, value, unread });
}
