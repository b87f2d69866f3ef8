//! The crate around items: a library that later cells link.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::names::{Root, imports, imports_apart, root};
use super::{
    CratePlan, PRELUDE, QUIET, QUIET_UNIT, crates, imports_for, new_imports, old_imports, traits,
};
use crate::cell::calls;
use crate::cell::item::Role;
use crate::cell::items::{Item, ItemId, Items, NewCell, Part, Sheet, SheetId, Unit};
use crate::cell::map::{Edit, Source};
use crate::cell::namespace::{CrateSet, Kind, Namespace};
use crate::cell::split::Split;

/// A unit's crate, and the user's texts in it.
#[derive(Clone, Debug)]
pub struct UnitPlan {
    pub krate: CratePlan,
    pub parts: Vec<Part>,
}

/// A cell's items with what is in scope for them. `key` tells another run of the same cell; empty
/// when there is none.
pub fn new_cell(
    namespace: &Namespace,
    key: &str,
    label: &str,
    text: &str,
    split: &Split,
) -> NewCell {
    let new = new_imports(split);
    let mut old = old_imports(namespace, &new);
    let defined: BTreeSet<&str> = split
        .items
        .iter()
        .flat_map(|item| item.provides.iter().map(|provided| provided.name.as_str()))
        .collect();
    old.retain(|import| !defined.contains(import.key.as_str()));
    let mut words: BTreeSet<String> =
        split.items.iter().flat_map(|item| item.words.iter().cloned()).collect();
    words.extend(traits(namespace, &old, &words));
    let imports = imports_for(&old, &new, &mut words).into_iter().cloned().collect();
    let own = split.attributes.iter().map(|range| text[range.clone()].to_owned());
    let sheet = Sheet {
        key: key.to_owned(),
        label: label.to_owned(),
        text: text.to_owned(),
        made: split.made.clone(),
        imports,
        uses: split.imports.clone(),
        attributes: namespace.attributes.iter().cloned().chain(own).collect(),
        salt: split.salt.clone(),
    };
    NewCell { sheet, items: split.items.clone() }
}

/// Writes a unit that may use the crates of `set`.
pub fn unit(items: &Items, unit: &Unit, set: Option<&CrateSet>) -> UnitPlan {
    let mut source = Source::default();
    let texts = texts(items, unit);
    source.ours(QUIET).ours(QUIET_UNIT);
    let sheets = texts.keys().map(|id| &items.sheets[id]);
    let mut heads: BTreeSet<String> = BTreeSet::new();
    for sheet in sheets.clone() {
        heads.extend(sheet.attributes.iter().cloned());
        if !sheet.salt.is_empty() {
            source.ours(&format!("// {}\n", sheet.salt));
        }
    }
    heads.iter().for_each(|attribute| {
        source.ours(attribute).ours("\n");
    });
    let mut root = root(items, unit);
    for sheet in sheets.clone() {
        let own = sheet.uses.iter().flat_map(|(_, imports)| imports);
        own.chain(&sheet.imports).for_each(|import| {
            root.remove(&import.key);
        });
    }
    let mut units: BTreeSet<String> = BTreeSet::new();
    for (name, targets) in &root {
        source.ours(&uses(items, unit, name, targets, &mut units));
    }
    source.ours(&macros_inside(items, unit, &root));
    let words: BTreeSet<&str> = unit
        .items
        .iter()
        .flat_map(|id| items.all[id].piece.words.iter().map(String::as_str))
        .collect();
    let own_words = sheets.clone().flat_map(|sheet| {
        let own = sheet.uses.iter().flat_map(|(_, imports)| imports);
        own.chain(&sheet.imports).map(|import| import.root.as_str())
    });
    let named: BTreeSet<String> =
        words.iter().copied().chain(own_words).map(str::to_owned).collect();
    let api = named.iter().any(|word| PRELUDE.contains(&word.as_str()));
    let crates = set.and_then(|set| crates(set, &named));
    source.ours(crates.as_deref().unwrap_or_default());
    if api {
        source.ours("use ::prust::prelude::*;\n");
    }
    imports(items, unit, &texts, &words, &mut source);
    for id in &unit.items {
        let item = &items.all[id];
        source.begin_text(texts[&item.sheet].start);
        write(items, unit, *id, &root, &mut units, &mut source);
    }
    let parts = texts.iter().map(|(id, range)| {
        let sheet = &items.sheets[id];
        let (label, text) = (sheet.label.clone(), sheet.own_text().to_owned());
        let map = source.map.of_part(range);
        let (map, whole) = match sheet.made.is_empty() {
            true => (map, None),
            false => (map.of_calls(&sheet.made), Some(map)),
        };
        Part { sheet: *id, label, text, map, whole }
    });
    let parts = parts.collect();
    let (units, set) = (units.into_iter().collect(), crates.is_some());
    UnitPlan { krate: CratePlan { source, units, api, set, inner: BTreeSet::new() }, parts }
}

