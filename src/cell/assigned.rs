//! Whether code may give a variable another value: by `=` behind its name, its fields or a pattern.
//! Text in, answer out; in doubt, yes.

use proc_macro2::{Spacing, TokenStream, TokenTree};

use super::depth;

/// Whether `text` may assign to `name`, or to a part of it.
pub fn may_be(text: &str, name: &str) -> bool {
    let name = name.strip_prefix("r#").unwrap_or(name);
    depth::tokens(text).is_none_or(|tokens| is_within(tokens, name))
}

fn is_within(tokens: TokenStream, name: &str) -> bool {
    // The name is said in what may be the left side of an assignment.
    let mut is_said = false;
    let (mut is_joined, mut in_let) = (false, false);
    for token in tokens {
        let was_joined = std::mem::replace(&mut is_joined, false);
        match &token {
            TokenTree::Group(group) => {
                if is_within(group.stream(), name) {
                    return true;
                }
                is_said |= says(group.stream(), name);
            }
            TokenTree::Ident(word) if word == "let" => in_let = true,
            TokenTree::Ident(word) => is_said |= is(word, name),
            TokenTree::Punct(sign) => {
                is_joined = sign.spacing() == Spacing::Joint;
                match sign.as_char() {
                    ';' => (is_said, in_let) = (false, false),
                    // Neither `==`, `=>`, nor the end of `<=` or `+=`.
                    '=' if is_joined || was_joined => (),
                    // What stands before it is declared.
                    '=' if in_let => (is_said, in_let) = (false, false),
                    '=' if is_said => return true,
                    _ => (),
                }
            }
            TokenTree::Literal(_) => (),
        }
    }
    false
}

fn says(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => says(group.stream(), name),
        TokenTree::Ident(word) => is(&word, name),
        _ => false,
    })
}

fn is(word: &proc_macro2::Ident, name: &str) -> bool {
    let word = word.to_string();
    word.strip_prefix("r#").unwrap_or(&word) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_an_equals_sign_may_get_another_value() {
        for text in [
            "s = s + x",
            "f(s); s = g()",
            "s.name = t",
            "s.0.a = t",
            "(s, t) = (t, s)",
            "if let Some(x) = s { s = Some(x) }",
            "P { a: s, .. } = p",
            "*s = 1",
            "set!(s = 2)",
        ] {
            assert!(may_be(text, "s"), "{text}");
        }
        for text in [
            "let s = 1;",
            "f(s)",
            "s == t",
            "let t = s;",
            "match s { _ => 1 }",
            "s += 1",
            "let s: W<i32> = s;",
        ] {
            assert!(!may_be(text, "s"), "{text}");
        }
    }
}
