//! The items of a session: which definition of each name is in force, and which crate it stands in.
//!
//! A session is one text with holes: cells add items, later cells replace them. Items that have no
//! values are free to be compiled in any crate; a type, a trait or a static *is* what its crate is
//! (its `TypeId` is made from the crate's name), so it stays in the crate it was born in for as
//! long as nothing about it changes, and gets a new one, being another type then, when anything
//! does. [`advance`] decides that for a new cell: what it replaces ([`replace`]), what stands where
//! ([`group`]), what each crate is called ([`name`]). Old definitions that a variable or a broken
//! caller still needs are *retired*: in no cell's scope, but compiled and linked as before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calls;
use super::item::{ItemPiece, Role, spaced};
use super::made::Made;
use super::map::{Map, PREFIX};

use super::namespace::{CrateSet, Import, Provided};

pub mod advance;
mod bodies;
mod broken;
mod by_macro;
mod called;
mod circle;
mod group;
mod interior;
mod members;
mod name;
mod reach;
mod release;
mod replace;
mod says;
mod shadowed;
mod statics;

#[cfg(test)]
mod tests;

pub use advance::{Advance, NewCell, advance};
pub use broken::{Broken, Ways};

/// Traits of ours begin so.
const EXTENSION: &str = "__PrustExtension";

pub type ItemId = u64;
pub type SheetId = u64;

/// The text of a cell that defined items, with what was in scope there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    /// What makes another run of a cell the same cell: the frontend's cell id; empty when there is
    /// none.
    pub key: String,
    pub label: String,
    pub text: String,
    /// What of it macros made: the user's own text ends before that.
    pub made: Vec<Made>,
    /// Imports of earlier cells that its items may use.
    pub imports: Vec<Import>,
    /// Its own `use` declarations.
    pub uses: Vec<(Range<usize>, Vec<Import>)>,
    /// Crate-level attributes in force.
    pub attributes: Vec<String>,
    pub salt: String,
}

/// One item, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub sheet: SheetId,
    pub piece: Arc<ItemPiece>,
    /// Members of an inherent impl that a later impl defines anew.
    pub dropped: BTreeSet<String>,
    /// Names of the session's that it may use; those that existed when it was written.
    pub refs: BTreeSet<String>,
    /// What some of these names mean to it alone.
    pub pins: BTreeMap<String, Vec<ItemId>>,
    pub retired: bool,
    /// Does not compile since something it uses was changed: in no crate until it does.
    pub withheld: bool,
    /// An inherent impl that cannot stand in its type's crate is written as a trait of this name,
    /// which is in scope wherever its methods are used.
    pub extension: Option<String>,
    /// The members of such an impl that are the type's own nevertheless.
    pub inherent: BTreeSet<String>,
    /// Its members, an old definition's, are called by names of their own: what stands before each
    /// is [`Item::own_prefix`].
    pub renamed: bool,
    /// Of calls, by their bytes in its text, that may be those of several such members: how many of
    /// these they are not.
    pub of_others: BTreeMap<usize, usize>,
    /// The crate it stands in.
    pub unit: String,
    /// A hash of what its bodies mean, as it was last compiled; empty where these have no types of
    /// their own.
    pub body: String,
    /// Stands in a module of its own: at the root of the crate, something else has stood.
    pub apart: bool,
}

/// A crate of items, compiled as a library that later cells link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Crate name, `unit_<hash>`: what its types are known by.
    pub name: String,
    /// Name of the library without `lib` and `.so`: another one whenever its content is.
    pub file: String,
    /// Crates whose libraries this one links, directly or not.
    pub needs: Vec<String>,
    pub items: Vec<ItemId>,
    /// What its items are called in cells now.
    pub provides: Vec<Provided>,
    /// The label of the cell that the last of its items comes from.
    pub cell: String,
    /// The user's texts and where they went, for places in panics and diagnostics.
    pub parts: Arc<[Part]>,
    pub generated: Arc<str>,
    /// The dependency set it was made with.
    pub set: Option<CrateSet>,
    /// Of statics that were built anew: where they are.
    pub storage: Option<Storage>,
}

/// The first library made of some statics: those built later say how they are used, and no process
/// loads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Name of the library without `lib` and `.so`.
    pub file: String,
    /// The libraries that it was linked with.
    pub needs: Vec<String>,
}

