//! Cells that are refused before rustc sees them.

use std::ops::Range;

use super::cell::{Cell, Failed};
use crate::cell::diagnostic::{self, Book, Severity};
use crate::cell::{Map, Split, depth as nesting};

fn refused(
    cell: Cell<'_>,
    at: Range<usize>,
    code: &str,
    message: String,
    help: &str,
) -> Result<(), Failed> {
    let map = Map::default();
    let book = Book { file: "", label: cell.label, text: cell.text, map: &map };
    let at = Some((book, at));
    Err(Failed::Errors(vec![diagnostic::own(Severity::Error, code, message, help, at)]))
}

/// A text that is nested without end would cost the kernel, and rustc, their stacks.
pub(super) fn depth(cell: Cell<'_>) -> Result<(), Failed> {
    let Some(range) = nesting::too_deep(cell.text) else { return Ok(()) };
    let message = format!(
        "this is nested too deep: at most {} brackets in each other, and {} operators in one \
         statement",
        nesting::BRACKETS_MAX,
        nesting::OPERATORS_MAX
    );
    refused(cell, range, "nesting", message, "give the inner parts names with `let`")
}

/// `#![feature(..)]` is for nightly toolchains; taken over, it would break every later cell.
pub(super) fn features(cell: Cell<'_>, split: &Split, version: &str) -> Result<(), Failed> {
    let is_feature = |range: &&Range<usize>| {
        cell.text[(*range).clone()].trim_start_matches(['#', '!', '[', ' ']).starts_with("feature")
    };
    let feature = split.attributes.iter().find(is_feature);
    let Some(range) = feature.filter(|_| !version.contains("nightly")) else { return Ok(()) };
    let message = "`#![feature]` needs a nightly toolchain".to_owned();
    refused(cell, range.clone(), "E0554", message, "set RUSTC to a nightly rustc, or do without")
}

/// A module's file would be read again, in another state perhaps, whenever its crate is built.
pub(super) fn file_modules(cell: Cell<'_>, split: &Split) -> Result<(), Failed> {
    let Some(range) = split.file_module(cell.text) else { return Ok(()) };
    let message = "a cell's module has its text in the cell".to_owned();
    let help =
        "include the file, which is kept as it is now: `mod name { include!(\"name.rs\"); }`";
    refused(cell, range, "file_module", message, help)
}
