//! Runs a cell that awaits: one future, polled on the worker's main thread, with no runtime but
//! this. What wakes it may be any thread: a timer or reactor of the user's own runtime, a task, a
//! channel.

use std::any::{Any, TypeId};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::cell::CellError;
use crate::frame::Failure;

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

/// A runtime of the user's dependencies, such as tokio's, whatever its type.
type Runtime = Box<dyn Any + Send>;

/// The runtime that the main thread has entered, by its type: another version is another one.
static ENTERED: Mutex<Option<(TypeId, Runtime)>> = Mutex::new(None);

/// Has `make` make and enter a runtime, unless the main thread is in one of type `R` already. It
/// goes on between cells, with the tasks spawned on it.
///
/// # Errors
/// The runtime's own words when it cannot be made.
pub fn enter<R: 'static>(make: fn() -> std::io::Result<Runtime>) -> Result<(), Failure> {
    enter_type(TypeId::of::<R>(), make)
}

fn enter_type(id: TypeId, make: fn() -> std::io::Result<Runtime>) -> Result<(), Failure> {
    let mut entered = ENTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if entered.as_ref().is_some_and(|(known, _)| *known == id) {
        return Ok(());
    }
    let runtime = make().map_err(|error| Failure {
        ename: "RuntimeError".into(),
        evalue: format!("no async runtime can be started: {error}"),
        ..Failure::default()
    })?;
    // Tasks of the old one go on; dropping it would wait for them.
    if let Some((_, old)) = entered.replace((id, runtime)) {
        std::mem::forget(old);
    }
    Ok(())
}

/// In a woken snapshot: the runtime's threads are gone, so that the next cell makes another.
pub(crate) fn forget() {
    let mut entered = ENTERED.lock().unwrap_or_else(PoisonError::into_inner);
    // Dropped, it would wait for threads that are no more.
    std::mem::forget(entered.take());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_made_once_for_each_type_and_again_when_forgotten() {
        fn make() -> std::io::Result<Runtime> {
            Ok(Box::new(1_u8))
        }
        fn refuse() -> std::io::Result<Runtime> {
            Err(std::io::Error::other("none left"))
        }
        assert!(enter::<u8>(make).is_ok());
        assert!(enter::<u8>(refuse).is_ok());
        assert!(enter::<u16>(refuse).is_err());
        forget();
        let failure = enter::<u8>(refuse).expect_err("it is made again");
        assert!(failure.evalue.contains("none left"), "{}", failure.evalue);
    }

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
