//! The types of a leaf's variables, read from the generic arguments of its `put::<N, T>` calls in
//! rustc's MIR. The text is meant for people, so this reads only that one shape and checks it is
//! balanced.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// This file decides what is remembered of a leaf, beside its source.
pub const SELF: &str = include_str!("mir.rs");

/// The type text of each `put`, by its number.
fn put_types(mir: &str) -> BTreeMap<usize, String> {
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

/// What rustc's MIR says of a leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types {
    /// The type of each `put`, by its number.
    pub puts: BTreeMap<usize, String>,
    /// The leaf's own closures and futures that those types are made of, by the compiler's name
    /// for them: `{closure@leaf.rs:3:9: 3:19}`.
    pub bodies: BTreeMap<String, Body>,
}

/// A closure or future as its compiled body shows it; regions are erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `Fn`, `FnMut` or `FnOnce`; `Future` for an async block.
    pub calls: String,
    pub parameters: Vec<String>,
    pub result: String,
    /// Owns something: it is more than a function.
    pub captures: bool,
}

/// Reads the types of the `put`s and the bodies they name.
pub fn read(mir: &str) -> Types {
    let puts = put_types(mir);
    let mut bodies: BTreeMap<String, Body> = BTreeMap::new();
    let mut wanted: Vec<String> = puts.values().flat_map(|text| labels(text)).collect();
    while let Some(label) = wanted.pop() {
        if bodies.contains_key(&label) {
            continue;
        }
        if let Some(body) = body(mir, &label) {
            wanted.extend(labels(&body.result));
            bodies.insert(label, body);
        }
    }
    Types { puts, bodies }
}

/// The compiler's names for closures and futures in a type.
pub fn labels(type_text: &str) -> Vec<String> {
    let starts =
        type_text.match_indices("{closure@").chain(type_text.match_indices("{async block@"));
    starts
        .filter_map(|(at, _)| {
            let end = type_text[at..].find('}')?;
            Some(type_text[at..=at + end].to_owned())
        })
        .collect()
}

/// Finds `fn ..(_1: &LABEL, _2: A) -> R {`.
fn body(mir: &str, label: &str) -> Option<Body> {
    let of_label = |line: &&str| {
        line.starts_with("fn ")
            && line.split_once("(_1: ").is_some_and(|(_, rest)| {
                let own = rest.strip_prefix("std::pin::Pin<").unwrap_or(rest);
                let own = own.strip_prefix("&mut ").or(own.strip_prefix('&')).unwrap_or(own);
                own.starts_with(label)
            })
    };
    let line = mir.lines().find(of_label)?;
    let (_, rest) = line.split_once("(_1: ")?;
    let inside = end_of_type_with(rest, false);
    let own = &rest[..inside];
    let mut rest = &rest[inside..];
    let mut parameters = Vec::new();
    while let Some(after) = rest.strip_prefix(", ") {
        let (_, typed) = after.split_once(": ")?;
        let end = end_of_type_with(typed, false);
        parameters.push(typed[..end].to_owned());
        rest = &typed[end..];
    }
    let result = rest.strip_prefix(") -> ")?.strip_suffix(" {")?.to_owned();
    if label.starts_with("{async") {
        let output = result.strip_prefix("std::task::Poll<")?.strip_suffix('>')?.to_owned();
        return Some(Body {
            calls: "Future".into(),
            parameters: Vec::new(),
            result: output,
            captures: true,
        });
    }
    let calls = match own {
        own if own.starts_with("&mut ") => "FnMut",
        own if own.starts_with('&') => "Fn",
        _ => "FnOnce",
    };
    let captures = !mir.contains(&format!("ZeroSized: {label}"));
    Some(Body { calls: calls.into(), parameters, result, captures })
}

/// Why a type cannot be written in a later cell, in words; `None` when it can.
pub fn unwritable(type_text: &str) -> Option<&'static str> {
    if type_text.contains("{async closure@") {
        Some("an async closure")
    } else if type_text.contains("{closure@") {
        Some("a closure")
    } else if type_text.contains("{async ") || type_text.contains("{coroutine") {
        Some("a future")
    } else if type_text.contains(" {") && type_text.contains("fn(") {
        Some("a function item")
    } else if type_text.contains("::{") {
        Some("a type declared inside a block")
    } else if type_text.contains("impl ") {
        Some("an `impl Trait` type")
    } else if type_text.contains('{') {
        Some("a type that the compiler made")
    } else if returns_one_of_many(type_text) {
        Some("a function type whose result borrows from one of several arguments")
    } else {
        None
    }
}

