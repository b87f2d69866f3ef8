//! Queries about task records: results, history, the database, purging, submitting again.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::broadcast::with_msg_id;
use crate::hub::Answer;
use crate::query::{FIELDS, field, matches};
use crate::record::{RESUBMITTED, Record};
use crate::scheduler::Task;
use crate::task::Options;
use crate::{Cluster, EngineId, Failure, Frames, Key, Message, Millis, iso, parse_iso};

/// The fields that travel as frames behind the reply.
const BUFFER_FIELDS: [&str; 2] = ["buffers", "result_buffers"];

impl Cluster {
    pub(crate) fn results(&self, content: &Value) -> Answer {
        let is_status_only = content.get("status_only").and_then(Value::as_bool).unwrap_or(false);
        let msg_ids: BTreeSet<String> = texts(content, "msg_ids")?.into_iter().collect();
        let (mut pending, mut completed) = (Vec::new(), Vec::new());
        let mut reply = json!({"status": "ok"});
        let mut buffers = Frames::new();
        for msg_id in msg_ids {
            let Some(record) = self.records.by_id(&msg_id) else {
                if !(is_status_only && self.scheduler.has_ended(&msg_id)) {
                    return Err(Failure::key(format!("No such message: {msg_id}")));
                }
                completed.push(msg_id);
                continue;
            };
            let Some(result) = &record.reply else {
                pending.push(msg_id);
                continue;
            };
            if !is_status_only {
                reply[&msg_id] = result_of(record);
                buffers.extend_from_slice(&result.buffers);
            }
            completed.push(msg_id);
        }
        reply["pending"] = json!(pending);
        reply["completed"] = json!(completed);
        Ok((reply, buffers))
    }

    pub(crate) fn history(&self) -> Value {
        let mut records: Vec<_> = self
            .records
            .iter()
            .map(|(key, record)| {
                let submitted = field(record, "submitted");
                (submitted.as_str().and_then(parse_iso), key, &record.msg_id)
            })
            .collect();
        records.sort_unstable();
        let ids: Vec<_> = records.into_iter().map(|(_, _, msg_id)| msg_id).collect();
        json!({"status": "ok", "history": ids})
    }

    pub(crate) fn db_query(&self, content: &Value) -> Answer {
        #[derive(Deserialize)]
        struct Request {
            #[serde(default)]
            query: Map<String, Value>,
            #[serde(default)]
            keys: Option<Vec<String>>,
        }
        let Request { query, keys } =
            Request::deserialize(content).map_err(|error| Failure::value(error.to_string()))?;
        let keys = keys.filter(|keys| !keys.is_empty());
        let known = |name: &&String| !FIELDS.contains(&name.as_str());
        if let Some(unknown) = keys.iter().flatten().find(known) {
            return Err(Failure::key(unknown.clone()));
        }
        let wants =
            |name: &str| keys.as_ref().is_some_and(|keys| keys.iter().any(|key| key == name));
        let default: Vec<String> = FIELDS.map(str::to_owned).into();
        let names = keys.as_ref().unwrap_or(&default);
        let (mut records, mut buffers) = (Vec::new(), Frames::new());
        let (mut lens, mut result_lens) = (Vec::new(), Vec::new());
        for key in self.matching(&query)? {
            let Some(record) = self.records.get(key) else { continue };
            let mut row = Map::new();
            row.insert("msg_id".to_owned(), json!(record.msg_id));
            for name in names.iter().filter(|name| !BUFFER_FIELDS.contains(&name.as_str())) {
                row.insert(name.clone(), field(record, name));
            }
            records.push(Value::Object(row));
            if wants("buffers") {
                lens.push(record.request.body.buffers.len());
                buffers.extend_from_slice(&record.request.body.buffers);
            }
            if wants("result_buffers") {
                let result = record.reply.as_ref().map_or(&[][..], |reply| &reply.buffers);
                result_lens.push(result.len());
                buffers.extend_from_slice(result);
            }
        }
        let reply = json!({
            "status": "ok", "records": records,
            "buffer_lens": wants("buffers").then_some(lens),
            "result_buffer_lens": wants("result_buffers").then_some(result_lens),
        });
        Ok((reply, buffers))
    }

    pub(crate) fn purge(&mut self, content: &Value) -> Answer {
        let is_all = content.get("msg_ids").and_then(Value::as_str) == Some("all");
        let mut doomed: Vec<Key> = Vec::new();
        if is_all {
            doomed.extend(self.records.iter().map(|(key, _)| key));
        } else {
            for msg_id in texts(content, "msg_ids")? {
                let Some(key) = self.records.key_of(&msg_id) else { continue };
                if self.records.get(key).is_some_and(Record::is_open) {
                    return Err(Failure::index(format!("msg pending: {msg_id:?}")));
                }
                doomed.push(key);
            }
            let engine_ids = content.get("engine_ids").cloned().unwrap_or_else(|| json!([]));
            let engine_ids: Vec<EngineId> = serde_json::from_value(engine_ids).unwrap_or_default();
            for id in engine_ids {
                let engine = self.engines.get(&id);
                let engine =
                    engine.ok_or_else(|| Failure::index(format!("No such engine: {id}")))?;
                let uuid = Some(&engine.uuid);
                let records = self.records.iter();
                let theirs = records.filter(|(_, record)| record.engine.as_ref() == uuid);
                doomed.extend(theirs.map(|(key, _)| key));
            }
        }
        for key in doomed {
            self.records.remove(key);
        }
        Ok((json!({"status": "ok"}), Vec::new()))
    }

