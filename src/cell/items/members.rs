//! Methods that are defined anew, and callers that do not fit them. A type has one inherent method
//! of a name; so both are written as traits' methods, and each caller has in scope the one it goes
//! on with.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::{NewCell, pins, subjects};
use super::replace::Replaced;
use super::{EXTENSION, Item, ItemId, Items};
use crate::cell::impls::ImplRole;
use crate::cell::item::{ItemPiece, Role};

/// What a cell takes from the types of earlier ones, or gives them anew.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The members that each inherent impl loses.
    members: BTreeMap<ItemId, BTreeSet<String>>,
    /// The new impls that have members of these names for the same type.
    rivals: BTreeMap<ItemId, Vec<ItemId>>,
}

impl Lost {
    /// `verbatim` are items that were written again word for word, and as what.
    pub(super) fn find(
        items: &Items,
        old: &Items,
        new: &[ItemId],
        replaced: &Replaced,
        verbatim: &BTreeMap<ItemId, ItemId>,
    ) -> Self {
        let mut found = Self::default();
        for (id, before) in old.all.iter().filter(|(id, _)| !verbatim.contains_key(id)) {
            if inherent(&before.piece.role).is_none() {
                continue;
            }
            let Some(lost) = replaced.lost.get(id).filter(|lost| !lost.is_empty()) else {
                continue;
            };
            let of = subjects(old, before).into_iter();
            let of: Vec<ItemId> = of.map(|id| verbatim.get(&id).copied().unwrap_or(id)).collect();
            // What is implemented for a type that is an old one now stays with that.
            if of.is_empty() || !of.iter().all(|id| items.all[id].is_current()) {
                continue;
            }
            let is_rival = |id: &&ItemId| {
                let item = &items.all[id];
                inherent(&item.piece.role).is_some_and(|role| {
                    members(item, role).any(|name| lost.contains(name))
                        && subjects(items, item) == of
                })
            };
            let rivals: Vec<ItemId> = new.iter().filter(is_rival).copied().collect();
            found.rivals.insert(*id, rivals);
            found.members.insert(*id, lost.clone());
        }
        found
    }

    /// Earlier items that may go on with old members: what says one of the names, and what goes on
    /// with some already.
    pub(super) fn said_by(&self, old: &Items) -> BTreeSet<ItemId> {
        let names: BTreeSet<String> = self.members.values().flatten().cloned().collect();
        let may = |item: &Item| {
            !old.said(item).is_disjoint(&names) || past_traits(old, item).next().is_some()
        };
        old.all.iter().filter(|(_, item)| may(item)).map(|(id, _)| *id).collect()
    }
}

fn inherent(role: &Role) -> Option<&ImplRole> {
    match role {
        Role::Impl(role) if role.of_trait.is_none() => Some(role),
        _ => None,
    }
}

fn members<'a>(item: &'a Item, role: &'a ImplRole) -> impl Iterator<Item = &'a String> {
    role.members.iter().map(|(name, _)| name).filter(|name| !item.dropped.contains(*name))
}

/// What is written again word for word stays a trait's where an old definition still is one.
pub(super) fn carry(items: &mut Items, verbatim: &BTreeMap<ItemId, ItemId>) {
    for (old, new) in verbatim {
        let before = &items.all[old];
        let Some(name) = before.extension.clone() else { continue };
        let is_rival = |past: &Item| {
            past.is_past_trait()
                && !past.methods().is_disjoint(&before.methods())
                && subjects(items, past) == subjects(items, before)
        };
        if items.all.iter().any(|(id, past)| id != old && is_rival(past)) {
            let inherent = before.inherent.clone();
            items.by_name.entry(name.clone()).or_default().insert(*new);
            let new = items.all.get_mut(new).expect("it joined");
            (new.extension, new.inherent) = (Some(name), inherent);
        }
    }
}

