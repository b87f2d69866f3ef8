//! What a new cell replaces, and what that makes of other types.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::{is_alias, named, refs_by, subjects};
use super::statics::{self, begins_with};
use super::{Item, ItemId, Items, SheetId, interior};
use crate::cell::impls::ImplRole;
use crate::cell::item::{ItemPiece, Role};

/// What a cell's items do to those before them.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// No longer in force.
    pub(super) gone: BTreeSet<ItemId>,
    /// A new item that says what the old one said, in the same cell.
    pub(super) same: BTreeMap<ItemId, ItemId>,
    /// Inherent impls that lose members, and all that they have lost by now.
    pub(super) dropped: BTreeMap<ItemId, BTreeSet<String>>,
    /// What inherent impls lose with this cell, whether they go as a whole or not.
    pub(super) lost: BTreeMap<ItemId, BTreeSet<String>>,
    /// Earlier items that go on with more than the names that they knew.
    pub(super) keepers: BTreeSet<ItemId>,
}

/// What the items of `sheet` replace: another run of the same cell all that it defined before;
/// else each item what had its name, each impl the members it defines anew.
pub(super) fn replaced(items: &Items, sheet: SheetId, new: &[ItemId]) -> Replaced {
    let mut replaced = Replaced::default();
    let key = &items.sheets[&sheet].key;
    let again = |item: &Item| !key.is_empty() && items.sheets[&item.sheet].key == *key;
    for (id, old) in &items.all {
        if old.sheet == sheet || old.retired {
            continue;
        }
        let twin = new.iter().find(|each| says_the_same(items, &items.all[*each], old));
        let by_name = new.iter().any(|each| shadows(&items.all[each], old));
        let members: BTreeSet<String> =
            new.iter().flat_map(|each| members_anew(items, &items.all[each], old)).collect();
        let verbatim = new.iter().any(|each| items.text(&items.all[each]) == items.text(old));
        if again(old) || by_name || verbatim {
            replaced.gone.insert(*id);
        } else if !members.is_empty() {
            let Role::Impl(role) = &old.piece.role else { continue };
            let mut all_dropped = old.dropped.clone();
            all_dropped.extend(members);
            if role.members.iter().all(|(name, _)| all_dropped.contains(name)) {
                replaced.gone.insert(*id);
            } else {
                replaced.dropped.insert(*id, all_dropped);
            }
        }
        if let Role::Impl(role) = &old.piece.role
            && role.of_trait.is_none()
        {
            let goes = |name: &&String| match replaced.dropped.get(id) {
                Some(dropped) => dropped.contains(*name),
                None => replaced.gone.contains(id),
            };
            let own = role.members.iter().map(|(name, _)| name).filter(goes);
            let lost: BTreeSet<String> =
                own.filter(|name| !old.dropped.contains(*name)).cloned().collect();
            replaced.lost.insert(*id, lost);
        }
        if let Some(twin) = twin.filter(|_| replaced.gone.contains(id)) {
            replaced.same.insert(*twin, *id);
        }
    }
    // What another impl or macro of the cell is for moves with it, though it says the same.
    let alone: Vec<ItemId> = replaced.same.keys().copied().collect();
    let another = new.iter().filter(|id| !alone.contains(id)).map(|id| &*items.all[id].piece);
    for piece in another.filter(|piece| is_tied(piece)) {
        let is_named = |id: &ItemId| items.all[id].names().any(|name| piece.words.contains(name));
        replaced.same.retain(|id, _| !is_named(id) && !piece.words.contains("macro_use"));
    }
    replaced
}

/// Whether an item implements traits for types outside, or has macros for what follows it: those
/// must stand in its crate.
fn is_tied(piece: &ItemPiece) -> bool {
    let is_module = !piece.modules.is_empty();
    let is_nameless = piece.provides.is_empty() && piece.role == Role::Movable;
    (is_module && piece.words.contains("macro_use"))
        || ((is_module || is_nameless) && piece.words.contains("impl"))
}

/// One takes the name of the other, in one of Rust's name spaces; or is the same trait's impl.
fn shadows(new: &Item, old: &Item) -> bool {
    let by_name = new.piece.provides.iter().any(|new| {
        old.piece.provides.iter().any(|old| new.name == old.name && new.kind.shadows(old.kind))
    });
    let by_header = match (&new.piece.role, &old.piece.role) {
        (Role::Impl(new), Role::Impl(old)) => new.of_trait.is_some() && new.header == old.header,
        _ => false,
    };
    by_name || by_header
}

