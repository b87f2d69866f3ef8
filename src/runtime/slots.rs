//! Named slots: the variables that live on between cells. A leaf takes the ones it mentions and
//! puts back what is in scope at its end; a type that does not match is refused before anything is
//! moved.
#![expect(unsafe_code, reason = "slot values cross from cell to cell without a Send bound")]

use std::any::{Any, TypeId, type_name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::Failure;

struct Slot {
    value: Box<dyn Any>,
    type_name: &'static str,
    bytes: usize,
}

// SAFETY: slots are filled and emptied by the worker's main thread alone; the lock only orders that
// with readers of names. A value that is not Send never leaves that thread.
unsafe impl Send for Slot {}

#[derive(Default)]
struct Slots {
    live: BTreeMap<String, Slot>,
    /// Taken by the running leaf and not yet back.
    taken: BTreeSet<String>,
}

static SLOTS: Mutex<Option<Slots>> = Mutex::new(None);

/// Why a slot cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum SlotError {
    Missing { name: String },
    WrongType { name: String, is: &'static str, wanted: &'static str },
}

impl std::fmt::Display for SlotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "there is no variable `{name}` here"),
            Self::WrongType { name, is, wanted } => {
                write!(f, "the variable `{name}` is a `{is}`, not a `{wanted}`")
            }
        }
    }
}

impl std::error::Error for SlotError {}

impl From<SlotError> for Failure {
    fn from(error: SlotError) -> Self {
        Self { ename: "SlotError".into(), evalue: error.to_string(), ..Self::default() }
    }
}

fn with_slots<R>(work: impl FnOnce(&mut Slots) -> R) -> R {
    let mut guard: MutexGuard<'_, Option<Slots>> =
        SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    work(guard.get_or_insert_default())
}

/// A type as slots compare and name it. What is generic stays this thin: every leaf compiles it
/// anew.
#[derive(Clone, Copy)]
struct Type {
    id: TypeId,
    name: &'static str,
}

impl Type {
    fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

/// Refuses a slot that is missing or of another type. A leaf checks all it needs before it takes
/// any.
///
/// # Errors
/// [`SlotError`] as a [`Failure`].
pub fn check<T: 'static>(name: &str) -> Result<(), Failure> {
    check_type(name, Type::of::<T>())
}

fn check_type(name: &str, wanted: Type) -> Result<(), Failure> {
    with_slots(|slots| slots.expect(name, wanted)).map_err(Failure::from)
}

impl Slots {
    fn expect(&self, name: &str, wanted: Type) -> Result<(), SlotError> {
        match self.live.get(name) {
            None => Err(SlotError::Missing { name: name.into() }),
            Some(slot) if (*slot.value).type_id() == wanted.id => Ok(()),
            Some(slot) => Err(SlotError::WrongType {
                name: name.into(),
                is: slot.type_name,
                wanted: wanted.name,
            }),
        }
    }
}

/// Moves a variable out of its slot; [`check`] was called before.
///
/// # Errors
/// As [`check`].
pub fn take<T: 'static>(name: &str) -> Result<T, Failure> {
    match take_box(name, Type::of::<T>())?.downcast::<T>() {
        Ok(value) => Ok(*value),
        Err(_) => unreachable!("the types were compared"),
    }
}

fn take_box(name: &str, wanted: Type) -> Result<Box<dyn Any>, Failure> {
    with_slots(|slots| {
        slots.expect(name, wanted)?;
        slots.taken.insert(name.into());
        Ok(slots.live.remove(name).expect("it was found above").value)
    })
}

/// Puts a variable into its slot, dropping what was there. `N` ties the call to its place in the
/// leaf, so that the compiler's MIR names each variable's type in order.
#[inline(never)]
pub fn put<const N: usize, T: 'static>(name: &str, value: T) {
    insert(name, Box::new(value), type_name::<T>(), size_of::<T>());
}

/// The result type of a function pointer.
pub trait Returns {
    type Value;
}

impl<R> Returns for fn() -> R {
    type Value = R;
}

/// The type `!`, which stable Rust can otherwise write only as a function's result: the type of a
/// `JoinHandle` whose thread never ends.
pub type Never = <fn() -> ! as Returns>::Value;

/// Puts a variable back that the leaf took and still owns.
pub fn put_back<T: 'static>(name: &str, value: T) {
    // If the body stored a new variable of the same name, the newer one stays and the taken one
    // ends here.
    let (type_name, bytes) = (type_name::<T>(), size_of::<T>());
    store_again(name, Box::new(value), type_name, bytes);
}

fn store_again(name: &str, value: Box<dyn Any>, type_name: &'static str, bytes: usize) {
    if with_slots(|slots| slots.taken.contains(name)) {
        insert(name, value, type_name, bytes);
    } else {
        let_go(value);
    }
}

