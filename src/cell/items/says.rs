//! What items say: their text and words, with what imports, macros and files make of them.

use std::collections::BTreeSet;

use super::{Item, ItemId, Items};
use crate::cell::included::INCLUDING;
use crate::cell::item::ItemPiece;
use crate::cell::mentions::mentions_of_text;
use crate::cell::namespace::Import;
use crate::cell::plan::PRELUDE;

impl Items {
    /// What the user wrote.
    pub fn text(&self, item: &Item) -> &str {
        self.sheets[&item.sheet].text.get(item.piece.range.clone()).unwrap_or_default()
    }

    /// What it says to rustc, with the imports that its words mean something by.
    pub(super) fn says(&self, item: &Item) -> String {
        let mut says = item.piece.shape.clone().unwrap_or_else(|| self.text(item).to_owned());
        says.push_str(self.read_from(item));
        let mut imports: Vec<&str> = self.imports_of(item, &item.piece.words).collect();
        imports.sort_unstable();
        imports.dedup();
        imports.iter().for_each(|import| {
            says.push('\n');
            says.push_str(import);
        });
        says
    }

    /// What an item in force here, or one of the same text, was in `old`.
    pub fn written_before<'a>(&self, old: &'a Self, id: ItemId) -> Option<&'a Item> {
        let item = &self.all[&id];
        let is_known = |before: &&Item| before.is_current();
        let itself = || old.all.get(&id).filter(is_known);
        let says_the_same = || {
            let names = item.names().flat_map(|name| old.current(name)).map(|id| &old.all[&id]);
            let mut same = names.filter(|before| old.says(before) == self.says(item));
            same.find(is_known)
        };
        let stood_there = || {
            let is_there =
                |it: &&Item| it.sheet == item.sheet && it.piece.range == item.piece.range;
            old.all.values().filter(is_there).find(is_known)
        };
        itself().or_else(says_the_same).or_else(stood_there)
    }

    /// A hash of the files that are part of what it says.
    pub(super) fn read_from(&self, item: &Item) -> &str {
        let reads = INCLUDING.iter().any(|name| item.piece.words.contains(*name));
        if reads { &self.sheets[&item.sheet].salt } else { "" }
    }

    /// The imports that give one of these words, as declarations.
    pub(super) fn imports_of<'a>(
        &'a self,
        item: &'a Item,
        words: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a str> {
        let sheet = &self.sheets[&item.sheet];
        let own = sheet.uses.iter().flat_map(|(_, imports)| imports);
        // What leads into the item itself is none of what it says.
        let all = own.chain(&sheet.imports);
        let all = all.filter(|import| !import.is_implicit() && !item.provides(&import.root));
        all.filter(|import| words.contains(&import.key)).map(|import| import.text.as_str())
    }

    /// Whether it means something by an import whose path begins so.
    pub fn imports_by(&self, item: &Item, path: &str) -> bool {
        let sheet = &self.sheets[&item.sheet];
        let own = sheet.uses.iter().flat_map(|(_, imports)| imports);
        own.chain(&sheet.imports).any(|import| {
            let implicit = import.is_implicit() && item.refs.contains(&import.root);
            (implicit || item.piece.words.contains(&import.key)) && import.leads_by(path)
        })
    }

    /// Whether its cell has an import whose path begins so, and where that begins is a name of its.
    pub fn stands_by(&self, item: &Item, path: &str) -> bool {
        let sheet = &self.sheets[&item.sheet];
        let own = sheet.uses.iter().flat_map(|(_, imports)| imports);
        let mut imports = own.chain(&sheet.imports);
        imports.any(|import| item.refs.contains(&import.root) && import.leads_by(path))
    }

    /// What is in force by a name, and how the user wrote it.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = (&ItemPiece, &str)> {
        let current = self.current(name).into_iter().map(|id| &self.all[&id]);
        current.map(|item| (&*item.piece, self.text(item)))
    }

    /// The words of an item, with those of the macros that it names.
    pub(super) fn said(&self, item: &Item) -> BTreeSet<String> {
        let mut said = item.piece.words.clone();
        let mut open: Vec<ItemId> = self.macros_of(item);
        let mut seen: BTreeSet<ItemId> = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                let named = &self.all[&id];
                said.extend(named.piece.words.iter().cloned());
                open.extend(self.macros_of(named));
            }
        }
        // By an import, something is said under another name.
        let imports = self.imports_of(item, &said).map(mentions_of_text).collect::<Vec<_>>();
        said.extend(imports.into_iter().flatten());
        said
    }

    pub(super) fn macros_of(&self, item: &Item) -> Vec<ItemId> {
        let named = item.refs.iter().flat_map(|name| self.resolve(item, name));
        let is_macro = |id: &ItemId| self.all.get(id).is_some_and(|item| item.piece.has_macros());
        named.filter(is_macro).collect()
    }

    /// Where a name's path begins: at the root of the import that gives it, or at itself.
    pub(super) fn root(&self, item: &Item, name: &str) -> String {
        let sheet = &self.sheets[&item.sheet];
        let imports = sheet.uses.iter().flat_map(|(_, imports)| imports).chain(&sheet.imports);
        let mut given = imports.filter(|import| import.key == name);
        given.next().map_or(name, |import| &import.root).to_owned()
    }

    /// Whether an import that goes without its name may give one of these words. What the variants
    /// of an enum or the items of a module are called is known; of others, any may be meant.
    pub(super) fn may_give(&self, before: &Self, import: &Import, said: &BTreeSet<String>) -> bool {
        let Some(path) = import.key.strip_prefix('*') else { return true };
        let mut steps = path.split("::").filter(|step| !["", "crate", "self"].contains(step));
        let is_whole = steps.next() == Some(&import.root) && steps.next().is_none();
        let of = |items: &Self| -> Vec<Option<BTreeSet<String>>> {
            let meant = items.current(&import.root).into_iter();
            meant.map(|id| items.all[&id].piece.globbed.clone()).collect()
        };
        let mut given = of(self);
        given.extend(of(before));
        let may = |names: &Option<BTreeSet<String>>| {
            names.as_ref().is_none_or(|names| !names.is_disjoint(said))
        };
        !is_whole || given.is_empty() || given.iter().any(may)
    }

    /// The modules that may give a name by `use module::*`.
    pub(super) fn in_globs(&self, item: &Item, name: &str) -> Vec<ItemId> {
        let sheet = &self.sheets[&item.sheet];
        let imports = || sheet.uses.iter().flat_map(|(_, imports)| imports).chain(&sheet.imports);
        if imports().any(|import| import.key == name) {
            return Vec::new();
        }
        let globs = imports().filter(|import| import.key.starts_with('*'));
        let roots: BTreeSet<String> = globs.map(|glob| self.root(item, &glob.root)).collect();
        let mut found: Vec<ItemId> =
            roots.iter().flat_map(|root| self.resolve(item, root)).collect();
        found.retain(|id| self.all[id].piece.inner_names.contains(name));
        found
    }

    /// What the type of an impl is called where it is defined.
    pub(super) fn type_name(&self, item: &Item, of_type: &str) -> String {
        let is_named = |letter: char| letter.is_alphanumeric() || letter == '_';
        let path = of_type.split('<').next().unwrap_or_default().trim();
        let last = |path: &str| {
            path.rsplit(|letter| !is_named(letter)).next().unwrap_or_default().to_owned()
        };
        let sheet = &self.sheets[&item.sheet];
        let mut imports = sheet.uses.iter().flat_map(|(_, imports)| imports).chain(&sheet.imports);
        match imports.find(|import| import.key == path) {
            Some(import) => {
                let text = import.text.trim_end_matches(';');
                last(text.split_once(" as ").map_or(text, |(path, _)| path))
            }
            None => last(path),
        }
    }

    /// Items in force that name one of these crates, by themselves or by an import.
    pub fn naming(&self, crates: &BTreeSet<String>) -> BTreeSet<ItemId> {
        let mut crates = crates.clone();
        if crates.contains("prust") {
            crates.extend(PRELUDE.map(str::to_owned));
        }
        let names = |item: &&Item| {
            let sheet = &self.sheets[&item.sheet];
            let imports = sheet.uses.iter().flat_map(|(_, imports)| imports).chain(&sheet.imports);
            let mut used = imports
                .filter(|import| import.is_implicit() || item.piece.words.contains(&import.key));
            !item.piece.words.is_disjoint(&crates) || used.any(|used| crates.contains(&used.root))
        };
        let all = self.all.iter().filter(|(_, item)| item.is_current() && names(item));
        all.map(|(id, _)| *id).collect()
    }
}
