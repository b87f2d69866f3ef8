//! A cell that was answered often asks again at once, as one that calls engines in a loop does.
//! Then its host stays awake a moment, to be there when it asks. Part of the [`Actor`].
//!
//! [`Actor`]: super::Actor

use std::time::{Duration, Instant};

use prust_runtime::spin::Spin;

/// Who asks again later finds the host asleep.
const SPAN: Duration = Duration::from_micros(100);

/// When the worker was answered, and whether the next question is waited for.
pub(super) struct Lingering {
    spin: Spin,
    answered: Option<Instant>,
    until: Option<Instant>,
}

impl Lingering {
    pub(super) fn new() -> Self {
        Self { spin: Spin::new(SPAN), answered: None, until: None }
    }

    pub(super) fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
        self.until = self.spin.span().map(|span| now + span);
    }

    /// The worker has said something.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(answered) = self.answered.take() {
            self.spin.waited(now - answered);
        }
        self.until = None;
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Nothing has come in time.
    pub(super) fn end(&mut self) {
        self.until = None;
    }
}

/// Keeps this thread awake, for whatever else it has to do, too.
pub(super) async fn linger(until: Option<Instant>) {
    while until.is_some_and(|until| Instant::now() < until) {
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stays_awake_only_for_who_asks_again_at_once() {
        let start = Instant::now();
        let mut lingering = Lingering::new();
        let mut asks_after = |halves: u32, lingers: bool| {
            lingering.answered(start);
            assert_eq!(lingering.until(), lingers.then(|| start + SPAN));
            lingering.heard(start + halves * (SPAN / 2));
            assert_eq!(lingering.until(), None);
        };
        for (halves, lingers) in [(1, true), (9, true), (9, true), (9, true), (1, false)] {
            asks_after(halves, lingers);
        }
        lingering.answered(start);
        assert_eq!(lingering.until(), Some(start + SPAN), "the last question came at once");
        lingering.end();
        assert_eq!(lingering.until(), None);
    }
}
