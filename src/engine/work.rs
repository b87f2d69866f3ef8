//! The engine's work: one queue, one piece of work at a time, its output, its one reply. Part of
//! [`Engine`]; like it, does no I/O and reads no clock.
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::ahead::QUICK_TIME;
use super::event::{Effect, Fault, Now, Prepared, Reply};
use super::libraries::Launch;
use super::reply::{Metadata, WorkMetadata, error_content};
use super::request::{Compiled, Execute, Route, Task, Work};
use super::state::{Engine, QUEUE_TASKS_MAX};
use crate::cell::namespace::{Delta, Namespace};
use crate::worker::{Failure, Outcome, Std};

/// A call of our own client says that it is busy only once it has run so long: a panel can show
/// where it runs, and the many calls that are shorter cost nothing more.
pub(super) const BUSY_AFTER: Duration = Duration::from_millis(20);

/// The piece of work in hand.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) task: Task,
    pub(super) run: u64,
    started: SystemTime,
    pub(super) stage: Stage,
    /// The number of this execution, for its reply.
    pub(super) execution_count: u64,
    /// Messages published for it, told to clients that wait for no idle status.
    pub(super) n_published: u64,
    busy: Busy,
    /// What the worker knows once this has succeeded.
    pub(super) delta: Option<Box<Delta>>,
    /// Where it failed, for clients that can name the user's own line.
    place: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Compiling,
    /// Its library is looked for.
    Finding,
    Working,
}

/// Whether anybody was told that the work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    Untold,
    Due(Instant),
    Told,
}

impl Running {
    fn new(run: u64, task: Task, execution_count: u64, now: Now) -> Self {
        Self {
            task,
            run,
            started: now.date,
            stage: Stage::Working,
            execution_count,
            n_published: 0,
            busy: Busy::Untold,
            delta: None,
            place: None,
        }
    }

    /// A call that has just begun.
    pub(super) fn call(run: u64, task: Task, execution_count: u64, now: Now) -> Self {
        let busy = Busy::Due(now.instant + BUSY_AFTER);
        Self { busy, ..Self::new(run, task, execution_count, now) }
    }

    pub(super) fn busy_due(&self) -> Option<Instant> {
        match self.busy {
            Busy::Due(at) => Some(at),
            Busy::Untold | Busy::Told => None,
        }
    }

    /// Whether a client of ours asked for it.
    pub(super) fn is_ours(&self) -> bool {
        self.task.metadata.ours
    }

    pub(super) fn msg_id(&self) -> &str {
        &self.task.route.msg_id
    }

    pub(super) fn silent(&self) -> bool {
        matches!(&self.task.work, Work::Execute(execute) if execute.silent)
    }
}

/// How a task's reply reads.
enum Verdict<'a> {
    Ok { buffers: Vec<Vec<u8>> },
    Error(&'a Fault),
    Aborted,
}

impl Engine {
    pub(super) fn enqueue(&mut self, task: Task, now: Now) {
        if self.withdrawn.take(&task.route.msg_id) {
            return self.dismiss(task, Verdict::Aborted, now);
        }
        if self.queue.len() >= QUEUE_TASKS_MAX {
            let text = format!("{QUEUE_TASKS_MAX} tasks wait at this engine already");
            return self.dismiss(task, Verdict::Error(&Fault::new("QueueFull", text)), now);
        }
        self.queue.push_back(task);
        self.start_next(now);
    }

    /// Starts the next work if the worker is free; a due clear comes first.
    pub(super) fn start_next(&mut self, now: Now) {
        while self.running.is_none() && self.worker_ready {
            if self.go_on_with_ahead(now) {
                break;
            }
            if !self.clears.is_empty() {
                self.worker_ready = false;
                self.forget_namespace();
                self.effects.push(Effect::ReplaceWorker);
                return;
            }
            let Some(task) = self.queue.pop_front() else { return };
            self.start(task, now);
        }
        self.send_ahead();
    }

