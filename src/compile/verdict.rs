//! rustc's messages about a cell, judged: errors or warnings in the user's terms. Runs nothing.

use super::cell::{Cell, Compiler, Failed};
use super::remedies::{
    derivable, immutable, lost_import, of_boxed, of_old_callers, of_old_types, similar_name,
    unawaited, used_after,
};
use super::rustc::Call;
use crate::cell::diagnostic::{self, Book, Diagnostic, Severity};
use crate::cell::namespace::Kind;
use crate::cell::plan::CratePlan;
use crate::cell::plan::leaf::{HALF, NO_VALUE, Unkept};
use crate::cell::rustc_json::Message;
use crate::cell::{Items, Namespace};

/// Of a cell that is no sequence of statements: rustc may mend it and go on, but the cell's
/// variables are not there then, and it would miss them and what we write around values.
fn of_syntax(errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    // What has a number of another kind is about names and types; what strings and comments lack
    // has one from 748 to 768.
    let is_syntax = |error: &Diagnostic| {
        let number = error.code.as_deref().and_then(|code| code.strip_prefix('E')?.parse().ok());
        number.is_none_or(|number: u16| (748..=768).contains(&number) || number == 585)
    };
    if !errors.iter().any(is_syntax) {
        return errors;
    }
    let mut errors: Vec<Diagnostic> = errors.into_iter().filter(is_syntax).collect();
    for error in &mut errors {
        error.code.get_or_insert_with(|| "syntax".to_owned());
    }
    errors
}

impl Compiler {
    #[expect(clippy::too_many_arguments, reason = "what rustc said, and of what")]
    /// rustc's messages in the user's terms: errors as [`Failed`], else the warnings.
    pub(super) fn verdict(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        call: &Call,
        plan: &CratePlan,
        messages: &[Message],
        success: bool,
        unparsed: bool,
    ) -> Result<Vec<Diagnostic>, Failed> {
        let file = call.source.display().to_string();
        let own = Book { file: &file, label: cell.label, text: cell.text, map: &plan.source.map };
        let files = self.unit_files(&namespace.items);
        let mut books = vec![own];
        books.extend(unit_books(&namespace.items, &files));
        let messages: Vec<Message> = messages
            .iter()
            .filter(|message| !repeats(message, messages, own))
            .map(|message| of_left_out(message, namespace))
            .collect();
        let diagnostics = messages.iter().map(|message| diagnostic::translate(message, &books));
        let (errors, warnings): (Vec<_>, Vec<_>) =
            diagnostics.partition(|diagnostic| diagnostic.severity == Severity::Error);
        if success {
            return Ok(warnings.into_iter().filter(|warning| warning.place.is_some()).collect());
        }
        let errors = if unparsed { of_syntax(errors) } else { errors };
        if errors.is_empty() {
            let message = "the compiler failed without an error of its own".to_owned();
            let text: String = messages.iter().filter_map(|each| each.rendered.clone()).collect();
            return Err(Failed::Errors(vec![diagnostic::own(
                Severity::Error,
                "compiler",
                message,
                &text,
                None,
            )]));
        }
        let mut errors = distinct(errors, namespace);
        if let Some(error) = errors.iter_mut().find(|error| is_about_types(error)) {
            let notes = of_old_types(cell.text, namespace);
            let notes = notes.into_iter().chain(of_old_callers(cell.text, &namespace.items));
            notes.for_each(|note| error.note(&note));
        }
        for error in &mut errors {
            let note = of_boxed(error, cell.text, namespace);
            note.iter().for_each(|note| error.note(note));
        }
        Err(Failed::Errors(errors))
    }
}

/// A name that is none (`gen`) is told where the user wrote it, not again where ours stores it.
fn repeats(message: &Message, messages: &[Message], own: Book<'_>) -> bool {
    let is_error = |message: &&Message| message.level == "error" && message.code.is_none();
    let in_cell = |message: &Message| diagnostic::user_place(message, &[own]).is_some();
    is_error(&message)
        && diagnostic::slot_of(message, &[own]).is_some()
        && messages.iter().filter(is_error).any(in_cell)
}

