//! A `%%px` cell: targets, one compile per distinct namespace, one run per engine, live output, one
//! outcome. Also `view.execute(source)` of a cell, which goes the same way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use prust::{EngineId, RemoteError, Targets};
use serde_json::{Value, json};

use self::options::merged;
use super::job::{Stage, interrupted};
use super::tell::Fault;
use super::{Event, Executor};
use crate::cell::plan::leaf::ENTRY;
use crate::cell::{CrateSet, Delta, Namespace};
use crate::client::{CellRun, CellWork, ClientEvent, Command, Output, SubmissionId};
use crate::compile::{Cell, Compiled, Failed};
use crate::kernel::magics::{GroupBy, PxOptions};
use crate::kernel::seam::RunId;

mod faults;
mod options;
mod show;
mod truth;

/// Blocking work shows its panel after this, unless `--progress-after` says otherwise.
const PANEL_AFTER: Duration = Duration::from_millis(300);

/// Parallel cells remembered for `%pxresult` and late output.
const CELLS_MAX: usize = 64;

/// What compiling for engines of one namespace gave.
pub(super) struct GroupResult {
    engines: Vec<EngineId>,
    namespace: String,
    result: Result<Compiled, Failed>,
}

/// One parallel cell.
struct PxCell {
    run: RunId,
    label: String,
    code: String,
    /// Tells another run of the same cell; empty when there is none.
    key: String,
    options: PxOptions,
    /// The submission it answers, for a cell of `view.execute`.
    answers: Option<SubmissionId>,
    submission: Option<SubmissionId>,
    deltas: BTreeMap<EngineId, Delta>,
    outputs: Vec<(EngineId, Output)>,
    output_bytes: usize,
    /// Streams whose last piece did not end a line.
    open_lines: BTreeMap<(EngineId, bool), ()>,
    finished: Option<(u64, Vec<RemoteError>)>,
    /// Its engines were asked what their variables are.
    asked: Option<truth::Asked>,
    /// It did not compile against those either, so nothing of it was run.
    fault: Option<Fault>,
}

/// What is known of engines and parallel cells.
#[derive(Default)]
pub(super) struct Parallel {
    pub(super) autopx: bool,
    config: PxOptions,
    /// What each engine's namespace was when it last told.
    mirrors: BTreeMap<EngineId, Namespace>,
    /// The notebook's dependency set, which parallel cells use as well.
    set: Option<CrateSet>,
    cells: BTreeMap<u64, PxCell>,
    latest: Option<u64>,
    /// Engines that print no more until what they have printed is handled.
    paused: VecDeque<EngineId>,
}

impl Parallel {
    pub(super) fn forget_engine(&mut self, id: EngineId) {
        self.mirrors.remove(&id);
    }

    pub(super) fn forget_engines(&mut self) {
        self.mirrors.clear();
    }

    /// Engines compile with the notebook's dependencies from now on.
    pub(super) fn use_set(&mut self, set: &CrateSet) {
        self.set = Some(set.clone());
    }

    fn by_submission(&mut self, submission: SubmissionId) -> Option<&mut PxCell> {
        self.cells.values_mut().find(|cell| cell.submission == Some(submission))
    }
}

impl Executor {
    /// Begins a parallel cell: waits for the cluster, finds the engines, has the cell compiled.
    pub(super) fn start_px(&mut self, options: PxOptions, code: String) -> Result<(), Fault> {
        let merged = merged(options.clone(), &self.parallel.config);
        if !self.cluster_ready() {
            if let Some(job) = &mut self.job {
                job.steps.push_front(super::job::Step::Px { options, code });
                job.stage = Stage::Cluster;
            }
            return Ok(());
        }
        let engines = self.engines_of(merged.targets.as_deref())?;
        let Some(job) = &self.job else { return Ok(()) };
        let (run, label) = (job.run.run, job.run.label.clone());
        let key = job.run.cell_id.clone().unwrap_or_default();
        let tag = self.new_cell(run, label, code, merged, None);
        self.parallel.cells.entry(tag).and_modify(|cell| cell.key = key);
        self.set_stage(Stage::Px { tag });
        self.compile_px(tag, engines);
        Ok(())
    }

