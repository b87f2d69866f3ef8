//! An error in words. The runtime that cells link is built with `cfg(prust_cells)`, which lets it
//! ask whether a type has `Display`; without, everything is shown by `Debug`.

#[cfg(prust_cells)]
mod display;

/// The words for an error that ends a cell.
pub(crate) trait InWords {
    fn in_words(&self) -> String;
}

#[cfg(not(prust_cells))]
impl<E: std::fmt::Debug> InWords for E {
    fn in_words(&self) -> String {
        format!("{self:?}")
    }
}
