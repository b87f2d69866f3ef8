//! The executor: everything behind the kernel's face. Runs cells in the local worker, has engines
//! run them, performs magics, shows panels. Never reads a Jupyter message, never runs user code in
//! this process.
//!
//! One loop over one closed [`Event`]; long work (rustc, cargo, a running cell, the start of a
//! cluster) is a task that ends as another event. Reading order: `job` (a run, part by part),
//! `local` (a plain cell), `parallel` (a `%%px` cell), `cluster` (controller, engines, client),
//! `attach` (those of others), `undo`, `panels`, `dependencies`, `magic` (the rest).

mod attach;
mod cluster;
mod commands;
mod dependencies;
mod job;
mod local;
mod magic;
mod panels;
mod parallel;
mod preparing;
mod tell;
mod undo;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinHandle};

use self::attach::Reached;
use self::cluster::{Cluster, ClusterUp};
use self::job::{Compilation, Job};
use self::panels::Panels;
use self::parallel::Parallel;
use self::preparing::Preparing;
use self::tell::Fault;
use self::undo::History;
use super::seam::{Report, RunId, Work};
use crate::cell::Namespace;
use crate::client::ClientEvent;
use crate::compile::{self, CompileError, Compiler, Progress};
use crate::pool::PoolEvent;
use crate::process::others_first;
use crate::wire::profiles::Profiles;
use crate::worker::{self, Snapshots, Worker, WorkerEvent};

/// What the executor is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub compile: compile::Settings,
    /// This program: what starts engines.
    pub exe: PathBuf,
    /// Makes the ids of comms and displays unique.
    pub session: String,
    /// Engines of the default cluster.
    pub n_engines: usize,
    /// The machine's cores, which engines share.
    pub n_cores: usize,
    /// Where other clusters are found; `None` when the environment names no place.
    pub profiles: Option<Profiles>,
    /// Above this resident size, in bytes, cells get no snapshot.
    pub snapshot_bytes_max: u64,
}

/// Everything that can set the executor in motion.
enum Event {
    Work(Work),
    Opened(Result<Compiler, CompileError>),
    Worker(WorkerEvent),
    Compiled {
        job: u64,
        result: Compilation,
    },
    PxCompiled {
        tag: u64,
        results: Vec<parallel::GroupResult>,
    },
    Dependencies {
        job: u64,
        result: dependencies::Built,
    },
    /// Work for a cell ended by a panic of ours.
    Panicked {
        job: Option<u64>,
        message: String,
    },
    /// A step of building what cells link against.
    Preparing(String),
    DependencyProgress {
        job: u64,
        progress: Progress,
    },
    Shell {
        job: u64,
        /// How it ended badly, if it did.
        ended: Result<Option<String>, String>,
    },
    ShellOutput {
        stderr: bool,
        text: String,
    },
    /// Nothing more is read of the command until the face says so.
    ShellPaused,
    ClusterUp(Box<Result<ClusterUp, String>>),
    /// Another cluster answers, or why not.
    Attached {
        job: u64,
        result: Box<Result<Reached, String>>,
    },
    EnginesLate {
        attempt: u64,
    },
    /// The controller has had its time to answer.
    ControllerLate {
        tag: u64,
    },
    /// `cluster` numbers the cluster it came from: one that was stopped may still speak.
    Client {
        cluster: u64,
        event: ClientEvent,
    },
    Pool {
        cluster: u64,
        event: PoolEvent,
    },
    PanelDue {
        tag: u64,
    },
    PanelLate {
        job: u64,
    },
}

