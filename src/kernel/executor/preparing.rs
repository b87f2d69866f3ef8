//! The first start with a toolchain: what cells link against is built once, and a cell that waits
//! for it shows how far that is.

use std::time::Instant;

use super::tell::bundle;
use super::{Event, Executor};
use crate::compile::{self, Compiler};
use crate::kernel::seam::{Report, RunId};
use crate::wire::jupyter::Object;

/// A build of what cells link against.
#[derive(Debug)]
pub(super) struct Preparing {
    started: Instant,
    step: String,
    /// The cell that shows it.
    shown: Option<RunId>,
}

impl Executor {
    /// Finds the toolchain; what it lacks is built, which comes back step by step.
    pub(super) fn open(&self) {
        let settings = self.settings.compile.clone();
        let inbox = self.inbox.clone();
        let tell = move |step: &str| {
            let ours = step.strip_prefix("Compiling ").is_some_and(compile::is_generated);
            if ours || step.starts_with("Finished") {
                return;
            }
            // The loop may have ended; then nobody looks.
            let _ = inbox.send(Event::Preparing(step.to_owned()));
        };
        self.compute(async move { Event::Opened(Compiler::open_telling(settings, tell).await) });
    }

    pub(super) fn prepares(&mut self, step: String) {
        let new = || Preparing { started: Instant::now(), step: String::new(), shown: None };
        self.preparing.get_or_insert_with(new).step = step;
        self.show_preparing();
    }

    /// Shows the step in the cell that waits, if one does.
    pub(super) fn show_preparing(&mut self) {
        let waiting = self.job.as_ref().map(|job| job.run.run);
        let (Some(run), Some(preparing)) = (waiting, &mut self.preparing) else { return };
        let first = preparing.shown.is_none();
        let run = *preparing.shown.get_or_insert(run);
        let text = format!("Preparing prust for this Rust toolchain, once: {}", preparing.step);
        self.show_prepared(run, first, &text);
    }

    /// The last word, where a cell has shown the others.
    pub(super) fn prepared(&mut self, how: &str) {
        let Some(Preparing { started, shown: Some(run), .. }) = self.preparing.take() else {
            return;
        };
        let seconds = started.elapsed().as_secs_f32();
        let text = format!("{how} for this Rust toolchain after {seconds:.1} s");
        self.show_prepared(run, false, &text);
    }

    fn show_prepared(&self, run: RunId, first: bool, text: &str) {
        let (id, metadata) = (format!("prust-{}-preparing", self.settings.session), Object::new());
        let (run, data) = (Some(run), bundle([("text/plain", text)]));
        self.report(match first {
            true => Report::Display { run, id: Some(id), data, metadata },
            false => Report::UpdateDisplay { run, id, data, metadata },
        });
    }
}
