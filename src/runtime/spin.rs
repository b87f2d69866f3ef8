//! Whether to look for something a while before sleeping until it comes. To wake a sleeping thread
//! costs both sides some ten microseconds, and tens of them in a virtual machine, whose idle
//! processor is given back to the host; what comes sooner than that is better looked for.

use std::thread::yield_now;
use std::time::{Duration, Instant};

/// How often is looked before others have a turn on this processor.
const LOOKS_PER_TURN: usize = 8;

/// Where the others' turn takes longer, the processors are wanted: who waits had better sleep.
const TURN_MAX: Duration = Duration::from_micros(200);

/// After so many long waits in a row there is no spinning until one is short. A single one may be
/// the machine's.
const LONG_WAITS_MAX: u32 = 3;

/// Spins for a span at most; and not at all where waits have been longer.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    span: Duration,
    turn_max: Duration,
    n_long_waits: u32,
}

impl Spin {
    pub const fn new(span: Duration) -> Self {
        Self { span, turn_max: TURN_MAX, n_long_waits: 0 }
    }

    /// How long to spin now.
    pub fn span(&self) -> Option<Duration> {
        (self.n_long_waits < LONG_WAITS_MAX).then_some(self.span)
    }

    /// What was waited for has come after so long.
    pub fn waited(&mut self, time: Duration) {
        self.n_long_waits = if time < self.span { 0 } else { self.n_long_waits.saturating_add(1) };
    }

    /// Looks whether it `is_there`, and sleeps when that takes too long.
    pub(crate) fn wait(&mut self, is_there: impl Fn() -> bool, sleep: impl FnOnce()) {
        let begin = Instant::now();
        let mut turn = Duration::ZERO;
        let comes_within = |span| loop {
            if (0..LOOKS_PER_TURN).any(|_| is_there()) {
                return true;
            }
            let now = begin.elapsed();
            if now >= span || now - turn > self.turn_max {
                return false;
            }
            turn = now;
            // Who has work comes before who looks for some.
            yield_now();
        };
        if !self.span().is_some_and(comes_within) {
            sleep();
        }
        self.waited(begin.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often was looked and slept in one wait, for what is there at the given look.
    fn waits(spin: &mut Spin, there_at: usize) -> (usize, usize) {
        let (n_looks, n_sleeps) = (Cell::new(0), Cell::new(0));
        let is_there = || {
            n_looks.set(n_looks.get() + 1);
            n_looks.get() >= there_at
        };
        spin.wait(is_there, || n_sleeps.set(n_sleeps.get() + 1));
        (n_looks.get(), n_sleeps.get())
    }

    #[test]
    fn what_comes_soon_is_waited_for_without_sleep() {
        let mut spin = Spin { turn_max: Duration::MAX, ..Spin::new(Duration::MAX) };
        for n_looks in [1, LOOKS_PER_TURN, 5 * LOOKS_PER_TURN + 1] {
            assert_eq!(waits(&mut spin, n_looks), (n_looks, 0));
        }
    }

    #[test]
    fn who_gets_no_turn_for_long_sleeps() {
        let (n_looks, n_sleeps) = (Cell::new(0), Cell::new(0));
        let is_there = || {
            n_looks.set(n_looks.get() + 1);
            let begin = Instant::now();
            while n_looks.get() == 1 && begin.elapsed() <= TURN_MAX {}
            false
        };
        Spin::new(Duration::MAX).wait(is_there, || n_sleeps.set(n_sleeps.get() + 1));
        assert_eq!((n_looks.get(), n_sleeps.get()), (LOOKS_PER_TURN, 1));
    }

    #[test]
    fn who_has_often_waited_long_sleeps_at_once_until_something_comes_soon_again() {
        let mut spin = Spin::new(Duration::ZERO);
        for _ in 0..LONG_WAITS_MAX {
            assert_eq!(waits(&mut spin, usize::MAX), (LOOKS_PER_TURN, 1));
        }
        assert_eq!(waits(&mut spin, usize::MAX), (0, 1));
        assert_eq!(spin.span(), None);
        spin.span = Duration::MAX;
        assert_eq!(waits(&mut spin, usize::MAX), (0, 1), "this one was short");
        assert_eq!(waits(&mut spin, 3), (3, 0));
    }
}
