//! The cluster that the notebook uses: the kernel's own (a controller as a thread, a pool of
//! engines), started by the first parallel use, or one of others (`attach`); and the client of
//! either. Requests of cells wait here until its engines are announced. Runs no code itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::job::Stage;
use super::tell::Fault;
use super::{Event, Executor, Settings};
use crate::client::{self, Client, ClientEvent, Command, EngineInfo, OtherEngine};
use crate::compile::{Compiler, TOOLCHAIN};
use crate::controller::{self, Controller};
use crate::pool::{self, Pool, PoolConfig, PoolEvent};
use crate::process::Scratch;
use crate::wire;

/// Engines that are not announced after this are reported as missing.
const ENGINES_TIME: Duration = Duration::from_secs(20);
/// How long the engines of others may take to say what they are. Ours answer at once, also when
/// they are busy.
const ANSWERS_TIME: Duration = Duration::from_secs(5);

/// A cluster that can be used.
pub(super) struct ClusterUp {
    client: Client,
    client_events: Option<UnboundedReceiver<ClientEvent>>,
    owner: Owner,
}

/// Whose cluster it is.
enum Owner {
    /// This kernel's: it ends with it.
    Us(Box<Own>),
    /// Somebody else's, by its connection file: nothing of it is ever ended from here.
    Others(PathBuf),
}

/// The processes of the kernel's own cluster.
struct Own {
    controller: Controller,
    pool: Pool,
    pool_events: Option<UnboundedReceiver<PoolEvent>>,
    scratch: Scratch,
    /// Where large values are, if the machine has room for files in memory.
    _shared: Option<Scratch>,
}

impl ClusterUp {
    /// A cluster of others.
    pub(super) fn attached(
        file: PathBuf,
        client: Client,
        events: UnboundedReceiver<ClientEvent>,
    ) -> Self {
        Self { client, client_events: Some(events), owner: Owner::Others(file) }
    }
}

#[derive(Default)]
enum State {
    #[default]
    Off,
    Starting,
    Up(Box<ClusterUp>),
}

/// A cell's request that waits for the cluster.
struct Waiting {
    request: u64,
    cell: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// What is known of the cluster.
#[derive(Default)]
pub(super) struct Cluster {
    state: State,
    /// Which of this kernel's clusters it is.
    number: u64,
    waiting: Vec<Waiting>,
    pub(super) live: Vec<EngineInfo>,
    /// Engines that are there and do not take Rust.
    pub(super) others: Vec<OtherEngine>,
    /// Engine processes by the uuid they were started with.
    pids: BTreeMap<String, u32>,
    wanted: usize,
    /// Numbers the waits for engines, so that an old timer is recognised.
    attempt: u64,
    late: bool,
}

impl Cluster {
    /// Whether an event of this cluster is still of interest.
    pub(super) fn is(&self, number: u64) -> bool {
        self.number == number
    }

    /// The connection file of the cluster of others that is used.
    pub(super) fn attached_to(&self) -> Option<&Path> {
        match &self.state {
            State::Up(up) => match &up.owner {
                Owner::Us(_) => None,
                Owner::Others(file) => Some(file),
            },
            State::Off | State::Starting => None,
        }
    }

    /// Whether a connection file is that of the kernel's own cluster.
    pub(super) fn is_own(&self, file: &Path) -> bool {
        let State::Up(up) = &self.state else { return false };
        matches!(&up.owner, Owner::Us(own) if file.starts_with(own.scratch.path()))
    }

    /// Engines that have said that they are none of ours.
    fn n_answered(&self) -> usize {
        self.others.iter().filter(|other| other.implementation.is_some()).count()
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting)
    }

    /// The engines that do not take Rust, in a sentence, if there are any.
    pub(super) fn others_in_words(&self) -> Option<String> {
        let what = |other: &OtherEngine| match &other.implementation {
            Some(implementation) => format!("{} ({implementation})", other.id),
            None => format!("{} (has not answered yet)", other.id),
        };
        let others: Vec<String> = self.others.iter().map(what).collect();
        (!others.is_empty())
            .then(|| format!("%%px and views take Rust engines only, not {}", others.join(", ")))
    }
}

/// What the default cluster was asked to be.
fn pool_config(
    settings: &Settings,
    toolchain: Option<String>,
    directory: &std::path::Path,
    n_engines: usize,
) -> PoolConfig {
    let threads = (settings.n_cores / n_engines.max(1)).max(1).to_string();
    // Engines share the cores: without this, rayon in each would take them all.
    let threads = Some(("RAYON_NUM_THREADS".to_owned(), threads));
    let toolchain = toolchain.map(|toolchain| (TOOLCHAIN.to_owned(), toolchain));
    PoolConfig {
        exe: settings.exe.clone(),
        file: directory.join("ipcontroller-engine.json"),
        cwd: settings.compile.cwd.clone(),
        n_engines,
        env: threads.into_iter().chain(toolchain).collect(),
        args: vec!["--log-level=WARN".to_owned()],
        log: Some(directory.join("engines.log")),
    }
}

