//! One step of a session: a cell's items join, and everything that they touch is put in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::group::{self, Placing};
use super::replace::{replaced, unchanged};
use super::{
    Broken, EXTENSION, Item, ItemId, Items, Sheet, Ways, bodies, broken, called, circle, members,
    name, reach, release, statics,
};
use crate::cell::item::{ItemPiece, Role};
use crate::cell::namespace::Provided;

/// A cell that defines items, or whose earlier run did.
#[derive(Clone, Debug, Default)]
pub struct NewCell {
    pub sheet: Sheet,
    pub items: Vec<ItemPiece>,
}

/// The items after a cell.
#[derive(Clone, Debug)]
pub struct Advance {
    pub items: Items,
    /// Units that may have other content than before, in the order to build them.
    pub touched: Vec<String>,
    /// Where the new cell's items begin.
    pub sheet: u64,
    /// Statics, and items with statics inside, that start again where their library is another one.
    pub reset: Vec<ItemId>,
    /// Earlier items that say a name which no cell defines any more, and go on with what had it.
    pub orphans: Vec<(ItemId, String)>,
    /// What earlier items may go on with where they do not fit it.
    pub ways: Ways,
}

/// Takes a cell's items in. `held` are the types that variables have, as unit and name; `broken`
/// says which earlier items do not compile with the new ones. The same arguments give the same
/// items, on whichever machine. `renewed` are earlier items that are other ones now although their
/// text is the same. `None` when no arrangement of crates is found in which each item may stand.
pub fn advance(
    old: &Items,
    cell: &NewCell,
    held: &BTreeSet<(String, String)>,
    broken: &BTreeMap<ItemId, Broken>,
    renewed: &BTreeSet<ItemId>,
) -> Option<Advance> {
    let mut forced = renewed.clone();
    // Every round forces at least one more item to be renewed.
    for _ in 0..=old.all.len() {
        match attempt(old, cell, held, broken, &forced) {
            Ok(advance) => return Some(advance),
            Err(more) if more.is_subset(&forced) => return None,
            Err(more) => forced.extend(more),
        }
    }
    None
}

/// Items that must be renewed for the rest to find a place.
type Forced = BTreeSet<ItemId>;

fn attempt(
    old: &Items,
    cell: &NewCell,
    held: &BTreeSet<(String, String)>,
    broken: &BTreeMap<ItemId, Broken>,
    forced: &Forced,
) -> Result<Advance, Forced> {
    let mut items = old.clone();
    release::release(&mut items, cell);
    let (sheet, new) = join(&mut items, cell);
    let mut replaced = replaced(&items, sheet, &new);
    let implemented = broken::implemented(&items, old, &replaced, &new);
    // What must be made anew is not what it was, though it says the same.
    replaced.same.retain(|_, old| !forced.contains(old));
    let keepers = broken.iter().filter(|(_, what)| what.keeps_more());
    replaced.keepers = keepers.map(|(id, _)| *id).collect();
    for (id, dropped) in &replaced.dropped {
        items.all.get_mut(id).expect("it was found there").dropped.clone_from(dropped);
    }
    for id in &replaced.gone {
        items.all.get_mut(id).expect("it was found there").retired = true;
    }
    find_refs(&mut items, &new);
    follow_macros(&mut items, old, &new);
    let orphans = pin_orphans(&mut items, old);
    for (id, what) in broken {
        let item = items.all.get_mut(id).expect("only earlier items are broken");
        item.withheld = *what == Broken::Withheld;
    }
    let mut renewed = renewals(&items, old, &replaced, &new, forced);
    pin(&mut items, old, broken, &replaced.gone, &renewed);
    if !broken.is_empty() {
        renewed = renewals(&items, old, &replaced, &new, forced);
    }
    let kept = unchanged(&items, old, &replaced, &new, forced);
    let mut verbatim: BTreeMap<ItemId, ItemId> = BTreeMap::new();
    for (new, old) in replaced.same.iter().filter(|(new, _)| kept.contains(new)) {
        // An impl goes where its type is now.
        if !matches!(items.all[new].piece.role, Role::Impl(_)) {
            let unit = items.all[old].unit.clone();
            items.all.get_mut(new).expect("it joined").unit = unit;
        }
        if items.says(&items.all[new]) == items.says(&items.all[old]) {
            verbatim.insert(*old, *new);
        }
    }
    statics::pin_beginnings(&mut items, old, &renewed, &verbatim);
    members::carry(&mut items, &verbatim);
    let mut again = renew(&mut items, old, &renewed, &verbatim, forced);
    let lost = members::Lost::find(&items, old, &new, &replaced, &verbatim);
    members::keep(&mut items, old, &lost, broken, &replaced.gone);
    retire(&mut items, old, &replaced.gone, &renewed);
    let called = called::keep(&mut items, old, &verbatim, broken);
    again.extend(called.unplaced);
    let ways = Ways { members: lost.said_by(old), functions: called.functions, implemented };
    succeed(&mut items, &verbatim);
    reach::forget_unneeded(&mut items, held);
    let before = |forced: Forced| -> Forced {
        let known = |id: ItemId| verbatim.iter().find(|(_, new)| **new == id).map(|(old, _)| *old);
        forced.into_iter().map(|id| known(id).unwrap_or(id)).collect()
    };
    group::place(&mut items, &Placing { old, new: &new, again: &again }).map_err(before)?;
    name::name_new_units(&mut items, old).map_err(before)?;
    if !circle::is_sound(&items) {
        return Err(Forced::new());
    }
    Ok(Advance { ways, ..finish(old, items, sheet, orphans) })
}