/// Where the text of each cell begins and ends, one after the other.
fn texts(items: &Items, unit: &Unit) -> BTreeMap<SheetId, Range<usize>> {
    let mut texts = BTreeMap::new();
    let mut end = 0;
    for id in &unit.items {
        let sheet = items.all[id].sheet;
        texts.entry(sheet).or_insert_with(|| {
            let start = end;
            // The byte between two texts belongs to neither.
            end += items.sheets[&sheet].text.len() + 2;
            start..end - 1
        });
    }
    texts
}

fn uses(
    items: &Items,
    unit: &Unit,
    name: &str,
    targets: &BTreeSet<ItemId>,
    units: &mut BTreeSet<String>,
) -> String {
    let mut text = String::new();
    let mut written: BTreeSet<&str> = BTreeSet::new();
    for (id, target) in targets.iter().filter_map(|id| Some((id, items.all.get(id)?))) {
        let is_here = target.unit == unit.name;
        if target.withheld || (is_here && !target.is_past_trait()) || !written.insert(&target.unit)
        {
            continue;
        }
        // By `$crate`, a macro names what its crate shows.
        let shows = unit.items.iter().any(|id| {
            let item = &items.all[id];
            item.piece.has_macros()
                && item.piece.words.contains("crate")
                && item.refs.contains(name)
        });
        let shown = if shows { "pub " } else { "" };
        text.push_str(&format!("{shown}use {}{name};\n", home(unit, *id, target, units)));
    }
    text
}

/// The macros of other crates, for modules inside items: these see nothing of what is imported
/// around them.
fn macros_inside(items: &Items, unit: &Unit, root: &Root) -> String {
    let has_modules = |id: &ItemId| items.all[id].piece.words.contains("mod");
    if !unit.items.iter().any(has_modules) {
        return String::new();
    }
    let mut text = String::new();
    for (name, targets) in root {
        for target in targets.iter().filter_map(|id| items.all.get(id)) {
            let is_macro = target.piece.provides.iter().any(|it| it.kind == Kind::Macro);
            if is_macro && target.unit != unit.name && !target.withheld {
                text.push_str(&format!(
                    "#[macro_use({name})]\nextern crate {} as _;\n",
                    target.unit
                ));
            }
        }
    }
    text
}

/// What stands before an item's name where `unit` names it. Old members have a module of their own.
fn home(unit: &Unit, id: ItemId, item: &Item, units: &mut BTreeSet<String>) -> String {
    let mut path = if item.unit == unit.name {
        "crate::".to_owned()
    } else {
        units.insert(item.unit.clone());
        format!("::{}::", item.unit)
    };
    if item.is_past_trait() {
        path.push_str(&format!("{}::", item.module(id)));
    }
    path
}