struct Executor {
    settings: Settings,
    reports: UnboundedSender<Report>,
    inbox: UnboundedSender<Event>,
    /// Runs what computes for long, beside all that waits for messages.
    computing: Handle,
    compiler: Option<Compiler>,
    preparing: Option<Preparing>,
    /// Lets a command's output be read on.
    shell_reads: Arc<Notify>,
    /// Why no cell can be run, in words.
    broken: Option<String>,
    worker: Option<Worker>,
    namespace: Namespace,
    history: History,
    /// Threads that the worker has lost in waking up, and the cell whose end it was.
    lost: Vec<String>,
    lost_at: String,
    job: Option<Job>,
    /// Numbers jobs, worker runs and parallel cells; never reused.
    number: u64,
    latest_run: RunId,
    /// Cells that asked for input: request of the face to request of the worker.
    inputs: BTreeMap<u64, u64>,
    cluster: Cluster,
    parallel: Parallel,
    panels: Panels,
    snapshots: Snapshots,
    /// Bytes of a value, by its type as it is written.
    sizes: BTreeMap<String, usize>,
    /// Every cell is followed by how long it took.
    timing: bool,
    /// Values are shown with their types.
    types: bool,
    /// What was told to the worker about showing values and its environment, to be told again to
    /// the next one.
    told: BTreeMap<String, String>,
    /// The user knows that the worker is too large for snapshots.
    said_unprotected: bool,
}

/// Starts the executor on the current runtime; what computes for long runs on the other one. Its
/// reports end when it has ended its processes.
pub fn start(
    settings: Settings,
    computing: Handle,
) -> (UnboundedSender<Work>, UnboundedReceiver<Report>) {
    // Unbounded: the face sends one run at a time, reports are coalesced by the face as they come.
    let (work, mut work_receiver) = unbounded_channel();
    let (reports, report_receiver) = unbounded_channel();
    let (inbox, events) = unbounded_channel();
    let to_inbox = inbox.clone();
    tokio::spawn(async move {
        while let Some(work) = work_receiver.recv().await {
            if to_inbox.send(Event::Work(work)).is_err() {
                break;
            }
        }
    });
    let panels = Panels::new(settings.session.clone());
    let executor = Executor {
        settings,
        reports,
        inbox,
        computing,
        compiler: None,
        preparing: None,
        shell_reads: Arc::default(),
        broken: None,
        worker: None,
        namespace: Namespace::default(),
        history: History::default(),
        lost: Vec::new(),
        lost_at: String::new(),
        job: None,
        number: 0,
        latest_run: 0,
        inputs: BTreeMap::new(),
        cluster: Cluster::default(),
        parallel: Parallel::default(),
        panels,
        snapshots: Snapshots::default(),
        sizes: BTreeMap::new(),
        timing: false,
        types: false,
        told: BTreeMap::new(),
        said_unprotected: false,
    };
    tokio::spawn(executor.run(events));
    (work, report_receiver)
}