/// Of a name that is left out, nothing similar is meant, and no crate.
fn of_left_out(message: &Message, namespace: &Namespace) -> Message {
    let mut message = message.clone();
    let name = message.message.split('`').nth(1).unwrap_or_default();
    if namespace.items.withheld(name).is_some() {
        let is_other = |text: &str| text.contains("similar name") || text.contains("a crate named");
        message.children.retain(|child| !is_other(&child.message));
        for span in &mut message.spans {
            span.label.take_if(|label| label.contains("unlinked crate"));
        }
    }
    message
}

/// Whether a type that was defined anew may be behind it; where rustc says so itself, no more is to
/// be said.
fn is_about_types(error: &Diagnostic) -> bool {
    let codes = ["E0277", "E0282", "E0308", "E0369", "E0560", "E0599", "E0609", "E0631"];
    let is_one = error.code.as_deref().is_some_and(|code| codes.contains(&code));
    is_one && !error.plain.contains("was defined anew")
}

impl Compiler {
    /// The generated source of each unit.
    pub(super) fn unit_files(&self, items: &Items) -> Vec<String> {
        let file = |unit: &crate::cell::Unit| self.source_file(&unit.file).display().to_string();
        items.units.iter().map(file).collect()
    }
}

/// Every cell's share of every unit.
pub(super) fn unit_books<'a>(items: &'a Items, files: &'a [String]) -> Vec<Book<'a>> {
    let units = items.units.iter().zip(files);
    let books = units.flat_map(|(unit, file)| {
        unit.parts.iter().map(|part| Book {
            file: file.as_str(),
            label: part.label.as_str(),
            text: part.text.as_str(),
            map: &part.map,
        })
    });
    books.collect()
}

/// The same, for places in all that items are read from: what macros made has some of its own.
pub(super) fn whole_books<'a>(items: &'a Items, files: &'a [String]) -> Vec<Book<'a>> {
    let units = items.units.iter().zip(files);
    let books = units.flat_map(|(unit, file)| {
        unit.parts.iter().filter_map(|part| {
            Some(Book {
                file: file.as_str(),
                label: part.label.as_str(),
                text: items.sheets.get(&part.sheet)?.text.as_str(),
                map: part.whole.as_ref().unwrap_or(&part.map),
            })
        })
    });
    books.collect()
}

/// One error per place and message, with a word about variables that an earlier cell moved away.
pub(super) fn distinct(errors: Vec<Diagnostic>, namespace: &Namespace) -> Vec<Diagnostic> {
    let mut kept: Vec<Diagnostic> = Vec::new();
    // A borrow that ends too early is told once, not again where the variable is put back.
    let cause = ["E0373", "E0597", "E0521"];
    let is_cause =
        |error: &Diagnostic| error.code.as_deref().is_some_and(|code| cause.contains(&code));
    let told = errors.iter().any(is_cause);
    for mut error in errors {
        let follows = match error.code.as_deref() {
            Some("E0505" | "E0506" | "E0503") => true,
            Some("E0499" | "E0502") => error.plain.contains("outlives `'static`"),
            _ => false,
        };
        if told && follows {
            continue;
        }
        if error.message.starts_with("erroneous constant") {
            continue;
        }
        // A check of ours that failed while the user's call was instantiated: its words, the user's
        // place.
        if error.message.starts_with("the above error was encountered while instantiating")
            && let Some(cause) = kept.pop_if(|cause| cause.place.is_none())
        {
            kept.push(error.with_words_of(&cause));
            continue;
        }
        let known =
            |other: &Diagnostic| other.place == error.place && other.message == error.message;
        if kept.iter().any(known) {
            continue;
        }
        let name = error.message.split('`').nth(1).unwrap_or_default().to_owned();
        let withheld = namespace.items.withheld(&name);
        if let Some(cell) = withheld {
            error.note(&format!(
                "`{name}` ({cell}) is left out since something it uses was changed: change it and \
                 run that cell again"
            ));
        }
        let missing = error.code.as_deref() == Some("E0425");
        let moved = namespace.moved.get(&name).filter(|_| missing);
        let note = moved.map(|moved| moved.told(&name));
        // Statements see it: the place is in an item.
        let variable = namespace.variables.get(&name).filter(|_| missing);
        let note = note.or(variable.map(|variable| {
            format!(
                "`{name}` is a variable, of {}, and items see no variables: hand it over \
                 as an argument, or make it a `const` or a `static`",
                variable.cell
            )
        }));
        let note = note.or_else(|| lost_import(&error, namespace));
        let note = note.or_else(|| immutable(&error, namespace));
        let note = note.or_else(|| derivable(&error, namespace));
        let similar = || similar_name(&error, namespace).filter(|_| withheld.is_none());
        let note = note.or_else(similar);
        let note = note.or_else(|| used_after(&error, namespace));
        let note = note.or_else(|| unawaited(&error));
        if let Some(note) = note {
            error.note(&note);
        }
        kept.push(error);
    }
    // An error in lines of ours follows from one in the user's.
    if kept.iter().any(|error| error.place.is_some()) {
        kept.retain(|error| error.place.is_some());
    }
    kept
}

