//! Names of ours in rustc's words: those of generated crates, files and functions. Nobody who
//! writes cells has to know them. Text in, text out.

use super::map::PREFIX;

/// Notes about generated names help nobody.
pub(super) fn speaks_of_us(text: &str) -> bool {
    [
        "__prust",
        "prust_runtime",
        "prust_cell",
        "#[warn(",
        "on by default",
        "CellError",
        "the full name for the type",
        "consider using `--verbose`",
    ]
    .iter()
    .any(|word| text.contains(word))
}

/// Shortens the paths of generated crates: `unit_0a1b::S` reads `S`. What is said of such a crate
/// as a whole is said of the cell.
pub(super) fn clean(text: &str) -> String {
    let text = shortened(&shortened(text, "unit_"), "leaf_");
    let text = without_crates(&without_closure_places(&without_traits(&text)));
    match text.split_once(" to your crate (`") {
        Some((before, rest)) => {
            let rest = rest.split_once("`)").map_or("", |(_, rest)| rest);
            format!("{before} at the top of the cell{rest}")
        }
        None => text,
    }
}

/// A function as debug information names it, without paths: what it is generic over may be a
/// closure in code of ours, `leaf_0a1b::prust_cell::{closure#0}::{closure_env#0}`, which reads
/// `{closure}`.
pub fn function_name(name: &str) -> String {
    let name = name.replace(", alloc::alloc::Global>", ">");
    let mut read = String::new();
    let mut rest = name.as_str();
    while let Some(first) = rest.chars().next() {
        let (path, after) = rest.split_at(path_end(rest));
        if path.is_empty() {
            read.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        rest = after;
        let last = path.rsplit("::").next().unwrap_or_default();
        match last.strip_prefix('{').and_then(|inside| inside.split_once('#')) {
            Some((kind, _)) => {
                let kind = kind.trim_end_matches("_env").replace('_', " ");
                read.push_str(&format!("{{{kind}}}"));
                rest = &rest[arguments_end(rest)..];
            }
            None => read.push_str(own_name(last)),
        }
    }
    read
}

/// An old definition's member is called by a name of ours, `__prust_7_twice`, which reads `twice`.
fn own_name(name: &str) -> &str {
    let own = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    own.map_or(name, |(_, own)| own)
}

/// How long the path is that a text begins with; `{closure#0}` may be a part of it.
fn path_end(text: &str) -> usize {
    let is_named = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let word = match inside.filter(|(inside, _)| inside.contains('#')) {
            Some((inside, _)) => inside.len() + 2,
            None => rest.find(|letter| !is_named(letter)).unwrap_or(rest.len()),
        };
        end += word;
        if word == 0 || !text[end..].starts_with("::") {
            return end;
        }
        end += "::".len();
    }
}

/// Where the `<..>` ends that a text begins with.
fn arguments_end(text: &str) -> usize {
    if !text.starts_with('<') {
        return 0;
    }
    let (mut depth, mut before) = (0, ' ');
    let end = text.find(|letter| {
        // `fn() -> u8` closes nothing.
        let closes = letter == '>' && before != '-';
        depth += i32::from(letter == '<') - i32::from(closes);
        before = letter;
        depth == 0
    });
    end.map_or(0, |at| at + 1)
}

/// A method that is written as a trait's reads as the type's own, and an argument without a name
/// of its own as `_`.
fn without_traits(text: &str) -> String {
    let mut text = text.replace("an impl of the trait `__Prust", "an impl of `__Prust");
    for prefix in ["__PrustExtension", "__prust_"] {
        while let Some(at) = text.find(prefix) {
            let rest = &text[at + prefix.len()..];
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let mut end = at + prefix.len() + digits;
            let mut begin = at;
            let before = &text[..at];
            let qualified = before.strip_suffix(" as ").and_then(|before| before.rfind('<'));
            let (mut inside, mut new) = (String::new(), "");
            match (qualified, text[end..].starts_with(">::")) {
                (Some(opens), true) => {
                    inside = text[opens + 1..at - " as ".len()].to_owned();
                    (begin, end) = (opens, end + 1);
                }
                _ if text[end..].starts_with("::") => end += "::".len(),
                // An old definition's member reads as it was called.
                _ if digits > 0 && text[end..].starts_with('_') => end += 1,
                _ => new = "_",
            }
            text.replace_range(begin..end, &format!("{inside}{new}"));
        }
    }
    text
}

