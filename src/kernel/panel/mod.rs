//! The live panel of one submission, as data: a [`Summary`] and a time go in, widget messages come
//! out. Does no I/O, reads no clock, and costs O(engines) an update however many tasks there are.
//!
//! Life of a panel: [`Panel::open`], any number of [`Panel::update`], one [`Panel::finish`]. The
//! final state is always sent, then the display is replaced by static HTML that needs no kernel,
//! then the comms are closed. Displays have the submitting cell's request as parent; comm messages
//! that of the cell now busy, if there is one: clients that only read a busy cell's messages see
//! them then.
//!
//! For tests that look at the page: `.prust-panel` is one panel (widgets: `.prust-vbox`); in
//! `.prust-bar` the children `.prust-bar-done`, `-failed`, `-running` and `-cancelled` are as wide
//! as their share of all items, and carry the number as `data-items` (live) and in their `title`;
//! `.prust-state` is the state as a word; `.prust-lane` is one engine. Buttons are in
//! `.prust-hbox`.
mod html;
mod lanes;
mod models;
mod pace;
mod sections;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::client::summary::{State, Summary};
use models::{Model, Part};
use pace::Pace;
pub use sections::Section;

/// Updates closer together than this are refused, unless they are final or answer a click.
pub const UPDATE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Version of the widget message protocol, as sent in the metadata of every `comm_open`.
pub const WIDGET_PROTOCOL: &str = "2.1.0";
const VIEW_MIME: &str = "application/vnd.jupyter.widget-view+json";

/// One message to the front end, before it is a Jupyter message.
#[derive(Clone, Debug, PartialEq)]
pub enum PanelMessage {
    Display { display_id: String, data: Value },
    UpdateDisplay { display_id: String, data: Value },
    CommOpen { comm_id: String, data: Value, metadata: Value },
    CommMsg { comm_id: String, data: Value },
    CommClose { comm_id: String },
}

/// What a user asked for with a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Cancel,
    RetryFailed,
    /// The section was opened: the next `update` fills it, and is not refused.
    Open(Section),
}

/// The panel of one submission.
#[derive(Debug)]
pub struct Panel {
    display_id: String,
    /// Empty when no comm is open.
    models: Vec<Model>,
    pace: Pace,
    updated: Option<SystemTime>,
    /// A click that no update has answered yet.
    urgent: bool,
    cancelling: bool,
    retry_clicked: bool,
    /// Failed items that the last retry took over.
    n_retried: u64,
    selected: Option<Section>,
    /// Whether a front end asked for the models after they were shown: its page was loaded anew,
    /// does not know the display id, and shows nothing but the widgets.
    restored: bool,
}

impl Panel {
    /// Returns a panel and the messages that show it. `key`: unique among the panels of a kernel
    /// and of its clients, for example session and number. Of a submission that has already ended
    /// the static page is shown, without widgets.
    pub fn open(key: &str, summary: &Summary, now: SystemTime) -> (Self, Vec<PanelMessage>) {
        let mut panel = Self {
            display_id: format!("prust-{key}"),
            models: Vec::new(),
            pace: Pace::default(),
            updated: Some(now),
            urgent: false,
            cancelling: false,
            retry_clicked: false,
            n_retried: 0,
            selected: None,
            restored: false,
        };
        let mut data = static_bundle(summary);
        if !html::finished(summary.state) {
            panel.models = models::all(key);
            panel.pace.observe(summary);
            panel.changes(summary);
            data[VIEW_MIME] = json!({
                "version_major": 2,
                "version_minor": 0,
                "model_id": models::comm_id(key, Part::Root),
            });
        }
        let mut messages: Vec<PanelMessage> = panel.models.iter().map(comm_open).collect();
        messages.push(PanelMessage::Display { display_id: panel.display_id.clone(), data });
        (panel, messages)
    }

    /// Returns what changed since the last update: one message for each model that did, with the
    /// keys that did. Nothing within `UPDATE_INTERVAL_MIN` of the last one, unless the summary is
    /// final or a click waits for its answer.
    pub fn update(&mut self, summary: &Summary, now: SystemTime) -> Vec<PanelMessage> {
        let since = self.updated.map(|updated| now.duration_since(updated));
        let early = matches!(since, Some(Ok(since)) if since < UPDATE_INTERVAL_MIN);
        if self.models.is_empty() || (early && !self.urgent && !html::finished(summary.state)) {
            return Vec::new();
        }
        self.updated = Some(now);
        self.urgent = false;
        self.pace.observe(summary);
        self.changes(summary)
    }

    /// Ends the panel: the last update, then the static page in place of the widgets, then the
    /// comms are closed. They stay open if a page was loaded anew meanwhile, because that page
    /// would keep nothing else; `close` ends them then. Call it once, with the final summary.
    pub fn finish(&mut self, summary: &Summary) -> Vec<PanelMessage> {
        if self.models.is_empty() {
            return Vec::new();
        }
        self.pace.observe(summary);
        let mut messages = self.changes(summary);
        messages.push(PanelMessage::UpdateDisplay {
            display_id: self.display_id.clone(),
            data: static_bundle(summary),
        });
        if !self.restored {
            messages.extend(self.close());
        }
        messages
    }

