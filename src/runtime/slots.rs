//! Named slots: the variables that live on between cells. A leaf takes the ones it mentions and puts back
//! what is in scope at its end; a type that does not match is refused before anything is moved.
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

// SAFETY: slots are filled and emptied by the worker's main thread alone; the lock only orders that with
// readers of names. A value that is not Send never leaves that thread.
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

/// Refuses a slot that is missing or of another type. A leaf checks all it needs before it takes any.
///
/// # Errors
/// [`SlotError`] as a [`Failure`].
pub fn check<T: 'static>(name: &str) -> Result<(), Failure> {
    with_slots(|slots| match slots.live.get(name) {
        None => Err(SlotError::Missing { name: name.into() }.into()),
        Some(slot) => wrong_type::<T>(name, slot).map_or(Ok(()), |error| Err(error.into())),
    })
}

fn wrong_type<T: 'static>(name: &str, slot: &Slot) -> Option<SlotError> {
    ((*slot.value).type_id() != TypeId::of::<T>()).then(|| SlotError::WrongType {
        name: name.into(),
        is: slot.type_name,
        wanted: type_name::<T>(),
    })
}

/// Moves a variable out of its slot; [`check`] was called before.
///
/// # Errors
/// As [`check`].
pub fn take<T: 'static>(name: &str) -> Result<T, Failure> {
    check::<T>(name)?;
    let slot = with_slots(|slots| {
        slots.taken.insert(name.into());
        slots.live.remove(name)
    });
    let slot = slot.expect("check found the slot");
    Ok(*slot.value.downcast::<T>().expect("check compared the types"))
}

/// Puts a variable into its slot, dropping what was there. `N` ties the call to its place in the leaf, so
/// that the compiler's MIR names each variable's type in order.
#[inline(never)]
pub fn put<const N: usize, T: 'static>(name: &str, value: T) {
    insert(name, value);
}

/// Puts a variable back that the leaf took and still owns.
pub fn put_back<T: 'static>(name: &str, value: T) {
    let replaced = with_slots(|slots| !slots.taken.contains(name));
    // The body stored a new variable of the same name: the newer one stays, the taken one ends here.
    if !replaced {
        insert(name, value);
    }
}

/// [`put`] for names known only at run time (`push`).
pub fn put_dynamic<T: 'static>(name: &str, value: T) {
    insert(name, value);
}

fn insert<T: 'static>(name: &str, value: T) {
    let bytes = size_of::<T>();
    let slot = Slot { value: Box::new(value), type_name: type_name::<T>(), bytes };
    let old = with_slots(|slots| {
        slots.taken.remove(name);
        slots.live.insert(name.into(), slot)
    });
    // Dropped outside the lock: a destructor may use slots.
    drop(old);
}

/// Lends a variable.
///
/// # Errors
/// [`SlotError`] when it is missing or of another type.
pub fn with<T: 'static, R>(name: &str, work: impl FnOnce(&T) -> R) -> Result<R, SlotError> {
    let slot = with_slots(|slots| match slots.live.get(name) {
        None => Err(SlotError::Missing { name: name.into() }),
        Some(slot) => match wrong_type::<T>(name, slot) {
            Some(error) => Err(error),
            None => Ok(slots.live.remove(name).expect("the slot was found above")),
        },
    })?;
    // Out of its slot while lent, so that `work` may use other slots; back even when it unwinds.
    struct Lent(Option<(String, Slot)>);
    impl Drop for Lent {
        fn drop(&mut self) {
            if let Some((name, slot)) = self.0.take() {
                with_slots(|slots| {
                    slots.live.entry(name).or_insert(slot);
                });
            }
        }
    }
    let lent = Lent(Some((name.into(), slot)));
    let (_, slot) = lent.0.as_ref().expect("filled on the line above");
    Ok(work(slot.value.downcast_ref::<T>().expect("the types were compared above")))
}

/// Name, type and size in bytes (of the value itself, not its heap) of every variable.
pub fn list() -> Vec<(String, &'static str, usize)> {
    with_slots(|slots| {
        slots.live.iter().map(|(name, slot)| (name.clone(), slot.type_name, slot.bytes)).collect()
    })
}

/// Drops the named variables; all of them when `names` is empty.
pub(crate) fn clear(names: &[String]) {
    let gone: Vec<Slot> = with_slots(|slots| {
        let names: Vec<String> =
            if names.is_empty() { slots.live.keys().cloned().collect() } else { names.to_vec() };
        names.iter().filter_map(|name| slots.live.remove(name)).collect()
    });
    drop(gone);
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

    #[test]
    fn a_lent_variable_is_back_after_a_panic() {
        put::<0, _>("lent", vec![1, 2]);
        let panicked = std::panic::catch_unwind(|| with::<Vec<i32>, ()>("lent", |_| panic!("stop")));
        assert!(panicked.is_err());
        assert_eq!(with::<Vec<i32>, _>("lent", Vec::len), Ok(2));
    }
}
