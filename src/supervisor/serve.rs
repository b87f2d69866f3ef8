//! The supervisor: a controller as a thread, a pool of engines, a record of both. It ends on SIGINT
//! and SIGTERM, or when a client shuts the controller down, and takes all of its processes along.
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use prust_cluster::{Millis, iso};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use super::arguments::Options;
use super::record::{Claim, Files, Record};
use crate::client::ask::Questions;
use crate::compile::{self, TOOLCHAIN};
use crate::controller::{self, Controller, ControllerError};
use crate::pool::{self, Pool, PoolConfig, PoolEvent};
use crate::{process, wire};

/// Engines that are not announced after this are not waited for: the cluster goes on without them.
const ENGINES_WITHIN: Duration = Duration::from_secs(60);

/// How long the pool and the controller may take to end. Longer than the pool gives its engines.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Why a cluster could not start.
#[derive(Debug)]
pub(super) enum StartError {
    Running {
        place: String,
        record: Option<Box<Record>>,
    },
    Directory {
        path: PathBuf,
        source: io::Error,
    },
    Controller(ControllerError),
    Engines {
        cause: String,
        log: Option<PathBuf>,
    },
    Process(io::Error),
    /// What the daemon has told.
    Told(String),
    /// The daemon ended without a word.
    Daemon {
        status: String,
        log: PathBuf,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { place, record } => {
                f.write_str("a cluster runs there already")?;
                if let Some(record) = record {
                    let file = record.client_file.display();
                    write!(f, " (process {} on {}, {file})", record.pid, record.host)?;
                }
                write!(
                    f,
                    "; prust cluster stop {place} ends it, another --cluster-id starts another"
                )
            }
            Self::Directory { path, source } => {
                write!(f, "failed to write in {}: {source}", path.display())
            }
            Self::Controller(source) => write!(f, "{source}"),
            Self::Engines { cause, log } => {
                write!(f, "no engine could be started: {cause}")?;
                match log {
                    Some(log) => write!(f, "; their log is {}", log.display()),
                    None => Ok(()),
                }
            }
            Self::Process(source) => write!(f, "failed to start a process: {source}"),
            Self::Told(told) => f.write_str(told),
            Self::Daemon { status, log } => {
                write!(
                    f,
                    "the cluster ended while it started ({status}); its log is {}",
                    log.display()
                )
            }
        }
    }
}

/// What the daemon tells the command that started it, as one line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Ready(Ready),
    Failed(String),
}

/// A cluster that can be used.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) record: Record,
    pub(super) n_ready: usize,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, n_ready } = self;
        let file = record.client_file.display();
        let n = match record.n_engines {
            1 => "1 engine".to_owned(),
            n => format!("{n} engines"),
        };
        let what = if record.detached { "in the background" } else { "until Ctrl-C" };
        writeln!(f, "a cluster of {n} runs {what} (process {})", record.pid)?;
        if *n_ready < record.n_engines {
            let seconds = ENGINES_WITHIN.as_secs();
            write!(f, "  {n_ready} of them are ready after {seconds} s, the others still start; ")?;
            writeln!(f, "prust cluster status tells when")?;
        }
        writeln!(f, "  in a notebook: %cluster attach {file}")?;
        writeln!(
            f,
            "  in Python:     ipyparallel.Client({:?})",
            record.client_file.display().to_string()
        )?;
        match &record.log {
            Some(log) => writeln!(f, "  log:           {}", log.display()),
            None => Ok(()),
        }
    }
}

/// Runs a cluster until it is told to end; returns the exit code.
pub(super) fn run(options: Options) -> i32 {
    // A second subscriber is refused, and the first one is as good.
    let _ = tracing_subscriber::fmt()
        .with_max_level(options.level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .try_init();
    let daemon = options.daemon;
    match supervise(options) {
        Ok(()) => 0,
        Err(error) if daemon => {
            tracing::error!("{error}");
            tell(&Told::Failed(error.to_string()));
            1
        }
        Err(error) => super::fail(&error, 1),
    }
}

fn supervise(options: Options) -> Result<(), StartError> {
    let place = &options.place;
    let taken = Claim::take(place).map_err(|source| {
        let path = place.profile_dir.clone();
        StartError::Directory { path, source }
    })?;
    let Some(claim) = taken else {
        let record = Files::of(place).read().map(Box::new);
        return Err(StartError::Running { place: place.options(), record });
    };
    if options.daemon {
        super::detach::empty_log(place);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Process)?;
    runtime.block_on(async {
        tokio::spawn(process::collect_orphans());
        let mut signals = Signals::new().map_err(StartError::Process)?;
        let mut cluster = Cluster::start(options, claim).await?;
        let outcome = cluster.serve(&mut signals).await;
        cluster.stop().await;
        outcome
    })
}

/// What asks a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
            _ = self.hangup.recv() => (),
        }
    }
}

/// All that a supervisor holds.
struct Cluster {
    controller: Controller,
    pool: Pool,
    events: UnboundedReceiver<PoolEvent>,
    questions: Questions,
    record: Record,
    claim: Claim,
    daemon: bool,
}

