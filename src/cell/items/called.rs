//! What old definitions go on calling. A function may stand anywhere and follows what it names; so
//! when a type is defined anew, the functions that take it are for the new one, while the methods
//! and the destructor of the old type, which stay for its values, must go on with what these
//! functions were.

use std::collections::{BTreeMap, BTreeSet};

use super::group::alone;
use super::{Item, ItemId, Items};
use crate::cell::item::Role;
use crate::cell::namespace::Kind;

/// Gives each old definition that calls a function which means something else by now a copy of what
/// that was. `verbatim` are items that were written again word for word, and as what.
pub(super) fn keep(items: &mut Items, old: &Items, verbatim: &BTreeMap<ItemId, ItemId>) {
    let mut step = Step { old, verbatim, others: BTreeMap::new(), copies: BTreeMap::new() };
    let is_old = |id: &ItemId| items.all[id].retired && !verbatim.contains_key(id);
    let retired: Vec<ItemId> = old.all.keys().copied().filter(is_old).collect();
    for id in retired {
        let pins = step.pins(items, id);
        items.all.get_mut(&id).expect("it is there").pins.extend(pins);
    }
}

struct Step<'a> {
    old: &'a Items,
    verbatim: &'a BTreeMap<ItemId, ItemId>,
    /// Whether functions mean something else than before.
    others: BTreeMap<ItemId, bool>,
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
            if !meant.iter().any(|id| self.is_other(items, *id, &mut BTreeSet::new())) {
                continue;
            }
            let meant: Vec<ItemId> = meant.into_iter().map(|id| self.copy(items, id)).collect();
            pins.push((name.clone(), meant));
        }
        pins
    }

    /// Whether this is a function that is there still, and means something else.
    fn is_other(&mut self, items: &Items, id: ItemId, open: &mut BTreeSet<ItemId>) -> bool {
        let (Some(before), Some(now)) = (self.old.all.get(&id), items.all.get(&id)) else {
            return false;
        };
        if !is_function(before) || now.retired || !open.insert(id) {
            return false;
        }
        if let Some(known) = self.others.get(&id) {
            return *known;
        }
        let is_other = (now.withheld && !before.withheld)
            || before.refs.iter().any(|name| {
                let was = self.old.resolve(before, name);
                let known = |id: &ItemId| self.verbatim.get(id).copied().unwrap_or(*id);
                let same = was.iter().map(known).eq(items.resolve(now, name));
                !same || was.iter().any(|id| self.is_other(items, *id, open))
            });
        self.others.insert(id, is_other);
        is_other
    }

    /// The copy of a function that is another one now; of all else, itself.
    fn copy(&mut self, items: &mut Items, id: ItemId) -> ItemId {
        if !self.is_other(items, id, &mut BTreeSet::new()) {
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
