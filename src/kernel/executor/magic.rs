//! Magics that are performed here: what they ask, done at once or begun. Their text was read by
//! `kernel::magics`.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::job::{Performed, Stage, Step};
use super::tell::Fault;
use super::{Event, Executor};
use crate::cell::Namespace;
use crate::kernel::magics::{self, Magic};
use crate::process;
use crate::worker::{Costs, Snapshots, Surroundings, Utf8, size};

impl Executor {
    pub(super) fn perform(&mut self, magic: Magic) -> Performed {
        match magic {
            Magic::Px { options, code } => self.start_px(options, code),
            Magic::PxResult(options) => self.px_result(options),
            Magic::PxConfig(options) => {
                self.configure_px(options);
                Ok(())
            }
            Magic::AutoPx => {
                self.toggle_autopx();
                Ok(())
            }
            Magic::PxCancel { submission } => self.cancel(submission),
            Magic::PxRetry { submission } => self.retry(submission),
            Magic::Cluster(cluster) => self.cluster_magic(cluster),
            Magic::Dep { text, .. } => self.add_dependencies(text),
            Magic::Vars { targets } => self.vars(targets.as_deref()),
            Magic::Type { name } => self.show_type(&name),
            Magic::Undo => self.undo(),
            Magic::Snapshot(when) => self.set_snapshots(when),
            Magic::Restart => self.restart_worker(),
            Magic::Clear => self.clear(),
            Magic::Time { code } => {
                self.then([Step::Local(code), Step::Time]);
                Ok(())
            }
            Magic::Timeit { options, code } => {
                self.then([Step::Timeit { options, code }]);
                Ok(())
            }
            Magic::Opt(level) => self.set_opt(level),
            Magic::Fmt { format } => {
                self.set_format(&format);
                Ok(())
            }
            Magic::Types => self.toggle_types(),
            Magic::Timing => self.toggle_timing(),
            Magic::ShowDeps => self.show_dependencies(),
            Magic::Version => self.show_version(),
            Magic::Env(env) => self.env(env),
            Magic::LsMagic => self.show(magics::list()),
            Magic::Help { topic } => self.help(topic.as_deref()),
            Magic::QuickRef => {
                self.page(magics::quick_reference());
                Ok(())
            }
            Magic::Shell { command } => self.start_shell(command),
        }
    }

    pub(super) fn show(&self, text: impl Into<String>) -> Performed {
        self.show_text(self.latest_run, text.into());
        Ok(())
    }

    /// Has the frontend show a text in its pager.
    fn page(&mut self, text: &str) {
        if let Some(job) = &mut self.job {
            job.payload.push(json!({
                "source": "page", "data": { "text/plain": text }, "start": 0,
            }));
        }
    }

    fn help(&self, topic: Option<&str>) -> Performed {
        match magics::help(topic) {
            Ok(text) => self.show(text),
            Err(why) => Err(Fault::new("UsageError", why)),
        }
    }

    fn set_snapshots(&mut self, when: Option<Snapshots>) -> Performed {
        let Some(worker) = &self.worker else { return Err(not_yet("%snapshot")) };
        if let Some(when) = when {
            self.snapshots = when;
            worker.set_snapshots(when);
            // Another choice deserves another warning.
            self.said_unprotected = false;
        }
        worker.measure();
        self.set_stage(Stage::Measuring);
        Ok(())
    }