/// A function of the session that a type is declared in, and the type's name.
pub(super) fn inside_function(type_text: &str, items: &Items) -> Option<(String, String)> {
    let is_function = |name: &str| {
        let provides =
            items.current(name).into_iter().flat_map(|id| &items.all[&id].piece.provides);
        provides.into_iter().any(|it| it.name == name && it.kind == Kind::Function)
    };
    let is_path = |letter: char| letter.is_alphanumeric() || "_:#".contains(letter);
    type_text.split(|letter: char| !is_path(letter)).find_map(|path| {
        let mut parts = path.split("::");
        let function = parts.nth(1).filter(|_| path.starts_with("unit_"))?;
        let name = parts.last()?;
        is_function(function).then(|| (function.to_owned(), name.to_owned()))
    })
}

/// Says at the place of the `let` that its variable ends with the cell, and what to write instead.
pub(super) fn unkept_warning(
    unkept: &Unkept,
    inside: Option<(String, String)>,
    at: Option<(Book<'_>, std::ops::Range<usize>)>,
) -> Diagnostic {
    let Unkept { name, why, .. } = unkept;
    let is_private = why.contains("private");
    let (message, help) = match inside.filter(|_| is_private) {
        Some((function, of)) => (
            format!("`{name}` is not kept: it is of `{of}`, which is declared inside `{function}`"),
            format!(
                "declare `{of}` at the top level of a cell, outside of `{function}`; or keep what \
                 it gives: its text, its items, a `Box<dyn ..>`"
            ),
        ),
        None if is_private || [NO_VALUE, HALF].contains(why) => {
            (format!("`{name}` is not kept: it is {why}"), by_hand(unkept))
        }
        None => (
            format!("`{name}` is not kept: it is {why}, whose type no later cell can write"),
            by_hand(unkept),
        ),
    };
    diagnostic::own(Severity::Warning, "not_kept", message, &help, at)
}

/// What to write so that a variable is kept.
fn by_hand(unkept: &Unkept) -> String {
    let Unkept { name, mutable, why, by_hand } = unkept;
    let pattern = if *mutable { format!("mut {name}") } else { name.clone() };
    match by_hand {
        None if *why == NO_VALUE => format!("give it one: `let {pattern} = ..;`"),
        None if *why == HALF => {
            format!("give it one on every way, or move `{name}.clone()` away, where it has that")
        }
        Some(type_text) if type_text.contains("dyn ") => {
            format!("write `let {pattern}: {type_text} = ..;`, with the closure in `Box::new(..)`")
        }
        Some(type_text) => format!("write `let {pattern}: {type_text} = ..;`"),
        None if why.contains("inside a block") => {
            "declare the type at the top level of a cell, and the variable can stay".to_owned()
        }
        None if why.contains("several arguments") => format!(
            "write a function with named lifetimes, \
             `fn {name}<'a>(first: &'a str, second: &str) -> &'a str {{ .. }}`"
        ),
        None if why.contains("private") => {
            "make the type `pub`, or keep what it gives: its text, its items, a `Box<dyn ..>`"
                .into()
        }
        None if *why == "an async closure" => {
            format!("write a function, which stays: `async fn {name}(..) -> .. {{ .. }}`")
        }
        None if *why == "a future" => {
            format!("`.await` it in this cell, or keep its result: `let {pattern} = ..await;`")
        }
        None if why.contains("closure") || why.contains("function") => format!(
            "keep what it gives, or box it: `let {pattern}: Box<dyn Fn(A) -> B> = Box::new(..);`, \
             with the types that it takes and gives for `A` and `B`"
        ),
        None => format!(
            "keep what it gives, or box it by a trait that it has: `let {pattern}: \
             Box<dyn std::fmt::Debug> = Box::new(..);`, say"
        ),
    }
}
