//! The crate around a cell's statements: run once, by its one exported symbol.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};

use super::runtime::RUNTIME;
use super::shape::{Guess, Shape, VALUE};
use super::{CratePlan, QUIET, head, libraries, new_imports, scope};
use crate::cell::Diagnostic;
use crate::cell::facade;
use crate::cell::map::{Source, line_column};
use crate::cell::mentions::mentions_of_text;
use crate::cell::mir;
use crate::cell::namespace::{Delta, Namespace, Variable};
use crate::cell::split::Split;

/// The symbol that a leaf exports.
pub const ENTRY: &str = "prust_cell";

/// What a leaf does with variables, beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSlots {
    /// Variables of earlier cells that the text mentions.
    pub takes: Vec<String>,
    /// Variables the cell declares, in the order of their `put` numbers.
    pub puts: Vec<(String, bool)>,
}

impl LeafSlots {
    /// All that may be taken and put; a [`Shape`] narrows it when rustc says a name is moved.
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

impl LeafSlots {
    /// Where the type of a new variable could be written: behind its name, where that is the whole
    /// pattern.
    pub fn type_at(&self, number: usize, cell: &str, split: &Split) -> Option<usize> {
        let (name, _) = self.puts.get(number)?;
        let at = declared_at(cell, split, name)?;
        let before = cell[..at.start].trim_end();
        let before = before.strip_suffix("mut").unwrap_or(before).trim_end();
        let is_whole = before.ends_with("let") && cell[at.end..].trim_start().starts_with('=');
        is_whole.then_some(at.end)
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// The names that the statements use.
pub(super) fn leaf_mentions(cell: &str, split: &Split) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for range in split.statements.iter().chain(&split.value) {
        names.extend(mentions_of_text(&cell[range.clone()]));
    }
    names
}

/// The units that statements with these names use.
pub(super) fn units(namespace: &Namespace, names: &BTreeSet<String>, split: &Split) -> Vec<String> {
    scope(namespace, &new_imports(split), names.clone()).units
}

/// The leaf for the cell's statements, in the shape that rustc has asked for so far.
pub fn leaf(
    namespace: &Namespace,
    cell: &str,
    split: &Split,
    slots: &LeafSlots,
    shape: &Shape,
) -> CratePlan {
    let mut names = leaf_mentions(cell, split);
    if shape.runtime.is_some() {
        names.insert("tokio".into());
    }
    // Called on the value, should a trait of the user's give it.
    names.extend(split.value.is_some().then(|| "evcxr_display".to_owned()));
    for name in &slots.takes {
        names.extend(mentions_of_text(&namespace.variables[name].type_text));
    }
    // Types are written as full paths: `unit_ab::S` names its unit by itself.
    let named_units: Vec<String> =
        names.iter().filter(|name| namespace.items.unit(name).is_some()).cloned().collect();
    let mut scope = scope(namespace, &new_imports(split), names);
    scope.units.extend(named_units);
    scope.units.sort();
    scope.units.dedup();
    let mut inner = shape.named().clone();
    if let Some(set) = &namespace.set {
        let taken = slots.takes.iter().map(|name| namespace.variables[name].type_text.as_str());
        let spelled = taken.map(str::to_owned).chain(shape.spelled());
        spelled.for_each(|text| inner.extend(facade::roots(&text, set).into_iter().cloned()));
        if !inner.is_empty() && !scope.set {
            scope.text.push_str(&libraries(set));
            scope.set = true;
        }
    }
    shape.named().iter().for_each(|name| scope.text.push_str(&format!("use ::{name} as _;\n")));
    let mut source = Source::default();
    head(namespace, cell, split, &mut source);
    source.ours(&roots(namespace)).ours(&scope.text);
    for (range, _) in &split.imports {
        source.user(cell, range.clone()).ours("\n");
    }
    source.ours(&format!(
        "#[unsafe(no_mangle)]\npub fn {ENTRY}() \
         -> ::core::result::Result<(), ::prust_runtime::frame::Failure> {{\n"
    ));
    if split.unparsed {
        // Nothing of ours stands between the user's text and the closing brace that rustc will
        // meet.
        source.user(cell, 0..cell.len()).ours("\n}\n");
    } else {
        body(namespace, cell, split, slots, shape, &mut source);
    }
    CratePlan { source, units: scope.units, api: scope.api, set: scope.set, inner }
}

/// The crates that types of the standard library are written by, beside `std`; a module of the
/// user's comes before a crate of its name.
pub(super) fn roots(namespace: &Namespace) -> String {
    let users = namespace.items.names();
    let roots = ["alloc", "core"].into_iter().filter(|name| !users.contains(name));
    roots.map(|name| format!("extern crate {name};\n")).collect()
}

/// A crate that only names types, to see whether it may: each line belongs to its variable's `put`.
pub fn naming(namespace: &Namespace, slots: &LeafSlots, types: &[(usize, &str)]) -> CratePlan {
    let names = types.iter().flat_map(|(_, text)| mentions_of_text(text)).collect::<BTreeSet<_>>();
    let named_units = names.iter().filter(|name| namespace.items.unit(name).is_some()).cloned();
    let named_units: Vec<String> = named_units.collect();
    let scope = scope(namespace, &[], names);
    let mut source = Source::default();
    source.ours(QUIET).ours(&roots(namespace)).ours(&scope.text);
    for (number, type_text) in types {
        let Some((name, _)) = slots.puts.get(*number) else { continue };
        let line = format!("type Named{number} = {};\n", mir::writable(type_text));
        source.put(name, *number, &line);
    }
    let units: BTreeSet<String> = scope.units.into_iter().chain(named_units).collect();
    let units = units.into_iter().collect();
    CratePlan { source, units, api: scope.api, set: scope.set, inner: BTreeSet::new() }
}

fn body(
    namespace: &Namespace,
    cell: &str,
    split: &Split,
    slots: &LeafSlots,
    shape: &Shape,
    source: &mut Source,
) {
    if let Some(runtime) = shape.runtime {
        source.slot(RUNTIME, &runtime.line());
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
    source.ours(BEGIN).ours(if shape.asynchronous { BEGIN_ASYNC } else { "" });
    let edits = shape.edits(split);
    let (open, close, show) = match &split.around {
        Some(around) => (around.open.as_str(), around.close.as_str(), BLACK_BOX),
        None if shape.silent => ("", "", ("", ";\n")),
        None => ("", "", ("match &(\n", "\n) { __prust_value => {\n")),
    };
    source.ours(open);
    for range in &split.statements {
        source.user_edited(cell, range.clone(), &edits).ours("\n");
    }
    source.ours(if split.unended { ";\n" } else { "" });
    if let Some(range) = &split.value {
        source.ours(show.0).user_edited(cell, range.clone(), &edits).ours(show.1);
        if split.around.is_none() && !shape.silent {
            source.ours(&shown(&shape.value));
        }
    }
    source.ours(close);
    for (number, (name, _)) in slots.puts.iter().enumerate() {
        if let Some(line) = shape.put(number, name) {
            source.put(name, number, &line);
        }
    }
    let put_back = |name: &str| format!("::prust_runtime::slots::put_back({name:?}, {name});\n");
    let back = slots.takes.iter().filter(|name| !shape.is_moved(name));
    let (refilled, whole): (Vec<&String>, Vec<&String>) =
        back.partition(|name| shape.is_refilled(name));
    for name in refilled {
        source.slot(name, &put_back(name));
    }
    source.ours(if shape.asynchronous { END_ASYNC } else { END });
    for name in whole {
        source.slot(name, &put_back(name));
    }
    source.ours("__prust_end\n}\n");
}

/// Around the statements. A cell that awaits runs as one future on the worker's main thread.
const BEGIN: &str = "let __prust_end = ::prust_runtime::cell::run(\
    || -> ::core::result::Result<(), ::prust_runtime::cell::CellError> {\n";
const BEGIN_ASYNC: &str = "::prust_runtime::future::run(::core::pin::pin!(async {\n";
const END: &str = "::core::result::Result::Ok(())\n});\n";
const END_ASYNC: &str =
    "::core::result::Result::Ok::<(), ::prust_runtime::cell::CellError>(())\n}))\n});\n";

/// Shows the final expression, or asks for its type.
fn shown(value: &Guess) -> String {
    match value {
        Guess::NotNeeded | Guess::Unknown => SHOW.to_owned(),
        Guess::Known(type_text) => {
            format!("let __prust_value: &{type_text} = __prust_value;\n{SHOW}")
        }
        // It is compiled, and not run.
        Guess::Asked => format!(
            "::prust_runtime::slots::put::<{VALUE}, _>\
             (\"\", unsafe {{ ::core::ptr::read(__prust_value) }});\n}} }}\n"
        ),
    }
}

/// By the ladder of `prust_runtime::show`.
const SHOW: &str = "use ::prust_runtime::show::{NoEvcxr as _, ShowDebug as _, ShowDisplay as _};\n\
    use ::prust_runtime::show::ShowNothing as _;\n\
    let __prust_shown = __prust_value.evcxr_display();\n\
    if ::prust_runtime::show::fell_through(&__prust_shown) {\n\
    (&&&::prust_runtime::show::Shown(__prust_value))\
    .prust_show(::prust_runtime::show::RESULT);\n} } }\n";

/// Keeps the value of timed code from being optimised away.
const BLACK_BOX: (&str, &str) = ("::core::mem::drop(::core::hint::black_box(\n", "\n));\n");

/// What the leaf changes when it succeeds, with types from the compiler's MIR. The second part
/// names the variables whose types cannot be written.
pub fn delta(
    label: &str,
    split: &Split,
    slots: &LeafSlots,
    shape: &Shape,
    types: &BTreeMap<usize, String>,
    cell: &str,
) -> (Delta, Vec<Unkept>) {
    let names = slots.takes.iter().chain(slots.puts.iter().map(|(name, _)| name));
    let moved: BTreeSet<&String> = names.filter(|name| shape.is_moved(name)).collect();
    let mut delta = Delta {
        cell: label.to_owned(),
        imports: new_imports(split),
        attributes: split.attributes.iter().map(|range| cell[range.clone()].to_owned()).collect(),
        parted: moved
            .iter()
            .filter(|name| shape.is_parted(name))
            .map(|name| (*name).clone())
            .collect(),
        moved: moved.into_iter().cloned().collect(),
        ..Delta::default()
    };
    let mut unkept: Vec<Unkept> = slots
        .takes
        .iter()
        .filter(|name| shape.is_half(name) && slots.puts.iter().all(|(put, _)| put != *name))
        .map(|name| Unkept { name: name.clone(), mutable: true, why: HALF, by_hand: None })
        .collect();
    for (number, (name, mutable)) in slots.puts.iter().enumerate() {
        if shape.is_unset(number) {
            delta.moved.retain(|moved| moved != name);
            delta.unkept.push(name.clone());
            let (name, mutable) = (name.clone(), *mutable);
            unkept.push(Unkept { name, mutable, why: NO_VALUE, by_hand: None });
        }
        let Some(type_text) = types.get(&number).filter(|_| shape.put(number, name).is_some())
        else {
            continue;
        };
        match shape.unkept(number, type_text) {
            Some(why) => {
                delta.unkept.push(name.clone());
                let by_hand = shape.by_hand(number);
                unkept.push(Unkept { name: name.clone(), mutable: *mutable, why, by_hand });
            }
            None => {
                let spelled = shape.spelling(number, type_text);
                let type_text = spelled.unwrap_or_else(|| mir::writable(type_text));
                let (mutable, cell) = (*mutable, label.to_owned());
                delta.put.push((name.clone(), Variable { type_text, mutable, cell }));
            }
        }
    }
    (delta, unkept)
}

/// Why a variable is not kept that was declared and not given a value on every way to the end.
pub const NO_VALUE: &str = "without a value at the cell's end";

/// Why one is not kept that was moved away and given another value on some ways only.
pub const HALF: &str = "moved away, and without another value on some way to the cell's end";

/// A variable that ends with its cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unkept {
    pub name: String,
    pub mutable: bool,
    /// What its type is, in words.
    pub why: &'static str,
    /// The type to write by hand.
    pub by_hand: Option<String>,
}

/// Where the cell declares a variable: the last time, at the top level.
pub fn declared_at(cell: &str, split: &Split, name: &str) -> Option<Range<usize>> {
    split.statements.iter().rev().find_map(|range| {
        let tokens: TokenStream = cell[range.clone()].parse().ok()?;
        let mut tokens = tokens.into_iter();
        tokens.next().filter(|word| word.to_string() == "let")?;
        let pattern = tokens.take_while(|token| token.to_string() != "=").collect();
        let at = find_name(pattern, name)?;
        Some(range.start + at.start..range.start + at.end)
    })
}

/// Whether a warning is about nothing but a variable of the cell's top level, which a later cell
/// may use or change, or about text of ours.
pub fn is_premature(
    warning: &Diagnostic,
    cell: &str,
    split: &Split,
    slots: &LeafSlots,
    shape: &Shape,
) -> bool {
    let Some((_, line, column)) = warning.place else { return true };
    // What the variable had before: the closure that captures it is ours.
    let of = |words: &str| warning.message.strip_prefix(words)?.split('`').next();
    let is_taken = |name: &str| slots.takes.iter().any(|taken| taken == name);
    let is_told = of("value assigned to `").is_some_and(|name| shape.is_half(name));
    if is_told || of("value captured by `").is_some_and(is_taken) {
        return true;
    }
    match warning.code.as_deref() {
        Some("unused_variables" | "unused_mut" | "unused_assignments") => {
            slots.puts.iter().any(|(name, _)| {
                let Some(at) = declared_at(cell, split, name) else { return false };
                let before = cell[..at.start].trim_end();
                let mutable = before.len() - "mut".len().min(before.len());
                [at.start, mutable].iter().any(|at| line_column(cell, *at) == (line, column))
            })
        }
        // What follows the user's last words is ours: nothing of theirs is underlined then.
        Some("unreachable_code") => !warning.plain.contains('^'),
        _ => false,
    }
}

fn find_name(tokens: TokenStream, name: &str) -> Option<Range<usize>> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == name => Some(ident.span().byte_range()),
        TokenTree::Group(group) => find_name(group.stream(), name),
        _ => None,
    })
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
        let plan = leaf(&namespace, cell, &split, &slots, &Shape::default());
        let text = &plan.source.text;
        assert!(
            text.contains("let mut x = ::prust_runtime::slots::take::<i32>(\"x\")?;"),
            "{text}"
        );
        assert!(text.contains("put::<0, _>(\"z\", z)"), "{text}");
        assert!(!plan.api);
    }
}
