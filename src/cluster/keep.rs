//! What goes to a store: records when they are new, sent, finished, and now and then when late
//! output changes them; which ones are gone; and the engines. Without a store nothing of this costs
//! anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Record;
use crate::row::Row;
use crate::{Cluster, Effect, EngineId, Key, Millis};

/// A finished record that late output changes is kept again after this time.
const AGAIN_AFTER: Millis = Millis(1000);

/// Changes of the engines are told together, so that thousands that register at once are not told
/// thousands of times.
const ENGINES_AFTER: Millis = Millis(100);

/// What becomes of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// They are dropped when they have finished.
    Nothing,
    /// They are kept in memory, within the limits.
    #[default]
    Memory,
    /// They are kept in memory, and every change is told, so that a store can have them too.
    Store,
}

/// An engine that may answer the next controller under its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEngine {
    pub id: EngineId,
    pub uuid: String,
    /// Whether it is one of ours.
    pub is_ours: bool,
}

/// The records of which the store does not know yet how they are now.
#[derive(Debug)]
pub(crate) struct Changes {
    is_on: bool,
    noted: BTreeSet<Key>,
    /// Finished ones that have changed, with the time when they are kept again.
    late: BTreeSet<(Millis, Key)>,
    pub(crate) forgotten: Vec<Key>,
}

impl Changes {
    pub(crate) fn new(keeps: Keeps) -> Self {
        Self {
            is_on: keeps == Keeps::Store,
            noted: BTreeSet::new(),
            late: BTreeSet::new(),
            forgotten: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, key: Key) {
        if self.is_on {
            self.noted.insert(key);
        }
    }

    pub(crate) fn note_later(&mut self, key: Key, record: &mut Record, now: Millis) {
        if self.is_on && record.due.is_none() {
            let due = record.kept.map_or(now, |kept| (kept + AGAIN_AFTER).max(now));
            record.due = Some(due);
            self.late.insert((due, key));
        }
    }

    pub(crate) fn forget(&mut self, key: Key, record: &Record) {
        if self.is_on {
            self.noted.remove(&key);
            if let Some(due) = record.due {
                self.late.remove(&(due, key));
            }
            if record.kept.is_some() {
                self.forgotten.push(key);
            }
        }
    }

    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.late.first().map(|(due, _)| *due)
    }

    pub(crate) fn check(&self, records: &BTreeMap<Key, Box<Record>>) {
        assert!(self.noted.is_empty() && self.forgotten.is_empty(), "changes are not told");
        for (due, key) in &self.late {
            assert_eq!(records[key].due, Some(*due));
        }
    }
}

impl Cluster {
    /// Tells the store what has changed.
    pub(crate) fn keep_changes(&mut self, now: Millis) {
        if self.settings.keeps != Keeps::Store {
            return;
        }
        let changes = &mut self.records.changes;
        while let Some((_, key)) = changes.late.first().filter(|(due, _)| *due <= now).copied() {
            changes.late.pop_first();
            changes.noted.insert(key);
        }
        let noted = std::mem::take(&mut changes.noted);
        let forgotten = std::mem::take(&mut changes.forgotten);
        for key in noted {
            let Some(record) = self.records.get_mut(key) else { continue };
            record.kept = Some(now);
            let due = record.due.take();
            self.effects.push(Effect::Keep(Box::new(Row::of(key, record))));
            if let Some(due) = due {
                self.records.changes.late.remove(&(due, key));
            }
        }
        if !forgotten.is_empty() {
            self.effects.push(Effect::Forget(forgotten));
        }
        if self.engines_due.is_some_and(|due| due <= now) {
            self.engines_due = None;
            self.keep_engines();
        }
    }

    /// Tells the store at the end what it would be told later.
    pub fn keep_rest(&mut self, now: Millis) -> Vec<Effect> {
        let changes = &mut self.records.changes;
        changes.noted.extend(std::mem::take(&mut changes.late).into_iter().map(|(_, key)| key));
        self.engines_due = self.engines_due.map(|_| now);
        self.keep_changes(now);
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn engines_changed(&mut self, now: Millis) {
        if self.settings.keeps == Keeps::Store {
            self.engines_due.get_or_insert(now + ENGINES_AFTER);
        }
    }

    /// Tells which engines may answer a controller after this one: those that are here, and those
    /// that were silent and may come back.
    fn keep_engines(&mut self) {
        let here = self.engines.values().filter(|engine| engine.announced);
        let here = here.map(|engine| KeptEngine {
            id: engine.id,
            uuid: engine.uuid.clone(),
            is_ours: engine.is_ours,
        });
        let engines = here.chain(self.away.kept()).collect();
        self.effects.push(Effect::KeepEngines { engines, next: self.next_engine });
    }
}
