//! A record as a store keeps it, and back. What belonged to connections (identities, signatures)
//! and the story stay behind: they mean nothing to a controller after this one.

use std::sync::Arc;

use crate::message::{Head, Message};
use crate::record::{Queue, RESUBMITTED, Record};
use crate::request::{Body, Request};
use crate::{Key, Millis};

/// One record for the store. What is big is shared with the record, not copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: Key,
    pub msg_id: String,
    pub queue: Queue,
    pub header: Vec<u8>,
    pub body: Arc<Body>,
    /// The message id of the broadcast whose rows have this same body.
    pub shared: Option<Arc<str>>,
    /// The uuid of the engine it was given to last.
    pub engine: Option<String>,
    /// Without identities and signature; none while the work is open.
    pub reply: Option<Arc<Message>>,
    pub received: Option<Millis>,
    pub resubmitted: Option<String>,
    pub execute_input: Option<String>,
    pub execute_result: Option<Vec<u8>>,
    pub error: Option<Vec<u8>>,
    pub stdout: String,
    pub stderr: String,
}

impl Row {
    pub(crate) fn of(key: Key, record: &Record) -> Self {
        Self {
            key,
            msg_id: record.msg_id.clone(),
            queue: record.queue,
            header: record.request.header.clone(),
            body: Arc::clone(&record.request.body),
            shared: record.request.shared.clone(),
            engine: record.engine.clone(),
            reply: record.reply.clone(),
            received: record.received,
            resubmitted: record.resubmitted.clone(),
            execute_input: record.execute_input.clone(),
            execute_result: record.execute_result.clone(),
            error: record.error.clone(),
            stdout: record.stdout.clone(),
            stderr: record.stderr.clone(),
        }
    }

    /// Returns the record; `None` if the row is none of ours: its header is no header, or another
    /// message's.
    pub(crate) fn record(self) -> Option<Record> {
        let head: Head = serde_json::from_slice(&self.header).ok()?;
        if head.msg_id != self.msg_id || head.msg_id.is_empty() {
            return None;
        }
        // Nobody can be reached any more by the identities of the controller before.
        let nobody = vec![RESUBMITTED.to_vec(); 2];
        let request = Request {
            ids: nobody,
            signature: Vec::new(),
            header: self.header,
            body: self.body,
            shared: self.shared,
        };
        let mut record = Record::new(head, self.queue, request);
        record.engine = self.engine;
        record.reply = self.reply;
        record.received = self.received;
        record.resubmitted = self.resubmitted;
        record.execute_input = self.execute_input;
        record.execute_result = self.execute_result;
        record.error = self.error;
        record.stdout = self.stdout;
        record.stderr = self.stderr;
        Some(record)
    }

    /// How many bytes it holds alone: a body that it shares is left out.
    pub fn n_bytes(&self) -> usize {
        let body = if self.shared.is_some() { 0 } else { self.body.n_bytes() };
        let texts = [&self.execute_input, &self.resubmitted, &self.engine];
        let blobs = [&self.execute_result, &self.error];
        self.header.len()
            + body
            + self.reply.as_ref().map_or(0, |reply| reply.n_bytes())
            + texts.into_iter().flatten().map(String::len).sum::<usize>()
            + blobs.into_iter().flatten().map(Vec::len).sum::<usize>()
            + self.stdout.len()
            + self.stderr.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::message;

    #[test]
    fn every_field_of_a_record_comes_back_from_its_row() {
        let (json, none) = (serde_json::json!({"status": "ok"}), serde_json::json!({}));
        let mut request = message(&["e"], "t", "apply_request", Some("p"), json.clone(), none);
        request.buffers = vec![b"a\0b".to_vec(), Vec::new(), vec![255; 3000]];
        let mut reply = message(&[], "r", "apply_reply", Some("t"), json.clone(), json);
        reply.signature = Vec::new();
        reply.buffers = vec![Vec::new(), b"result".to_vec()];
        for queue in [Queue::Mux, Queue::Task, Queue::Broadcast] {
            let row = Row {
                key: 7,
                msg_id: "t".to_owned(),
                queue,
                header: request.header.clone(),
                body: Request::from(request.clone()).body,
                shared: Some("b".into()),
                engine: Some("e".to_owned()),
                reply: Some(Arc::new(reply.clone())),
                received: Some(Millis(5)),
                resubmitted: Some("u".to_owned()),
                execute_input: Some("1 + 1".to_owned()),
                execute_result: Some(b"{}".to_vec()),
                error: Some(b"{\"ename\": \"E\"}".to_vec()),
                stdout: "out".to_owned(),
                stderr: "err".to_owned(),
            };
            let record = row.clone().record().expect("it is a record");
            assert_eq!(record.client_ids(), None, "nobody is sent what was asked before");
            assert_eq!(record.msg_type, "apply_request");
            assert_eq!(record.session, "s");
            assert_eq!(Row::of(7, &record), row);
            let other = Row { msg_id: "other".to_owned(), ..row.clone() };
            assert!(other.record().is_none());
            let broken = Row { header: b"{".to_vec(), ..row };
            assert!(broken.record().is_none());
        }
    }
}