/// One item; in a module of its own where a name means something else to it than at the root.
fn write(
    items: &Items,
    unit: &Unit,
    id: ItemId,
    root: &Root,
    units: &mut BTreeSet<String>,
    source: &mut Source,
) {
    let item = &items.all[&id];
    let mut apart = String::new();
    for name in &item.refs {
        let meant: BTreeSet<ItemId> = items.resolve(item, name).into_iter().collect();
        let elsewhere = meant.iter().filter_map(|id| items.all.get(id)).any(|target| {
            let is_at_root = target.unit == unit.name && !target.is_past_trait();
            !is_at_root && root.get(name) != Some(&meant)
        });
        if elsewhere {
            apart.push_str(&uses(items, unit, name, &meant, units));
        }
    }
    apart.push_str(&imports_apart(items, unit, item));
    apart.push_str(&without_rivals(items, unit, id, root));
    let movable = !item.piece.has_identity();
    let stands_apart = item.apart || item.is_past_trait() || is_rival(items, unit, id);
    let is_seen = apart.is_empty() && !stands_apart;
    if is_seen || !movable {
        let inside = if item.piece.modules.is_empty() {
            String::new()
        } else {
            traits_inside(items, unit, id, units) + &without_rivals(items, unit, id, root)
        };
        write_text(items, id, &inside, source);
        return;
    }
    let module = item.module(id);
    source.ours(&format!("pub mod {module} {{\nuse super::*;\n{apart}"));
    write_text(items, id, "", source);
    source.ours("}\n");
    // An exported macro stands at the root by itself, and nowhere else.
    let is_macro =
        |name: &str| item.piece.provides.iter().any(|it| it.name == name && it.kind == Kind::Macro);
    for name in item.names().filter(|name| !is_macro(name) && !item.is_past_trait()) {
        source.ours(&format!("pub use {module}::{name};\n"));
    }
}

/// Whether a macro has the name of one that others in the crate mean: what follows it in the text
/// would see both.
fn is_rival(items: &Items, unit: &Unit, id: ItemId) -> bool {
    let mut provides = items.all[&id].piece.provides.iter();
    let Some(made) = provides.find(|it| it.kind == Kind::Macro) else { return false };
    let others = unit.items.iter().map(|id| &items.all[id]);
    let mut users = others.filter(|item| item.refs.contains(&made.name));
    users.any(|user| !items.resolve(user, &made.name).contains(&id))
}

/// Who has old members in scope must not see the traits of those that took their place: at the
/// root, all can.
fn without_rivals(items: &Items, unit: &Unit, id: ItemId, root: &Root) -> String {
    let item = &items.all[&id];
    let pinned = || item.pins.values().flatten().filter_map(|id| items.all.get(id));
    if !item.is_past_trait() && !pinned().any(Item::is_past_trait) {
        return String::new();
    }
    let here = unit.items.iter().map(|id| &items.all[id]).filter(|item| !item.is_past_trait());
    let here = here.filter_map(|item| item.extension.as_deref());
    let is_trait = |ids: &BTreeSet<ItemId>| {
        ids.iter().filter_map(|id| items.all.get(id)).any(|item| item.extension.is_some())
    };
    let is_own = |name: &str| item.extension.as_deref() == Some(name);
    let imported = root.iter().filter(|(_, ids)| is_trait(ids)).map(|(name, _)| name.as_str());
    let hidden: BTreeSet<&str> =
        here.chain(imported).filter(|name| !item.refs.contains(*name) && !is_own(name)).collect();
    hidden.iter().map(|name| format!("use ::core::marker::Sized as {name};\n")).collect()
}

/// The traits that impls are written as, for the modules in an item: these see nothing of what is
/// imported around them.
fn traits_inside(items: &Items, unit: &Unit, id: ItemId, units: &mut BTreeSet<String>) -> String {
    let item = &items.all[&id];
    let mut text = String::new();
    for name in &item.refs {
        for id in items.resolve(item, name) {
            let target = items.all.get(&id).filter(|it| it.extension.as_ref() == Some(name));
            if let Some(target) = target {
                let home = home(unit, id, target, units);
                text.push_str(&format!("use {home}{name} as _;\n"));
            }
        }
    }
    text
}

