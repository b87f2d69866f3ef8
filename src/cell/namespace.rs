//! What persists between cells: variables by name and type, units by hash, imports, dependencies.
//! Pure data with a hash, so that a kernel's copy of an engine's namespace can be compared with the
//! engine's truth.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::item::ItemPiece;
use super::items::Items;
use super::mentions::mentions_of_text;

/// A variable that lives in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// The type as it can be written in a later cell.
    pub type_text: String,
    pub mutable: bool,
    /// The label of the cell that defined it, such as `In[5]`.
    pub cell: String,
}

impl Variable {
    /// Whether it is a closure in a box: what is kept of one that captures something.
    pub fn is_boxed_closure(&self) -> bool {
        let bound = self.boxed().map(|bound| bound.split('(').next().unwrap_or_default());
        bound.is_some_and(|path| path.contains("ops::Fn"))
    }

    /// Whether it is an iterator in a box: what is kept of one with closures inside.
    pub fn is_boxed_iterator(&self) -> bool {
        self.boxed().is_some_and(|bound| bound.contains("iter::Iterator<"))
    }

    fn boxed(&self) -> Option<&str> {
        self.type_text.trim_start_matches("::").strip_prefix("std::boxed::Box<dyn ")
    }
}

/// What kind of name a unit gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Function,
    Type,
    /// A type whose name is its constructor, too: `struct Unit;`, `struct Pair(u8, u8);`.
    Constructor,
    Trait,
    Constant,
    Static,
    Macro,
    Module,
}

impl Kind {
    /// The keyword that makes one.
    pub fn word(self) -> &'static str {
        match self {
            Self::Function => "fn",
            Self::Type | Self::Constructor => "type",
            Self::Trait => "trait",
            Self::Constant => "const",
            Self::Static => "static",
            Self::Macro => "macro",
            Self::Module => "mod",
        }
    }

    /// Whether both are in one of Rust's three name spaces.
    pub fn shadows(self, other: Self) -> bool {
        let (values, types, macros) = (1, 2, 4);
        let spaces = |kind| match kind {
            Self::Function | Self::Constant | Self::Static => values,
            Self::Type | Self::Trait | Self::Module => types,
            Self::Constructor => values | types,
            Self::Macro => macros,
        };
        spaces(self) & spaces(other) != 0
    }

    /// Whether its name is a value.
    pub fn is_value(self) -> bool {
        self.shadows(Self::Function)
    }

    pub fn is_type(self) -> bool {
        matches!(self, Self::Type | Self::Constructor)
    }
}

/// A name that a unit defines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provided {
    pub name: String,
    pub kind: Kind,
    /// The item up to its body, for `inspect`.
    pub header: String,
    pub docs: String,
}

/// One name brought in by `use`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The bound name; `*` and the path for a glob, `_` and the path for an anonymous one.
    pub key: String,
    /// The declaration, for one name.
    pub text: String,
    /// The first segment of the path, which may be a name of the user's.
    pub root: String,
    /// What makes another run of its cell the same cell; empty when there is nothing.
    pub of: String,
}

impl Import {
    /// The names of its path.
    fn steps(&self) -> impl Iterator<Item = &str> {
        let text = self.text.split_once("use ").map_or("", |(_, rest)| rest);
        let path = text.split([' ', ';']).next().unwrap_or_default();
        let steps = path.split("::").filter(|step| !step.is_empty());
        steps.skip_while(|step| ["crate", "self"].contains(step))
    }

    /// Whether its path begins so: `a::b` begins `use a::b::c;` and `use a::b as c;`.
    pub fn leads_by(&self, path: &str) -> bool {
        let text = self.text.split_once("use ").map_or("", |(_, rest)| rest.trim_start());
        let text = text.strip_prefix("crate::").unwrap_or(text);
        let path = path.strip_prefix("crate::").unwrap_or(path);
        let rest = text.strip_prefix(path);
        rest.is_some_and(|rest| !rest.starts_with(|it: char| it.is_alphanumeric() || it == '_'))
    }

    /// Whether it is in force without its name being mentioned.
    pub fn is_implicit(&self) -> bool {
        self.key.starts_with('*') || self.key.starts_with('_')
    }

    /// Whether it may bring in a trait, whose methods are used without its name.
    pub fn may_be_trait(&self) -> bool {
        let mut letters = self.key.chars();
        letters.next().is_some_and(char::is_uppercase) && letters.any(char::is_lowercase)
    }
}

