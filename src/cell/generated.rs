//! Names of ours in rustc's words: those of generated crates, files and functions. Nobody who
//! writes cells has to know them. Text in, text out.

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
