//! Writes the crates around a cell's text: the unit (its items, as a library that later cells link)
//! and the leaf (its statements, run once). Imports are sparse: only what the text mentions, and
//! what holds traits.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::map::Source;
use super::mentions::{mentions, mentions_of_text};
use super::mir;
use super::namespace::{Delta, Import, Namespace, Unit, Variable, hex};
use super::split::Split;

/// The symbol that a leaf exports.
pub const ENTRY: &str = "prust_cell";

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
const QUIET: &str = "#![allow(unused_imports, unused_variables, unused_mut, unused_assignments, \
    dead_code, \
    unreachable_code, unused_parens, unused_braces, private_interfaces, private_bounds, \
    non_local_definitions, unused_macros, redundant_imports, unexpected_cfgs, path_statements, \
    unused_labels, named_asm_labels, improper_ctypes_definitions, ambiguous_glob_imports)]\n";

/// A crate to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CratePlan {
    pub source: Source,
    /// Units it names directly; their libraries are its `--extern`s.
    pub units: Vec<String>,
    /// Whether it needs the `prust` crate (and serde with it).
    pub api: bool,
}

/// What the generated preamble of a crate brings into scope.
struct Scope {
    text: String,
    units: Vec<String>,
    api: bool,
}

/// Imports in force for text that mentions `names`, leaving out names in `defined`, which the crate
/// defines.
fn scope(
    namespace: &Namespace,
    new: &[Import],
    mut names: BTreeSet<String>,
    defined: &BTreeSet<String>,
) -> Scope {
    let replaced: BTreeSet<&str> = new.iter().map(|import| import.key.as_str()).collect();
    let old: Vec<&Import> = namespace
        .imports
        .iter()
        .filter(|import| !replaced.contains(import.key.as_str()) && !defined.contains(&import.key))
        .collect();
    // An import's path may start at a name of the user's, and its own name may be mentioned by
    // another.
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
    let imported: BTreeSet<&str> =
        imports.iter().copied().chain(new).map(|import| import.key.as_str()).collect();
    let mut text = String::new();
    let mut units: BTreeSet<String> = BTreeSet::new();
    for name in names.iter().filter(|name| !defined.contains(*name)) {
        if imported.contains(name.as_str()) {
            continue;
        }
        for unit in namespace.providers(name) {
            text.push_str(&format!("use ::{}::{name};\n", unit.name));
            units.insert(unit.name.clone());
        }
    }
    for unit in namespace.units.iter().filter(|unit| unit.implicit) {
        text.push_str(&format!("use ::{}::*;\n", unit.name));
        units.insert(unit.name.clone());
    }
    let api = names.iter().any(|name| PRELUDE.contains(&name.as_str()));
    if api {
        text.push_str("use ::prust::prelude::*;\n");
    }
    imports.iter().for_each(|import| text.push_str(&format!("{}\n", import.text)));
    Scope { text, units: units.into_iter().collect(), api }
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

/// The unit for the cell's items; `None` when it has none.
pub fn unit(namespace: &Namespace, cell: &str, split: &Split) -> Option<CratePlan> {
    if split.items.is_empty() {
        return None;
    }
    let names = split.items.iter().flat_map(|item| item.mentions.iter().cloned()).collect();
    let defined: BTreeSet<String> =
        split.items.iter().filter_map(|item| Some(item.provides.as_ref()?.name.clone())).collect();
    let scope = scope(namespace, &new_imports(split), names, &defined);
    let mut source = Source::default();
    head(namespace, cell, split, &mut source);
    source.ours(&scope.text);
    for (range, _) in &split.imports {
        source.user(cell, range.clone()).ours("\n");
    }
    for item in &split.items {
        source.user_edited(cell, item.range.clone(), &item.edits).ours("\n");
    }
    Some(CratePlan { source, units: scope.units, api: scope.api })
}

/// The namespace's record of a compiled unit. Its name is a hash of all that went into it.
pub fn unit_record(
    namespace: &Namespace,
    cell: &str,
    label: &str,
    split: &Split,
    plan: &CratePlan,
) -> Unit {
    let mut digest = Sha256::new();
    digest.update(plan.source.text.as_bytes());
    digest.update(plan.units.join(",").as_bytes());
    digest.update(namespace.set.as_deref().unwrap_or_default().as_bytes());
    let mut needs: BTreeSet<String> = plan.units.iter().cloned().collect();
    for unit in plan.units.iter().filter_map(|name| namespace.unit(name)) {
        needs.extend(unit.needs.iter().cloned());
    }
    Unit {
        name: format!("unit_{}", hex(&digest.finalize()[..12])),
        provides: split.items.iter().filter_map(|item| item.provides.clone()).collect(),
        needs: needs.into_iter().collect(),
        implicit: split.items.iter().any(|item| item.implicit),
        cell: label.to_owned(),
        text: cell.to_owned(),
        generated: plan.source.text.clone(),
        map: plan.source.map.clone(),
    }
}

/// What a leaf does with variables, beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSlots {
    /// Variables of earlier cells that the text mentions.
    pub takes: Vec<String>,
    /// Variables the cell declares, in the order of their `put` numbers.
    pub puts: Vec<(String, bool)>,
}

