//! What names mean at the root of a unit's crate. Items of several cells stand in one crate; what
//! they were not all written to know must not be at its root: an older type would be made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::cell::items::{Item, ItemId, Items, SheetId, Unit};
use crate::cell::map::Source;
use crate::cell::namespace::Import;

/// What the names at the root of a crate mean: items of other crates to import.
pub(super) type Root = BTreeMap<String, BTreeSet<ItemId>>;

/// What names mean at the root: what the crate defines itself, else what most of its items mean.
pub(super) fn root(items: &Items, unit: &Unit) -> Root {
    let mut root = Root::new();
    let own = unit.items.iter().map(|id| &items.all[id]).filter(|item| !item.is_past_trait());
    let own: BTreeSet<&str> = own.flat_map(Item::names).collect();
    let is_past = |ids: &BTreeSet<ItemId>| {
        ids.iter().filter_map(|id| items.all.get(id)).any(Item::is_past_trait)
    };
    // A type cannot stand elsewhere: its meaning of a name comes before that of a function.
    let (first, then): (Vec<&Item>, Vec<&Item>) =
        unit.items.iter().map(|id| &items.all[id]).partition(|item| item.piece.has_identity());
    for item in first.into_iter().chain(then) {
        for name in item.refs.iter().filter(|name| !own.contains(name.as_str())) {
            let meant: BTreeSet<ItemId> = items.resolve(item, name).into_iter().collect();
            // Old members are for those who go on with them; a trait or type cannot stand apart.
            let stands_here = item.piece.has_identity() && item.piece.modules.is_empty();
            let is_open = || {
                stands_here || !is_disputed(items, unit, name, |other| other.refs.contains(name))
            };
            if !meant.is_empty() && (stands_here || !is_past(&meant)) && is_open() {
                root.entry(name.clone()).or_insert(meant);
            }
        }
    }
    root
}

/// Whether an item of the crate says the name and does not mean what others do by it: when it was
/// written, the name was Rust's, or an import's.
fn is_disputed(items: &Items, unit: &Unit, name: &str, means: impl Fn(&Item) -> bool) -> bool {
    let mut all = unit.items.iter().map(|id| &items.all[id]);
    all.any(|item| item.piece.words.contains(name) && !item.provides(name) && !means(item))
}

/// The cells' imports: those of earlier cells by their text, their own where the user wrote them.
pub(super) fn imports(
    items: &Items,
    unit: &Unit,
    texts: &BTreeMap<SheetId, Range<usize>>,
    words: &BTreeSet<&str>,
    source: &mut Source,
) {
    let known = items.names();
    let here: BTreeSet<&str> = unit
        .items
        .iter()
        .flat_map(|id| items.all[id].names().chain(items.all[id].refs.iter().map(String::as_str)))
        .collect();
    let reaches =
        |import: &Import| !known.contains(import.root.as_str()) || here.contains(&*import.root);
    let mut written: BTreeSet<String> = BTreeSet::new();
    for (id, range) in texts {
        let sheet = &items.sheets[id];
        let roots: BTreeSet<&str> =
            sheet.imports.iter().map(|import| import.root.as_str()).collect();
        for import in &sheet.imports {
            let used = import.is_implicit()
                || import.may_be_trait()
                || words.contains(import.key.as_str())
                || roots.contains(import.key.as_str());
            let is_shared = !stands_apart(items, unit, *id, import);
            if used && reaches(import) && is_shared && written.insert(import.key.clone()) {
                source.ours(&import.text).ours("\n");
            }
        }
        source.begin_text(range.start);
        for (range, imports) in &sheet.uses {
            let (apart, shared): (Vec<&Import>, Vec<&Import>) =
                imports.iter().partition(|import| stands_apart(items, unit, *id, import));
            let new = shared.iter().filter(|import| written.insert(import.key.clone()));
            let new: Vec<&&Import> = new.collect();
            if apart.is_empty() && imports.iter().all(reaches) && !new.is_empty() {
                source.user(&sheet.text, range.clone()).ours("\n");
            } else if !apart.is_empty() {
                let new = new.into_iter().filter(|import| reaches(import));
                new.for_each(|import| _ = source.ours(&import.text).ours("\n"));
            }
        }
    }
}

/// The imports of a cell, of earlier ones and its own.
fn all_imports(items: &Items, sheet: SheetId) -> impl Iterator<Item = &Import> {
    let sheet = &items.sheets[&sheet];
    sheet.imports.iter().chain(sheet.uses.iter().flat_map(|(_, own)| own))
}

/// Whether an item may mean something by an import.
fn may_use(items: &Items, item: &Item, import: &Import) -> bool {
    let key = import.key.as_str();
    // What is of the session, and none of the names that the item knows, gives it nothing.
    if import.is_implicit() && !item.refs.contains(&import.root) {
        return items.current(&import.root).is_empty();
    }
    let is_named = item.piece.words.contains(key) && !item.refs.contains(key);
    (is_named || import.is_implicit() || import.may_be_trait()) && !item.provides(key)
}

/// Whether an import is for the items of its cell alone, each in a module of its own: the crate
/// defines the name, or others in it say that and mean something else.
fn stands_apart(items: &Items, unit: &Unit, sheet: SheetId, import: &Import) -> bool {
    let has = |item: &Item| all_imports(items, item.sheet).any(|known| known.text == import.text);
    let mut here = unit.items.iter().map(|id| &items.all[id]);
    let is_defined = here.clone().any(|item| item.provides(&import.key));
    let is_fixed = |item: &Item| item.piece.has_identity();
    // A type cannot stand in another module.
    let needs = |item: &Item| is_fixed(item) && item.sheet == sheet && may_use(items, item, import);
    if is_defined || here.clone().any(needs) {
        return is_defined;
    }
    if import.is_implicit() {
        return here.any(|item| is_fixed(item) && !has(item));
    }
    is_disputed(items, unit, &import.key, has)
}

/// The imports that stand in the item's own module.
pub(super) fn imports_apart(items: &Items, unit: &Unit, item: &Item) -> String {
    let imports = all_imports(items, item.sheet);
    let own = imports.filter(|import| may_use(items, item, import));
    let own = own.filter(|import| stands_apart(items, unit, item.sheet, import));
    let by_key: BTreeMap<&str, &str> =
        own.map(|import| (import.key.as_str(), import.text.as_str())).collect();
    by_key.values().map(|text| format!("{text}\n")).collect()
}
