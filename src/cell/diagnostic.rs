//! rustc's errors and warnings in the user's terms: the user's cell, line and column, with labels,
//! notes, helps and suggestions drawn over the user's text. What points into text of ours is left
//! out.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::advice;
use super::borrowed;
use super::everyday::everyday;
use super::generated::{clean, speaks_of_us};
use super::map::{Origin, line_column};
pub use super::place::{Book, slot_of, span_place, user_place};
use super::place::{Placed, called, in_macro, included_place, place, same};
use super::rustc_json::{Message, Span};
use super::suggestion;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One error or warning, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// `E0308`, or a lint's name.
    pub code: Option<String>,
    pub message: String,
    /// Cell label, line and column (1-based, in characters) of the primary place.
    pub place: Option<(String, usize, usize)>,
    /// Drawn, without colours.
    pub plain: String,
    /// Drawn, with ANSI colours.
    pub styled: String,
}

impl Diagnostic {
    /// Adds a word of ours behind rustc's.
    pub fn note(&mut self, note: &str) {
        for text in [&mut self.plain, &mut self.styled] {
            text.push_str("\nnote: ");
            text.push_str(note);
        }
    }

    /// The words of `cause` at the place of this error.
    pub fn with_words_of(self, cause: &Self) -> Self {
        let words = cause.message.trim_start_matches("evaluation panicked: ").to_owned();
        let replaced = |text: &str| text.replace(&self.message, &words);
        Self {
            severity: self.severity,
            code: cause.code.clone(),
            plain: replaced(&self.plain),
            styled: replaced(&self.styled),
            place: self.place.clone(),
            message: words,
        }
    }
}

/// Whether what the error is about stands in text of ours.
pub fn is_in_ours(message: &Message, book: Book<'_>) -> bool {
    let primary = message.spans.iter().find(|span| span.is_primary);
    primary.is_some_and(|span| span.file_name == book.file && place(span, &[book]).is_none())
}

/// Where a `?` at the top level of the cell meets an `Option`.
pub fn question_on_none(message: &Message, book: Book<'_>) -> Option<usize> {
    let on_option = "the `?` operator can only be used on `Result`s, not `Option`s";
    if !message.message.starts_with(on_option) {
        return None;
    }
    let (primary, others): (Vec<&Span>, Vec<&Span>) =
        message.spans.iter().partition(|span| span.is_primary);
    // In a function or closure of the user's own, rustc is right.
    if others.iter().any(|span| place(span, &[book]).is_some()) {
        return None;
    }
    // Not one that a macro writes: it has no place of its own in the user's text.
    let at = primary.into_iter().next().filter(|span| span.file_name == book.file)?;
    let range = book.map.to_user(at.byte_start..at.byte_end)?;
    (book.text.get(range.clone()) == Some("?")).then_some(range.start)
}

/// rustc's word for a type of another cell.
const FOREIGN: &str = "is defined in another crate";

/// Helps that are none where they do not point into the user's text: the cell's top level, for one,
/// can have no parameter.
const OF_THE_USERS_OWN: [&str; 3] = [
    "consider changing this to be mutable",
    "you might be missing a const parameter",
    "you might be missing a type parameter",
];

