//! How fast a submission moves, and when it may end: rate, remaining time as a range, speed-up.
//! Says nothing where the figures would not be honest.
use std::collections::VecDeque;
use std::time::Duration;

use crate::client::summary::{State, Summary};

/// Observations kept for the recent rate: at ten a second, the last six seconds.
const SAMPLES_MAX: usize = 64;
/// An estimate needs this share of the items (one in twenty), or `TASKS_MIN` ended tasks.
const SHARE_MIN: u64 = 20;
const TASKS_MIN: usize = 5;
/// An estimate whose ends differ by more than this factor says nothing: it is not shown.
const SPREAD_MAX: f64 = 4.0;

/// The figures that depend on more than the latest summary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Ended items per second.
    pub(super) rate: Option<f64>,
    /// Remaining time, from the faster and the slower of two rates.
    pub(super) left: Option<(Duration, Duration)>,
    pub(super) speedup: Option<f64>,
    /// Speed-up divided by the engines that took part, in percent.
    pub(super) efficiency: Option<f64>,
}

/// Remembers recent observations of one submission.
#[derive(Debug, Default)]
pub(super) struct Pace {
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Takes in one observation; call it once for each summary.
    pub(super) fn observe(&mut self, summary: &Summary) {
        let ended = ended(summary);
        if self.samples.back().is_some_and(|last| last.0 >= summary.elapsed) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((summary.elapsed, ended));
    }

    /// Returns the figures to show now.
    pub(super) fn figures(&self, summary: &Summary) -> Figures {
        let mut figures = overall(summary);
        if summary.state == State::Running {
            figures.left = self.left(summary, figures.rate);
        }
        figures
    }

    fn left(&self, summary: &Summary, overall: Option<f64>) -> Option<(Duration, Duration)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let counts = summary.counts;
        let ended = ended(summary);
        let tasks = summary.lanes.iter().flat_map(|lane| &lane.spans);
        let enough = tasks.filter(|span| span.to.is_some()).take(TASKS_MIN).count() == TASKS_MIN
            || (ended > 0 && ended.saturating_mul(SHARE_MIN) >= counts.total);
        let window = last.0.saturating_sub(first.0).as_secs_f64();
        if !enough || ended >= counts.total || window < 0.5 || last.1 <= first.1 {
            return None;
        }
        let recent = (last.1 - first.1) as f64 / window;
        let overall = overall.filter(|rate| *rate > 0.0)?;
        let remaining = (counts.total - ended) as f64;
        // Rates waver by about a tenth even in even work; chunks end together.
        let low = remaining / recent.max(overall) * 0.9;
        let high = remaining / recent.min(overall) * 1.1;
        (high / low <= SPREAD_MAX && high.is_finite() && high < 1e9)
            .then(|| (Duration::from_secs_f64(low), Duration::from_secs_f64(high)))
    }
}

/// Returns the figures that the summary alone supports.
pub(super) fn overall(summary: &Summary) -> Figures {
    let elapsed = summary.elapsed.as_secs_f64();
    let first = summary.lanes.iter().filter_map(|lane| lane.spans.first()).map(|span| span.from);
    let started = first.min().unwrap_or_default().as_secs_f64();
    let whole =
        summary.lanes.iter().all(|lane| lane.spans.len() < crate::client::summary::SPANS_MAX);
    let working = if whole { elapsed - started } else { elapsed };
    let ended = ended(summary);
    let rate = (ended > 0 && working > 0.0).then(|| ended as f64 / working);
    let serial = summary.serial.as_secs_f64();
    let speedup = (serial > 0.0 && elapsed > 0.0).then(|| serial / elapsed);
    let engines = summary.lanes.len();
    let efficiency = speedup.filter(|_| engines > 0).map(|s| s / engines as f64 * 100.0);
    Figures { rate, left: None, speedup, efficiency }
}

fn ended(summary: &Summary) -> u64 {
    summary.counts.done + summary.counts.failed
}
