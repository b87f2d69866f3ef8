//! All records. They are bounded by number and by bytes; open ones are never dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::keep::{Changes, Keeps};
use crate::record::{Moment, Record};
use crate::request::Request;
use crate::{Key, Message, Millis, TASKS_OPEN_MAX};

/// How many finished records are kept. Stock ipyparallel keeps 1024.
pub const RECORDS_MAX: usize = 16_384;

/// How many bytes of messages and output the finished records may hold together.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// How many bytes of requests may be open together, in all queues. The next one is refused with an
/// error reply, as beyond [`TASKS_OPEN_MAX`] requests.
pub const OPEN_BYTES_MAX: usize = 4 << 30;

/// The body that the requests of one broadcast share, and how many records hold it. It counts as
/// open as long as one of them is.
#[derive(Debug, Default)]
struct Shared {
    n_bytes: usize,
    n_open: usize,
    n_finished: usize,
}

impl Shared {
    /// Its bytes among those of open and of finished records.
    fn weights(&self) -> (usize, usize) {
        match (self.n_open, self.n_finished) {
            (0, 0) => (0, 0),
            (0, _) => (0, self.n_bytes),
            _ => (self.n_bytes, 0),
        }
    }
}

/// All records, by order of submission and by message id.
#[derive(Debug)]
pub(crate) struct Records {
    keeps: Keeps,
    /// Boxed: the tree moves its entries about.
    records: BTreeMap<Key, Box<Record>>,
    /// Lookups only.
    by_id: HashMap<String, Key>,
    /// Finished records in the order they finished; keys of purged ones may remain.
    finished: VecDeque<Key>,
    n_finished: usize,
    n_finished_bytes: usize,
    /// Of the requests of open records.
    n_open_bytes: usize,
    /// Shared bodies by the id of their broadcast; lookups only.
    shared: HashMap<Arc<str>, Shared>,
    next: Key,
    n_added: u64,
    pub(crate) changes: Changes,
}

impl Records {
    pub(crate) fn new(keeps: Keeps) -> Self {
        Self {
            keeps,
            records: BTreeMap::new(),
            by_id: HashMap::new(),
            finished: VecDeque::new(),
            n_finished: 0,
            n_finished_bytes: 0,
            n_open_bytes: 0,
            shared: HashMap::new(),
            next: 0,
            n_added: 0,
            changes: Changes::new(keeps),
        }
    }

    pub(crate) fn add(&mut self, record: Record) -> Key {
        let key = self.next;
        self.n_added += 1;
        self.add_at(key, record);
        self.changes.note(key);
        key
    }

    /// Takes in a record, open or finished, that the store has under this key.
    pub(crate) fn restore(&mut self, key: Key, mut record: Record) {
        let reply = record.reply.take();
        record.kept = Some(Millis(0));
        self.add_at(key, record);
        if let Some(reply) = reply {
            self.end(key, reply);
        }
    }

    /// Leaves out what the store has under this key, and what is no record.
    pub(crate) fn pass_over(&mut self, key: Key) {
        self.next = self.next.max(key + 1);
        self.changes.forgotten.push(key);
    }

    fn add_at(&mut self, key: Key, record: Record) {
        self.next = self.next.max(key + 1);
        let known = self.by_id.insert(record.msg_id.clone(), key);
        assert!(known.is_none(), "message id {} was added twice", record.msg_id);
        self.n_open_bytes += record.request.n_bytes();
        self.share(shared_of(&record.request), |shared| shared.n_open += 1);
        self.records.insert(key, Box::new(record));
    }

    pub(crate) fn key_of(&self, msg_id: &str) -> Option<Key> {
        self.by_id.get(msg_id).copied()
    }

    /// Whether records share the body of a broadcast of this id.
    pub(crate) fn is_shared(&self, msg_id: &str) -> bool {
        self.shared.contains_key(msg_id)
    }

