//! The processes behind a worker: the listening socket, spawning the executable, connections that
//! say Hello, and how a process ended. Decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use prust_runtime::frame::{FRAME_BYTES_MAX, FromWorker};
use prust_runtime::worker::SOCKET_VARIABLE;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;

use super::Config;
use crate::process::{self, Inward, Outward, Signal};

/// What is read of a worker at once.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// A private directory with the socket that the worker and its snapshots connect to; removed on
/// drop.
pub(super) struct Meeting {
    directory: process::Scratch,
    pub(super) listener: UnixListener,
}

impl Meeting {
    pub(super) fn new() -> io::Result<Self> {
        let directory = process::Scratch::new()?;
        let listener = UnixListener::bind(directory.path().join("worker"))?;
        Ok(Self { directory, listener })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("worker")
    }
}

/// Starts the executable; it connects to `meeting` by itself. Gives its process id.
pub(super) fn spawn(
    config: &Config,
    meeting: &Meeting,
    stdout: &io::PipeWriter,
    stderr: &io::PipeWriter,
) -> io::Result<u32> {
    let mut command = Command::new(&config.exe);
    command
        .current_dir(existing(&config.cwd))
        .envs(config.env.iter().map(|(name, value)| (name, value)))
        .env(SOCKET_VARIABLE, meeting.path())
        .env("EVCXR_IS_RUNTIME", "1")
        .env("GLIBC_TUNABLES", huge_pages(std::env::var("GLIBC_TUNABLES").ok()))
        // Backtraces are of generated code: whoever wants those that libraries capture all the same
        // says so by `RUST_LIB_BACKTRACE`.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    process::in_own_group(&mut command);
    Ok(process::spawn(&mut command)?.id())
}

/// Has large allocations made of huge pages where the system allows it: a snapshot of a gigabyte
/// then costs a millisecond, not tens of them. A wish of the user's own stands.
fn huge_pages(tunables: Option<String>) -> String {
    const NAME: &str = "glibc.malloc.hugetlb";
    match tunables {
        Some(theirs) if theirs.contains(NAME) => theirs,
        Some(theirs) if !theirs.is_empty() => format!("{theirs}:{NAME}=1"),
        _ => format!("{NAME}=1"),
    }
}

fn existing(cwd: &Path) -> &Path {
    if cwd.is_dir() { cwd } else { Path::new("/") }
}

/// What comes in from connections. `link` numbers them.
pub(super) enum Incoming {
    Hello {
        link: u64,
        pid: u32,
        snapshot: u64,
        threads: Vec<String>,
        write: Outward,
    },
    Frame {
        link: u64,
        frame: FromWorker,
    },
    /// The process behind the link is gone (or spoke nonsense, which counts as gone).
    Gone {
        link: u64,
    },
}

/// Reads one connection until it ends; the first frame must be Hello.
pub(super) async fn listen_to(link: u64, stream: UnixStream, to: UnboundedSender<Incoming>) {
    if let Ok((read, write)) = stream.into_std().and_then(process::divide)
        && let mut read = BufReader::with_capacity(READ_AHEAD_BYTES, read)
        && let Ok(FromWorker::Hello { pid, snapshot, threads }) = receive(&mut read).await
    {
        // The actor outlives its connections; if not, there is nobody to tell.
        let _ = to.send(Incoming::Hello { link, pid, snapshot, threads, write });
        while let Ok(frame) = receive(&mut read).await {
            let _ = to.send(Incoming::Frame { link, frame });
        }
    }
    let _ = to.send(Incoming::Gone { link });
}

async fn receive(read: &mut BufReader<Inward>) -> io::Result<FromWorker> {
    let length = usize::try_from(read.read_u64_le().await?).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::with_capacity(length.min(READ_AHEAD_BYTES));
    read.take(length as u64).read_to_end(&mut body).await?;
    FromWorker::read(&body)
}

/// Resident size of a process in bytes; 0 when it cannot be read.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}

/// Ends the processes that the cells of a worker have started: those that began after the snapshot
/// that goes on, or all of them when there is none.
pub(super) fn end_started(group: u32, snapshot: Option<u32>) {
    let snapshot = snapshot.and_then(process::listed);
    for started in process::of_group(group) {
        if snapshot.is_none_or(|snapshot| started.began_after(&snapshot)) {
            // Already gone is as good.
            let _ = process::signal(started.pid, Signal::Kill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_tunables_stay() {
        assert_eq!(huge_pages(None), "glibc.malloc.hugetlb=1");
        let theirs = "glibc.malloc.hugetlb=0".to_owned();
        assert_eq!(huge_pages(Some(theirs.clone())), theirs);
        let more = huge_pages(Some("glibc.malloc.check=1".to_owned()));
        assert_eq!(more, "glibc.malloc.check=1:glibc.malloc.hugetlb=1");
    }
}
