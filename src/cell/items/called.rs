//! What old definitions go on calling. A function may stand anywhere and follows what it names; so
//! when a type is defined anew, the functions that take it are for the new one, while the methods
//! and the destructor of the old type, which stay for its values, must go on with what these
//! functions were. So must an old function or method that a caller goes on with; and a caller whom
//! nothing else helps goes on with all that it knew, types included.

use std::collections::{BTreeMap, BTreeSet};

use super::group::alone;
use super::{Broken, Item, ItemId, Items, bodies};
use crate::cell::item::Role;
use crate::cell::namespace::Kind;

/// What was found out, and made, while old definitions were kept.
#[derive(Default)]
pub(super) struct Kept {
    /// Functions that are there still, and mean something else.
    pub(super) functions: BTreeSet<ItemId>,
    /// Copies that have no crate yet.
    pub(super) unplaced: Vec<ItemId>,
}

/// Gives each old definition that calls a function which means something else by now a copy of what
/// that was, and so to earlier items that are broken without it. `verbatim` are items that were
/// written again word for word, and as what.
pub(super) fn keep(
    items: &mut Items,
    old: &Items,
    verbatim: &BTreeMap<ItemId, ItemId>,
    broken: &BTreeMap<ItemId, Broken>,
) -> Kept {
    let is_old = |id: &ItemId| items.all[id].retired && !verbatim.contains_key(id);
    let retired: Vec<ItemId> = old.all.keys().copied().filter(is_old).collect();
    if retired.is_empty() && !broken.values().any(Broken::keeps_copies) {
        return Kept::default();
    }
    let functions = others(items, old, verbatim);
    let mut step = Step::new(old, functions.clone());
    for id in retired {
        let pins = step.pins(items, id);
        items.all.get_mut(&id).expect("it is there").pins.extend(pins);
    }
    let types = broken.values().filter_map(|what| match what {
        Broken::Types(types) => Some(types),
        _ => None,
    });
    let types: BTreeSet<ItemId> = types.flatten().copied().collect();
    // Who is broken himself goes on as what he is.
    let mut others = leading_to(old, &types, &functions);
    others.retain(|id| broken.get(id).is_none_or(|what| !what.keeps_copies()));
    let mut step = Step::new(old, others);
    if !types.is_empty() {
        (step.impls, step.types) = (bodies::impls(old, bodies::all_subjects), types);
    }
    for (id, _) in broken.iter().filter(|(_, what)| what.keeps_copies()) {
        let pins = step.pins(items, *id);
        items.all.get_mut(id).expect("it is an earlier item").pins.extend(pins);
    }
    Kept { functions, unplaced: step.unplaced }
}

/// These, and what may stand anywhere and leads to one of them: functions, constants, aliases.
fn leading_to(
    old: &Items,
    types: &BTreeSet<ItemId>,
    functions: &BTreeSet<ItemId>,
) -> BTreeSet<ItemId> {
    let mut found: BTreeSet<ItemId> = types.union(functions).copied().collect();
    // A macro means by a name what that is where it is called.
    let may = |item: &Item| {
        let mut provides = item.piece.provides.iter();
        let is_macro = provides.any(|provided| provided.kind == Kind::Macro);
        item.is_current() && item.piece.role == Role::Movable && !is_macro
    };
    loop {
        let leads = |(id, item): &(&ItemId, &Item)| {
            may(item) && !found.contains(id) && !old.edges(item).is_disjoint(&found)
        };
        let more: Vec<ItemId> = old.all.iter().filter(leads).map(|(id, _)| *id).collect();
        if types.is_empty() || more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The functions that are there still, and mean something else.
fn others(items: &Items, old: &Items, verbatim: &BTreeMap<ItemId, ItemId>) -> BTreeSet<ItemId> {
    let known = |id: &ItemId| verbatim.get(id).copied().unwrap_or(*id);
    let means_another = |before: &Item, now: &Item| means_another(items, old, before, now, known);
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

/// Whether an item means something else now by one of its names. `known`: which item one of before
/// is now.
pub(super) fn means_another(
    items: &Items,
    old: &Items,
    before: &Item,
    now: &Item,
    known: impl Fn(&ItemId) -> ItemId,
) -> bool {
    before.refs.iter().any(|name| {
        let was: BTreeSet<ItemId> = old.resolve(before, name).iter().map(&known).collect();
        was != items.resolve(now, name).into_iter().collect()
    })
}

struct Step<'a> {
    old: &'a Items,
    /// Functions, and what else is needed as it was.
    others: BTreeSet<ItemId>,
    /// The types among them.
    types: BTreeSet<ItemId>,
    /// What was implemented for each.
    impls: BTreeMap<ItemId, Vec<ItemId>>,
    /// What they were.
    copies: BTreeMap<ItemId, ItemId>,
    unplaced: Vec<ItemId>,
}

impl<'a> Step<'a> {
    fn new(old: &'a Items, others: BTreeSet<ItemId>) -> Self {
        Self {
            old,
            others,
            types: BTreeSet::new(),
            impls: BTreeMap::new(),
            copies: BTreeMap::new(),
            unplaced: Vec::new(),
        }
    }

    /// The names by which an item of before means something that is to be as it was.
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

    /// The copy of what is to be as it was; of all else, itself.
    fn copy(&mut self, items: &mut Items, id: ItemId) -> ItemId {
        if !self.others.contains(&id) {
            return id;
        }
        if let Some(copy) = self.copies.get(&id) {
            return *copy;
        }
        let copy = self.copied(items, id);
        if !self.types.contains(&id) {
            items.all.get_mut(&copy).expect("it was inserted").unit = alone(copy);
            return copy;
        }
        self.unplaced.push(copy);
        for of_type in self.impls.get(&id).cloned().unwrap_or_default() {
            if !self.copies.contains_key(&of_type) {
                let copy = self.copied(items, of_type);
                self.unplaced.push(copy);
            }
        }
        copy
    }

    fn copied(&mut self, items: &mut Items, id: ItemId) -> ItemId {
        let before = &self.old.all[&id];
        let copy = items.insert(Item {
            retired: true,
            extension: None,
            inherent: BTreeSet::new(),
            unit: String::new(),
            ..before.clone()
        });
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
        items.all.get_mut(&copy).expect("it was inserted").pins.extend(pins);
        copy
    }
}

fn is_function(item: &Item) -> bool {
    item.piece.role == Role::Movable
        && item.piece.provides.iter().any(|provided| provided.kind == Kind::Function)
}
