//! How a final expression is shown: an `evcxr_display` method, else [`Display`], else `Debug`, else
//! its type and what to do. One compile decides, by method resolution over references: the
//! generated code calls `(&&&Shown(&value)).prust_show(to)` and the most specific trait that fits
//! is found first.

use std::any::type_name;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};

use crate::door;
pub use crate::door::blocks_at;
pub use crate::frame::DisplayKind;

/// A value that shows itself as MIME bundle: `(mime type, text)`; images in base64, JSON as text.
pub trait Display {
    /// The representations, richest first; `text/plain` should be among them.
    fn bundle(&self) -> Vec<(String, String)>;
}

/// Where something is shown.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    pub kind: DisplayKind,
    /// Empty for a display without one.
    pub id: &'a str,
}

/// A value's text is cut after this many bytes: notebooks keep what they show, and servers of
/// notebooks drop what is much longer.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// As the value of the cell.
pub const RESULT: To<'static> = To { kind: DisplayKind::Result, id: "" };

/// Between the cell's other outputs.
pub const DISPLAY: To<'static> = To { kind: DisplayKind::Display, id: "" };

/// What is handed to a showing macro: a reference, as to a function.
pub fn borrowed<T: ?Sized>(value: &T) -> &T {
    value
}

/// How values without a display of their own are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Format {
    /// `#`: over several lines.
    alternate: bool,
    /// `x` or `X`.
    hex: Option<char>,
    precision: Option<usize>,
    /// Whether the type stands before the value.
    types: bool,
}

static FORMAT: Mutex<Format> =
    Mutex::new(Format { alternate: false, hex: None, precision: None, types: false });

fn format() -> Format {
    *FORMAT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chooses how values are shown by `Debug`: `{:?}`, `{:#?}`, `{:x?}`, `{:.3?}` and their mixtures.
/// False, and nothing is changed, for any other text.
pub fn set_format(text: &str) -> bool {
    let Some(chosen) = read_format(text) else { return false };
    let mut format = FORMAT.lock().unwrap_or_else(PoisonError::into_inner);
    *format = Format { types: format.types, ..chosen };
    true
}

/// Whether [`set_format`] knows the format.
pub fn is_format(text: &str) -> bool {
    read_format(text).is_some()
}

fn read_format(text: &str) -> Option<Format> {
    let mut rest = text.strip_prefix("{:")?.strip_suffix("?}")?;
    let mut format = Format::default();
    if let Some(after) = rest.strip_prefix('#') {
        (format.alternate, rest) = (true, after);
    }
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        // More digits than any number has.
        format.precision = Some(after[..digits].parse().ok().filter(|digits| *digits <= 1000)?);
        rest = &after[digits..];
    }
    if let Some(hex @ ('x' | 'X')) = rest.chars().next() {
        (format.hex, rest) = (Some(hex), &rest[1..]);
    }
    rest.is_empty().then_some(format)
}

/// Whether values are shown with their types.
pub fn set_types(types: bool) {
    FORMAT.lock().unwrap_or_else(PoisonError::into_inner).types = types;
}

/// Wraps the value under a final expression for the ladder of traits below.
pub struct Shown<'a, T: ?Sized>(pub &'a T);

/// Third choice and last resort: says the type and how to show it.
pub trait ShowNothing {
    fn prust_show(&self, to: To<'_>);
}

impl<T: ?Sized> ShowNothing for Shown<'_, T> {
    fn prust_show(&self, to: To<'_>) {
        show_nothing(type_name::<T>(), size_of_val(self.0), to);
    }
}

fn show_nothing(type_name: &str, size: usize, to: To<'_>) {
    let mut text = nothing(type_name, size);
    if to.kind == DisplayKind::Result {
        text.push_str(", or end the line with a semicolon");
    }
    plain(&text, to);
}