fn join(items: &mut Items, cell: &NewCell) -> (u64, Vec<ItemId>) {
    let sheet = items.fresh();
    items.sheets.insert(sheet, Arc::new(cell.sheet.clone()));
    let mut new = Vec::new();
    for piece in &cell.items {
        let mut piece = piece.clone();
        // A type of the user's by a wrapper's name.
        let is_type = |name: &str| {
            let mut pieces = cell.items.iter().flat_map(|piece| &piece.provides);
            pieces.any(|it| it.name == name && it.kind.is_type()) || !items.current(name).is_empty()
        };
        if let Role::Impl(role) = &mut piece.role
            && let Some(wrapper) = role.wrapper.clone().filter(|name| is_type(name))
            && let Some(first) = role.subjects.first_mut()
        {
            *first = wrapper;
        }
        new.push(items.insert(Item::of(sheet, piece)));
    }
    (sheet, new)
}

/// What the new items may use: names in force now, through the imports they use, too.
fn find_refs(items: &mut Items, new: &[ItemId]) {
    for id in new {
        let refs = refs(items, &Items::default(), &items.all[id]);
        items.all.get_mut(id).expect("it joined").refs = refs;
    }
}

/// What an item says of the names in force, now or, where nothing has them any more, before.
fn refs(items: &Items, before: &Items, item: &Item) -> BTreeSet<String> {
    refs_by(items, before, item, &item.piece.words)
}

/// The same of some of its words.
pub(super) fn refs_by(
    items: &Items,
    before: &Items,
    item: &Item,
    words: &BTreeSet<String>,
) -> BTreeSet<String> {
    let sheet = &items.sheets[&item.sheet];
    let (_, said) = items.heard(words, before);
    let mut words = words.clone();
    let own = sheet.uses.iter().flat_map(|(_, imports)| imports);
    // An import's path may begin at the name of another import.
    for _ in 0..2 {
        let roots: Vec<String> = sheet
            .imports
            .iter()
            .chain(own.clone())
            .filter(|import| {
                (import.is_implicit() && items.may_give(before, import, &said))
                    || words.contains(&import.key)
                    || items.gives_methods(import, &words)
            })
            .map(|import| import.root.clone())
            .collect();
        words.extend(roots);
    }
    let mut refs = items.refs_or(&words, before);
    // What an import gives is none of the session's, unless it leads there.
    let imported = sheet.imports.iter().chain(own).filter(|import| import.key != import.root);
    imported.map(|import| import.key.as_str()).chain(item.names()).for_each(|name| {
        refs.remove(name);
    });
    refs
}

/// What a new macro names is named where it is used, by earlier items, too; what the one before it
/// named is not any more.
fn follow_macros(items: &mut Items, old: &Items, new: &[ItemId]) {
    for id in new {
        let piece = &items.all[id].piece;
        let given = piece.provides.first().filter(|_| piece.has_macros());
        let Some(made) = given.map(|it| it.name.clone()) else { continue };
        let named = items.refs(&piece.words);
        let is_user = |(id, item): &(&ItemId, &Item)| {
            !new.contains(id) && !item.retired && item.refs.contains(&made)
        };
        let users: Vec<ItemId> = items.all.iter().filter(is_user).map(|(id, _)| *id).collect();
        for id in users {
            let mut said = refs(items, old, &items.all[&id]);
            said.extend(items.all[&id].pins.keys().cloned());
            let left_out = |name: &&String| items.withheld(name).is_some();
            said.extend(items.all[&id].refs.iter().filter(left_out).cloned());
            let item = items.all.get_mut(&id).expect("it was found there");
            // What is said of names that came later stays what it was: nothing of the session's.
            item.refs.extend(named.iter().cloned());
            item.refs.retain(|name| said.contains(name));
        }
    }
}