impl Cluster {
    async fn start(options: Options, claim: Claim) -> Result<Self, StartError> {
        let place = &options.place;
        let mut settings = controller::Settings::new(&place.profile_dir.join("security"));
        settings.client_file = place.client_file();
        settings.engine_file = place.engine_file();
        settings.cluster_id = place.cluster_id.clone();
        settings.links = true;
        let keeps_file = options.daemon || options.restore;
        settings.store = keeps_file.then(|| place.store_file());
        settings.restore = options.restore;
        settings.ip = options.ip;
        settings.location = options.location;
        let asks = compile::Settings {
            rustc: options.rustc,
            cargo: options.cargo,
            ..compile::Settings::default()
        };
        let found = tokio::task::spawn_blocking(move || compile::toolchain(&asks));
        let context = wire::Context::new();
        let controller = controller::start(settings, &context).map_err(StartError::Controller)?;
        let asked = Questions::open(&context, controller.client_file()).await;
        let questions =
            asked.map_err(|error| StartError::Process(io::Error::other(error.to_string())))?;
        let toolchain = found.await.ok().flatten();
        let level = format!("--log-level={}", options.level.to_string().to_uppercase());
        let (pool, events) = pool::start(PoolConfig {
            exe: std::env::current_exe().map_err(StartError::Process)?,
            file: place.engine_file(),
            cwd: options.work_dir,
            n_engines: options.n_engines,
            env: toolchain.map(|told| (TOOLCHAIN.to_owned(), told)).into_iter().collect(),
            args: vec![level],
            log: None,
        });
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = Millis(u64::try_from(since.as_millis()).unwrap_or_default());
        let record = Record {
            cluster_id: place.cluster_id.clone(),
            pid: std::process::id(),
            host: process::hostname(),
            started: iso(millis),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            n_engines: options.n_engines,
            detached: options.daemon,
            client_file: place.client_file(),
            log: options.daemon.then(|| super::detach::log_path(place)),
            engines: BTreeMap::new(),
        };
        let daemon = options.daemon;
        let cluster = Self { controller, pool, events, questions, record, claim, daemon };
        cluster.write();
        Ok(cluster)
    }

    /// Runs until somebody asks for the end.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        let late = tokio::time::sleep(ENGINES_WITHIN);
        tokio::pin!(late);
        let mut told = false;
        loop {
            let n_wanted = self.record.n_engines;
            tokio::select! {
                biased;
                () = signals.next() => return Ok(()),
                () = self.controller.ended() => return Ok(()),
                () = self.controller.changed(|status| status.n_engines >= n_wanted), if !told => {
                    told = true;
                    self.ready();
                }
                () = &mut late, if !told => {
                    told = true;
                    self.ready();
                }
                Some(event) = self.events.recv() => {
                    let gave_up = self.pool_said(event).await;
                    if let Some(cause) = gave_up.filter(|_| !told) {
                        let log = self.record.log.clone();
                        return Err(StartError::Engines { cause, log });
                    }
                }
            }
        }
    }

    /// Tells whoever started it that it can be used.
    fn ready(&self) {
        let n_ready = self.controller.status().n_engines;
        let ready = Ready { record: self.record.clone(), n_ready };
        tracing::info!(n_ready, "the cluster is ready");
        if self.daemon {
            tell(&Told::Ready(ready));
        } else {
            super::say(&ready.to_string());
        }
    }

    /// Takes over what happened to an engine; why no more are started, if so.
    async fn pool_said(&mut self, event: PoolEvent) -> Option<String> {
        match event {
            PoolEvent::Started { uuid, pid } => {
                self.record.engines.insert(uuid, pid);
            }
            PoolEvent::Died { uuid, cause, replaced } => {
                tracing::warn!(%uuid, %cause, replaced, "an engine died");
                self.record.engines.remove(&uuid);
                if let Err(error) = self.questions.engine_gone(&uuid, &cause).await {
                    // Its heart will be missed.
                    tracing::warn!(%uuid, %error, "the controller was not told");
                }
            }
            PoolEvent::Left { uuid } => {
                self.record.engines.remove(&uuid);
            }
            PoolEvent::GaveUp { cause } => {
                tracing::error!(%cause, "no more engines are started");
                return Some(cause);
            }
            PoolEvent::Stopped => (),
        }
        self.write();
        None
    }

    fn write(&self) {
        if let Err(error) = self.claim.write(&self.record) {
            tracing::warn!(%error, "the cluster's record was not written");
        }
    }

    /// Ends the engines, then the controller, then gives the place back.
    async fn stop(mut self) {
        self.pool.stop();
        let stopped = async {
            while let Some(event) = self.events.recv().await {
                if event == PoolEvent::Stopped {
                    break;
                }
            }
        };
        if tokio::time::timeout(END_WITHIN, stopped).await.is_err() {
            tracing::error!("engines did not end");
        }
        drop(self.questions);
        // Joins the controller's thread; its files go with it.
        self.controller.stop();
        drop(self.claim);
    }
}

/// Writes a line for the command that started this daemon.
fn tell(told: &Told) {
    let line = serde_json::to_string(told).unwrap_or_default();
    // It may have been interrupted meanwhile.
    let _ = writeln!(io::stdout(), "{line}");
}
