//! Who kept an older definition, or was left out, tries what a new cell brings.

use std::collections::BTreeSet;

use super::advance::NewCell;
use super::{EXTENSION, Item, ItemId, Items, by_macro, members};
use crate::cell::item::Role;

/// A name that is defined anew is tried again by those who kept an older definition, or were left
/// out; and so is a type that gets an impl, which they may have missed.
pub(super) fn release(items: &mut Items, cell: &NewCell) {
    let provided = cell.items.iter().flat_map(|piece| &piece.provides);
    let mut new: BTreeSet<String> = provided.map(|provided| provided.name.clone()).collect();
    let impls = cell.items.iter().filter_map(|piece| match &piece.role {
        Role::Impl(role) => Some(role.subjects.iter().chain(&role.of_trait)),
        _ => None,
    });
    let touched: BTreeSet<String> = impls.flatten().cloned().collect();
    // What is tried again may be what others wait for.
    loop {
        let waits = |item: &Item| {
            let again = |name: &String| new.contains(name) || touched.contains(name);
            !item.retired && item.withheld && item.refs.iter().any(again)
        };
        let waiting = items.all.iter().filter(|(_, item)| waits(item));
        let waiting: Vec<ItemId> = waiting.map(|(id, _)| *id).collect();
        if waiting.is_empty() {
            break;
        }
        for id in waiting {
            let item = items.all.get_mut(&id).expect("it was found there");
            item.withheld = false;
            new.extend(item.names().map(str::to_owned));
        }
    }
    let mut released: Vec<(ItemId, String)> = Vec::new();
    for (id, item) in items.all.iter().filter(|(_, item)| !item.retired) {
        let may_fit = |name: &String| {
            // A static, say, of the type that gets an impl.
            let is_of_touched = |id: &ItemId| {
                let old = items.all.get(id);
                old.is_some_and(|old| old.has_identity() && !old.refs.is_disjoint(&touched))
            };
            let kept = item.pins.get(name);
            let has_more = |old: &Vec<ItemId>| {
                let leads_there = |id: &ItemId| leads_to(items, *id, &new, &touched);
                touched.contains(name)
                    || old.iter().any(is_of_touched)
                    || old.iter().any(leads_there)
            };
            // What its type lacked, say.
            let is_waited_for = touched.contains(name) && !item.pins.is_empty();
            new.contains(name) || is_waited_for || kept.is_some_and(has_more)
        };
        // What it names fits together now, or some of it still does not.
        if item.refs.iter().any(may_fit) {
            let is_there = |name: &str| new.contains(name) || !items.current(name).is_empty();
            // A macro's copy goes with the old members that it says.
            let stays = |name: &str| {
                let mut kept = item.pins[name].iter().filter_map(|id| items.all.get(id));
                !new.contains(name) && kept.any(|it| by_macro::says_past_members(items, it))
            };
            let names = item
                .pins
                .keys()
                .filter(|name| !name.starts_with(EXTENSION) && is_there(name) && !stays(name));
            released.extend(names.map(|name| (*id, name.clone())));
        }
    }
    for (id, name) in released {
        items.all.get_mut(&id).expect("it was found there").pins.remove(&name);
    }
    members::release(items, cell);
}

/// Whether the copy of what may stand anywhere names one of these, by others or by itself.
fn leads_to(items: &Items, id: ItemId, new: &BTreeSet<String>, touched: &BTreeSet<String>) -> bool {
    let mut open = vec![id];
    let mut seen: BTreeSet<ItemId> = BTreeSet::new();
    while let Some(id) = open.pop() {
        let Some(item) = items.all.get(&id).filter(|_| seen.insert(id)) else { continue };
        if !item.retired || item.piece.role != Role::Movable {
            continue;
        }
        if !item.refs.is_disjoint(new) || !item.refs.is_disjoint(touched) {
            return true;
        }
        open.extend(item.pins.values().flatten().copied());
    }
    false
}
