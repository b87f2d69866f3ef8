//! Which crate each item stands in. Crates must not need each other in a circle, and types and
//! statics stay where they are: so what moves is what may stand anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::advance::{named, subjects};
use super::{Item, ItemId, Items, Unit, circle};
use crate::cell::item::Role;

/// Names of crates that are yet to be named begin so.
const PROVISIONAL: &str = "+";
pub(super) const MAIN: &str = "+main";
/// What the statics of a cell need.
const BEFORE: &str = "+before";
const STATIC: &str = "+static";
const FREE: &str = "+free";
/// Earlier items that are another thing now.
pub(super) const RENEWED: &str = "+renewed";

/// What is to be placed.
pub(super) struct Placing<'a> {
    pub(super) old: &'a Items,
    /// The new cell's items.
    pub(super) new: &'a [ItemId],
    /// Successors of earlier items, renewed or attached to another type, and copies of what these
    /// were.
    pub(super) again: &'a [ItemId],
}

/// A crate for one item.
pub(super) fn alone(id: ItemId) -> String {
    format!("{FREE}:{id}")
}

pub(super) fn is_provisional(unit: &str) -> bool {
    unit.starts_with(PROVISIONAL)
}

/// Gives every item a crate.
///
/// # Errors
/// Items that must be renewed first: they would have to change crates.
pub(super) fn place(items: &mut Items, placing: &Placing<'_>) -> Result<(), BTreeSet<ItemId>> {
    let unplaced = |items: &Items, ids: &[ItemId]| -> Vec<ItemId> {
        ids.iter()
            .copied()
            .filter(|id| items.all.get(id).is_some_and(|item| item.unit.is_empty()))
            .collect()
    };
    let new = unplaced(items, placing.new);
    let is_impl = |items: &Items, id: &ItemId| matches!(items.all[id].piece.role, Role::Impl(_));
    let impls: Vec<ItemId> = new
        .iter()
        .copied()
        .chain(unplaced(items, placing.again))
        .filter(|id| is_impl(items, id))
        .chain(beside_new(items, &new))
        .collect();
    place_new(items, &new);
    for id in unplaced(items, placing.again) {
        // What some go on with stands apart from what all others have.
        let kept = if items.all[&id].retired { "kept" } else { "" };
        let unit = format!("{RENEWED}{kept}:{}", home(items, placing.old, id));
        items.all.get_mut(&id).expect("it is there").unit = unit;
    }
    // An impl of an unplaced item depends on the crate that it will stand in alone.
    impls.iter().for_each(|id| items.all.get_mut(id).expect("it is there").unit.clear());
    for id in impls {
        let unit = host(items, id);
        items.all.get_mut(&id).expect("it is there").unit = unit;
    }
    set_apart(items);
    circle::open(items, placing.new)
}

/// Where a type's crate has taken a constant or a macro by a name that means another one to the
/// type, that one stands alone: its meaning has changed, the type's has not.
fn set_apart(items: &mut Items) {
    let mut apart: BTreeSet<ItemId> = BTreeSet::new();
    for item in items.all.values().filter(|item| item.has_identity() && !item.unit.is_empty()) {
        // By a word that is none of these names, it means what Rust does, or an import.
        let others = item.piece.words.iter().filter(|word| !item.provides(word));
        for name in item.refs.iter().chain(others) {
            let is_ref = item.refs.contains(name);
            let meant = if is_ref { items.resolve(item, name) } else { Vec::new() };
            let named = items.by_name.get(name).into_iter().flatten().filter(|id| {
                let other = &items.all[id];
                other.unit == item.unit && other.piece.role == Role::Movable
            });
            let is_other = |id: &&ItemId| !meant.contains(id) && (!meant.is_empty() || !is_ref);
            apart.extend(named.filter(is_other));
        }
    }
    for id in apart {
        items.all.get_mut(&id).expect("it is there").unit = alone(id);
    }
}

/// The crate that the item of the same text stood in before.
fn home(items: &Items, old: &Items, id: ItemId) -> String {
    let item = &items.all[&id];
    let same = old
        .all
        .values()
        .find(|old| old.sheet == item.sheet && old.piece.range == item.piece.range && !old.retired);
    same.map(|old| old.unit.clone()).unwrap_or_default()
}

