//! Catching panics of user code with their message and place, and printing those of the user's own
//! threads the way Rust does. Never hides a panic that nobody catches.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use crate::door::Interrupted;
use crate::frame::Failure;

thread_local! {
    /// How many of our catches are open on this thread.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    /// The place of the latest panic on this thread.
    static PLACE: RefCell<Option<(String, u32, u32)>> = const { RefCell::new(None) };
}

/// Takes over the process's panic hook. Called once, by the worker's main.
pub(crate) fn install() {
    panic::set_hook(Box::new(|info| {
        if CATCHING.get() > 0 {
            let place = info
                .location()
                .map(|place| (place.file().to_owned(), place.line(), place.column()));
            PLACE.with(|slot| slot.replace(place));
        } else {
            print_as_rust_does(info);
        }
    }));
}

fn print_as_rust_does(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    // A closed stderr loses the message either way.
    let _ = writeln!(
        std::io::stderr(),
        "thread '{}' panicked at {place}:\n{}",
        thread.name().unwrap_or("<unnamed>"),
        message(info.payload()),
    );
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not text".to_owned()
    }
}

/// Runs user code; a panic comes back as a [`Failure`] with `ename` `panic`, or `Interrupted`.
///
/// # Errors
/// The panic.
pub fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    begin();
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    end();
    outcome.map_err(failure)
}

fn begin() {
    CATCHING.set(CATCHING.get() + 1);
}

fn end() {
    CATCHING.set(CATCHING.get() - 1);
}

/// Not generic: what a cell compiles of `catch` is only the call around its own code.
fn failure(payload: Box<dyn Any + Send>) -> Failure {
    if payload.is::<Interrupted>() {
        return Failure {
            ename: "Interrupted".into(),
            evalue: "interrupted while it waited; variables keep what the cell did to them".into(),
            ..Failure::default()
        };
    }
    let (file, line, column) = PLACE.with(RefCell::take).unwrap_or_default();
    let evalue = message(&*payload);
    Failure { ename: "panic".into(), evalue, file, line, column, backtrace: Vec::new() }
}
