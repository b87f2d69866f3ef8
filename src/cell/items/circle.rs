//! Crates that need each other in a circle, and how such circles are opened. Types, traits and
//! statics stay where they are; so what may stand anywhere moves, an inherent impl is written as a
//! trait's, and only where neither helps is a type made anew.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::subjects;
use super::group::{MAIN, RENEWED, alone, host, is_provisional, needs, reach};
use super::{Item, ItemId, Items};
use crate::cell::item::Role;
use crate::cell::namespace::{Kind, Provided};

/// Where a crate's items stood before they were let go: the crate that each stands in alone, and
/// the one to bring it back to.
type Homes = Vec<(String, String)>;

/// Moves items until no crates need each other in a circle.
///
/// # Errors
/// Items that must be renewed first; none when there is no way at all.
pub(super) fn open(items: &mut Items, new: &[ItemId]) -> Result<(), BTreeSet<ItemId>> {
    // Gentler means first: each pass opens what it can.
    merge_movable(items);
    if circles(items).is_empty() {
        return Ok(());
    }
    let mut homes = free_movable(items);
    merge_movable(items);
    homes.extend(part_new(items));
    merge_movable(items);
    let mut extended = extend(items, |id| new.contains(&id));
    merge_movable(items);
    // Who says a method needs its impl's trait, which may close another circle.
    loop {
        let more = extend(items, |_| true);
        merge_movable(items);
        if more.is_empty() {
            break;
        }
        extended.extend(more);
    }
    while let Some(circle) = circles(items).first() {
        merge_by_force(items, circle)?;
        // What may stand anywhere may be left in a circle with those that share a crate now.
        merge_movable(items);
    }
    for id in extended {
        bring_back(items, id);
    }
    bring_home(items, &homes);
    Ok(())
}

/// Where a circle has at most one crate whose items must stay, all else moves there.
fn merge_movable(items: &mut Items) {
    for circle in circles(items) {
        let mut staying = circle.iter().filter(|unit| stays(items, unit));
        let first = staying.next();
        if staying.next().is_some() || has_doubles(items, &circle) {
            continue;
        }
        let target = first.or(circle.first()).expect("a circle has members").clone();
        rename(items, &circle, &target);
    }
}

/// Whether in these crates, taken as one, an item that cannot stand apart would find another
/// meaning of a name than its own.
fn has_mistakes(items: &Items, units: &[String]) -> bool {
    let members = || items.all.iter().filter(|(_, item)| units.contains(&item.unit));
    let mut provided: BTreeMap<&str, Vec<ItemId>> = BTreeMap::new();
    for (id, item) in members() {
        item.names().for_each(|name| provided.entry(name).or_default().push(*id));
    }
    let mistakes = |item: &Item| {
        item.refs.iter().any(|name| {
            let meant = items.resolve(item, name);
            let mut here = provided.get(name.as_str()).into_iter().flatten();
            !meant.is_empty() && here.any(|id| !meant.contains(id))
        })
    };
    members().any(|(_, item)| item.has_identity() && mistakes(item))
}

/// Whether these crates cannot be one: two items have one name (an old definition, and what took
/// its place), or a name has two meanings.
fn has_doubles(items: &Items, units: &[String]) -> bool {
    if has_mistakes(items, units) {
        return true;
    }
    let mut seen: Vec<(&str, Kind)> = Vec::new();
    let members = items.all.values().filter(|item| units.contains(&item.unit));
    for Provided { name, kind, .. } in members.flat_map(|item| &item.piece.provides) {
        if seen.iter().any(|(known, other)| known == name && kind.shadows(*other)) {
            return true;
        }
        seen.push((name, *kind));
    }
    false
}

/// Whether every crate means one thing by each name, and none needs itself. What fails this must
/// not be compiled: a type of an earlier value could be read as another.
pub(super) fn is_sound(items: &Items) -> bool {
    let units: BTreeSet<&String> = items.all.values().map(|item| &item.unit).collect();
    let mut named = units.into_iter().filter(|unit| !unit.is_empty());
    named.all(|unit| !has_mistakes(items, std::slice::from_ref(unit))) && circles(items).is_empty()
}

/// Whether an item has no choice of crates.
fn is_fixed(item: &Item) -> bool {
    let is_own = item.extension.is_none() || !item.inherent.is_empty();
    let is_impl = matches!(item.piece.role, Role::Impl(_)) && is_own;
    item.has_identity() || is_impl
}

fn stays(items: &Items, unit: &str) -> bool {
    items.all.values().any(|item| item.unit == unit && is_fixed(item))
}