/// Lets each of `keepers` go on with the members that it knew.
pub(super) fn keep(
    items: &mut Items,
    old: &Items,
    lost: &Lost,
    keepers: &BTreeSet<ItemId>,
    passed: &BTreeSet<ItemId>,
) {
    for keeper in keepers {
        let before = old.all[keeper].pins.iter();
        let is_past = |id: &ItemId| old.all.get(id).is_some_and(Item::is_past_trait);
        let past = before.filter(|(_, ids)| ids.iter().any(is_past));
        let keeper = items.all.get_mut(keeper).expect("it is an earlier item");
        for (name, ids) in past {
            keeper.refs.insert(name.clone());
            keeper.pins.insert(name.clone(), ids.clone());
        }
    }
    for (id, lost_names) in &lost.members {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut wanting: Vec<ItemId> = Vec::new();
        for keeper in keepers {
            let said = items.said(&items.all[keeper]);
            let said: BTreeSet<String> = said.intersection(lost_names).cloned().collect();
            let known = past_members(items, &items.all[keeper], old, *id);
            if !said.is_empty() && !said.is_subset(&known) {
                wanting.push(*keeper);
            }
            names.extend(said);
        }
        let may = |id: &ItemId| {
            let role = inherent(&items.all[id].piece.role);
            role.is_some_and(|role| role.may_be_a_trait(|name| names.contains(name)))
        };
        if names.is_empty() || !may(id) || !lost.rivals[id].iter().all(may) {
            continue;
        }
        if !wanting.is_empty() {
            let past = past(items, old, *id, &names, passed);
            let name = items.write_as_trait(past);
            for keeper in wanting {
                let keeper = items.all.get_mut(&keeper).expect("it is an earlier item");
                keeper.refs.insert(name.clone());
                keeper.pins.insert(name.clone(), vec![past]);
            }
        }
        for rival in &lost.rivals[id] {
            write_in_part(items, *rival, &names);
        }
    }
    part_rivals(items);
}

/// Writes these of an impl's members as a trait's; the others stay the type's own.
fn write_in_part(items: &mut Items, id: ItemId, names: &BTreeSet<String>) {
    let item = items.all.get_mut(&id).expect("it joined");
    if item.extension.is_none()
        && let Some(role) = inherent(&item.piece.role)
    {
        item.inherent = role.members.iter().map(|(name, _)| name.clone()).collect();
    }
    item.inherent.retain(|name| !names.contains(name));
    items.extend(id);
}

/// The old definition of an impl's members, and of no others: the impl itself, where nothing of it
/// is in force any more, else a copy.
fn past(
    items: &mut Items,
    old: &Items,
    id: ItemId,
    names: &BTreeSet<String>,
    passed: &BTreeSet<ItemId>,
) -> ItemId {
    let before = &old.all[&id];
    let others: Vec<String> = inherent(&before.piece.role)
        .into_iter()
        .flat_map(|role| &role.members)
        .map(|(name, _)| name.clone())
        .filter(|name| !names.contains(name))
        .collect();
    let id = if items.all[&id].retired {
        id
    } else {
        let mut past = before.clone();
        past.retired = true;
        past.extension = None;
        past.pins.extend(pins(old, before, passed, &BTreeSet::new()));
        items.insert(past)
    };
    let past = items.all.get_mut(&id).expect("it is there");
    past.dropped.extend(others);
    past.inherent.clear();
    id
}

/// The old definitions, written as traits, that an item goes on with.
fn past_traits<'a>(items: &'a Items, item: &'a Item) -> impl Iterator<Item = &'a Item> {
    let pinned = item.pins.values().flatten().filter_map(|id| items.all.get(id));
    pinned.filter(|past| past.is_past_trait())
}

/// The members of an impl's type that an item has from old definitions.
fn past_members(items: &Items, item: &Item, old: &Items, of: ItemId) -> BTreeSet<String> {
    let of = subjects(old, &old.all[&of]);
    let traits = past_traits(items, item).filter(|past| subjects(items, past) == of);
    traits.flat_map(Item::methods).map(str::to_owned).collect()
}

