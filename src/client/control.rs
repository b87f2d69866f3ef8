//! Stopping work and steering engines: aborts, interrupts, shutdowns.

use super::command::{Signal, Stopped, SubmissionId};
use super::event::{Channel, Now, raw};
use super::replies::{aborted, about};
use super::state::State;
use super::submission::Work;
use super::task::{End, Stage, Task};
use prust::{EngineId, Error, Targets};
use serde_json::json;
use std::sync::Arc;

impl State {
    /// Drops what has not started; with `running`, interrupts what runs.
    pub(super) fn stop(
        &mut self,
        id: SubmissionId,
        running: bool,
        now: Now,
    ) -> Result<Stopped, Error> {
        let n_live = self.engines.len();
        let gone = || Error::ResultPurged { submission: id };
        let submission = self.submissions.get_mut(&id).ok_or_else(gone)?;
        submission.stopping |= running;
        let balanced = submission.balanced;
        let mut stopped = Stopped::default();
        let mut open: Vec<(u32, Option<EngineId>, bool)> = Vec::new();
        let is_running = |task: &&Task| matches!(task.stage, Stage::Running);
        let n_known = submission.tasks.iter().filter(is_running).count();
        let mut n_silent = if balanced { n_live.saturating_sub(n_known) } else { 0 };
        let mut unsent = Vec::new();
        for (task, idx) in submission.tasks.iter().zip(0u32..) {
            match task.stage {
                Stage::Ended(_) | Stage::Settling { .. } => stopped.finished += 1,
                Stage::Compiling | Stage::Held => unsent.push(idx),
                // An engine may have taken a balanced task without having said so yet.
                Stage::Sent => {
                    open.push((idx, task.engine, n_silent > 0));
                    n_silent = n_silent.saturating_sub(1);
                }
                Stage::Running => open.push((idx, task.engine, true)),
            }
        }
        for (_, _, runs) in &open {
            match (*runs, running) {
                (false, _) => stopped.aborted += 1,
                (true, true) => stopped.interrupted += 1,
                (true, false) => stopped.left_running += 1,
            }
        }
        stopped.aborted += unsent.len() as u64;
        self.touch(id);
        self.withdraw(id, &open, running, now);
        for idx in unsent {
            self.end_task(id, idx, End::Aborted(aborted()), now);
        }
        Ok(stopped)
    }

    /// Sends the aborts and interrupts for open tasks.
    fn withdraw(
        &mut self,
        id: SubmissionId,
        open: &[(u32, Option<EngineId>, bool)],
        running: bool,
        now: Now,
    ) {
        let Some(submission) = self.submissions.get(&id) else { return };
        let anywhere = submission.balanced || matches!(submission.work, Work::Fetched);
        let msg_id = |idx: u32| self.msg_id(submission.number(idx));
        let mut messages = Vec::new();
        let mut unreachable = Vec::new();
        if anywhere {
            let ids: Vec<String> = open.iter().map(|(idx, ..)| msg_id(*idx)).collect();
            let content = raw(&about(&ids));
            for engine in self.engines.values().filter(|_| !ids.is_empty()) {
                messages.push((engine.uuid.clone(), "abort_request", content.clone()));
                if running {
                    messages.push((engine.uuid.clone(), "interrupt_request", content.clone()));
                }
            }
            if self.engines.is_empty() {
                unreachable.extend(open.iter().map(|(idx, ..)| *idx));
            }
        } else {
            for (engine_id, engine) in &self.engines {
                let mine = open.iter().filter(|(_, at, _)| *at == Some(*engine_id));
                let ids: Vec<String> = mine.map(|(idx, ..)| msg_id(*idx)).collect();
                if ids.is_empty() {
                    continue;
                }
                let content = raw(&about(&ids));
                messages.push((engine.uuid.clone(), "abort_request", content.clone()));
                if running {
                    messages.push((engine.uuid.clone(), "interrupt_request", content));
                }
            }
        }
        tracing::debug!(submission = id, open = ?open, n_messages = messages.len(), "withdraw");
        for (uuid, msg_type, content) in messages {
            self.send_plain(Channel::Control, Some(uuid), msg_type, content);
        }
        for idx in unreachable {
            self.end_task(id, idx, End::Aborted(aborted()), now);
        }
    }

    /// Does something to engines, whatever they run.
    pub(super) fn signal(
        &mut self,
        targets: &Targets,
        signal: Signal,
        now: Now,
    ) -> Result<Stopped, Error> {
        let engines = targets.resolve(&self.live())?;
        let mut stopped = Stopped::default();
        for id in engines {
            let Some(engine) = self.engines.get(&id) else { continue };
            let uuid: Arc<str> = engine.uuid.clone();
            let n_queued = engine.queue.len() as u64;
            let (msg_type, content) = match signal {
                Signal::Interrupt => {
                    stopped.interrupted += u64::from(n_queued > 0);
                    ("interrupt_request", json!({}))
                }
                Signal::Clear => ("clear_request", json!({})),
                Signal::Shutdown => ("shutdown_request", json!({"restart": false})),
                Signal::Restart => ("shutdown_request", json!({"restart": true})),
                Signal::Abort => {
                    stopped.aborted += n_queued.saturating_sub(1);
                    let queued = engine.queue.iter().skip(1).copied();
                    let queued: Vec<(SubmissionId, u32)> = queued.collect();
                    let ids: Vec<String> = queued
                        .iter()
                        .filter_map(|(id, idx)| Some(self.submissions.get(id)?.number(*idx)))
                        .map(|number| self.msg_id(number))
                        .collect();
                    ("abort_request", about(&ids))
                }
            };
            self.send_plain(Channel::Control, Some(uuid), msg_type, raw(&content));
        }
        self.mark_stopping(signal, now);
        Ok(stopped)
    }

    /// What an interrupt ends counts as cancelled rather than failed.
    fn mark_stopping(&mut self, signal: Signal, _now: Now) {
        if signal == Signal::Interrupt {
            let running: Vec<SubmissionId> =
                self.engines.values().filter_map(|engine| Some(engine.queue.front()?.0)).collect();
            for id in running {
                if let Some(submission) = self.submissions.get_mut(&id) {
                    submission.stopping = true;
                }
            }
        }
    }
}
