//! Which names a piece of code uses: every identifier among its tokens, macro bodies included, and
//! the inline captures of format strings (`"{x}"`). Over-approximates on purpose: a name too many
//! costs an unused import, a name too few a broken cell.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use super::depth;

/// The names in `tokens`.
pub fn mentions(tokens: TokenStream) -> BTreeSet<String> {
    mentions_but(tokens, &[])
}

/// The names in `tokens` that are said more often than `declared` has them.
pub fn mentions_but(tokens: TokenStream, declared: &[String]) -> BTreeSet<String> {
    let mut names = BTreeMap::new();
    collect(tokens, &mut names);
    for name in declared {
        for name in [Some(name.as_str()), name.strip_prefix("r#")].into_iter().flatten() {
            names.entry(name.to_owned()).and_modify(|n_times| *n_times -= 1);
        }
    }
    names.into_iter().filter(|(_, n_times)| *n_times > 0).map(|(name, _)| name).collect()
}

/// The names in `text`; when it is not even a sequence of tokens, every word of it.
pub fn mentions_of_text(text: &str) -> BTreeSet<String> {
    match depth::tokens(text) {
        Some(tokens) => mentions(tokens),
        None => words(text).map(str::to_owned).collect(),
    }
}

fn collect(tokens: TokenStream, names: &mut BTreeMap<String, usize>) {
    // `#[serde(default = "empty")]` names a function.
    let mut is_attribute = false;
    for token in tokens {
        let was_sign = std::mem::take(&mut is_attribute);
        let said: Vec<String> = match token {
            TokenTree::Group(group) => {
                collect(group.stream(), names);
                if was_sign {
                    paths(group.stream(), names);
                }
                continue;
            }
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                // Items keep the `r#` in their names, variables are looked for without it.
                let bare = name.strip_prefix("r#").map(str::to_owned);
                bare.into_iter().chain([name]).collect()
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let has_captures = text.contains('"') && text.contains('{');
                if has_captures { captures(&text).collect() } else { Vec::new() }
            }
            TokenTree::Punct(sign) => {
                is_attribute = sign.as_char() == '#' || (was_sign && sign.as_char() == '!');
                Vec::new()
            }
        };
        for name in said {
            *names.entry(name).or_default() += 1;
        }
    }
}

/// The words of paths that stand in strings.
fn paths(tokens: TokenStream, names: &mut BTreeMap<String, usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => paths(group.stream(), names),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if text.starts_with('"') && !text.contains(char::is_whitespace) {
                    words(&text).for_each(|word| *names.entry(word.to_owned()).or_default() += 1);
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => (),
        }
    }
}

/// `{name}`, `{name:?}`, `{:width$}` and `{:.precision$}` of a format string.
fn captures(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('{').skip(1).flat_map(|rest| {
        let inside = rest.split('}').next().unwrap_or_default();
        words(inside).map(str::to_owned).collect::<Vec<_>>()
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = mentions_of_text(text);
        for name in expected {
            assert!(found.contains(*name), "{name} in {found:?}");
        }
    }

    #[test]
    fn names_are_found_in_code_macros_and_format_strings() {
        check("a.b(c)", &["a", "b", "c"]);
        check(r#"println!("{x} {y:?} {:>width$}", z)"#, &["x", "y", "width", "z"]);
        check("vec![inner; n]", &["inner", "n"]);
        check("r#async::T", &["async", "r#async", "T"]);
        check("#[serde(default = \"empty\", with = \"m::hex\")] a: u8", &["empty", "m", "hex"]);
    }

    #[test]
    fn a_name_that_is_only_declared_is_not_mentioned() {
        let tokens: TokenStream = "fn area(&self) { self.side }".parse().expect("it is Rust");
        let declared = ["area".to_owned(), "side".to_owned()];
        assert!(!mentions_but(tokens.clone(), &declared[..1]).contains("area"));
        let recursive = "fn area(&self) { if n { area() } }".parse().expect("it is Rust");
        assert!(mentions_but(recursive, &declared[..1]).contains("area"));
    }

    #[test]
    fn unbalanced_text_still_gives_its_words() {
        check("let a = (b", &["a", "b"]);
    }
}
