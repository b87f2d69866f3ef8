//! Panels by submission: opened when a result is shown or blocks, fed from the client's counters,
//! frozen when the work has ended. The looks are in `kernel::panel`; this only connects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::Executor;
use crate::client::Command;
use crate::client::summary::{State, Summary};
use crate::kernel::panel::{Action, Panel, PanelMessage};
use crate::kernel::seam::{Report, RunId};
use crate::wire::jupyter::Object;

/// Summaries remembered for submissions without a panel, so that one can be opened late.
const SUMMARIES_MAX: usize = 256;

/// Ended panels whose widgets are kept for pages that were loaded anew.
const ENDED_MAX: usize = 16;

struct Open {
    panel: Panel,
    run: RunId,
}

/// All panels of this kernel.
pub(super) struct Panels {
    session: String,
    count: u64,
    open: BTreeMap<u64, Vec<Open>>,
    latest: BTreeMap<u64, Arc<Summary>>,
    /// Ended panels whose widgets stay, because a page that was loaded anew shows them.
    ended: VecDeque<Open>,
    /// Wanted before the first counters came.
    wanted: Vec<(u64, RunId)>,
}

impl Panels {
    pub(super) fn new(session: String) -> Self {
        Self {
            session,
            count: 0,
            open: BTreeMap::new(),
            latest: BTreeMap::new(),
            ended: VecDeque::new(),
            wanted: Vec::new(),
        }
    }

    /// A page was loaded anew while panels were live.
    pub(super) fn page_loaded(&mut self) {
        self.open.values_mut().flatten().for_each(|open| open.panel.page_loaded());
    }

    /// A frontend closed a comm; its panel goes on as text when the work ends.
    pub(super) fn closed(&mut self, comm_id: &str) {
        for panels in self.open.values_mut() {
            panels.retain(|open| !open.panel.owns(comm_id));
        }
    }

    /// Whether a panel of this run is still to come.
    pub(super) fn awaits(&self, run: RunId) -> bool {
        self.wanted.iter().any(|(_, of)| *of == run)
    }

    pub(super) fn forget_wanted(&mut self) {
        self.wanted.clear();
    }

    /// Work numbered after `submission` that goes on.
    pub(super) fn running_since(&self, submission: u64) -> Vec<Arc<Summary>> {
        let running =
            |summary: &&Arc<Summary>| matches!(summary.state, State::Waiting | State::Running);
        let later = self.latest.range(submission + 1..).map(|(_, summary)| summary);
        later.filter(running).cloned().collect()
    }

    /// Whether the submission was ever heard of (and not too long ago).
    pub(super) fn knows(&self, submission: u64) -> bool {
        self.latest.contains_key(&submission)
    }

    /// The submission that was heard of last.
    pub(super) fn newest(&self) -> Option<u64> {
        self.latest.keys().next_back().copied()
    }

    /// Whether a panel of the submission is shown under this run.
    pub(super) fn is_shown(&self, submission: u64, run: RunId) -> bool {
        self.open.get(&submission).is_some_and(|panels| panels.iter().any(|open| open.run == run))
    }
}

impl Executor {
    /// Shows a submission's panel under a cell.
    pub(super) fn show_panel(&mut self, submission: u64, run: RunId) {
        if self.panels.is_shown(submission, run) {
            return;
        }
        let Some(summary) = self.panels.latest.get(&submission).cloned() else {
            self.panels.wanted.push((submission, run));
            return;
        };
        self.panels.count += 1;
        let key = format!("{}_{}", self.panels.session, self.panels.count);
        let (panel, messages) = Panel::open(&key, &summary, SystemTime::now());
        if panel.is_live() {
            self.panels.open.entry(submission).or_default().push(Open { panel, run });
        }
        self.send_panel(run, messages);
    }

    /// The cluster is gone: what its panels show has ended.
    pub(super) fn end_panels(&mut self) {
        let live: Vec<Arc<Summary>> = self
            .panels
            .open
            .keys()
            .filter_map(|submission| self.panels.latest.get(submission).cloned())
            .collect();
        for summary in live {
            let mut ended = (*summary).clone();
            let counts = &mut ended.counts;
            counts.cancelled += std::mem::take(&mut counts.running);
            counts.cancelled += std::mem::take(&mut counts.waiting);
            ended.state = State::Cancelled;
            self.progressed(Arc::new(ended));
        }
    }

    fn send_panel(&self, run: RunId, messages: Vec<PanelMessage>) {
        let run = Some(run);
        for message in messages {
            self.report(match message {
                PanelMessage::Display { display_id, data } => {
                    let (data, metadata) = (object(data), Object::new());
                    Report::Display { run, id: Some(display_id), data, metadata }
                }
                PanelMessage::UpdateDisplay { display_id, data } => {
                    let (data, metadata) = (object(data), Object::new());
                    Report::UpdateDisplay { run, id: display_id, data, metadata }
                }
                PanelMessage::CommOpen { comm_id, data, metadata } => Report::CommOpen {
                    run,
                    comm_id,
                    target: "jupyter.widget".to_owned(),
                    data: object(data),
                    metadata: object(metadata),
                },
                PanelMessage::CommMsg { comm_id, data } => {
                    Report::CommMsg { run, comm_id, data: object(data), buffers: Vec::new() }
                }
                PanelMessage::CommClose { comm_id } => Report::CommClose { run, comm_id },
            });
        }
    }

    /// New counters of a submission.
    pub(super) fn progressed(&mut self, summary: Arc<Summary>) {
        let submission = summary.submission;
        let ended = !matches!(summary.state, State::Waiting | State::Running);
        self.panels.latest.insert(submission, summary.clone());
        while self.panels.latest.len() > SUMMARIES_MAX {
            self.panels.latest.pop_first();
        }
        let mut panels = self.panels.open.remove(&submission).unwrap_or_default();
        for open in &mut panels {
            let messages = if ended {
                open.panel.finish(&summary)
            } else {
                open.panel.update(&summary, SystemTime::now())
            };
            self.send_panel(open.run, messages);
        }
        if ended {
            self.panels.ended.extend(panels.into_iter().filter(|open| open.panel.is_live()));
        } else if !panels.is_empty() {
            self.panels.open.insert(submission, panels);
        }
        while self.panels.ended.len() > ENDED_MAX {
            if let Some(mut open) = self.panels.ended.pop_front() {
                let messages = open.panel.close();
                self.send_panel(open.run, messages);
            }
        }
        let wanted = std::mem::take(&mut self.panels.wanted);
        for (wanted, run) in wanted {
            if wanted == submission {
                self.show_panel(submission, run);
            } else {
                self.panels.wanted.push((wanted, run));
            }
        }
        self.panel_shown();
    }

    /// A frontend used a panel.
    pub(super) fn comm_said(&mut self, comm_id: &str, data: Object) {
        let data = Value::Object(data);
        let mut acted = None;
        for (submission, panels) in &mut self.panels.open {
            for open in panels.iter_mut().filter(|open| open.panel.owns(comm_id)) {
                acted = open.panel.clicked(comm_id, &data).map(|action| (*submission, action));
            }
        }
        let Some((submission, action)) = acted else { return };
        match action {
            Action::Cancel => self.command(Command::Stop { submission, running: true }),
            Action::RetryFailed => {
                let tag = self.next_number();
                self.command(Command::Retry { tag, submission });
            }
            Action::Open(_) => {
                // The section is filled by the next counters; these are the latest.
                if let Some(summary) = self.panels.latest.get(&submission).cloned() {
                    self.progressed(summary);
                }
            }
        }
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
