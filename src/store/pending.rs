//! What waits to be written: the newest state of each record, bounded. A record that changes twice
//! before it is written is written once; one that is gone by then, not at all.
use std::collections::{BTreeMap, HashSet};

use prust_cluster::{EngineId, KeptEngine, Key, Row};

/// How many rows may wait, and how many bytes they may hold together (what several share is left
/// out: it is within the limits of the controller's records). When the disk is slower than the
/// work, the oldest are dropped.
pub(super) const PENDING_ROWS_MAX: usize = 65_536;
pub(super) const PENDING_BYTES_MAX: usize = 512 << 20;

#[derive(Debug, Default)]
pub(super) struct Pending {
    rows: BTreeMap<Key, Row>,
    n_bytes: usize,
    forgotten: Vec<Key>,
    /// Records that the file may have; lookups only. At most what was written and not forgotten.
    pub(super) saved: HashSet<Key>,
    pub(super) engines: Option<(Vec<KeptEngine>, EngineId)>,
    pub(super) is_closed: bool,
    n_dropped: u64,
}

/// What is written together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rows: BTreeMap<Key, Row>,
    pub(super) forgotten: Vec<Key>,
    pub(super) engines: Option<(Vec<KeptEngine>, EngineId)>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.forgotten.is_empty() && self.engines.is_none()
    }

    pub(super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn keep(&mut self, row: Row) {
        self.n_bytes += row.n_bytes();
        if let Some(before) = self.rows.insert(row.key, row) {
            self.n_bytes -= before.n_bytes();
        }
        while self.rows.len() > PENDING_ROWS_MAX || self.n_bytes > PENDING_BYTES_MAX {
            let Some((_, oldest)) = self.rows.pop_first() else { break };
            self.n_bytes -= oldest.n_bytes();
            if self.n_dropped == 0 {
                tracing::error!(
                    "the disk is slower than the work: the oldest unsaved records are dropped, and \
                     will be missing after a restart"
                );
            }
            self.n_dropped += 1;
        }
    }

    pub(super) fn forget(&mut self, keys: Vec<Key>) {
        for key in keys {
            if let Some(row) = self.rows.remove(&key) {
                self.n_bytes -= row.n_bytes();
            }
            if self.saved.remove(&key) {
                self.forgotten.push(key);
            }
        }
    }

    pub(super) fn take(&mut self) -> Batch {
        self.n_bytes = 0;
        self.saved.extend(self.rows.keys());
        Batch {
            rows: std::mem::take(&mut self.rows),
            forgotten: std::mem::take(&mut self.forgotten),
            engines: self.engines.take(),
        }
    }

    /// Keeps what a failed batch has to remove and the engines for the next one. Its rows are given
    /// up, so that a full disk does not fill the memory too; they are written when they change.
    pub(super) fn put_back(&mut self, batch: Batch) {
        if self.is_closed {
            return;
        }
        self.n_dropped += batch.rows.len() as u64;
        self.forgotten.splice(0..0, batch.forgotten);
        if self.engines.is_none() {
            self.engines = batch.engines;
        }
    }

    #[cfg(test)]
    pub(super) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }
}
