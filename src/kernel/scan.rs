//! A scanner for Rust text as people type it: open brackets, strings, comments, and where a
//! statement can begin. Decides whether a cell is complete; never builds a tree itself.
use syn::Block;
use syn::parse::Parser;

use super::magics;
use crate::wire::jupyter::IsCompleteReply;

/// Deeper nesting and longer text are not given to the parser, which recurses.
const PARSED_DEPTH_MAX: usize = 100;
const PARSED_BYTES_MAX: usize = 200_000;

/// Where the text stands after the lines so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanner {
    mode: Mode,
    /// The brackets that are open.
    open: Vec<char>,
    depth_max: usize,
    mismatched: bool,
    /// The last character that is neither space nor comment.
    last: Option<char>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Code,
    /// Nested this deep.
    Comment(usize),
    /// A string with escapes.
    Text,
    /// A raw string that ends with a quote and this many `#`.
    Raw(usize),
}

impl Scanner {
    /// Whether a line that begins here begins a statement, so that `%`, `:` and `!` cannot be
    /// operators of Rust.
    pub(super) fn at_statement(&self) -> bool {
        self.mode == Mode::Code
            && self.open.is_empty()
            && matches!(self.last, None | Some(';' | '}'))
    }

    /// Whether nothing is open: no bracket, string or comment.
    pub(super) fn is_closed(&self) -> bool {
        self.mode == Mode::Code && self.open.is_empty()
    }

    /// Reads one line, without its line end.
    pub(super) fn line(&mut self, line: &str) {
        let chars: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            at = match self.mode {
                Mode::Code => self.code(&chars, at),
                Mode::Comment(depth) => self.comment(&chars, at, depth),
                Mode::Text => self.text(&chars, at),
                Mode::Raw(hashes) => self.raw(&chars, at, hashes),
            };
        }
    }

    fn code(&mut self, chars: &[char], at: usize) -> usize {
        let next = chars.get(at + 1).copied();
        let mut end = at + 1;
        match chars[at] {
            '/' if next == Some('/') => return chars.len(),
            '/' if next == Some('*') => {
                self.mode = Mode::Comment(1);
                return at + 2;
            }
            '"' => self.mode = Mode::Text,
            '\'' => end = after_quote(chars, at),
            opening @ ('(' | '[' | '{') => {
                self.open.push(opening);
                self.depth_max = self.depth_max.max(self.open.len());
            }
            closing @ (')' | ']' | '}') => {
                let matches = match self.open.pop() {
                    Some('(') => closing == ')',
                    Some('[') => closing == ']',
                    Some(_) => closing == '}',
                    None => false,
                };
                self.mismatched |= !matches;
            }
            first if first.is_alphabetic() || first == '_' => {
                end = self.word(chars, at);
            }
            _ => (),
        }
        if !chars[at].is_whitespace() {
            self.last = Some(chars[at]);
        }
        end
    }

    /// A word; `r"`, `r#"`, `br"` and their like open raw strings.
    fn word(&mut self, chars: &[char], at: usize) -> usize {
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        let end = at + chars[at..].iter().take_while(|c| is_word(c)).count();
        let word: String = chars[at..end].iter().collect();
        if matches!(word.as_str(), "r" | "br" | "cr") {
            let hashes = chars[end..].iter().take_while(|c| **c == '#').count();
            if chars.get(end + hashes) == Some(&'"') {
                self.mode = Mode::Raw(hashes);
                return end + hashes + 1;
            }
        }
        end
    }

    fn comment(&mut self, chars: &[char], at: usize, depth: usize) -> usize {
        match (chars[at], chars.get(at + 1)) {
            ('*', Some('/')) => {
                self.mode = if depth == 1 { Mode::Code } else { Mode::Comment(depth - 1) };
                at + 2
            }
            ('/', Some('*')) => {
                self.mode = Mode::Comment(depth + 1);
                at + 2
            }
            _ => at + 1,
        }
    }

    fn text(&mut self, chars: &[char], at: usize) -> usize {
        match chars[at] {
            '\\' => at + 2,
            '"' => {
                self.mode = Mode::Code;
                at + 1
            }
            _ => at + 1,
        }
    }

    fn raw(&mut self, chars: &[char], at: usize, hashes: usize) -> usize {
        let tail = &chars[at + 1..];
        let closes =
            chars[at] == '"' && tail.len() >= hashes && tail[..hashes].iter().all(|c| *c == '#');
        if closes {
            self.mode = Mode::Code;
            return at + 1 + hashes;
        }
        at + 1
    }
}

