//! The controller: sockets around [`prust_cluster`]. It checks signatures, hands messages over,
//! carries effects out, writes the two connection files. It never decides, compiles or runs user
//! code.
//!
//! The same code is a task of the kernel's ([`Prepared::serve_guest`]), a thread of a supervisor
//! ([`start`]) and a process ([`run`], `prust controller`), and speaks ipyparallel's protocol to
//! stock clients and stock engines.
mod arguments;
mod database;
mod files;
mod serve;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

pub use prust_cluster::{Hwm, Scheme};
use tokio::sync::watch;
use tokio::task::JoinError;

pub use self::arguments::run;
use crate::store::{Store, StoreError};
use crate::wire::connection::{ClientFile, EngineFile, FileError};
use crate::wire::curve::ServerKey;
use crate::wire::{self, Guest};

/// The time between two heartbeats, as in ipyparallel.
pub const PING: Duration = Duration::from_secs(3);

/// How long an engine of ours may be silent before it is given up. It comes back when it answers
/// again.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// How many bytes may wait for one peer that does not read, in memory.
pub const PEER_BYTES: usize = 256 << 20;

/// How a controller is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    pub client_file: PathBuf,
    pub engine_file: PathBuf,
    /// The address to listen on; `0.0.0.0` or `*` for all.
    pub ip: String,
    /// Listens at sockets in this folder instead: only who may enter it can connect.
    pub folder: Option<PathBuf>,
    /// Whether engines of this host may come by links.
    pub links: bool,
    /// Where others find this machine when `ip` is all; its name if not given.
    pub location: Option<String>,
    /// The time between two heartbeats; at least a millisecond.
    pub ping: Duration,
    /// How long an engine of ours may be silent.
    pub lost_after: Duration,
    pub hwm: Hwm,
    pub scheme: Scheme,
    pub cluster_id: String,
    /// Whether ports and key of existing files are taken again, and the files stay at the end.
    pub reuse: bool,
    /// The key that signs messages; a new one if not given.
    pub key: Option<String>,
    /// Bytes that may wait for one peer that does not read.
    pub peer_bytes: usize,
    /// Speaks encrypted, with this key, to peers that have its public key from a connection file.
    /// Messages are then not signed, as in ipyparallel.
    pub curve: Option<ServerKey>,
    /// The file that records and engines are kept in; in memory only if not given.
    pub store: Option<PathBuf>,
    /// Whether the records and engines in that file are taken over. What is in it otherwise is set
    /// aside.
    pub restore: bool,
    /// Whether work that has finished is remembered at all.
    pub keeps_finished: bool,
}

impl Settings {
    /// Returns the settings of a controller on loopback, with the two files in `security_dir`.
    pub fn new(security_dir: &Path) -> Self {
        Self {
            client_file: security_dir.join("ipcontroller-client.json"),
            engine_file: security_dir.join("ipcontroller-engine.json"),
            ip: "127.0.0.1".to_owned(),
            folder: None,
            links: false,
            location: None,
            ping: PING,
            lost_after: LOST_AFTER,
            hwm: Hwm::Auto,
            scheme: Scheme::default(),
            cluster_id: String::new(),
            reuse: false,
            key: None,
            peer_bytes: PEER_BYTES,
            curve: None,
            store: None,
            restore: false,
            keeps_finished: true,
        }
    }
}

/// Why a controller could not start.
#[derive(Debug)]
pub enum ControllerError {
    /// Another controller answers at the addresses in the file.
    Alive {
        file: PathBuf,
    },
    File(FileError),
    Directory {
        path: PathBuf,
        source: io::Error,
    },
    Socket(wire::SocketError),
    Store(StoreError),
    Thread(io::Error),
}

impl fmt::Display for ControllerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive { file } => write!(
                f,
                "failed to start a controller on {}: the controller that wrote it is alive; \
                 stop that one, or choose another --cluster-id or --profile-dir",
                file.display()
            ),
            Self::File(source) => write!(f, "failed to start a controller: {source}"),
            Self::Directory { path, source } => {
                write!(f, "failed to make the directory {}: {source}", path.display())
            }
            Self::Socket(source) => write!(f, "failed to start a controller: {source}"),
            Self::Store(source) => write!(f, "failed to start a controller: {source}"),
            Self::Thread(source) => write!(f, "failed to start the controller's thread: {source}"),
        }
    }
}

impl std::error::Error for ControllerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Alive { .. } => None,
            Self::File(source) => Some(source),
            Self::Directory { source, .. } | Self::Thread(source) => Some(source),
            Self::Socket(source) => Some(source),
            Self::Store(source) => Some(source),
        }
    }
}

