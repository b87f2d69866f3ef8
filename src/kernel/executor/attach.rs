//! `%cluster`: the kernel's own cluster by its magic, and those of others: attach, detach, start
//! one that outlives the kernel, ask how it is. What belongs to others is never ended from here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command as Program;

use super::cluster::ClusterUp;
use super::job::{Performed, Stage, Step};
use super::tell::Fault;
use super::{Event, Executor, Settings};
use crate::client::ask::Questions;
use crate::client::report::{Process, QUEUE_REQUEST, Report, STATUS_REQUEST};
use crate::client::{self, Command, Endpoints};
use crate::kernel::magics::{Cluster, Magic};
use crate::wire::connection::{ClientFile, client_file_path};
use crate::{process, wire};

/// How long a controller that was asked how it is may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A cluster of others that answers.
pub(super) struct Reached {
    up: ClusterUp,
    /// As the controller counts them.
    n_engines: usize,
}

impl Executor {
    pub(super) fn cluster_magic(&mut self, cluster: Cluster) -> Performed {
        let verb = match &cluster {
            Cluster::Status => return self.show_cluster(),
            Cluster::Attach { to } => return self.attach(to),
            Cluster::Detach => return self.detach(),
            Cluster::Start { detach: true, n, cluster_id } => {
                return self.start_detached(*n, cluster_id.clone());
            }
            Cluster::Start { .. } => "start",
            Cluster::Stop => "stop",
            Cluster::Restart => "restart",
        };
        if let Some(file) = self.cluster.attached_to() {
            let why = format!(
                "%cluster {verb} is about the notebook's own cluster, and the notebook is attached \
                 to {}: %cluster detach leaves that one, prust cluster stop (in a terminal) ends \
                 it",
                file.display()
            );
            return Err(Fault::new("ClusterError", why));
        }
        if !matches!(cluster, Cluster::Start { .. })
            && let Some(stopping) = self.take_cluster()
        {
            tokio::spawn(stopping);
        }
        match cluster {
            Cluster::Start { n, .. } => {
                self.start_cluster(n.map_or(self.settings.n_engines, |n| n as usize));
                self.wait_for_engines()
            }
            Cluster::Restart => {
                self.start_cluster(self.settings.n_engines);
                self.wait_for_engines()
            }
            _ => Ok(()),
        }
    }

    fn wait_for_engines(&mut self) -> Performed {
        if self.cluster_ready() {
            return self.show_cluster();
        }
        if let Some(job) = &mut self.job {
            job.steps.push_front(Step::Magic(Magic::Cluster(Cluster::Status)));
            job.stage = Stage::Cluster;
        }
        Ok(())
    }

    fn show_cluster(&mut self) -> Performed {
        if self.cluster.attached_to().is_none() {
            return self.show(self.cluster_status());
        }
        let tag = self.next_number();
        self.ask_controller(tag, false);
        self.later(async move {
            tokio::time::sleep(ANSWER_WITHIN).await;
            Event::ControllerLate { tag }
        });
        Ok(())
    }

    fn ask_controller(&mut self, tag: u64, stock: bool) {
        let msg_type = if stock { QUEUE_REQUEST } else { STATUS_REQUEST }.to_owned();
        let content = json!({"targets": null, "verbose": false});
        self.command(Command::Hub { tag, msg_type, content });
        self.set_stage(Stage::Controller { tag, stock });
    }

    /// The controller has answered how it is.
    pub(super) fn controller_said(&mut self, tag: u64, content: &Value) {
        let Some(Stage::Controller { tag: asked, stock }) = self.job.as_ref().map(|job| &job.stage)
        else {
            return;
        };
        let stock = *stock;
        let Some(file) = self.cluster.attached_to().filter(|_| *asked == tag) else { return };
        let file = file.display().to_string();
        if content["status"] == "error" {
            if stock {
                let evalue = content["evalue"].as_str().unwrap_or_default();
                let why = format!("the controller of {file} does not say how it is: {evalue}");
                return self.fail(Fault::new("ClusterError", why));
            }
            // A stock controller has never heard of the question.
            return self.ask_controller(tag, true);
        }
        let others = self.cluster.others.iter().map(|other| {
            let process =
                Process { implementation: other.implementation.clone(), ..Process::default() };
            (other.uuid.clone(), process)
        });
        let others: BTreeMap<String, Process> = others.collect();
        let live = self.cluster.live.iter().map(|engine| (u64::from(engine.id), &engine.uuid));
        let more = self.cluster.others.iter().map(|other| (u64::from(other.id), &other.uuid));
        let uuids = live.chain(more).map(|(id, uuid)| (id, uuid.clone())).collect();
        let report = match stock {
            true => Report::read_stock(content, &uuids),
            false => Report::read(content),
        };
        let report = report.with_processes(others);
        self.show_text(self.latest_run, format!("attached to {file}\n{report}"));
        self.go_on();
    }

    pub(super) fn controller_late(&mut self, tag: u64) {
        let stage = self.job.as_ref().map(|job| &job.stage);
        if matches!(stage, Some(Stage::Controller { tag: asked, .. }) if *asked == tag) {
            let file = self.cluster.attached_to().map(|file| file.display().to_string());
            let why = format!(
                "the controller of {} has not answered for {} s; %cluster detach leaves it",
                file.unwrap_or_default(),
                ANSWER_WITHIN.as_secs()
            );
            self.fail(Fault::new("ClusterError", why));
        }
    }