/// `{closure@leaf_0a1b.rs:8:20}` reads `{closure}`: the place is one in text of ours.
fn without_closure_places(text: &str) -> String {
    let mut cleaned = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        let place = after.split_once('}').filter(|(place, _)| {
            !place.contains('{') && (place.contains("leaf_") || place.contains("unit_"))
        });
        cleaned.push_str(before);
        if place.is_none() {
            cleaned.push('@');
        }
        rest = place.map_or(after, |(place, _)| &after[place.len()..]);
    }
    cleaned + rest
}

/// What is defined in crate `unit_0a1b` is defined here: a cell is shown with it.
fn without_crates(text: &str) -> String {
    const IN_CRATE: &str = "is defined in crate `unit_";
    const OTHER: &str = "conflicting implementation in crate `unit_";
    if let Some((before, rest)) = text.split_once(OTHER)
        && let Some((_, rest)) = rest.split_once('`')
    {
        return format!("{before}conflicting implementation of an earlier cell{rest}");
    }
    match text.split_once(IN_CRATE).and_then(|(before, rest)| Some((before, rest.split_once('`')?)))
    {
        Some((before, (name, rest))) if name.chars().all(|letter| letter.is_ascii_hexdigit()) => {
            format!("{before}is defined here{rest}")
        }
        _ => text.replace("is defined in the current crate", "is defined here"),
    }
}

fn shortened(text: &str, prefix: &str) -> String {
    let mut cleaned = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let name = at + prefix.len();
        let digits = rest[name..].find(|letter: char| !letter.is_ascii_hexdigit());
        let end = digits.map_or(rest.len(), |length| name + length);
        cleaned.push_str(&rest[..at]);
        match rest[end..].strip_prefix("::") {
            Some(after) if end - at > 20 => rest = after,
            _ => {
                cleaned.push_str(&rest[at..end]);
                rest = &rest[end..];
            }
        }
    }
    cleaned.push_str(rest);
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_paths_are_shortened() {
        assert_eq!(clean("expected `unit_0123456789abcdef01234567::S`"), "expected `S`");
        assert_eq!(clean("unit_test stays"), "unit_test stays");
    }

    #[test]
    fn a_trait_of_ours_is_not_seen() {
        assert_eq!(clean("note: `__PrustExtension6::to_b` takes"), "note: `to_b` takes");
        assert_eq!(clean("fn item {<A as __PrustExtension6>::to_b}"), "fn item {A::to_b}");
        assert_eq!(clean("A(1).map(1u8, /* __prust_2 */)"), "A(1).map(1u8, /* _ */)");
        assert_eq!(clean("the trait `__PrustExtension6` is"), "the trait `_` is");
    }

    #[test]
    fn functions_are_named_without_paths_and_closures_without_places() {
        let check = |name: &str, read: &str| assert_eq!(function_name(name), read);
        check("main", "main");
        check(
            "apply_all<i32, leaf_ca9467033001fb6f1329::prust_cell::{closure#0}::{closure_env#0}>",
            "apply_all<i32, {closure}>",
        );
        check(
            "f<unit_a83f156709402c2f::{impl#0}::g::{closure_env#1}<i32, fn() -> A<u8>>, u8>",
            "f<{closure}, u8>",
        );
        check("f<alloc::vec::Vec<(&str, u8), alloc::alloc::Global>>", "f<Vec<(&str, u8)>>");
        check("f<fn(u8) -> u8, unit_0a::g::{async_block_env#0}>", "f<fn(u8) -> u8, {async block}>");
        check("__prust_7_twice<[i32; 3], dyn core::any::Any>", "twice<[i32; 3], dyn Any>");
        check("odd{::<{closure#", "odd{::<{closure#");
    }

    #[test]
    fn closures_lose_their_places_and_crates_are_cells() {
        let label = "within this `{closure@leaf_78fd9bb4bd4f3e6a2519e019.rs:8:20: 8:27}`";
        assert_eq!(clean(label), "within this `{closure}`");
        assert_eq!(
            clean("a@b.c }, `{closure@src/main.rs:1:1}`"),
            "a@b.c }, `{closure@src/main.rs:1:1}`"
        );
        assert_eq!(clean("`A` is defined in crate `unit_a091289c8f5c`"), "`A` is defined here");
        let other = "`A` is defined in crate `unit_test`";
        assert_eq!(clean(other), other);
        let help = "adding a `#![recursion_limit = \"256\"]` attribute to your crate (`leaf_dbdd`)";
        assert_eq!(
            clean(help),
            "adding a `#![recursion_limit = \"256\"]` attribute at the top of the cell"
        );
    }
}
