//! `Reference::<T>::new("x")`: an argument that is the engine's own variable `x`. It travels as a
//! name and is resolved where the arguments are read; it can be used during that call only.
#![expect(unsafe_code, reason = "a reference lends a slot's value for the length of one call")]

use crate::outcome::Failure;
use prust_runtime::slots::{self, SlotError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

thread_local! {
    /// The number of the call that runs on this thread; 0 outside of calls.
    static CALL: Cell<u64> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// Why the latest reference could not be resolved.
    static FAILURE: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// The engine's own variable of that name, as an argument.
pub struct Reference<T> {
    name: String,
    /// The value and the call in which it may be used.
    value: Option<(*const T, u64)>,
    marker: PhantomData<T>,
}

impl<T: 'static> Reference<T> {
    /// Names a variable of the engines.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), value: None, marker: PhantomData }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Deref for Reference<T> {
    type Target = T;

    /// # Panics
    /// Outside of the call on an engine that it was an argument of.
    fn deref(&self) -> &T {
        let (value, call) = self.value.unwrap_or((std::ptr::null(), 0));
        assert!(
            call != 0 && CALL.get() == call,
            "Reference to `{}` is the engine's variable: it can be used only inside the function \
             that was called with it",
            self.name
        );
        // SAFETY: the slot's box was found in this very call (the assertion above). Slots change
        // only between calls or through `push` and `scatter`, which are calls of their own on this
        // thread, and the value is boxed, so that it does not move while its slot is lent to
        // `slots::with`.
        unsafe { &*value }
    }
}

impl<T> fmt::Debug for Reference<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reference({:?})", self.name)
    }
}

impl<T> Serialize for Reference<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de, T: 'static> Deserialize<'de> for Reference<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let call = CALL.get();
        if call == 0 {
            return Ok(Self::new(name));
        }
        match slots::with::<T, _>(&name, std::ptr::from_ref) {
            Ok(value) => Ok(Self { name, value: Some((value, call)), marker: PhantomData }),
            Err(error) => {
                let failure = slot_failure(&error);
                FAILURE.set(Some(failure.clone()));
                Err(de::Error::custom(failure.evalue))
            }
        }
    }
}

/// A variable that is not there, or is something else, in the engine's words.
pub(crate) fn slot_failure(error: &SlotError) -> Failure {
    match error {
        SlotError::Missing { name } => {
            Failure::new("NameError", format!("there is no variable `{name}` on this engine"))
        }
        SlotError::WrongType { name, is, wanted } => Failure::new(
            "TypeError",
            format!("the engine's variable `{name}` is a `{is}`, not a `{wanted}`"),
        ),
    }
}

/// Why a reference could not be resolved, if that is what went wrong.
pub(crate) fn failure() -> Option<Failure> {
    FAILURE.take()
}

/// Marks a call on this thread until it is dropped.
pub(crate) fn enter() -> impl Drop {
    struct Entered(u64);
    impl Drop for Entered {
        fn drop(&mut self) {
            CALL.set(self.0);
            FAILURE.set(None);
        }
    }
    let number = CALLS.get() + 1;
    CALLS.set(number);
    FAILURE.set(None);
    Entered(CALL.replace(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_reference_is_the_variable_within_its_call_only() {
        slots::put_dynamic("referred", vec![1u8, 2]);
        let bytes = codec::to_bytes(&Reference::<Vec<u8>>::new("referred")).unwrap();
        let reference = {
            let _call = enter();
            let reference: Reference<Vec<u8>> = codec::from_bytes(&bytes).unwrap();
            assert_eq!(reference.len(), 2);
            reference
        };
        let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reference.len()));
        assert!(used.is_err());
    }

    #[test]
    fn a_reference_to_nothing_says_so() {
        let bytes = codec::to_bytes(&Reference::<Vec<u8>>::new("nothing")).unwrap();
        let _call = enter();
        assert!(codec::from_bytes::<Reference<Vec<u8>>>(&bytes).is_err());
        assert_eq!(failure().unwrap().evalue, "there is no variable `nothing` on this engine");
    }
}