/// Members of an inherent impl that a new one for the same type defines, too.
fn members_anew(items: &Items, new_item: &Item, old_item: &Item) -> Vec<String> {
    let (Role::Impl(new), Role::Impl(old)) = (&new_item.piece.role, &old_item.piece.role) else {
        return Vec::new();
    };
    if new.of_trait.is_some() || old.of_trait.is_some() {
        return Vec::new();
    }
    let shared = old.members.iter().map(|(name, _)| name).filter(|name| new.has(name));
    let shared: Vec<String> = shared.cloned().collect();
    if shared.is_empty() {
        return shared;
    }
    let (of_new, of_old) = (subjects(items, new_item), subjects(items, old_item));
    // A module has many types.
    let name_of_new = items.type_name(new_item, &new.of_type);
    let name_of_old = items.type_name(old_item, &old.of_type);
    let is_known =
        |name: &String| of_new.iter().any(|id| items.all[id].piece.inner_names.contains(name));
    let are_two = name_of_new != name_of_old && is_known(&name_of_new) && is_known(&name_of_old);
    let is_same = !of_new.is_empty() && of_new == of_old && !are_two;
    if new.may_overlap(old, is_same) { shared } else { Vec::new() }
}

/// Item for item what stood there before: the same text, or two plain functions of one name.
fn says_the_same(items: &Items, new: &Item, old: &Item) -> bool {
    let names = |item: &Item| item.names().map(str::to_owned).collect::<Vec<_>>();
    let plain = |item: &Item| item.piece.shape.is_none();
    if items.says(new) == items.says(old) {
        return true;
    }
    match (&new.piece.role, &old.piece.role) {
        (Role::Impl(one), Role::Impl(other)) => {
            one.header == other.header && plain(new) && plain(old)
        }
        (Role::Movable, Role::Movable) => plain(new) && plain(old) && names(new) == names(old),
        _ => false,
    }
}

/// Items whose meaning is what it was: what a variable of their types holds stays valid.
pub(super) fn unchanged(
    items: &Items,
    old: &Items,
    replaced: &Replaced,
    new: &[ItemId],
    forced: &BTreeSet<ItemId>,
) -> BTreeSet<ItemId> {
    let mut kept: BTreeSet<ItemId> = items.all.keys().copied().collect();
    kept.retain(|id| !new.contains(id) || replaced.same.contains_key(id));
    kept.retain(|id| !replaced.gone.contains(id) && !forced.contains(id));
    kept.retain(|id| {
        let before = replaced.same.get(id);
        before.is_none_or(|before| statics::begins_so(items, old, replaced, *id, *before))
    });
    loop {
        let goes =
            |id: &&ItemId| !replaced.same.iter().any(|(new, old)| old == *id && kept.contains(new));
        // A trait's impl that is written again with the same types and constants.
        let again = pairs(items, &replaced.gone, new, &kept);
        let comes_again = |id: &ItemId| again.iter().any(|(old, new)| old == id || new == id);
        let went = replaced.gone.iter().chain(replaced.dropped.keys()).filter(goes);
        let went = went.filter(|id| !comes_again(id));
        let went = went.map(|id| (*id, replaced.lost.get(id).cloned().unwrap_or_default()));
        // A type's own constant hides one that it has by a trait.
        let added = new.iter().filter(|id| !kept.contains(id)).filter_map(|id| {
            match &items.all[id].piece.role {
                Role::Impl(role) if role.of_trait.is_none() => Some((*id, role.deciding.clone())),
                _ => None,
            }
        });
        let altered = kept.iter().filter_map(|id| Some((*id, altered(items, *id, &kept)?)));
        let gone = replaced.gone.iter().filter(goes).copied();
        let come = new.iter().filter(|id| !kept.contains(id)).copied();
        let turned = statics::turned(items, gone.clone(), come.clone());
        let swaying = gone.chain(come);
        let swaying = swaying.filter(|id| !comes_again(id) && sways(items, *id, &kept));
        let changed: BTreeSet<ItemId> = went
            .chain(added)
            .chain(altered)
            .filter(|(id, names)| decides(items, *id, names, replaced, new))
            .flat_map(|(id, _)| {
                // An alias in its header may have led to others.
                let before =
                    if old.all.contains_key(&id) { impl_subjects(old, id) } else { Vec::new() };
                impl_subjects(items, id).into_iter().chain(before)
            })
            .chain(swaying.flat_map(|id| impl_subjects(items, id)))
            .collect();
        let stirred = interior::stirred(items, old, replaced, new, &kept);
        let before = kept.len();
        let still: BTreeSet<ItemId> = kept
            .iter()
            .copied()
            .filter(|id| {
                let item = &items.all[id];
                let means_the_same = || {
                    keeps_meaning(items, item, &kept)
                        && old.all.get(id).is_none_or(|before| {
                            means_what_it_did(items, item, old, before, replaced)
                        })
                };
                let is_other = || statics::is_kept_otherwise(items, item, &turned);
                let is_changed = changed.contains(id) || stirred.contains(id);
                item.retired || (!is_changed && !is_other() && means_the_same())
            })
            .collect();
        kept = still;
        if kept.len() == before {
            return kept;
        }
    }
}