/// Ends a value that nobody can reach any more. A destructor that panics then has said so on
/// stderr, as in a thread of its own; it must not take a cell that has ended with it, or the
/// worker.
fn let_go<T>(value: T) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(value)));
    // The payload's own destructor may panic, too.
    ended.unwrap_or_else(std::mem::forget);
}

/// [`put`] for names known only at run time (`push`).
pub fn put_dynamic<T: 'static>(name: &str, value: T) {
    insert(name, Box::new(value), type_name::<T>(), size_of::<T>());
}

fn insert(name: &str, value: Box<dyn Any>, type_name: &'static str, bytes: usize) {
    let slot = Slot { value, type_name, bytes };
    let old = with_slots(|slots| {
        slots.taken.remove(name);
        slots.live.insert(name.into(), slot)
    });
    // Dropped outside the lock: a destructor may use slots.
    let_go(old);
}

/// Lends a variable.
///
/// # Errors
/// [`SlotError`] when it is missing or of another type.
pub fn with<T: 'static, R>(name: &str, work: impl FnOnce(&T) -> R) -> Result<R, SlotError> {
    let lent = lend(name, Type::of::<T>())?;
    let value = lent.value().downcast_ref::<T>();
    Ok(work(value.expect("the types were compared")))
}

/// A variable out of its slot while it is lent, so that other slots can be used; back even in
/// unwinding.
struct Lent(Option<(String, Slot)>);

impl Lent {
    fn value(&self) -> &dyn Any {
        &*self.0.as_ref().expect("only drop takes it").1.value
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some((name, slot)) = self.0.take() {
            with_slots(|slots| {
                slots.live.entry(name).or_insert(slot);
            });
        }
    }
}

fn lend(name: &str, wanted: Type) -> Result<Lent, SlotError> {
    with_slots(|slots| {
        slots.expect(name, wanted)?;
        let slot = slots.live.remove(name).expect("it was found above");
        Ok(Lent(Some((name.into(), slot))))
    })
}

/// Name, type and size in bytes (of the value itself, not its heap) of every variable.
pub fn list() -> Vec<(String, &'static str, usize)> {
    with_slots(|slots| {
        slots.live.iter().map(|(name, slot)| (name.clone(), slot.type_name, slot.bytes)).collect()
    })
}

/// What a cell's run answers: a line `BYTES NAME` for every variable.
pub(crate) fn sizes() -> Vec<u8> {
    let lines = list().into_iter().map(|(name, _, bytes)| format!("{bytes} {name}\n"));
    lines.collect::<String>().into_bytes()
}

/// Drops all variables.
pub fn clear() {
    // Dropped outside the lock: a destructor may use slots.
    with_slots(|slots| std::mem::take(&mut slots.live)).into_values().for_each(let_go);
}

/// Starts a leaf: nothing is taken yet.
pub(crate) fn begin() {
    with_slots(|slots| slots.taken.clear());
}

/// What the leaf took and did not put back.
pub(crate) fn lost() -> Vec<String> {
    with_slots(|slots| std::mem::take(&mut slots.taken).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_another_type_is_refused_and_kept() {
        put::<0, _>("refused", 5_i32);
        assert!(take::<String>("refused").is_err());
        assert_eq!(take::<i32>("refused").ok(), Some(5));
        assert!(take::<i32>("refused").is_err());
    }

    struct Bad(&'static std::sync::atomic::AtomicU32);

    impl Drop for Bad {
        fn drop(&mut self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            panic!("in drop");
        }
    }

    #[test]
    fn destructors_that_panic_end_their_values_and_nothing_else() {
        static ENDED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        for name in ["bad", "worse", "worst"] {
            put::<0, _>(name, Bad(&ENDED));
        }
        for name in ["bad", "worse", "worst"] {
            put::<0, _>(name, 1_u8);
        }
        assert_eq!(ENDED.load(std::sync::atomic::Ordering::Relaxed), 3);
        assert_eq!(take::<u8>("bad").ok(), Some(1));
        begin();
        put_back("not taken", Bad(&ENDED));
        assert_eq!(ENDED.load(std::sync::atomic::Ordering::Relaxed), 4);
    }

    #[test]
    fn a_lent_variable_is_back_after_a_panic() {
        put::<0, _>("lent", vec![1, 2]);
        let panicked =
            std::panic::catch_unwind(|| with::<Vec<i32>, ()>("lent", |_| panic!("stop")));
        assert!(panicked.is_err());
        assert_eq!(with::<Vec<i32>, _>("lent", Vec::len), Ok(2));
    }
}