/// Behind a `'`: the end of a character literal, or just behind the quote of a lifetime.
fn after_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            // The escaped character may be a quote itself.
            let rest = chars.get(at + 3..).unwrap_or_default();
            let length = rest.iter().position(|c| *c == '\'');
            length.map_or(chars.len(), |length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Tells a console whether Enter runs `code` or opens another line.
pub fn is_complete(code: &str) -> IsCompleteReply {
    let incomplete = |indent: usize| IsCompleteReply::Incomplete { indent: "    ".repeat(indent) };
    let text = match magics::outline(code) {
        magics::Outline::Rust(text) => text,
        magics::Outline::Settled(true) => return IsCompleteReply::Complete,
        magics::Outline::Settled(false) => return incomplete(0),
    };
    let mut scanner = Scanner::default();
    for line in text.lines() {
        scanner.line(line);
    }
    if scanner.mismatched {
        return IsCompleteReply::Invalid;
    }
    if !scanner.is_closed() {
        return incomplete(scanner.open.len());
    }
    if scanner.depth_max > PARSED_DEPTH_MAX || text.len() > PARSED_BYTES_MAX {
        return IsCompleteReply::Complete;
    }
    // Inner attributes are no statements, but a cell may begin with them.
    if ["#![", "//!", "/*!"].iter().any(|inner| text.contains(inner)) {
        return IsCompleteReply::Complete;
    }
    match Block::parse_within.parse_str(&text) {
        Ok(_) => IsCompleteReply::Complete,
        Err(error) if is_at_end(&error) => incomplete(0),
        Err(_) => IsCompleteReply::Invalid,
    }
}

/// Whether the parser only wanted more. It says so, except for a missing `;`, where the place of
/// the error tells: the end of the text has none and so is given the place of the first token.
fn is_at_end(error: &syn::Error) -> bool {
    let text = error.to_string();
    let start = error.span().start();
    text.starts_with("unexpected end of input")
        || (text == "expected `;`" && (start.line, start.column) == (1, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: &str) -> &'static str {
        match is_complete(code) {
            IsCompleteReply::Complete => "complete",
            IsCompleteReply::Incomplete { .. } => "incomplete",
            IsCompleteReply::Invalid => "invalid",
        }
    }

    #[track_caller]
    fn check(expect: &str, codes: &[&str]) {
        for code in codes {
            assert_eq!(status(code), expect, "{code:?}");
        }
    }

    #[test]
    fn what_can_run_is_complete() {
        check(
            "complete",
            &[
                "",
                "1 + 1",
                "let x = 1;",
                "fn f<'a>(x: &'a str) -> &'a str { x }",
                "let c = '\"'; let d = '\\''; let e = 'x';",
                "let s = r#\"a \" b\"#; s",
                "// a comment with (",
                "/* nested /* comment */ ( */ 1",
                "println!(\"{}\", 1)",
                "struct A;\nimpl A { fn f(&self) {} }",
                "%vars",
                "let a = 1;\n%vars",
                "%px 1 +",
                ":dep rand = \"0.9\"",
                "!ls (",
                "%%px\nlet a = 1;\n\n",
                "---\n[dependencies]\n---\n1",
            ],
        );
    }

    #[test]
    fn what_is_open_is_incomplete() {
        check(
            "incomplete",
            &[
                "fn f() {",
                "let x =",
                "let x = 1",
                "1 +",
                "\"abc",
                "r#\"abc\"",
                "/* a /* b */",
                "#[derive(Debug)]",
                "/// What it is for.",
                "foo(1,",
                "%%px",
                "%%px\nlet a = 1;",
                "---\n[dependencies]",
            ],
        );
    }

    #[test]
    fn what_can_never_run_is_invalid() {
        check("invalid", &["let x = 1;)", "(]", "let = 1;", "fn 1() {}", "a b"]);
    }

    #[test]
    fn the_indent_follows_the_open_brackets() {
        let IsCompleteReply::Incomplete { indent } = is_complete("fn f() {\n    if true {") else {
            panic!("two brackets are open");
        };
        assert_eq!(indent.len(), 8);
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = 50_000;
        check("complete", &[&format!("{}{}", "(".repeat(deep), ")".repeat(deep))]);
        check("incomplete", &[&"[".repeat(deep)]);
    }

    #[test]
    fn any_prefix_of_anything_is_read() {
        let text = "let s = br##\"x\"#y\"##; '\\u{1F600}' 'a 'é' /*/**/ \\ \" \\\" é %px :dep !ls";
        for end in text.char_indices().map(|(at, _)| at) {
            is_complete(&text[..end]);
        }
    }
}