/// Carries one of rustc's messages over to the user's text.
pub fn translate(message: &Message, books: &[Book<'_>]) -> Diagnostic {
    let severity =
        if message.level.starts_with("warning") { Severity::Warning } else { Severity::Error };
    let code = message.code.as_ref().map(|code| code.code.clone());
    if let Some(returning) = advice::returning(message).filter(|_| code.as_deref() == Some("E0308"))
    {
        let at = message.spans.iter().find_map(|span| place(span, books));
        let at = at.map(|placed| (placed.book, placed.range));
        return own(Severity::Error, "E0308", returning, advice::RETURNING, at);
    }
    if let Some(capturing) = capturing_call(message, code.as_deref(), books) {
        return capturing;
    }
    if let Some(kept) = borrowed::outlived(message, code.as_deref(), books) {
        return kept;
    }
    let primary = message
        .spans
        .iter()
        .filter(|span| span.is_primary)
        .find_map(|span| place(span, books))
        .or_else(|| message.spans.iter().find_map(|span| place(span, books)));
    if primary.is_none() && code.is_none() && severity == Severity::Error {
        return syntax_error(message, books);
    }
    let at = primary.filter(|_| !is_about_ours(message, books)).map(|placed| {
        let (line, column) = line_column(placed.book.text, placed.range.start);
        (placed.book.label.to_owned(), line, column)
    });
    let title = match ends_in_ours(message, books) {
        true => at_the_end(&title(message)),
        false => title(message),
    };
    let mut groups = vec![main_group(severity, code.as_deref(), &title, message, books)];
    let mut notes = Vec::new();
    for child in &message.children {
        let text = everyday(&clean(&child.message));
        let ours = speaks_of_us(&text) || speaks_of_us(&child.message);
        // What is to be written otherwise is in another cell, or our function around this one; or
        // the type's declaration in another crate of ours.
        let is_elsewhere = OF_THE_USERS_OWN.contains(&text.as_str())
            && child.spans.iter().all(|span| place(span, books).is_none());
        let labels = child.spans.iter().filter_map(|span| span.label.as_deref());
        let is_foreign = labels.into_iter().any(|label| label.ends_with(FOREIGN));
        let is_astray = is_elsewhere || is_foreign || borrowed::is_to_borrow(child, books);
        if ours || is_astray || advice::misleads(message, &child.message) {
            continue;
        }
        notes.extend(suggestion::group(child, text, books));
    }
    groups.extend(in_macro_body(message, books));
    groups.extend(notes);
    let included = included_place(message);
    groups
        .extend(included.map(|at| Group::with_level(Level::NOTE).element(Level::NOTE.message(at))));
    groups.extend(
        advice::helps(message)
            .into_iter()
            .map(|help| Group::with_level(Level::HELP).element(Level::HELP.message(help))),
    );
    draw(severity, code, title, at, &groups)
}

/// What a message says, in the user's terms.
pub fn title(message: &Message) -> String {
    everyday(&clean(&message.message))
}

/// A warning that the text of ours around the user's last value is never reached.
fn is_about_ours(message: &Message, books: &[Book<'_>]) -> bool {
    let is_unreachable = message.code.as_ref().is_some_and(|code| code.code == "unreachable_code");
    let primary = message.spans.iter().find(|span| span.is_primary);
    let origin = primary.and_then(|span| {
        let book = books.iter().find(|book| book.file == span.file_name)?;
        Some(book.map.origin(span.byte_start))
    });
    is_unreachable && matches!(origin, Some(Origin::Ours))
}

/// What is shown of a linker's own words.
const LINKER_CHARACTERS: usize = 4000;

/// A syntax error that rustc met where the user's text had ended.
fn syntax_error(message: &Message, books: &[Book<'_>]) -> Diagnostic {
    if message.message.starts_with("linking") {
        let notes: Vec<&str> =
            message.children.iter().map(|child| child.message.as_str()).collect();
        let help: String = notes.join("\n").chars().take(LINKER_CHARACTERS).collect();
        return own(Severity::Error, "link", message.message.clone(), &help, None);
    }
    let at = message.spans.iter().find_map(|span| {
        let book = books.iter().find(|book| book.file == span.file_name)?;
        let end = book.text.floor_char_boundary(book.map.user_end_before(span.byte_start)?);
        let end = book.text[..end].trim_end().len();
        Some((*book, end..end))
    });
    own(Severity::Error, "syntax", clean(&at_the_end(&message.message)), "", at)
}

/// Whether a place that a message speaks of is in text of ours, as the brace behind the cell is.
fn ends_in_ours(message: &Message, books: &[Book<'_>]) -> bool {
    message.code.is_none()
        && message.spans.iter().any(|span| {
            let book = books.iter().find(|book| book.file == span.file_name);
            let origin = book.map(|book| book.map.origin(span.byte_start));
            matches!(origin, Some(Origin::Ours))
        })
}

/// What rustc says of the brace behind the cell, which the user did not write.
fn at_the_end(title: &str) -> String {
    let ours = [
        ("found `}`", "found the end of the cell"),
        ("unexpected token: `}`", "unexpected end of the cell"),
    ];
    ours.iter().fold(title.to_owned(), |title, (from, to)| title.replace(from, to))
}

pub(super) fn level(name: &str) -> Level<'static> {
    match name {
        "error" => Level::ERROR,
        "warning" => Level::WARNING,
        "help" => Level::HELP,
        _ => Level::NOTE,
    }
}

fn main_group<'a>(
    severity: Severity,
    code: Option<&str>,
    title: &str,
    message: &'a Message,
    books: &[Book<'a>],
) -> Group<'a> {
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut title = level.primary_title(title.to_owned());
    if let Some(code) = code.filter(|code| code.starts_with('E')) {
        title = title.id(code.to_owned());
    }
    Group::with_title(title).elements(snippets(message.spans.iter(), books))
}

/// What an error in the body of a macro of the user's is about: rustc's own place is the call.
fn in_macro_body<'a>(message: &Message, books: &[Book<'a>]) -> Option<Group<'a>> {
    let primary = message.spans.iter().find(|span| span.is_primary && message.level == "error")?;
    let (name, at) = in_macro(primary, books)?;
    let title = Level::NOTE.secondary_title(format!("this is what the macro `{name}` writes"));
    let snippet = Snippet::source(at.book.text).path(at.book.label);
    Some(
        Group::with_title(title)
            .element(snippet.annotation(AnnotationKind::Primary.span(at.range))),
    )
}