/// Who says a name that nothing has any more goes on with what had it.
fn pin_orphans(items: &mut Items, old: &Items) -> Vec<(ItemId, String)> {
    let mut orphans = Vec::new();
    for (id, before) in &old.all {
        let Some(item) = items.all.get(id).filter(|item| item.is_current()) else { continue };
        // A trait of ours goes with its impl: whether its methods are missed is for rustc to say.
        for name in item.refs.iter().filter(|name| !name.starts_with(EXTENSION)) {
            let meant = old.resolve(before, name);
            if !meant.is_empty() && items.resolve(item, name).is_empty() {
                orphans.push((*id, name.clone(), meant));
            }
        }
    }
    for (id, name, meant) in &orphans {
        let item = items.all.get_mut(id).expect("it was found there");
        item.pins.insert(name.clone(), meant.clone());
    }
    orphans.into_iter().map(|(id, name, _)| (id, name)).collect()
}

/// Earlier items that are another thing now although their text is the same.
fn renewals(
    items: &Items,
    old: &Items,
    replaced: &super::replace::Replaced,
    new: &[ItemId],
    forced: &Forced,
) -> BTreeSet<ItemId> {
    let kept = unchanged(items, old, replaced, new, forced);
    // A constant or an alias is part of old types, which go on with what it was.
    let decides_types = |item: &Item| {
        item.piece.has_identity()
            || (item.piece.role == Role::Movable && item.piece.shape.is_some())
    };
    let changed = |id: &ItemId, item: &Item| {
        item.is_current()
            && !new.contains(id)
            && (forced.contains(id) || (decides_types(item) && !kept.contains(id)))
    };
    items.all.iter().filter(|(id, item)| changed(id, item)).map(|(id, _)| *id).collect()
}

/// Broken items go on with what they knew, wherever that is not in force any more.
fn pin(
    items: &mut Items,
    old: &Items,
    broken: &BTreeMap<ItemId, Broken>,
    gone: &BTreeSet<ItemId>,
    renewed: &BTreeSet<ItemId>,
) {
    // Old members, once let go, are kept again only where names do not help.
    let is_past = |id: &ItemId| old.all.get(id).is_some_and(Item::is_past_trait);
    for id in broken.keys() {
        let mut pins = pins(old, &old.all[id], gone, renewed);
        pins.retain(|(_, ids)| !ids.iter().any(is_past));
        let item = items.all.get_mut(id).expect("it is an earlier item");
        // An old macro goes on saying what it said.
        item.refs.extend(old.all[id].refs.iter().cloned());
        item.pins.extend(pins);
    }
}

pub(super) fn pins(
    old: &Items,
    item: &Item,
    gone: &BTreeSet<ItemId>,
    renewed: &BTreeSet<ItemId>,
) -> Vec<(String, Vec<ItemId>)> {
    let meant = item.refs.iter().map(|name| (name.clone(), old.resolve(item, name)));
    // A pin that is let go because its name is defined anew holds again when that does not help.
    let is_past = |id: &ItemId| old.all.get(id).is_some_and(|item| item.retired);
    let passes = |id: &ItemId| gone.contains(id) || renewed.contains(id) || is_past(id);
    meant.filter(|(_, ids)| ids.iter().any(passes)).collect()
}

/// Gives each renewed item a successor, and one to each impl that a renewed or replaced type had;
/// gives the successors.
fn renew(
    items: &mut Items,
    old: &Items,
    renewed: &BTreeSet<ItemId>,
    verbatim: &BTreeMap<ItemId, ItemId>,
    forced: &Forced,
) -> Vec<ItemId> {
    let no_more: BTreeSet<ItemId> = old
        .all
        .keys()
        .filter(|id| renewed.contains(id) || items.all[id].retired && !old.all[id].retired)
        .filter(|id| !verbatim.contains_key(id))
        .copied()
        .collect();
    // An impl that is pinned to the old type stays with it.
    let follows = |id: &ItemId, subject: &ItemId| {
        let mut pinned = items.all[id].pins.values().flatten();
        no_more.contains(subject) && !pinned.any(|id| id == subject)
    };
    // One whose pin was let go is for another type.
    let is_for = |items: &Items, item: &Item| -> BTreeSet<ItemId> {
        let own = subjects(items, item).into_iter();
        own.map(|id| verbatim.get(&id).copied().unwrap_or(id)).collect()
    };
    let impls: Vec<ItemId> = old
        .all
        .iter()
        .filter(|(id, item)| {
            let now = &items.all[id];
            let has_lost = subjects(old, item).iter().any(|subject| follows(id, subject));
            now.is_current() && (has_lost || is_for(old, item) != is_for(items, now))
        })
        .map(|(id, _)| *id)
        .collect();
    let mut successors = Vec::new();
    for id in renewed.iter().copied().chain(impls) {
        let mut successor = items.all[&id].clone();
        // What may stand anywhere stays, unless the crates that it names are other ones.
        if successor.piece.role != Role::Movable || forced.contains(&id) {
            successor.unit = String::new();
        }
        successor.extension = None;
        successor.inherent.clear();
        let past = items.all.get_mut(&id).expect("it is there");
        past.retired = true;
        past.refs.clone_from(&old.all[&id].refs);
        past.dropped.clone_from(&old.all[&id].dropped);
        successors.push(items.insert(successor));
    }
    successors
}

