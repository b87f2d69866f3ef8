//! Showing things under the running cell, asking the user, and what a task tells while it runs.

use crate::EngineId;
use prust_runtime::door::{self, Refusal};
use prust_runtime::frame::DisplayKind;
use prust_runtime::show::{Display, debug_text};
use serde::Serialize;
use std::fmt::Debug;
use std::sync::OnceLock;

/// Shows a value that has a display of its own. A cell's call by its path, `prust::display(&x)`,
/// takes everything that can be a cell's value.
pub fn display(value: &(impl Display + ?Sized)) {
    send(DisplayKind::Display, "", &value.bundle());
}

/// Shows a value under an id, to be replaced by [`update_display`].
pub fn display_as(id: &str, value: &(impl Display + ?Sized)) {
    send(DisplayKind::Display, id, &value.bundle());
}

/// Shows any value by its `Debug`.
pub fn display_debug(value: &(impl Debug + ?Sized)) {
    send(DisplayKind::Display, "", &[("text/plain".to_owned(), debug_text(&value))]);
}

/// Replaces what is shown under an id.
pub fn update_display(id: &str, value: &(impl Display + ?Sized)) {
    send(DisplayKind::Update, id, &value.bundle());
}

/// What `prust::display(&x)` in a cell is: as the function, and everything else in the ways in
/// which a cell's value is shown.
#[doc(hidden)]
#[macro_export]
macro_rules! display {
    ($value:expr $(,)?) => {
        match $crate::shown::borrowed($value) {
            value => {
                use $crate::shown::ShowNothing as _;
                use $crate::shown::{NoEvcxr as _, ShowDebug as _, ShowDisplay as _};
                let shown = value.evcxr_display();
                if $crate::shown::fell_through(&shown) {
                    (&&&$crate::shown::Shown(value)).prust_show($crate::shown::DISPLAY);
                }
            }
        }
    };
}

/// As [`display!`], under an id.
#[doc(hidden)]
#[macro_export]
macro_rules! display_as {
    ($id:expr, $value:expr $(,)?) => {
        $crate::display_to!(Display, $id, $value)
    };
}

/// As [`display!`], in the place of what is shown under an id.
#[doc(hidden)]
#[macro_export]
macro_rules! update_display {
    ($id:expr, $value:expr $(,)?) => {
        $crate::display_to!(Update, $id, $value)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! display_to {
    ($kind:ident, $id:expr, $value:expr) => {
        match (&$id, $crate::shown::borrowed($value)) {
            (id, value) => {
                use $crate::shown::ShowNothing as _;
                use $crate::shown::{NoEvcxr as _, ShowDebug as _, ShowDisplay as _};
                let to = $crate::shown::To { kind: $crate::shown::DisplayKind::$kind, id };
                let show = || value.evcxr_display();
                if $crate::shown::is_own(&show) {
                    $crate::shown::blocks_at(to.kind, to.id, &mut || {
                        show();
                    });
                } else {
                    (&&&$crate::shown::Shown(value)).prust_show(to);
                }
            }
        }
    };
}

/// Removes what the running cell has shown so far.
pub fn clear_output() {
    door::display(DisplayKind::Clear, "", &[]);
}

fn send(kind: DisplayKind, id: &str, bundle: &[(String, String)]) {
    let data: Vec<(&str, &str)> =
        bundle.iter().map(|(mime, text)| (mime.as_str(), text.as_str())).collect();
    door::display(kind, id, &data);
}

/// A piece of HTML, SVG or an image: shown when it is a cell's value, or by [`display`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    mime: String,
    data: String,
    plain: String,
}

impl Display for Media {
    fn bundle(&self) -> Vec<(String, String)> {
        vec![(self.mime.clone(), self.data.clone()), ("text/plain".to_owned(), self.plain.clone())]
    }
}

/// HTML as a value.
pub fn html(text: impl Into<String>) -> Media {
    media("text/html", text.into(), "<html>")
}

/// An SVG drawing as a value.
pub fn svg(text: impl Into<String>) -> Media {
    media("image/svg+xml", text.into(), "<svg>")
}

/// The bytes of a PNG file as a value.
pub fn png(bytes: impl AsRef<[u8]>) -> Media {
    media("image/png", base64(bytes.as_ref()), "<png>")
}

fn media(mime: &str, data: String, plain: &str) -> Media {
    Media { mime: mime.to_owned(), data, plain: plain.to_owned() }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |idx: usize| u32::from(chunk.get(idx).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for idx in 0..4 {
            if idx <= chunk.len() {
                out.push(char::from(DIGITS[(word >> (18 - 6 * idx)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Asks the user for a line; empty at the end of input.
pub fn input(prompt: &str) -> String {
    door::input(prompt, false).unwrap_or_default()
}

/// Asks the user for a line that is not echoed.
pub fn password(prompt: &str) -> String {
    door::input(prompt, true).unwrap_or_default()
}

/// The number of the engine that runs this code.
///
/// # Panics
/// In the notebook's own worker, which is no engine.
pub fn engine_id() -> EngineId {
    static ID: OnceLock<EngineId> = OnceLock::new();
    *ID.get_or_init(|| {
        let answer = match door::request("engine", &[], &[]) {
            Ok((head, body)) => [head, body].concat(),
            Err(Refusal::Interrupted) => door::interrupted(),
            Err(Refusal::Error(_)) => Vec::new(),
        };
        let id = std::str::from_utf8(&answer).ok().and_then(|text| text.trim().parse().ok());
        id.expect("engine_id() is known on an engine only: run this with %%px, apply or map")
    })
}

/// Sends a value from a running task to its `AsyncResult::data()`, at once. Shown as JSON.
pub fn publish(key: &str, value: &impl Serialize) {
    let text = serde_json::to_string(value)
        .unwrap_or_else(|error| format!("\"a value that cannot be sent: {error}\""));
    door::notify("publish", key.as_bytes(), text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
