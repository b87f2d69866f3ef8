//! What the user is told of a cell's items that have changed those of earlier cells.

use std::collections::BTreeSet;

use super::blame::Breaks;
use crate::cell::Namespace;
use crate::cell::diagnostic::{self, Diagnostic, Severity};
use crate::cell::item::Role;
use crate::cell::items::{Advance, Broken, Item, ItemId, Items};
use crate::cell::namespace::{Kind, unit_paths};

/// What an earlier item goes on with.
fn names(next: &Advance, item: &Item) -> String {
    let same = |each: &&Item| {
        each.sheet == item.sheet && each.piece.range == item.piece.range && !each.pins.is_empty()
    };
    let pinned = next.items.all.values().find(same);
    let names: Vec<String> = pinned.iter().flat_map(|item| next.items.kept(item)).collect();
    if names.is_empty() { "definitions".to_owned() } else { names.join(", ") }
}

/// Whether it is news that an earlier item goes on with what it knew, or is left out.
fn is_news(
    old: &Items,
    next: &Advance,
    defined: &BTreeSet<&str>,
    id: ItemId,
    broken: &Broken,
) -> bool {
    let was = &old.all[&id];
    let was_told = was.withheld && *broken == Broken::Withheld;
    // It was tried in vain with something else than what it keeps.
    let is_anew = |(name, ids): (&String, &Vec<ItemId>)| {
        defined.contains(name.as_str())
            || ids.iter().any(|past| next.items.has_anew(old, next.sheet, *past))
    };
    // So it has where it goes on with less of that than before.
    let goes_on = |is: &Item| {
        let mut pins = is.pins.iter();
        pins.all(|(name, ids)| was.pins.get(name) == Some(ids)) && !is.withheld
    };
    let is_as_before = !was.pins.is_empty()
        && next.items.all.get(&id).is_some_and(|is| goes_on(is) && !is.pins.iter().any(is_anew));
    !was.retired && !was_told && !is_as_before
}

/// What the user is told of a change: who could not follow it, which values are of an older
/// definition, which statics start again.
pub(super) fn told(
    old: &Items,
    next: &Advance,
    breaks: &Breaks,
    namespace: &Namespace,
) -> Vec<Diagnostic> {
    let mut told = Vec::new();
    let defined: BTreeSet<&str> = new_names(next).collect();
    for (id, (broken, why)) in breaks {
        if !is_news(old, next, &defined, *id, broken) {
            continue;
        }
        let item = &old.all[id];
        let (title, cell) = (item.title(), &old.sheets[&item.sheet].label);
        told.push(match broken {
            Broken::Withheld => warn(
                "left_out",
                format!("`{title}` ({cell}) does not compile with this any more: {why}"),
                "it is left out until it does: change it and run its cell again",
            ),
            _ => warn(
                "kept_old",
                format!(
                    "`{title}` ({cell}) does not compile with this: {why}. It goes on with the old \
                     {}",
                    names(next, item)
                ),
                "change it and run its cell again",
            ),
        });
    }
    for (id, name) in next.orphans.iter().filter(|(id, _)| !breaks.contains_key(id)) {
        let item = &old.all[id];
        let (title, cell) = (item.title(), &old.sheets[&item.sheet].label);
        let message = format!(
            "`{title}` ({cell}) uses `{name}`, which no cell defines any more: it goes on with the \
             old one"
        );
        told.push(warn("kept_old", message, "change it and run its cell again"));
    }
    for (name, variable) in &namespace.variables {
        let paths = unit_paths(&variable.type_text);
        let is_old = |items: &Items| {
            paths.iter().find(|(unit, path)| items.is_retired(unit, path)).map(|(_, path)| path)
        };
        if let (Some(path), None) = (is_old(&next.items), is_old(old)) {
            let message = format!("`{name}` ({}) is of the old `{path}`", variable.cell);
            let help = "it can still be shown, moved and dropped, but is not of the new type";
            told.push(warn("old_type", message, help));
        }
    }
    for (name, variable) in &namespace.variables {
        let paths = unit_paths(&variable.type_text);
        let now = paths.iter().find(|(unit, of)| next.items.is_left_out(unit, of));
        if let Some((_, of)) = now.filter(|(unit, of)| !old.is_left_out(unit, of)) {
            let message = format!("`{name}` ({}) is of `{of}`, which is left out", variable.cell);
            told.push(warn("left_out", message, "it is there again when that compiles"));
        }
    }
    told.extend(statics(old, next));
    told.extend(modules(old, next));
    told.extend(kept_by_statics(old, next));
    told.extend(made_before(old, next));
    told
}

/// The names that the new cell gives.
fn new_names(next: &Advance) -> impl Iterator<Item = &str> {
    let new = next.items.all.values().filter(|item| item.sheet == next.sheet);
    new.flat_map(|item| &item.piece.provides).map(|provided| provided.name.as_str())
}

fn warn(code: &str, message: String, help: &str) -> Diagnostic {
    diagnostic::own(Severity::Warning, code, message, help, None)
}