/// A cell's items make one crate; with statics, three: what these need, they, and the rest, so that
/// code can be built anew without them.
fn place_new(items: &mut Items, new: &[ItemId]) {
    let of_cell: BTreeSet<ItemId> = new.iter().copied().collect();
    let statics: Vec<ItemId> =
        new.iter().copied().filter(|id| items.all[id].piece.role == Role::Static).collect();
    // Methods that use a static may stand behind it, as a trait's.
    let mut uses_static: BTreeSet<ItemId> = statics.iter().copied().collect();
    loop {
        let uses = |id: &ItemId| !items.edges(&items.all[id]).is_disjoint(&uses_static);
        let more: Vec<ItemId> =
            new.iter().copied().filter(|id| !uses_static.contains(id) && uses(id)).collect();
        if more.is_empty() {
            break;
        }
        uses_static.extend(more);
    }
    let stands_behind = |id: &ItemId| match &items.all[id].piece.role {
        Role::Impl(role) => uses_static.contains(id) && role.may_be_a_trait(|_| true),
        _ => false,
    };
    let mut before: BTreeSet<ItemId> = BTreeSet::new();
    let mut open = statics.clone();
    while let Some(id) = open.pop() {
        let targets = items.edges(&items.all[&id]);
        let impls =
            of_cell.iter().copied().filter(|each| subjects(items, &items.all[each]).contains(&id));
        let impls = impls.filter(|each| !stands_behind(each));
        for target in targets.into_iter().chain(impls.collect::<Vec<_>>()) {
            if of_cell.contains(&target) && !statics.contains(&target) && before.insert(target) {
                open.push(target);
            }
        }
    }
    let needs_static =
        |id: &ItemId| items.edges(&items.all[id]).iter().any(|t| statics.contains(t));
    let circular = before.iter().any(needs_static);
    for id in new {
        let unit = match () {
            () if circular => MAIN,
            () if statics.contains(id) => STATIC,
            () if before.contains(id) => BEFORE,
            () => MAIN,
        };
        items.all.get_mut(id).expect("it joined").unit = unit.to_owned();
    }
}

/// The crate that an impl can stand in: of the crates of its type, its trait and its trait's
/// arguments the one that comes last, so that it may name the others. An inherent impl has no
/// choice.
pub(super) fn host(items: &Items, id: ItemId) -> String {
    let item = &items.all[&id];
    let Role::Impl(role) = &item.piece.role else { return MAIN.to_owned() };
    let mut candidates: Vec<String> = if role.of_trait.is_some() {
        subjects(items, item).iter().map(|id| items.all[id].unit.clone()).collect()
    } else {
        let subject = role.subjects.iter().take(1);
        subject
            .flat_map(|name| named(items, item, name))
            .map(|id| items.all[&id].unit.clone())
            .collect()
    };
    candidates.retain(|unit| !unit.is_empty());
    candidates.dedup();
    if let Some(unit) = beside_blanket(items, item) {
        return unit;
    }
    if candidates.len() > 1 {
        let order = in_order(items);
        let position =
            |unit: &String| order.iter().position(|each| each.name == *unit).unwrap_or_default();
        candidates.sort_by_key(position);
    }
    candidates.pop().unwrap_or_else(|| MAIN.to_owned())
}

/// Where a trait is implemented for all types with some other trait, only a type's own crate may
/// say that the type has not that one: an impl beside it stands there, and if need be the trait
/// comes, too.
fn beside_blanket(items: &Items, item: &Item) -> Option<String> {
    let Role::Impl(role) = &item.piece.role else { return None };
    let of_trait = implemented(items, item);
    let is_blanket = |other: &Item| is_blanket(other) && !other.withheld && !other.retired;
    let mut blankets = items.all.values().filter(|other| is_blanket(other));
    let of_type = named(items, item, role.subjects.first()?);
    let home = &items.all[of_type.first()?].unit;
    let has_blanket =
        blankets.any(|other| implemented(items, other).iter().any(|id| of_trait.contains(id)));
    (has_blanket && !home.is_empty()).then(|| home.clone())
}

fn is_blanket(item: &Item) -> bool {
    matches!(&item.piece.role, Role::Impl(role) if role.of_type == "_")
}