/// One cell's share of a generated source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub sheet: SheetId,
    pub label: String,
    pub text: String,
    pub map: Map,
    /// Where its bytes come from in the sheet's whole text, where macros made some of that.
    pub whole: Option<Map>,
}

impl Sheet {
    /// What the user wrote.
    pub fn own_text(&self) -> &str {
        let end = self.made.first().map_or(self.text.len(), |made| made.range.start);
        let own = &self.text[..end];
        if self.made.is_empty() { own } else { own.strip_suffix('\n').unwrap_or(own) }
    }
}

/// The trait that an inherent impl is written as.
fn extension_name(id: ItemId) -> String {
    format!("{EXTENSION}{id}")
}

/// All items of a session. Copied with every cell: what is long is shared between copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    pub sheets: BTreeMap<SheetId, Arc<Sheet>>,
    pub all: BTreeMap<ItemId, Item>,
    /// A unit stands after those it needs.
    pub units: Vec<Unit>,
    /// What stands, or has stood, under a path of a crate: never two different things.
    shapes: BTreeMap<String, String>,
    /// What bodies stand, or have stood, under a path of a crate: never two that mean different
    /// things.
    bodies: BTreeMap<String, String>,
    /// Every item that has, or had, a name.
    by_name: BTreeMap<String, BTreeSet<ItemId>>,
    next: u64,
}

