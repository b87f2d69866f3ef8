//! What we have to add to an error of rustc's, because the remedy in a notebook is another one than
//! in a cargo project. Text in, text out.

use super::rustc_json::Message;

/// Remedies to show after rustc's own words.
pub(super) fn helps(message: &Message) -> Vec<String> {
    let code = message.code.as_ref().map(|code| code.code.as_str());
    let labels = message.spans.iter().filter_map(|span| span.label.as_deref());
    let mut words = labels.chain([message.message.as_str()]);
    match code {
        Some("E0432" | "E0433" | "E0463") => {
            words.find_map(missing_crate).map(missing).into_iter().collect()
        }
        Some("E0277") if is_unspeakable(&message.message) => {
            let of = message.message.split('`').nth(3).and_then(|bound| bound.split(": ").next());
            let name = of.unwrap_or("the error");
            vec![format!(
                "`#[derive(Debug)]` for `{}` lets `?` show it; or say it in words: \
                 `.map_err(|_| \"..\")?`",
                super::diagnostic::short(name)
            )]
        }
        _ if message.message == "non-statement macro in statement position: include" => vec![
            "a file of items is included in a module: `mod helpers { include!(\"..\"); }`, then \
             `use helpers::name;`"
                .into(),
        ],
        _ => message
            .children
            .iter()
            .find_map(|child| two_of_a_name(&child.message))
            .into_iter()
            .collect(),
    }
}

/// What rustc says of a type and an older definition of it.
const TWO_OF_A_NAME: &str = "have similar names, but are actually distinct types";

/// Which two types have one name: a cell's and an older definition of it, or one of a library.
fn two_of_a_name(told: &str) -> Option<String> {
    let mut parts = told.strip_suffix(TWO_OF_A_NAME)?.split('`');
    let (first, second) = (parts.nth(1)?, parts.nth(1)?);
    let of_cell = |path: &str| ["unit_", "leaf_"].iter().any(|root| path.starts_with(root));
    if let Some(other) = [first, second].into_iter().find(|path| !of_cell(path)) {
        return Some(format!("one of the two is `{other}`, which has the same last name"));
    }
    let within = |path: &str| path.split_once("::").map(|(_, rest)| rest.to_owned());
    (within(first) == within(second)).then(|| {
        "one of the two was defined anew since: run the cell again that made the value, or that \
         of the function which did not follow"
            .to_owned()
    })
}

/// The `use` lines that rustc proposes, which it would write above ours; the standard library's by
/// their usual names. `None` where it proposes none.
pub(super) fn imports(child: &Message) -> Option<Vec<String>> {
    let proposed = child.spans.iter().filter_map(|span| span.suggested_replacement.as_deref());
    let lines: Vec<&str> = proposed.map(str::trim).collect();
    if lines.is_empty() || !lines.iter().all(|line| line.starts_with("use ")) {
        return None;
    }
    let ours = ["unit_", "leaf_", "prust", "use core::", "use alloc::"];
    let theirs = lines.into_iter().filter(|line| !ours.iter().any(|word| line.contains(word)));
    Some(theirs.map(str::to_owned).take(IMPORTS_SHOWN).collect())
}

/// More of them help nobody.
const IMPORTS_SHOWN: usize = 4;

/// rustc's own remedies that do not help in a notebook. Of a crate that is missing it proposes
/// whatever else has the last name of the path.
pub(super) fn misleads(message: &Message, text: &str) -> bool {
    let never = ["you might be missing a crate named", "cargo add", "to the crate root"];
    let of_crate = ["consider importing", "if you import"];
    let labels = message.spans.iter().filter_map(|span| span.label.as_deref());
    let lacks_crate = || labels.into_iter().any(|label| missing_crate(label).is_some());
    let of_trait = text.starts_with("items from traits can only be used");
    let is_ours = |child: &Message| imports(child).is_some_and(|theirs| theirs.is_empty());
    let ours = message.children.iter().any(is_ours);
    never.iter().any(|words| text.contains(words))
        || (of_trait && ours)
        || (of_crate.iter().any(|words| text.starts_with(words)) && lacks_crate())
}

/// `use of unresolved module or unlinked crate `tokio``
fn missing_crate(words: &str) -> Option<&str> {
    let (_, rest) = words
        .split_once("unlinked crate `")
        .or_else(|| words.split_once("can't find crate for `"))?;
    let name = rest.split('`').next()?;
    name.starts_with(|letter: char| letter.is_ascii_lowercase()).then_some(name)
}

/// What to write in place of a `return`.
pub(super) const RETURNING: &str = "end the cell with an error by `Err(..)?;`, or by `panic!`";

/// Of a `return` at the top level, which only a macro can have written: others are found before.
pub(super) fn returning(message: &Message) -> Option<String> {
    let labels = message.spans.iter().filter_map(|span| span.label.as_deref());
    let mut words = labels.chain([message.message.as_str()]);
    words.any(|word| word.contains("CellError")).then(|| {
        "this macro returns from a function, and the top level of a cell is none".to_owned()
    })
}

/// Of an error that ends a cell nothing can be shown.
fn is_unspeakable(words: &str) -> bool {
    words.starts_with("`?` couldn't convert the error: ")
        && words.contains("Debug` is not satisfied")
}

/// Modules of the standard library that people name without their path.
const STD: [&str; 24] = [
    "any",
    "cell",
    "cmp",
    "collections",
    "env",
    "ffi",
    "fmt",
    "fs",
    "hash",
    "io",
    "iter",
    "mem",
    "net",
    "num",
    "ops",
    "panic",
    "path",
    "process",
    "ptr",
    "rc",
    "str",
    "sync",
    "thread",
    "time",
];

fn missing(name: &str) -> String {
    if STD.contains(&name) {
        return format!("`use std::{name};` brings Rust's own `{name}` into scope");
    }
    dependency(name)
}

/// The line that adds a crate, with the features that make it of use.
fn dependency(name: &str) -> String {
    let line = match name {
        "tokio" => "tokio = { version = \"1\", features = [\"full\"] }".to_owned(),
        "serde" => "serde = { version = \"1\", features = [\"derive\"] }".to_owned(),
        name => format!("{name} = \"*\""),
    };
    format!("if `{name}` is a crate, add it at the top of a cell: `:dep {line}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_is_missing_is_told_with_its_line() {
        let label = "use of unresolved module or unlinked crate `tokio`";
        let name = missing_crate(label).expect("it is named");
        assert!(
            dependency(name).contains("`:dep tokio = { version = \"1\", features = [\"full\"] }`")
        );
        assert_eq!(missing_crate("use of undeclared type `Foo`"), None);
    }
}
