//! How the loops of this program wait beside each other on one thread: deadlines that move, and
//! turns for others. What tokio has for both costs a system call each time.
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use tokio::time::{Instant as TokioInstant, Sleep, sleep_until};

/// A deadline that is set anew at each turn of a loop. A timer of tokio that becomes the first of
/// all wakes its own thread, and deadlines mostly move away: so the timer stays where it is until
/// it rings too early.
#[derive(Debug)]
pub struct Alarm {
    due: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// An alarm that is not set. Must be called within a tokio runtime with time.
    pub fn new() -> Self {
        Self { due: None, timer: Box::pin(sleep_until(TokioInstant::now())) }
    }

    /// Has it ring then, or never.
    pub fn set(&mut self, due: Option<Instant>) {
        self.due = due;
        if let Some(due) = due {
            let due = TokioInstant::from_std(due);
            if self.timer.is_elapsed() || due < self.timer.deadline() {
                self.timer.as_mut().reset(due);
            }
        }
    }

    /// Waits until it rings. Nothing is lost when the future is dropped.
    pub async fn ring(&mut self) {
        let Some(due) = self.due.map(TokioInstant::from_std) else { return pending().await };
        loop {
            self.timer.as_mut().await;
            if TokioInstant::now() >= due {
                return;
            }
            self.timer.as_mut().reset(due);
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives the tasks of this thread a turn that are ready now.
pub async fn others_first() {
    let mut had_turn = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_turn, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const WITHIN: Duration = Duration::from_secs(60);
    const LATE: Duration = Duration::from_secs(600);

    /// It rings, and not before `due`.
    async fn rings(alarm: &mut Alarm, due: Instant) {
        timeout(WITHIN, alarm.ring()).await.expect("it rings");
        assert!(Instant::now() >= due, "it rings too early");
    }

    #[tokio::test]
    async fn it_rings_when_it_was_set_to_last() {
        let start = Instant::now();
        let mut alarm = Alarm::new();
        alarm.set(Some(start + LATE));
        alarm.set(Some(start + SOON));
        rings(&mut alarm, start + SOON).await;
        rings(&mut alarm, start + SOON).await;
        for n in 1..4 {
            let start = Instant::now();
            alarm.set(Some(start + SOON));
            alarm.set(Some(start + n * SOON));
            rings(&mut alarm, start + n * SOON).await;
        }
    }

    #[tokio::test]
    async fn one_that_is_not_set_does_not_ring() {
        let (mut alarm, mut other) = (Alarm::new(), Alarm::new());
        for due in [None, Some(Instant::now() + LATE), None] {
            alarm.set(Some(Instant::now() + SOON));
            alarm.set(due);
            other.set(Some(Instant::now() + 2 * SOON));
            tokio::select! {
                biased;
                () = alarm.ring() => panic!("it was set to {due:?}"),
                () = other.ring() => (),
            }
        }
    }

    #[tokio::test]
    async fn who_is_ready_has_a_turn_first() {
        let said = RefCell::new(Vec::new());
        let patient = async {
            others_first().await;
            said.borrow_mut().push("patient");
        };
        let ready = async { said.borrow_mut().push("ready") };
        tokio::join!(patient, ready);
        assert_eq!(*said.borrow(), ["ready", "patient"]);
    }
}
