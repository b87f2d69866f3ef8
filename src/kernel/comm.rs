//! Comms: the table of open ones, and a copy of every widget's state, so that a frontend that
//! asks for it is answered at once while cells run. Never knows what a widget shows.
//!
//! <https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/schema/messages.md>
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::face::{Effect, Face, Parent};
use super::seam::{Report, RunId, Work};
use crate::wire::Message;
use crate::wire::jupyter::{CommClose, CommInfoReply, CommMsg, CommOpen, Object};

/// The target through which widget managers ask for everything at once.
const CONTROL_TARGET: &str = "jupyter.widget.control";
const WIDGET_TARGET: &str = "jupyter.widget";
/// Comms a frontend may open: one control comm per page and reload.
const CONTROL_COMMS_MAX: usize = 1000;

struct Comm {
    target: String,
    /// The widget's whole state; empty for other comms.
    state: Object,
}

#[derive(Default)]
pub(super) struct Comms {
    open: BTreeMap<String, Comm>,
}

impl Comms {
    pub(super) fn info(&self, target: Option<&str>) -> CommInfoReply {
        let wanted = |comm: &&Comm| target.is_none_or(|target| comm.target == target);
        let comms = self
            .open
            .iter()
            .filter(|(_, comm)| wanted(comm))
            .map(|(id, comm)| (id.clone(), json!({ "target_name": comm.target })))
            .collect();
        CommInfoReply { status: "ok", comms }
    }

    /// Takes over changed keys of a widget.
    fn merge(&mut self, comm_id: &str, data: &Object) {
        if let (Some(comm), Some(Value::Object(changes))) =
            (self.open.get_mut(comm_id), data.get("state"))
            && comm.target == WIDGET_TARGET
        {
            comm.state.extend(changes.clone());
        }
    }

    fn all_states(&self) -> Object {
        let mut states = Object::new();
        for (id, comm) in &self.open {
            if comm.target != WIDGET_TARGET {
                continue;
            }
            let field = |name: &str| comm.state.get(name).cloned().unwrap_or(Value::Null);
            let model = json!({
                "model_name": field("_model_name"),
                "model_module": field("_model_module"),
                "model_module_version": field("_model_module_version"),
                "state": comm.state,
            });
            states.insert(id.clone(), model);
        }
        states
    }
}

impl Face {
    /// A frontend opened, used or closed a comm.
    pub(super) fn comm_request(&mut self, message: &Message, parent: &Parent) {
        match message.header.msg_type.as_str() {
            "comm_open" => {
                if let Ok(open) = message.content::<CommOpen>() {
                    self.comm_opened(open, parent);
                }
            }
            "comm_msg" => {
                if let Ok(content) = message.content::<CommMsg>() {
                    self.comm_used(content, message.buffers.clone(), parent);
                }
            }
            _ => {
                if let Ok(CommClose { comm_id, .. }) = message.content::<CommClose>()
                    && let Some(comm) = self.comms.open.remove(&comm_id)
                    && comm.target != CONTROL_TARGET
                {
                    self.outbox.push(Effect::Work(Work::CommClosed { comm_id }));
                }
            }
        }
    }

    /// Frontends may open the control target only: the others are ours to open.
    fn comm_opened(&mut self, open: CommOpen, parent: &Parent) {
        let CommOpen { comm_id, target_name, .. } = open;
        if target_name != CONTROL_TARGET || self.comms.open.len() >= CONTROL_COMMS_MAX {
            let content = CommClose { comm_id: comm_id.clone(), data: Object::new() };
            let none = Object::new();
            self.outbox.publish_comm(&comm_id, "comm_close", parent, none, &content, Vec::new());
            return;
        }
        self.comms.open.insert(comm_id, Comm { target: target_name, state: Object::new() });
    }

    fn comm_used(&mut self, content: CommMsg, buffers: Vec<Vec<u8>>, parent: &Parent) {
        let CommMsg { comm_id, data } = content;
        let Some(comm) = self.comms.open.get(&comm_id) else {
            tracing::debug!(%comm_id, "a message for a comm that is not open");
            return;
        };
        let method = data.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        match (comm.target.as_str(), method.as_str()) {
            (CONTROL_TARGET, "request_states") => {
                let states = self.comms.all_states();
                let data =
                    json!({ "method": "update_states", "states": states, "buffer_paths": [] });
                self.comm_send(&comm_id, data, parent);
                self.outbox.push(Effect::Work(Work::PageLoaded));
            }
            (CONTROL_TARGET, _) => (),
            (WIDGET_TARGET, "request_state") => {
                let data = json!({ "method": "update", "state": comm.state, "buffer_paths": [] });
                self.comm_send(&comm_id, data, parent);
            }
            (WIDGET_TARGET, "update") => {
                self.comms.merge(&comm_id, &data);
                // Other pages follow, and the sender knows that its change has arrived.
                let state = data.get("state").cloned().unwrap_or_else(|| json!({}));
                let echo = json!({ "method": "echo_update", "state": state, "buffer_paths": [] });
                self.comm_send(&comm_id, echo, parent);
                self.outbox.push(Effect::Work(Work::Comm { comm_id, data, buffers }));
            }
            _ => self.outbox.push(Effect::Work(Work::Comm { comm_id, data, buffers })),
        }
    }

    fn comm_send(&mut self, comm_id: &str, data: Value, parent: &Parent) {
        let content = json!({ "comm_id": comm_id, "data": data });
        let none = Object::new();
        self.outbox.publish_comm(comm_id, "comm_msg", parent, none, &content, Vec::new());
    }

    /// The executor opens, uses or closes a comm.
    pub(super) fn comm_report(&mut self, report: Report) {
        match report {
            Report::CommOpen { run, comm_id, target, data, metadata } => {
                let parent = self.comm_parent(run);
                let state = match data.get("state") {
                    Some(Value::Object(state)) if target == WIDGET_TARGET => state.clone(),
                    _ => Object::new(),
                };
                let comm = Comm { target: target.clone(), state };
                self.comms.open.insert(comm_id.clone(), comm);
                let content = CommOpen { comm_id, target_name: target, data };
                let id = content.comm_id.clone();
                self.outbox.publish_comm(&id, "comm_open", &parent, metadata, &content, vec![]);
            }
            Report::CommMsg { run, comm_id, data, buffers } => {
                if !self.comms.open.contains_key(&comm_id) {
                    return;
                }
                self.comms.merge(&comm_id, &data);
                let parent = self.comm_parent(run);
                let content = CommMsg { comm_id, data };
                let (id, none) = (content.comm_id.clone(), Object::new());
                self.outbox.publish_comm(&id, "comm_msg", &parent, none, &content, buffers);
            }
            Report::CommClose { run, comm_id } => {
                if self.comms.open.remove(&comm_id).is_none() {
                    return;
                }
                let parent = self.comm_parent(run);
                let content = CommClose { comm_id, data: Object::new() };
                let (id, none) = (content.comm_id.clone(), Object::new());
                self.outbox.publish_comm(&id, "comm_close", &parent, none, &content, Vec::new());
            }
            other => debug_assert!(false, "not about a comm: {other:?}"),
        }
    }

    /// Batch clients read only what the running cell causes; without one it is the cell that
    /// started the work.
    fn comm_parent(&self, run: Option<RunId>) -> Parent {
        match &self.session.running {
            Some(running) if !running.origin.silent => running.origin.parent.clone(),
            _ => self.session.origin(run).map(|origin| origin.parent.clone()).unwrap_or_default(),
        }
    }
}
