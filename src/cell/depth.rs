//! How deep a text is nested. Parsers call themselves once for each level, and a text that is
//! nothing but brackets would take the whole process down with its stack: it is refused first.

use std::ops::Range;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Brackets within brackets. Code that people write stays below a fifth of it.
pub const BRACKETS_MAX: usize = 100;
/// Operators, angle brackets and words that take an expression, in one statement or argument.
pub const OPERATORS_MAX: usize = 500;

/// The tokens of a text; `None` where it is no sequence of tokens, or nested too deep to be parsed.
pub fn tokens(text: &str) -> Option<TokenStream> {
    text.parse().ok().filter(|tokens| beyond(tokens).is_none())
}

/// Where a text is nested too deep to be parsed.
pub fn too_deep(text: &str) -> Option<Range<usize>> {
    beyond(&text.parse().ok()?)
}

fn beyond(tokens: &TokenStream) -> Option<Range<usize>> {
    // What is still to be looked at, with the brackets and operators around it.
    let mut open = vec![(0, 0, tokens.clone())];
    while let Some((brackets, outer, tokens)) = open.pop() {
        let mut operators = outer;
        for token in tokens {
            let range = token.span().byte_range();
            match token {
                TokenTree::Group(group) => {
                    if brackets + 1 > BRACKETS_MAX {
                        return Some(range);
                    }
                    // Blocks end statements and items; what follows an `else` does not.
                    open.push((brackets + 1, operators, group.stream()));
                    if group.delimiter() != Delimiter::Brace {
                        operators += 1;
                    }
                }
                TokenTree::Punct(punct) => match punct.as_char() {
                    ';' | ',' => operators = outer,
                    _ => operators += 1,
                },
                TokenTree::Ident(word) => {
                    let takes_more = ["return", "break", "else", "move", "async", "as", "yield"];
                    operators += usize::from(takes_more.iter().any(|each| word == each));
                    let starts = ["fn", "let", "struct", "enum", "impl", "mod", "use", "trait"];
                    if starts.iter().any(|each| word == each) {
                        operators = outer;
                    }
                }
                TokenTree::Literal(_) => (),
            }
            if operators > OPERATORS_MAX {
                return Some(range);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Split;
    use crate::cell::mentions::mentions_of_text;

    /// On a stack as small as a thread of the kernel has.
    fn read(text: String) -> Split {
        let small = std::thread::Builder::new().stack_size(2 << 20);
        let thread = small.spawn(move || {
            let _ = mentions_of_text(&text);
            Split::read(&text)
        });
        thread.expect("a thread can be started").join().expect("it does not panic")
    }

    #[test]
    fn what_is_nested_too_deep_is_not_parsed() {
        let twice = |start: &str, end: &str, n| format!("{}1{};", start.repeat(n), end.repeat(n));
        let texts = |n| {
            [
                twice("(", ")", n),
                twice("[", "]", n),
                twice("{", "}", n),
                twice("!", "", n),
                twice("&", "", n),
                twice("-", "", n),
                twice("a = ", "", n),
                twice("1 + ", "", n),
                twice("return ", "", n),
                twice("|a| ", "", n),
                twice("if a {} else ", "", n).replace("1;", "{}"),
                twice("a.b().", "", n).replace("1;", "c"),
                format!("let a: {}u8{} = 1;", "A<".repeat(n), ">".repeat(n)),
                format!("let {}a{} = 1;", "(".repeat(n), ",)".repeat(n)),
                format!("fn f() -> {}u8 {{}}", "&".repeat(n)),
                format!("use {}a;", "a::".repeat(n)),
                format!("{}{}", "mod a {".repeat(n), "}".repeat(n)),
            ]
        };
        for text in texts(10_000) {
            let start: String = text.chars().take(12).collect();
            assert!(too_deep(&text).is_some(), "{start}");
            assert!(read(text).unparsed, "{start}");
        }
        // As deep as is allowed.
        for n in [BRACKETS_MAX - 1, OPERATORS_MAX / 4] {
            texts(n).into_iter().for_each(|text| {
                read(text);
            });
        }
    }

    #[test]
    fn long_code_is_not_deep() {
        let row = "1, ".repeat(20_000);
        assert!(!read(format!("let v = vec![{row}];")).unparsed);
        assert!(!read("let a = b + c * 2 - d;\n".repeat(5_000)).unparsed);
    }
}
