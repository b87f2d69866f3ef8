//! How a final expression is shown: an `evcxr_display` method, else [`Display`], else `Debug`, else
//! its type and what to do. One compile decides, by method resolution over references: the
//! generated code calls `(&&&Shown(&value)).prust_show()` and the most specific trait that fits is
//! found first.

use std::any::type_name;
use std::fmt::Debug;
use std::sync::Mutex;

use crate::door;
use crate::frame::DisplayKind;

/// A value that shows itself as MIME bundle: `(mime type, text)`; images in base64, JSON as text.
pub trait Display {
    /// The representations, richest first; `text/plain` should be among them.
    fn bundle(&self) -> Vec<(String, String)>;
}

/// The format of values without a display of their own: `{:?}` or `{:#?}`.
static PRETTY: Mutex<bool> = Mutex::new(false);

/// Chooses `{:#?}` over `{:?}` for values shown by `Debug`.
pub fn set_pretty(pretty: bool) {
    *PRETTY.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = pretty;
}

/// Wraps the value under a final expression for the ladder of traits below.
pub struct Shown<'a, T: ?Sized>(pub &'a T);

/// Third choice and last resort: says the type and how to show it.
pub trait ShowNothing {
    fn prust_show(&self);
}

impl<T: ?Sized> ShowNothing for Shown<'_, T> {
    fn prust_show(&self) {
        show_nothing(type_name::<T>());
    }
}

fn show_nothing(type_name: &str) {
    let name = crate::cell::short_type_name(type_name);
    result(&format!(
        "<{name}> has no way to be shown: add #[derive(Debug)] to it, or implement \
         prust::Display, or \
         end the line with a semicolon"
    ));
}

/// Second choice: `Debug`.
pub trait ShowDebug {
    fn prust_show(&self);
}

impl<T: Debug + ?Sized> ShowDebug for &Shown<'_, T> {
    fn prust_show(&self) {
        if type_name::<T>() != "()" {
            show_debug(&self.0);
        }
    }
}

/// Not generic: the cell compiles only the value's own `Debug`.
fn show_debug(value: &dyn Debug) {
    let pretty = *PRETTY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    result(&if pretty { format!("{value:#?}") } else { format!("{value:?}") });
}

/// First choice: [`Display`].
pub trait ShowDisplay {
    fn prust_show(&self);
}

impl<T: Display + ?Sized> ShowDisplay for &&Shown<'_, T> {
    fn prust_show(&self) {
        show_bundle(&self.0.bundle());
    }
}

fn show_bundle(bundle: &[(String, String)]) {
    let data: Vec<(&str, &str)> =
        bundle.iter().map(|(mime, text)| (mime.as_str(), text.as_str())).collect();
    door::display(DisplayKind::Result, "", &data);
}

fn result(text: &str) {
    door::display(DisplayKind::Result, "", &[("text/plain", text)]);
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

/// Whether `evcxr_display` fell through to [`NoEvcxr`].
pub fn fell_through<T>(_: &T) -> bool {
    type_name::<T>() == type_name::<NotShown>()
}
