//! What crates are called: by what their types are, so that equal names mean equal types, on every
//! engine and in every notebook.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::subjects;
use super::group::{RENEWED, in_order, is_provisional};
use super::{Item, ItemId, Items};
use crate::cell::item::Role;
use crate::cell::namespace::digest;

/// Names the crates that have none yet, oldest first. An item that would stand under a path that
/// once was something else is to be renewed.
pub(super) fn name_new_units(items: &mut Items, old: &Items) -> Result<(), BTreeSet<ItemId>> {
    // Where no type or static is new, nothing can be mistaken for another.
    let is_new = |id: &ItemId| !old.all.contains_key(id) && items.all[id].piece.has_identity();
    let order: Vec<(String, Vec<ItemId>)> = in_order(items)
        .into_iter()
        .filter(|unit| is_provisional(&unit.name) || unit.items.iter().any(is_new))
        .map(|unit| (unit.name, unit.items))
        .collect();
    for (unit, members) in order {
        let mut name = unit.clone();
        if is_provisional(&unit) {
            // What was renewed must never be taken for what it was.
            let mut salt = if unit.starts_with(RENEWED) { items.next } else { 0 };
            name = name_of(items, &members, salt);
            while is_taken(items, &name, &members)
                || has_begun(items, &name, &members)
                || items.all.values().any(|i| i.unit == name)
            {
                salt += 1;
                name = name_of(items, &members, salt);
            }
            for id in &members {
                items.all.get_mut(id).expect("it is a member").unit.clone_from(&name);
            }
        } else if clashes(items, &unit, &members) {
            return Err(members.into_iter().filter(|id| items.all[id].is_current()).collect());
        }
        for (path, shape) in shapes(items, &name, &members) {
            items.shapes.insert(path, shape);
        }
    }
    Ok(())
}

fn name_of(items: &Items, members: &[ItemId], salt: u64) -> String {
    let with_identity: Vec<&Item> =
        members.iter().map(|id| &items.all[id]).filter(|item| item.piece.has_identity()).collect();
    let parts: Vec<String> = if with_identity.is_empty() {
        members.iter().map(|id| items.says(&items.all[id])).collect()
    } else {
        with_identity.iter().map(|item| shape(items, item)).collect()
    };
    let salt = salt.to_string();
    let parts = parts.iter().map(String::as_str).chain(std::iter::once(salt.as_str()));
    format!("unit_{}", digest(parts))
}

/// A hash of what an item is: its text and what the names in it mean.
fn shape(items: &Items, item: &Item) -> String {
    shape_within(items, &item.unit, item, &mut BTreeSet::new())
}

/// `home` is the crate that is being named; `open` are the items on the way here: a cycle's text is
/// hashed once.
fn shape_within(items: &Items, home: &str, item: &Item, open: &mut BTreeSet<ItemId>) -> String {
    let mut parts: Vec<String> = vec![item.piece.shape.clone().unwrap_or_default()];
    parts.push(items.read_from(item).to_owned());
    let mut imports: Vec<&str> = items.imports_of(item, &item.piece.words).collect();
    imports.sort_unstable();
    imports.dedup();
    parts.extend(imports.into_iter().map(str::to_owned));
    for name in &item.refs {
        for id in items.resolve(item, name) {
            let target = &items.all[&id];
            if target.piece.shape.is_none() || !open.insert(id) {
                continue;
            }
            // At home, the text says it; elsewhere, the crate's name, wherever what leads there
            // (an alias, say) stands.
            parts.push(if target.piece.has_identity() && target.unit != home {
                format!("{}::{name}", target.unit)
            } else {
                shape_within(items, home, target, open)
            });
            parts.extend(impls_text(items, id));
        }
    }
    digest(parts.iter().map(String::as_str))
}

/// The constants and types that impls give an item.
fn impls_text(items: &Items, id: ItemId) -> Vec<String> {
    let is_past = items.all[&id].retired;
    let mut texts = Vec::new();
    for item in items.all.values().filter(|item| item.retired == is_past) {
        let Role::Impl(role) = &item.piece.role else { continue };
        if role.deciding_words.is_empty() || !subjects(items, item).contains(&id) {
            continue;
        }
        let text = &items.sheets[&item.sheet].text;
        let is_in = |name: &String| role.deciding.contains(name) && !item.dropped.contains(name);
        let members = role.members.iter().filter(|(name, _)| is_in(name));
        texts.extend(members.filter_map(|(_, range)| Some(text.get(range.clone())?.to_owned())));
    }
    texts.sort_unstable();
    texts
}

fn shapes(items: &Items, unit: &str, members: &[ItemId]) -> BTreeMap<String, String> {
    let mut shapes = BTreeMap::new();
    for id in members {
        let item = &items.all[id];
        if item.piece.has_identity() {
            for name in item.names() {
                shapes.insert(format!("{unit}::{name}"), shape(items, item));
            }
        }
    }
    shapes
}

/// Whether something else stands, or has stood, under one of the paths; or two things would.
fn clashes(items: &Items, unit: &str, members: &[ItemId]) -> bool {
    let known = shapes(items, unit, members);
    let n_names: usize = members
        .iter()
        .map(|id| &items.all[id])
        .filter(|item| item.piece.has_identity())
        .map(|item| item.names().count())
        .sum();
    known.len() < n_names || is_taken(items, unit, members)
}

/// Whether a process may have loaded statics of these names: what is defined anew begins anew, also
/// where it says what it said before something else was there.
fn has_begun(items: &Items, unit: &str, members: &[ItemId]) -> bool {
    let members = members.iter().map(|id| &items.all[id]);
    let statics = members.filter(|item| {
        item.piece.role == Role::Static || (item.has_identity() && item.piece.has_statics)
    });
    let mut names = statics.flat_map(Item::names);
    names.any(|name| items.shapes.contains_key(&format!("{unit}::{name}")))
}

/// Whether something else stands, or has stood, under one of the paths. A cell that defines a name
/// twice is for rustc to refuse: no other name of the crate would help.
fn is_taken(items: &Items, unit: &str, members: &[ItemId]) -> bool {
    let known = shapes(items, unit, members);
    let is_other = |(path, shape): (&String, &String)| {
        items.shapes.get(path).is_some_and(|before| before != shape)
    };
    known.iter().any(is_other)
}
