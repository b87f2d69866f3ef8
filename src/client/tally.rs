//! The counters of one submission: items by state, lanes, errors, which tasks are worth a row. Kept
//! up to date by single steps, so that a summary of a million tasks costs no more than one of ten.

use super::summary::{
    Counts, ERROR_GROUPS_MAX, ErrorGroup, Lane, ROWS_MAX, SPANS_MAX, Span, TAIL_BYTES_MAX,
};
use super::task::append_bounded;
use prust::EngineId;
use prust::outcome::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Stretches of work on one engine closer than this are shown as one.
const GAP_MERGED: Duration = Duration::from_millis(2);
/// Characters of an error's text that tell its group.
const GROUP_TEXT_CHARS: usize = 160;

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    lanes: BTreeMap<EngineId, LaneTally>,
    errors: Vec<ErrorGroup>,
    /// Tasks that failed, the first `ROWS_MAX`.
    failed: Vec<u32>,
    /// The slowest tasks, by busy time.
    slowest: BTreeSet<(Duration, u32)>,
    pub(super) serial: Duration,
    pub(super) bytes_received: u64,
}

#[derive(Debug, Default)]
struct LaneTally {
    done: u64,
    failed: u64,
    spans: Vec<Span>,
    /// Tasks known to run: when they started, and their items.
    running: BTreeMap<u32, (Duration, u64)>,
    busy: Duration,
    lost: Option<String>,
    tail: String,
}

/// How a task ended, counted in values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
}

impl Tally {
    pub(super) fn new(total: u64) -> Self {
        Self { counts: Counts { total, waiting: total, ..Counts::default() }, ..Self::default() }
    }

    /// A task is known to run on an engine from `at` on.
    pub(super) fn start(&mut self, task: u32, n: u64, engine: EngineId, at: Duration) {
        let lane = self.lanes.entry(engine).or_default();
        if lane.running.insert(task, (at, n)).is_none() {
            self.counts.running += n;
            self.counts.waiting = self.counts.waiting.saturating_sub(n);
        }
    }

    /// A task is back in the queue.
    pub(super) fn unstart(&mut self, task: u32, engine: Option<EngineId>) {
        let lane = engine.and_then(|engine| self.lanes.get_mut(&engine));
        if let Some((_, n)) = lane.and_then(|lane| lane.running.remove(&task)) {
            self.counts.running -= n;
            self.counts.waiting += n;
        }
    }

    /// A task has ended. `span`: its work as offsets from the submission's start.
    pub(super) fn end(
        &mut self,
        task: u32,
        engine: Option<EngineId>,
        ended: Ended,
        span: Option<(Duration, Duration)>,
    ) {
        self.unstart(task, engine);
        let n = ended.done + ended.failed + ended.cancelled;
        self.counts.waiting = self.counts.waiting.saturating_sub(n);
        self.counts.done += ended.done;
        self.counts.failed += ended.failed;
        self.counts.cancelled += ended.cancelled;
        if ended.failed + ended.cancelled > 0 && self.failed.len() < ROWS_MAX {
            self.failed.push(task);
        }
        let busy = span.map_or(Duration::ZERO, |(from, to)| to.saturating_sub(from));
        self.serial += busy;
        self.slowest.insert((busy, task));
        if self.slowest.len() > ROWS_MAX {
            self.slowest.pop_first();
        }
        let Some(engine) = engine else { return };
        let lane = self.lanes.entry(engine).or_default();
        lane.done += ended.done;
        lane.failed += ended.failed;
        lane.busy += busy;
        if let Some((from, to)) = span {
            lane.add_span(from, to, n, ended.failed > 0);
        }
    }

    /// Counts `n` failures of one kind.
    pub(super) fn error(&mut self, failure: &Failure, engine: Option<EngineId>, n: u64) {
        let evalue = first_line(&failure.evalue);
        let same = |group: &ErrorGroup| group.ename == failure.ename && group.evalue == evalue;
        let group = match self.errors.iter().position(same) {
            Some(idx) => &mut self.errors[idx],
            None if self.errors.len() >= ERROR_GROUPS_MAX => {
                self.errors.last_mut().expect("ERROR_GROUPS_MAX is not zero")
            }
            None => {
                self.errors.push(ErrorGroup {
                    ename: failure.ename.clone(),
                    evalue,
                    count: 0,
                    engines: Vec::new(),
                    traceback: failure.traceback.clone(),
                });
                self.errors.last_mut().expect("pushed on the line above")
            }
        };
        group.count += n;
        if let Some(engine) = engine
            && let Err(idx) = group.engines.binary_search(&engine)
        {
            group.engines.insert(idx, engine);
        }
    }

    pub(super) fn print(&mut self, engine: EngineId, text: &str) {
        append_bounded(&mut self.lanes.entry(engine).or_default().tail, text, TAIL_BYTES_MAX);
    }

