//! A run, part by part: its magics and its code in order, each waited for before the next begins.
//! Decides what comes next; how each is done is in the other files.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::dependencies::Building;
use super::tell::Fault;
use super::{Event, Executor};
use crate::cell::Delta;
use crate::compile::{Cell, Compiled, Failed};
use crate::kernel::magics::{CellMagic, Magic, Part, PxOptions, TimeitOptions};
use crate::kernel::seam::{Outcome, Report, Run};
use crate::wire::jupyter::Object;
use crate::worker::Surroundings;

/// What doing a magic came to.
pub(super) type Performed = Result<(), Fault>;

/// What compiling a local cell gave.
pub(super) type Compilation = Result<Compiled, Failed>;

/// A run waits this long for the first counters of a panel it shows.
const PANEL_TIME: Duration = Duration::from_secs(2);

/// One thing to do.
#[derive(Debug)]
pub(super) enum Step {
    Magic(Magic),
    /// Rust in the local worker.
    Local(String),
    /// Rust on the engines.
    Px {
        options: PxOptions,
        code: String,
    },
    WriteFile {
        path: String,
        append: bool,
        body: String,
    },
    Shell(String),
    /// One of the request's `user_expressions`, evaluated once the cell has succeeded.
    Expression {
        name: String,
        code: String,
    },
    /// Rust in the local worker, many times.
    Timeit {
        options: TimeitOptions,
        code: String,
    },
    /// Says how long the run took.
    Time,
    /// The optimisation of what follows; `None`: by what the code is.
    Opt(Option<u8>),
}

impl Step {
    /// Whether it compiles something.
    fn is_rust(&self) -> bool {
        matches!(self, Self::Local(_) | Self::Px { .. } | Self::Expression { .. })
    }
}

/// What a job waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// The next step can be taken.
    Ready,
    Compiling(AbortHandle),
    Running {
        run: u64,
        delta: Box<Delta>,
    },
    /// A dependency set is being built.
    Building(AbortHandle),
    Shell(AbortHandle),
    /// Waits for the cluster, then does the step again.
    Cluster,
    /// Another cluster is looked for.
    Attaching(AbortHandle),
    /// The controller is asked how it is; `stock`: what any controller answers.
    Controller {
        tag: u64,
        stock: bool,
    },
    /// A parallel cell, by its tag.
    Px {
        tag: u64,
    },
    /// The worker starts over or goes back (`%restart`, `%undo`).
    Worker,
    /// The worker measures what a snapshot costs.
    Measuring,
    /// The worker says where its processes begin; then the step is done again.
    Surroundings,
    /// All is done but for a panel whose first counters have not come.
    Panel,
}

/// The run that is going on.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) run: Run,
    pub(super) steps: VecDeque<Step>,
    pub(super) stage: Stage,
    pub(super) times: Times,
    pub(super) interrupted: bool,
    /// It was seen doing nothing, in a worker that has lost threads.
    pub(super) stuck: bool,
    /// The user expression being evaluated, and what it has shown.
    pub(super) expression: Option<(String, Object)>,
    /// What the reply asks the frontend to do (`page`).
    pub(super) payload: Vec<Value>,
    /// The user's choice of optimisation before the run, and whether it is the run's alone.
    opt_before: Option<u8>,
    opt_of_cell: bool,
    /// Parallel work with a greater number was begun by this run.
    pub(super) submissions_before: u64,
    /// The build of dependencies that is shown.
    pub(super) building: Option<Building>,
    /// Where the next command of the shell begins.
    pub(super) surroundings: Option<Surroundings>,
    /// Edited packages of this disk have been built for this run.
    pub(super) refreshed: bool,
    /// What is built is an edited package, and not what the cell asks for.
    pub(super) refreshing: bool,
}