impl LeafSlots {
    /// All that may be taken and put; [`LeafSlots::without`] narrows it when rustc says a name is
    /// moved.
    pub fn of(namespace: &Namespace, cell: &str, split: &Split) -> Self {
        let names = leaf_mentions(cell, split);
        let takes =
            namespace.variables.keys().filter(|name| names.contains(bare(name))).cloned().collect();
        let mut puts: Vec<(String, bool)> = Vec::new();
        for (name, mutable) in &split.declares {
            puts.retain(|(known, _)| known != name);
            puts.push((name.clone(), *mutable));
        }
        Self { takes, puts }
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

fn leaf_mentions(cell: &str, split: &Split) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for range in split.statements.iter().chain(&split.value) {
        names.extend(match cell[range.clone()].parse() {
            Ok(tokens) => mentions(tokens),
            Err(_) => mentions_of_text(&cell[range.clone()]),
        });
    }
    names
}

/// The leaf for the cell's statements. `moved` names variables that are not put back: rustc has
/// said that the cell moves them away.
pub fn leaf(
    namespace: &Namespace,
    cell: &str,
    split: &Split,
    slots: &LeafSlots,
    moved: &BTreeSet<String>,
) -> CratePlan {
    let mut names = leaf_mentions(cell, split);
    for name in &slots.takes {
        names.extend(mentions_of_text(&namespace.variables[name].type_text));
    }
    // Types are written as full paths: `unit_ab::S` names its unit by itself.
    let named_units: Vec<String> =
        names.iter().filter(|name| namespace.unit(name).is_some()).cloned().collect();
    let mut scope = scope(namespace, &new_imports(split), names, &BTreeSet::new());
    scope.units.extend(named_units);
    scope.units.sort();
    scope.units.dedup();
    let mut source = Source::default();
    head(namespace, cell, split, &mut source);
    source.ours("extern crate alloc;\nextern crate core;\n").ours(&scope.text);
    for (range, _) in &split.imports {
        source.user(cell, range.clone()).ours("\n");
    }
    body(namespace, cell, split, slots, moved, &mut source);
    CratePlan { source, units: scope.units, api: scope.api }
}

fn body(
    namespace: &Namespace,
    cell: &str,
    split: &Split,
    slots: &LeafSlots,
    moved: &BTreeSet<String>,
    source: &mut Source,
) {
    source.ours(&format!(
        "#[unsafe(no_mangle)]\npub fn {ENTRY}() \
         -> ::core::result::Result<(), ::prust_runtime::frame::Failure> {{\n"
    ));
    if split.unparsed {
        // Nothing of ours stands between the user's text and the closing brace that rustc will
        // meet.
        source.user(cell, 0..cell.len()).ours("\n}\n");
        return;
    }
    for name in &slots.takes {
        let Variable { type_text, .. } = &namespace.variables[name];
        source.slot(name, &format!("::prust_runtime::slots::check::<{type_text}>({name:?})?;\n"));
    }
    for name in &slots.takes {
        let Variable { type_text, mutable, .. } = &namespace.variables[name];
        let mutable = if *mutable { "mut " } else { "" };
        source.slot(
            name,
            &format!(
                "let {mutable}{name} = ::prust_runtime::slots::take::<{type_text}>({name:?})?;\n"
            ),
        );
    }
    source.ours(
        "let __prust_end = ::prust_runtime::cell::run(\
         || -> ::core::result::Result<(), ::prust_runtime::cell::CellError> {\n",
    );
    for range in &split.statements {
        source.user_edited(cell, range.clone(), &split.edits).ours("\n");
    }
    if let Some(range) = &split.value {
        source.ours("match &(\n").user_edited(cell, range.clone(), &split.edits).ours(SHOW);
    }
    for (number, (name, _)) in slots.puts.iter().enumerate() {
        if !moved.contains(name) {
            source.slot(
                name,
                &format!("::prust_runtime::slots::put::<{number}, _>({name:?}, {name});\n"),
            );
        }
    }
    source.ours("::core::result::Result::Ok(())\n});\n");
    for name in slots.takes.iter().filter(|name| !moved.contains(*name)) {
        source.slot(name, &format!("::prust_runtime::slots::put_back({name:?}, {name});\n"));
    }
    source.ours("__prust_end\n}\n");
}

/// Shows the final expression by the ladder of `prust_runtime::show`.
const SHOW: &str = "\n) { __prust_value => {\n\
    use ::prust_runtime::show::{NoEvcxr as _, ShowDebug as _, ShowDisplay as _};\n\
    use ::prust_runtime::show::ShowNothing as _;\n\
    let __prust_shown = __prust_value.evcxr_display();\n\
    if ::prust_runtime::show::fell_through(&__prust_shown) {\n\
    (&&&::prust_runtime::show::Shown(__prust_value)).prust_show();\n} } }\n";

/// What the leaf changes when it succeeds, with types from the compiler's MIR. The second part
/// names the variables whose types cannot be written, with the reason.
pub fn delta(
    label: &str,
    split: &Split,
    slots: &LeafSlots,
    moved: &BTreeSet<String>,
    types: &BTreeMap<usize, String>,
    cell: &str,
) -> (Delta, Vec<(String, &'static str)>) {
    let mut delta = Delta {
        cell: label.to_owned(),
        imports: new_imports(split),
        attributes: split.attributes.iter().map(|range| cell[range.clone()].to_owned()).collect(),
        moved: slots.takes.iter().filter(|name| moved.contains(*name)).cloned().collect(),
        ..Delta::default()
    };
    let mut unkept = Vec::new();
    for (number, (name, mutable)) in slots.puts.iter().enumerate() {
        let Some(type_text) = types.get(&number).filter(|_| !moved.contains(name)) else {
            continue;
        };
        match mir::unwritable(type_text) {
            Some(why) => {
                delta.unkept.push(name.clone());
                unkept.push((name.clone(), why));
            }
            None => {
                let type_text = mir::writable(type_text);
                let (mutable, cell) = (*mutable, label.to_owned());
                delta.put.push((name.clone(), Variable { type_text, mutable, cell }));
            }
        }
    }
    (delta, unkept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_takes_what_it_mentions_and_puts_what_it_declares() {
        let mut namespace = Namespace::default();
        let known = |type_text: &str| Variable {
            type_text: type_text.into(),
            mutable: true,
            cell: "In[1]".into(),
        };
        namespace.variables.insert("x".into(), known("i32"));
        namespace.variables.insert("y".into(), known("u8"));
        let cell = "let z = x + 1;\nz";
        let split = Split::read(cell);
        let slots = LeafSlots::of(&namespace, cell, &split);
        assert_eq!(slots.takes, ["x"]);
        let plan = leaf(&namespace, cell, &split, &slots, &BTreeSet::new());
        let text = &plan.source.text;
        assert!(
            text.contains("let mut x = ::prust_runtime::slots::take::<i32>(\"x\")?;"),
            "{text}"
        );
        assert!(text.contains("put::<0, _>(\"z\", z)"), "{text}");
        assert!(!plan.api);
    }

    #[test]
    fn a_unit_imports_only_what_it_mentions() {
        let first = "struct A;";
        let split = Split::read(first);
        let mut namespace = Namespace::default();
        let plan = unit(&namespace, first, &split).expect("it has an item");
        let record = unit_record(&namespace, first, "In[1]", &split, &plan);
        let name = record.name.clone();
        namespace.apply(&Delta { units: vec![record], ..Delta::default() });
        let second = unit(&namespace, "fn f(_: A) {}", &Split::read("fn f(_: A) {}"));
        assert_eq!(second.expect("it has an item").units, [name]);
        let third = unit(&namespace, "fn g() {}", &Split::read("fn g() {}"));
        assert!(third.expect("it has an item").units.is_empty());
    }
}
