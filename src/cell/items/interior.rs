//! What async blocks hold while they wait. rustc knows an async block by its place, by what it
//! takes along and by what it gives; but not by what it holds, which is of the types that the
//! functions give that it calls. Where it stands in a plain function or in an impl, it gets another
//! place when these change (`bodies`). A trait, a module, a function with items inside *is* its
//! place: then it becomes another one, or what it made before, hidden behind `dyn Any`, would be
//! taken for what it makes now.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::{refs_by, subjects};
use super::replace::{Replaced, impl_subjects};
use super::{Item, ItemId, Items, bodies, broken};
use crate::cell::impls::ImplRole;
use crate::cell::item::Role;
use crate::cell::mentions::mentions_of_text;

/// Members of types by their names, and the types.
type Members = BTreeMap<String, BTreeSet<ItemId>>;

/// Items, written in the same words as before, whose async blocks may hold something else now.
/// `kept` are those that mean what they meant, as far as that is known.
pub(super) fn stirred(
    items: &Items,
    old: &Items,
    replaced: &Replaced,
    new: &[ItemId],
    kept: &BTreeSet<ItemId>,
) -> BTreeSet<ItemId> {
    if !items.all.values().any(|item| item.piece.words.contains("async")) {
        return BTreeSet::new();
    }
    let is_one = |item: &Item| match &item.piece.role {
        // Who calls them sees what type they are of.
        Role::Impl(role) => !item.retired && !role.deciding.is_empty(),
        // What one begins with is made once.
        Role::Static => false,
        _ => !item.retired && item.piece.shape.is_some(),
    };
    let mut candidates = Vec::new();
    // Who goes on with what it knew does so here, too.
    let may = |(id, item): &(&ItemId, &Item)| is_one(item) && !replaced.keepers.contains(id);
    for (id, item) in items.all.iter().filter(may) {
        let said = items.said(item);
        let before = old.all.get(replaced.same.get(id).unwrap_or(id));
        if let Some(before) = before.filter(|_| said.contains("async")) {
            candidates.push((*id, item, before, said));
        }
    }
    if candidates.is_empty() {
        return BTreeSet::new();
    }
    let is_other = |id: &ItemId| {
        let known = &items.all[id];
        !kept.contains(id) && !known.retired && known.piece.shape.is_some()
    };
    let mut members = altered_members(items, old, replaced, new, &is_other);
    let impls = bodies::impls(items, impl_subjects);
    let mut stirred: BTreeSet<ItemId> = BTreeSet::new();
    loop {
        let mut more = Vec::new();
        for (id, item, before, said) in &candidates {
            let calls_other = || {
                let mut named = members.iter().filter(|(name, _)| said.contains(*name)).peekable();
                let known = named.peek().map(|_| broken::reach(items, &impls, *id));
                known.is_some_and(|known| named.any(|(_, of)| !of.is_disjoint(&known)))
            };
            let names_one = || !items.edges(item).is_disjoint(&stirred);
            let sees_other = || {
                let (now, then) = (Seen::by(items, item), Seen::by(old, before));
                now.signatures != then.signatures || now.types.iter().any(is_other)
            };
            if !stirred.contains(id) && (calls_other() || names_one() || sees_other()) {
                more.push((*id, item));
            }
        }
        if more.is_empty() {
            stirred.retain(|id| !matches!(items.all[id].piece.role, Role::Impl(_)));
            return stirred;
        }
        for (id, item) in more {
            stirred.insert(id);
            if let Role::Impl(role) = &item.piece.role {
                for name in &role.deciding {
                    members.entry(name.clone()).or_default().extend(subjects(items, item));
                }
            }
        }
    }
}

/// What an item sees of what it names: of a plain function, how it is called.
#[derive(Default)]
struct Seen<'a> {
    signatures: BTreeSet<&'a str>,
    /// Whatever is more than that.
    types: BTreeSet<ItemId>,
}

impl<'a> Seen<'a> {
    fn by(items: &'a Items, item: &'a Item) -> Self {
        let mut seen = Self::default();
        let mut open: Vec<(&Item, BTreeSet<String>)> = vec![(item, item.refs.clone())];
        while let Some((item, names)) = open.pop() {
            for name in names {
                let targets = items.resolve(item, &name).into_iter();
                for (id, target) in targets.filter_map(|id| Some((id, items.all.get(&id)?))) {
                    for provided in &target.piece.provides {
                        let is_plain = target.piece.shape.is_none();
                        if is_plain && seen.signatures.insert(&provided.header) {
                            open.push((target, named(items, target, &provided.header)));
                        }
                    }
                    // By a name that is pinned, it means what it meant.
                    if target.piece.shape.is_some() && !item.pins.contains_key(&name) {
                        seen.types.insert(id);
                    }
                }
            }
        }
        seen
    }
}

/// What one of an item's signatures names.
fn named(items: &Items, item: &Item, signature: &str) -> BTreeSet<String> {
    let said = refs_by(items, &Items::default(), item, &mentions_of_text(signature));
    item.refs.intersection(&said).cloned().collect()
}

/// Methods and constants that are not called, or do not give, what they were and did; and whose
/// they are.
fn altered_members(
    items: &Items,
    old: &Items,
    replaced: &Replaced,
    new: &[ItemId],
    is_other: &dyn Fn(&ItemId) -> bool,
) -> Members {
    let mut before: BTreeMap<[&str; 3], ItemId> = BTreeMap::new();
    for (id, names) in replaced.lost.iter().filter(|(id, _)| old.all.contains_key(id)) {
        let lost = declared(old, &old.all[id]).filter(|[_, name, _]| names.contains(*name));
        before.extend(lost.map(|member| (member, *id)));
    }
    let of_new = |id: ItemId| declared(items, &items.all[&id]).map(move |member| (member, id));
    let now: BTreeMap<[&str; 3], ItemId> = new.iter().copied().flat_map(of_new).collect();
    let mut altered = Members::new();
    let mut add = |name: &str, id: &ItemId| {
        altered.entry(name.to_owned()).or_default().extend(subjects(items, &items.all[id]));
    };
    before.iter().filter(|(it, _)| !now.contains_key(*it)).for_each(|(it, id)| add(it[1], id));
    now.iter().filter(|(it, _)| !before.contains_key(*it)).for_each(|(it, id)| add(it[1], id));
    let may = |(id, item): &(&ItemId, &Item)| {
        let names_other = || items.edges(item).iter().any(is_other);
        item.is_current() && !new.contains(id) && names_other()
    };
    for (id, item) in items.all.iter().filter(may) {
        for [_, name, text] in declared(items, item) {
            let named = named(items, item, text);
            if named.iter().flat_map(|name| items.resolve(item, name)).any(|id| is_other(&id)) {
                add(name, id);
            }
        }
    }
    altered
}

/// The members of an inherent impl: of which type, their names, and what a caller sees of them.
fn declared<'a>(items: &'a Items, item: &'a Item) -> impl Iterator<Item = [&'a str; 3]> {
    let role = match &item.piece.role {
        Role::Impl(role) if role.of_trait.is_none() => Some(&**role),
        _ => None,
    };
    let text = &items.sheets[&item.sheet].text;
    let of = move |role: &'a ImplRole| {
        role.members.iter().enumerate().map(move |(at, (name, range))| {
            let whole = || text.get(range.clone()).unwrap_or_default();
            let signature = role.extension.as_ref().filter(|_| !role.deciding.contains(name));
            let signature = signature.and_then(|it| it.declarations.get(at));
            [&*role.of_type, &**name, signature.map_or_else(whole, String::as_str)]
        })
    };
    role.into_iter().flat_map(of)
}
