//! What to do about an error, where the session knows more than rustc: what earlier cells have
//! declared, moved or defined anew. Text and namespace in, text out.

use crate::cell::diagnostic::Diagnostic;
use crate::cell::items::Item;
use crate::cell::mentions::mentions_of_text;
use crate::cell::namespace::{Kind, unit_paths};
use crate::cell::similar::similar;
use crate::cell::{Items, Namespace};

/// What a variable cannot do in the box that it is kept in.
pub(super) fn of_boxed(error: &Diagnostic, text: &str, namespace: &Namespace) -> Option<String> {
    error.code.as_deref().filter(|code| ["E0277", "E0507", "E0599"].contains(code))?;
    let words = mentions_of_text(text);
    let says = |word: &str| error.message.contains(word);
    let mut named = namespace.variables.iter().filter(|(name, _)| words.contains(*name));
    named.find_map(|(name, variable)| {
        let cell = &variable.cell;
        let is_captured = says(&format!("`{name}`, a captured variable"));
        if variable.is_boxed_closure() && (is_captured || (says("dyn ") && says("Fn"))) {
            let note = format!("`{name}` ({cell}) is a closure kept in a box: `&{name}` lends it");
            return Some(note);
        }
        let is_of_it = says("dyn ") && says("Iterator<Item");
        (variable.is_boxed_iterator() && is_of_it).then(|| {
            format!(
                "`{name}` ({cell}) is kept in a box, as an iterator and no more: do this in the \
                 cell that makes it, or `.collect()` it there"
            )
        })
    })
}

/// Which variables that a cell names are of older definitions.
pub(super) fn of_old_types(text: &str, namespace: &Namespace) -> Option<String> {
    let words = mentions_of_text(text);
    let named = namespace.variables.iter().filter(|(name, _)| words.contains(*name));
    let old = named.filter_map(|(name, variable)| {
        let paths = unit_paths(&variable.type_text);
        let mut old = paths.iter().filter(|(unit, of)| namespace.items.is_retired(unit, of));
        let (_, of) = old.next()?;
        Some(format!("`{name}` ({}) is of the old `{of}`", variable.cell))
    });
    let old: Vec<String> = old.collect();
    (!old.is_empty())
        .then(|| format!("{}: run its cell again, and what has changed since fits", old.join(", ")))
}

/// Which functions that a cell names go on with older definitions.
pub(super) fn of_old_callers(text: &str, items: &Items) -> Option<String> {
    let words = mentions_of_text(text);
    let named = words.iter().flat_map(|word| items.current(word)).map(|id| &items.all[&id]);
    let kept = named.filter_map(|item| {
        let kept = items.kept(item);
        let label = &items.sheets[&item.sheet].label;
        let told = format!("`{}` ({label}) goes on with the old {}", item.title(), kept.join(", "));
        (!kept.is_empty()).then_some(told)
    });
    let kept: Vec<String> = kept.collect();
    (!kept.is_empty()).then(|| {
        format!("{}: change it, run its cell again, and it takes the new", kept.join("; "))
    })
}

/// That an import of an earlier cell leads nowhere any more.
pub(super) fn lost_import(error: &Diagnostic, namespace: &Namespace) -> Option<String> {
    let codes = ["E0405", "E0412", "E0422", "E0423", "E0425", "E0432", "E0433"];
    error.code.as_deref().filter(|code| codes.contains(code))?;
    let name = error.message.split('`').nth(1)?;
    let lost = namespace.imports_lost.get(name)?;
    Some(format!("`{lost}` of an earlier cell leads nowhere now: import it anew"))
}

/// A name of an earlier cell that may be meant: to rustc, these are not in scope unless they are
/// said.
pub(super) fn similar_name(error: &Diagnostic, namespace: &Namespace) -> Option<String> {
    let rest = error.message.strip_prefix("cannot find ")?;
    let (kind, rest) = rest.split_once(" `")?;
    let word = rest.split_once("` in this scope").map(|(word, _)| word)?;
    if error.plain.contains("similar name") {
        return None;
    }
    let items = namespace.items.all.values().filter(|item| item.is_current());
    let cell = |item: &Item| namespace.items.sheets[&item.sheet].label.clone();
    let variant = |item: &&Item| {
        item.piece.modules.is_empty()
            && item.piece.globbed.as_ref().is_some_and(|names| names.contains(word))
    };
    if let Some((of, item)) =
        items.clone().find(variant).and_then(|it| Some((it.names().next()?, it)))
        && kind != "macro"
    {
        let cell = cell(item);
        return Some(format!("`{of}` ({cell}) has a variant of this name: write `{of}::{word}`"));
    }
    let items = items.flat_map(|item| item.piece.provides.iter().map(move |it| (it, item)));
    let of_kind = items.filter(|(it, _)| (it.kind == Kind::Macro) == (kind == "macro"));
    let named = of_kind.map(|(it, item)| (it.name.clone(), cell(item)));
    let variables = namespace.variables.iter().filter(|_| kind != "macro");
    let variables = variables.map(|(name, variable)| (name.clone(), variable.cell.clone()));
    let (name, cell) = similar(word, named.chain(variables))?;
    Some(format!("`{name}` ({cell}) has a similar name"))
}

