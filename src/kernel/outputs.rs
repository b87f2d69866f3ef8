//! What the executor reports, as messages: which cell an output belongs to, and what a batch client
//! would miss. Never sends by itself.
use std::time::{Duration, Instant};

use serde_json::Value;

use super::face::{Effect, Face, Moment};
use super::seam::{Report, RunId, Work};
use crate::wire::jupyter::{ClearOutput, DisplayData, ExecuteResult, Object, Stdio, Transient};

/// A cell that floods is read on at most this often. With what is read in one go that is some
/// thirty megabytes a second: no frontend shows more, and what one does not take is kept for it.
const READ_ON_PACE: Duration = Duration::from_millis(125);

impl Face {
    pub(super) fn report(&mut self, report: Report, now: Moment) {
        match report {
            Report::Output { run, stream, text } => self.output(run, stream, &text, now),
            Report::Paused => {
                let earliest = self.read_on_last.map(|last| last + READ_ON_PACE);
                self.read_on_at = Some(earliest.unwrap_or(now.instant).max(now.instant));
                self.read_on(now.instant);
            }
            Report::Result { run, data, metadata } => self.result(run, data, metadata),
            Report::Display { run, id, data, metadata } => self.display(run, id, data, metadata),
            Report::UpdateDisplay { run, id, data, metadata } => {
                self.update_display(run, id, data, metadata);
            }
            Report::Clear { run, wait } => self.clear(run, wait),
            Report::Input { request, prompt, password } => self.ask(request, prompt, password),
            Report::Expression { run, name, value } => self.expression(run, &name, value),
            Report::Done { run, outcome } => self.done(run, outcome, now),
            Report::Names(names) => self.names = names,
            Report::Toolchain { version } => self.rust_version = version,
            Report::CommOpen { .. } | Report::CommMsg { .. } | Report::CommClose { .. } => {
                self.comm_report(report);
            }
        }
    }

    /// Has a cell that floods read on, once it is time.
    pub(super) fn read_on(&mut self, now: Instant) {
        if self.read_on_at.take_if(|at| *at <= now).is_some() {
            self.read_on_last = Some(now);
            self.outbox.push(Effect::Work(Work::ReadOn));
        }
    }

    fn expression(&mut self, run: RunId, name: &str, value: Value) {
        let running = self.session.running.as_mut().filter(|running| running.origin.run == run);
        let mut expressions = running.into_iter().flat_map(|running| &mut running.expressions);
        if let Some((_, said)) = expressions.find(|(asked, _)| asked == name) {
            *said = Some(value);
        }
    }

    fn output(&mut self, run: Option<RunId>, stream: Stdio, text: &str, now: Moment) {
        match self.session.origin(run) {
            Some(origin) if !origin.silent => {
                self.outbox.stream(stream, text, &origin.parent, now.instant);
            }
            _ => tracing::debug!(n_bytes = text.len(), "output of a silent or unknown run"),
        }
    }

    fn result(&mut self, run: RunId, data: Object, metadata: Object) {
        let Some(running) = self.session.running.as_ref().filter(|now| now.origin.run == run)
        else {
            return self.display(Some(run), None, data, metadata);
        };
        if running.origin.silent {
            return;
        }
        if running.stored
            && let Some(Value::String(text)) = data.get("text/plain")
        {
            let text = text.clone();
            self.session.store_output(&text);
        }
        let Some(running) = &self.session.running else { return };
        let content = ExecuteResult { execution_count: running.count, data, metadata };
        self.outbox.publish("execute_result", &running.origin.parent, &content);
    }

    fn display(&mut self, run: Option<RunId>, id: Option<String>, data: Object, metadata: Object) {
        let Some(origin) = self.session.origin(run).filter(|origin| !origin.silent) else { return };
        let transient = id.map(|display_id| Transient { display_id });
        let content = DisplayData { data, metadata, transient };
        self.outbox.publish("display_data", &origin.parent, &content);
    }

    /// Notebooks find a display by its cell; batch clients read only what the cell that runs now
    /// causes.
    fn update_display(&mut self, run: Option<RunId>, id: String, data: Object, metadata: Object) {
        let Some(origin) = self.session.origin(run).filter(|origin| !origin.silent) else { return };
        let parent = match &self.session.running {
            Some(running) if !origin.has_cell_id && !running.origin.silent => {
                &running.origin.parent
            }
            _ => &origin.parent,
        };
        let transient = Some(Transient { display_id: id });
        let content = DisplayData { data, metadata, transient };
        self.outbox.publish("update_display_data", parent, &content);
    }

    fn clear(&mut self, run: Option<RunId>, wait: bool) {
        if let Some(origin) = self.session.origin(run).filter(|origin| !origin.silent) {
            self.outbox.publish("clear_output", &origin.parent, &ClearOutput { wait });
        }
    }
}
