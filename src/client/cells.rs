//! Cells for engines: asked for by code or by the kernel, compiled there, sent from here, one run
//! per engine.

use super::command::{CellWork, ClientEvent, SubmissionId};
use super::event::{Channel, Effect, Now, Outgoing, raw};
use super::state::State;
use super::submission::Work;
use super::submit::Plan;
use super::task::{End, Stage, Task};
use prust::outcome::Failure;
use prust::request::Options;
use prust::{EngineId, Error, Targets};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Characters of a cell's first line that make its label.
const LABEL_CHARS: usize = 60;

impl State {
    pub(super) fn submit_cell(
        &mut self,
        targets: &Targets,
        balanced: bool,
        options: Options,
        source: String,
        now: Now,
    ) -> Result<SubmissionId, Error> {
        let mut engines = self.engines_meant(targets, balanced)?;
        if balanced {
            // The cell is compiled against one engine's variables, so the engine is chosen here.
            let queue = |id: &EngineId| self.engines.get(id).map_or(0, |engine| engine.queue.len());
            engines = engines.into_iter().min_by_key(queue).into_iter().collect();
        }
        if engines.is_empty() {
            return Err(Error::NoEnginesRegistered);
        }
        let label = options.label.unwrap_or_else(|| excerpt(&source));
        let submission = self.start(cell_plan(label, &engines), now);
        self.emit(ClientEvent::CellRequested { submission, engines, source });
        Ok(submission)
    }

    /// The kernel has compiled a cell.
    pub(super) fn cell(&mut self, work: CellWork, now: Now) {
        let CellWork { tag, submission, runs, code, silent, label } = work;
        let id = submission.unwrap_or_else(|| {
            let engines: Vec<EngineId> = runs.iter().map(|run| run.engine).collect();
            let label = label.clone().unwrap_or_else(|| excerpt(&code));
            let id = self.start(cell_plan(label, &engines), now);
            self.emit(ClientEvent::CellSubmitted { tag, submission: id });
            id
        });
        let content = raw(&json!({
            "code": code,
            "silent": silent,
            "store_history": !silent,
            "user_expressions": {},
            "allow_stdin": false,
            "stop_on_error": !silent,
        }));
        for run in runs {
            let mut metadata = json!({"label": label});
            if !run.prust.is_null() {
                metadata["prust"] = run.prust;
            }
            self.send_cell(id, run.engine, raw(&metadata), content.clone(), now);
        }
    }

    fn send_cell(
        &mut self,
        id: SubmissionId,
        engine_id: EngineId,
        metadata: Arc<RawValue>,
        content: Arc<RawValue>,
        now: Now,
    ) {
        let waits =
            |task: &Task| task.engine == Some(engine_id) && matches!(task.stage, Stage::Compiling);
        let Some(submission) = self.submissions.get_mut(&id) else { return };
        let Some(idx) = submission.tasks.iter().position(waits) else { return };
        let idx = idx as u32;
        let Some(engine) = self.engines.get_mut(&engine_id) else {
            let failure =
                Failure::new("EngineError", "the engine was lost before the cell was sent");
            return self.end_task(id, idx, End::Failed(failure), now);
        };
        submission.tasks[idx as usize].stage = Stage::Sent;
        let number = submission.number(idx);
        submission.bytes_sent += content.get().len() as u64;
        engine.queue.push_back((id, idx));
        let to = Some(engine.uuid.clone());
        let msg_type = "execute_request".into();
        let buffers = Vec::new();
        let channel = Channel::Mux;
        let cell = Outgoing { channel, to, number, msg_type, metadata, content, buffers };
        if self.settings.foreign {
            self.missing.keep_cell(&cell);
        }
        self.effects.push(Effect::Send(cell));
        self.start_next(engine_id, now);
        self.refresh_hint(id);
    }

    /// The cell could not be compiled.
    pub(super) fn cell_failed(&mut self, id: SubmissionId, failure: &Failure, now: Now) {
        let Some(submission) = self.submissions.get(&id) else { return };
        let compiling = |task: &Task| matches!(task.stage, Stage::Compiling);
        let tasks = submission.tasks.iter().zip(0u32..).filter(|(task, _)| compiling(task));
        for idx in tasks.map(|(_, idx)| idx).collect::<Vec<_>>() {
            self.end_task(id, idx, End::Failed(failure.clone()), now);
        }
    }
}

fn cell_plan(label: String, engines: &[EngineId]) -> Plan {
    let task =
        |engine: &EngineId| Task { stage: Stage::Compiling, ..Task::new(0..1, 1, Some(*engine)) };
    Plan {
        label,
        method: "execute",
        work: Work::Cell,
        balanced: false,
        tasks: engines.iter().map(task).collect(),
        after: Vec::new(),
        follow: Vec::new(),
    }
}

/// The first line of a cell that is not a comment.
fn excerpt(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let line = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with("//"));
    let line = line.unwrap_or("cell");
    match line.char_indices().nth(LABEL_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
