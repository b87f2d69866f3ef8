//! Runs a cell that awaits: one future, polled on the worker's main thread, with no runtime but
//! this. What wakes it may be any thread: a timer or reactor of the user's own runtime, a task, a
//! channel.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::cell::CellError;

/// Says when the future is worth another poll. Not the thread's park token, which user code may
/// take.
#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

impl Signal {
    fn wait(&self) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken =
            self.changed.wait_while(woken, |woken| !*woken).unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}

/// The statements of a cell, as a future.
pub type Statements<'a> = Pin<&'a mut dyn Future<Output = Result<(), CellError>>>;

/// Polls the statements to their end. Not generic: a cell compiles only the call.
///
/// # Errors
/// What the statements throw with `?`.
pub fn run(mut statements: Statements<'_>) -> Result<(), CellError> {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(signal.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        match statements.as_mut().poll(&mut context) {
            Poll::Ready(end) => return end,
            Poll::Pending => signal.wait(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_another_thread_wakes_comes_to_its_end() {
        let mut waited = false;
        let future = std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(Ok(()));
            }
            let waker = context.waker().clone();
            std::thread::spawn(move || waker.wake());
            Poll::Pending
        });
        assert!(run(std::pin::pin!(future)).is_ok());
    }
}