/// The crates that `:dep` has added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrateSet {
    /// A hash of all that it is made of; the compiler's store knows the rest by it.
    pub key: String,
    /// Crate names of the shared libraries that hold the crates. A cell that names a crate links
    /// all of them, or it would get a copy of its own, with statics of its own.
    pub libraries: Vec<String>,
    /// What cells may name.
    pub crates: Vec<String>,
    /// Those of them that are called otherwise by their own authors.
    pub renamed: Vec<String>,
    /// What these are built from: types of variables may name it, and cells may not.
    pub inner: Vec<String>,
}

/// A change to a namespace; applied only when its cell has run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The label of the cell that makes the change.
    pub cell: String,
    pub put: Vec<(String, Variable)>,
    /// Moved away by the cell.
    pub moved: Vec<String>,
    /// Those of them of which only a part was.
    pub parted: Vec<String>,
    /// Declared by the cell with types that no later cell can write.
    pub unkept: Vec<String>,
    /// All items, where the cell defines some.
    pub items: Option<Box<Items>>,
    pub imports: Vec<Import>,
    /// Keys of imports that are in force no more.
    pub imports_gone: BTreeSet<String>,
    /// Keys of imports that lead nowhere any more.
    pub imports_lost: BTreeSet<String>,
    /// Crate-level attributes, such as `#![feature(..)]`.
    pub attributes: Vec<String>,
    /// The dependency set in force from now on.
    pub set: Option<CrateSet>,
}

/// What one worker knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub variables: BTreeMap<String, Variable>,
    pub items: Items,
    pub imports: Vec<Import>,
    /// Imports that were in force and lead nowhere any more, by key.
    pub imports_lost: BTreeMap<String, String>,
    pub attributes: Vec<String>,
    /// The dependency set; `None` is the base set.
    pub set: Option<CrateSet>,
    /// Who moved a variable away, for the error message.
    pub moved: BTreeMap<String, Moved>,
}

/// How a variable went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The label of the cell that moved it.
    pub cell: String,
    /// Only a part of it.
    pub part: bool,
    /// It was a closure in a box.
    pub closure: bool,
    /// It was hidden by one of that cell that was not kept: the label of its own cell.
    #[serde(default)]
    pub hidden: Option<String>,
}

impl Moved {
    /// What to tell who misses the variable.
    pub fn told(&self, name: &str) -> String {
        let cell = &self.cell;
        match self {
            Self { hidden: Some(of), .. } => {
                format!("`{name}` ({of}) was hidden by that of {cell}, which ended with its cell")
            }
            Self { part: true, .. } => format!(
                "a part of `{name}` was moved away by {cell}, and what was left ended with that \
                 cell"
            ),
            Self { closure: true, .. } => format!(
                "`{name}` was moved away by {cell}: a closure is kept in a box, and `&{name}` \
                 lends it"
            ),
            _ => format!("`{name}` was moved away by {cell}"),
        }
    }
}

impl Namespace {
    /// A hash of everything that decides how a cell compiles against this namespace.
    pub fn hash(&self) -> String {
        let variables: Vec<_> = self
            .variables
            .iter()
            .map(|(name, variable)| (name, &variable.type_text, variable.mutable))
            .collect();
        let units: Vec<_> = self.items.units.iter().map(|unit| &unit.file).collect();
        let imports: Vec<_> = self.imports.iter().map(|import| &import.text).collect();
        let all = (variables, units, imports, &self.attributes, &self.set);
        let text = serde_json::to_vec(&all).expect("names and texts always serialise");
        hex(&Sha256::digest(text)[..16])
    }

