//! Methods that are defined anew, and callers that do not fit them. A type has one inherent method
//! of a name: the old one becomes a trait's that goes by a name of its own, which its callers say
//! instead. What a caller says by a macro cannot be written otherwise: then both are written as
//! traits' methods, and each caller has in scope the one it goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::advance::{NewCell, named, pins, subjects};
use super::replace::Replaced;
use super::shadowed::{self, Shadowed};
use super::{Broken, EXTENSION, Item, ItemId, Items, SheetId, by_macro};
use crate::cell::calls;
use crate::cell::impls::ImplRole;
use crate::cell::item::{ItemPiece, Role};
use crate::cell::mentions::mentions_of_text;

/// What a cell takes from the types of earlier ones, or gives them anew.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The members that each inherent impl loses.
    members: BTreeMap<ItemId, BTreeSet<String>>,
    /// The new impls that have members of these names for the same type.
    rivals: BTreeMap<ItemId, Vec<ItemId>>,
    /// What types had by traits, and have of their own now.
    shadowed: Vec<Shadowed>,
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
        let mut found = Self { shadowed: shadowed::find(items, old, new), ..Self::default() };
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
        let by_trait = self.shadowed.iter().flat_map(|shadowed| &shadowed.names);
        let names: BTreeSet<String> =
            self.members.values().flatten().chain(by_trait).cloned().collect();
        let may = |item: &Item| {
            !old.said(item).is_disjoint(&names) || past_traits(old, item).next().is_some()
        };
        old.all.iter().filter(|(_, item)| may(item)).map(|(id, _)| *id).collect()
    }
}

