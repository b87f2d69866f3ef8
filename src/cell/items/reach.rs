//! Which old definitions are still needed.

use std::collections::BTreeSet;

use super::advance::subjects;
use super::{Item, ItemId, Items};
use crate::cell::item::Role;

/// Forgets retired items that no variable, no pinned item and no other retired one needs.
pub(super) fn forget_unneeded(items: &mut Items, held: &BTreeSet<(String, String)>) {
    let is_held = |id: &ItemId| {
        let item = &items.all[id];
        item.names().any(|name| held.contains(&(item.unit.clone(), name.to_owned())))
    };
    // What is known of the statics of a crate must go on fitting the library that is loaded.
    let is_static = |item: &Item| item.piece.role == Role::Static && !item.unit.is_empty();
    let statics = items.all.values().filter(|item| item.is_current() && is_static(item));
    let of_statics: BTreeSet<&str> = statics.map(|item| item.unit.as_str()).collect();
    let is_loaded = |item: &Item| is_static(item) && of_statics.contains(item.unit.as_str());
    let mut needed: BTreeSet<ItemId> = items
        .all
        .iter()
        .filter(|(id, item)| !item.retired || is_held(id) || is_loaded(item))
        .map(|(id, _)| *id)
        .collect();
    let mut open: Vec<ItemId> = needed.iter().copied().collect();
    loop {
        while let Some(id) = open.pop() {
            for target in items.edges(&items.all[&id]) {
                if items.all.contains_key(&target) && needed.insert(target) {
                    open.push(target);
                }
            }
        }
        // An old type keeps what was implemented for it: `Drop` above all.
        let impls: Vec<ItemId> = items
            .all
            .iter()
            .filter(|(id, item)| item.retired && !needed.contains(id))
            .filter(|(_, item)| matches!(item.piece.role, Role::Impl(_)))
            .filter(|(_, item)| {
                subjects(items, item).iter().any(|id| items.all[id].retired && needed.contains(id))
            })
            .map(|(id, _)| *id)
            .collect();
        if impls.is_empty() {
            break;
        }
        needed.extend(impls.iter().copied());
        open = impls;
    }
    items.retain(|id| needed.contains(&id));
    let used: BTreeSet<u64> = items.all.values().map(|item| item.sheet).collect();
    items.sheets.retain(|id, _| used.contains(id));
}