/// Which statics start again.
fn statics<'a>(old: &'a Items, next: &'a Advance) -> impl Iterator<Item = Diagnostic> + 'a {
    next.reset.iter().filter_map(move |id| {
        let item = &next.items.all[id];
        let before = next.items.written_before(old, *id)?;
        let file = |items: &Items, item: &Item| items.unit(&item.unit).map(|it| it.file.clone());
        if file(old, before) == file(&next.items, item) {
            return None;
        }
        let (title, cell) = (item.title(), &next.items.sheets[&item.sheet].label);
        let is_in_place = before.unit == item.unit;
        let (message, help) = match (item.piece.role == Role::Static, is_in_place) {
            (true, true) => (
                format!("the static `{title}` ({cell}) starts again: its crate is built anew"),
                "in a cell of its own, apart from methods that use it, it keeps its value",
            ),
            (true, false) => (
                format!(
                    "the static `{title}` ({cell}) starts again: what it is made of was changed"
                ),
                "",
            ),
            (false, _) => (
                format!("the statics in `{title}` ({cell}) start again: its crate is built anew"),
                "",
            ),
        };
        Some(warn("static_reset", message, help))
    })
}

/// Modules that are defined anew, with the statics in them.
fn modules<'a>(old: &'a Items, next: &'a Advance) -> impl Iterator<Item = Diagnostic> + 'a {
    let is_module = |item: &&Item| {
        item.piece.has_statics && item.piece.provides.iter().any(|it| it.kind == Kind::Module)
    };
    let new = next.items.all.values().filter(|item| item.sheet == next.sheet);
    new.filter(is_module).filter_map(move |item| {
        let name = item.piece.provides.first()?.name.as_str();
        let before = old.current(name).into_iter().map(|id| &old.all[&id]);
        let before = before.filter(is_module).find(|before| before.unit != item.unit)?;
        let cell = &old.sheets[&before.sheet].label;
        let message =
            format!("the statics in `{name}` ({cell}) start again: the module is defined anew");
        Some(warn("static_reset", message, "at the top of a cell, a static keeps its value"))
    })
}

/// Items that a call of a macro made before the cell defines that anew: they are what they were.
fn made_before(old: &Items, next: &Advance) -> Vec<Diagnostic> {
    let new = next.items.all.values().filter(|item| item.sheet == next.sheet);
    let new = new.flat_map(|item| &item.piece.provides).filter(|it| it.kind == Kind::Macro);
    let mut told = Vec::new();
    for name in new.map(|provided| provided.name.as_str()) {
        if old.current(name).is_empty() {
            continue;
        }
        let made = next.items.all.values().filter(|item| {
            let sheet = &next.items.sheets[&item.sheet];
            let at = item.piece.range.start;
            let call = sheet.made.iter().find(|made| made.range.contains(&at));
            let call = call.and_then(|made| sheet.text.get(made.call.clone()));
            item.is_current()
                && item.sheet != next.sheet
                && call
                    .and_then(|call| call.split_once('!'))
                    .is_some_and(|(of, _)| of.trim() == name)
        });
        let mut made: Vec<String> = made
            .filter(|item| !item.piece.provides.is_empty())
            .map(|item| format!("`{}` ({})", item.title(), next.items.sheets[&item.sheet].label))
            .collect();
        made.dedup();
        if !made.is_empty() {
            let stay = if made.len() == 1 { "stays" } else { "stay" };
            let message = format!("{} {stay} as the old `{name}!` made it", made.join(", "));
            told.push(warn("made_before", message, "run its cell again, and the new one makes it"));
        }
    }
    told
}

/// Statics that lead to what the cell defines anew, and were made with the old one.
fn kept_by_statics<'a>(old: &'a Items, next: &'a Advance) -> impl Iterator<Item = Diagnostic> + 'a {
    let defined: BTreeSet<&str> = new_names(next).collect();
    let statics = next.items.all.iter().filter(|(_, item)| {
        item.is_current() && item.piece.role == Role::Static && item.sheet != next.sheet
    });
    statics.filter_map(move |(id, item)| {
        let header = item.piece.provides.first()?.header.split('=').next()?;
        // Another value has been made already.
        let leads = ["&", "fn(", "dyn "].iter().any(|sign| header.contains(sign));
        let is_kept = |name: &&String| {
            let now = next.items.resolve(item, name);
            let is_old = now.iter().any(|id| next.items.all.get(id).is_some_and(|it| it.retired));
            is_old && defined.contains(name.as_str()) && old.all.contains_key(id)
        };
        let kept = item.pins.keys().filter(is_kept).map(|name| format!("`{name}`"));
        let kept: Vec<String> = kept.filter(|_| leads).collect();
        let (title, cell) = (item.title(), &next.items.sheets[&item.sheet].label);
        let message = format!(
            "the static `{title}` ({cell}), if it was used already, leads to the old {}",
            kept.join(", ")
        );
        let help = "run its cell again, and it begins with what is there then";
        (!kept.is_empty()).then(|| warn("kept_old", message, help))
    })
}
