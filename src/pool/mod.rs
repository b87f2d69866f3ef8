//! The engines of this process's own cluster (a kernel's, or a supervisor's): starts them, watches
//! them end, replaces those that died, stops them all. Each holds the reading end of a pipe whose
//! writing end is here, so that they end when this process does, however it ends. Knows no message
//! and no engine id; who listens to [`PoolEvent`] tells the controller.
use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::process::{self, Signal};
use crate::wire::connection::ENGINE_UUID;

/// Engines replaced within `RESTARTS_PERIOD`; after more the pool gives up: what kills them so fast
/// will kill the next one too. Each engine of a pool may be lost twice, and so many in any case.
pub const RESTARTS_MAX: usize = 8;
const RESTARTS_PER_ENGINE: usize = 2;
pub const RESTARTS_PERIOD: Duration = Duration::from_secs(30);
/// How long engines may take to end after their pipe is closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// How the engines of a pool are started.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The program that knows `engine`: this one.
    pub exe: PathBuf,
    /// The engines' connection file.
    pub file: PathBuf,
    /// Where their cells run.
    pub cwd: PathBuf,
    pub n_engines: usize,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Appended to each engine's arguments.
    pub args: Vec<String>,
    /// Where their log goes; to our own standard error if absent.
    pub log: Option<PathBuf>,
}

/// What happens to a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolEvent {
    Started {
        uuid: String,
        pid: u32,
    },
    /// Ended unasked. The controller should hear of it: its heart would notice seconds later.
    Died {
        uuid: String,
        cause: String,
        /// Whether another is being started in its place.
        replaced: bool,
    },
    /// Ended because somebody asked: a client's shutdown, or a smaller pool.
    Left {
        uuid: String,
    },
    /// Too many died too fast, or none can be started; no more are, until `resize`.
    GaveUp {
        cause: String,
    },
    /// The answer to `stop`; nothing follows.
    Stopped,
}

enum Order {
    Resize(usize),
    Stop,
}

/// A handle to a pool; clones speak to the same one. The last one dropped stops it.
#[derive(Clone, Debug)]
pub struct Pool {
    orders: UnboundedSender<Order>,
}

/// Starts `config.n_engines` engines. Call within a tokio runtime; returns at once.
pub fn start(config: PoolConfig) -> (Pool, UnboundedReceiver<PoolEvent>) {
    // Both carry a few messages per engine started or ended.
    let (orders, receiver) = unbounded_channel();
    let (events, event_receiver) = unbounded_channel();
    let owner = Owner {
        n_wanted: config.n_engines,
        config,
        events,
        members: BTreeMap::new(),
        exits: JoinSet::new(),
        restarts: Restarts::default(),
    };
    tokio::spawn(owner.run(receiver));
    (Pool { orders }, event_receiver)
}

impl Pool {
    /// Starts or ends engines until there are `n_engines`; also tries again after giving up.
    pub fn resize(&self, n_engines: usize) {
        // A stopped pool has said so.
        let _ = self.orders.send(Order::Resize(n_engines));
    }

    /// Ends every engine: closes its pipe, then SIGTERM, then SIGKILL. [`PoolEvent::Stopped`]
    /// follows.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
    }
}

/// One running engine.
struct Member {
    pid: u32,
    /// Its end of file asks the engine to end. `None`: that has been asked.
    pipe: Option<ChildStdin>,
    started: Instant,
}

struct Owner {
    config: PoolConfig,
    n_wanted: usize,
    events: UnboundedSender<PoolEvent>,
    members: BTreeMap<String, Member>,
    exits: JoinSet<(String, io::Result<ExitStatus>)>,
    restarts: Restarts,
}

