//! Borrows that would outlive their cell, in the user's terms: which variable keeps one, or which
//! call asks for what lives for ever, and what to write instead.

use annotate_snippets::{AnnotationKind, Group, Level, Snippet};

use super::diagnostic::{Diagnostic, Severity, draw};
use super::keeper::{Kept, kept, mentioned};
use super::map::line_column;
use super::place::{Book, Placed, place, same, slot_at};
use super::rustc_json::{Message, Span};

/// Codes by which rustc says that a borrow does not live as long as a slot.
const CODES: [&str; 8] = ["E0597", "E0716", "E0521", "E0505", "E0515", "E0373", "E0503", "E0506"];

/// What borrows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Borrower {
    Closure,
    /// A closure that changes what it borrows, or may: it was declared as `mut`.
    Changing,
    Future,
    /// A variable of an earlier cell that is given a reference.
    Holder,
    Other,
}

impl Borrower {
    /// Of an expression, by how it begins.
    fn of(value: &str, is_mutable: bool) -> Self {
        match value {
            _ if value
                .strip_prefix("async")
                .is_some_and(|rest| rest.starts_with([' ', '\n', '{'])) =>
            {
                Self::Future
            }
            _ if value.starts_with('|') && is_mutable => Self::Changing,
            _ if value.starts_with('|') => Self::Closure,
            _ => Self::Other,
        }
    }

    /// How to keep something else than a reference that ends with its cell.
    fn remedies(self) -> Vec<&'static str> {
        let inside = "or use the reference only inside this cell: put the lines in `{ .. }`";
        match self {
            Self::Changing => vec![
                "use the closure only inside this cell: put the lines in `{ .. }`",
                "or share what it changes: an `Rc<Cell<_>>` or `Rc<RefCell<_>>`, of which a `move` \
                 closure owns a `.clone()`",
                "or write a function that is given it: `fn change(it: &mut ..) { .. }`",
            ],
            Self::Closure => vec![MOVE, inside, FOREVER],
            Self::Future => vec![ASYNC_MOVE, inside, FOREVER],
            Self::Holder => vec![
                "let it own what it is given, as a `Vec<String>` does and a `Vec<&str>` does not: \
                 `.clone()`, `.to_owned()`, `.to_string()`",
                "or use it in one cell only: put the lines, with its `let`, in `{ .. }`",
                FOREVER,
            ],
            Self::Other => vec![
                "keep an owned value instead: `.clone()`, `.to_owned()`, `.to_vec()`, an index, or \
                 an `Rc`",
                inside,
                FOREVER,
            ],
        }
    }
}

const MOVE: &str = "write `move` before the closure's `|..|`, so that it owns what it uses (a \
                    `.clone()` of it, where it is needed afterwards)";
const ASYNC_MOVE: &str = "write `async move { .. }`, so that it owns what it uses (a `.clone()` of \
                          it, where it is needed afterwards)";
const FOREVER: &str =
    "or let the value live forever: `let r: &'static _ = Box::leak(Box::new(value));`";