fn rename(items: &mut Items, from: &[String], to: &str) {
    for item in items.all.values_mut().filter(|item| from.contains(&item.unit)) {
        to.clone_into(&mut item.unit);
    }
}

/// Lets what may stand anywhere stand alone.
fn free_movable(items: &mut Items) -> Homes {
    let circles: BTreeSet<String> = circles(items).into_iter().flatten().collect();
    let mut homes = Homes::new();
    for (id, item) in &mut items.all {
        if circles.contains(&item.unit) && !is_fixed(item) {
            let free = alone(*id);
            homes.push((free.clone(), std::mem::replace(&mut item.unit, free)));
        }
    }
    homes
}

/// Types and statics that have no crate's name yet need not share one.
fn part_new(items: &mut Items) -> Homes {
    let circles: BTreeSet<String> = circles(items).into_iter().flatten().collect();
    let is_part = |item: &Item| circles.contains(&item.unit) && is_provisional(&item.unit);
    let parted: Vec<ItemId> =
        items.all.iter().filter(|(_, item)| is_part(item)).map(|(id, _)| *id).collect();
    let mut homes = Homes::new();
    let (impls, others): (Vec<ItemId>, Vec<ItemId>) =
        parted.into_iter().partition(|id| matches!(items.all[id].piece.role, Role::Impl(_)));
    for id in others {
        let unit = &mut items.all.get_mut(&id).expect("it was found there").unit;
        // What was renewed goes on being known as such.
        let part = if unit.starts_with(RENEWED) { format!("{RENEWED}:{id}") } else { alone(id) };
        homes.push((part.clone(), std::mem::replace(unit, part)));
    }
    for id in &impls {
        items.all.get_mut(id).expect("it was found there").unit.clear();
    }
    for id in impls {
        let unit = host(items, id);
        items.all.get_mut(&id).expect("it was found there").unit = unit;
    }
    homes
}

/// The other way round, as far as no circle comes of it.
fn bring_home(items: &mut Items, homes: &Homes) {
    for (free, home) in homes {
        let there = items.all.iter().filter(|(_, item)| item.unit == *free);
        let there: Vec<ItemId> = there.map(|(id, _)| *id).collect();
        if !there.is_empty() {
            try_in(items, &there, home);
        }
    }
}

/// Whether items can stand in another crate; then they do.
fn try_in(items: &mut Items, ids: &[ItemId], unit: &str) -> bool {
    let tried = items.clone();
    for id in ids {
        unit.clone_into(&mut items.all.get_mut(id).expect("it is there").unit);
    }
    let is_good = !has_doubles(items, &[unit.to_owned()]) && circles(items).is_empty();
    if !is_good {
        *items = tried;
    }
    is_good
}

/// Inherent impls in a circle become impls of traits, which may stand anywhere.
fn extend(items: &mut Items, is_turn: impl Fn(ItemId) -> bool) -> Vec<ItemId> {
    let circles: BTreeSet<String> = circles(items).into_iter().flatten().collect();
    let is_it = |id: ItemId, item: &Item| match &item.piece.role {
        Role::Impl(role) => {
            role.may_be_a_trait(|_| true)
                && item.extension.is_none()
                && circles.contains(&item.unit)
                && is_turn(id)
        }
        _ => false,
    };
    let found = items.all.iter().filter(|(id, item)| is_it(**id, item));
    let found: Vec<ItemId> = found.map(|(id, _)| *id).collect();
    for id in &found {
        items.extend(*id);
        items.all.get_mut(id).expect("it was found there").unit = alone(*id);
    }
    found
}

/// An impl that can stand in its type's crate after all is written as the user wrote it; another
/// one is best kept with the new cell's items.
fn bring_back(items: &mut Items, id: ItemId) {
    let name = items.all.get_mut(&id).expect("it was extended").extension.take();
    let home = host(items, id);
    items.all.get_mut(&id).expect("it was extended").extension = name;
    if try_in(items, &[id], &home) {
        items.restore(id);
    } else {
        try_in(items, &[id], MAIN);
    }
}

