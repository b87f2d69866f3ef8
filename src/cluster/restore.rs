//! What a controller begins with when one before it has kept its records and engines. Finished work
//! is as it was; work that was open has failed, because whoever waited for it is not known any
//! more; engines come back under their numbers with their first echo.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::broadcast::child_id;
use crate::dependency::Fate;
use crate::heart::Away;
use crate::keep::KeptEngine;
use crate::message::ReplyMetadata;
use crate::record::{Queue, Record};
use crate::row::Row;
use crate::{Cluster, Effect, EngineId, Failure, Key, Millis};

/// What a store has of the controller before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    pub rows: Vec<Row>,
    pub engines: Vec<KeptEngine>,
    /// The number of the next new engine.
    pub next_engine: EngineId,
}

impl Cluster {
    /// Takes over what the controller before has kept, within the limits; the newest stay. Call it
    /// once, before the first event. Returns what has to be done.
    pub fn restore(&mut self, restored: Restored, now: Millis) -> Vec<Effect> {
        let Restored { mut rows, engines, next_engine } = restored;
        let ids: HashMap<String, EngineId> =
            engines.iter().map(|engine| (engine.uuid.clone(), engine.id)).collect();
        // As they finished; open ones finish now.
        rows.sort_by_key(|row| (row.received.is_none(), row.received, row.key));
        let mut left: HashMap<String, Vec<String>> = HashMap::new();
        let mut n_completed: BTreeMap<EngineId, u64> = BTreeMap::new();
        for row in rows {
            let key = row.key;
            let is_new = |record: &Record| self.records.key_of(&record.msg_id).is_none();
            let Some(record) = row.record().filter(is_new) else {
                self.records.pass_over(key);
                continue;
            };
            let id = record.engine.as_ref().and_then(|uuid| ids.get(uuid).copied());
            if let (Some(id), false) = (id, record.is_open()) {
                *n_completed.entry(id).or_default() += 1;
            }
            for (uuid, msg_id) in work_of(&record) {
                left.entry(uuid).or_default().push(msg_id);
            }
            self.restore_record(key, record, id, now);
        }
        for KeptEngine { id, uuid, is_ours } in engines {
            self.next_engine = self.next_engine.max(id.saturating_add(1));
            let n_completed = n_completed.get(&id).copied().unwrap_or(0);
            let left = left.remove(&uuid).unwrap_or_default();
            let away = Away { id, is_ours, left, is_restored: true, n_completed };
            self.away.add(uuid.into_bytes(), away);
        }
        self.next_engine = self.next_engine.max(next_engine);
        self.beat.expect(now);
        self.keep_changes(now);
        std::mem::take(&mut self.effects)
    }

    fn restore_record(&mut self, key: Key, record: Record, id: Option<EngineId>, now: Millis) {
        let (msg_id, queue) = (record.msg_id.clone(), record.queue);
        let uuid = record.engine.clone();
        let reply = record.reply.clone();
        self.records.restore(key, record);
        let metadata = reply.as_ref().and_then(|reply| ReplyMetadata::read(reply));
        if queue == Queue::Task {
            let is_ok = metadata.is_some_and(|metadata| metadata.is_ok());
            let fate = if is_ok { Fate::Succeeded } else { Fate::Failed };
            self.scheduler.remember(&msg_id, fate, id);
        }
        if reply.is_none() {
            let failure = Failure::Restarted { msg_id };
            self.end_with_failure(key, id.zip(uuid), &failure, now);
        }
    }
}

/// The message ids under which open work is on engines, by their uuids.
fn work_of(record: &Record) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Metadata {
        targets: Vec<(String, serde_json::Value)>,
    }
    if !record.is_open() {
        return Vec::new();
    }
    if let Some(uuid) = &record.engine {
        return vec![(uuid.clone(), record.msg_id.clone())];
    }
    let targets = match record.queue {
        Queue::Broadcast => serde_json::from_slice::<Metadata>(&record.request.body.metadata).ok(),
        Queue::Mux | Queue::Task => None,
    };
    let targets = targets.map(|metadata| metadata.targets).unwrap_or_default();
    let child = |(uuid, _): (String, _)| {
        let msg_id = child_id(&record.msg_id, &uuid);
        (uuid, msg_id)
    };
    targets.into_iter().map(child).collect()
}
