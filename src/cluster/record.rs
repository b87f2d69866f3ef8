//! Task records: what was asked, what came back, what was printed, and the story of each task. They
//! are bounded by number and by bytes; open ones are never dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{EngineId, Failure, Frames, Head, Key, Message, Millis, TASKS_OPEN_MAX};

/// How many finished records are kept. Stock ipyparallel keeps 1024.
pub const RECORDS_MAX: usize = 16_384;

/// How many bytes of messages and output the finished records may hold together.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// How many bytes of requests may be open together, in all queues. The next one is refused with an
/// error reply, as beyond [`TASKS_OPEN_MAX`] requests.
pub const OPEN_BYTES_MAX: usize = 4 << 30;

/// How much of one stream of one task is kept: the beginning.
const STREAM_BYTES_MAX: usize = 1 << 20;

/// How many moments of one task are remembered; the last place is for the newest.
const MOMENTS_MAX: usize = 32;

/// Stands where the identity of the client would be in a task that the hub submitted again.
pub(crate) const RESUBMITTED: &[u8] = b"prust-resubmitted";

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    Submitted,
    /// It waits for other tasks, for an engine that may run it, or for a free one.
    Waiting,
    Sent(EngineId),
    /// An attempt failed or could not run there; it will be tried on another engine.
    Retried(EngineId),
    /// The engine it was on is gone, and why.
    Lost(EngineId, String),
    Replied(EngineId),
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Mux,
    Task,
}

/// One task or direct request.
#[derive(Debug)]
pub struct Record {
    pub(crate) msg_id: String,
    pub(crate) msg_type: String,
    pub(crate) session: String,
    pub(crate) queue: Queue,
    pub(crate) request: Message,
    pub(crate) engine: Option<String>,
    pub(crate) reply: Option<Message>,
    pub(crate) received: Option<Millis>,
    pub(crate) resubmitted: Option<String>,
    pub(crate) execute_input: Option<String>,
    /// Raw JSON contents of the last messages of these types.
    pub(crate) execute_result: Option<Vec<u8>>,
    pub(crate) error: Option<Vec<u8>>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) story: Vec<(Millis, Moment)>,
}

impl Record {
    pub(crate) fn new(head: Head, queue: Queue, request: Message) -> Self {
        Self {
            msg_id: head.msg_id,
            msg_type: head.msg_type,
            session: head.session,
            queue,
            request,
            engine: None,
            reply: None,
            received: None,
            resubmitted: None,
            execute_input: None,
            execute_result: None,
            error: None,
            stdout: String::new(),
            stderr: String::new(),
            story: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, now: Millis, moment: Moment) {
        if self.story.len() == MOMENTS_MAX {
            self.story.pop();
        }
        self.story.push((now, moment));
    }

    /// The engine that a task was given to last.
    pub(crate) fn last_sent(&self) -> Option<EngineId> {
        self.story.iter().rev().find_map(|(_, moment)| match moment {
            Moment::Sent(engine) => Some(*engine),
            _ => None,
        })
    }

    /// Returns the identities of the client that waits for the reply; a resubmitted task has none.
    pub(crate) fn client_ids(&self) -> Option<Frames> {
        let mut ids = self.request.ids.clone();
        if self.queue == Queue::Mux {
            ids.swap(0, 1);
        }
        (ids[0] != RESUBMITTED).then_some(ids)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.reply.is_none()
    }

    fn n_bytes(&self) -> usize {
        self.request.n_bytes()
            + self.reply.as_ref().map_or(0, Message::n_bytes)
            + self.stdout.len()
            + self.stderr.len()
            + self.execute_input.as_ref().map_or(0, String::len)
            + self.execute_result.as_ref().map_or(0, Vec::len)
            + self.error.as_ref().map_or(0, Vec::len)
    }
}

/// Appends to a stream as far as it is kept.
pub(crate) fn append_bounded(stream: &mut String, text: &str) {
    let room = STREAM_BYTES_MAX.saturating_sub(stream.len());
    stream.push_str(&text[..text.floor_char_boundary(room)]);
}

/// All records, by order of submission and by message id.
#[derive(Debug, Default)]
pub(crate) struct Records {
    records: BTreeMap<Key, Record>,
    /// Lookups only.
    by_id: HashMap<String, Key>,
    /// Finished records in the order they finished; keys of purged ones may remain.
    finished: VecDeque<Key>,
    n_finished: usize,
    n_finished_bytes: usize,
    /// Of the requests of open records.
    n_open_bytes: usize,
    next: Key,
}

impl Records {
    pub(crate) fn add(&mut self, record: Record) -> Key {
        let key = self.next;
        self.next += 1;
        let known = self.by_id.insert(record.msg_id.clone(), key);
        assert!(known.is_none(), "message id {} was added twice", record.msg_id);
        self.n_open_bytes += record.request.n_bytes();
        self.records.insert(key, record);
        key
    }