impl Job {
    /// The stage, which is over.
    pub(super) fn leave_stage(&mut self) -> Stage {
        self.times.change(&self.stage, &Stage::Ready);
        std::mem::replace(&mut self.stage, Stage::Ready)
    }
}

/// What the run has spent its time on.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// When the current stage of compiling or running began.
    since: Option<Instant>,
    pub(super) compiling: Duration,
    pub(super) running: Duration,
}

impl Times {
    fn change(&mut self, from: &Stage, to: &Stage) {
        let spent = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        match from {
            Stage::Compiling(_) => self.compiling += spent,
            Stage::Running { .. } | Stage::Px { .. } | Stage::Shell(_) => self.running += spent,
            _ => (),
        }
        let counts = matches!(
            to,
            Stage::Compiling(_) | Stage::Running { .. } | Stage::Px { .. } | Stage::Shell(_)
        );
        self.since = counts.then(Instant::now);
    }
}

/// The steps of a cell, outermost wrap first.
fn steps(run: &Run, autopx: bool, timing: bool) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    let mut px = None;
    let mut timeit = None;
    let mut timed = timing;
    for wrap in &run.cell.wraps {
        match wrap {
            CellMagic::Px(options) => px = Some(options.clone()),
            CellMagic::Time => timed = true,
            CellMagic::Timeit(options) => timeit = Some(*options),
            CellMagic::Opt(level) => steps.push_back(Step::Opt(*level)),
            CellMagic::WriteFile { path, append, body } => {
                let (path, append, body) = (path.clone(), *append, body.clone());
                steps.push_back(Step::WriteFile { path, append, body });
            }
            CellMagic::Bash { body } => steps.push_back(Step::Shell(body.clone())),
        }
    }
    if px.is_none() && autopx {
        px = Some(PxOptions::default());
    }
    for part in &run.cell.parts {
        match (part, &px) {
            (Part::Magic { magic, .. }, _) => match (magic, steps.back_mut()) {
                (Magic::Dep { text, .. }, Some(Step::Magic(Magic::Dep { text: before, .. })))
                    if is_lines(text) && is_lines(before) =>
                {
                    // Lines that follow each other are one wish, and one build.
                    before.push('\n');
                    before.push_str(text);
                }
                _ => steps.push_back(Step::Magic(magic.clone())),
            },
            (Part::Code(code), _) if code.trim().is_empty() => (),
            (Part::Code(code), None) => steps.push_back(match timeit {
                Some(options) => Step::Timeit { options, code: code.clone() },
                None => Step::Local(code.clone()),
            }),
            (Part::Code(code), Some(options)) => {
                if options.local {
                    steps.push_back(Step::Local(code.clone()));
                }
                steps.push_back(Step::Px { options: options.clone(), code: code.clone() });
            }
        }
    }
    if timed {
        steps.push_back(Step::Time);
    }
    for (name, code) in &run.expressions {
        steps.push_back(Step::Expression { name: name.clone(), code: code.clone() });
    }
    steps
}

/// Whether it is dependencies without a table's head.
fn is_lines(text: &str) -> bool {
    !text.lines().any(|line| line.trim_start().starts_with('['))
}

impl Executor {
    pub(super) fn start_job(&mut self, run: Run) {
        self.latest_run = run.run;
        let id = self.next_number();
        let steps = steps(&run, self.parallel.autopx, self.timing);
        let submissions_before = self.panels.newest().unwrap_or(0);
        self.job = Some(Job {
            id,
            run,
            steps,
            stage: Stage::Ready,
            times: Times::default(),
            opt_of_cell: false,
            opt_before: self.compiler.as_ref().and_then(|compiler| compiler.opt_level()),
            interrupted: false,
            stuck: false,
            expression: None,
            payload: Vec::new(),
            submissions_before,
            building: None,
            surroundings: None,
            refreshed: false,
            refreshing: false,
        });
        self.advance();
    }