    fn start(&mut self, mut task: Task, now: Now) {
        self.run_last += 1;
        self.parent = Arc::clone(&task.route.parent);
        self.read_on();
        let call = match &mut task.work {
            Work::Call { call, delta, .. } => call.take().map(|call| (call, delta.take())),
            Work::Execute(_) | Work::Python(_) | Work::Refused { .. } => None,
        };
        let mut running = Running::new(self.run_last, task, self.execution_count, now);
        if let Some((call, delta)) = call {
            self.pristine = false;
            running.delta = delta;
            self.before = running.delta.is_some().then(|| self.namespace.clone());
            running.busy = Busy::Due(now.instant + BUSY_AFTER);
            self.running = Some(running);
            return self.launch(Launch::Call(call));
        }
        self.publish_status(Arc::clone(&self.parent), "busy");
        running.busy = Busy::Told;
        match &mut running.task.work {
            Work::Execute(_) => self.start_execute(running, now),
            Work::Python(_) => self.start_python(running, now),
            Work::Refused { fault, .. } => {
                let fault = std::mem::take(fault);
                self.finish_fault(running, &fault, now);
            }
            Work::Call { .. } => unreachable!("a call was started above"),
        }
    }

    /// Tells that a call runs, if it is time to.
    pub(super) fn tell_busy(&mut self, now: Now) {
        let Some(running) = &mut self.running else { return };
        if running.busy_due().is_some_and(|at| at <= now.instant) {
            running.busy = Busy::Told;
            self.publish_status(Arc::clone(&self.parent), "busy");
        }
    }

    fn start_execute(&mut self, mut running: Running, now: Now) {
        let Work::Execute(execute) = &mut running.task.work else { return };
        let compiled = execute.compiled.take();
        if let Some(compiled) = &compiled
            && compiled.namespace != self.namespace_hash
        {
            running.task.metadata.want = true;
            execute.stop_on_error = false;
            let text = "the engine's variables are not those this cell was compiled against";
            return self.finish_fault(running, &Fault::new("StaleNamespace", text), now);
        }
        if !execute.silent {
            self.execution_count += 1;
            running.execution_count = self.execution_count;
            let content = json!({"code": execute.code, "execution_count": self.execution_count});
            running.n_published += 1;
            let parent = Arc::clone(&self.parent);
            self.publish_for(parent, "execute_input", "execute_input", content, Vec::new());
        }
        let run = running.run;
        match compiled {
            Some(Compiled { library, entry, delta, .. }) => {
                running.delta = delta;
                self.launch_cell(running, library.map(|library| Launch::Run { library, entry }));
            }
            None if execute.code.trim().is_empty() => {
                self.finish_ok(running, Vec::new());
            }
            None => {
                let Execute { code, .. } = execute;
                let code = code.clone();
                running.stage = Stage::Compiling;
                let label = format!("In[{}]", running.execution_count);
                let namespace = Box::new(self.namespace.clone());
                self.effects.push(Effect::Compile { run, code, label, namespace });
                self.running = Some(running);
            }
        }
    }

    /// Runs a compiled cell. One that only defines something has succeeded already.
    fn launch_cell(&mut self, mut running: Running, launch: Option<Launch>) {
        self.pristine = false;
        let Some(launch) = launch else {
            self.commit(&mut running);
            return self.finish_ok(running, Vec::new());
        };
        self.before = Some(self.namespace.clone());
        self.running = Some(running);
        self.launch(launch);
    }

    /// Takes over what successful work has changed.
    fn commit(&mut self, running: &mut Running) {
        if let Some(delta) = running.delta.take() {
            self.namespace.apply(&delta);
            self.namespace_hash = self.namespace.hash();
        }
    }

    pub(super) fn compiled(&mut self, run: u64, result: Result<Prepared, Fault>, now: Now) {
        let current =
            |running: &mut Running| running.run == run && running.stage == Stage::Compiling;
        let Some(mut running) = self.running.take_if(current) else { return };
        match result {
            Err(fault) => self.finish_fault(running, &fault, now),
            Ok(Prepared { library, entry, delta, warnings }) => {
                running.delta = delta;
                if !warnings.is_empty() {
                    running.n_published += 1;
                    let content = json!({"name": "stderr", "text": warnings});
                    let parent = Arc::clone(&self.parent);
                    self.publish_for(parent, "stderr", "stream", content, Vec::new());
                }
                self.launch_cell(running, library.map(|library| Launch::Run { library, entry }));
            }
        }
        self.start_next(now);
    }