/// Whether a writable type has a path that a later cell may not be allowed to name: below the root
/// of a unit, or in a crate other than the standard library.
pub fn may_be_private(type_text: &str) -> bool {
    let is_path = |letter: char| letter.is_alphanumeric() || "_:#".contains(letter);
    type_text.split(|letter: char| !is_path(letter)).any(|path| {
        let segments: Vec<&str> = path.split("::").collect();
        let std = ["std", "core", "alloc", "prust", ""].contains(&segments[0]);
        let own = segments[0].starts_with("unit_") && segments.len() == 2;
        segments.len() > 1 && !std && !own
    })
}

/// `for<'a, 'b> Fn(&'a A, &'b B) -> &C`: MIR does not say whose lifetime the result has.
fn returns_one_of_many(type_text: &str) -> bool {
    elided_results(type_text).into_iter().any(|(range, lifetimes)| {
        let text = &type_text[range];
        let borrows = text.match_indices('&').any(|(at, _)| !text[at + 1..].starts_with('\''));
        lifetimes > 1 && (borrows || text.contains("'_"))
    })
}

/// The result types of `dyn for<'a> Fn(..) -> R`, where lifetimes are left out, and how many
/// lifetimes are bound there.
fn elided_results(type_text: &str) -> Vec<(Range<usize>, usize)> {
    let mut found = Vec::new();
    for (at, marker) in type_text.match_indices("dyn for<") {
        let bound = &type_text[at + marker.len()..];
        let Some((lifetimes, trait_text)) = bound.split_once("> ") else { continue };
        let Some(open) = trait_text.find('(') else { continue };
        let from = type_text.len() - trait_text.len() + open;
        let close = from + 1 + end_of_list(&type_text[from + 1..]);
        if let Some(result) = type_text.get(close..).and_then(|rest| rest.strip_prefix(") -> ")) {
            let start = type_text.len() - result.len();
            let end = start + end_of_type_with(result, true);
            found.push((start..end, lifetimes.split(',').count()));
        }
    }
    found
}

/// Where the list that `text` starts in ends: at its closing bracket.
fn end_of_list(text: &str) -> usize {
    let mut from = 0;
    loop {
        from += end_of_type_with(&text[from..], false);
        match text[from..].chars().next() {
            Some(',') => from += 1,
            _ => return from,
        }
    }
}

/// `!` as a type of its own, which stable Rust can write only as a result: elsewhere its alias in
/// the runtime.
fn named_never(type_text: &str) -> String {
    let mut named = String::new();
    let mut rest = type_text;
    while let Some(at) = rest.find('!') {
        let before = &rest[..at];
        named.push_str(before);
        let is_type = before.ends_with(['<', '(', '[', '&', ' ']) && !before.ends_with("-> ");
        named.push_str(if is_type { "::prust_runtime::slots::Never" } else { "!" });
        rest = &rest[at + 1..];
    }
    named + rest
}

/// Fixes what the printed form loses: `&dyn A + B` needs parentheses, erased lifetimes are
/// `'static` here.
pub fn writable(type_text: &str) -> String {
    let text = parenthesised(&type_text.replace("'{erased}", "'static"));
    // A reference that lives in a slot is a static one.
    let mut fixed = String::new();
    let mut from = 0;
    for (range, _) in elided_results(&text) {
        if range.start >= from {
            fixed.push_str(&static_references(&text[from..range.start]));
            fixed.push_str(&text[range.clone()]);
            from = range.end;
        }
    }
    fixed.push_str(&static_references(&text[from..]));
    named_never(&fixed)
}

/// As [`writable`], but with lifetimes left out where they are: for the parameters and the result
/// of a closure that takes any lifetime.
pub fn elided(type_text: &str) -> String {
    named_never(&parenthesised(type_text))
}

/// `&dyn A + B` reads `&(dyn A + B)`.
fn parenthesised(text: &str) -> String {
    let mut fixed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("dyn ") {
        let (before, body) = rest.split_at(at);
        fixed.push_str(before);
        let end = end_of_type_with(body, false);
        let pointed = ends_with_pointer(before);
        let inner = format!("dyn {}", parenthesised(&body[4..end]));
        if pointed && inner.contains(" + ") {
            fixed.push_str(&format!("({inner})"));
        } else {
            fixed.push_str(&inner);
        }
        rest = &body[end..];
    }
    fixed.push_str(rest);
    fixed
}