    /// Takes steps until one has to be waited for.
    pub(super) fn advance(&mut self) {
        loop {
            let Some(job) = &mut self.job else { return };
            if !matches!(job.stage, Stage::Ready) {
                return;
            }
            if let Some(why) = &self.broken {
                let fault = Fault::new("ToolchainError", why.clone());
                return self.fail(fault);
            }
            if self.compiler.is_none() {
                // `opened` comes back here.
                return self.show_preparing();
            }
            let Some(step) = job.steps.pop_front() else { return self.succeed() };
            if let Err(fault) = self.take(step) {
                return self.fail(fault);
            }
        }
    }

    fn take(&mut self, step: Step) -> Result<(), Fault> {
        if step.is_rust() && self.has_edited_dependency() {
            // First the packages as they are now, then this step again.
            if let Some(job) = &mut self.job {
                job.steps.push_front(step);
                job.refreshing = true;
            }
            return self.add_dependencies(String::new());
        }
        match step {
            Step::Magic(magic) => self.perform(magic),
            Step::Local(code) => self.compile_local(&code, None),
            Step::Timeit { options, code } => self.compile_local(&code, Some(options)),
            Step::Px { options, code } => self.start_px(options, code),
            Step::WriteFile { path, append, body } => self.write_file(path, append, body),
            Step::Shell(command) => self.start_shell(command),
            Step::Expression { name, code } => {
                if let Some(job) = &mut self.job {
                    job.expression = Some((name, Object::new()));
                }
                self.compile_local(&code, None)
            }
            Step::Time => self.say_time(),
            Step::Opt(level) => {
                if let Some(job) = &mut self.job {
                    job.opt_of_cell = true;
                }
                self.set_opt(Some(level))
            }
        }
    }

    /// The stage of the running job; calls come only while there is one.
    pub(super) fn set_stage(&mut self, stage: Stage) {
        if let Some(job) = &mut self.job {
            job.times.change(&job.stage, &stage);
            job.stage = stage;
        }
    }

    pub(super) fn succeed(&mut self) {
        // What is shown after the run has ended is lost to frontends that only run notebooks.
        if let Some(job) = self.job.as_mut().filter(|job| self.panels.awaits(job.run.run)) {
            let first = !matches!(job.stage, Stage::Panel);
            let id = job.id;
            job.stage = Stage::Panel;
            if first {
                self.later(async move {
                    tokio::time::sleep(PANEL_TIME).await;
                    Event::PanelLate { job: id }
                });
            }
            return;
        }
        let payload = self.job.as_mut().map(|job| std::mem::take(&mut job.payload));
        self.finish(Outcome::Ok { payload: payload.unwrap_or_default() });
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        let Fault { ename, evalue, mut traceback } = fault;
        // A user expression that fails is a value of its own; the cell has succeeded.
        if self.end_expression(json!({
            "status": "error", "ename": ename, "evalue": evalue, "traceback": traceback,
        })) {
            return self.go_on();
        }
        // The handles are gone with the cell; the work is not.
        let before = self.job.as_ref().map_or(u64::MAX - 1, |job| job.submissions_before);
        traceback.extend(self.goes_on_since(before));
        self.finish(Outcome::Error { ename, evalue, traceback });
    }

    /// Names the parallel work after `submission` that nobody holds any more.
    pub(super) fn goes_on_since(&self, submission: u64) -> Vec<String> {
        let running = self.panels.running_since(submission);
        let line = |label: &str, number| format!("`{label}` goes on; %px_cancel {number} ends it");
        running.iter().map(|work| line(&work.label, work.submission)).collect()
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(job) = self.job.take() {
            if let Some(compiler) = self.compiler.as_ref().filter(|_| job.opt_of_cell) {
                compiler.set_opt_level(job.opt_before);
            }
            self.report_names();
            self.report(Report::Done { run: job.run.run, outcome });
        }
    }