    /// The live engines that targets name, in words; all of them without.
    fn engines_of(&self, targets: Option<&str>) -> Result<Vec<EngineId>, Fault> {
        let targets = targets.map_or(Targets::All, Targets::read);
        let live: Vec<EngineId> = self.cluster.live.iter().map(|engine| engine.id).collect();
        targets.resolve(&live).map_err(|error| {
            let fault = Fault::new(target_error_name(&error), error.to_string());
            fault.notes(self.cluster.others_in_words())
        })
    }

    /// What is known of the variables of these engines: as of their last cell of ours.
    pub(super) fn known_namespaces(
        &self,
        targets: &str,
    ) -> Result<Vec<(EngineId, Namespace)>, Fault> {
        let known = |engine| self.parallel.mirrors.get(&engine).cloned().unwrap_or_default();
        let engines = self.engines_of(Some(targets))?;
        Ok(engines.into_iter().map(|engine| (engine, known(engine))).collect())
    }

    fn new_cell(
        &mut self,
        run: RunId,
        label: String,
        code: String,
        options: PxOptions,
        answers: Option<SubmissionId>,
    ) -> u64 {
        let tag = self.next_number();
        let cell = PxCell {
            run,
            label,
            key: String::new(),
            code,
            options,
            answers,
            submission: answers,
            deltas: BTreeMap::new(),
            outputs: Vec::new(),
            output_bytes: 0,
            open_lines: BTreeMap::new(),
            finished: None,
            asked: None,
            fault: None,
        };
        self.parallel.cells.insert(tag, cell);
        if answers.is_none() {
            self.parallel.latest = Some(tag);
        }
        while self.parallel.cells.len() > CELLS_MAX {
            self.parallel.cells.pop_first();
        }
        tag
    }

    /// One compile per distinct namespace among the engines.
    fn compile_px(&mut self, tag: u64, engines: Vec<EngineId>) {
        let (Some(compiler), Some(cell)) = (self.compiler.clone(), self.parallel.cells.get(&tag))
        else {
            return;
        };
        let mut groups: Vec<(String, Namespace, Vec<EngineId>)> = Vec::new();
        for engine in engines {
            let namespace = self.parallel.mirrors.entry(engine).or_default();
            let hash = namespace.hash();
            match groups.iter_mut().find(|(known, ..)| *known == hash) {
                Some((.., members)) => members.push(engine),
                None => groups.push((hash, namespace.clone(), vec![engine])),
            }
        }
        let (code, label) = (cell.code.clone(), cell.label.clone());
        let key = cell.key.clone();
        let set = self.parallel.set.clone();
        self.compute(async move {
            let mut results = Vec::new();
            for (hash, namespace, engines) in groups {
                let cell = Cell { text: &code, label: &label, key: &key };
                let result = compiler.engine_cell(&namespace, set.as_ref(), cell).await;
                results.push(GroupResult { engines, namespace: hash, result });
            }
            Event::PxCompiled { tag, results }
        });
    }

    pub(super) fn px_compiled(&mut self, tag: u64, results: Vec<GroupResult>) {
        let local: Vec<String> = self.local_names();
        let Some(cell) = self.parallel.cells.get_mut(&tag) else { return };
        let mut runs = Vec::new();
        let mut warnings = Vec::new();
        let mut fault = None;
        let mut all: Vec<EngineId> = Vec::new();
        for GroupResult { engines, namespace, result } in results {
            all.extend(&engines);
            match result {
                Ok(compiled) => {
                    for engine in engines {
                        cell.deltas.insert(engine, compiled.delta.clone());
                        runs.push(CellRun { engine, prust: run_metadata(&compiled, &namespace) });
                    }
                    warnings = compiled.warnings;
                }
                Err(Failed::Errors(errors)) => {
                    let on = engines.iter().map(EngineId::to_string).collect::<Vec<_>>().join(", ");
                    fault = Some(
                        Fault::of_diagnostics(&errors)
                            .note(format!("(on engines {on}; nothing was run)")),
                    );
                    let unknown =
                        errors.first().filter(|error| error.code.as_deref() == Some("E0425"));
                    let name = unknown.and_then(|error| error.message.split('`').nth(1));
                    if let Some(name) = name.filter(|name| local.iter().any(|known| known == name))
                    {
                        let note = format!(
                            "`{name}` is in the notebook's own worker: run its cell with \
                             %%px --local"
                        );
                        fault = fault.map(|fault| fault.note(note));
                    }
                }
                Err(Failed::World(error)) => {
                    fault = Some(Fault::new("ToolchainError", error.to_string()));
                }
            }
        }
        let answers = cell.submission;
        let code = cell.code.clone();
        if let Some(fault) = fault {
            if self.ask_truth(tag, &all) {
                return;
            }
            return self.px_not_compiled(tag, answers, fault);
        }
        runs.sort_by_key(|run| run.engine);
        self.show_warnings(&warnings);
        let work = CellWork { tag, submission: answers, runs, code, silent: false, label: None };
        self.command(Command::Cell(work));
    }

