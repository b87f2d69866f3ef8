//! What becomes of statics: a value that has begun goes on, whatever it was made with; which ones
//! start again.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::refs_by;
use super::{Item, ItemId, Items, SheetId};
use crate::cell::item::Role;

/// The names that a static says, but not its type: only what it begins with is made of them.
pub(super) fn begins_with(items: &Items, item: &Item) -> BTreeSet<String> {
    let Some(words) = &item.piece.type_words else { return BTreeSet::new() };
    let of_type = refs_by(items, &Items::default(), item, words);
    item.refs.difference(&of_type).cloned().collect()
}

/// A static's value has begun: what it was made with stays what it was.
pub(super) fn pin_beginnings(
    items: &mut Items,
    old: &Items,
    renewed: &BTreeSet<ItemId>,
    verbatim: &BTreeMap<ItemId, ItemId>,
) {
    let stays = |id: &ItemId| !renewed.contains(id) && !items.all[id].retired;
    let mut begun: Vec<(ItemId, BTreeMap<String, Vec<ItemId>>)> = Vec::new();
    for (id, before) in old.all.iter().filter(|(_, before)| before.piece.type_words.is_some()) {
        let Some(now) = verbatim.get(id).or(Some(id).filter(|id| stays(id))) else { continue };
        let names = begins_with(old, before).into_iter();
        let meant = names.map(|name| (name.clone(), old.resolve(before, &name)));
        begun.push((*now, meant.filter(|(_, ids)| !ids.is_empty()).collect()));
    }
    for (id, meant) in begun {
        let item = items.all.get_mut(&id).expect("it was found there");
        item.refs.extend(meant.keys().cloned());
        item.pins.extend(meant);
    }
}

/// Statics of earlier cells that are other ones now, or in units that may be built anew.
pub(super) fn reset(old: &Items, items: &Items, sheet: SheetId, touched: &[String]) -> Vec<ItemId> {
    let current = items.all.iter().filter(|(_, item)| !item.retired && item.sheet != sheet);
    let reset = current.filter(|(id, item)| {
        let is_static = item.piece.role == Role::Static;
        let keeps = is_static && items.unit(&item.unit).is_some_and(|unit| items.is_static(unit));
        let is_renewed = is_static && !old.all.contains_key(id);
        let is_rebuilt = !keeps && touched.contains(&item.unit);
        (is_static || item.piece.has_statics) && (is_renewed || is_rebuilt)
    });
    reset.map(|(id, _)| *id).collect()
}
