//! What rustc proposes to write instead, drawn over the user's text.

use std::ops::Range;

use annotate_snippets::{Group, Level, Patch, Snippet};

use super::advice;
use super::diagnostic::{level, snippets};
use super::everyday::everyday;
use super::generated::clean;
use super::place::{Book, Placed, in_book, same};
use super::rustc_json::{Message, Span};

/// More ways to write it help nobody.
const WAYS_SHOWN: usize = 4;

/// Where, and what is to stand there.
type Part<'a> = (Placed<'a>, &'a str);

/// A note or help of rustc's, with what it points to or proposes.
pub(super) fn group<'a>(child: &'a Message, text: String, books: &[Book<'a>]) -> Option<Group<'a>> {
    if let Some(imports) = advice::imports(child) {
        let lines: Vec<String> = imports.iter().map(|line| format!("`{line}`")).collect();
        let text = format!("{}: {}", of_lines(&text, lines.len()), lines.join(" or "));
        let help = || Group::with_level(Level::HELP).element(Level::HELP.message(text));
        return (!lines.is_empty()).then(help);
    }
    let title = level(&child.level).secondary_title(text.clone());
    let ways = ways(child, books);
    if !ways.is_empty() {
        return Some(Group::with_title(title).elements(ways.into_iter().map(drawn)));
    }
    // What cannot be drawn whole is said in words.
    let shown: Vec<&Span> =
        child.spans.iter().filter(|span| span.suggested_replacement.is_none()).collect();
    let mut snippets = snippets(shown.iter().copied(), books).into_iter().peekable();
    if snippets.peek().is_none() {
        let text = of_elsewhere(text, &shown)?;
        let level = level(&child.level);
        return Some(Group::with_level(level.clone()).element(level.message(text)));
    }
    Some(Group::with_title(title).elements(snippets))
}

/// What is said of places in libraries, whose text is not shown: in words, where it has any.
fn of_elsewhere(text: String, shown: &[&Span]) -> Option<String> {
    if !shown.is_empty() && text.ends_with(" defined here") {
        return None;
    }
    if !text.starts_with("the following other types implement") {
        return Some(text);
    }
    let labels = shown.iter().filter_map(|span| span.label.as_deref());
    let labels = labels.map(|label| everyday(&clean(label)));
    let mut types: Vec<String> = labels.filter(|label| label.contains(" implements ")).collect();
    types.dedup();
    (!types.is_empty()).then(|| format!("{text}:\n  {}", types.join("\n  ")))
}

/// `consider importing one of these structs` says too much of a single line.
fn of_lines(text: &str, n_lines: usize) -> String {
    if n_lines > 1 {
        return text.to_owned();
    }
    match text.split_once("one of these ") {
        Some((before, kind)) => {
            let kind = kind.strip_suffix('s').unwrap_or(kind);
            format!("{before}this {kind}")
        }
        None => text.to_owned(),
    }
}

/// What there is one way to do, of which rustc gives the parts in another order than that of the
/// text.
const IN_PARTS: &str = "a named lifetime parameter";

/// rustc gives the parts of all ways one after the other: where one does not lie behind the one
/// before it, another way begins. A way is left out of which a part is not in the user's text.
fn ways<'a>(child: &'a Message, books: &[Book<'a>]) -> Vec<Vec<Part<'a>>> {
    let mut ways: Vec<(usize, Vec<Option<Part<'a>>>)> = Vec::new();
    let mut spans: Vec<&Span> = child.spans.iter().collect();
    if child.message.contains(IN_PARTS) {
        spans.sort_by_key(|span| span.byte_start);
    }
    for span in spans {
        let Some(new) = span.suggested_replacement.as_deref() else { continue };
        // To say a trait of ours is no way, nor is it to write into what a macro makes.
        let is_ours =
            |at: &Placed<'_>| new.contains("__Prust") || at.book.map.is_made(span.byte_start);
        let part = in_book(span, books).filter(|at| !is_ours(at)).map(|at| (at, new));
        match ways.last_mut().filter(|(end, _)| *end <= span.byte_start) {
            Some((end, parts)) => {
                *end = span.byte_end.max(span.byte_start + 1);
                parts.push(part);
            }
            None => ways.push((span.byte_end.max(span.byte_start + 1), vec![part])),
        }
    }
    let whole = ways.into_iter().filter_map(|(_, parts)| {
        let parts: Option<Vec<Part<'a>>> = parts.into_iter().collect();
        parts.filter(|parts| is_drawable(parts))
    });
    whole.take(WAYS_SHOWN).collect()
}

/// In one cell, and one behind the other.
fn is_drawable(parts: &[Part<'_>]) -> bool {
    let ranges: Vec<&Range<usize>> = parts.iter().map(|(at, _)| &at.range).collect();
    let in_order = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    in_order && parts.iter().all(|(at, _)| same(&at.book, &parts[0].0.book))
}

fn drawn<'a>(parts: Vec<Part<'a>>) -> Snippet<'a, Patch<'a>> {
    let book = parts[0].0.book;
    let patches = parts.into_iter().map(|(at, new)| {
        let mut new = clean(new);
        // Our bracket around the cell's last value.
        let removed = book.text.get(at.range.clone()).unwrap_or_default();
        let is_last = book.text[at.range.end..].trim().is_empty() && !removed.ends_with("\n)");
        if let Some(own) = new.strip_suffix("\n)").filter(|_| is_last) {
            new = own.to_owned();
        }
        // `for (mut y) y in` is what rustc would write.
        let name = new.strip_prefix("(mut ").and_then(|rest| rest.strip_suffix(") "));
        if name.is_some_and(|name| book.text[at.range.start..].starts_with(name)) {
            new = "mut ".to_owned();
        }
        // What follows stays on its line, where it can be seen.
        let follows = book.text[at.range.end..].lines().next().unwrap_or_default();
        if !follows.trim().is_empty() && new.ends_with('\n') {
            new.pop();
        }
        Patch::new(without_bracket(book.text, at.range, &new), new)
    });
    Snippet::source(book.text).path(book.label).patches(patches)
}

/// rustc takes the bracket behind the last argument away with it where another one follows, as ours
/// does behind the cell's value.
fn without_bracket(text: &str, range: Range<usize>, new: &str) -> Range<usize> {
    let removed = text.get(range.clone()).unwrap_or_default();
    let count = |letter: char| removed.matches(letter).count();
    match removed.rfind(')') {
        Some(at) if new.is_empty() && count(')') > count('(') => range.start..range.start + at,
        _ => range,
    }
}
