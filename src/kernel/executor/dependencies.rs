//! `:dep`: a build that shows how it goes, what it costs the notebook, and the set in force after
//! it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::job::Stage;
use super::tell::{Fault, bundle};
use super::{Event, Executor};
use crate::compile::{Added, DependencyError, Progress, Renewal};
use crate::kernel::seam::Report;
use crate::wire::jupyter::Object;

/// What a set in force changes, with remarks; or why it is not.
pub(super) type Built = Result<(Renewal, Vec<String>), Fault>;

/// A build and its display.
#[derive(Debug)]
pub(super) struct Building {
    display: String,
    started: Instant,
    /// How many packages are expected.
    n_packages: usize,
    n_begun: usize,
    shown: bool,
}

impl Executor {
    /// Adds the crates of `text`; without text, has packages of this disk built as they are now.
    pub(super) fn add_dependencies(&mut self, text: String) -> Result<(), Fault> {
        let number = self.next_number();
        let display = format!("prust-{}-dep-{number}", self.settings.session);
        let (Some(compiler), Some(job)) = (self.compiler.clone(), &mut self.job) else {
            return Err(Fault::new("ToolchainError", "there is no compiler"));
        };
        let id = job.id;
        let started = Instant::now();
        job.building = Some(Building { display, started, n_packages: 0, n_begun: 0, shown: false });
        let (namespace, inbox) = (self.namespace.clone(), self.inbox.clone());
        let tell = Arc::new(move |progress: Progress| {
            // The loop may have ended; then nobody looks.
            let _ = inbox.send(Event::DependencyProgress { job: id, progress });
        });
        let task = self.compute(async move {
            let added = compiler.add_dependencies(namespace.set.as_ref(), &text, tell).await;
            let result = match added {
                Ok(Added { set, remarks }) => match compiler.renewal(&namespace, &set).await {
                    Ok(renewal) => Ok((renewal, remarks)),
                    Err(failed) => Err(Fault::of_compiler(failed)),
                },
                Err(error) => Err(fault(&error)),
            };
            Event::Dependencies { job: id, result }
        });
        self.set_stage(Stage::Building(task));
        Ok(())
    }

    /// Whether a package of this disk was edited; asked once in a run.
    pub(super) fn has_edited_dependency(&mut self) -> bool {
        let Some(job) = self.job.as_mut().filter(|job| !job.refreshed) else { return false };
        job.refreshed = true;
        let set = self.namespace.set.as_ref();
        self.compiler.as_ref().is_some_and(|compiler| compiler.is_edited(set))
    }

    fn is_building(&self, id: u64) -> bool {
        let job = self.job.as_ref().filter(|job| job.id == id);
        job.is_some_and(|job| matches!(job.stage, Stage::Building(_)))
    }

    pub(super) fn dependencies_progress(&mut self, id: u64, progress: Progress) {
        if !self.is_building(id) {
            return;
        }
        let building = self.job.as_mut().and_then(|job| job.building.as_mut());
        match (progress, building) {
            (Progress::Packages(count), Some(building)) => building.n_packages = count,
            (Progress::Line(line), Some(building)) => {
                let Some(text) = building.words(&line) else { return };
                let first = !std::mem::replace(&mut building.shown, true);
                self.show_building(first, text);
            }
            (Progress::Changes(crates), _) => self.warn_of_loss(&crates),
            (_, None) => (),
        }
    }

    fn show_building(&self, first: bool, text: String) {
        let Some((job, building)) =
            self.job.as_ref().and_then(|job| Some((job, job.building.as_ref()?)))
        else {
            return;
        };
        let (run, id, metadata) = (Some(job.run.run), building.display.clone(), Object::new());
        let data = bundle([("text/plain", text.as_str())]);
        self.report(match first {
            true => Report::Display { run, id: Some(id), data, metadata },
            false => Report::UpdateDisplay { run, id, data, metadata },
        });
    }

    /// Says before the build what it will cost.
    fn warn_of_loss(&self, crates: &BTreeSet<String>) {
        let variables = self.namespace.variables_of(crates);
        let items = &self.namespace.items;
        let titles: Vec<String> =
            items.naming(crates).iter().map(|id| items.all[id].title()).collect();
        if variables.is_empty() && titles.is_empty() {
            return;
        }
        let listed = |names: &[String]| format!("`{}`", names.join("`, `"));
        let named: Vec<String> = crates.iter().cloned().collect();
        let mut text = format!("this changes features or versions of {}", listed(&named));
        if !variables.is_empty() {
            text.push_str(&format!(": {} will be lost (interrupt to keep)", listed(&variables)));
        }
        if !titles.is_empty() {
            text.push_str(&format!("; {} will be made anew", listed(&titles)));
        }
        self.remark(&text);
    }

    /// The last word of the display, if there is one.
    pub(super) fn building_ended(&mut self, how: &str) {
        let building = self.job.as_ref().and_then(|job| job.building.as_ref());
        let shown = building.filter(|building| building.shown);
        if let Some(building) = shown {
            let seconds = building.started.elapsed().as_secs_f32();
            let crates = if building.n_begun == 1 { "crate" } else { "crates" };
            let text = format!("{} {crates}: {how} after {seconds:.1} s", building.n_begun);
            self.show_building(false, text);
        }
        if let Some(job) = &mut self.job {
            job.building = None;
        }
    }

    pub(super) fn dependencies_built(&mut self, id: u64, result: Built) {
        if !self.is_building(id) {
            return;
        }
        self.building_ended(if result.is_ok() { "built" } else { "failed" });
        let job = self.job.as_mut();
        let is_refresh = job.is_some_and(|job| std::mem::take(&mut job.refreshing));
        let (renewal, remarks) = match result {
            Ok(built) => built,
            // The cell may be the one that mends it.
            Err(fault) if is_refresh => {
                let words = fault.traceback.join("\n");
                let goes_on = "The cell runs with the package as it was built last.";
                self.remark(&format!("{words}\n{goes_on}"));
                return self.go_on();
            }
            Err(fault) => return self.fail(fault.note("The dependencies stay as they were.")),
        };
        remarks.iter().for_each(|remark| self.remark(remark));
        let Renewal { delta, warnings, .. } = renewal;
        if !delta.unkept.is_empty() {
            self.remark(&format!(
                "`{}` can no longer be used: made with crates that are other ones now",
                delta.unkept.join("`, `")
            ));
        }
        self.show_warnings(&warnings);
        if let Some(set) = &delta.set {
            self.parallel.use_set(set);
        }
        self.changes(false);
        self.namespace.apply(&delta);
        self.go_on();
    }
}

/// A refusal, with cargo's own words.
fn fault(error: &DependencyError) -> Fault {
    let fault = Fault::new("DependencyError", error.to_string());
    match error.output() {
        "" => fault,
        output => fault.note(output),
    }
}

impl Building {
    /// What to show for a line of cargo's; most lines are not for the user.
    fn words(&mut self, line: &str) -> Option<String> {
        let (verb, what) = line.split_once(' ')?;
        if verb == "Blocking" {
            return Some("Waiting for another notebook's build".to_owned());
        }
        if verb != "Compiling" || crate::compile::is_generated(what) {
            return None;
        }
        self.n_begun += 1;
        let of = self.n_packages.max(self.n_begun);
        Some(format!("Compiling {what} ({} of {of})", self.n_begun))
    }
}
