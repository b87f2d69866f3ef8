//! What has no name but its place. rustc knows a closure, an async block, or a type that a macro
//! makes in a function's body, by the path of the function: so a function that is defined anew in
//! its crate must not stand where the old one stood, or what the old one made, hidden behind
//! `dyn Any`, would be taken for what the new one makes. Whatever a body means by other text stands
//! in a module that is called by that.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::subjects;
use super::{Item, ItemId, Items};
use crate::cell::item::Role;
use crate::cell::namespace::digest;

/// Places the bodies of these crates, which are about to be built, each where nothing else stands
/// or has stood.
pub(super) fn place(items: &mut Items, units: &[String]) {
    let members = items.units.iter().filter(|unit| units.contains(&unit.name));
    let members: Vec<ItemId> = members.flat_map(|unit| unit.items.iter().copied()).collect();
    let mut meanings = Meanings::default();
    for id in members {
        let paths = paths(items, &items.all[&id]);
        if paths.is_empty() {
            continue;
        }
        let meaning = meanings.of(items, id);
        let is_other =
            |path: &String| items.bodies.get(path).is_some_and(|before| *before != meaning);
        let apart = paths.iter().any(is_other);
        if !apart {
            items.bodies.extend(paths.into_iter().map(|path| (path, meaning.clone())));
        }
        let item = items.all.get_mut(&id).expect("it is a member");
        item.body = meaning;
        item.apart = apart;
    }
}

impl Items {
    /// Takes in what stands where in items that are given up, but have been loaded.
    pub fn remember(&mut self, given_up: &Self) {
        let known = |own: &mut BTreeMap<String, String>, new: &BTreeMap<String, String>| {
            for (path, what) in new {
                own.entry(path.clone()).or_insert_with(|| what.clone());
            }
        };
        known(&mut self.shapes, &given_up.shapes);
        known(&mut self.bodies, &given_up.bodies);
    }
}

/// Where an item's bodies stand, at the root of its crate. rustc numbers impls: so those of a crate
/// are told apart by their members only.
fn paths(items: &Items, item: &Item) -> Vec<String> {
    let names: Vec<&String> = match &item.piece.role {
        // What these are decides what their crates are called.
        Role::Identity | Role::Static | Role::Trait { .. } => return Vec::new(),
        Role::Movable => item.piece.provides.iter().map(|provided| &provided.name).collect(),
        Role::Impl(role) => {
            let members = role.members.iter().map(|(name, _)| name);
            members.filter(|name| !item.dropped.contains(*name)).collect()
        }
    };
    let has_macros = !items.macros_of(item).is_empty();
    let has_body = |name: &&&String| has_macros || item.piece.bodies.contains(**name);
    let home = match &item.piece.role {
        Role::Impl(_) => "impl::",
        _ => "",
    };
    let unit = &item.unit;
    names.iter().filter(has_body).map(|name| format!("{unit}::{home}{name}")).collect()
}

/// What items mean: their text, and that of all that they lead to.
#[derive(Default)]
struct Meanings {
    texts: BTreeMap<ItemId, String>,
    edges: BTreeMap<ItemId, BTreeSet<ItemId>>,
    impls: Option<BTreeMap<ItemId, Vec<ItemId>>>,
}

impl Meanings {
    fn of(&mut self, items: &Items, id: ItemId) -> String {
        let mut reached = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(next) = open.pop() {
            let edges = self.edges.entry(next).or_insert_with(|| items.edges(&items.all[&next]));
            let impls = self.impls.get_or_insert_with(|| impls(items, all_subjects)).get(&next);
            for target in edges.iter().chain(impls.into_iter().flatten()) {
                if items.all.contains_key(target) && reached.insert(*target) {
                    open.push(*target);
                }
            }
        }
        let mut said: Vec<&str> = Vec::new();
        for each in &reached {
            self.texts.entry(*each).or_insert_with(|| text(items, &items.all[each]));
        }
        said.extend(reached.iter().filter(|each| **each != id).map(|each| &*self.texts[each]));
        said.sort_unstable();
        said.push(&self.texts[&id]);
        digest(said)
    }
}

/// What one item says, and of a type which it is.
fn text(items: &Items, item: &Item) -> String {
    let mut text = items.says(item);
    if item.piece.has_identity() {
        text.push_str(&item.unit);
    }
    item.dropped.iter().for_each(|name| text.push_str(name));
    text
}

/// What is implemented for each type and trait in force, of those that `of` says an impl is for.
pub(super) fn impls(
    items: &Items,
    of: impl Fn(&Items, ItemId) -> Vec<ItemId>,
) -> BTreeMap<ItemId, Vec<ItemId>> {
    let mut impls: BTreeMap<ItemId, Vec<ItemId>> = BTreeMap::new();
    let is_impl = |item: &Item| item.is_current() && matches!(item.piece.role, Role::Impl(_));
    for (id, _) in items.all.iter().filter(|(_, item)| is_impl(item)) {
        for subject in of(items, *id) {
            impls.entry(subject).or_default().push(*id);
        }
    }
    impls
}

/// All that an impl is for.
pub(super) fn all_subjects(items: &Items, id: ItemId) -> Vec<ItemId> {
    subjects(items, &items.all[&id])
}
