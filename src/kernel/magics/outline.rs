//! Where the magics of a cell stand and what is left of it as Rust. Never reads their options.
use super::super::scan::Scanner;
use super::find;

/// A cell as far as completeness is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outline {
    /// Rust with its magic lines blank: to be judged as Rust.
    Rust(String),
    /// Known without looking at Rust: complete or not.
    Settled(bool),
}

/// What one line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Rust,
    /// `%name ...`: the text behind the sign.
    Percent(&'a str),
    /// `:name ...`.
    Colon(&'a str),
    /// `!command`.
    Bang(&'a str),
    /// Belongs to the magic above it.
    Continued,
}

/// Tells what each line of `text` is. `is_name`: whether the cell could mean a variable or an item
/// by a word, so that `!done` stays Rust.
pub(super) fn lines<'a>(text: &'a str, is_name: &dyn Fn(&str) -> bool) -> Vec<Line<'a>> {
    let mut scanner = Scanner::default();
    // The brackets of a magic that goes on over several lines (`:dep x = { .. }`).
    let mut continued: Option<Scanner> = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(open) = &mut continued {
            open.line(line);
            if open.is_closed() {
                continued = None;
            }
            found.push(Line::Continued);
            continue;
        }
        let kind = if scanner.at_statement() { kind(line, is_name) } else { Line::Rust };
        match kind {
            Line::Rust => scanner.line(line),
            Line::Percent(text) | Line::Colon(text) if text.starts_with("dep") => {
                let mut open = Scanner::default();
                open.line(text);
                continued = (!open.is_closed()).then_some(open);
            }
            _ => (),
        }
        found.push(kind);
    }
    found
}

fn kind<'a>(line: &'a str, is_name: &dyn Fn(&str) -> bool) -> Line<'a> {
    let text = line.trim();
    let starts_word = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match text.chars().next() {
        Some('%') if starts_word(&text[1..]) => Line::Percent(&text[1..]),
        Some('%') if text.starts_with("%%") => Line::Percent(&text[1..]),
        Some(':') if starts_word(&text[1..]) => Line::Colon(&text[1..]),
        Some('!') if is_command(&text[1..], is_name) => Line::Bang(&text[1..]),
        _ => Line::Rust,
    }
}

/// `!ls -l` is a command, `!done` a negation if `done` is known or is used as Rust would.
fn is_command(rest: &str, is_name: &dyn Fn(&str) -> bool) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '~');
    let word = rest.trim_start().split(|c: char| !is_word(c)).next().unwrap_or_default();
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with(['(', '!', '[', '&', '*', '|', '{']) {
        return false;
    }
    let after = rest.get(word.len()..).unwrap_or_default();
    let as_rust = after.starts_with('(') || after.starts_with("::");
    !as_rust && !matches!(word, "true" | "false" | "self") && !is_name(word)
}

/// The outline of a cell, for `is_complete`.
pub fn outline(text: &str) -> Outline {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if first.trim_start().starts_with("%%") {
        // As in IPython: a blank line ends the body.
        let n_lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        let needs_body = !matches!(first.trim(), "%%lsmagic" | "%%help");
        let ended = text.rsplit('\n').next().is_some_and(is_blank);
        return Outline::Settled(!needs_body || (n_lines > 1 && ended));
    }
    let Some(end) = front_matter(text) else { return Outline::Settled(false) };
    let text = without_first(text, end);
    Outline::Rust(keep(&text, &lines(&text, &|_| false), |_| true))
}

/// The text with every line blank but the Rust ones whose number (from 0) is wanted.
pub(super) fn keep(text: &str, kinds: &[Line<'_>], wanted: impl Fn(usize) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for (n, line) in text.lines().enumerate() {
        if kinds.get(n) == Some(&Line::Rust) && wanted(n) {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// The text with its first `n` lines blank.
pub(super) fn without_first(text: &str, n: usize) -> String {
    let mut kept = "\n".repeat(n);
    for line in text.lines().skip(n) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// How many lines of a script's head begin the cell: `#!/usr/bin/env ..`, and front matter (`---`
/// .. `---`); `None` if that never ends.
pub(super) fn front_matter(text: &str) -> Option<usize> {
    let is_fence =
        |line: &str| line.trim_end().len() >= 3 && line.trim_end().chars().all(|c| c == '-');
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| is_blank(line)).peekable();
    let shebang = lines.next_if(|(_, line)| is_shebang(line)).map_or(0, |(n, _)| n + 1);
    match lines.find(|(_, line)| !is_blank(line)) {
        Some((_, line)) if line.starts_with("---") => {
            lines.find(|(_, line)| is_fence(line)).map(|(n, _)| n + 1)
        }
        _ => Some(shebang),
    }
}

/// The first line of a script; `#![..]` is an attribute.
pub(super) fn is_shebang(line: &str) -> bool {
    line.strip_prefix("#!").is_some_and(|rest| !rest.trim_start().starts_with('['))
}

/// The name at the start of a magic's text.
pub(super) fn name_of(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// Whether the body of `%%name` is text of its own, not Rust with magics in it.
pub(super) fn has_raw_body(name: &str) -> bool {
    matches!(name, "writefile" | "bash" | "dep") && find(name).is_some()
}