/// Two lines: frontends break longer ones anywhere.
fn nothing(type_name: &str, size: usize) -> String {
    let name = crate::cell::short_type_name(type_name);
    // The compiler calls what `async` makes a closure, too.
    if type_name.ends_with("{{closure}}") {
        return "a closure or a future has no way to be shown:\ncall it or `.await` it".to_owned();
    }
    if size == 0 && is_function(type_name) {
        return format!("the function {name} has no way to be shown:\ncall it");
    }
    let own = own_types(type_name);
    let remedy = match own.as_slice() {
        [] => "show a part of it, or what it gives".to_owned(),
        [it] if *it == name => "add #[derive(Debug)] to it, or implement prust::Display".to_owned(),
        [it] => format!("add #[derive(Debug)] to {it}"),
        [first @ .., last] => {
            format!("add #[derive(Debug)] to {} and {last}, where they lack it", first.join(", "))
        }
    };
    format!("<{name}> has no way to be shown:\n{remedy}")
}

/// Whether a type that has no size is that of a function: its path ends in a small letter.
fn is_function(type_name: &str) -> bool {
    let path = match type_name.split_once('<') {
        Some((path, _)) if !path.is_empty() => path.trim_end_matches("::"),
        _ => type_name,
    };
    let last = path.rsplit_once("::").map(|(_, last)| last);
    last.is_some_and(|last| last.starts_with(|letter: char| letter.is_lowercase() || letter == '_'))
}

/// The types that cells have declared, of those that a type is made of.
fn own_types(type_name: &str) -> Vec<&str> {
    let mut own = Vec::new();
    let is_path = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    for path in type_name.split(|letter: char| !is_path(letter)) {
        let is_own = ["unit_", "leaf_"].iter().any(|root| path.starts_with(root));
        let Some((_, name)) = path.rsplit_once("::").filter(|_| is_own) else { continue };
        if !own.contains(&name) {
            own.push(name);
        }
    }
    own
}

/// Second choice: `Debug`.
pub trait ShowDebug {
    fn prust_show(&self, to: To<'_>);
}

impl<T: Debug + ?Sized> ShowDebug for &Shown<'_, T> {
    fn prust_show(&self, to: To<'_>) {
        show_debug(&self.0, type_name::<T>(), to);
    }
}

/// Not generic: the cell compiles only the value's own `Debug`.
fn show_debug(value: &dyn Debug, type_name: &str, to: To<'_>) {
    if type_name == "()" && to.kind == DisplayKind::Result {
        return;
    }
    let format = format();
    let text = limited(value, format);
    match format.types {
        true => plain(&format!("{}: {text}", crate::cell::short_type_name(type_name)), to),
        false => plain(&text, to),
    }
}

/// A value's text by its `Debug`, with no end that nobody could look at.
pub fn debug_text(value: &dyn Debug) -> String {
    limited(value, Format::default())
}

fn limited(value: &dyn Debug, format: Format) -> String {
    let mut limited = Limited { text: String::new(), full: false };
    let written = write_formatted(&mut limited, value, format);
    let Limited { mut text, full } = limited;
    if full {
        text.push_str("… (cut here, after 1 MiB: println! with {:?} prints all of it)");
    } else if written.is_err() {
        text.push_str("… (its Debug ended here, with an error)");
    }
    text
}

/// Takes so much text and refuses more: a `Debug` that would go on for ever ends, too.
struct Limited {
    text: String,
    full: bool,
}

impl Write for Limited {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = TEXT_BYTES_MAX - self.text.len();
        if self.full {
            return Err(std::fmt::Error);
        }
        self.full = more.len() > room;
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        if self.full { Err(std::fmt::Error) } else { Ok(()) }
    }
}

fn write_formatted(to: &mut Limited, value: &dyn Debug, format: Format) -> std::fmt::Result {
    let Format { alternate, hex, precision, .. } = format;
    match (alternate, hex, precision) {
        (false, None, None) => write!(to, "{value:?}"),
        (true, None, None) => write!(to, "{value:#?}"),
        (false, Some('x'), None) => write!(to, "{value:x?}"),
        (true, Some('x'), None) => write!(to, "{value:#x?}"),
        (false, Some(_), None) => write!(to, "{value:X?}"),
        (true, Some(_), None) => write!(to, "{value:#X?}"),
        (false, None, Some(digits)) => write!(to, "{value:.digits$?}"),
        (true, None, Some(digits)) => write!(to, "{value:#.digits$?}"),
        (false, Some('x'), Some(digits)) => write!(to, "{value:.digits$x?}"),
        (true, Some('x'), Some(digits)) => write!(to, "{value:#.digits$x?}"),
        (false, Some(_), Some(digits)) => write!(to, "{value:.digits$X?}"),
        (true, Some(_), Some(digits)) => write!(to, "{value:#.digits$X?}"),
    }
}

