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

/// Whether a macro that is none of Rust's own is given `name`: it may assign to it.
pub fn may_be_by_macro(text: &str, name: &str) -> bool {
    let name = name.strip_prefix("r#").unwrap_or(name);
    depth::tokens(text).is_none_or(|tokens| is_given(tokens, name))
}

/// Macros that give nothing another value.
const READING: [&str; 20] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "dbg",
    "debug_assert",
    "debug_assert_eq",
    "eprint",
    "eprintln",
    "format",
    "format_args",
    "join",
    "matches",
    "panic",
    "print",
    "println",
    "todo",
    "try_join",
    "vec",
    "write",
    "writeln",
];

/// Words behind which a `!` negates.
const NEGATING: [&str; 6] = ["break", "else", "if", "match", "return", "while"];

fn is_given(tokens: TokenStream, name: &str) -> bool {
    let mut of_macro = String::new();
    let mut is_call = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => {
            let is_of_macro = std::mem::take(&mut is_call) && !READING.contains(&&*of_macro);
            (is_of_macro && says(group.stream(), name)) || is_given(group.stream(), name)
        }
        TokenTree::Punct(sign) => {
            is_call = sign.as_char() == '!' && !of_macro.is_empty();
            if !is_call {
                of_macro.clear();
            }
            false
        }
        TokenTree::Ident(word) => {
            (of_macro, is_call) = (word.to_string(), false);
            // `if !(done)` calls nothing.
            if NEGATING.contains(&&*of_macro) {
                of_macro.clear();
            }
            false
        }
        TokenTree::Literal(_) => {
            (of_macro, is_call) = (String::new(), false);
            false
        }
    })
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
        for (text, may) in [
            ("set!(s, 1)", true),
            ("{ fill! { x, f(s) } }", true),
            ("println!(\"{}\", s)", false),
            ("let a = vec![s];", false),
            ("if !(s) {}", false),
        ] {
            assert_eq!(may_be_by_macro(text, "s"), may, "{text}");
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
