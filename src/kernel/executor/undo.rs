//! The way back: what each cell since the last snapshot found when it began. `%undo` goes back one
//! cell at a time, at most to before the last cell that ran something, because of that one there is
//! a snapshot. Also what is left when the worker dies.

use super::Executor;
use super::job::{Performed, Stage};
use super::tell::Fault;
use crate::cell::Namespace;

/// What a cell found.
#[derive(Debug)]
pub(super) struct Past {
    job: u64,
    label: String,
    namespace: Namespace,
    /// Parallel work with a greater number was begun by it or later.
    submissions: u64,
    /// It ran code: the worker's snapshot is the other half of the namespace.
    ran: bool,
}

/// Oldest first; only the first can be one that ran code.
#[derive(Debug, Default)]
pub(super) struct History {
    cells: Vec<Past>,
    /// Taken out, and the worker is on its way there.
    pub(super) undoing: Option<Past>,
}

impl History {
    pub(super) fn forget(&mut self) {
        self.cells.clear();
    }
}

impl Executor {
    /// The running cell is about to change the namespace, or (`ran`) the worker. Says whether it is
    /// the first time that it runs something.
    pub(super) fn changes(&mut self, ran: bool) -> bool {
        let Some(job) = &self.job else { return true };
        let known = self.history.cells.iter().rposition(|past| past.job == job.id);
        let first = known.is_none_or(|at| !self.history.cells[at].ran);
        let mut past = known.map_or_else(
            || Past {
                job: job.id,
                label: job.run.label.clone(),
                namespace: self.namespace.clone(),
                submissions: job.submissions_before,
                ran,
            },
            |at| self.history.cells.remove(at),
        );
        past.ran |= ran;
        if ran && first {
            // The snapshot of what was before is replaced by one of now.
            self.history.cells.clear();
        }
        self.history.cells.push(past);
        ran && first
    }

    pub(super) fn undo(&mut self) -> Performed {
        let Some(mut past) = self.history.cells.pop() else {
            let why = "there is nothing to undo: %undo goes back cell by cell, at most to before \
                       the last cell that ran code and was not taken back already";
            return Err(Fault::new("UndoError", why));
        };
        if !past.ran {
            // A cell that failed since then may have loaded what is undone.
            past.namespace.items.remember(&self.namespace.items);
            self.went_back(past);
            return Ok(());
        }
        self.history.undoing = Some(past);
        self.set_stage(Stage::Worker);
        if let Some(worker) = &self.worker {
            worker.undo();
        }
        Ok(())
    }

    fn went_back(&mut self, past: Past) {
        self.namespace = past.namespace;
        self.remark(&format!(
            "{} is undone: variables, items, imports and dependencies are as they were before it",
            past.label
        ));
        self.goes_on_since(past.submissions).iter().for_each(|work| self.remark(work));
    }

    /// There was nothing to wake; nothing was ended either.
    pub(super) fn no_snapshot(&mut self) {
        let Some(past) = self.history.undoing.take() else { return };
        if matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Worker)) {
            let why = format!("there was no snapshot before {}: nothing is undone", past.label);
            self.fail(Fault::new("UndoError", why));
        }
    }

    /// The worker is as before the last cell that ran something, or (not `restored`) empty.
    pub(super) fn roll_back(&mut self, restored: bool, threads_lost: &[String]) {
        let before = self.history.cells.iter().position(|past| past.ran);
        if !restored {
            self.namespace.variables.clear();
        } else if let Some(at) = before {
            // Its items stay, and those of later cells.
            self.namespace.variables = self.history.cells[at].namespace.variables.clone();
        }
        self.lost_at = self.last_label();
        self.lost = threads_lost.to_vec();
        self.history.forget();
    }

    fn last_label(&self) -> String {
        let running = self.job.as_ref().map(|job| job.run.label.clone());
        running
            .or_else(|| self.history.cells.last().map(|past| past.label.clone()))
            .unwrap_or_default()
    }

    /// The worker died between cells, or went back on `%undo`.
    pub(super) fn worker_died(&mut self, cause: &str, restored: bool, threads_lost: &[String]) {
        if let Some(past) = self.history.undoing.take() {
            let label = past.label.clone();
            self.roll_back(restored, threads_lost);
            if restored {
                self.went_back(past);
                self.say_lost();
            }
            if matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Worker)) {
                if restored {
                    return self.go_on();
                }
                let why = format!("the snapshot before {label} is gone: all variables are lost");
                self.fail(Fault::new("UndoError", why));
            }
            return;
        }
        let before = self.history.cells.iter().find(|past| past.ran);
        let (label, submissions) =
            before.map_or(("the last cell", 0), |past| (past.label.as_str(), past.submissions));
        let (state, handles) = match restored {
            true => (format!("the variables are as they were before {label}"), submissions),
            false => ("all variables are lost".to_owned(), 0),
        };
        self.roll_back(restored, threads_lost);
        self.remark(&format!("the worker ended between cells ({cause}); {state}"));
        self.say_lost();
        self.goes_on_since(handles).iter().for_each(|work| self.remark(work));
    }

    fn say_lost(&self) {
        if let Some(threads) = self.threads_gone() {
            self.remark(&threads);
        }
    }

    /// What a woken snapshot has lost.
    pub(super) fn threads_gone(&self) -> Option<String> {
        let names = crate::worker::names(&self.lost);
        (!self.lost.is_empty()).then(|| {
            format!(
                "{} thread(s) that ran before the cell are gone ({names}), and their tasks with \
                 them. tokio goes on with new threads, rayon too (from the second time on with one \
                 thread); whatever else waits for the old ones needs %restart.",
                self.lost.len(),
            )
        })
    }

    /// The running cell does nothing, in a worker that has lost threads.
    pub(super) fn stuck(&mut self) {
        let why = self.waits_for_lost();
        self.remark(&format!("this cell does nothing. {why} Interrupt it, and then %restart."));
        if let Some(job) = &mut self.job {
            job.stuck = true;
        }
    }

    /// The likely reason for waiting in vain.
    pub(super) fn waits_for_lost(&self) -> String {
        format!(
            "Threads were lost when {} ended ({}): what waits for them, or for tasks of \
             theirs, waits for ever.",
            self.lost_at,
            crate::worker::names(&self.lost),
        )
    }
}
