//! Catching panics of user code with their message and place, and printing those of the user's own
//! threads the way Rust does. Never hides a panic that nobody catches.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

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

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Rust's own hook, and where ours is.
static DEFAULT: OnceLock<Hook> = OnceLock::new();
static OURS: AtomicUsize = AtomicUsize::new(0);

/// Takes over the process's panic hook. Called before each run: a cell may have set a hook of its
/// own, which is then called by ours.
pub(crate) fn install() {
    let found = panic::take_hook();
    if address(&found) == OURS.load(Ordering::Relaxed) {
        panic::set_hook(found);
        return;
    }
    let is_default = DEFAULT.get().is_none_or(|default| is_same(default, &found));
    let theirs = if is_default {
        let _ = DEFAULT.set(found);
        None
    } else {
        Some(found)
    };
    let ours: Hook = Box::new(move |info| on_panic(info, theirs.as_ref()));
    OURS.store(address(&ours), Ordering::Relaxed);
    panic::set_hook(ours);
}

/// Ours holds a value, so that nothing else has its address.
fn address(hook: &Hook) -> usize {
    std::ptr::from_ref(&**hook).cast::<()>().addr()
}

/// Hooks without a value have one address; their code tells them apart.
fn is_same(one: &Hook, other: &Hook) -> bool {
    std::ptr::eq(std::ptr::from_ref(&**one), std::ptr::from_ref(&**other))
}

/// `theirs` is the hook that a cell has set.
fn on_panic(info: &PanicHookInfo<'_>, theirs: Option<&Hook>) {
    if !can_unwind(info) {
        let last_words = last_words(Seen::of(info));
        door::tell(&FromWorker::LastWords { failure: last_words.bounded() });
    } else {
        let seen = Seen::of(info);
        if CATCHING.get() == 0 {
            if theirs.is_none() {
                print_as_rust_does(info);
            }
            let mut elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
            *elsewhere = Some(seen.clone());
        }
        remember(seen);
    }
    if let Some(theirs) = theirs {
        theirs(info);
    }
}

/// Whether the panic unwinds. std tells hooks only in this form; should it stop, such a panic is
/// reported as the abort that it is.
fn can_unwind(info: &PanicHookInfo<'_>) -> bool {
    !format!("{info:?}").contains("can_unwind: false")
}

impl Seen {
    fn is_at(&self, other: &Self) -> bool {
        let place = |seen: &Self| (seen.line, seen.column);
        place(self) == place(other) && self.file == other.file && self.message == other.message
    }

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
        // A cell's hook may call one of ours that it has taken.
        if both[1].as_ref().is_some_and(|latest| latest.is_at(&seen)) {
            return;
        }
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
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| framed(work)));
    end();
    outcome.map_err(failure)
}

/// A frame of its own: what is inlined into the compiler's `__rust_try` has no line.
#[inline(never)]
fn framed<R>(work: impl FnOnce() -> R) -> R {
    work()
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