    /// Keys of the imports that a cell takes away: those of an earlier run of it, and those that
    /// give names which it gives to items. What came last counts, as with `let`.
    pub fn imports_gone<'a>(
        &self,
        key: &str,
        defined: impl Iterator<Item = &'a Provided> + Clone,
    ) -> BTreeSet<String> {
        let is_gone = |import: &&Import| {
            let again = !key.is_empty() && import.of == key;
            again || defined.clone().any(|item| item.name == import.key)
        };
        self.imports.iter().filter(is_gone).map(|import| import.key.clone()).collect()
    }

    /// Takes imports out of force that lead nowhere any more; who misses one is told.
    pub fn lose(&mut self, keys: &BTreeSet<String>) {
        let lost = self.imports.extract_if(.., |import| keys.contains(&import.key));
        self.imports_lost.extend(lost.map(|import| (import.key, import.text)));
    }

    /// Keys of the imports that lead nowhere once a cell's items are there, as far as these show
    /// it: a module, or an enum, that has not what they name; a struct, which has nothing to name.
    pub fn imports_lost(&self, items: &[ItemPiece]) -> BTreeSet<String> {
        let is_lost = |import: &&Import| {
            let mut steps = import.steps();
            let Some(root) = steps.next() else { return false };
            let next = steps.next().filter(|step| *step != "self" && !step.starts_with('{'));
            let gives =
                |it: &&Provided| it.name == root && (it.kind.is_type() || it.kind == Kind::Module);
            let found =
                items.iter().find_map(|piece| Some((piece, piece.provides.iter().find(gives)?)));
            let (Some((piece, given)), Some(next)) = (found, next) else { return false };
            match &piece.globbed {
                Some(names) => next != "*" && !names.contains(next),
                None => given.header.starts_with("struct"),
            }
        };
        self.imports.iter().filter(is_lost).map(|import| import.key.clone()).collect()
    }

    /// A cell that failed while it ran leaves nothing but what it may have put elsewhere: no other
    /// type is to be taken for its types.
    pub fn remember_failed(&mut self, delta: &Delta) {
        if let Some(items) = &delta.items {
            self.items.remember(items);
        }
    }

    /// Takes over what a cell changed.
    pub fn apply(&mut self, delta: &Delta) {
        for name in &delta.moved {
            let before = self.variables.remove(name);
            let cell = delta.cell.clone();
            let closure = before.is_some_and(|variable| variable.is_boxed_closure());
            let part = delta.parted.contains(name);
            let moved = Moved { cell, part, closure, hidden: None };
            self.moved.insert(name.clone(), moved);
        }
        for name in &delta.unkept {
            if let Some(before) = self.variables.remove(name) {
                let (cell, hidden) = (delta.cell.clone(), Some(before.cell));
                self.moved.insert(name.clone(), Moved { cell, hidden, ..Moved::default() });
            }
        }
        for (name, variable) in &delta.put {
            self.variables.insert(name.clone(), variable.clone());
            self.moved.remove(name);
        }
        self.lose(&delta.imports_lost);
        self.imports.retain(|known| !delta.imports_gone.contains(&known.key));
        for import in &delta.imports {
            self.imports.retain(|known| known.key != import.key);
            self.imports_lost.remove(&import.key);
            self.imports.push(import.clone());
        }
        if let Some(items) = &delta.items {
            self.items.clone_from(items);
        }
        for attribute in &delta.attributes {
            if !self.attributes.contains(attribute) {
                self.attributes.push(attribute.clone());
            }
        }
        if delta.set.is_some() {
            self.set.clone_from(&delta.set);
        }
    }

    /// Variables whose types name one of these crates.
    pub fn variables_of(&self, crates: &BTreeSet<String>) -> Vec<String> {
        let names = |text: &str| !mentions_of_text(text).is_disjoint(crates);
        let of = self.variables.iter().filter(|(_, variable)| names(&variable.type_text));
        of.map(|(name, _)| name.clone()).collect()
    }

    /// The types of variables that stand in units: unit and name of each.
    pub fn held(&self) -> BTreeSet<(String, String)> {
        self.variables.values().flat_map(|variable| unit_paths(&variable.type_text)).collect()
    }
}

/// Each `unit_ab12::Name` in a type.
pub fn unit_paths(type_text: &str) -> Vec<(String, String)> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let starts = type_text.match_indices("unit_").map(|(at, _)| at);
    let paths = starts.filter_map(|at| {
        let rest = &type_text[at..];
        let (unit, rest) = rest.split_at(rest.find(|letter| !is_part(letter))?);
        let rest = rest.strip_prefix("::")?;
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        Some((unit.to_owned(), rest[..end].to_owned()))
    });
    paths.collect()
}

/// A short hash over parts, in hexadecimal; the same parts give the same hash everywhere.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()[..12])
}

/// Lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(type_text: &str) -> Variable {
        Variable { type_text: type_text.into(), mutable: false, cell: "In[1]".into() }
    }

    #[test]
    fn the_hash_follows_types_and_not_labels() {
        let mut one = Namespace::default();
        let put = vec![("x".to_owned(), variable("i32"))];
        one.apply(&Delta { put, ..Delta::default() });
        let mut two = one.clone();
        two.variables.get_mut("x").expect("it was put").cell = "In[7]".into();
        assert_eq!(one.hash(), two.hash());
        two.variables.get_mut("x").expect("it was put").type_text = "u8".into();
        assert_ne!(one.hash(), two.hash());
    }

    #[test]
    fn a_moved_variable_is_gone_and_remembered() {
        let mut namespace = Namespace::default();
        let put = vec![("x".to_owned(), variable("String"))];
        namespace.apply(&Delta { put, ..Delta::default() });
        let (moved, cell) = (vec!["x".to_owned()], "In[2]".to_owned());
        namespace.apply(&Delta { moved, cell, ..Delta::default() });
        assert!(namespace.variables.is_empty());
        let moved = namespace.moved.get("x").expect("it is remembered");
        assert_eq!(moved.told("x"), "`x` was moved away by In[2]");
    }
}
