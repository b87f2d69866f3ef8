//! A source file as its tokens, each with its line, and what rules look for among them.
use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub(crate) fn flat(text: &str) -> Vec<(String, usize)> {
    let stream: TokenStream = text.parse().expect("a file that parsed has tokens");
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens
}

fn flatten(stream: TokenStream, tokens: &mut Vec<(String, usize)>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push((open.to_owned(), line));
                flatten(group.stream(), tokens);
                tokens.push((close.to_owned(), group.span_close().start().line));
            }
            TokenTree::Ident(ident) => tokens.push((ident.to_string(), line)),
            TokenTree::Punct(punct) => tokens.push((punct.as_char().to_string(), line)),
            TokenTree::Literal(_) => tokens.push(("literal".to_owned(), line)),
        }
    }
}

/// Lines where a sequence of tokens, written with single spaces, stands.
pub(crate) fn found(tokens: &[(String, usize)], wanted: &str) -> Vec<usize> {
    let wanted: Vec<&str> = wanted.split(' ').collect();
    let matches = |window: &&[(String, usize)]| {
        window.iter().zip(&wanted).all(|((token, _), wanted)| token == wanted)
    };
    tokens.windows(wanted.len()).filter(matches).map(|window| window[0].1).collect()
}

/// What follows `crate::`, in braces too.
pub(crate) fn rooms_named(tokens: &[(String, usize)]) -> Vec<(String, usize)> {
    let mut named = Vec::new();
    for (start, (token, line)) in tokens.iter().enumerate() {
        let rest: Vec<&str> = tokens[start..].iter().take(4).map(|(token, _)| &**token).collect();
        if token != "crate" || rest.len() < 4 || rest[1..3] != [":", ":"] {
            continue;
        }
        if rest[3] != "{" {
            named.push((rest[3].to_owned(), *line));
            continue;
        }
        let mut depth = 0;
        let mut first = true;
        for (token, line) in &tokens[start + 3..] {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => first = true,
                name if depth == 1 && first => {
                    named.push((name.to_owned(), *line));
                    first = false;
                }
                _ => (),
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}