    pub(crate) fn key_of(&self, msg_id: &str) -> Option<Key> {
        self.by_id.get(msg_id).copied()
    }

    pub(crate) fn by_id(&self, msg_id: &str) -> Option<&Record> {
        self.records.get(self.by_id.get(msg_id)?)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Record> {
        self.records.get(&key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Record)> {
        self.records.iter().map(|(key, record)| (*key, record))
    }

    /// How many there have ever been.
    pub(crate) fn n_added(&self) -> u64 {
        self.next
    }

    /// Bytes of open requests and of everything that has ended.
    pub(crate) fn n_bytes_kept(&self) -> usize {
        self.n_open_bytes + self.n_finished_bytes
    }

    pub(crate) fn n_open(&self) -> usize {
        self.records.len() - self.n_finished
    }

    /// Whether there is no room for another open request.
    pub(crate) fn is_full(&self, request: &Message) -> bool {
        let n_bytes = self.n_open_bytes.saturating_add(request.n_bytes());
        self.n_open() >= TASKS_OPEN_MAX || n_bytes > OPEN_BYTES_MAX
    }

    /// Returns a record of which the caller knows that it is open.
    pub(crate) fn open_mut(&mut self, key: Key) -> &mut Record {
        let record = self.records.get_mut(&key).expect("open records are never dropped");
        assert!(record.is_open(), "task {} ended twice: {:?}", record.msg_id, record.story);
        record
    }

    /// Ends a record with its one reply, and drops the oldest finished ones beyond the limits.
    pub(crate) fn finish(&mut self, key: Key, reply: Message, moment: Moment, now: Millis) {
        let record = self.open_mut(key);
        record.tell(now, moment);
        record.received = Some(now);
        record.reply = Some(reply);
        let n_bytes = record.request.n_bytes();
        self.n_open_bytes -= n_bytes;
        self.n_finished += 1;
        self.n_finished_bytes += self.records[&key].n_bytes();
        self.finished.push_back(key);
        self.forget_oldest();
    }

    /// Drops finished records beyond the limits.
    fn forget_oldest(&mut self) {
        while self.n_finished > RECORDS_MAX || self.n_finished_bytes > RECORD_BYTES_MAX {
            let oldest = self.finished.pop_front().expect("finished records are listed");
            self.remove(oldest);
        }
        if self.finished.len() > 2 * RECORDS_MAX {
            let records = &self.records;
            self.finished.retain(|key| records.contains_key(key));
        }
    }

    /// Changes what is known of a task's output, also after it has ended.
    pub(crate) fn change(&mut self, key: Key, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(&key) else { return };
        let before = record.n_bytes();
        change(record);
        if !record.is_open() {
            self.n_finished_bytes = self.n_finished_bytes - before + record.n_bytes();
            self.forget_oldest();
        }
    }

    /// Drops a record that has ended; an open one stays.
    pub(crate) fn remove(&mut self, key: Key) {
        if self.records.get(&key).is_none_or(Record::is_open) {
            return;
        }
        let record = self.records.remove(&key).expect("looked at above");
        self.by_id.remove(&record.msg_id);
        self.n_finished -= 1;
        self.n_finished_bytes -= record.n_bytes();
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.by_id.len(), self.records.len());
        let finished = self.records.values().filter(|record| !record.is_open());
        let (mut n, mut n_bytes) = (0, 0);
        for record in finished {
            n += 1;
            n_bytes += record.n_bytes();
        }
        assert_eq!((n, n_bytes), (self.n_finished, self.n_finished_bytes));
        let open = self.records.values().filter(|record| record.is_open());
        assert_eq!(open.map(|record| record.request.n_bytes()).sum::<usize>(), self.n_open_bytes);
        assert!(self.n_finished <= RECORDS_MAX && self.n_finished_bytes <= RECORD_BYTES_MAX);
        for (key, record) in &self.records {
            assert_eq!(self.by_id.get(&record.msg_id), Some(key));
        }
    }
}