async fn bring_up(
    settings: Settings,
    toolchain: Option<String>,
    n_engines: usize,
    submissions_before: u64,
) -> Result<ClusterUp, String> {
    // Each cluster its own: one that is still ending removes its directory.
    let scratch = Scratch::new()
        .map_err(|error| format!("cannot make a directory for the cluster: {error}"))?;
    let directory = scratch.path();
    let context = wire::Context::new();
    let mut of_controller = controller::Settings::new(directory);
    of_controller.links = true;
    // Nobody else may enter it.
    of_controller.folder = Some(directory.to_owned());
    let for_controller = context.clone();
    let prepared =
        tokio::task::spawn_blocking(move || controller::prepare(of_controller, &for_controller));
    let prepared = prepared
        .await
        .map_err(|error| format!("the controller did not start: {error}"))?
        .map_err(|error| error.to_string())?;
    let (controller, guest) = prepared.serve_guest();
    let (pool, pool_events) = pool::start(pool_config(&settings, toolchain, directory, n_engines));
    let shared = Scratch::in_memory().ok();
    let folder = shared.as_ref().and_then(|shared| shared.path().to_str());
    let of_client = client::Settings {
        submissions_before,
        shared_folder: folder.map(Into::into),
        ..client::Settings::default()
    };
    let (client, client_events) = client::join(guest, &controller.client_file().key, of_client);
    let own = Own { controller, pool, pool_events: Some(pool_events), scratch, _shared: shared };
    Ok(ClusterUp { client, client_events: Some(client_events), owner: Owner::Us(Box::new(own)) })
}

impl Executor {
    /// Whether engines can be used now; if not, the cluster is being started and the step is to be
    /// taken again when it is up.
    pub(super) fn cluster_ready(&mut self) -> bool {
        if let State::Off = self.cluster.state {
            self.start_cluster(self.settings.n_engines);
        }
        self.engines_ready()
    }

    fn engines_ready(&self) -> bool {
        let up = matches!(self.cluster.state, State::Up(_));
        let n_there = self.cluster.live.len() + self.cluster.n_answered();
        up && (n_there >= self.cluster.wanted || self.cluster.late)
    }

    /// Starts a cluster, or changes the size of the one that runs.
    pub(super) fn start_cluster(&mut self, n_engines: usize) {
        match &self.cluster.state {
            State::Starting => (),
            State::Up(up) => match &up.owner {
                Owner::Us(own) => own.pool.resize(n_engines),
                Owner::Others(_) => return,
            },
            State::Off => {
                self.cluster.state = State::Starting;
                let settings = self.settings.clone();
                let toolchain = self.compiler.as_ref().and_then(Compiler::toolchain);
                let before = self.panels.newest().unwrap_or(0);
                self.later(async move {
                    let up = bring_up(settings, toolchain, n_engines, before).await;
                    Event::ClusterUp(Box::new(up))
                });
            }
        }
        self.want_engines(n_engines, ENGINES_TIME);
    }

    /// So many are expected, within that time.
    fn want_engines(&mut self, n_engines: usize, within: Duration) {
        self.cluster.wanted = n_engines;
        self.cluster.late = false;
        self.cluster.attempt += 1;
        let attempt = self.cluster.attempt;
        self.later(async move {
            tokio::time::sleep(within).await;
            Event::EnginesLate { attempt }
        });
    }

    pub(super) fn cluster_up(&mut self, result: Result<ClusterUp, String>) {
        match result {
            Err(why) => {
                self.cluster.state = State::Off;
                self.cluster.waiting.clear();
                self.fail(Fault::new("ClusterError", why));
                if let Some(worker) = &self.worker {
                    worker.interrupt();
                }
            }
            Ok(up) => self.use_cluster(up),
        }
    }

    fn use_cluster(&mut self, mut up: ClusterUp) {
        let cluster = self.next_number();
        self.cluster.number = cluster;
        if let Some(events) = up.client_events.take() {
            self.forward(events, move |event| Event::Client { cluster, event });
        }
        if let Owner::Us(own) = &mut up.owner
            && let Some(events) = own.pool_events.take()
        {
            self.forward(events, move |event| Event::Pool { cluster, event });
        }
        self.cluster.state = State::Up(Box::new(up));
        self.cluster_changed();
    }

    /// Uses a cluster of others in the place of the one before, which is left or ended. Its
    /// `n_engines` engines are asked what they are.
    pub(super) fn use_others(&mut self, up: ClusterUp, n_engines: usize) {
        if let Some(ending) = self.take_cluster() {
            tokio::spawn(ending);
        }
        self.want_engines(n_engines, ANSWERS_TIME);
        self.use_cluster(up);
    }

    pub(super) fn others_changed(&mut self, others: Vec<OtherEngine>) {
        self.cluster.others = others;
        self.cluster_changed();
    }

    pub(super) fn engines_late(&mut self, attempt: u64) {
        if attempt == self.cluster.attempt && !self.engines_ready() {
            let (live, wanted) = (self.cluster.live.len(), self.cluster.wanted);
            self.cluster.late = true;
            self.remark(&match self.log_of_engines() {
                Some(log) => format!(
                    "{live} of {wanted} engines are ready after {} s; going on with those. \
                     Their log: {}",
                    ENGINES_TIME.as_secs(),
                    log.display(),
                ),
                None => format!(
                    "{live} of {wanted} engines have said within {} s that they take Rust; going \
                     on with those",
                    ANSWERS_TIME.as_secs(),
                ),
            });
            self.cluster_changed();
        }
    }

