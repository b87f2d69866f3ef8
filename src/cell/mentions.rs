//! Which names a piece of code uses: every identifier among its tokens, macro bodies included, and
//! the inline captures of format strings (`"{x}"`). Over-approximates on purpose: a name too many
//! costs an unused import, a name too few a broken cell.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::depth;

/// The names in `tokens`.
pub fn mentions(tokens: TokenStream) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect(tokens, &mut names);
    names
}

/// The names in `text`; when it is not even a sequence of tokens, every word of it.
pub fn mentions_of_text(text: &str) -> BTreeSet<String> {
    match depth::tokens(text) {
        Some(tokens) => mentions(tokens),
        None => words(text).map(str::to_owned).collect(),
    }
}

fn collect(tokens: TokenStream, names: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(group.stream(), names),
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                // Items keep the `r#` in their names, variables are looked for without it.
                if let Some(bare) = name.strip_prefix("r#") {
                    names.insert(bare.to_owned());
                }
                names.insert(name);
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if text.contains('"') && text.contains('{') {
                    names.extend(captures(&text));
                }
            }
            TokenTree::Punct(_) => (),
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
    }

    #[test]
    fn unbalanced_text_still_gives_its_words() {
        check("let a = (b", &["a", "b"]);
    }
}