/// Impls that are gone, and what came for each: for the same trait and type, with the same said of
/// other types.
fn pairs(
    items: &Items,
    gone: &BTreeSet<ItemId>,
    new: &[ItemId],
    kept: &BTreeSet<ItemId>,
) -> Vec<(ItemId, ItemId)> {
    let says_the_same = |old: &Item, new: &Item| {
        let (Role::Impl(was), Role::Impl(is)) = (&old.piece.role, &new.piece.role) else {
            return false;
        };
        let words: BTreeSet<String> = is.deciding_words.union(&is.header_words).cloned().collect();
        let said = |item: &Item, role: &ImplRole| -> Vec<String> {
            let text = &items.sheets[&item.sheet].text;
            let members = role.members.iter().filter(|(name, _)| role.deciding.contains(name));
            let members = members.filter_map(|(_, range)| text.get(range.clone()));
            let mut said: Vec<String> = members.map(str::to_owned).collect();
            said.extend(items.imports_of(item, &words).map(str::to_owned));
            said.sort_unstable();
            said
        };
        let means_the_same = || {
            let named = refs_by(items, &Items::default(), new, &words);
            let mut meant = named.iter().flat_map(|name| items.resolve(new, name));
            meant.all(|id| kept.contains(&id) || items.all[&id].piece.shape.is_none())
        };
        is.of_trait.is_some()
            && was.header == is.header
            && !is.deciding.contains("")
            && items.macros_of(new).is_empty()
            && said(old, was) == said(new, is)
            && means_the_same()
    };
    let of_gone = gone.iter().filter_map(|id| {
        let again = new.iter().find(|new| says_the_same(&items.all[id], &items.all[*new]))?;
        Some((*id, *again))
    });
    of_gone.collect()
}

/// Whether an impl that comes or goes decides what an earlier type is made of: other impls have
/// their constants and types for whatever has its trait.
fn sways(items: &Items, id: ItemId, kept: &BTreeSet<ItemId>) -> bool {
    let of_trait = |item: &Item| match &item.piece.role {
        Role::Impl(role) => role.of_trait.clone(),
        _ => None,
    };
    let Some(name) = of_trait(&items.all[&id]) else { return false };
    let mut given: BTreeSet<String> = BTreeSet::new();
    if name == "Drop" {
        given.insert("needs_drop".to_owned());
    }
    for item in items.all.values().filter(|item| !item.retired) {
        let Role::Impl(role) = &item.piece.role else { continue };
        let asks = role.of_trait.as_ref() != Some(&name) && role.header_words.contains(&name);
        if asks && !role.deciding_words.is_empty() {
            given.extend(role.deciding.iter().cloned());
        }
    }
    let says = |item: &Item| {
        item.piece.shape.is_some()
            && !matches!(item.piece.role, Role::Impl(_))
            && !said_of_types(items, item).is_disjoint(&given)
    };
    !given.is_empty() && kept.iter().any(|id| says(&items.all[id]))
}

/// The words of an item that decide what it is: what a static begins with is no part of that.
fn said_of_types(items: &Items, item: &Item) -> BTreeSet<String> {
    item.piece.type_words.clone().unwrap_or_else(|| items.said(item))
}

/// The constants and types of an impl in force, where what these say is not what it was.
fn altered(items: &Items, id: ItemId, kept: &BTreeSet<ItemId>) -> Option<BTreeSet<String>> {
    let item = &items.all[&id];
    let Role::Impl(role) = &item.piece.role else { return None };
    if item.retired || role.deciding_words.is_empty() {
        return None;
    }
    let said = refs_by(items, &Items::default(), item, &role.deciding_words);
    let mut targets = item.refs.intersection(&said).flat_map(|name| items.resolve(item, name));
    let is_other = |target: &ItemId| {
        let known = &items.all[target];
        !kept.contains(target) && !known.retired && known.piece.shape.is_some()
    };
    // An alias or a constant in its head says whom it is for.
    let is_for_others = || {
        let named = refs_by(items, &Items::default(), item, &role.header_words);
        let mut heads = item.refs.intersection(&named).flat_map(|name| items.resolve(item, name));
        heads.any(|id| items.all[&id].piece.role == Role::Movable && is_other(&id))
    };
    let is_altered = targets.any(|target| is_other(&target)) || is_for_others();
    is_altered.then(|| role.deciding.clone())
}