/// What a controller has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub n_engines: usize,
    /// Messages that were refused at the door: unsigned, forged, replayed, truncated, no JSON.
    pub dropped: wire::DroppedCounts,
    /// Messages that were well-formed and led to nothing.
    pub unused: prust_cluster::Counts,
    /// Whether it has ended, by `shutdown_request` or by `stop`.
    pub ended: bool,
}

/// A running controller. Dropping it stops it, as [`Controller::stop`] does.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    client_file: ClientFile,
    engine_file: EngineFile,
    stop: watch::Sender<bool>,
    status: watch::Receiver<Status>,
    thread: Option<JoinHandle<()>>,
}

/// A controller whose sockets are bound and whose files are written: peers can connect, nobody
/// answers yet.
#[derive(Debug)]
pub struct Prepared {
    controller: Controller,
    served: serve::Served,
    stopped: watch::Receiver<bool>,
    status: watch::Sender<Status>,
}

/// Starts a controller as a thread of its own. Its two files are written when this returns.
///
/// # Errors
/// `Alive` if a controller already answers at the addresses in the client file; else what refused.
pub fn start(settings: Settings, context: &wire::Context) -> Result<Controller, ControllerError> {
    prepare(settings, context)?.serve_apart()
}

/// Binds a controller's sockets and writes its files. Blocks for a moment.
///
/// # Errors
/// As [`start`].
pub fn prepare(settings: Settings, context: &wire::Context) -> Result<Prepared, ControllerError> {
    files::refuse_if_alive(&settings.client_file)?;
    // An engine that comes over TCP takes more than a dozen descriptors.
    if settings.folder.is_none()
        && let Err(error) = crate::process::allow_descriptors()
    {
        tracing::warn!(%error, "few engines and clients can connect");
    }
    let store = settings.store.as_ref().map(|path| Store::open(path, settings.restore));
    let store = store.transpose().map_err(ControllerError::Store)?;
    let bound = files::bind(&settings, context)?;
    let (stop, stopped) = watch::channel(false);
    let (status_sender, status) = watch::channel(Status::default());
    let served = serve::Served {
        sockets: bound.sockets,
        key: bound.client_file.key.clone(),
        settings: settings.clone(),
        store,
        connection_info: serde_json::to_value(&bound.engine_file).unwrap_or_default(),
    };
    let controller = Controller {
        client_file: bound.client_file,
        engine_file: bound.engine_file,
        settings,
        stop,
        status,
        thread: None,
    };
    files::write(&controller.settings, &controller.client_file, &controller.engine_file)?;
    Ok(Prepared { controller, served, stopped, status: status_sender })
}

impl Prepared {
    /// Serves in a thread of its own.
    fn serve_apart(self) -> Result<Controller, ControllerError> {
        let Self { mut controller, served, stopped, status } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ControllerError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("prust-controller".to_owned())
            .spawn(move || {
                // As a task of its own: waking the root future costs a system call each time.
                runtime.block_on(async {
                    let served = tokio::spawn(serve::serve(served, stopped, status)).await;
                    if let Err(Ok(panic)) = served.map_err(JoinError::try_into_panic) {
                        std::panic::resume_unwind(panic);
                    }
                });
            })
            .map_err(ControllerError::Thread)?;
        controller.thread = Some(thread);
        Ok(controller)
    }

    /// Serves as a task of the current runtime, where the guest is another: no thread has to be
    /// woken between the two.
    pub fn serve_guest(self) -> (Controller, Guest) {
        let Self { controller, mut served, stopped, status } = self;
        let guest = served.sockets.invite();
        tokio::spawn(serve::serve(served, stopped, status));
        (controller, guest)
    }
}

impl Controller {
    pub fn client_file(&self) -> &ClientFile {
        &self.client_file
    }

    pub fn engine_file(&self) -> &EngineFile {
        &self.engine_file
    }

    /// Returns what the controller has seen so far.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Waits until the status is as wanted, or the controller's thread is gone.
    pub async fn changed(&self, is_enough: impl FnMut(&Status) -> bool) {
        let mut status = self.status.clone();
        // An error means that the thread is gone; the status says so.
        let _ = status.wait_for(is_enough).await;
    }

    /// Waits until the controller has ended, for example because a client asked for it.
    pub async fn ended(&self) {
        self.changed(|status| status.ended).await;
    }

    /// Stops the controller, waits for its thread and removes its files (unless they are to be
    /// reused).
    pub fn stop(self) {
        drop(self);
    }

    /// As [`Self::stop`], but waits for its task, too.
    pub async fn end(self) {
        // The receiver is gone if the controller has ended by itself.
        let _ = self.stop.send(true);
        self.ended().await;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // The receiver is gone if the controller has ended by itself.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the controller's thread panicked");
        }
        if !self.settings.reuse {
            files::remove(&self.settings, &self.client_file);
        }
    }
}