/// `inside` begins each module in the item.
fn write_text(items: &Items, id: ItemId, inside: &str, source: &mut Source) {
    let item = &items.all[&id];
    let text = &items.sheets[&item.sheet].text;
    let by_name = by_own_names(items, id);
    let Role::Impl(role) = &item.piece.role else {
        let mut edits = item.piece.edits.clone();
        edits.extend(by_name);
        if !inside.is_empty() {
            let begin = |at: &usize| Edit { at: *at, remove: 0, insert: format!("\n{inside}") };
            edits.extend(item.piece.modules.iter().map(begin));
        }
        edits.sort_by_key(|edit| edit.at);
        source.user_edited(text, item.piece.range.clone(), &edits).ours("\n");
        return;
    };
    let mut written = |edits: &[Edit], is_left_out: &dyn Fn(&String) -> bool| {
        let mut edits = edits.to_vec();
        edits.extend(by_name.iter().cloned());
        for (_, range) in role.members.iter().filter(|(name, _)| is_left_out(name)) {
            edits.retain(|edit| !range.contains(&edit.at));
            edits.push(Edit { at: range.start, remove: range.len(), insert: String::new() });
        }
        edits.sort_by_key(|edit| edit.at);
        source.user_edited(text, item.piece.range.clone(), &edits).ours("\n");
    };
    let is_dropped = |name: &String| item.dropped.contains(name);
    let (Some(name), Some(extension)) = (&item.extension, &role.extension) else {
        return written(&item.piece.edits, &is_dropped);
    };
    if !item.inherent.is_empty() {
        written(&item.piece.edits, &|name| is_dropped(name) || !item.inherent.contains(name));
    }
    let is_left_out = |name: &String| is_dropped(name) || item.inherent.contains(name);
    let mut edits = extension.edits.clone();
    edits.iter_mut().for_each(|edit| edit.insert = edit.insert.replace("{}", name));
    written(&edits, &is_left_out);
    source.ours(&extension.head.replace("{}", name));
    let declared = role.members.iter().zip(&extension.declarations);
    for ((name, _), text) in declared.filter(|((name, _), _)| !is_left_out(name)) {
        let own = calls::definitions(text, |word| item.renamed && word == name);
        let at = own.first().map_or(0, |place| place.start);
        source.ours(&text[..at]);
        if !own.is_empty() {
            source.ours(&Item::own_prefix(id));
        }
        source.ours(&text[at..]);
    }
    source.ours("}\n");
}

/// Old members that go by names of their own are called and defined so.
fn by_own_names(items: &Items, id: ItemId) -> Vec<Edit> {
    let item = &items.all[&id];
    let text = items.text(item);
    let begins = item.piece.range.start;
    let renamed = |past: &(ItemId, &Item)| past.1.renamed && past.1.is_past_trait();
    let pinned = item.pins.values().flatten().filter_map(|id| Some((*id, items.all.get(id)?)));
    let mut meant: BTreeMap<usize, Vec<ItemId>> = BTreeMap::new();
    for (past, known) in pinned.chain(std::iter::once((id, item))).filter(renamed) {
        let names = known.methods();
        let mut places = items.calls(item, known);
        if past == id {
            places.extend(calls::definitions(text, |name| names.contains(name)));
        }
        places.iter().for_each(|place| meant.entry(place.start).or_default().push(past));
    }
    let edits = meant.into_iter().filter_map(|(place, meant)| {
        let n_passed = item.of_others.get(&place).copied().unwrap_or_default();
        let insert = Item::own_prefix(*meant.get(n_passed)?);
        Some(Edit { at: begins + place, remove: 0, insert })
    });
    edits.collect()
}
