//! Old members that a caller says by a macro. The macro's text is everybody's; so the caller goes
//! on with a copy of it, in which these members are called by names of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::group::alone;
use super::{Item, ItemId, Items, extension_name};
use crate::cell::item::Role;

/// Copies the macros by which an item says members of `past`, which go by names of their own.
pub(super) fn copy_macros(items: &mut Items, keeper: ItemId, past: ItemId) {
    let names: BTreeSet<String> =
        items.all[&past].methods().into_iter().map(str::to_owned).collect();
    let known = reached(items, &items.all[&keeper]);
    // Who says one by another macro needs a copy, too.
    let is_one = |id: &ItemId| {
        let item = &items.all[id];
        item.piece.role == Role::Movable && !items.said(item).is_disjoint(&names)
    };
    let wanted: Vec<ItemId> = known.into_iter().filter(is_one).collect();
    let mut copies: BTreeMap<ItemId, ItemId> = BTreeMap::new();
    for id in wanted {
        let copy = Item { retired: true, unit: String::new(), ..items.all[&id].clone() };
        let copy = items.insert(copy);
        items.all.get_mut(&copy).expect("it was inserted").unit = alone(copy);
        copies.insert(id, copy);
    }
    for id in copies.values().copied().chain([keeper]) {
        let said: Vec<(String, Vec<ItemId>)> = items.all[&id]
            .refs
            .iter()
            .map(|name| (name.clone(), items.resolve(&items.all[&id], name)))
            .filter(|(_, meant)| meant.iter().any(|id| copies.contains_key(id)))
            .collect();
        let item = items.all.get_mut(&id).expect("it is there");
        for (name, meant) in said {
            let meant = meant.into_iter().map(|id| copies.get(&id).copied().unwrap_or(id));
            item.pins.insert(name, meant.collect());
        }
    }
    // Only who calls a macro needs the trait, and its crate.
    for copy in copies.into_values() {
        let copy = items.all.get_mut(&copy).expect("it was inserted");
        copy.pins.insert(extension_name(past), vec![past]);
    }
}

/// The macros that an item calls, and those that these call.
fn reached(items: &Items, item: &Item) -> BTreeSet<ItemId> {
    let mut open = items.macros_of(item);
    let mut reached: BTreeSet<ItemId> = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(items.macros_of(&items.all[&id]));
        }
    }
    reached
}

/// Whether an item is such a copy, of a macro that says old members.
pub(super) fn says_past_members(items: &Items, item: &Item) -> bool {
    let is_past = |id: &ItemId| items.all.get(id).is_some_and(Item::is_past_trait);
    let is_macro = item.piece.role == Role::Movable && item.piece.has_macros();
    item.retired && is_macro && item.pins.values().flatten().any(is_past)
}