    /// What the notebook's own worker knows by name.
    fn local_names(&self) -> Vec<String> {
        let variables = self.namespace.variables.keys().map(String::as_str);
        variables.chain(self.namespace.items.names()).map(str::to_owned).collect()
    }

    fn px_not_compiled(&mut self, tag: u64, answers: Option<SubmissionId>, fault: Fault) {
        if let Some(submission) = answers {
            if let Some(cell) = self.parallel.cells.get_mut(&tag) {
                cell.fault = cell.asked.is_some().then(|| fault.clone());
            }
            let Fault { ename, evalue, traceback } = fault;
            return self.command(Command::CellFailed { submission, ename, evalue, traceback });
        }
        if self.waits_for(tag) {
            self.fail(fault);
        }
    }

    fn waits_for(&self, tag: u64) -> bool {
        matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Px { tag: of }) if *of == tag)
    }

    pub(super) fn client_said(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Connected | ClientEvent::Closed => (),
            ClientEvent::Hub { tag, content, .. } => self.controller_said(tag, &content),
            ClientEvent::Others { engines } => self.others_changed(engines),
            ClientEvent::Engines { live, lost } => self.engines_changed(live, lost),
            ClientEvent::Answer { to, status, head, body } => {
                if let Some(worker) = &self.worker {
                    worker.reply(to, status, head, body);
                }
            }
            ClientEvent::CellRequested { submission, engines, source } => {
                let label =
                    self.job.as_ref().map_or("execute", |job| job.run.label.as_str()).to_owned();
                let run = self.latest_run;
                let tag = self.new_cell(run, label, source, PxOptions::default(), Some(submission));
                self.compile_px(tag, engines);
            }
            ClientEvent::CellStale { submission, engine, prust } => {
                self.cell_stale(submission, engine, &prust);
            }
            ClientEvent::CellSubmitted { tag, submission } => self.px_submitted(tag, submission),
            ClientEvent::Retried { submission, .. } => match submission {
                Ok(submission) => self.show_panel(submission, self.latest_run),
                Err(error) => self.remark(&format!("nothing was retried: {error}")),
            },
            ClientEvent::TaskFinished { submission, task, prust } => {
                if let Some(engine) = task.engine_id {
                    self.engine_finished(submission, engine, task.status == "ok", &prust);
                }
            }
            ClientEvent::Defined { engine, delta } => {
                self.parallel.mirrors.entry(engine).or_default().apply(&delta);
            }
            ClientEvent::Output { submission, engine, output } => {
                self.engine_output(submission, engine, output);
            }
            ClientEvent::Paused { engine } => self.engine_paused(engine),
            ClientEvent::Lacks { engine, names } => self.engine_lacks(engine, names),
            ClientEvent::Finished { submission, n_failed, failed, .. } => {
                self.px_finished(submission, n_failed, failed);
            }
            ClientEvent::Progress { summary } => self.progressed(summary),
            ClientEvent::Blocked { submission, .. } => self.show_panel(submission, self.latest_run),
        }
    }

    /// An engine's namespace was not what the cell was compiled against: takes over its truth and
    /// compiles for it again.
    fn cell_stale(&mut self, submission: SubmissionId, engine: EngineId, prust: &Value) {
        let full = prust.get("full").cloned().unwrap_or_default();
        let namespace: Namespace = serde_json::from_value(full).unwrap_or_default();
        if let Some(compiler) = &self.compiler {
            compiler.learn(&namespace);
        }
        self.parallel.mirrors.insert(engine, namespace);
        if self.truth_came(submission, engine) {
            return;
        }
        let tag = self
            .parallel
            .cells
            .iter()
            .find(|(_, cell)| cell.submission == Some(submission))
            .map(|(tag, _)| *tag);
        if let Some(tag) = tag {
            self.compile_px(tag, vec![engine]);
        }
    }

    fn px_submitted(&mut self, tag: u64, submission: SubmissionId) {
        let Some(cell) = self.parallel.cells.get_mut(&tag) else { return };
        if cell.submission.is_some() {
            return;
        }
        cell.submission = Some(submission);
        let (run, block) = (cell.run, cell.options.block.unwrap_or(true));
        let panel_after = cell.options.progress_after.unwrap_or(PANEL_AFTER);
        let out = cell.options.out.clone();
        if !self.waits_for(tag) {
            return;
        }
        if let Some(job) = &mut self.job
            && let Some(name) = out
        {
            // The handle becomes a variable of the notebook.
            let code = format!(
                "let {name} = \
                 ::prust::AsyncMapResult::<::prust::CellReply>::attach(0, {submission});"
            );
            job.steps.push_front(super::job::Step::Local(code));
        }
        if block {
            self.later(async move {
                tokio::time::sleep(panel_after).await;
                Event::PanelDue { tag }
            });
        } else {
            self.show_panel(submission, run);
            self.go_on();
        }
    }

    pub(super) fn panel_due(&mut self, tag: u64) {
        let cell = self.parallel.cells.get(&tag).filter(|cell| cell.finished.is_none());
        let shown = cell.and_then(|cell| Some((cell.submission?, cell.run)));
        if let Some((submission, run)) = shown.filter(|_| self.waits_for(tag)) {
            self.show_panel(submission, run);
        }
    }

    fn engine_finished(
        &mut self,
        submission: SubmissionId,
        engine: EngineId,
        ok: bool,
        prust: &Value,
    ) {
        self.truth_came(submission, engine);
        let delta =
            self.parallel.by_submission(submission).and_then(|cell| cell.deltas.remove(&engine));
        let mirror = self.parallel.mirrors.entry(engine).or_default();
        if let Some(delta) = delta.filter(|_| ok) {
            mirror.apply(&delta);
        }
        // The engine has the truth: a full namespace replaces what we think.
        if let Some(full) = prust.get("full")
            && let Ok(namespace) = serde_json::from_value(full.clone())
        {
            *mirror = namespace;
        }
    }

    fn px_finished(&mut self, submission: SubmissionId, n_failed: u64, failed: Vec<RemoteError>) {
        let Some((tag, cell)) =
            self.parallel.cells.iter_mut().find(|(_, cell)| cell.submission == Some(submission))
        else {
            return;
        };
        let tag = *tag;
        cell.finished = Some((n_failed, failed));
        let (cell_run, block) = (cell.run, cell.options.block.unwrap_or(true));
        if !self.waits_for(tag) || !block {
            return;
        }
        self.end_lines(tag);
        let streamed = self.parallel.cells.get(&tag).is_some_and(PxCell::streams);
        if streamed {
            self.show_values(tag);
        } else {
            self.show_outputs(tag, cell_run, None);
        }
        let was_interrupted = self.job.as_ref().is_some_and(|job| job.interrupted);
        let not_compiled = self.parallel.cells.get_mut(&tag).and_then(|cell| cell.fault.take());
        if let Some(fault) = not_compiled.filter(|_| !was_interrupted) {
            return self.fail(fault);
        }
        match self.px_fault(tag, was_interrupted) {
            fault if was_interrupted => {
                let end = interrupted("the engines were interrupted; their variables stay");
                self.fail(end.notes(fault.into_iter().flat_map(|fault| fault.traceback)));
            }
            Some(fault) => self.fail(fault),
            None => self.go_on(),
        }
    }

    pub(super) fn interrupt_px(&mut self, tag: u64) {
        let Some(cell) = self.parallel.cells.get(&tag) else { return };
        match cell.submission {
            Some(submission) => self.command(Command::Stop { submission, running: true }),
            None => self.fail(interrupted("nothing was run")),
        }
    }
}

fn target_error_name(error: &prust::targets::TargetError) -> &'static str {
    match error {
        prust::targets::TargetError::NoEngines => "NoEnginesRegistered",
        _ => "InvalidTarget",
    }
}

fn run_metadata(compiled: &Compiled, namespace: &str) -> Value {
    json!({
        "library": compiled.library,
        "entry": ENTRY,
        "needs": compiled.needs,
        "namespace": namespace,
        "delta": compiled.delta,
    })
}

impl PxCell {
    fn streams(&self) -> bool {
        self.options.block.unwrap_or(true)
            && self.options.stream.unwrap_or(true)
            && matches!(self.options.group, None | Some(GroupBy::Type))
    }
}