/// First choice: [`Display`].
pub trait ShowDisplay {
    fn prust_show(&self, to: To<'_>);
}

impl<T: Display + ?Sized> ShowDisplay for &&Shown<'_, T> {
    fn prust_show(&self, to: To<'_>) {
        show_bundle(&self.0.bundle(), to);
    }
}

/// Shows a bundle of MIME types and texts.
pub fn show_bundle(bundle: &[(String, String)], to: To<'_>) {
    let data: Vec<(&str, &str)> =
        bundle.iter().map(|(mime, text)| (mime.as_str(), text.as_str())).collect();
    door::display(to.kind, to.id, &data);
}

fn plain(text: &str, to: To<'_>) {
    door::display(to.kind, to.id, &[("text/plain", text)]);
}

/// What [`NoEvcxr::evcxr_display`] gives, so that the caller knows no method of the user's was
/// found.
pub struct NotShown;

/// Gives every `&T` an `evcxr_display` that is found only when the user's type has none.
pub trait NoEvcxr {
    fn evcxr_display(&self) -> NotShown {
        NotShown
    }
}

impl<T: ?Sized> NoEvcxr for &T {}

/// Whether calling `show` means a method of the user's; it is not called.
pub fn is_own<T>(_: &impl Fn() -> T) -> bool {
    type_name::<T>() != type_name::<NotShown>()
}

/// Whether `evcxr_display` fell through to [`NoEvcxr`].
pub fn fell_through<T>(_: &T) -> bool {
    type_name::<T>() == type_name::<NotShown>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_debug_are_read_and_others_refused() {
        let shown = |format: &str| {
            let format = read_format(format)?;
            Some(limited(&[10.0_f32 / 4.0, 1.0], format))
        };
        assert_eq!(shown("{:?}").as_deref(), Some("[2.5, 1.0]"));
        assert_eq!(shown("{:.2?}").as_deref(), Some("[2.50, 1.00]"));
        assert_eq!(shown("{:#.0?}").as_deref(), Some("[\n    2,\n    1,\n]"));
        let hex = read_format("{:#X?}").expect("it is one");
        assert_eq!(limited(&255, hex), "0xFF");
        for other in ["", "{}", "{:5?}", "{:.?}", "{:??}", "{:.9999999999?}", "{:xX?}", "é"] {
            assert_eq!(read_format(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_be_shown_says_what_lacks_it() {
        let check = |type_name: &str, size: usize, remedy: &str| {
            let text = nothing(type_name, size);
            assert_eq!(text.lines().nth(1), Some(remedy), "{text}");
        };
        check("unit_0a::S", 0, "add #[derive(Debug)] to it, or implement prust::Display");
        check("alloc::vec::Vec<unit_0a::S>", 24, "add #[derive(Debug)] to S");
        let both = "add #[derive(Debug)] to W and S, where they lack it";
        check("unit_0a::W<unit_0b::m::S>", 8, both);
        check("alloc::boxed::Box<dyn core::ops::Fn()>", 16, "show a part of it, or what it gives");
        check("unit_0a::hello", 0, "call it");
        check("unit_0a::of<unit_0b::S>", 0, "call it");
        check("<unit_0a::S as unit_0a::T>::of", 0, "call it");
    }

    struct Endless;

    impl Debug for Endless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            loop {
                f.write_str("ä")?;
            }
        }
    }

    struct Broken;

    impl Debug for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("x")?;
            Err(std::fmt::Error)
        }
    }

    #[test]
    fn a_text_without_end_is_cut_and_says_so() {
        let text = debug_text(&Endless);
        assert!(text.starts_with("ää") && text.contains("… (cut here"));
        assert!(text.len() < TEXT_BYTES_MAX + 100);
        let long = "y".repeat(2 * TEXT_BYTES_MAX);
        assert!(debug_text(&long).len() < TEXT_BYTES_MAX + 100);
        assert_eq!(debug_text(&Broken), "x… (its Debug ended here, with an error)");
        assert_eq!(debug_text(&"y"), "\"y\"");
    }
}
