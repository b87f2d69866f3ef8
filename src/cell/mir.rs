//! The types of a leaf's variables, read from the generic arguments of its `put::<N, T>` calls in
//! rustc's MIR. The text is meant for people, so this reads only that one shape and checks it is
//! balanced.

use std::collections::BTreeMap;

/// The type text of each `put`, by its number.
pub fn put_types(mir: &str) -> BTreeMap<usize, String> {
    let mut types = BTreeMap::new();
    for (at, marker) in mir.match_indices("slots::put::<") {
        let rest = &mir[at + marker.len()..];
        if let Some((number, type_text)) = arguments(rest) {
            types.insert(number, type_text);
        }
    }
    types
}

/// `3, Vec<i32>>(..` gives `(3, "Vec<i32>")`.
fn arguments(rest: &str) -> Option<(usize, String)> {
    let (number, rest) = rest.split_once(", ")?;
    let number = number.trim_end_matches("_usize").parse().ok()?;
    let mut depth = 0_i32;
    let mut previous = ' ';
    for (at, letter) in rest.char_indices() {
        match letter {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if previous == '-' || previous == '=' => (),
            '>' if depth == 0 => return Some((number, rest[..at].to_owned())),
            '>' | ')' | ']' | '}' => depth -= 1,
            '\n' => return None,
            _ => (),
        }
        previous = letter;
    }
    None
}

/// Why a type cannot be written in a later cell, in words; `None` when it can.
pub fn unwritable(type_text: &str) -> Option<&'static str> {
    if type_text.contains("{closure@") {
        Some("a closure")
    } else if type_text.contains("{async ") || type_text.contains("{coroutine") {
        Some("a future")
    } else if type_text.contains("{fn item")
        || type_text.contains(" {") && type_text.contains("fn(")
    {
        Some("a function item")
    } else if type_text.contains("impl ") {
        Some("an `impl Trait` type")
    } else if has_never(type_text) {
        Some("a type with `!` in it")
    } else if type_text.contains('{') {
        Some("a type that the compiler made")
    } else {
        None
    }
}

/// `!` as a type of its own, which stable Rust cannot write.
fn has_never(type_text: &str) -> bool {
    type_text.match_indices('!').any(|(at, _)| {
        let before = type_text[..at].chars().next_back().is_none_or(|c| "<(, ".contains(c));
        before && type_text[at + 1..].chars().next().is_none_or(|c| ">), ".contains(c))
    })
}

/// Fixes what the printed form loses: `&dyn A + B` needs parentheses, erased lifetimes are
/// `'static` here.
pub fn writable(type_text: &str) -> String {
    let text = type_text.replace("'{erased} ", "'static ").replace("'{erased}", "'static");
    let mut fixed = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("&") {
        let (before, after) = rest.split_at(at + 1);
        fixed.push_str(before);
        let body = after.strip_prefix("mut ").unwrap_or(after);
        fixed.push_str(&after[..after.len() - body.len()]);
        rest = body;
        if body.starts_with("dyn ") {
            let end = end_of_type(body);
            if body[..end].contains(" + ") {
                fixed.push('(');
                fixed.push_str(&body[..end]);
                fixed.push(')');
                rest = &body[end..];
            }
        }
    }
    fixed.push_str(rest);
    // A reference that lives in a slot is a static one.
    static_references(&fixed)
}

/// `&str` is written `&'static str`, so that it stands where no lifetime can be inferred.
fn static_references(text: &str) -> String {
    let mut fixed = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        fixed.push(letter);
        if letter == '&' && letters.peek().is_some_and(|next| *next != '\'') {
            fixed.push_str("'static ");
        }
    }
    fixed
}

/// Where the type that `text` starts with ends: at the closing bracket or comma around it.
fn end_of_type(text: &str) -> usize {
    let mut depth = 0_i32;
    let mut previous = ' ';
    for (at, letter) in text.char_indices() {
        match letter {
            '<' | '(' | '[' => depth += 1,
            '>' if previous == '-' => (),
            '>' | ')' | ']' | ',' if depth == 0 => return at,
            '>' | ')' | ']' => depth -= 1,
            _ => (),
        }
        previous = letter;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_by_number() {
        let mir = "_1 = prust_runtime::slots::put::<1, std::vec::Vec<(i32, fn(u8) -> i8)>>(\
                   const \"v\", move _2) -> [return: bb1];\n \
                   _3 = prust_runtime::slots::put::<0, i32>(const \"x\")";
        let types = put_types(mir);
        assert_eq!(types[&1], "std::vec::Vec<(i32, fn(u8) -> i8)>");
        assert_eq!(types[&0], "i32");
    }

    #[test]
    fn two_bounds_behind_a_reference_get_parentheses() {
        let type_text = "Vec<&dyn std::fmt::Debug + Send>";
        assert_eq!(writable(type_text), "Vec<&'static (dyn std::fmt::Debug + Send)>");
        assert_eq!(writable("&str"), "&'static str");
        assert_eq!(writable("&'static str"), "&'static str");
    }

    #[test]
    fn closures_cannot_be_written() {
        assert!(unwritable("{closure@a.rs:1:2: 1:3}").is_some());
        assert!(unwritable("std::thread::JoinHandle<!>").is_some());
        assert!(unwritable("std::option::Option<i32>").is_none());
    }
}
