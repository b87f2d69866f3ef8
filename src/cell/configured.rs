//! What `#[cfg(..)]` and `#[test]` leave out: it gives no names, and is not compiled. What this
//! knows nothing of is left to rustc.

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Lit, Meta, Token};

/// Whether an item with these attributes is left out for sure.
pub(super) fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        // `#[tokio::test]` makes a `#[test]`; nothing here runs tests.
        let makes = path.segments.last().map(|segment| segment.ident.to_string());
        let is_test = matches!(makes.as_deref(), Some("test" | "bench"));
        let condition = || attribute.parse_args::<Meta>().ok();
        is_test || (path.is_ident("cfg") && condition().and_then(|it| holds(&it)) == Some(false))
    })
}

/// Whether a condition holds for what cells are compiled for; `None` where that is not known here.
fn holds(condition: &Meta) -> Option<bool> {
    match condition {
        Meta::Path(path) => match path.get_ident()?.to_string().as_str() {
            "test" | "doc" | "doctest" | "miri" | "debug_assertions" => Some(false),
            "true" => Some(true),
            "false" => Some(false),
            "unix" => Some(cfg!(unix)),
            "windows" => Some(cfg!(windows)),
            _ => None,
        },
        Meta::NameValue(pair) => {
            let Expr::Lit(syn::ExprLit { lit: Lit::Str(value), .. }) = &pair.value else {
                return None;
            };
            let value = value.value();
            match pair.path.get_ident()?.to_string().as_str() {
                // Cells have no features.
                "feature" => Some(false),
                // Cells are compiled for the system that this runs on.
                "target_os" => is_so(&value, "linux", cfg!(target_os = "linux")),
                "target_family" => is_so(&value, "unix", cfg!(unix)),
                "target_arch" => is_so(&value, "x86_64", cfg!(target_arch = "x86_64"))
                    .or_else(|| is_so(&value, "aarch64", cfg!(target_arch = "aarch64"))),
                "target_pointer_width" => Some(value == usize::BITS.to_string()),
                "target_endian" => {
                    Some(value == if cfg!(target_endian = "big") { "big" } else { "little" })
                }
                _ => None,
            }
        }
        Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            let parts: Vec<Option<bool>> = parts.ok()?.iter().map(holds).collect();
            let is_known = parts.iter().all(Option::is_some);
            match list.path.get_ident()?.to_string().as_str() {
                "not" => Some(!(*parts.first()?)?),
                "all" if parts.contains(&Some(false)) => Some(false),
                "any" if parts.contains(&Some(true)) => Some(true),
                "all" => is_known.then_some(true),
                "any" => is_known.then_some(false),
                _ => None,
            }
        }
    }
}

/// Of one value it is known whether it is the one; where it is, all others are not.
fn is_so(value: &str, one: &str, is_one: bool) -> Option<bool> {
    if value == one || is_one { Some(value == one && is_one) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_as_rustc_has_them() {
        let check = |text: &str, expected: Option<bool>| {
            let condition = syn::parse_str::<Meta>(text).expect("it is one");
            assert_eq!(holds(&condition), expected, "{text}");
        };
        check("test", Some(false));
        check("any()", Some(false));
        check("all()", Some(true));
        check("unix", Some(cfg!(unix)));
        check("not(windows)", Some(cfg!(not(windows))));
        check("all(unix, target_pointer_width = \"64\")", Some(cfg!(unix)));
        check("any(windows, target_feature = \"sse2\")", None);
        check("all(windows, target_feature = \"sse2\")", Some(false));
        check("feature = \"x\"", Some(false));
        check("panic = \"unwind\"", None);
        check("target_os = \"windows\"", Some(false).filter(|_| cfg!(target_os = "linux")));
    }
}