impl Items {
    /// What an item goes on with that is not in force any more, as messages call it.
    pub fn kept(&self, item: &Item) -> Vec<String> {
        let mut kept = Vec::new();
        for (name, ids) in &item.pins {
            let mut past = ids.iter().filter_map(|id| self.all.get(id));
            let past = past.find(|past| past.is_past_trait());
            let Some((past, role)) =
                past.and_then(|past| Some((past, inherent(&past.piece.role)?)))
            else {
                kept.push(format!("`{name}`"));
                continue;
            };
            let of = role.subjects.first().map_or("", String::as_str);
            let said = self.said(item);
            let said = past.methods().into_iter().filter(|name| said.contains(*name));
            kept.extend(said.map(|name| format!("`{of}::{name}`")));
        }
        kept
    }
}

/// Who goes on with an old member, and the old member itself, has the new one's trait not in scope.
fn part_rivals(items: &mut Items) {
    let mut parted: Vec<(ItemId, String)> = Vec::new();
    for (id, item) in &items.all {
        let own = item.is_past_trait().then_some(item);
        let past: Vec<&Item> = past_traits(items, item).chain(own).collect();
        if past.is_empty() {
            continue;
        }
        let said = items.said(item);
        let is_rival = |other: &Item| {
            let names = other.methods();
            past.iter().any(|past| {
                let is_own = std::ptr::eq(*past, item);
                let mut shared = past.methods().into_iter().filter(|name| names.contains(name));
                shared.any(|name| is_own || said.contains(name))
                    && subjects(items, past) == subjects(items, other)
            })
        };
        let traits = item.refs.iter().filter(|name| name.starts_with(EXTENSION));
        let rivals = traits.filter(|name| {
            let current = items.current(name);
            !item.pins.contains_key(*name) && current.iter().any(|id| is_rival(&items.all[id]))
        });
        parted.extend(rivals.map(|name| (*id, name.clone())));
    }
    for (id, name) in parted {
        items.all.get_mut(&id).expect("it was found there").refs.remove(&name);
    }
}

/// Those who kept a member that a cell defines anew try that.
pub(super) fn release(items: &mut Items, cell: &NewCell) {
    let is_known = |piece: &&ItemPiece| {
        let text = cell.sheet.text.get(piece.range.clone());
        items.all.values().any(|item| item.is_current() && text == Some(items.text(item)))
    };
    let new = cell.items.iter().filter(|piece| !is_known(piece));
    let new: Vec<&ImplRole> = new.filter_map(|piece| inherent(&piece.role)).collect();
    let is_touched = |past: &Item| {
        let Some(role) = inherent(&past.piece.role).filter(|_| past.is_past_trait()) else {
            return false;
        };
        // An old type gets no new members.
        if !subjects(items, past).iter().all(|id| items.all[id].is_current()) {
            return false;
        }
        let has = |other: &ImplRole| members(past, role).any(|name| other.has(name));
        new.iter().any(|other| other.subjects.first() == role.subjects.first() && has(other))
    };
    let kept = |item: &Item| -> Vec<String> {
        let is_kept = |(_, ids): &(&String, &Vec<ItemId>)| {
            ids.iter().filter_map(|id| items.all.get(id)).any(is_touched)
        };
        item.pins.iter().filter(is_kept).map(|(name, _)| name.clone()).collect()
    };
    let current = items.all.iter().filter(|(_, item)| !item.retired);
    let released: Vec<(ItemId, Vec<String>)> =
        current.map(|(id, item)| (*id, kept(item))).filter(|(_, kept)| !kept.is_empty()).collect();
    for (id, kept) in released {
        let traits = items.traits_with(&items.all[&id].piece.words);
        let item = items.all.get_mut(&id).expect("it was found there");
        for name in kept {
            item.pins.remove(&name);
            item.refs.remove(&name);
        }
        item.refs.extend(traits.into_iter().filter(|name| name.starts_with(EXTENSION)));
    }
}