    pub(super) fn done(&mut self, run: u64, outcome: Outcome, now: Now) {
        let Some(mut running) = self.running.take_if(|running| running.run == run) else {
            return;
        };
        let slow_at = running.busy_due().map(|due| due - BUSY_AFTER + QUICK_TIME);
        self.was_quick = slow_at.is_some_and(|slow_at| now.instant < slow_at);
        match outcome {
            Outcome::Ok { value } => {
                self.commit(&mut running);
                match running.task.work {
                    Work::Python(_) => self.stepped(running, value, now),
                    _ => self.finish_ok(running, vec![value]),
                }
            }
            Outcome::Error { failure, restored, lost, .. } => {
                if !lost.is_empty() {
                    lost.iter().for_each(|name| drop(self.namespace.variables.remove(name)));
                    self.namespace_hash = self.namespace.hash();
                }
                let fault = Fault::caught(&failure, restored);
                running.place = Some(failure);
                self.finish_fault(running, &fault, now);
            }
            Outcome::Crashed { why, restored, threads_lost, .. } => {
                self.forget_unless(restored);
                let fault = Fault::crash(&why, restored, &threads_lost);
                running.place = Some(why);
                self.finish_fault(running, &fault, now);
            }
            Outcome::Interrupted { restored, threads_lost } => {
                let fault = Fault::interrupted(restored, &threads_lost);
                self.finish_fault(running, &fault, now);
            }
        }
        self.start_next(now);
    }

    /// The worker died between two pieces of work and is alive again.
    pub(super) fn worker_died(&mut self, cause: &str, restored: bool, threads_lost: &[String]) {
        self.forget_unless(restored);
        if let Some(before) = self.before.take().filter(|_| restored) {
            self.namespace = before;
            self.namespace_hash = self.namespace.hash();
        }
        let after = super::reply::after(restored, threads_lost);
        self.output(Std::Err, &format!("the worker ended between two tasks ({cause}); {after}\n"));
    }

    /// Says once that this engine is too large for snapshots.
    pub(super) fn unprotected(&mut self, resident_bytes: u64) {
        if std::mem::replace(&mut self.said_unprotected, true) {
            return;
        }
        let size = crate::worker::size(resident_bytes);
        let text = format!(
            "this engine holds {size}, too much for a snapshot before each task: a crash would \
             lose its variables (said once)\n"
        );
        self.output(Std::Err, &text);
    }

    pub(super) fn interrupt_costs(&mut self) {
        let text = "there is no snapshot of this engine to go back to: ending its work would lose \
                    all its variables. Interrupt once more to end it all the same\n";
        self.output(Std::Err, text);
    }

    pub(super) fn stuck(&mut self, threads_lost: &[String]) {
        let threads = crate::worker::names(threads_lost);
        let text = format!(
            "this engine's work does nothing. Threads did not survive an earlier crash or \
             interrupt ({threads}): if the work waits for them, it never ends. Interrupt it, and \
             start the engines over with %cluster restart\n"
        );
        self.output(Std::Err, &text);
    }

    pub(super) fn worker_failed(&mut self, cause: String, now: Now) {
        if let Some(running) = self.running.take() {
            let text = format!("the engine's worker cannot be started: {cause}");
            self.finish_fault(running, &Fault::new("EngineError", text), now);
        }
        self.end(1, cause);
    }

    /// Interrupts the work in hand if it is one of `msg_ids` (or whatever it is). Says whether
    /// there was any.
    pub(super) fn interrupt(&mut self, msg_ids: Option<&[String]>, now: Now) -> bool {
        let meant = |running: &mut Running| {
            msg_ids.is_none_or(|msg_ids| msg_ids.iter().any(|msg_id| msg_id == running.msg_id()))
        };
        tracing::debug!(
            ?msg_ids,
            running = self.running.as_ref().map(|r| r.msg_id().to_owned()),
            "interrupt"
        );
        let Some(running) = self.running.take_if(meant) else {
            return msg_ids.is_some_and(|msg_ids| self.interrupt_ahead(msg_ids));
        };
        match running.stage {
            Stage::Working => {
                self.running = Some(running);
                self.effects.push(Effect::Interrupt);
            }
            Stage::Compiling | Stage::Finding => {
                self.effects.push(Effect::CancelCompile);
                self.finish_fault(running, &Fault::interrupted(false, &[]), now);
                self.start_next(now);
            }
        }
        true
    }

    /// Ends every queued task that `unwanted` picks, as aborted.
    pub(super) fn abort_queued(&mut self, unwanted: impl Fn(&Task) -> bool, now: Now) {
        let (aborted, kept) =
            std::mem::take(&mut self.queue).into_iter().partition::<Vec<_>, _>(|t| unwanted(t));
        self.queue = kept.into();
        for task in aborted {
            self.dismiss(task, Verdict::Aborted, now);
        }
    }

    pub(super) fn abort_now(&mut self, task: Task, now: Now) {
        self.dismiss(task, Verdict::Aborted, now);
    }