/// Items that cannot be in different crates share one: that of them whose others can be made anew
/// at the least cost.
fn merge_by_force(items: &mut Items, circle: &[String]) -> Result<(), BTreeSet<ItemId>> {
    let is_settled = |unit: &&String| !is_provisional(unit);
    let choices = circle.iter().filter(is_settled).filter_map(|target| {
        let moving = moving(items, circle, target)?;
        let oldest = items.all.iter().find(|(_, item)| item.unit == *target).map(|(id, _)| *id);
        Some((moving.len(), oldest, target.clone(), moving))
    });
    if let Some((_, _, target, moving)) = choices.min() {
        if !moving.is_empty() {
            return Err(moving);
        }
        let joining: Vec<String> = circle
            .iter()
            .filter(|unit| **unit == target || is_provisional(unit))
            .cloned()
            .collect();
        if joining.len() > 1 && !has_doubles(items, &joining) {
            rename(items, &joining, &target);
            return Ok(());
        }
    }
    let is_settled = |item: &Item| {
        circle.contains(&item.unit)
            && item.has_identity()
            && item.is_current()
            && !is_provisional(&item.unit)
    };
    let settled: BTreeSet<ItemId> =
        items.all.iter().filter(|(_, item)| is_settled(item)).map(|(id, _)| *id).collect();
    let fresh: Vec<String> = circle.iter().filter(|unit| is_provisional(unit)).cloned().collect();
    if !settled.is_empty() || fresh.len() < 2 || has_doubles(items, &fresh) {
        return Err(settled);
    }
    let renewed = fresh.iter().find(|unit| unit.starts_with(RENEWED));
    let target = renewed.or(fresh.first()).expect("there are two").clone();
    rename(items, &fresh, &target);
    Ok(())
}

/// The settled items of a circle's other crates that must be made anew if those of `target` stay:
/// what needs these and is needed by them; where there is none, what needs them. `None` where that
/// would be an old definition, which stays where it is.
fn moving(items: &Items, circle: &[String], target: &str) -> Option<BTreeSet<ItemId>> {
    let members: Vec<ItemId> = items
        .all
        .iter()
        .filter(|(_, item)| circle.contains(&item.unit) && !item.withheld)
        .map(|(id, _)| *id)
        .collect();
    let mut needs: BTreeMap<ItemId, BTreeSet<ItemId>> = BTreeMap::new();
    for id in &members {
        let item = &items.all[id];
        needs.entry(*id).or_default().extend(items.edges(item));
        for subject in subjects(items, item) {
            // A type and its impl are in one crate.
            if item.extension.is_none() && items.all[&subject].unit == item.unit {
                needs.entry(subject).or_default().insert(*id);
            }
        }
    }
    let mut needed: BTreeMap<ItemId, BTreeSet<ItemId>> = BTreeMap::new();
    for (id, own) in &needs {
        own.iter().for_each(|need| {
            needed.entry(*need).or_default().insert(*id);
        });
    }
    let there = || members.iter().copied().filter(|id| items.all[id].unit == target);
    let (needing, used) = (reached(&needed, there()), reached(&needs, there()));
    let is_moving = |id: &ItemId| {
        let item = &items.all[id];
        item.unit != target && item.has_identity() && !is_provisional(&item.unit)
    };
    let all: BTreeSet<ItemId> = members.iter().copied().filter(is_moving).collect();
    let needing: BTreeSet<ItemId> = all.intersection(&needing).copied().collect();
    let tied: BTreeSet<ItemId> = needing.intersection(&used).copied().collect();
    let moving = if tied.is_empty() { needing } else { tied };
    moving.iter().all(|id| items.all[id].is_current()).then_some(moving)
}

/// What a graph leads to, with where it begins.
fn reached(
    graph: &BTreeMap<ItemId, BTreeSet<ItemId>>,
    from: impl Iterator<Item = ItemId>,
) -> BTreeSet<ItemId> {
    let mut open: Vec<ItemId> = from.collect();
    let mut found: BTreeSet<ItemId> = open.iter().copied().collect();
    while let Some(next) = open.pop() {
        let more = graph.get(&next).into_iter().flatten();
        open.extend(more.copied().filter(|id| found.insert(*id)));
    }
    found
}

/// Sets of crates that need each other.
fn circles(items: &Items) -> Vec<Vec<String>> {
    let mut needs = needs(items);
    // What needs nothing that is left is in no circle; mostly nothing remains.
    loop {
        let done: Vec<&str> = needs
            .iter()
            .filter(|(_, own)| own.iter().all(|need| !needs.contains_key(need)))
            .map(|(unit, _)| *unit)
            .collect();
        if done.is_empty() {
            break;
        }
        done.iter().for_each(|unit| {
            needs.remove(unit);
        });
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        needs.keys().map(|unit| (*unit, reach(&needs, unit))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (unit, reachable) in &reached {
        if !reachable.contains(unit) || circles.iter().flatten().any(|known| known == unit) {
            continue;
        }
        let both = |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(unit));
        circles.push(reachable.iter().filter(both).map(|unit| (*unit).to_owned()).collect());
    }
    circles
}
