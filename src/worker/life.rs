//! The processes behind a worker: the listening socket, spawning the executable, connections that
//! say Hello, and how a process ended. Decides nothing.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use prust_runtime::frame::{FRAME_BYTES_MAX, FromWorker};
use prust_runtime::worker::SOCKET_VARIABLE;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;

use super::Config;
use crate::process;

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
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    process::in_own_group(&mut command);
    Ok(process::spawn(&mut command)?.id())
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
        write: OwnedWriteHalf,
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
    let (read, write) = stream.into_split();
    let mut read = BufReader::with_capacity(256 * 1024, read);
    if let Ok(FromWorker::Hello { pid, snapshot, threads }) = receive(&mut read).await {
        // The actor outlives its connections; if not, there is nobody to tell.
        let _ = to.send(Incoming::Hello { link, pid, snapshot, threads, write });
        while let Ok(frame) = receive(&mut read).await {
            let _ = to.send(Incoming::Frame { link, frame });
        }
    }
    let _ = to.send(Incoming::Gone { link });
}

async fn receive(read: &mut BufReader<OwnedReadHalf>) -> io::Result<FromWorker> {
    let length = usize::try_from(read.read_u64_le().await?).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    read.take(length as u64).read_to_end(&mut body).await?;
    FromWorker::read(&body)
}

/// How a process ended, in words for the user.
pub(super) fn cause(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => process::signal_name(signal),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "an unknown end".to_owned(),
        },
        Err(error) => format!("an unknown end ({error})"),
    }
}

/// Resident size of a process in bytes; 0 when it cannot be read.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}