    /// `%snapshot`, in words.
    pub(super) fn measured(&mut self, costs: Costs) {
        if !matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Measuring)) {
            return;
        }
        let max = size(costs.bytes_max);
        let when = match self.snapshots {
            Snapshots::Sized => format!("auto: before each cell while the worker is below {max}"),
            Snapshots::Always => "on: before each cell, whatever the size".to_owned(),
            Snapshots::Never => "off: a crash or an interrupt loses all variables".to_owned(),
        };
        self.show_text(
            self.latest_run,
            format!(
                "snapshots are {when}\nthe worker holds {}; measured now, a snapshot takes \
                 {:.1} ms, and the first write to each page under it {:.2} s per GiB written",
                size(costs.resident_bytes),
                costs.fork_micros as f64 / 1e3,
                costs.write_micros_per_gibibyte as f64 / 1e6,
            ),
        );
        self.go_on();
    }

    /// Variables end as they do anywhere; then the worker starts over, because a static that is
    /// written again as it was would go on with its value.
    fn clear(&mut self) -> Performed {
        self.namespace = Namespace { set: self.namespace.set.take(), ..Namespace::default() };
        self.history.forget();
        let all_end = Step::Local("::prust_runtime::slots::clear();".to_owned());
        self.then([all_end, Step::Magic(Magic::Restart)]);
        Ok(())
    }

    /// Where the cells' processes begin: a cell may have gone to another folder, or set variables.
    /// `None` when the worker has to be asked first: then `again` is done once it has said.
    fn surroundings(&mut self, again: impl FnOnce() -> Step) -> Option<Surroundings> {
        let job = self.job.as_mut()?;
        if let Some(known) = job.surroundings.take() {
            return Some(known);
        }
        let Some(worker) = &self.worker else {
            let folder = self.settings.compile.cwd.clone();
            return Some(Surroundings { folder, variables: std::env::vars_os().collect() });
        };
        worker.surroundings();
        job.steps.push_front(again());
        self.set_stage(Stage::Surroundings);
        None
    }

    pub(super) fn surrounded(&mut self, surroundings: Surroundings) {
        if let Some(job) = &mut self.job
            && matches!(job.stage, Stage::Surroundings)
        {
            job.surroundings = Some(surroundings);
            self.go_on();
        }
    }

    pub(super) fn write_file(&mut self, path: String, append: bool, body: String) -> Performed {
        let again = || Step::WriteFile { path: path.clone(), append, body: body.clone() };
        let Some(around) = self.surroundings(again) else { return Ok(()) };
        let path = around.folder.join(path);
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append);
        let written = options.open(&path).and_then(|mut file| file.write_all(body.as_bytes()));
        written.map_err(|error| {
            Fault::new("IOError", format!("cannot write {}: {error}", path.display()))
        })?;
        self.print(None, false, format!("Wrote {}\n", path.display()));
        Ok(())
    }

    pub(super) fn start_shell(&mut self, command: String) -> Performed {
        let Some(id) = self.job.as_ref().map(|job| job.id) else { return Ok(()) };
        let again = || Step::Shell(command.clone());
        let Some(around) = self.surroundings(again) else { return Ok(()) };
        let (inbox, read_on) = (self.inbox.clone(), self.shell_reads.clone());
        let task = self.later(async move {
            let mut bash = Command::new("bash");
            bash.args(["-c", &command])
                .current_dir(around.folder)
                .env_clear()
                .envs(around.variables)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true);
            process::end_with_us(bash.as_std_mut());
            let mut child = match process::spawn_async(&mut bash) {
                Ok(child) => child,
                Err(error) => return Event::Shell { job: id, ended: Err(error.to_string()) },
            };
            // An interrupt drops this task, and ends what bash has started, too.
            let interrupted = child.id().map(process::GroupKill::new);
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let pump = |stderr| Pump { stderr, inbox: inbox.clone(), read_on: read_on.clone() };
            tokio::join!(pump(false).read(stdout), pump(true).read(stderr));
            let ended = child.wait().await.map(|status| {
                let code = status.code().map(|code| format!("exit code {code}"));
                (!status.success()).then(|| code.unwrap_or_else(|| status.to_string()))
            });
            interrupted.into_iter().for_each(process::GroupKill::disarm);
            Event::Shell { job: id, ended: ended.map_err(|error| error.to_string()) }
        });
        self.set_stage(Stage::Shell(task));
        Ok(())
    }

    pub(super) fn shell_ended(&mut self, id: u64, ended: Result<Option<String>, String>) {
        if self.job.as_ref().is_none_or(|job| job.id != id) {
            return;
        }
        match ended {
            Ok(None) => self.go_on(),
            Ok(Some(status)) => {
                let why = format!("the command ended with an error ({status})");
                self.fail(Fault::new("ShellError", why));
            }
            Err(why) => self.fail(Fault::new("ShellError", why)),
        }
    }
}

/// Reads a stream of a command, at the pace of whoever looks at it.
struct Pump {
    stderr: bool,
    inbox: UnboundedSender<Event>,
    read_on: Arc<Notify>,
}

impl Pump {
    /// Read without a word from the face.
    const AHEAD_BYTES_MAX: usize = 4 << 20;

    async fn read(self, from: Option<impl tokio::io::AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 16 * 1024];
        let mut utf8 = Utf8::default();
        let mut ahead_bytes = 0;
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.give(utf8.push(&buffer[..count]));
            ahead_bytes += count;
            if ahead_bytes > Self::AHEAD_BYTES_MAX {
                ahead_bytes = 0;
                // From here on it is told, also before it waits.
                let told = self.read_on.notified();
                // The loop may have ended; then nobody reads, and this task is dropped.
                let _ = self.inbox.send(Event::ShellPaused);
                told.await;
            }
        }
        self.give(utf8.finish());
    }

    fn give(&self, text: String) {
        let _ = self.inbox.send(Event::ShellOutput { stderr: self.stderr, text });
    }
}

fn not_yet(what: &str) -> Fault {
    Fault::new("NotYetSupported", format!("{what} is not there yet"))
}
