//! Engines that others use, too: before a cell is called wrong, they are asked what their variables
//! are by now. A run against a namespace that no engine has does that: it runs nothing and brings
//! the true one.

use std::collections::BTreeSet;

use prust::EngineId;
use serde_json::json;

use super::super::Executor;
use crate::client::{CellRun, CellWork, Command, SubmissionId};

/// A cell whose engines were asked.
#[derive(Default)]
pub(super) struct Asked {
    engines: Vec<EngineId>,
    /// Those that have not answered.
    missing: BTreeSet<EngineId>,
}

impl Executor {
    /// Asks the engines of a cell that does not compile, unless that has been done, or nobody else
    /// can have changed anything.
    pub(super) fn ask_truth(&mut self, tag: u64, engines: &[EngineId]) -> bool {
        let is_shared = self.cluster.attached_to().is_some();
        let Some(cell) = self.parallel.cells.get_mut(&tag) else { return false };
        if !is_shared || cell.asked.is_some() {
            return false;
        }
        let missing = engines.iter().copied().collect();
        cell.asked = Some(Asked { engines: engines.to_vec(), missing });
        let unknown = json!({"namespace": "", "needs": []});
        let runs = engines.iter().map(|engine| CellRun { engine: *engine, prust: unknown.clone() });
        let work = CellWork {
            tag,
            submission: cell.submission,
            runs: runs.collect(),
            code: cell.code.clone(),
            silent: false,
            label: None,
        };
        self.command(Command::Cell(work));
        true
    }

    /// An engine has answered, or is gone. True if it had been asked: the cell is compiled when all
    /// have.
    pub(super) fn truth_came(&mut self, submission: SubmissionId, engine: EngineId) -> bool {
        let mut cells = self.parallel.cells.iter_mut();
        let cell = cells.find(|(_, cell)| cell.submission == Some(submission));
        let Some((tag, Some(asked))) = cell.map(|(tag, cell)| (*tag, cell.asked.as_mut())) else {
            return false;
        };
        if !asked.missing.remove(&engine) {
            return false;
        }
        if asked.missing.is_empty() {
            let engines = std::mem::take(&mut asked.engines);
            self.compile_px(tag, engines);
        }
        true
    }
}