impl Executor {
    async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        self.open();
        while let Some(event) = events.recv().await {
            if let Event::Work(Work::Shutdown { .. }) = event {
                break;
            }
            let answers = matches!(&event, Event::Client { event: ClientEvent::Answer { .. }, .. });
            self.handle(event);
            if answers {
                // A cell waits for it: it is on its way before what else has come is looked at.
                others_first().await;
            }
        }
        self.end().await;
    }

    /// Runs `work` beside the loop; it comes back as an event, also when it panics: a bug of ours
    /// must not leave its cell waiting.
    fn later(&self, work: impl Future<Output = Event> + Send + 'static) -> AbortHandle {
        self.tell_end(tokio::spawn(work))
    }

    /// As [`Self::later`], for what computes for so long that messages must not wait for it.
    fn compute(&self, work: impl Future<Output = Event> + Send + 'static) -> AbortHandle {
        self.tell_end(self.computing.spawn(work))
    }

    fn tell_end(&self, task: JoinHandle<Event>) -> AbortHandle {
        let inbox = self.inbox.clone();
        let handle = task.abort_handle();
        let job = self.job.as_ref().map(|job| job.id);
        tokio::spawn(async move {
            let event = match task.await {
                Ok(event) => event,
                Err(error) if error.is_panic() => {
                    Event::Panicked { job, message: panic_message(error) }
                }
                Err(_) => return,
            };
            // The loop may have ended meanwhile.
            let _ = inbox.send(event);
        });
        handle
    }

    /// Hands a room's events on to the loop.
    fn forward<T: Send + 'static>(
        &self,
        mut from: UnboundedReceiver<T>,
        wrap: impl Fn(T) -> Event + Send + 'static,
    ) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Some(event) = from.recv().await {
                if inbox.send(wrap(event)).is_err() {
                    break;
                }
            }
        });
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Work(work) => self.asked(work),
            Event::Preparing(step) => self.prepares(step),
            Event::Opened(opened) => self.opened(opened),
            Event::Worker(event) => self.worker_said(event),
            Event::Compiled { job, result } => self.compiled(job, result),
            Event::PxCompiled { tag, results } => self.px_compiled(tag, results),
            Event::Dependencies { job, result } => self.dependencies_built(job, result),
            Event::DependencyProgress { job, progress } => {
                self.dependencies_progress(job, progress)
            }
            Event::Shell { job, ended } => self.shell_ended(job, ended),
            Event::ShellOutput { stderr, text } => self.print(None, stderr, text),
            Event::ShellPaused => self.report(Report::Paused),
            Event::ClusterUp(result) => self.cluster_up(*result),
            Event::Attached { job, result } => self.attached(job, *result),
            Event::EnginesLate { attempt } => self.engines_late(attempt),
            Event::ControllerLate { tag } => self.controller_late(tag),
            Event::Client { cluster, event } if self.cluster.is(cluster) => self.client_said(event),
            Event::Pool { cluster, event } if self.cluster.is(cluster) => self.pool_said(event),
            Event::Client { .. } | Event::Pool { .. } => (),
            Event::PanelDue { tag } => self.panel_due(tag),
            Event::Panicked { job, message } => {
                if job.is_some() && self.job.as_ref().map(|job| job.id) == job {
                    let why = format!("prust itself failed, please report it: {message}");
                    self.fail(Fault::new("InternalError", why));
                }
            }
            Event::PanelLate { job } => {
                if self.job.as_ref().is_some_and(|running| running.id == job) {
                    self.panel_late();
                }
            }
        }
    }

    fn asked(&mut self, work: Work) {
        match work {
            Work::Run(run) => self.start_job(run),
            Work::Interrupt => self.interrupt(),
            Work::Input { request, answer } => self.input_came(request, answer),
            Work::ReadOn => {
                self.worker.iter().for_each(Worker::read_on);
                self.shell_reads.notify_waiters();
                self.engines_print_on();
            }
            Work::Comm { comm_id, data, .. } => self.comm_said(&comm_id, data),
            Work::CommClosed { comm_id } => self.panels.closed(&comm_id),
            Work::PageLoaded => self.panels.page_loaded(),
            Work::Shutdown { .. } => (),
        }
    }

    fn opened(&mut self, opened: Result<Compiler, CompileError>) {
        self.prepared(if opened.is_ok() { "Prepared" } else { "Not prepared" });
        match opened {
            Err(error) => self.broken = Some(error.to_string()),
            Ok(compiler) => {
                let version = compiler.version().lines().next().unwrap_or_default();
                let version = version.split(' ').nth(1).unwrap_or_default().to_owned();
                self.report(Report::Toolchain { version });
                compiler.sweep();
                let config = worker::Config {
                    exe: compiler.worker().to_owned(),
                    cwd: self.settings.compile.cwd.clone(),
                    env: Vec::new(),
                    snapshot_bytes_max: self.settings.snapshot_bytes_max,
                    ahead_bytes_max: worker::AHEAD_BYTES_MAX,
                };
                match worker::start(config) {
                    Ok((worker, events)) => {
                        self.worker = Some(worker);
                        self.forward(events, Event::Worker);
                        self.compiler = Some(compiler);
                    }
                    Err(error) => self.broken = Some(format!("cannot start a worker: {error}")),
                }
            }
        }
        self.advance();
    }

    /// Ends every process of this kernel.
    async fn end(mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop();
        }
        self.stop_cluster().await;
    }
}

/// What a panic said.
fn panic_message(error: tokio::task::JoinError) -> String {
    let payload = error.into_panic();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