    /// Reports the user expression being evaluated, if there is one.
    fn end_expression(&mut self, value: Value) -> bool {
        let Some(job) = &mut self.job else { return false };
        let Some((name, _)) = job.expression.take() else { return false };
        let run = job.run.run;
        self.report(Report::Expression { run, name, value });
        true
    }

    /// The next step, after the one before has succeeded.
    pub(super) fn go_on(&mut self) {
        let shown = self.job.as_mut().and_then(|job| job.expression.as_mut());
        if let Some(data) = shown.map(|(_, data)| std::mem::take(data)) {
            self.end_expression(json!({ "status": "ok", "data": data, "metadata": {} }));
        }
        self.set_stage(Stage::Ready);
        self.advance();
    }

    fn compile_local(&mut self, code: &str, measure: Option<TimeitOptions>) -> Result<(), Fault> {
        let (Some(compiler), Some(job)) = (self.compiler.clone(), &self.job) else {
            return Err(Fault::new("ToolchainError", "there is no compiler"));
        };
        let (id, label) = (job.id, job.run.label.clone());
        // A cell with magics among its lines has several texts: each replaces its own.
        // What the frontend wants to know with it is no text of the cell's.
        let is_text = |step: &&Step| !matches!(step, Step::Expression { .. });
        let n_left = job.steps.iter().filter(is_text).count();
        let key = job.run.cell_id.as_ref().filter(|_| job.expression.is_none());
        let key = key.map(|key| format!("{key}/{n_left}")).unwrap_or_default();
        let namespace = self.namespace.clone();
        let code = code.to_owned();
        let compiling = self.compute(async move {
            let cell = Cell { text: &code, label: &label, key: &key };
            let result = match measure {
                None => compiler.cell(&namespace, cell).await,
                Some(TimeitOptions { loops, repeat }) => {
                    let (loops, repeat) = (loops.unwrap_or(0), repeat.unwrap_or(0));
                    compiler.measured_cell(&namespace, cell, loops, repeat).await
                }
            };
            Event::Compiled { job: id, result }
        });
        self.set_stage(Stage::Compiling(compiling));
        Ok(())
    }

    pub(super) fn interrupt(&mut self) {
        let Some(job) = &mut self.job else { return };
        job.interrupted = true;
        let in_parallel = matches!(job.stage, Stage::Px { .. });
        tracing::debug!(run = ?job.run.run, in_parallel, "interrupt");
        match &job.stage {
            Stage::Compiling(task) | Stage::Shell(task) => {
                task.abort();
                self.fail(interrupted("nothing was run"));
            }
            Stage::Running { .. } => {
                if let Some(worker) = &self.worker {
                    worker.interrupt();
                }
                self.interrupt_requests();
            }
            Stage::Px { tag } => {
                let tag = *tag;
                self.interrupt_px(tag);
            }
            Stage::Building(task) => {
                task.abort();
                self.building_ended("interrupted");
                self.fail(interrupted("the dependencies stay as they were"));
            }
            Stage::Cluster => self.fail(interrupted("the cluster goes on starting")),
            Stage::Attaching(task) => {
                task.abort();
                self.fail(interrupted("nothing was attached"));
            }
            Stage::Controller { .. } => self.fail(interrupted("nothing was changed")),
            Stage::Ready | Stage::Worker => self.fail(interrupted("nothing was run")),
            Stage::Measuring | Stage::Surroundings => self.fail(interrupted("nothing was changed")),
            Stage::Panel => self.panel_late(),
        }
    }

    /// The panel has come, or does not come in time: the run ends.
    pub(super) fn panel_shown(&mut self) {
        if matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Panel)) {
            self.succeed();
        }
    }

    pub(super) fn panel_late(&mut self) {
        self.panels.forget_wanted();
        self.panel_shown();
    }
}

/// The fault of an interrupted run.
pub(super) fn interrupted(what: &str) -> Fault {
    Fault::new("Interrupted", format!("interrupted; {what}"))
}
