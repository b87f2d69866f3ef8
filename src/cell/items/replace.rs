//! What a new cell replaces, and what that makes of other types.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, ItemId, Items, SheetId};
use crate::cell::item::Role;

/// What a cell's items do to those before them.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// No longer in force.
    pub(super) gone: BTreeSet<ItemId>,
    /// A new item that says what the old one said, in the same cell.
    pub(super) same: BTreeMap<ItemId, ItemId>,
    /// Inherent impls that lose members.
    pub(super) dropped: BTreeMap<ItemId, BTreeSet<String>>,
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
            new.iter().flat_map(|each| members_anew(&items.all[each], old)).collect();
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
        if let Some(twin) = twin.filter(|_| replaced.gone.contains(id)) {
            replaced.same.insert(*twin, *id);
        }
    }
    replaced
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
fn members_anew(new: &Item, old: &Item) -> Vec<String> {
    let (Role::Impl(new), Role::Impl(old)) = (&new.piece.role, &old.piece.role) else {
        return Vec::new();
    };
    if new.of_trait.is_some() || new.header != old.header {
        return Vec::new();
    }
    let has = |name: &&String| new.members.iter().any(|(member, _)| member == *name);
    old.members.iter().map(|(name, _)| name).filter(has).cloned().collect()
}

/// Item for item what stood there before: the same text, or two plain functions of one name.
fn says_the_same(items: &Items, new: &Item, old: &Item) -> bool {
    let names = |item: &Item| item.names().map(str::to_owned).collect::<Vec<_>>();
    let plain = |item: &Item| item.piece.shape.is_none();
    if items.text(new) == items.text(old) {
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
pub(super) fn unchanged(items: &Items, replaced: &Replaced, new: &[ItemId]) -> BTreeSet<ItemId> {
    let mut kept: BTreeSet<ItemId> = items.all.keys().copied().collect();
    kept.retain(|id| !new.contains(id) || replaced.same.contains_key(id));
    kept.retain(|id| !replaced.gone.contains(id));
    loop {
        let changed: BTreeSet<&str> = replaced
            .gone
            .iter()
            .filter(|id| !replaced.same.iter().any(|(new, old)| old == *id && kept.contains(new)))
            .flat_map(|id| impl_subjects(&items.all[id]))
            .collect();
        let before = kept.len();
        let still: BTreeSet<ItemId> = kept
            .iter()
            .copied()
            .filter(|id| {
                let item = &items.all[id];
                let of_changed_impl =
                    !item.retired && item.names().any(|name| changed.contains(name));
                item.retired || (!of_changed_impl && keeps_meaning(items, item, &kept))
            })
            .collect();
        kept = still;
        if kept.len() == before {
            return kept;
        }
    }
}

/// An impl with types or constants in it decides what its subjects mean elsewhere.
fn impl_subjects(item: &Item) -> Vec<&str> {
    match &item.piece.role {
        Role::Impl(role) if item.piece.shape.is_some() => {
            role.subjects.iter().map(String::as_str).collect()
        }
        _ => Vec::new(),
    }
}

fn keeps_meaning(items: &Items, item: &Item, kept: &BTreeSet<ItemId>) -> bool {
    item.piece.shape.is_none()
        || matches!(item.piece.role, Role::Impl(_))
        || item.refs.iter().flat_map(|name| items.resolve(item, name)).all(|target| {
            // A retired one is pinned: it means what it meant.
            let known = &items.all[&target];
            kept.contains(&target) || known.retired || known.piece.shape.is_none()
        })
}
