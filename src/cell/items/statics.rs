//! What becomes of statics: a value that has begun goes on, whatever it was made with; which ones
//! start again.

use std::collections::{BTreeMap, BTreeSet};

use super::advance::{refs_by, subjects};
use super::replace::Replaced;
use super::{Item, ItemId, Items};
use crate::cell::item::Role;

/// The names that a static says, but not its type: only what it begins with is made of them.
pub(super) fn begins_with(items: &Items, item: &Item) -> BTreeSet<String> {
    let Some(words) = &item.piece.type_words else { return BTreeSet::new() };
    let of_type = refs_by(items, &Items::default(), item, words);
    item.refs.difference(&of_type).cloned().collect()
}

/// Whether a static that is written again as it was would begin as it did. What it says may mean
/// something else by now: then whoever writes it again wants that.
pub(super) fn begins_so(
    items: &Items,
    old: &Items,
    replaced: &Replaced,
    id: ItemId,
    before: ItemId,
) -> bool {
    let (item, before) = (&items.all[&id], &old.all[&before]);
    let known = |id: &ItemId| replaced.same.get(id).copied().unwrap_or(*id);
    begins_with(items, item).iter().all(|name| {
        let is: BTreeSet<ItemId> = items.resolve(item, name).iter().map(known).collect();
        is == old.resolve(before, name).into_iter().collect()
    })
}

/// A static's value has begun: what it was made with stays what it was.
pub(super) fn pin_beginnings(
    items: &mut Items,
    old: &Items,
    renewed: &BTreeSet<ItemId>,
    verbatim: &BTreeMap<ItemId, ItemId>,
) {
    let stays = |id: &ItemId| !renewed.contains(id) && !items.all[id].retired;
    let mut begun: Vec<(ItemId, BTreeMap<String, Vec<ItemId>>)> = Vec::new();
    for (id, before) in old.all.iter().filter(|(_, before)| before.piece.type_words.is_some()) {
        let Some(now) = verbatim.get(id).or(Some(id).filter(|id| stays(id))) else { continue };
        let names = begins_with(old, before).into_iter();
        let meant = names.map(|name| (name.clone(), old.resolve(before, &name)));
        begun.push((*now, meant.filter(|(_, ids)| !ids.is_empty()).collect()));
    }
    for (id, meant) in begun {
        let item = items.all.get_mut(&id).expect("it was found there");
        item.refs.extend(meant.keys().cloned());
        item.pins.extend(meant);
    }
}

/// Types that need to be dropped anyway.
const OWNERS: [&str; 10] =
    ["Arc", "BTreeMap", "BTreeSet", "Box", "HashMap", "HashSet", "Rc", "String", "Vec", "VecDeque"];

/// Whether a `thread_local!` is made otherwise by now: what it consists of hangs on whether its
/// value is to be dropped, and some type's first destructor came, or its last one went.
pub(super) fn is_kept_otherwise(items: &Items, item: &Item, turned: &BTreeSet<ItemId>) -> bool {
    let header = item.piece.provides.first().map_or("", |made| made.header.as_str());
    let owns = || OWNERS.iter().any(|name| item.piece.words.contains(*name));
    if turned.is_empty() || !header.starts_with("thread_local") || owns() {
        return false;
    }
    let mut open: Vec<ItemId> = items.edges(item).into_iter().collect();
    let mut seen: BTreeSet<ItemId> = BTreeSet::new();
    while let Some(id) = open.pop() {
        if turned.contains(&id) {
            return true;
        }
        let made_of = items.all.get(&id).filter(|target| target.piece.shape.is_some());
        if let Some(target) = made_of.filter(|_| seen.insert(id)) {
            open.extend(items.edges(target));
        }
    }
    false
}

/// The types that have a destructor by one of the impls that came, or had one by one that went, and
/// not both.
pub(super) fn turned(
    items: &Items,
    went: impl Iterator<Item = ItemId>,
    came: impl Iterator<Item = ItemId>,
) -> BTreeSet<ItemId> {
    let of = |ids: &mut dyn Iterator<Item = ItemId>| -> BTreeSet<ItemId> {
        let impls = ids.map(|id| &items.all[&id]).filter(|item| match &item.piece.role {
            Role::Impl(role) => role.of_trait.as_deref() == Some("Drop"),
            _ => false,
        });
        impls.flat_map(|item| subjects(items, item)).collect()
    };
    let (mut went, mut came) = (went, came);
    of(&mut went).symmetric_difference(&of(&mut came)).copied().collect()
}

/// Statics, and items with statics inside, that are other ones now although their text is the same,
/// or in units that may be built anew.
pub(super) fn reset(old: &Items, items: &Items, touched: &[String]) -> Vec<ItemId> {
    let current = items.all.iter().filter(|(_, item)| !item.retired);
    let reset = current.filter(|(id, item)| {
        let is_static = item.piece.role == Role::Static;
        if !is_static && !item.piece.has_statics {
            return false;
        }
        let Some(before) = items.written_before(old, **id) else { return false };
        let keeps = is_static && items.unit(&item.unit).is_some_and(|unit| items.is_static(unit));
        before.unit != item.unit || (!keeps && touched.contains(&item.unit))
    });
    reset.map(|(id, _)| *id).collect()
}
