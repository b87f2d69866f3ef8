//! Writes the crates around a cell's text: the unit (its items, as a library that later cells link)
//! and the leaf (its statements, run once). Imports are sparse: only what the text mentions, and
//! what holds traits.

use std::collections::BTreeSet;

use super::map::Source;
use super::namespace::{CrateSet, Import, Namespace};
use super::split::Split;

pub mod leaf;
mod names;
mod runtime;
pub mod shape;
pub mod trampoline;
pub mod unit;

/// Names that `use prust::prelude::*` gives; a cell that mentions none does not link the `prust`
/// crate.
pub const PRELUDE: [&str; 15] = [
    "prust",
    "Client",
    "DirectView",
    "EngineView",
    "LoadBalancedView",
    "AsyncResult",
    "AsyncMapResult",
    "Reference",
    "EngineId",
    "RemoteError",
    "Targets",
    "serde",
    "Serialize",
    "Deserialize",
    "serde_json",
];

/// Lints that would speak of names used only in later cells, or of our own lines.
const QUIET: &str = "#![allow(unused_imports, dead_code, unused_parens, unused_braces, \
    private_interfaces, private_bounds, async_fn_in_trait, \
    non_local_definitions, unused_macros, redundant_imports, unexpected_cfgs, path_statements, \
    unused_labels, named_asm_labels, improper_ctypes_definitions, ambiguous_glob_imports)]\n";

/// What a unit's code is not told, too: it is compiled again and again, with all that uses it.
const QUIET_UNIT: &str =
    "#![allow(unused_variables, unused_mut, unused_assignments, unreachable_code)]\n";

/// A crate to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CratePlan {
    pub source: Source,
    /// Units it names directly; their libraries are its `--extern`s.
    pub units: Vec<String>,
    /// Whether it needs the `prust` crate (and serde with it).
    pub api: bool,
    /// Whether it names a crate of the dependency set.
    pub set: bool,
    /// Crates that types in it begin at, also such as no cell names.
    pub inner: BTreeSet<String>,
}

/// What the generated preamble of a crate brings into scope.
struct Scope {
    text: String,
    units: Vec<String>,
    api: bool,
    set: bool,
}

/// Imports of earlier cells that text with `names` uses; `names` grows by the roots of their paths,
/// which may be names of the user's.
fn imports_for<'a>(
    old: &[&'a Import],
    new: &[Import],
    names: &mut BTreeSet<String>,
) -> Vec<&'a Import> {
    let mut imports: Vec<&Import> = Vec::new();
    loop {
        let found: Vec<&Import> = old
            .iter()
            .filter(|import| import.is_implicit() || names.contains(&import.key))
            .filter(|import| !imports.contains(import))
            .copied()
            .collect();
        if found.is_empty() {
            break;
        }
        names.extend(found.iter().map(|import| import.root.clone()));
        imports.extend(found);
    }
    names.extend(new.iter().map(|import| import.root.clone()));
    imports
}

/// Imports of earlier cells that a cell's own do not replace.
fn old_imports<'a>(namespace: &'a Namespace, new: &[Import]) -> Vec<&'a Import> {
    let replaced: BTreeSet<&str> = new.iter().map(|import| import.key.as_str()).collect();
    let imports = namespace.imports.iter();
    imports.filter(|import| !replaced.contains(import.key.as_str())).collect()
}

/// Imports that may be of traits: in force without being mentioned, those from the user's modules
/// where `names` has a method.
fn traits(namespace: &Namespace, old: &[&Import], names: &BTreeSet<String>) -> Vec<String> {
    let items = namespace.items.names();
    let may_be = old.iter().filter(|import| {
        let is_of_crate = import.may_be_trait() && !items.contains(import.root.as_str());
        is_of_crate || namespace.items.gives_methods(import, names)
    });
    may_be.map(|import| import.key.clone()).collect()
}

/// What a leaf that mentions `names` has in scope.
fn scope(namespace: &Namespace, new: &[Import], mut names: BTreeSet<String>) -> Scope {
    let old = old_imports(namespace, new);
    names.extend(traits(namespace, &old, &names));
    let imports = imports_for(&old, new, &mut names);
    let imported: BTreeSet<&str> =
        imports.iter().copied().chain(new).map(|import| import.key.as_str()).collect();
    let mut text = String::new();
    let mut units: BTreeSet<String> = BTreeSet::new();
    let items = &namespace.items;
    for name in items.refs(&names) {
        let here: BTreeSet<&str> =
            items.current(&name).iter().map(|id| items.all[id].unit.as_str()).collect();
        for unit in here.into_iter().filter(|_| !imported.contains(name.as_str())) {
            text.push_str(&format!("use ::{unit}::{name};\n"));
            units.insert(unit.to_owned());
        }
    }
    let crates = namespace.set.as_ref().and_then(|set| crates(set, &names));
    text.push_str(crates.as_deref().unwrap_or_default());
    let api = names.iter().any(|name| PRELUDE.contains(&name.as_str()));
    if api {
        text.push_str("use ::prust::prelude::*;\n");
    }
    imports.iter().for_each(|import| text.push_str(&format!("{}\n", import.text)));
    Scope { text, units: units.into_iter().collect(), api, set: crates.is_some() }
}

/// Links the libraries of the set, if text that mentions `names` may use them. A renamed crate is
/// declared, too: rustc then writes types by the name that later cells can write.
fn crates(set: &CrateSet, names: &BTreeSet<String>) -> Option<String> {
    let bare = |name: &str| name.strip_prefix("r#").unwrap_or(name).to_owned();
    let mentioned = |name: &&String| names.contains(*name) || names.contains(&bare(name));
    if !set.crates.iter().any(|name| mentioned(&name)) {
        return None;
    }
    let renamed = set.renamed.iter().filter(mentioned);
    let renamed = renamed.map(|name| format!("extern crate {name};\n"));
    Some(libraries(set) + &renamed.collect::<String>())
}

fn libraries(set: &CrateSet) -> String {
    set.libraries.iter().map(|name| format!("extern crate {name} as _;\n")).collect()
}

fn head(namespace: &Namespace, cell: &str, split: &Split, source: &mut Source) {
    source.ours(QUIET);
    if !split.salt.is_empty() {
        source.ours(&format!("// {}\n", split.salt));
    }
    for attribute in &namespace.attributes {
        source.ours(attribute).ours("\n");
    }
    for range in &split.attributes {
        source.user(cell, range.clone()).ours("\n");
    }
}

fn new_imports(split: &Split) -> Vec<Import> {
    split.imports.iter().flat_map(|(_, imports)| imports.iter().cloned()).collect()
}