/// The role of an impl that is of no trait.
pub(super) fn inherent(role: &Role) -> Option<&ImplRole> {
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

/// Lets each earlier item that is broken so go on with the members that it knew.
pub(super) fn keep(
    items: &mut Items,
    old: &Items,
    lost: &Lost,
    broken: &BTreeMap<ItemId, Broken>,
    passed: &BTreeSet<ItemId>,
) {
    let keepers: BTreeMap<ItemId, Broken> = broken
        .iter()
        .filter(|(_, what)| matches!(what, Broken::Members | Broken::ByName(_)))
        .map(|(id, what)| (*id, what.clone()))
        .collect();
    go_on_as_before(items, old, &keepers);
    for (id, lost_names) in &lost.members {
        let mut by_trait = Wanted::default();
        let mut by_name = Wanted::default();
        for (keeper, how) in &keepers {
            let said = items.said(&items.all[keeper]);
            let said: BTreeSet<String> = said.intersection(lost_names).cloned().collect();
            let known = past_members(items, &items.all[keeper], old, *id);
            let wanted = match how {
                Broken::ByName(_) => &mut by_name,
                _ => &mut by_trait,
            };
            if said.is_subset(&known) {
                wanted.knowing.push(*keeper);
            } else {
                wanted.keepers.push(*keeper);
            }
            wanted.names.extend(said);
        }
        let may = |id: &ItemId| {
            let role = inherent(&items.all[id].piece.role);
            role.is_some_and(|role| role.may_be_a_trait(|name| by_trait.names.contains(name)))
        };
        if !lost.rivals[id].iter().all(may) {
            by_name.keepers.append(&mut by_trait.keepers);
            by_name.knowing.append(&mut by_trait.knowing);
            by_name.names.append(&mut by_trait.names);
        }
        rename_known(items, old, *id, &by_name);
        if inherent(&items.all[id].piece.role).is_none_or(|role| role.extension.is_none()) {
            continue;
        }
        if !by_trait.keepers.is_empty() {
            let past = past(items, old, *id, &by_trait.names, passed);
            go_on_with(items, &by_trait.keepers, past);
        }
        for rival in lost.rivals[id].iter().filter(|_| !by_trait.names.is_empty()) {
            write_in_part(items, *rival, &by_trait.names);
        }
        if !by_name.keepers.is_empty() {
            with_what_they_call(old, *id, lost_names, &mut by_name.names);
            let past = past_by_name(items, old, *id, &by_name.names, passed);
            go_on_with(items, &by_name.keepers, past);
            for keeper in by_name.keepers {
                by_macro::copy_macros(items, keeper, past);
            }
        }
    }
    let named: BTreeSet<ItemId> = keepers.keys().copied().collect();
    shadowed::keep(items, &lost.shadowed, &named);
    part_rivals(items);
}

/// Who went on with old members does so.
fn go_on_as_before(items: &mut Items, old: &Items, keepers: &BTreeMap<ItemId, Broken>) {
    for (keeper, how) in keepers {
        let before = old.all[keeper].pins.iter();
        let is_past = |id: &ItemId| old.all.get(id).is_some_and(Item::is_past_trait);
        let past = before.filter(|(_, ids)| ids.iter().any(is_past));
        let keeper = items.all.get_mut(keeper).expect("it is an earlier item");
        keeper.of_others = match how {
            Broken::ByName(places) => places.clone(),
            _ => BTreeMap::new(),
        };
        for (name, ids) in past {
            keeper.refs.insert(name.clone());
            keeper.pins.insert(name.clone(), ids.clone());
        }
    }
}

/// Old members that are to be kept, and who goes on with them.
#[derive(Default)]
struct Wanted {
    names: BTreeSet<String>,
    keepers: Vec<ItemId>,
    /// Who goes on with still older ones.
    knowing: Vec<ItemId>,
}

/// Has those who know a still older definition of these members call it by names of its own.
fn rename_known(items: &mut Items, old: &Items, of: ItemId, wanted: &Wanted) {
    let of = subjects(old, &old.all[&of]);
    let knowing = wanted.knowing.iter().map(|id| &items.all[id]);
    let pinned = knowing.flat_map(|item| item.pins.values().flatten().copied());
    let is_one = |id: &ItemId| {
        items.all.get(id).is_some_and(|past| {
            let mut names = past.methods().into_iter();
            past.is_past_trait()
                && subjects(items, past) == of
                && names.any(|name| wanted.names.contains(name))
        })
    };
    let found: Vec<ItemId> = pinned.filter(is_one).collect();
    for id in found {
        items.all.get_mut(&id).expect("it was found there").renamed = true;
        for keeper in &wanted.knowing {
            if items.edges(&items.all[keeper]).contains(&id) {
                by_macro::copy_macros(items, *keeper, id);
            }
        }
    }
}

pub(super) fn go_on_with(items: &mut Items, keepers: &[ItemId], past: ItemId) {
    let name = items.write_as_trait(past);
    for keeper in keepers {
        let keeper = items.all.get_mut(keeper).expect("it is an earlier item");
        keeper.refs.insert(name.clone());
        keeper.pins.insert(name.clone(), vec![past]);
    }
}

/// Adds the lost members that the old ones of these names say themselves.
fn with_what_they_call(
    old: &Items,
    id: ItemId,
    lost: &BTreeSet<String>,
    names: &mut BTreeSet<String>,
) {
    let before = &old.all[&id];
    let Some(role) = inherent(&before.piece.role) else { return };
    let text = &old.sheets[&before.sheet].text;
    loop {
        let said = role.members.iter().filter(|(name, _)| names.contains(name));
        let said = said.filter_map(|(_, range)| text.get(range.clone()));
        let said: BTreeSet<String> = said.flat_map(mentions_of_text).collect();
        let more: Vec<&String> =
            lost.iter().filter(|name| said.contains(*name) && !names.contains(*name)).collect();
        if more.is_empty() {
            return;
        }
        names.extend(more.into_iter().cloned());
    }
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
    let id = if items.all[&id].retired { id } else { copied(items, old, before, passed) };
    only(items, before, id, names)
}

/// The same as a copy whose members are called by names of their own.
fn past_by_name(
    items: &mut Items,
    old: &Items,
    id: ItemId,
    names: &BTreeSet<String>,
    passed: &BTreeSet<ItemId>,
) -> ItemId {
    let before = &old.all[&id];
    let id = copied(items, old, before, passed);
    items.all.get_mut(&id).expect("it was inserted").renamed = true;
    only(items, before, id, names)
}

/// Leaves an old definition these members alone.
fn only(items: &mut Items, before: &Item, id: ItemId, names: &BTreeSet<String>) -> ItemId {
    let past = items.all.get_mut(&id).expect("it is there");
    past.dropped.extend(others(before, names));
    past.inherent.clear();
    id
}

fn copied(items: &mut Items, old: &Items, before: &Item, passed: &BTreeSet<ItemId>) -> ItemId {
    let mut past = before.clone();
    past.retired = true;
    past.extension = None;
    past.pins.extend(pins(old, before, passed, &BTreeSet::new()));
    items.insert(past)
}

/// All members but these.
fn others(item: &Item, names: &BTreeSet<String>) -> Vec<String> {
    let members = inherent(&item.piece.role).into_iter().flat_map(|role| &role.members);
    members.map(|(name, _)| name.clone()).filter(|name| !names.contains(name)).collect()
}

/// The old definitions, written as traits, that an item goes on with.
pub(super) fn past_traits<'a>(items: &'a Items, item: &'a Item) -> impl Iterator<Item = &'a Item> {
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
    /// Where an item may name members that an old definition has: bytes of its text.
    pub fn calls(&self, item: &Item, past: &Item) -> Vec<Range<usize>> {
        let of = of_type(self, past);
        let own = of_type(self, item);
        let names = past.methods();
        let is_type = |head: &str| {
            let meant = if head == "Self" { own.clone() } else { named(self, item, head) };
            !meant.is_empty() && meant == of
        };
        calls::calls(self.text(item), |name| names.contains(name), is_type)
    }

    /// Whether a cell defines a member that an old definition has, and not as it was in `old`.
    pub fn has_anew(&self, old: &Self, sheet: SheetId, past: ItemId) -> bool {
        let Some(past) = self.all.get(&past).filter(|past| past.is_past_trait()) else {
            return false;
        };
        let methods = past.methods();
        let of = subjects(self, past);
        let is_known = |item: &Item| {
            let mut before = old.all.values().filter(|before| before.is_current());
            before.any(|before| old.text(before) == self.text(item))
        };
        self.all.values().filter(|item| item.sheet == sheet).any(|item| {
            inherent(&item.piece.role)
                .is_some_and(|role| members(item, role).any(|name| methods.contains(&**name)))
                && subjects(self, item) == of
                && !is_known(item)
        })
    }

    /// What an item goes on with that is not in force any more, as messages call it.
    pub fn kept(&self, item: &Item) -> Vec<String> {
        let mut kept = Vec::new();
        for (name, ids) in &item.pins {
            let mut past = ids.iter().filter_map(|id| self.all.get(id));
            let past = past.find(|past| past.is_past_trait());
            let own = ids.iter().filter_map(|id| self.all.get(id));
            if own.clone().next().is_some()
                && own.clone().all(|item| by_macro::says_past_members(self, item))
            {
                continue;
            }
            let Some((past, role)) =
                past.and_then(|past| Some((past, inherent(&past.piece.role)?)))
            else {
                kept.push(format!("`{name}`"));
                continue;
            };
            let of = match shadowed::stands_for_a_trait(past) {
                true => role.of_type.as_str(),
                false => role.subjects.first().map_or("", String::as_str),
            };
            let said = self.said(item);
            let said = past.methods().into_iter().filter(|name| said.contains(*name));
            kept.extend(said.map(|name| format!("`{of}::{name}`")));
        }
        kept
    }
}

/// The type that an impl is for.
fn of_type(items: &Items, item: &Item) -> Vec<ItemId> {
    let Role::Impl(role) = &item.piece.role else { return Vec::new() };
    role.subjects.first().map(|name| named(items, item, name)).unwrap_or_default()
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
            past.iter().filter(|past| !past.renamed).any(|past| {
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
    let provided: BTreeSet<&str> = cell
        .items
        .iter()
        .flat_map(|piece| &piece.provides)
        .map(|provided| provided.name.as_str())
        .collect();
    let is_touched = |past: &Item| {
        let mut named = past.refs.iter().map(String::as_str);
        if shadowed::stands_for_a_trait(past) && named.any(|name| provided.contains(name)) {
            return true;
        }
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
            ids.iter().filter_map(|id| items.all.get(id)).any(|kept| {
                let said = kept.pins.values().flatten().filter_map(|id| items.all.get(id));
                let mut said = said.filter(|_| by_macro::says_past_members(items, kept));
                is_touched(kept) || said.any(is_touched)
            })
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
            // The name of a macro is said as before.
            if name.starts_with(EXTENSION) {
                item.refs.remove(&name);
            }
        }
        item.refs.extend(traits.into_iter().filter(|name| name.starts_with(EXTENSION)));
    }
}