/// Whether what a type is, or was, may hang on these members of an impl that are lost or altered. A
/// trait's impl gives types to code that names none of them; a type's own constants are part of
/// another type only where that says their names, or those of constants that do.
fn decides(
    items: &Items,
    id: ItemId,
    names: &BTreeSet<String>,
    replaced: &Replaced,
    new: &[ItemId],
) -> bool {
    let item = &items.all[&id];
    let Role::Impl(role) = &item.piece.role else { return false };
    if let Some(of_trait) = &role.of_trait {
        // What the trait has by default may be said anew, or not any more.
        let says_more = |id: &ItemId| match &items.all[id].piece.role {
            Role::Impl(new) => new.of_trait.as_ref() == Some(of_trait) && !new.deciding.is_empty(),
            _ => false,
        };
        return !role.deciding.is_empty() || new.iter().any(says_more);
    }
    if role.deciding.contains("") || !role.homes.is_disjoint(names) {
        return true;
    }
    let mut lost: BTreeSet<String> = role.deciding.intersection(names).cloned().collect();
    // What is new means what it says now; what stays what it was must go on meaning that.
    let stays = |(id, _): &(&ItemId, &Item)| !new.contains(id) || replaced.same.contains_key(id);
    loop {
        let mut more: BTreeSet<String> = BTreeSet::new();
        for (_, item) in items.all.iter().filter(stays) {
            if item.piece.shape.is_none() || said_of_types(items, item).is_disjoint(&lost) {
                continue;
            }
            match &item.piece.role {
                Role::Impl(role) if role.of_trait.is_none() => {
                    more.extend(role.deciding.iter().cloned());
                }
                Role::Movable if !is_alias(item) => {
                    more.extend(item.names().map(str::to_owned));
                }
                _ => return true,
            }
        }
        more.retain(|name| !lost.contains(name));
        if more.is_empty() {
            return false;
        }
        lost.extend(more);
    }
}

/// Whose meaning elsewhere an impl decides: its types; the trait where the type is not ours.
pub(super) fn impl_subjects(items: &Items, id: ItemId) -> Vec<ItemId> {
    let item = &items.all[&id];
    let Role::Impl(role) = &item.piece.role else { return Vec::new() };
    let meant = |name: &String| named(items, item, name);
    let is_ours = role.subjects.first().is_some_and(|name| !meant(name).is_empty());
    let of_trait = role.of_trait.as_ref().filter(|_| !is_ours);
    role.subjects.iter().chain(of_trait).flat_map(meant).collect()
}

/// Whether an earlier item means by its names what it meant: a pin may have been let go.
fn means_what_it_did(
    items: &Items,
    item: &Item,
    old: &Items,
    before: &Item,
    replaced: &Replaced,
) -> bool {
    if item.piece.shape.is_none() || matches!(item.piece.role, Role::Impl(_)) {
        return true;
    }
    let now = |id: &ItemId| {
        let again = replaced.same.iter().find(|(_, old)| *old == id).map(|(new, _)| *new);
        again.unwrap_or(*id)
    };
    let begins = begins_with(items, item);
    let let_go = |name: &&String| !item.pins.contains_key(*name) && !begins.contains(*name);
    before.pins.keys().filter(let_go).all(|name| {
        let (was, is) = (old.resolve(before, name), items.resolve(item, name));
        let decides = |id: &ItemId| items.all[id].piece.shape.is_some();
        was.iter().map(now).eq(is.iter().copied()) || !was.iter().chain(&is).any(decides)
    })
}

fn keeps_meaning(items: &Items, item: &Item, kept: &BTreeSet<ItemId>) -> bool {
    if item.piece.shape.is_none() || matches!(item.piece.role, Role::Impl(_)) {
        return true;
    }
    let begins = begins_with(items, item);
    // By a name that is pinned, it means what it meant.
    let is_open = |name: &&String| !begins.contains(*name) && !item.pins.contains_key(*name);
    let named = item.refs.iter().filter(is_open);
    named.flat_map(|name| items.resolve(item, name)).all(|target| {
        let known = &items.all[&target];
        kept.contains(&target) || known.retired || known.piece.shape.is_none()
    })
}