/// What an impl is for, among the session's items: its types, and its trait.
pub(super) fn subjects(items: &Items, item: &Item) -> Vec<ItemId> {
    let Role::Impl(role) = &item.piece.role else { return Vec::new() };
    let names = role.subjects.iter().chain(&role.of_trait);
    names.flat_map(|name| named(items, item, name)).collect()
}

/// What a path that begins with `name` leads to: through an import, and through aliases.
pub(super) fn named(items: &Items, item: &Item, name: &str) -> Vec<ItemId> {
    let mut found = items.resolve(item, &items.root(item, name));
    if found.is_empty() {
        found = items.in_globs(item, name);
    }
    // Aliases of one cell may name each other in a circle, for rustc to refuse.
    let mut seen: BTreeSet<ItemId> = BTreeSet::new();
    while let Some(at) = found.iter().position(|id| is_alias(&items.all[id])) {
        let id = found.swap_remove(at);
        if !seen.insert(id) {
            continue;
        }
        let alias = &items.all[&id];
        let behind: Vec<ItemId> = items.edges(alias).into_iter().collect();
        found.extend(behind);
    }
    found
}

pub(super) fn is_alias(item: &Item) -> bool {
    let is_type = |provided: &Provided| provided.kind.is_type();
    item.piece.role == Role::Movable && item.piece.provides.iter().any(is_type)
}

/// Old definitions go on meaning by each name what they meant.
fn retire(items: &mut Items, old: &Items, gone: &BTreeSet<ItemId>, renewed: &BTreeSet<ItemId>) {
    let retired: Vec<ItemId> = old.all.keys().filter(|id| items.all[id].retired).copied().collect();
    let all: BTreeSet<ItemId> = retired.iter().chain(gone).chain(renewed).copied().collect();
    for id in retired {
        let pins = pins(old, &old.all[&id], &all, renewed);
        let item = items.all.get_mut(&id).expect("it is there");
        item.pins.extend(pins);
        // Its crate may hold what has its name now.
        if item.piece.role == Role::Movable && !old.all[&id].retired {
            item.unit = group::alone(id);
        }
    }
}

/// What was written again word for word is the same item.
fn succeed(items: &mut Items, verbatim: &BTreeMap<ItemId, ItemId>) {
    items.retain(|id| !verbatim.contains_key(&id));
    for item in items.all.values_mut() {
        for id in item.pins.values_mut().flatten() {
            *id = verbatim.get(id).copied().unwrap_or(*id);
        }
    }
    // A pin that says what is in force anyway is none.
    let current: BTreeSet<ItemId> =
        items.all.iter().filter(|(_, item)| item.is_current()).map(|(id, _)| *id).collect();
    for item in items.all.values_mut().filter(|item| !item.retired) {
        item.pins.retain(|_, ids| !ids.iter().all(|id| current.contains(id)));
    }
}

fn finish(old: &Items, mut items: Items, sheet: u64, orphans: Vec<(ItemId, String)>) -> Advance {
    items.units = group::in_order(&items);
    let mut touched: Vec<String> = Vec::new();
    for unit in &items.units {
        let before = old.unit(&unit.name);
        let same = before.is_some_and(|before| {
            before.items == unit.items
                && before.needs == unit.needs
                && unit.items.iter().all(|id| old.all.get(id) == items.all.get(id))
        });
        if !same || unit.needs.iter().any(|need| touched.contains(need)) {
            touched.push(unit.name.clone());
        }
    }
    bodies::place(&mut items, &touched);
    for unit in &mut items.units {
        if let Some(before) = old.unit(&unit.name) {
            unit.file.clone_from(&before.file);
            unit.parts.clone_from(&before.parts);
            unit.generated.clone_from(&before.generated);
            unit.set.clone_from(&before.set);
            unit.storage.clone_from(&before.storage);
        }
    }
    let reset = statics::reset(old, &items, &touched);
    Advance { items, touched, sheet, reset, orphans, ways: Ways::default() }
}
