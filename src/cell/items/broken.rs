//! Earlier items that do not compile with a cell's: what each is tried with next, until it is as it
//! was when it was written. In the end it goes on with all that it knew.

use std::collections::{BTreeMap, BTreeSet};

use super::called::means_another;
use super::replace::{Replaced, impl_subjects};
use super::{ItemId, Items, bodies};
use crate::cell::item::Role;
use crate::cell::namespace::Kind;

/// What an earlier item that does not compile with a new cell's goes on with. Each is tried after
/// the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The definitions that it knew.
    Pinned,
    /// Also the members of types that it knew, by names of their own. Calls may be of another type:
    /// at these bytes of its text, so many of the members that are called so are not meant.
    ByName(BTreeMap<usize, usize>),
    /// These members as a trait's: what a macro calls goes by the name that it says.
    Members,
    /// The definitions, and the functions that it knew where these follow what it does not fit.
    Functions,
    /// Also types that it knew, as they were: copies of these, with all that was implemented for
    /// them and all that leads there. Everybody else, and every value, has the types themselves.
    Types(BTreeSet<ItemId>),
    /// Nothing helps: it is left out until it compiles again.
    Withheld,
}

impl Broken {
    /// Whether it goes on with copies of what others follow.
    pub fn keeps_copies(&self) -> bool {
        matches!(self, Self::Functions | Self::Types(_))
    }

    /// Whether it goes on with more than the names that it knew.
    pub(super) fn keeps_more(&self) -> bool {
        !matches!(self, Self::Pinned | Self::Withheld)
    }
}

/// What earlier items may go on with where they do not fit a cell.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Earlier items that may go on with members that their types have lost or got anew.
    pub members: BTreeSet<ItemId>,
    /// Functions that are there still, and mean something else.
    pub(super) functions: BTreeSet<ItemId>,
    /// Types and traits for which the cell implements something, or does not any more.
    pub(super) implemented: BTreeSet<ItemId>,
}

impl Ways {
    /// Whether an earlier item calls a function that means something else.
    pub fn has_functions(&self, old: &Items, id: ItemId) -> bool {
        !old.edges(&old.all[&id]).is_disjoint(&self.functions)
    }

    /// The types that an earlier item would have to go on with to find all as it was; none for what
    /// is what it is by its crate, and for an impl: a method is of the type that everybody has.
    pub fn types(&self, old: &Items, items: &Items, id: ItemId) -> BTreeSet<ItemId> {
        if old.all[&id].piece.role != Role::Movable {
            return BTreeSet::new();
        }
        // For a trait, where the type is none of ours.
        let impls = bodies::impls(old, impl_subjects);
        let reach = |from: ItemId| reach(old, &impls, from);
        let mut altered = self.implemented.clone();
        for (of_type, impls) in &impls {
            let is_other = |id: &ItemId| {
                let (before, now) = (&old.all[id], items.all.get(id).filter(|it| it.is_current()));
                now.is_none_or(|now| means_another(items, old, before, now, |id| *id))
                    || !old.edges(before).is_disjoint(&self.functions)
            };
            if impls.iter().any(is_other) {
                altered.insert(*of_type);
            }
        }
        let known = reach(id).into_iter().filter(|known| may_be_copied(old, *known));
        // What is implemented for a type goes with that; a trait for its own sake does not.
        let is_altered = |id: &ItemId| {
            let is_trait = matches!(old.all[id].piece.role, Role::Trait { .. });
            altered.contains(id) || (!is_trait && !reach(*id).is_disjoint(&altered))
        };
        known.filter(is_altered).collect()
    }
}

/// All that an item leads to, itself included.
pub(super) fn reach(
    items: &Items,
    impls: &BTreeMap<ItemId, Vec<ItemId>>,
    from: ItemId,
) -> BTreeSet<ItemId> {
    let mut reached = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        let Some(item) = items.all.get(&next) else { continue };
        let of_type = impls.get(&next).into_iter().flatten().copied();
        for target in items.edges(item).into_iter().chain(of_type) {
            if reached.insert(target) {
                open.push(target);
            }
        }
    }
    reached
}

/// Whether there may be two of something in force: of a type or a trait, with no statics inside.
fn may_be_copied(items: &Items, id: ItemId) -> bool {
    items.all.get(&id).is_some_and(|item| {
        let mut provides = item.piece.provides.iter();
        let is_type = provides.any(|it| it.kind.is_type() || it.kind == Kind::Trait);
        item.is_current() && item.has_identity() && is_type && !item.piece.has_statics
    })
}

/// The earlier types and traits for which a cell implements something, or does not any more.
pub(super) fn implemented(
    items: &Items,
    old: &Items,
    replaced: &Replaced,
    new: &[ItemId],
) -> BTreeSet<ItemId> {
    let lost = replaced.lost.iter().filter(|(_, names)| !names.is_empty()).map(|(id, _)| id);
    let impls = lost.chain(&replaced.gone).chain(new);
    let subjects = impls.flat_map(|id| impl_subjects(items, *id));
    let before = subjects.map(|id| replaced.same.get(&id).copied().unwrap_or(id));
    before.filter(|id| may_be_copied(old, *id)).collect()
}
