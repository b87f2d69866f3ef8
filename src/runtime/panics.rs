//! Catching panics of user code with their message and place, and printing those of the user's own
//! threads the way Rust does. Never hides a panic that nobody catches.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use crate::door::{self, Interrupted};
use crate::frame::{Failure, FromWorker};
use crate::trail;

/// A panic as the hook saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    message: String,
    file: String,
    line: u32,
    column: u32,
    /// The calls that led to it, by their return addresses.
    trail: Vec<u64>,
}

thread_local! {
    /// How many of our catches are open on this thread.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    /// The latest panic of this thread and the one before it: one may come while the other unwinds.
    static SEEN: RefCell<[Option<Seen>; 2]> = const { RefCell::new([None, None]) };
}

/// The latest panic of a thread that we do not catch on: pools such as rayon's hand it on to the
/// thread that waits, without its place.
static ELSEWHERE: Mutex<Option<Seen>> = Mutex::new(None);

/// Takes over the process's panic hook. Called once, by the worker's main.
pub(crate) fn install() {
    panic::set_hook(Box::new(|info| {
        if !can_unwind(info) {
            let last_words = last_words(Seen::of(info));
            door::tell(&FromWorker::LastWords { failure: last_words.bounded() });
        } else if CATCHING.get() > 0 {
            remember(Seen::of(info));
        } else {
            print_as_rust_does(info);
            let seen = Seen::of(info);
            remember(seen.clone());
            *ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
    }));
}

/// Whether the panic unwinds. std tells hooks only in this form; should it stop, such a panic is
/// reported as the abort that it is.
fn can_unwind(info: &PanicHookInfo<'_>) -> bool {
    !format!("{info:?}").contains("can_unwind: false")
}

impl Seen {
    fn of(info: &PanicHookInfo<'_>) -> Self {
        let message = message(info.payload());
        let Some(place) = info.location() else { return Self { message, ..Self::default() } };
        let (file, line, column) = (place.file().into(), place.line(), place.column());
        Self { message, file, line, column, trail: trail::here() }
    }

    fn failure(self) -> Failure {
        Failure {
            ename: "panic".into(),
            evalue: self.message,
            file: self.file,
            line: self.line,
            column: self.column,
            backtrace: trail::lines(&self.trail),
        }
    }
}

fn remember(seen: Seen) {
    SEEN.with_borrow_mut(|both| {
        both[0] = both[1].take();
        both[1] = Some(seen);
    });
}

/// What to say of a panic that ends the process, in the terms of the panics that led to it.
fn last_words(fatal: Seen) -> Failure {
    let [first, latest] = SEEN.with_borrow_mut(std::mem::take);
    let thread = std::thread::current();
    let of_thread = (CATCHING.get() == 0)
        .then(|| format!("in the thread `{}`", thread.name().unwrap_or("<unnamed>")));
    let (mut failure, why) = match (fatal.message.as_str(), latest) {
        ("panic in a function that cannot unwind", Some(latest)) => {
            let why = "it was about to leave a function that cannot unwind (`extern \"C\"`), where \
                       Rust aborts; `extern \"C-unwind\"` lets it pass";
            (latest.failure(), why.to_owned())
        }
        ("panic in a destructor during cleanup", Some(latest)) => {
            let cause = first.map_or("another panic".to_owned(), |first| {
                format!("the panic `{}`", first.message)
            });
            (
                latest.failure(),
                format!("it came in a destructor while {cause} unwound: Rust aborts"),
            )
        }
        _ => (fatal.failure(), "a panic of this kind does not unwind: Rust aborts".to_owned()),
    };
    failure.backtrace.splice(0..0, of_thread.into_iter().chain([why]));
    failure
}

fn print_as_rust_does(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    // Where the user's toolchain is installed is of no interest.
    let within = place.split_once("/library/").map(|(_, within)| format!("library/{within}"));
    let place = within.unwrap_or(place);
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
    SEEN.with_borrow_mut(std::mem::take);
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
    let message = message(&*payload);
    let [_, latest] = SEEN.with_borrow_mut(std::mem::take);
    let elsewhere = || ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let same = |seen: &Seen| seen.message == message;
    let seen = latest.filter(same).or_else(|| elsewhere().filter(same));
    seen.unwrap_or(Seen { message, ..Seen::default() }).failure()
}
