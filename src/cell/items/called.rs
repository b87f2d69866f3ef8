//! What old definitions go on calling. A function may stand anywhere and follows what it names; so
//! when a type is defined anew, the functions that take it are for the new one, while the methods
//! and the destructor of the old type, which stay for its values, must go on with what these
//! functions were. So must an old function or method that a caller goes on with.

use std::collections::{BTreeMap, BTreeSet};

use super::group::alone;
use super::{Item, ItemId, Items};
use crate::cell::item::Role;
use crate::cell::namespace::Kind;

/// Gives each old definition that calls a function which means something else by now a copy of what
/// that was. `verbatim` are items that were written again word for word, and as what.
pub(super) fn keep(items: &mut Items, old: &Items, verbatim: &BTreeMap<ItemId, ItemId>) {
    let is_old = |id: &ItemId| items.all[id].retired && !verbatim.contains_key(id);
    let retired: Vec<ItemId> = old.all.keys().copied().filter(is_old).collect();
    if retired.is_empty() {
        return;
    }
    let others = others(items, old, verbatim);
    let mut step = Step { old, others, copies: BTreeMap::new() };
    for id in retired {
        let pins = step.pins(items, id);
        items.all.get_mut(&id).expect("it is there").pins.extend(pins);
    }
}

/// The functions that are there still, and mean something else.
fn others(items: &Items, old: &Items, verbatim: &BTreeMap<ItemId, ItemId>) -> BTreeSet<ItemId> {
    let known = |id: &ItemId| verbatim.get(id).copied().unwrap_or(*id);
    let means_another = |before: &Item, now: &Item| {
        before.refs.iter().any(|name| {
            let was: BTreeSet<ItemId> = old.resolve(before, name).iter().map(known).collect();
            was != items.resolve(now, name).into_iter().collect()
        })
    };
    let mut others: BTreeSet<ItemId> = BTreeSet::new();
    let mut same: Vec<(ItemId, &Item)> = Vec::new();
    for (id, before) in old.all.iter().filter(|(_, before)| is_function(before)) {
        let Some(now) = items.all.get(&known(id)).filter(|now| !now.retired) else { continue };
        if (now.withheld && !before.withheld) || means_another(before, now) {
            others.insert(*id);
        } else {
            same.push((*id, before));
        }
    }
    // Who calls such a function does, too.
    loop {
        let calls_one = |(_, before): &(ItemId, &Item)| !old.edges(before).is_disjoint(&others);
        let (more, left): (Vec<_>, Vec<_>) = same.into_iter().partition(calls_one);
        if more.is_empty() {
            return others;
        }
        others.extend(more.into_iter().map(|(id, _)| id));
        same = left;
    }
}

struct Step<'a> {
    old: &'a Items,
    /// Functions that are other ones now.
    others: BTreeSet<ItemId>,
    /// What they were.
    copies: BTreeMap<ItemId, ItemId>,
}

impl Step<'_> {
    /// The names by which an item of before means a function that is another one now.
    fn pins(&mut self, items: &mut Items, id: ItemId) -> Vec<(String, Vec<ItemId>)> {
        let before = &self.old.all[&id];
        let mut pins = Vec::new();
        for name in &before.refs {
            let meant = self.old.resolve(before, name);
            if meant.iter().any(|id| self.others.contains(id)) {
                let meant = meant.into_iter().map(|id| self.copy(items, id)).collect();
                pins.push((name.clone(), meant));
            }
        }
        pins
    }

    /// The copy of a function that is another one now; of all else, itself.
    fn copy(&mut self, items: &mut Items, id: ItemId) -> ItemId {
        if !self.others.contains(&id) {
            return id;
        }
        if let Some(copy) = self.copies.get(&id) {
            return *copy;
        }
        let before = &self.old.all[&id];
        let copy = items.insert(Item { retired: true, unit: String::new(), ..before.clone() });
        self.copies.insert(id, copy);
        let mut pins = self.pins(items, id);
        for name in &before.refs {
            let was = self.old.resolve(before, name);
            let is_gone = |id: &ItemId| items.all.get(id).is_none_or(|item| item.retired);
            let is_pinned = pins.iter().any(|(known, _)| known == name);
            if !is_pinned && was.iter().any(is_gone) {
                pins.push((name.clone(), was));
            }
        }
        let item = items.all.get_mut(&copy).expect("it was inserted");
        item.pins.extend(pins);
        item.unit = alone(copy);
        copy
    }
}

fn is_function(item: &Item) -> bool {
    item.piece.role == Role::Movable
        && item.piece.provides.iter().any(|provided| provided.kind == Kind::Function)
}