    pub(crate) fn by_id(&self, msg_id: &str) -> Option<&Record> {
        self.get(*self.by_id.get(msg_id)?)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Record> {
        self.records.get(&key).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Record> {
        self.records.get_mut(&key).map(Box::as_mut)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Record)> {
        self.records.iter().map(|(key, record)| (*key, record.as_ref()))
    }

    /// How many there have been, apart from those of a controller before this one.
    pub(crate) fn n_added(&self) -> u64 {
        self.n_added
    }

    /// Bytes of open requests and of everything that has ended.
    pub(crate) fn n_bytes_kept(&self) -> usize {
        self.n_open_bytes + self.n_finished_bytes
    }

    pub(crate) fn n_open(&self) -> usize {
        self.records.len() - self.n_finished
    }

    /// Whether there is no room for so many more open requests of so many bytes together.
    pub(crate) fn is_full(&self, n_requests: usize, n_bytes: usize) -> bool {
        self.n_open().saturating_add(n_requests) > TASKS_OPEN_MAX
            || self.n_open_bytes.saturating_add(n_bytes) > OPEN_BYTES_MAX
    }

    /// Returns a record of which the caller knows that it is open.
    pub(crate) fn open_mut(&mut self, key: Key) -> &mut Record {
        let record = self.records.get_mut(&key).expect("open records are never dropped");
        assert!(record.is_open(), "task {} ended twice: {:?}", record.msg_id, record.story);
        record
    }

    /// Ends a record with its one reply, and drops the oldest finished ones beyond the limits.
    pub(crate) fn finish(&mut self, key: Key, mut reply: Message, moment: Moment, now: Millis) {
        let record = self.open_mut(key);
        record.tell(now, moment);
        record.received = Some(now);
        reply.ids = Vec::new();
        reply.signature = Vec::new();
        self.changes.note(key);
        self.end(key, Arc::new(reply));
    }

    fn end(&mut self, key: Key, reply: Arc<Message>) {
        let record = self.open_mut(key);
        record.reply = Some(reply);
        let (n_bytes, n_request_bytes) = (record.n_bytes(), record.request.n_bytes());
        let shared = shared_of(&record.request);
        self.n_open_bytes -= n_request_bytes;
        self.n_finished += 1;
        self.n_finished_bytes += n_bytes;
        self.share(shared, |shared| {
            shared.n_open -= 1;
            shared.n_finished += 1;
        });
        self.finished.push_back(key);
        self.forget_oldest();
    }

    /// Drops finished records beyond the limits.
    fn forget_oldest(&mut self) {
        let n_max = if self.keeps == Keeps::Nothing { 0 } else { RECORDS_MAX };
        while self.n_finished > n_max || self.n_finished_bytes > RECORD_BYTES_MAX {
            let oldest = self.finished.pop_front().expect("finished records are listed");
            self.remove(oldest);
        }
        if self.finished.len() > 2 * RECORDS_MAX {
            let records = &self.records;
            self.finished.retain(|key| records.contains_key(key));
        }
    }

    /// Changes what is known of a task's output, also after it has ended.
    pub(crate) fn change(&mut self, key: Key, now: Millis, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(&key) else { return };
        let before = record.n_bytes();
        change(record);
        if !record.is_open() {
            self.n_finished_bytes = self.n_finished_bytes - before + record.n_bytes();
            self.changes.note_later(key, record, now);
            self.forget_oldest();
        }
    }

    /// Drops a record that has ended; an open one stays.
    pub(crate) fn remove(&mut self, key: Key) {
        if self.get(key).is_none_or(Record::is_open) {
            return;
        }
        let record = self.records.remove(&key).expect("looked at above");
        self.by_id.remove(&record.msg_id);
        self.n_finished -= 1;
        self.n_finished_bytes -= record.n_bytes();
        self.share(shared_of(&record.request), |shared| shared.n_finished -= 1);
        self.changes.forget(key, &record);
    }

    /// Counts a shared body anew after one of its records has changed.
    fn share(&mut self, shared: Option<(Arc<str>, usize)>, change: impl FnOnce(&mut Shared)) {
        let Some((id, n_bytes)) = shared else { return };
        let entry = self.shared.entry(Arc::clone(&id)).or_default();
        entry.n_bytes = n_bytes;
        let before = entry.weights();
        change(entry);
        let after = entry.weights();
        if entry.n_open + entry.n_finished == 0 {
            self.shared.remove(&id);
        }
        self.n_open_bytes = self.n_open_bytes - before.0 + after.0;
        self.n_finished_bytes = self.n_finished_bytes - before.1 + after.1;
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.by_id.len(), self.records.len());
        let (mut n, mut n_bytes, mut n_open_bytes) = (0, 0, 0);
        let mut shared: HashMap<Arc<str>, Shared> = HashMap::new();
        for (key, record) in &self.records {
            assert_eq!(self.by_id.get(&record.msg_id), Some(key));
            if record.is_open() {
                n_open_bytes += record.request.n_bytes();
            } else {
                n += 1;
                n_bytes += record.n_bytes();
            }
            if let Some((id, n_bytes)) = shared_of(&record.request) {
                let entry = shared.entry(id).or_default();
                entry.n_bytes = n_bytes;
                entry.n_open += usize::from(record.is_open());
                entry.n_finished += usize::from(!record.is_open());
            }
        }
        assert_eq!(shared.len(), self.shared.len(), "a shared body is kept for nobody");
        for entry in shared.values() {
            n_open_bytes += entry.weights().0;
            n_bytes += entry.weights().1;
        }
        assert_eq!((n, n_bytes), (self.n_finished, self.n_finished_bytes));
        assert_eq!(n_open_bytes, self.n_open_bytes);
        assert!(self.n_finished <= RECORDS_MAX && self.n_finished_bytes <= RECORD_BYTES_MAX);
        self.changes.check(&self.records);
    }
}

fn shared_of(request: &Request) -> Option<(Arc<str>, usize)> {
    Some((Arc::clone(request.shared.as_ref()?), request.body.n_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lab::message;
    use crate::record::Queue;

    #[test]
    fn what_requests_share_counts_once_until_the_last_record_is_gone() {
        let mut records = Records::new(Keeps::Memory);
        let mut asked = message(&["c"], "b", "apply_request", None, json!({}), json!({}));
        asked.buffers = vec![vec![0; 1 << 20]];
        let asked = Request::from(asked);
        let big = asked.body.n_bytes();
        let keys: Vec<_> = (0..3)
            .map(|n| {
                let child =
                    message(&["c"], &format!("b_{n}"), "apply_request", None, json!({}), json!({}));
                let head = child.head().unwrap();
                let body = Arc::clone(&asked.body);
                let shared = Some("b".into());
                let request = Request { body, shared, ..Request::from(child) };
                records.add(Record::new(head, Queue::Broadcast, request))
            })
            .collect();
        records.check();
        let is_once = |n_bytes: usize| n_bytes >= big && n_bytes < 2 * big;
        assert!(is_once(records.n_open_bytes));
        assert!(!records.is_full(TASKS_OPEN_MAX - 3, 0) && records.is_full(TASKS_OPEN_MAX - 2, 0));
        assert!(records.is_full(1, OPEN_BYTES_MAX - big));
        for key in &keys {
            assert!(is_once(records.n_open_bytes) && records.n_finished_bytes < big);
            let reply = message(&[], "r", "apply_reply", None, json!({}), json!({}));
            records.finish(*key, reply, Moment::Replied(0), Millis(1));
            records.check();
        }
        for key in keys {
            assert!(records.n_open_bytes == 0 && is_once(records.n_finished_bytes));
            records.remove(key);
            records.check();
        }
        assert_eq!(records.n_finished_bytes, 0);
    }
}