impl Item {
    /// What a cell wrote, before anything is known of the others.
    fn of(sheet: SheetId, piece: ItemPiece) -> Self {
        Self {
            sheet,
            piece: Arc::new(piece),
            dropped: BTreeSet::new(),
            refs: BTreeSet::new(),
            pins: BTreeMap::new(),
            retired: false,
            withheld: false,
            extension: None,
            inherent: BTreeSet::new(),
            renamed: false,
            of_others: BTreeMap::new(),
            unit: String::new(),
            body: String::new(),
            apart: false,
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.piece.provides.iter().map(|provided| provided.name.as_str());
        own.chain(self.extension.as_deref())
    }

    /// The names that bring methods into scope.
    pub fn methods(&self) -> BTreeSet<&str> {
        match &self.piece.role {
            Role::Trait { methods } => methods.iter().map(String::as_str).collect(),
            Role::Impl(role) if self.extension.is_some() => {
                let names = role.members.iter().map(|(name, _)| name);
                let in_trait = |name: &&String| {
                    !self.inherent.contains(*name) && !self.dropped.contains(*name)
                };
                names.filter(in_trait).map(String::as_str).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Whether its crate is part of what it is.
    fn has_identity(&self) -> bool {
        self.piece.has_identity()
    }

    pub fn provides(&self, name: &str) -> bool {
        self.names().any(|provided| provided == name)
    }

    /// Whether later cells see it.
    pub fn is_current(&self) -> bool {
        !self.retired && !self.withheld
    }

    /// An old definition of a type's members, in scope only where somebody goes on with it.
    pub fn is_past_trait(&self) -> bool {
        self.retired && self.extension.is_some()
    }

    /// Before a member's name where nothing else is to be taken for it.
    pub fn own_prefix(id: ItemId) -> String {
        format!("{PREFIX}{id}_")
    }

    /// Whether rustc names such a member.
    pub fn speaks_of_own_name(message: &str) -> bool {
        message.contains(&format!("`{PREFIX}"))
    }

    /// The module that it stands in where it stands in one of its own.
    pub fn module(&self, id: ItemId) -> String {
        format!("{PREFIX}{id}{}{}", if self.body.is_empty() { "" } else { "_" }, self.body)
    }

    /// How messages call it: its name, or an impl's header.
    pub fn title(&self) -> String {
        match (self.piece.provides.first(), &self.piece.role) {
            (Some(provided), _) => provided.name.clone(),
            (None, Role::Impl(role)) => spaced(role.header.trim_end_matches(['{', '}', ' '])),
            (None, _) => "an item".to_owned(),
        }
    }
}

impl Items {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn insert(&mut self, item: Item) -> ItemId {
        let id = self.fresh();
        for name in item.names() {
            self.by_name.entry(name.to_owned()).or_default().insert(id);
        }
        self.all.insert(id, item);
        id
    }

    /// Forgets all items but those that `keep` names.
    fn retain(&mut self, keep: impl Fn(ItemId) -> bool) {
        self.all.retain(|id, _| keep(*id));
        self.by_name.retain(|_, ids| {
            ids.retain(|id| keep(*id));
            !ids.is_empty()
        });
    }

    /// Writes an inherent impl as the impl of a trait, and gives the trait's name.
    fn write_as_trait(&mut self, id: ItemId) -> String {
        let name = extension_name(id);
        self.by_name.entry(name.clone()).or_default().insert(id);
        self.all.get_mut(&id).expect("it is there").extension = Some(name.clone());
        name
    }

    /// Writes an inherent impl as a trait's from now on: who says one of its methods needs the
    /// trait in scope.
    fn extend(&mut self, id: ItemId) {
        let name = self.write_as_trait(id);
        let item = &self.all[&id];
        let is_past = item.retired;
        let methods: BTreeSet<String> = item.methods().into_iter().map(str::to_owned).collect();
        let known = self.names();
        let says = |item: &Item| {
            let is_ours = |head: &str| {
                head == "Self" || known.contains(head) || known.contains(&*self.root(item, head))
            };
            let said = self.said(item);
            let mut said = methods.iter().filter(|name| said.contains(*name));
            said.any(|name| {
                let is_by_macro = !item.piece.words.contains(name);
                is_by_macro || !calls::is_of_others(self.text(item), name, is_ours)
            })
        };
        let users = self.all.iter().filter(|(each, user)| **each != id && says(user));
        let users: Vec<ItemId> = users.map(|(each, _)| *each).collect();
        for user in users {
            let user = self.all.get_mut(&user).expect("it was found there");
            if !is_past {
                user.refs.insert(name.clone());
            } else if user.retired || !user.pins.is_empty() {
                user.refs.insert(name.clone());
                user.pins.insert(name.clone(), vec![id]);
            }
        }
    }

    /// Writes it as the user wrote it again.
    fn restore(&mut self, id: ItemId) {
        let name = extension_name(id);
        self.by_name.remove(&name);
        for item in self.all.values_mut() {
            item.refs.remove(&name);
            item.pins.remove(&name);
        }
        self.all.get_mut(&id).expect("it is there").extension = None;
    }

    /// The items that cells mean by `name`: one for each of Rust's name spaces it is in.
    pub fn current(&self, name: &str) -> Vec<ItemId> {
        let named = self.by_name.get(name).into_iter().flatten();
        named.filter(|id| self.all[id].is_current()).copied().collect()
    }

    /// An item of this name that is left out because it does not compile, and its cell.
    pub fn withheld(&self, name: &str) -> Option<&str> {
        let mut found = self.all.values().filter(|item| item.withheld && item.provides(name));
        found.next().map(|item| self.sheets[&item.sheet].label.as_str())
    }

    /// Whether an earlier run of the cell with this key defined what is still in force.
    pub fn is_of(&self, key: &str) -> bool {
        let is_own = |item: &Item| !item.retired && self.sheets[&item.sheet].key == key;
        !key.is_empty() && self.all.values().any(is_own)
    }

    /// What `name` means to an item.
    pub fn resolve(&self, item: &Item, name: &str) -> Vec<ItemId> {
        item.pins.get(name).cloned().unwrap_or_else(|| self.current(name))
    }

    /// Everything an item may use.
    fn edges(&self, item: &Item) -> BTreeSet<ItemId> {
        item.refs.iter().flat_map(|name| self.resolve(item, name)).collect()
    }

    /// Every name in force.
    pub fn names(&self) -> BTreeSet<&str> {
        self.all.values().filter(|item| item.is_current()).flat_map(Item::names).collect()
    }

    /// Traits in force that have one of these methods.
    pub fn traits_with(&self, words: &BTreeSet<String>) -> BTreeSet<String> {
        let has = |item: &&Item| {
            item.is_current() && item.methods().iter().any(|method| words.contains(*method))
        };
        self.all.values().filter(has).flat_map(Item::names).map(str::to_owned).collect()
    }

    /// Whether an import may bring in a trait of a module in force that has one of these methods.
    pub fn gives_methods(&self, import: &Import, words: &BTreeSet<String>) -> bool {
        let modules = self.current(&import.root).into_iter().map(|id| &self.all[&id].piece);
        import.may_be_trait() && modules.clone().any(|it| !it.inner_methods.is_disjoint(words))
    }

    /// What text that mentions `words` may use of the session: named items, what macros among
    /// them name at their call site, traits whose methods are mentioned.
    pub fn refs(&self, words: &BTreeSet<String>) -> BTreeSet<String> {
        self.refs_or(words, &Self::default())
    }

    /// The same, where a name that nothing has now is still what it was in `before`.
    fn refs_or(&self, words: &BTreeSet<String>, before: &Self) -> BTreeSet<String> {
        self.heard(words, before).0
    }

    /// The same, and the words that count: these, and those of macros among them.
    fn heard(
        &self,
        words: &BTreeSet<String>,
        before: &Self,
    ) -> (BTreeSet<String>, BTreeSet<String>) {
        let known: BTreeSet<&str> = self.names().union(&before.names()).copied().collect();
        let meant = |name: &str| -> Vec<&Item> {
            let now: Vec<&Item> = self.current(name).iter().map(|id| &self.all[id]).collect();
            let then = || before.current(name).iter().map(|id| &before.all[id]).collect();
            if now.is_empty() { then() } else { now }
        };
        let mut words = words.clone();
        let mut refs: BTreeSet<String> = BTreeSet::new();
        loop {
            let named = words.iter().filter(|word| known.contains(word.as_str())).cloned();
            let traits = self.traits_with(&words).into_iter().chain(before.traits_with(&words));
            let found: BTreeSet<String> = named.chain(traits).collect();
            let new: Vec<String> = found.difference(&refs).cloned().collect();
            if new.is_empty() {
                return (refs, words);
            }
            for name in new {
                for item in meant(&name).into_iter().filter(|item| item.piece.has_macros()) {
                    words.extend(item.piece.words.iter().cloned());
                }
                refs.insert(name);
            }
        }
    }

    /// The unit with this crate name.
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }

    /// These units and what they need, in the order to load them.
    pub fn with_needs<'a>(&'a self, names: &[String]) -> Vec<&'a Unit> {
        let mut wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for unit in names.iter().filter_map(|name| self.unit(name)) {
            wanted.extend(unit.needs.iter().map(String::as_str));
        }
        self.units.iter().filter(|unit| wanted.contains(unit.name.as_str())).collect()
    }

    /// What is in force here that `old` knows nothing of, as messages call it.
    pub fn newer_than(&self, old: &Self) -> Vec<String> {
        let new = self
            .all
            .iter()
            .filter(|(id, item)| item.is_current() && self.written_before(old, **id).is_none());
        new.map(|(_, item)| item.title()).collect()
    }

    /// The cell that defined what is in force by a name.
    pub fn cell_of(&self, name: &str) -> Option<&str> {
        let id = *self.current(name).first()?;
        Some(&self.sheets[&self.all[&id].sheet].label)
    }

    /// The libraries that a process loads for these units, in order.
    pub fn libraries(&self, names: &[String]) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for unit in self.with_needs(names) {
            let needs = unit.storage.iter().flat_map(|storage| &storage.needs);
            files.extend(needs.map(String::as_str));
            files.push(unit.storage.as_ref().map_or(&unit.file, |storage| &storage.file));
        }
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        files.retain(|file| seen.insert(file));
        files
    }

    /// Whether a unit holds nothing but statics: rebuilding it does not reset them.
    pub fn is_static(&self, unit: &Unit) -> bool {
        !unit.items.is_empty()
            && unit.items.iter().all(|id| self.all[id].piece.role == Role::Static)
    }

    /// Whether a type, as a variable's type text names it, is left out because it does not compile
    /// any more.
    pub fn is_left_out(&self, unit: &str, name: &str) -> bool {
        self.all.values().any(|item| item.withheld && item.unit == unit && item.provides(name))
    }

    /// Whether a type, as a variable's type text names it, is an old definition.
    pub fn is_retired(&self, unit: &str, name: &str) -> bool {
        let here = |item: &&Item| item.unit == unit && item.provides(name);
        let mut found = self.all.values().filter(here).peekable();
        found.peek().is_some() && found.all(|item| item.retired)
    }
}