    pub(super) fn lose(&mut self, engine: EngineId, cause: &str) {
        self.lanes.entry(engine).or_default().lost = Some(cause.to_owned());
    }

    /// Tasks known to run.
    pub(super) fn n_running(&self) -> usize {
        self.lanes.values().map(|lane| lane.running.len()).sum()
    }

    /// Makes sure that engines without results yet have a lane.
    pub(super) fn add_lanes(&mut self, engines: &[EngineId]) {
        for engine in engines {
            self.lanes.entry(*engine).or_default();
        }
    }

    pub(super) fn lanes(&self) -> Vec<Lane> {
        self.lanes.iter().map(|(engine, lane)| lane.show(*engine)).collect()
    }

    pub(super) fn errors(&self) -> Vec<ErrorGroup> {
        self.errors.clone()
    }

    /// The tasks worth a row: failed ones, then the slowest, then the first of `n_tasks`.
    pub(super) fn rows(&self, n_tasks: u32) -> Vec<u32> {
        let slowest = self.slowest.iter().rev().map(|(_, task)| *task);
        let candidates = self.failed.iter().copied().chain(slowest).chain(0..n_tasks);
        let mut seen = BTreeSet::new();
        // The three sources overlap, so at most three times as many are looked at.
        candidates.take(3 * ROWS_MAX).filter(|task| seen.insert(*task)).take(ROWS_MAX).collect()
    }
}

impl LaneTally {
    fn add_span(&mut self, from: Duration, to: Duration, items: u64, failed: bool) {
        if let Some(last) = self.spans.last_mut()
            && last.failed == failed
            && let Some(end) = last.to
            && from <= end + GAP_MERGED
            && from >= last.from
        {
            last.to = Some(end.max(to));
            last.items += items;
            return;
        }
        if self.spans.len() == SPANS_MAX {
            self.spans.remove(0);
        }
        self.spans.push(Span { from, to: Some(to), items, failed });
    }

    fn show(&self, engine: EngineId) -> Lane {
        let mut spans = self.spans.clone();
        let running = self.running.values();
        spans.extend(running.map(|(from, items)| Span {
            from: *from,
            to: None,
            items: *items,
            failed: false,
        }));
        let surplus = spans.len().saturating_sub(SPANS_MAX);
        spans.drain(..surplus);
        Lane {
            engine,
            done: self.done,
            failed: self.failed,
            running: self.running.values().map(|(_, items)| items).sum(),
            spans,
            busy: self.busy,
            lost: self.lost.clone(),
            tail: self.tail.clone(),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(GROUP_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn counts_always_add_up() {
        let mut tally = Tally::new(10);
        tally.start(0, 4, 1, ms(1));
        tally.start(0, 4, 1, ms(2));
        assert_eq!((tally.counts.running, tally.counts.waiting), (4, 6));
        let ended = Ended { done: 3, failed: 1, cancelled: 0 };
        tally.end(0, Some(1), ended, Some((ms(1), ms(5))));
        tally.end(1, None, Ended { cancelled: 6, ..Ended::default() }, None);
        let Counts { total, done, failed, cancelled, running, waiting } = tally.counts;
        assert_eq!((done, failed, cancelled, running, waiting), (3, 1, 6, 0, 0));
        assert_eq!(done + failed + cancelled, total);
        assert_eq!(tally.rows(2), [0, 1]);
    }

    #[test]
    fn a_million_short_tasks_stay_within_the_limits() {
        let mut tally = Tally::new(5000);
        for task in 0..5000u32 {
            let from = ms(u64::from(task) * 10);
            let ended = Ended { failed: 1, ..Ended::default() };
            tally.end(task, Some(task % 3), ended, Some((from, from + ms(1))));
            tally.error(&Failure::new("E", format!("number {task}")), Some(task % 3), 1);
        }
        let lanes = tally.lanes();
        assert_eq!(lanes.len(), 3);
        assert!(lanes.iter().all(|lane| lane.spans.len() == SPANS_MAX));
        assert_eq!(tally.errors().len(), ERROR_GROUPS_MAX);
        assert_eq!(tally.errors().iter().map(|group| group.count).sum::<u64>(), 5000);
        assert_eq!(tally.rows(5000).len(), ROWS_MAX);
    }

    #[test]
    fn neighbouring_stretches_of_work_become_one() {
        let mut tally = Tally::new(3);
        for (task, from, to) in [(0, 0, 10), (1, 11, 20), (2, 50, 60)] {
            tally.end(
                task,
                Some(0),
                Ended { done: 1, ..Ended::default() },
                Some((ms(from), ms(to))),
            );
        }
        let spans = tally.lanes().remove(0).spans;
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].from, spans[0].to, spans[0].items), (ms(0), Some(ms(20)), 2));
        assert_eq!(tally.serial, ms(29));
    }
}