/// One snippet per cell that the spans lie in.
pub(super) fn snippets<'a>(
    spans: impl Iterator<Item = &'a Span>,
    books: &[Book<'a>],
) -> Vec<Snippet<'a, Annotation<'a>>> {
    let placed: Vec<(&Span, Placed<'a>)> =
        spans.filter_map(|span| Some((span, place(span, books)?))).collect();
    let mut files: Vec<Book<'a>> = Vec::new();
    for (_, at) in &placed {
        if !files.iter().any(|book| same(book, &at.book)) {
            files.push(at.book);
        }
    }
    let snippet = |book: Book<'a>| {
        let annotations =
            placed.iter().filter(|(_, at)| same(&at.book, &book)).map(|(span, at)| {
                let kind =
                    if span.is_primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                let label = span.label.as_deref().map(|label| everyday(&clean(label)));
                let label = label.filter(|label| !speaks_of_us(label));
                let of_macro = || {
                    in_macro(span, books)?;
                    called(span, books).map(|name| format!("in this call of `{name}`"))
                };
                let label = label.or_else(of_macro);
                kind.span(at.range.clone()).label(label)
            });
        Snippet::source(book.text).path(book.label).annotations(annotations)
    };
    files.into_iter().map(snippet).collect()
}

/// A closure for the engines that borrows a variable: rustc's own advice (`move`) would not help.
fn capturing_call(message: &Message, code: Option<&str>, books: &[Book<'_>]) -> Option<Diagnostic> {
    code.filter(|code| *code == "E0373")?;
    let calls = [".map(", ".apply(", ".map_with(", ".apply_with("];
    let called = message.children.iter().flat_map(|child| &child.spans).any(|span| {
        let text = place(span, books).map(|at| &at.book.text[at.range]);
        text.is_some_and(|text| calls.iter().any(|call| text.contains(call)))
    });
    let at = message.spans.iter().find(|span| span.is_primary && called)?;
    let at = place(at, books)?;
    let name = message.message.split('`').nth(1).unwrap_or("a variable");
    let title = format!("this closure captures `{name}`, so it cannot run on an engine");
    let help = format!(
        "hand `{name}` over: `map_with(shared, f, items)` or `apply_with(args, f)`; or name an \
         engine's own variable with `Reference::<T>::new(\"{name}\")`"
    );
    Some(own(Severity::Error, "E0373", title, &help, Some((at.book, at.range))))
}

/// A message of ours about a place in a cell.
pub fn own(
    severity: Severity,
    code: &str,
    message: String,
    help: &str,
    at: Option<(Book<'_>, Range<usize>)>,
) -> Diagnostic {
    let level = if severity == Severity::Error { Level::ERROR } else { Level::WARNING };
    let mut title = level.primary_title(message.clone());
    if code.starts_with('E') {
        title = title.id(code.to_owned());
    }
    let place = at.as_ref().map(|(book, range)| {
        let (line, column) = line_column(book.text, range.start);
        (book.label.to_owned(), line, column)
    });
    let snippet = at.map(|(book, range)| {
        Snippet::source(book.text).path(book.label).annotation(AnnotationKind::Primary.span(range))
    });
    let placed = snippet.is_some();
    let mut groups = vec![Group::with_title(title).elements(snippet)];
    if !help.is_empty() && !placed {
        groups.push(Group::with_title(Level::HELP.secondary_title(help)));
    } else if !help.is_empty() {
        groups.push(Group::with_level(Level::HELP).element(Level::HELP.message(help)));
    }
    draw(severity, Some(code.to_owned()), message, place, &groups)
}

/// The user's line with a caret under the place, as in a compiler's message.
pub fn excerpt(label: &str, text: &str, line: usize, column: usize) -> String {
    let width = line.to_string().len();
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let margin = " ".repeat(width);
    let before: String = source.chars().take(column.saturating_sub(1)).map(blank).collect();
    format!(
        "{margin}--> {label}:{line}:{column}\n{margin} |\n{line} | {source}\n{margin} | {before}^"
    )
}

/// Keeps a tab's width under the line above.
fn blank(letter: char) -> char {
    if letter == '\t' { '\t' } else { ' ' }
}

/// A type as people write it: without paths.
pub fn short(type_text: &str) -> String {
    prust_runtime::cell::short_type_name(&clean(type_text))
}

pub(super) fn draw(
    severity: Severity,
    code: Option<String>,
    message: String,
    place: Option<(String, usize, usize)>,
    groups: &[Group<'_>],
) -> Diagnostic {
    let plain = Renderer::plain().decor_style(DecorStyle::Ascii).render(groups);
    let styled = Renderer::styled().decor_style(DecorStyle::Ascii).render(groups);
    Diagnostic { severity, code, message, place, plain, styled }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::map::Source;

    fn message(json: serde_json::Value) -> Message {
        serde_json::from_value(json).expect("the shape is rustc's")
    }

    fn span(start: usize, end: usize, label: Option<&str>) -> serde_json::Value {
        serde_json::json!({"file_name": "leaf.rs", "byte_start": start, "byte_end": end,
            "is_primary": true, "label": label, "suggested_replacement": null, "expansion": null})
    }

    #[test]
    fn an_error_names_the_cell_line_and_column_and_nothing_of_ours() {
        let cell = "let ö = 1;\nlet y: u8 = \"a\";";
        let mut source = Source::default();
        source.ours("fn generated() {\n").user(cell, 0..cell.len()).ours("\n}");
        let at = source.text.find("\"a\"").expect("it is there");
        let json = serde_json::json!({"message": "mismatched types", "level": "error",
            "code": {"code": "E0308"}, "spans": [span(at, at + 3, Some("expected `u8`"))],
            "children": [{"message": "in __prust_end", "code": null, "level": "note"}]});
        let book = Book { file: "leaf.rs", label: "In[3]", text: cell, map: &source.map };
        let diagnostic = translate(&message(json), &[book]);
        assert_eq!(diagnostic.place, Some(("In[3]".into(), 2, 13)));
        assert!(
            diagnostic.plain.contains("error[E0308]: mismatched types"),
            "{}",
            diagnostic.plain
        );
        assert!(diagnostic.plain.contains("In[3]:2:13"), "{}", diagnostic.plain);
        assert!(!diagnostic.plain.contains("prust"), "{}", diagnostic.plain);
    }

    #[test]
    fn a_parameter_is_proposed_to_a_function_of_the_users_alone() {
        let cell = "fn f() { N }";
        let mut source = Source::default();
        source.ours("fn generated() {\n").user(cell, 0..cell.len()).ours("\n}");
        let name = source.text.find('N').expect("it is there");
        for (function, told) in [("generated", false), ("f", true)] {
            let at = source.text.find(&format!("{function}(")).expect("it is there");
            let mut proposed = span(at + function.len(), at + function.len(), None);
            proposed["suggested_replacement"] = "<const N: usize>".into();
            let json = serde_json::json!({"message": "cannot find value `N`", "level": "error",
                "code": {"code": "E0425"}, "spans": [span(name, name + 1, None)],
                "children": [{"message": "you might be missing a const parameter", "code": null,
                    "level": "help", "spans": [proposed]}]});
            let book = Book { file: "leaf.rs", label: "In[3]", text: cell, map: &source.map };
            let plain = translate(&message(json), &[book]).plain;
            assert_eq!(plain.contains("missing a const parameter"), told, "{plain}");
            assert_eq!(plain.contains("fn f<const N: usize>()"), told, "{plain}");
        }
    }

    #[test]
    fn a_place_inside_of_a_letter_is_that_of_the_letter() {
        let cell = "let ö = 1;";
        let mut source = Source::default();
        source.user(cell, 0..cell.len());
        let book = Book { file: "leaf.rs", label: "In[3]", text: cell, map: &source.map };
        for (start, end) in [(5, 6), (4, 5), (5, 5), (9, 3)] {
            let json = serde_json::json!({"message": "odd", "level": "error",
                "code": {"code": "E0308"}, "spans": [span(start, end, None)]});
            let place = translate(&message(json), &[book]).place.expect("it is the user's");
            assert_eq!((place.0.as_str(), place.1), ("In[3]", 1));
        }
    }

    #[test]
    fn a_store_line_is_known_by_its_variable() {
        let mut source = Source::default();
        source.slot("x", "put(x);");
        let json = serde_json::json!({"message": "use of moved value", "level": "error",
            "code": {"code": "E0382"}, "spans": [span(4, 5, None)]});
        let book = Book { file: "leaf.rs", label: "In[1]", text: "", map: &source.map };
        assert_eq!(slot_of(&message(json), &[book]), Some(("x".into(), None)));
    }
}
