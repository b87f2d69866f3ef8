//! Inputs of `make fuzz` that once crashed or hung what reads them, or that were written to; run
//! again on a stack as small as a thread of the kernel has.

#[path = "../fuzz/bytes/input.rs"]
mod bytes;
#[path = "../fuzz/cell/input.rs"]
mod cell;
#[path = "../fuzz/cluster/input.rs"]
mod cluster;
#[path = "../fuzz/pickle/input.rs"]
mod pickle;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

const STACK: usize = 2 << 20;
/// Debug builds are slow; what hangs never ends.
const TIME: Duration = Duration::from_secs(20);

fn kept(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/kept").join(target);
    let files = std::fs::read_dir(folder).expect("the folder is in the repository");
    files.map(|file| file.expect("it can be listed").path()).collect()
}

fn replay(target: &str, run: fn(&[u8])) {
    let files = kept(target);
    assert!(!files.is_empty(), "{target}: nothing is kept");
    for file in files {
        let data = std::fs::read(&file).expect("a listed file can be read");
        let (done, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            run(&data);
            // Nobody listens any more when it comes too late.
            let _ = done.send(());
        });
        let thread = thread.expect("a thread can be made");
        let in_time = ended.recv_timeout(TIME) != Err(mpsc::RecvTimeoutError::Timeout);
        assert!(in_time, "{}: not within {TIME:?}", file.display());
        assert!(thread.join().is_ok(), "{}: it panicked", file.display());
    }
}

#[test]
fn cells_crash_no_more() {
    replay("cell", cell::run);
}

#[test]
fn bytes_crash_no_more() {
    replay("bytes", bytes::run);
}

#[test]
fn clusters_crash_no_more() {
    replay("cluster", cluster::run);
}

#[test]
fn pickles_crash_no_more() {
    replay("pickle", pickle::run);
}
