//! What a generated leaf calls around the user's statements: run the body, catch what it throws,
//! turn a `?` error into a [`Failure`]. Knows nothing of hosts and sockets.

use std::any::{Any, type_name};
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

use crate::erased::words_of;
use crate::frame::Failure;
use crate::panics;
use crate::words::InWords;

/// What a leaf exports: its entry point.
pub type Entry = fn() -> Result<(), Failure>;

/// Any error that `?` meets at the top level of a cell. Not an `Error` itself, so that every error
/// (boxed ones, strings, the user's own) converts into it.
pub struct CellError(Failure);

impl<E: std::fmt::Debug> From<E> for CellError {
    #[track_caller]
    fn from(error: E) -> Self {
        let name = type_name::<E>();
        let mut ename = String::new();
        let evalue = words_of(&error, |any| named_words(any, &error, name, &mut ename));
        Self(failure(ename, evalue, Location::caller()))
    }
}

/// What a `?` at the top level of a cell gives for a `None`.
#[derive(Debug)]
pub struct NoneError;

impl std::fmt::Display for NoneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`?` met `None` where a value was expected")
    }
}

/// Knows how to name and word errors of one crate.
pub type Describe = fn(&dyn Any) -> Option<(String, String)>;

static DESCRIPTIONS: Mutex<Vec<Describe>> = Mutex::new(Vec::new());

/// Has the errors that `describe` knows shown by the name and words it gives.
pub fn describe_by(describe: Describe) {
    let mut known = DESCRIPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if !known.iter().any(|other| std::ptr::fn_addr_eq(*other, describe)) {
        known.push(describe);
    }
}

/// What is still to be done at the end of a cell, however that turned out. May unwind when the
/// user interrupts it.
pub type AtEnd = fn();

static ENDS: Mutex<Vec<AtEnd>> = Mutex::new(Vec::new());

/// Has `at_end` done at the end of each cell from now on.
pub fn end_by(at_end: AtEnd) {
    let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    if !ends.iter().any(|other| std::ptr::fn_addr_eq(*other, at_end)) {
        ends.push(at_end);
    }
}

/// Does it.
pub(crate) fn end() -> Result<(), Failure> {
    let ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ends.into_iter().try_for_each(panics::catch)
}

/// Not generic: a cell that uses `?` compiles only the call.
fn named_words(any: &dyn Any, error: &dyn InWords, full: &str, ename: &mut String) -> String {
    let known = DESCRIPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let described = known.iter().find_map(|describe| describe(any));
    let (name, evalue) = described.unwrap_or_else(|| (error_name(full), error.in_words()));
    *ename = name;
    evalue
}

fn failure(ename: String, evalue: String, place: &Location<'_>) -> Failure {
    Failure {
        ename,
        evalue,
        file: place.file().into(),
        line: place.line(),
        column: place.column(),
        backtrace: Vec::new(),
    }
}

/// What an error's type is called: `io::Error` and `serde_json::Error`, where so many are called
/// `Error`.
fn error_name(full: &str) -> String {
    let steps: Vec<&str> = full.split("::").collect();
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    if steps.len() < 2 || last != "Error" || full.contains('<') || first.starts_with("unit_") {
        return short_type_name(full);
    }
    let home = if ["std", "core", "alloc"].contains(&first) { steps[1] } else { first };
    format!("{home}::Error")
}

/// `alloc::boxed::Box<dyn core::error::Error>` reads `Box<dyn Error>`.
pub fn short_type_name(full: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    for letter in full.chars() {
        if letter.is_alphanumeric() || letter == '_' || letter == ':' {
            word.push(letter);
        } else {
            short.push_str(word.rsplit("::").next().unwrap_or_default());
            word.clear();
            short.push(letter);
        }
    }
    short.push_str(word.rsplit("::").next().unwrap_or_default());
    short
}

/// Runs the user's statements. A panic or a `?` error is the cell's [`Failure`], never ours.
///
/// # Errors
/// What the body threw.
pub fn run(body: impl FnOnce() -> Result<(), CellError>) -> Result<(), Failure> {
    match panics::catch(body) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(CellError(failure))) | Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_error_carries_name_words_and_place() {
        let failure = run(|| {
            "x".parse::<i32>()?;
            Ok(())
        })
        .expect_err("x is no number");
        assert_eq!(failure.ename, "ParseIntError");
        assert!(!failure.evalue.is_empty());
        assert!(failure.file.ends_with("cell.rs") && failure.line > 0);
    }

    #[test]
    fn type_names_lose_their_paths() {
        assert_eq!(short_type_name("alloc::boxed::Box<dyn core::error::Error>"), "Box<dyn Error>");
        assert_eq!(short_type_name("&str"), "&str");
        assert_eq!(error_name("std::io::error::Error"), "io::Error");
        assert_eq!(error_name("serde_json::error::Error"), "serde_json::Error");
        assert_eq!(error_name("unit_0a::Error"), "Error");
        assert_eq!(error_name("Error"), "Error");
    }
}
