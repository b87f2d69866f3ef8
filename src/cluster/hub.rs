//! The registration port: engines come and go, clients ask. Every known request gets one reply;
//! what cannot be answered gets an error in ipyparallel's form.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Channel, Cluster, Effect, EngineId, Failure, Frames, Head, Message, Millis, STOP_AFTER,
};

/// The answer to a query: content and buffers, or what went wrong.
pub(crate) type Answer = Result<(Value, Frames), Failure>;

impl Cluster {
    /// `[peer, ..]` from an engine or a client.
    pub(crate) fn hub_request(&mut self, message: Message, head: &Head, now: Millis) -> Option<()> {
        if message.ids.is_empty() {
            return None;
        }
        let content: Value = serde_json::from_slice(&message.content).ok()?;
        let (reply_type, answer) = match head.msg_type.as_str() {
            "registration_request" => return self.register(&message, now),
            "unregistration_request" => return self.unregister(&message, now),
            "connection_request" => ("connection_reply", Ok((self.connection(), Vec::new()))),
            "queue_request" => ("queue_reply", self.queue_status(&content)),
            "result_request" => ("result_reply", self.results(&content)),
            "history_request" => ("history_reply", Ok((self.history(), Vec::new()))),
            "db_request" => ("db_reply", self.db_query(&content)),
            "prust_status_request" => ("prust_status_reply", Ok((self.status(now), Vec::new()))),
            "prust_dump_request" => ("prust_dump_reply", Ok((self.dump(now), Vec::new()))),
            "purge_request" => ("purge_reply", self.purge(&content)),
            "resubmit_request" => ("resubmit_reply", self.resubmit(&content, now)),
            "cancel_request" => ("cancel_reply", self.cancel(&content, now)),
            "shutdown_request" => ("shutdown_reply", Ok((json!({"status": "ok"}), Vec::new()))),
            "stop_distributed_request" => {
                ("stop_distributed_reply", Ok((json!({"status": "ok"}), Vec::new())))
            }
            "become_dask_request" => {
                let evalue = "this controller cannot run a dask scheduler".to_owned();
                ("hub_error", Err(Failure::Query { ename: "UnsupportedOperation", evalue }))
            }
            other => ("hub_error", Err(Failure::key(format!("Bad Message Type: {other:?}")))),
        };
        // Stock clients take a failed queue query only as `hub_error`.
        let is_refused = answer.is_err() && reply_type == "queue_reply";
        let reply_type = if is_refused { "hub_error" } else { reply_type };
        let (content, buffers) = answer.unwrap_or_else(|failure| (failure.content(), Vec::new()));
        self.effects.push(Effect::Write {
            channel: Channel::Registration,
            ids: message.ids,
            msg_type: reply_type.to_owned(),
            parent: message.header,
            metadata: json!({}),
            content,
            buffers,
        });
        if head.msg_type == "shutdown_request" {
            self.notify("shutdown_notification", json!({"status": "ok"}));
            self.stop_at = Some(now + STOP_AFTER);
        }
        Some(())
    }

    fn connection(&self) -> Value {
        let engines = self.engines.values().filter(|engine| engine.announced);
        let engines = engines.map(|engine| (engine.id.to_string(), json!(engine.uuid)));
        json!({"status": "ok", "engines": engines.collect::<serde_json::Map<_, _>>()})
    }

    fn queue_status(&self, content: &Value) -> Answer {
        let is_verbose = content.get("verbose").and_then(Value::as_bool).unwrap_or(false);
        let ids_of = |keys: &mut dyn Iterator<Item = u64>| -> Vec<&str> {
            let records = keys.filter_map(|key| self.records.get(key));
            records.map(|record| record.msg_id.as_str()).collect()
        };
        let mut reply = json!({"status": "ok"});
        for id in self.targets(content.get("targets").unwrap_or(&Value::Null))? {
            let engine = &self.engines[&id];
            let sent = engine.direct.iter().chain(&engine.broadcasts);
            reply[id.to_string()] = if is_verbose {
                json!({
                    "queue": ids_of(&mut sent.copied()),
                    "completed": engine.completed,
                    "tasks": ids_of(&mut engine.in_flight.iter().map(|(key, _)| *key)),
                })
            } else {
                json!({
                    "queue": engine.direct.len() + engine.broadcasts.len(),
                    "completed": engine.n_completed,
                    "tasks": engine.in_flight.len(),
                })
            };
        }
        reply["unassigned"] = if is_verbose {
            json!(ids_of(&mut self.scheduler.waiting()))
        } else {
            json!(self.scheduler.n_waiting())
        };
        Ok((reply, Vec::new()))
    }

    /// Reads the targets of a query: null for all, numbers or uuids.
    fn targets(&self, targets: &Value) -> Result<Vec<EngineId>, Failure> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Target {
            Id(EngineId),
            Uuid(String),
        }
        if targets.is_null() {
            return Ok(self.live_engines().into_iter().collect());
        }
        let list = if targets.is_array() { targets.clone() } else { json!([targets]) };
        let bad = || Failure::index(format!("No Such Engine: {list}"));
        let named: Vec<Target> = serde_json::from_value(list.clone()).map_err(|_| bad())?;
        if named.is_empty() {
            return Err(Failure::index("No Engines Registered"));
        }
        let live = self.live_engines();
        let id_of = |target: &Target| match target {
            Target::Id(id) => Some(*id),
            Target::Uuid(uuid) => self.by_uuid.get(uuid.as_bytes()).copied(),
        };
        let ids = named.iter().map(|target| id_of(target).filter(|id| live.contains(id)));
        ids.collect::<Option<Vec<_>>>().ok_or_else(bad)
    }
}
