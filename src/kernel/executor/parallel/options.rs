//! The magics around parallel cells: `%pxconfig`, `%autopx`, `%pxresult`, `%px_cancel`,
//! `%px_retry`, and how their options add up.

use crate::client::{Command, SubmissionId};
use crate::kernel::executor::Executor;
use crate::kernel::executor::job::Stage;
use crate::kernel::executor::tell::Fault;
use crate::kernel::magics::PxOptions;

/// `asked` where it says something, else what was configured.
pub(super) fn merged(asked: PxOptions, config: &PxOptions) -> PxOptions {
    PxOptions {
        targets: asked.targets.or_else(|| config.targets.clone()),
        block: asked.block.or(config.block),
        local: asked.local,
        out: asked.out,
        verbose: asked.verbose.or(config.verbose),
        stream: asked.stream.or(config.stream),
        group: asked.group.or(config.group),
        progress_after: asked.progress_after.or(config.progress_after),
        signal_on_interrupt: asked
            .signal_on_interrupt
            .or_else(|| config.signal_on_interrupt.clone()),
    }
}

impl Executor {
    /// `%px_cancel`: the latest parallel work, or one by number.
    pub(in crate::kernel::executor) fn cancel(
        &mut self,
        submission: Option<u64>,
    ) -> Result<(), Fault> {
        let submission = self.chosen(submission)?;
        self.command(Command::Stop { submission, running: true });
        Ok(())
    }

    pub(in crate::kernel::executor) fn retry(
        &mut self,
        submission: Option<u64>,
    ) -> Result<(), Fault> {
        let submission = self.chosen(submission)?;
        let tag = self.next_number();
        self.command(Command::Retry { tag, submission });
        Ok(())
    }

    fn chosen(&self, submission: Option<u64>) -> Result<SubmissionId, Fault> {
        if let Some(unknown) = submission.filter(|number| !self.panels.knows(*number)) {
            let why = format!("there is no parallel work {unknown}");
            return Err(Fault::new("UsageError", why));
        }
        submission
            .or_else(|| self.panels.newest())
            .ok_or_else(|| Fault::new("UsageError", "there is no parallel work yet"))
    }

    pub(in crate::kernel::executor) fn configure_px(&mut self, options: PxOptions) {
        self.parallel.config = merged(options, &self.parallel.config);
    }

    pub(in crate::kernel::executor) fn toggle_autopx(&mut self) {
        self.parallel.autopx = !self.parallel.autopx;
        let state = if self.parallel.autopx {
            "%autopx enabled: cells run on the engines until the next %autopx"
        } else {
            "%autopx disabled"
        };
        self.print(None, false, format!("{state}\n"));
    }

    /// `%pxresult`: shows the latest parallel cell again; waits for it if it still runs.
    pub(in crate::kernel::executor) fn px_result(
        &mut self,
        options: PxOptions,
    ) -> Result<(), Fault> {
        let tag = self
            .parallel
            .latest
            .ok_or_else(|| Fault::new("UsageError", "no parallel cell has run yet"))?;
        let group = options.group;
        let Some(cell) = self.parallel.cells.get_mut(&tag) else {
            return Err(Fault::new(
                "UsageError",
                "the latest parallel cell is no longer remembered",
            ));
        };
        if cell.finished.is_none() {
            // `px_finished` shows all of it, under this cell.
            cell.options.block = Some(true);
            cell.options.stream = Some(false);
            cell.options.group = group;
            cell.run = self.latest_run;
            self.set_stage(Stage::Px { tag });
            return Ok(());
        }
        let run = self.latest_run;
        self.show_outputs(tag, run, group);
        match self.px_fault(tag, false) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}