    /// Goes on with what waited for the cluster.
    fn cluster_changed(&mut self) {
        if !self.engines_ready() {
            return;
        }
        for waiting in std::mem::take(&mut self.cluster.waiting) {
            let Waiting { request, cell, head, body } = waiting;
            self.command(Command::Request { from: request, cell, head, body });
        }
        if matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Cluster)) {
            self.go_on();
        }
    }

    /// A request of a cell for the cluster client.
    pub(super) fn cluster_request(&mut self, request: u64, head: Vec<u8>, body: Vec<u8>) {
        let cell = self.job.as_ref().map(|job| job.run.label.clone()).unwrap_or_default();
        if self.cluster_ready() {
            self.command(Command::Request { from: request, cell, head, body });
        } else {
            self.cluster.waiting.push(Waiting { request, cell, head, body });
        }
    }

    pub(super) fn interrupt_requests(&mut self) {
        self.cluster.waiting.clear();
        self.command(Command::Interrupt);
    }

    /// Says something to the cluster client, if there is one.
    pub(super) fn command(&self, command: Command) {
        if let State::Up(up) = &self.cluster.state {
            up.client.command(command);
        }
    }

    /// Where the engines of the kernel's own cluster write.
    fn log_of_engines(&self) -> Option<PathBuf> {
        let State::Up(up) = &self.cluster.state else { return Some(PathBuf::new()) };
        match &up.owner {
            Owner::Us(own) => Some(own.scratch.path().join("engines.log")),
            Owner::Others(_) => None,
        }
    }

    pub(super) fn engines_changed(&mut self, live: Vec<EngineInfo>, lost: Vec<(u32, String)>) {
        for (id, cause) in lost {
            self.parallel.forget_engine(id);
            if matches!(self.cluster.state, State::Up(_)) {
                self.remark(&format!("engine {id} was lost: {cause}"));
            }
        }
        self.cluster.live = live;
        self.cluster_changed();
    }

    pub(super) fn pool_said(&mut self, event: PoolEvent) {
        match event {
            PoolEvent::Started { uuid, pid } => {
                self.cluster.pids.insert(uuid, pid);
            }
            PoolEvent::Died { uuid, cause, replaced } => {
                self.cluster.pids.remove(&uuid);
                if replaced {
                    self.cluster.late = false;
                }
                self.command(Command::EngineGone { uuid, cause });
            }
            PoolEvent::Left { uuid } => {
                self.cluster.pids.remove(&uuid);
                self.cluster.wanted = self.cluster.wanted.min(self.cluster.pids.len());
                self.cluster_changed();
            }
            PoolEvent::GaveUp { cause } => {
                self.remark(&format!("no more engines are started: {cause}"));
                self.cluster.late = true;
                self.cluster_changed();
            }
            PoolEvent::Stopped => (),
        }
    }

    /// Ends the kernel's own cluster and waits until its processes are gone; leaves one of others.
    pub(super) async fn stop_cluster(&mut self) {
        if let Some(stopping) = self.take_cluster() {
            stopping.await;
        }
    }

    /// Takes the cluster out of use; the future ends its processes, should they be ours.
    pub(super) fn take_cluster(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let State::Up(up) = std::mem::take(&mut self.cluster.state) else { return None };
        self.cluster = Cluster { attempt: self.cluster.attempt, ..Cluster::default() };
        self.parallel.forget_engines();
        self.end_panels();
        Some(async move {
            up.client.command(Command::Close);
            let Owner::Us(own) = up.owner else { return };
            let Own { controller, pool, scratch, .. } = *own;
            pool.stop();
            let _ = tokio::time::timeout(Duration::from_secs(1), controller.end()).await;
            drop(scratch);
        })
    }

    /// `%cluster status` of the kernel's own cluster, in words.
    pub(super) fn cluster_status(&self) -> String {
        let State::Up(up) = &self.cluster.state else {
            return match self.cluster.state {
                State::Starting => "the cluster is starting".to_owned(),
                _ => "no cluster runs; the first parallel cell starts one, or %cluster start -n N"
                    .to_owned(),
            };
        };
        let Owner::Us(own) = &up.owner else { return String::new() };
        let status = own.controller.status();
        let mut lines = vec![format!(
            "{} engines, connection file {}",
            self.cluster.live.len(),
            own.scratch.path().join("ipcontroller-client.json").display()
        )];
        lines.extend(self.cluster.live.iter().map(
            |engine| match self.cluster.pids.get(&engine.uuid) {
                Some(pid) => format!("  engine {}: process {pid}", engine.id),
                None => format!("  engine {}", engine.id),
            },
        ));
        let dropped = status.dropped.total();
        if dropped > 0 {
            lines.push(format!(
                "  {dropped} messages were refused (unsigned, forged, replayed or broken)"
            ));
        }
        lines.join("\n")
    }
}
