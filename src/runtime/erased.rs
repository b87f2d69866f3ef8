//! A look at a value by its type when the value borrows: for the words of errors such as
//! `PoisonError<MutexGuard<'_, T>>`.
#![expect(unsafe_code, reason = "forgets a lifetime for the time of a look")]

use std::any::Any;

trait Erased {
    fn any(&self) -> &dyn Any
    where
        Self: 'static;
}

impl<E> Erased for E {
    fn any(&self) -> &dyn Any
    where
        Self: 'static,
    {
        self
    }
}

/// Lends `value` as [`Any`]. What is read must not be kept: its lifetimes are not checked, which is
/// why `look` can only give words.
pub(crate) fn words_of<E>(value: &E, look: impl FnOnce(&dyn Any) -> String) -> String {
    let erased: &dyn Erased = value;
    // SAFETY: the two types differ in a lifetime bound alone, which the vtable does not depend on.
    // The reference lives as long as `value` is borrowed, and `look` gives nothing that borrows.
    let forever = unsafe { std::mem::transmute::<&dyn Erased, &(dyn Erased + 'static)>(erased) };
    look(forever.any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrowing_value_is_looked_at_by_its_type() {
        let owner = String::from("owner");
        let borrowed = owner.as_str();
        let words = words_of(&borrowed, |any| format!("{:?}", any.downcast_ref::<&'static str>()));
        assert_eq!(words, "Some(\"owner\")");
        assert_eq!(words_of(&5_u8, |any| any.is::<u16>().to_string()), "false");
    }
}