    /// Closes the comms that are still open, those that are referred to last.
    pub fn close(&mut self) -> Vec<PanelMessage> {
        let models = std::mem::take(&mut self.models);
        models.into_iter().rev().map(|m| PanelMessage::CommClose { comm_id: m.comm_id }).collect()
    }

    /// Returns whether comms of this panel are open.
    pub fn is_live(&self) -> bool {
        !self.models.is_empty()
    }

    /// Returns whether a comm belongs to this panel.
    pub fn owns(&self, comm_id: &str) -> bool {
        self.models.iter().any(|model| model.comm_id == comm_id)
    }

    /// Takes in a `comm_msg` of the front end (`data` is its `content.data`) and returns what the
    /// user asked for. `update` then answers at once.
    pub fn clicked(&mut self, comm_id: &str, data: &Value) -> Option<Action> {
        let model = self.models.iter_mut().find(|model| model.comm_id == comm_id)?;
        let action = match (model.part, data["method"].as_str()?) {
            (Part::Cancel, "custom") if data["content"]["event"] == "click" => {
                self.cancelling = true;
                Some(Action::Cancel)
            }
            (Part::Retry, "custom") if data["content"]["event"] == "click" => {
                self.retry_clicked = true;
                Some(Action::RetryFailed)
            }
            (Part::Sections, "update") => {
                let index = data["state"].get("selected_index")?;
                model.state.insert("selected_index".to_owned(), index.clone());
                self.selected = index.as_u64().and_then(Section::at);
                self.selected.map(Action::Open)
            }
            _ => None,
        };
        self.urgent |= action.is_some();
        action
    }

    /// A page was loaded anew: it knows the widgets, but no longer the display, so `finish` leaves
    /// the widgets open.
    pub fn page_loaded(&mut self) {
        self.restored = true;
    }

    /// Brings the models up to date and returns the differences.
    fn changes(&mut self, summary: &Summary) -> Vec<PanelMessage> {
        let wanted = self.wanted(summary);
        let mut messages = Vec::new();
        for model in &mut self.models {
            let mut changed = Map::new();
            for (_, key, value) in wanted.iter().filter(|(part, ..)| *part == model.part) {
                if model.state.get(*key) != Some(value) {
                    model.state.insert((*key).to_owned(), value.clone());
                    changed.insert((*key).to_owned(), value.clone());
                }
            }
            if !changed.is_empty() {
                messages.push(message(&model.comm_id, "update", Value::Object(changed)));
            }
        }
        messages
    }

    /// Returns the keys that depend on the summary, with the values they should have.
    fn wanted(&mut self, summary: &Summary) -> Vec<(Part, &'static str, Value)> {
        let finished = html::finished(summary.state);
        let failed = summary.counts.failed > 0;
        if std::mem::take(&mut self.retry_clicked) {
            self.n_retried = summary.counts.failed;
        }
        let retried = summary.counts.failed <= self.n_retried;
        let figures = self.pace.figures(summary);
        let titles = Section::ALL.map(|section| section.title(summary));
        let mut wanted = vec![
            (Part::RetryLayout, "display", if failed { Value::Null } else { json!("none") }),
            (Part::Title, "value", json!([html::LIVE_STYLE, &html::title(summary)].concat())),
            (Part::Cancel, "description", json!(self.cancel_label(summary.state))),
            (Part::Cancel, "disabled", json!(finished || self.cancelling)),
            (Part::Cancel, "icon", json!(if finished { "" } else { "stop" })),
            (
                Part::Retry,
                "description",
                json!(if failed && retried { "Retried" } else { "Retry failed" }),
            ),
            (Part::Retry, "disabled", json!(retried)),
            (Part::Body, "value", json!(html::body(summary, &figures))),
            (Part::Sections, "titles", json!(titles)),
        ];
        if let Some(section) = self.selected {
            wanted.push((Part::of(section), "value", json!(section.html_or_note(summary))));
        }
        wanted
    }

    fn cancel_label(&self, state: State) -> &'static str {
        match state {
            State::Waiting | State::Running if self.cancelling => "Cancelling…",
            State::Waiting | State::Running => "Cancel",
            State::Done => "Done",
            State::Failed => "Ended",
            State::Cancelled => "Cancelled",
        }
    }
}

fn comm_open(model: &Model) -> PanelMessage {
    PanelMessage::CommOpen {
        comm_id: model.comm_id.clone(),
        data: json!({ "state": model.state, "buffer_paths": [] }),
        metadata: json!({ "version": WIDGET_PROTOCOL }),
    }
}

fn message(comm_id: &str, method: &str, state: Value) -> PanelMessage {
    PanelMessage::CommMsg {
        comm_id: comm_id.to_owned(),
        data: json!({ "method": method, "state": state, "buffer_paths": [] }),
    }
}

fn static_bundle(summary: &Summary) -> Value {
    json!({ "text/plain": text::plain(summary), "text/html": html::frozen(summary) })
}