/// A variable of the cell borrows from something that ends with the cell, or something is asked for
/// that does not end.
pub(super) fn outlived(
    message: &Message,
    code: Option<&str>,
    books: &[Book<'_>],
) -> Option<Diagnostic> {
    let code = code.filter(|code| CODES.contains(code))?;
    let borrowed = message.spans.iter().find_map(|span| place(span, books))?;
    let (book, text) = (borrowed.book, borrowed.book.text);
    let primary = message.spans.iter().find(|span| span.is_primary);
    let primary = primary.and_then(|span| place(span, books)).map(|at| at.range.start);
    let begins = primary.unwrap_or(borrowed.range.start).min(borrowed.range.start);
    let declared = declared(&book, begins);
    let notes = message.children.iter().flat_map(|child| &child.spans);
    let slots = message.spans.iter().chain(notes).filter_map(|span| slot_at(span, books));
    let names: Vec<String> = slots.map(|(name, _)| name).collect();
    let value = declared.as_ref().map_or("", |declared| declared.value);
    // Of a future that is declared here, rustc does not say that it is stored.
    let is_declared = code == "E0373" && declared.is_some() && value.is_empty();
    if names.is_empty() && !is_declared {
        return None;
    }
    let stored = declared.iter().flat_map(|declared| &declared.names);
    let keeper = stored.clone().find(|name| names.contains(name));
    if let (None, false, Some(asking)) = (keeper, is_declared, asking(message, books)) {
        return asked(message, code, &borrowed, &asking);
    }
    let owner = message.message.split('`').nth(1);
    let is_other = |name: &&String| Some(name.as_str()) != owner;
    let name = keeper.or_else(|| stored.clone().next());
    let name = name.or_else(|| names.iter().find(is_other)).or(names.first())?;
    if let Some((name, kept)) = captured(message, owner, &book, books) {
        let borrower = match kept.is_declared {
            true => Borrower::of(&text[kept.value], kept.is_mutable),
            false => Borrower::Holder,
        };
        let code = if code == "E0373" && borrower == Borrower::Holder { "E0597" } else { code };
        return Some(keeps(code, &name, &Placed { book, range: kept.at }, borrower));
    }
    let from = if value.is_empty() { &text[begins..] } else { value };
    let is_mutable = declared.as_ref().is_some_and(|declared| declared.is_mutable);
    let borrower = match Borrower::of(from, is_mutable) {
        Borrower::Other if code == "E0373" => Borrower::Closure,
        borrower => borrower,
    };
    Some(keeps(code, name, &borrowed, borrower))
}

/// Where rustc tells of what our closure around the cell captures: which variable keeps it, and
/// since where. The first use, that it tells of, need not be the one that lasts.
fn captured(
    message: &Message,
    owner: Option<&str>,
    book: &Book<'_>,
    books: &[Book<'_>],
) -> Option<(String, Kept)> {
    let is_ours = |span: &&Span| span.file_name == book.file && place(span, books).is_none();
    let told = |span: &Span| {
        let label = span.label.as_deref().unwrap_or_default();
        label.starts_with("value captured here") || label.starts_with("may outlive borrowed value")
    };
    message.spans.iter().filter(is_ours).find(|span| told(span))?;
    // `*a` and `a.name` are of `a`.
    let owner = owner?.trim_start_matches('*').split(['.', '[']).next()?;
    let asks = |span: &&Span| {
        span.label.as_deref().is_some_and(|label| label.starts_with("argument requires"))
    };
    let notes = message.children.iter().flat_map(|child| &child.spans);
    let asking = message.spans.iter().filter(asks).chain(notes);
    let mut keepers = asking.filter_map(|span| slot_at(span, books)).map(|(name, _)| name);
    let keeper = keepers.find(|name| name != owner)?;
    let kept = kept(book.text, &keeper, owner)?;
    Some((keeper, kept))
}

/// Says that a variable keeps a reference from here on.
fn keeps(code: &str, name: &str, borrowed: &Placed<'_>, borrower: Borrower) -> Diagnostic {
    let (book, text) = (borrowed.book, borrowed.book.text);
    let (line, column) = line_column(text, borrowed.range.start);
    let title = format!("`{name}` keeps a reference, and no reference outlives its cell");
    let label = format!("`{name}` would go on borrowing from here");
    let main = Level::ERROR.primary_title(title.clone()).id(code.to_owned()).element(
        Snippet::source(text)
            .path(book.label)
            .annotation(AnnotationKind::Primary.span(borrowed.range.clone()).label(label)),
    );
    let place = Some((book.label.to_owned(), line, column));
    let groups = with_helps(main, borrower.remedies());
    draw(Severity::Error, Some(code.to_owned()), title, place, &groups)
}

/// Where a call of the user's asks for what lives for ever.
fn asking<'a>(message: &Message, books: &[Book<'a>]) -> Option<Placed<'a>> {
    let asks = |label: &str| {
        label.starts_with("argument requires") || label.contains("must outlive `'static`")
    };
    let spans = message.spans.iter().filter(|span| span.label.as_deref().is_some_and(asks));
    spans.filter(|span| slot_at(span, books).is_none()).find_map(|span| place(span, books))
}