    /// Submits recorded tasks again, under new message ids. Nobody is sent the replies; they are in
    /// the records. As in ipyparallel the targets and retries of the first time are not kept; what
    /// tells our engines which function to call is.
    pub(crate) fn resubmit(&mut self, content: &Value, now: Millis) -> Answer {
        let msg_ids = texts(content, "msg_ids")?;
        let keys: Vec<_> = msg_ids.iter().map(|msg_id| self.records.key_of(msg_id)).collect();
        let missing: Vec<_> =
            msg_ids.iter().zip(&keys).filter(|(_, key)| key.is_none()).map(|(id, _)| id).collect();
        if !missing.is_empty() {
            return Err(Failure::key(format!("No such msg(s): {missing:?}")));
        }
        let mut resubmitted = Map::new();
        for key in keys.into_iter().flatten() {
            let new_id = self.unused_id();
            let Some(record) = self.records.get(key) else { continue };
            let Some(message) = renamed(record, &new_id, now) else { continue };
            let Some(head) = message.head() else { continue };
            resubmitted.insert(record.msg_id.clone(), json!(new_id));
            self.records.change(key, now, |record| record.resubmitted = Some(new_id));
            let plain: Result<Task, Failure> = Options::default().task();
            self.submit(message, head, plain, now);
        }
        Ok((json!({"status": "ok", "resubmitted": resubmitted}), Vec::new()))
    }

    /// A message id for a task that is submitted again. Clients may have made up the same one.
    fn unused_id(&mut self) -> String {
        loop {
            self.n_resubmitted += 1;
            let id = format!("{}_again_{}", self.settings.session, self.n_resubmitted);
            if self.records.key_of(&id).is_none() && !self.scheduler.has_ended(&id) {
                return id;
            }
        }
    }

    /// Returns the records a query asks for, by order of submission.
    fn matching(&self, query: &Map<String, Value>) -> Result<Vec<Key>, Failure> {
        let mut found = Vec::new();
        let mut look = |key, record, query| {
            if matches(record, query).map_err(Failure::key)? {
                found.push(key);
            }
            Ok(())
        };
        if let Some((msg_ids, rest)) = by_ids(query) {
            let keys: BTreeSet<Key> =
                msg_ids.iter().filter_map(|id| self.records.key_of(id.as_str()?)).collect();
            for key in keys {
                let record = self.records.get(key).expect("it has a key");
                look(key, record, &rest)?;
            }
        } else {
            for (key, record) in self.records.iter() {
                look(key, record, query)?;
            }
        }
        Ok(found)
    }
}

/// The ids that a query names, and what else it asks: thousands of records need not be looked
/// through for each of thousands of ids.
fn by_ids(query: &Map<String, Value>) -> Option<(&Vec<Value>, Map<String, Value>)> {
    let condition = query.get("msg_id")?.as_object().filter(|condition| condition.len() == 1)?;
    let msg_ids = condition.get("$in")?.as_array()?;
    let mut rest = query.clone();
    rest.remove("msg_id");
    Some((msg_ids, rest))
}

fn renamed(record: &Record, msg_id: &str, now: Millis) -> Option<Message> {
    let mut header: Map<String, Value> = serde_json::from_slice(&record.request.header).ok()?;
    header.insert("date".to_owned(), json!(iso(now)));
    Some(Message {
        ids: vec![RESUBMITTED.to_vec()],
        signature: Vec::new(),
        header: with_msg_id(&header, msg_id),
        metadata: kept_metadata(record),
        ..record.request.message()
    })
}

fn kept_metadata(record: &Record) -> Vec<u8> {
    let all: Map<String, Value> =
        serde_json::from_slice(&record.request.body.metadata).unwrap_or_default();
    let is_kept = |name: &str| matches!(name, "prust" | "label");
    let kept: Map<String, Value> = all.into_iter().filter(|(name, _)| is_kept(name)).collect();
    serde_json::to_vec(&kept).unwrap_or_else(|_| b"{}".to_vec())
}

fn result_of(record: &Record) -> Value {
    let io = ["execute_input", "execute_result", "error", "stdout", "stderr"];
    let io: Map<_, _> = io.map(|name| (name.to_owned(), field(record, name))).into_iter().collect();
    let names =
        ["header", "metadata", "result_metadata", "result_header", "result_content", "received"];
    let mut result: Map<_, _> =
        names.map(|name| (name.to_owned(), field(record, name))).into_iter().collect();
    result.insert("io".to_owned(), Value::Object(io));
    Value::Object(result)
}

pub(crate) fn texts(content: &Value, name: &str) -> Result<Vec<String>, Failure> {
    let list = content.get(name).cloned().unwrap_or_else(|| json!([]));
    serde_json::from_value(list).map_err(|error| Failure::value(format!("{name}: {error}")))
}