/// A cell awaits at its top level, where rustc sees a function that does not.
pub(super) fn unawaited(error: &Diagnostic) -> Option<String> {
    let is_one = error.plain.contains("found future") && !error.plain.contains("await");
    (error.code.as_deref() == Some("E0308") && is_one)
        .then(|| "a future is no value yet: `.await` behind it gives that".to_owned())
}

/// How a variable of an earlier cell is used after it was moved.
pub(super) fn used_after(error: &Diagnostic, namespace: &Namespace) -> Option<String> {
    error.code.as_deref().filter(|code| *code == "E0382")?;
    let name = error.message.split('`').nth(1)?;
    let is_earlier = namespace.variables.contains_key(name) && !error.plain.contains(".clone()");
    is_earlier.then(|| format!("`{name}.clone()` in its place keeps it, where its type has that"))
}

/// How a variable of an earlier cell is made one that can be changed.
pub(super) fn immutable(error: &Diagnostic, namespace: &Namespace) -> Option<String> {
    error.code.as_deref().filter(|code| ["E0594", "E0596"].contains(code))?;
    // Where rustc's proposal has a place in the cell, it is the cell's own.
    let is_own = error.plain.contains("consider changing this to be mutable");
    if is_own || !error.message.ends_with("not declared as mutable") {
        return None;
    }
    let name = error.message.split('`').nth(1)?;
    let cell = &namespace.variables.get(name).filter(|known| !known.mutable)?.cell;
    Some(format!(
        "`{name}` is of {cell}: write `let mut {name}` there, or here `let mut {name} = {name};`"
    ))
}

/// The trait that an operator, or a method, is of; and that can be derived.
const DERIVABLE: [(&str, &str); 18] = [
    ("==", "PartialEq"),
    ("!=", "PartialEq"),
    ("<", "PartialOrd"),
    (">", "PartialOrd"),
    ("<=", "PartialOrd"),
    (">=", "PartialOrd"),
    ("clone", "Clone"),
    ("cmp", "Ord"),
    ("partial_cmp", "PartialOrd"),
    ("default", "Default"),
    ("Clone", "Clone"),
    ("Debug", "Debug"),
    ("Default", "Default"),
    ("Eq", "Eq"),
    ("Hash", "Hash"),
    ("Ord", "Ord"),
    ("PartialEq", "PartialEq"),
    ("PartialOrd", "PartialOrd"),
];

/// What the user's own type lacks and can derive: to rustc, a type of an earlier cell is foreign.
pub(super) fn derivable(error: &Diagnostic, namespace: &Namespace) -> Option<String> {
    error.code.as_deref().filter(|code| ["E0277", "E0369", "E0599"].contains(code))?;
    let parts: Vec<&str> = error.message.split('`').collect();
    let (lacking, of) = match (error.message.as_str(), parts.as_slice()) {
        (text, [_, bound, ..]) if text.contains("trait bound") => {
            let (of, lacking) = bound.split_once(": ")?;
            (lacking.rsplit("::").next()?, of)
        }
        (text, [_, of, _, lacking, ..]) if text.contains("doesn't implement") => {
            (lacking.rsplit("::").next()?, *of)
        }
        (_, [_, lacking, _, of, ..]) => (*lacking, *of),
        _ => return None,
    };
    let (_, derived) = DERIVABLE.iter().find(|(name, _)| *name == lacking)?;
    let of = of.trim_start_matches('&').split('<').next()?;
    let (piece, _) = namespace.items.texts(of).next()?;
    let header = &piece.provides.first()?.header;
    let is_type = ["struct ", "enum "].iter().any(|word| header.contains(word));
    let cell = namespace.items.cell_of(of).filter(|_| is_type)?;
    Some(format!("`#[derive({derived})]` before `{of}`, in {cell}, gives it that"))
}