/// Nothing keeps the reference but what is called.
fn asked(
    message: &Message,
    code: &str,
    borrowed: &Placed<'_>,
    asking: &Placed<'_>,
) -> Option<Diagnostic> {
    let name = message.message.split('`').nth(1)?;
    let (book, text) = (borrowed.book, borrowed.book.text);
    // The first use, that rustc tells of, need not be the one in the call.
    let is_within = asking.range.start <= borrowed.range.start
        && borrowed.range.start < asking.range.end
        && same(&asking.book, &book);
    let within = Some(&asking.range).filter(|_| same(&asking.book, &book) && !is_within);
    let at = within.and_then(|range| mentioned(text, range, name));
    let at = at.unwrap_or_else(|| borrowed.range.clone());
    let title = format!("`{name}` is only borrowed here, and this call asks for `'static`");
    let (line, column) = line_column(text, at.start);
    let borrowing = format!("`{name}` is borrowed here");
    let main = Level::ERROR.primary_title(title.clone()).id(code.to_owned()).element(
        Snippet::source(text).path(book.label).annotations([
            AnnotationKind::Primary.span(at.clone()).label(borrowing),
            AnnotationKind::Context.span(asking.range.clone()).label("what it is given may stay"),
        ]),
    );
    let call = text.get(asking.range.start..at.start).unwrap_or_default();
    let first = match call {
        _ if call.contains("async") => ASYNC_MOVE,
        _ if call.contains('|') => MOVE,
        _ => "hand over a value of its own: `.clone()`, `.to_owned()`, `.to_vec()`",
    };
    let scoped = call.contains("spawn(").then_some(
        "or let the thread end with the cell: `std::thread::scope(|s| { s.spawn(|| ..); });`",
    );
    let helps = [Some(first), scoped, Some(FOREVER)].into_iter().flatten();
    let place = Some((book.label.to_owned(), line, column));
    let groups = with_helps(main, helps);
    Some(draw(Severity::Error, Some(code.to_owned()), title, place, &groups))
}

fn with_helps<'a>(main: Group<'a>, helps: impl IntoIterator<Item = &'a str>) -> Vec<Group<'a>> {
    let helps = helps.into_iter();
    let helps = helps.map(|help| Group::with_level(Level::HELP).element(Level::HELP.message(help)));
    std::iter::once(main).chain(helps).collect()
}

/// A `let` of the cell that declares variables which are stored.
struct Declared<'a> {
    names: Vec<String>,
    is_mutable: bool,
    /// What is given to them, up to the place in question.
    value: &'a str,
}

/// Whether a proposal of rustc's would make a variable keep a reference.
pub(super) fn is_to_borrow(child: &Message, books: &[Book<'_>]) -> bool {
    let mut spans = child.spans.iter().filter(|span| span.suggested_replacement.is_some());
    child.message.starts_with("consider borrowing")
        && spans.any(|span| {
            place(span, books).is_some_and(|at| {
                declared(&at.book, at.range.start).is_some_and(|declared| declared.value.is_empty())
            })
        })
}

/// The `let` that a place is in.
fn declared<'a>(book: &Book<'a>, at: usize) -> Option<Declared<'a>> {
    let before = &book.text[..at];
    before.rmatch_indices("let ").find_map(|(start, word)| {
        let (pattern, value) = before[start + word.len()..].split_once('=')?;
        let is_in_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let words = pattern.split(|letter| !is_in_name(letter));
        let names: Vec<String> =
            words.filter(|word| book.map.stores(word)).map(str::to_owned).collect();
        let is_mutable = pattern.trim_start().starts_with("mut ");
        let value = value.trim_start();
        (!names.is_empty() && !has_ended(value)).then_some(Declared { names, is_mutable, value })
    })
}

/// Whether a statement ends in a text.
fn has_ended(text: &str) -> bool {
    let mut depth = 0_i32;
    text.chars().any(|letter| {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => (),
        }
        letter == ';' && depth <= 0
    })
}
