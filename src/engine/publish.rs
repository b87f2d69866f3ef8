//! What an engine publishes while work runs: its output, displays and values, and the answers to
//! what user code asks. Part of [`Engine`]; like it, does no I/O and reads no clock.
use std::sync::Arc;

use serde_json::{Value, json};

use super::event::{Effect, Now};
use super::state::{Engine, READ_ON_MAX, READ_ON_PACE};
use crate::worker::{DisplayKind, Status, Std};

impl Engine {
    pub(super) fn output(&mut self, stream: Std, text: &str) {
        let name = match stream {
            Std::Out => "stdout",
            Std::Err => "stderr",
        };
        self.publish_output(name, "stream", json!({"name": name, "text": text}));
    }

    pub(super) fn display(&mut self, kind: DisplayKind, id: String, data: Vec<(String, String)>) {
        let mut content = json!({"data": bundle(data), "metadata": {}});
        match kind {
            DisplayKind::Result => {
                let Some(running) = &self.running else { return };
                if running.silent() {
                    return;
                }
                content["execution_count"] = running.execution_count.into();
                self.publish_output("execute_result", "execute_result", content);
            }
            DisplayKind::Display => {
                content["transient"] =
                    if id.is_empty() { json!({}) } else { json!({"display_id": id}) };
                self.publish_output("displaypub", "display_data", content);
            }
            DisplayKind::Update => {
                content["transient"] = json!({"display_id": id});
                self.publish_output("displaypub", "update_display_data", content);
            }
            DisplayKind::Clear => {
                self.publish_output("displaypub", "clear_output", json!({"wait": false}));
            }
        }
    }

    /// So much was printed that nobody may have seen it yet: what is behind stays in the worker's
    /// pipe until the client that asked for the work says that it follows, as ours do.
    pub(super) fn paused(&mut self, now: Now) {
        let is_ours = self.running.as_ref().is_some_and(|running| running.is_ours());
        if is_ours {
            self.publish_for(
                Arc::clone(&self.parent),
                "status",
                "prust_paused",
                json!({}),
                Vec::new(),
            );
        }
        self.read_on_at = Some(now.instant + if is_ours { READ_ON_MAX } else { READ_ON_PACE });
    }

    pub(super) fn read_on(&mut self) {
        if self.read_on_at.take().is_some() {
            self.effects.push(Effect::ReadOn);
        }
    }

    /// What user code may ask of an engine: its number, to publish a value. The rest needs a
    /// notebook, and says so.
    pub(super) fn user_request(&mut self, request: u64, topic: &str, head: &[u8], body: Vec<u8>) {
        let (status, body) = match topic {
            "engine" => {
                let id = self.id().map_or_else(String::new, |id| id.to_string());
                (Status::Ok, id.into_bytes())
            }
            "publish" => {
                self.publish_data(head, body);
                (Status::Ok, Vec::new())
            }
            "input" => (Status::Error, b"an engine has no keyboard".to_vec()),
            _ => {
                let text = format!("\"{topic}\" is not available on an engine");
                (Status::Error, text.into_bytes())
            }
        };
        if request != 0 {
            let head = Vec::new();
            self.effects.push(Effect::Answer { request, status, head, body });
        }
    }

    fn publish_data(&mut self, head: &[u8], body: Vec<u8>) {
        if let Some(running) = &mut self.running {
            running.n_published += 1;
        }
        let content = json!({"key": String::from_utf8_lossy(head)});
        let parent = Arc::clone(&self.parent);
        self.publish_for(parent, "datapub", "prust_data", content, vec![body]);
    }

    fn publish_output(&mut self, topic: &str, msg_type: &'static str, content: Value) {
        if let Some(running) = &mut self.running {
            running.n_published += 1;
        }
        self.publish_for(Arc::clone(&self.parent), topic, msg_type, content, Vec::new());
    }

    pub(super) fn publish_status(&mut self, parent: Arc<[u8]>, state: &str) {
        let content = json!({"execution_state": state});
        self.publish_for(parent, "status", "status", content, Vec::new());
    }
}

/// A MIME bundle: JSON types as JSON, everything else as text.
fn bundle(data: Vec<(String, String)>) -> Value {
    let value = |mime: &str, text: String| match mime.ends_with("json") {
        true => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        false => Value::String(text),
    };
    data.into_iter().map(|(mime, text)| (mime.clone(), value(&mime, text))).collect()
}