impl Owner {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        self.fill();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Resize(n_engines)) => {
                        self.n_wanted = n_engines;
                        self.restarts = Restarts::default();
                        self.shrink();
                        self.fill();
                    }
                    Some(Order::Stop) | None => return self.stop().await,
                },
                Some(exit) = self.exits.join_next() => {
                    if let Ok((uuid, status)) = exit {
                        self.exited(&uuid, status);
                    }
                }
            }
        }
    }

    fn tell(&self, event: PoolEvent) {
        // Whoever stopped listening still wants the engines.
        let _ = self.events.send(event);
    }

    fn fill(&mut self) {
        while self.n_present() < self.n_wanted {
            if let Err(error) = self.start_one() {
                self.n_wanted = self.n_present();
                let exe = self.config.exe.display();
                self.tell(PoolEvent::GaveUp { cause: format!("cannot start {exe}: {error}") });
            }
        }
    }

    fn start_one(&mut self) -> io::Result<()> {
        let uuid = uuid::Uuid::new_v4().to_string();
        let mut command = std::process::Command::new(&self.config.exe);
        command
            .arg("engine")
            .arg(format!("--file={}", self.config.file.display()))
            .arg("--owner-stdin")
            .args(&self.config.args)
            .current_dir(&self.config.cwd)
            // Command lines are seen by everybody.
            .env(ENGINE_UUID, &uuid)
            .envs(threads_per_engine(self.n_wanted))
            .envs(self.config.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        if let Some(log) = &self.config.log {
            command.stderr(OpenOptions::new().create(true).append(true).open(log)?);
        }
        process::in_own_group(&mut command);
        let mut child = process::spawn_async(Command::from(command).kill_on_drop(true))?;
        let pid = child.id().unwrap_or_default();
        let member = Member { pid, pipe: child.stdin.take(), started: Instant::now() };
        self.members.insert(uuid.clone(), member);
        self.tell(PoolEvent::Started { uuid: uuid.clone(), pid });
        self.exits.spawn(async move { (uuid, child.wait().await) });
        Ok(())
    }

    /// Asks the youngest engines to end until no more than wanted are left.
    fn shrink(&mut self) {
        while self.n_present() > self.n_wanted {
            let staying = self.members.values_mut().filter(|member| member.pipe.is_some());
            let Some(member) = staying.max_by_key(|member| member.started) else { return };
            member.pipe = None;
        }
    }

    fn n_present(&self) -> usize {
        self.members.values().filter(|member| member.pipe.is_some()).count()
    }

    fn exited(&mut self, uuid: &str, status: io::Result<ExitStatus>) {
        let Some(member) = self.members.remove(uuid) else { return };
        let uuid = uuid.to_owned();
        if member.pipe.is_none() {
            return self.tell(PoolEvent::Left { uuid });
        }
        if status.as_ref().is_ok_and(ExitStatus::success) {
            // A client shut it down: it is not to come back.
            self.n_wanted = self.n_wanted.saturating_sub(1);
            return self.tell(PoolEvent::Left { uuid });
        }
        let cause = cause(status);
        let n_max = restarts_max(self.n_wanted);
        let replaced = self.restarts.may_start(Instant::now(), n_max);
        self.tell(PoolEvent::Died { uuid, cause: cause.clone(), replaced });
        if replaced {
            return self.fill();
        }
        self.n_wanted = self.n_present();
        let seconds = RESTARTS_PERIOD.as_secs();
        let cause = format!(
            "{n_max} engines had to be replaced within {seconds} s, the last one ended with \
             {cause}"
        );
        self.tell(PoolEvent::GaveUp { cause });
    }

    /// Ends all engines, more firmly each time.
    async fn stop(mut self) {
        for member in self.members.values_mut() {
            member.pipe = None;
        }
        self.wait_for_all().await;
        for signal in [Signal::Terminate, Signal::Kill] {
            for member in self.members.values() {
                // One that has just ended needs no signal.
                let _ = process::signal_group(member.pid, signal);
            }
            self.wait_for_all().await;
        }
        self.tell(PoolEvent::Stopped);
    }

    async fn wait_for_all(&mut self) {
        let until = tokio::time::Instant::now() + GRACE;
        while !self.members.is_empty()
            && let Ok(Some(exit)) = timeout_at(until, self.exits.join_next()).await
        {
            if let Ok((uuid, status)) = exit {
                self.exited(&uuid, status);
            }
        }
    }
}

/// The latest replacements, to tell a lost engine from a pool that cannot live.
#[derive(Debug, Default)]
struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Whether one more replacement is within the limit; counts it if so.
    fn may_start(&mut self, now: Instant, n_max: usize) -> bool {
        while self.0.front().is_some_and(|earlier| now - *earlier >= RESTARTS_PERIOD) {
            self.0.pop_front();
        }
        let within = self.0.len() < n_max;
        if within {
            self.0.push_back(now);
        }
        within
    }
}

/// How many engines of a pool are replaced within `RESTARTS_PERIOD`.
fn restarts_max(n_engines: usize) -> usize {
    RESTARTS_MAX.max(RESTARTS_PER_ENGINE * n_engines)
}

/// How an engine ended, in words.
fn cause(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("killed by signal {signal}"),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "an unknown end".to_owned(),
        },
        Err(error) => format!("an unknown end ({error})"),
    }
}

/// Thread pools inside engines share the cores instead of each taking all.
fn threads_per_engine(n_engines: usize) -> [(&'static str, String); 3] {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = (n_cores / n_engines.max(1)).max(1).to_string();
    ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "TOKIO_WORKER_THREADS"]
        .map(|name| (name, n_threads.clone()))
}

#[cfg(test)]
mod tests;