/// Whether the text ends where the type that a reference or pointer points to begins.
fn ends_with_pointer(text: &str) -> bool {
    let text = text.strip_suffix("mut ").unwrap_or(text);
    if text.ends_with(['&', '*']) || text.ends_with("*const ") {
        return true;
    }
    let lifetime = text.rsplit_once("&'").and_then(|(_, word)| word.strip_suffix(' '));
    lifetime
        .is_some_and(|name| name.chars().all(|letter| letter.is_alphanumeric() || letter == '_'))
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
    fixed.replace("'_", "'static")
}

/// Where the type that `text` starts with ends: at the closing bracket or comma around it, and at
/// a ` + ` or the end of a signature when `bounds` is set.
fn end_of_type_with(text: &str, bounds: bool) -> usize {
    let mut depth = 0_i32;
    let mut previous = ' ';
    for (at, letter) in text.char_indices() {
        match letter {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if previous == '-' || previous == '=' => (),
            '>' | ')' | ']' | '}' | ',' | ';' if depth == 0 => return at,
            '>' | ')' | ']' | '}' => depth -= 1,
            '+' if bounds && depth == 0 => return text[..at].trim_end().len(),
            _ => (),
        }
        previous = letter;
    }
    text.len()
}

/// The bounds of `A + B`.
pub fn bounds(text: &str) -> Vec<&str> {
    let mut bounds = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = end_of_type_with(rest, true);
        bounds.push(rest[..end].trim());
        rest = rest[end..].trim_start().strip_prefix('+').unwrap_or_default().trim();
    }
    bounds
}

/// The types in a comma-separated list.
pub fn listed(text: &str) -> Vec<&str> {
    let mut types = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = end_of_type_with(rest, false);
        types.push(rest[..end].trim());
        rest = rest[end..].strip_prefix(',').unwrap_or_default().trim();
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_taken_apart_wherever_the_plus_is() {
        assert_eq!(
            bounds("Fn(i32) -> i32 + Send + 'static"),
            ["Fn(i32) -> i32", "Send", "'static"]
        );
        assert_eq!(bounds("+ Send"), ["", "Send"]);
    }

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
        assert!(unwritable("std::option::Option<i32>").is_none());
    }

    #[test]
    fn a_result_keeps_the_lifetime_of_its_argument() {
        let type_text = "std::boxed::Box<dyn for<'a> std::ops::Fn(&'a str) -> &str + Send>";
        assert_eq!(writable(type_text), type_text);
        let two = "Box<dyn for<'a, 'b> Fn(&'a str, &'b str) -> &str>";
        assert!(unwritable(two).is_some());
        assert!(unwritable(&two.replace("-> &str", "-> u8")).is_none());
        assert_eq!(
            writable("Box<dyn Fn(&str) -> &str>"),
            "Box<dyn Fn(&'static str) -> &'static str>"
        );
        assert_eq!(writable("std::str::Chars<'_>"), "std::str::Chars<'static>");
    }

    #[test]
    fn paths_below_a_root_may_be_private() {
        assert!(may_be_private("Vec<unit_ab::m::S>"));
        assert!(may_be_private("rand_core::OsRng"));
        assert!(!may_be_private("std::vec::Vec<unit_ab::S<::prust_runtime::slots::Never>>"));
    }

    #[test]
    fn the_never_type_has_a_name_where_it_needs_one() {
        assert_eq!(
            writable("std::thread::JoinHandle<!>"),
            "std::thread::JoinHandle<::prust_runtime::slots::Never>"
        );
        assert_eq!(writable("fn(i32) -> !"), "fn(i32) -> !");
    }

    #[test]
    fn a_closure_is_read_from_its_body() {
        let mir = "fn prust_cell::{closure#0}::{closure#0}(_1: &mut {closure@a.rs:1:2: 1:3}, \
                   _2: (i32, &str), _3: [u8; 2]) -> std::result::Result<i32, String> {\n\
                   _1 = {closure@a.rs:1:2: 1:3} { n: const 0 }\n\
                   put = slots::put::<0, {closure@a.rs:1:2: 1:3}>(const \"f\")";
        let types = read(mir);
        let body = &types.bodies["{closure@a.rs:1:2: 1:3}"];
        assert_eq!(body.calls, "FnMut");
        assert_eq!(body.parameters, ["(i32, &str)", "[u8; 2]"]);
        assert_eq!(body.result, "std::result::Result<i32, String>");
        assert!(body.captures);
    }
}