    fn attach(&mut self, to: &str) -> Performed {
        let profiles = self.settings.profiles.as_ref().ok_or_else(|| {
            Fault::new("ClusterError", "there are no profiles: neither HOME nor IPYTHONDIR is set")
        })?;
        let found = profiles.find(to, &self.settings.compile.cwd);
        let file = found.map_err(|error| Fault::new("ClusterError", error.to_string()))?;
        if self.cluster.is_own(&file) {
            return Err(Fault::new("ClusterError", "that is the cluster that the notebook uses"));
        }
        let before = self.panels.newest().unwrap_or(0);
        self.attach_when(async move { reach(file, before).await })
    }

    /// Looks for another cluster; only when it answers is it used in the place of this one.
    fn attach_when(
        &mut self,
        reached: impl Future<Output = Result<Reached, String>> + Send + 'static,
    ) -> Performed {
        if self.cluster.is_starting() {
            return Err(Fault::new("ClusterError", "the notebook's own cluster is starting"));
        }
        let Some(job) = self.job.as_ref().map(|job| job.id) else { return Ok(()) };
        let task =
            self.later(async move { Event::Attached { job, result: Box::new(reached.await) } });
        self.set_stage(Stage::Attaching(task));
        Ok(())
    }

    pub(super) fn attached(&mut self, job: u64, result: Result<Reached, String>) {
        let waits = |running: &super::Job| {
            running.id == job && matches!(running.stage, Stage::Attaching(_))
        };
        if !self.job.as_ref().is_some_and(waits) {
            // Interrupted; what was reached is dropped, and so left.
            return;
        }
        let Reached { up, n_engines } = match result {
            Ok(reached) => reached,
            Err(why) => return self.fail(Fault::new("ClusterError", why)),
        };
        self.use_others(up, n_engines);
        if let Err(fault) = self.wait_for_engines() {
            return self.fail(fault);
        }
        self.advance();
    }

    fn detach(&mut self) -> Performed {
        let Some(file) = self.cluster.attached_to().map(|file| file.display().to_string()) else {
            let why = "the notebook is not attached to a cluster; %cluster attach NAME does that";
            return Err(Fault::new("ClusterError", why));
        };
        if let Some(leaving) = self.take_cluster() {
            tokio::spawn(leaving);
        }
        self.show(format!("detached from {file}, which goes on"))
    }

    /// `%cluster start --detach`: what `prust cluster start --detach` does, and attach.
    fn start_detached(&mut self, n: Option<u32>, cluster_id: Option<String>) -> Performed {
        let profiles = self.settings.profiles.as_ref().ok_or_else(|| {
            Fault::new("ClusterError", "there are no profiles: neither HOME nor IPYTHONDIR is set")
        })?;
        let dir = profiles.usual.clone();
        let cluster_id = cluster_id.unwrap_or_default();
        let file = client_file_path(&dir, &cluster_id);
        let mut program = detached(&self.settings, n);
        program.arg(format!("--profile-dir={}", dir.display()));
        program.arg(format!("--cluster-id={cluster_id}"));
        let before = self.panels.newest().unwrap_or(0);
        self.attach_when(async move {
            let child = process::spawn_async(&mut program)
                .map_err(|error| format!("cannot start a cluster: {error}"))?;
            let output = child.wait_with_output().await;
            let output = output.map_err(|error| format!("cannot start a cluster: {error}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(said.trim().trim_start_matches("prust cluster: ").to_owned());
            }
            reach(file, before).await
        })
    }
}

/// The command that starts a cluster that outlives this kernel.
fn detached(settings: &Settings, n: Option<u32>) -> Program {
    let mut program = Program::new(&settings.exe);
    program.args(["cluster", "start", "--detach"]);
    if let Some(n) = n {
        program.arg(format!("-n={n}"));
    }
    program.arg(format!("--work-dir={}", settings.compile.cwd.display()));
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // An interrupt of the notebook is not meant for it.
    process::in_own_group(program.as_std_mut());
    program
}

/// Makes sure that a controller answers, and connects.
async fn reach(path: PathBuf, submissions_before: u64) -> Result<Reached, String> {
    let failed = |why: String| format!("cannot attach to {}: {why}", path.display());
    let file = ClientFile::read(&path).map_err(|error| format!("failed to {error}"))?;
    let context = wire::Context::new();
    let asked = async {
        let mut questions = Questions::open(&context, &file).await?;
        questions.ask("connection_request", &json!({})).await
    };
    let reply = asked.await.map_err(|error| failed(error.to_string()))?;
    let n_engines = reply["engines"].as_object().map_or(0, serde_json::Map::len);
    let settings =
        client::Settings { submissions_before, foreign: true, ..client::Settings::default() };
    let connected = client::connect(&context, &file.key, &Endpoints::from(&file), settings);
    let (client, events) = connected.map_err(|error| failed(error.to_string()))?;
    Ok(Reached { up: ClusterUp::attached(path, client, events), n_engines })
}
