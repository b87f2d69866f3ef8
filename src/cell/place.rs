//! Where in the user's cells rustc's spans lie.

use std::ops::Range;

use super::map::{Map, Origin};
use super::rustc_json::{Message, Span};

/// What the names of copies of included files start with; a hash follows, and their own name.
pub const COPY: &str = "read_";

/// What the user calls a file that was included: the name of the copy without what is ours.
pub fn as_included(file: &str) -> Option<&str> {
    let (_, name) = file.rsplit_once('/')?;
    let (hash, name) = name.strip_prefix(COPY)?.split_once('_')?;
    hash.bytes().all(|letter| letter.is_ascii_hexdigit()).then_some(name)
}

/// Where a message points into a file that a cell includes.
pub(super) fn included_place(message: &Message) -> Option<String> {
    let span = message.spans.iter().find(|span| span.is_primary)?;
    let name = as_included(&span.file_name)?;
    let said = span.text.first().map(|line| format!(": {}", line.text.trim()));
    let (line, column) = (span.line_start, span.column_start);
    Some(format!("in {name}, line {line}, column {column}{}", said.unwrap_or_default()))
}

/// A generated source and the cell it came from.
#[derive(Clone, Copy, Debug)]
pub struct Book<'a> {
    /// The file name that rustc was given.
    pub file: &'a str,
    pub label: &'a str,
    pub text: &'a str,
    pub map: &'a Map,
}

/// A span of the user's, in one of the books.
pub(super) struct Placed<'a> {
    pub(super) book: Book<'a>,
    pub(super) range: Range<usize>,
}

/// Where the user wrote what a span is about. Inside a macro that the user has defined, that is
/// where it is called; in what rustc makes of a `for`, or a macro of Rust's of its arguments, the
/// part itself.
pub(super) fn place<'a>(span: &Span, books: &[Book<'a>]) -> Option<Placed<'a>> {
    let mut placed = None;
    let mut span = Some(span);
    while let Some(at) = span {
        let expansion = at.expansion.as_deref();
        let here = in_book(at, books);
        let defined = expansion.and_then(|expansion| expansion.def_site_span.as_ref());
        let is_users = defined.is_some_and(|defined| in_book(defined, books).is_some());
        if here.is_some() && !is_users {
            return here;
        }
        placed = here.or(placed);
        span = expansion.map(|expansion| &expansion.span);
    }
    placed
}

/// The macro of the user's that wrote what a span is about, and where in its body that stands; the
/// innermost one, where one calls another.
pub(super) fn in_macro<'a, 's>(
    span: &'s Span,
    books: &[Book<'a>],
) -> Option<(&'s str, Placed<'a>)> {
    let expansion = span.expansion.as_deref()?;
    in_book(expansion.def_site_span.as_ref()?, books)?;
    Some((&expansion.macro_decl_name, in_book(span, books)?))
}

/// The macro of the user's whose call stands where a span is placed.
pub(super) fn called<'s>(mut span: &'s Span, books: &[Book<'_>]) -> Option<&'s str> {
    let mut name = None;
    while let Some(expansion) = span.expansion.as_deref() {
        let defined = expansion.def_site_span.as_ref();
        if defined.is_some_and(|defined| in_book(defined, books).is_some()) {
            name = Some(expansion.macro_decl_name.as_str());
        }
        span = &expansion.span;
    }
    name
}

/// Where a span itself lies.
pub(super) fn in_book<'a>(at: &Span, books: &[Book<'a>]) -> Option<Placed<'a>> {
    // A source made from several cells has a book for each.
    let mut books = books.iter().filter(|book| book.file == at.file_name);
    books.find_map(|book| {
        let range = book.map.to_user(at.byte_start..at.byte_end)?;
        // Whole letters: nothing can be drawn under a part of one.
        let range = (range.end <= book.text.len()).then(|| {
            book.text.floor_char_boundary(range.start)..book.text.ceil_char_boundary(range.end)
        })?;
        Some(Placed { book: *book, range })
    })
}

/// Where in the user's cells a message points to: the book, and the byte there.
pub fn user_place<'a>(message: &Message, books: &[Book<'a>]) -> Option<(Book<'a>, usize)> {
    let primary = message.spans.iter().filter(|span| span.is_primary);
    let placed = primary.filter_map(|span| place(span, books)).next()?;
    Some((placed.book, placed.range.start))
}

/// Where in the user's cells a span lies.
pub fn span_place<'a>(span: &Span, books: &[Book<'a>]) -> Option<(Book<'a>, usize)> {
    place(span, books).map(|placed| (placed.book, placed.range.start))
}

/// The variable whose store or take line the error's primary place is in, if it is in one, and
/// the number of the `put` when it is one.
pub fn slot_of(message: &Message, books: &[Book<'_>]) -> Option<(String, Option<usize>)> {
    let primary = message.spans.iter().find(|span| span.is_primary)?;
    slot_at(primary, books)
}

pub(super) fn slot_at(span: &Span, books: &[Book<'_>]) -> Option<(String, Option<usize>)> {
    let book = books.iter().find(|book| book.file == span.file_name)?;
    match book.map.origin(span.byte_start) {
        Origin::Slot { name, put } => Some((name.clone(), *put)),
        _ => None,
    }
}

/// One cell's text in one source.
pub(super) fn same(one: &Book<'_>, other: &Book<'_>) -> bool {
    one.file == other.file && std::ptr::eq(one.text, other.text)
}