    /// Ends a task that never ran.
    fn dismiss(&mut self, task: Task, verdict: Verdict<'_>, now: Now) {
        let running = Running::new(0, task, self.execution_count, now);
        self.finish(running, verdict);
    }

    pub(super) fn finish_fault(&mut self, mut running: Running, fault: &Fault, now: Now) {
        if running.task.is_followed() {
            running.n_published += 1;
            let content = json!({
                "ename": fault.ename,
                "evalue": fault.evalue,
                "traceback": fault.traceback,
            });
            let parent = Arc::clone(&running.task.route.parent);
            self.publish_for(parent, "error", "error", content, Vec::new());
        }
        let stops = matches!(&running.task.work,
            Work::Execute(execute) if !execute.silent && execute.stop_on_error);
        let session = running.task.route.session.clone();
        self.finish(running, Verdict::Error(fault));
        if stops {
            let waits = |task: &Task| {
                matches!(task.work, Work::Execute(_)) && task.route.session == session
            };
            self.abort_queued(waits, now);
        }
    }

    pub(super) fn finish_ok(&mut self, running: Running, buffers: Vec<Vec<u8>>) {
        self.finish(running, Verdict::Ok { buffers });
    }

    /// The one reply of a task, and the end of what is published for it.
    fn finish(&mut self, running: Running, verdict: Verdict<'_>) {
        let method = running.task.method();
        let execute = method == "execute";
        let prust = self.prust_metadata(&running, execute);
        let Running { task, started, execution_count, n_published, busy, .. } = running;
        let status = match verdict {
            Verdict::Ok { .. } => "ok",
            Verdict::Error(_) => "error",
            Verdict::Aborted => "aborted",
        };
        let uuid = Arc::clone(&self.settings.uuid);
        let mut metadata = WorkMetadata::new(&task.metadata, uuid, started, status);
        metadata.prust = prust;
        let mut buffers = Vec::new();
        let content = match verdict {
            Verdict::Ok { .. } if execute => ok_content(execution_count),
            Verdict::Ok { buffers: values } => {
                buffers = values;
                json!({"status": "ok"})
            }
            Verdict::Error(fault) => {
                let info = self.engine_info(method);
                metadata.dependencies_met = fault.ename != "UnmetDependency";
                let content = error_content(fault, &info, execute.then_some(execution_count));
                metadata.engine_info = Some(info);
                content
            }
            Verdict::Aborted => json!({"status": "aborted"}),
        };
        let is_followed = task.is_followed() || n_published > 0 || busy == Busy::Told;
        let idle = is_followed.then(|| Arc::clone(&task.route.parent));
        let msg_type = task.route.reply_type();
        let Route { channel, ids, parent, .. } = task.route;
        let metadata = Metadata::Work(Box::new(metadata));
        let reply = Reply { channel, ids, parent, msg_type, metadata, content, buffers };
        self.effects.push(Effect::Reply(Box::new(reply)));
        if let Some(parent) = idle {
            self.publish_status(parent, "idle");
        }
    }

    /// `metadata.prust` of a reply: how many messages were published for it before; the namespace
    /// after a cell or a call that changes it; the place of a failure in the generated source.
    fn prust_metadata(&self, running: &Running, execute: bool) -> Value {
        let changes = matches!(&running.task.work, Work::Call { mutates: true, .. });
        let mut prust = serde_json::Map::new();
        if running.n_published > 0 {
            prust.insert("published".to_owned(), running.n_published.into());
        }
        if execute || changes {
            prust.insert("namespace".to_owned(), self.namespace_hash.clone().into());
        }
        if running.task.metadata.want {
            let full = serde_json::to_value(&self.namespace).unwrap_or_default();
            prust.insert("full".to_owned(), full);
        }
        if let Some(Failure { file, line, column, .. }) = &running.place {
            let place = json!({"file": file, "line": line, "column": column});
            prust.insert("place".to_owned(), place);
        }
        if prust.is_empty() { Value::Null } else { Value::Object(prust) }
    }

    fn forget_unless(&mut self, restored: bool) {
        if !restored {
            self.forget_namespace();
        }
    }

    pub(super) fn forget_namespace(&mut self) {
        self.namespace = Namespace::default();
        self.namespace_hash = self.namespace.hash();
        self.made.clear();
        self.pristine = true;
    }
}

fn ok_content(execution_count: u64) -> Value {
    json!({
        "status": "ok",
        "execution_count": execution_count,
        "user_expressions": {},
        "payload": [],
    })
}