/// The trait of an impl, where that is the session's.
fn implemented(items: &Items, item: &Item) -> Vec<ItemId> {
    let Role::Impl(role) = &item.piece.role else { return Vec::new() };
    role.of_trait.iter().flat_map(|name| named(items, item, name)).collect()
}

/// Earlier impls that new ones for all types come beside, where they do not stand with their types.
fn beside_new(items: &Items, new: &[ItemId]) -> Vec<ItemId> {
    let blankets = new.iter().map(|id| &items.all[id]).filter(|item| is_blanket(item));
    let traits: Vec<ItemId> = blankets.flat_map(|item| implemented(items, item)).collect();
    let is_beside = |item: &Item| {
        item.is_current()
            && !item.unit.is_empty()
            && implemented(items, item).iter().any(|id| traits.contains(id))
            && beside_blanket(items, item).is_some_and(|home| home != item.unit)
    };
    let found = items.all.iter().filter(|(id, item)| !new.contains(id) && is_beside(item));
    found.map(|(id, _)| *id).collect()
}

/// Which crates each needs directly.
pub(super) fn needs(items: &Items) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for item in items.all.values().filter(|item| !item.withheld && !item.unit.is_empty()) {
        let own = needs.entry(&item.unit).or_default();
        own.extend(items.edges(item).iter().filter_map(|id| {
            let target = items.all.get(id)?;
            let other = target.unit != item.unit && !target.unit.is_empty() && !target.withheld;
            other.then_some(target.unit.as_str())
        }));
    }
    needs
}

/// Everything reachable from `unit`.
pub(super) fn reach<'a>(
    needs: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    unit: &str,
) -> BTreeSet<&'a str> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = needs.get(unit).into_iter().flatten().copied().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(needs.get(next).into_iter().flatten());
        }
    }
    found
}

/// The crates as they are now, each after those it needs, the oldest items first; in a circle, in
/// any order.
pub(super) fn in_order(items: &Items) -> Vec<Unit> {
    let needs = needs(items);
    let mut members: BTreeMap<&str, Vec<ItemId>> = BTreeMap::new();
    for (id, item) in items.all.iter().filter(|(_, item)| !item.withheld) {
        if !item.unit.is_empty() {
            members.entry(&item.unit).or_default().push(*id);
        }
    }
    let oldest = |unit: &str| members[unit].first().copied().unwrap_or_default();
    let mut left: BTreeSet<(ItemId, &str)> =
        members.keys().map(|unit| (oldest(unit), *unit)).collect();
    let mut all_needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut units: Vec<Unit> = Vec::new();
    while let Some(first) = left.first().copied() {
        let is_free = |(_, unit): &&(ItemId, &str)| {
            let own = needs.get(*unit).into_iter().flatten();
            own.clone().all(|need| all_needs.contains_key(need))
        };
        let (age, unit) = left.iter().find(is_free).copied().unwrap_or(first);
        left.remove(&(age, unit));
        let own = needs.get(unit).into_iter().flatten().copied();
        let mut all: BTreeSet<&str> = own.clone().collect();
        all.extend(own.filter_map(|need| all_needs.get(need)).flatten().copied());
        units.push(made(items, unit, &members[unit], &all));
        all_needs.insert(unit, all);
    }
    units
}

fn made(items: &Items, name: &str, members: &[ItemId], needs: &BTreeSet<&str>) -> Unit {
    let mut ids = members.to_vec();
    ids.sort_by_key(|id| (items.all[id].sheet, items.all[id].piece.range.start));
    let current = |id: &&ItemId| items.all[*id].is_current();
    let provides =
        ids.iter().filter(current).flat_map(|id| items.all[id].piece.provides.clone()).collect();
    let last: Option<&Item> = ids.last().map(|id| &items.all[id]);
    let cell = last.map(|item| items.sheets[&item.sheet].label.clone()).unwrap_or_default();
    Unit {
        name: name.to_owned(),
        file: String::new(),
        needs: needs.iter().filter(|need| **need != name).map(|need| (*need).to_owned()).collect(),
        items: ids,
        provides,
        cell,
        parts: Arc::default(),
        generated: Arc::default(),
        set: None,
        storage: None,
    }
}
