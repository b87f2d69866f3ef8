//! A cell's statements to a library: compiled, and again in another shape where rustc's errors or
//! the types of its variables ask for it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::cell::{Cell, Compiler, Failed};
use super::imports;
use super::rustc::{self, CrateType};
use super::store;
use super::verdict::{inside_function, unkept_warning};
use crate::cell::brackets;
use crate::cell::diagnostic::{self, Book, Diagnostic, Severity};
use crate::cell::jumps;
use crate::cell::mir;
use crate::cell::namespace::unit_paths;
use crate::cell::plan::leaf::{self, LeafSlots};
use crate::cell::plan::shape::Shape;
use crate::cell::plan::{self, CratePlan};
use crate::cell::rustc_json;
use crate::cell::{Delta, Namespace, Split, Variable};

/// A cell whose shape changes stops being compiled again after this many rounds: moved variables
/// and forms of values come to light a few at a time.
const ROUNDS_MAX: usize = 12;

/// A leaf's library, the libraries of the units it needs, what it changes, and warnings.
pub(super) type Leaf = (PathBuf, Vec<PathBuf>, Delta, Vec<Diagnostic>);

impl Compiler {
    /// Compiles the leaf until its shape is right.
    pub(super) async fn leaf(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        split: &Split,
    ) -> Result<Leaf, Failed> {
        self.refuse_brackets(namespace, cell, split).await?;
        refuse_jumps(cell, split)?;
        let slots = slots(namespace, cell, split)?;
        let set = self.set_of(namespace.set.as_ref())?;
        let opt_level = self.leaf_opt_level(split);
        let mut shape = Shape::of(namespace, cell.text, split);
        let mut scope = namespace.clone();
        let mut imports_lost: BTreeSet<String> = BTreeSet::new();
        for round in 0.. {
            let namespace = &scope;
            let plan = plan::leaf::leaf(namespace, cell.text, split, &slots, &shape);
            let name = leaf_name(namespace, &plan, opt_level);
            self.remember_leaf(&name, cell, &plan);
            let kind = CrateType::Cdylib;
            let call = self.call(&name, &name, kind, &plan, set.as_deref(), namespace, opt_level);
            let (ended, types) = self.build(&name, &call, &plan).await?;
            let messages = rustc_json::read(&ended.stderr);
            let file = call.source.display().to_string();
            let book =
                Book { file: &file, label: cell.label, text: cell.text, map: &plan.source.map };
            let text = &plan.source.text;
            let lost = imports::lost(namespace, &messages);
            if !lost.is_empty() {
                scope.lose(&lost);
                imports_lost.extend(lost);
                continue;
            }
            let again = round < ROUNDS_MAX
                && if ended.success {
                    shape.keep(&types, text, |number| slots.type_at(number, cell.text, split))
                } else {
                    shape.learn(&messages, book)
                };
            if again {
                continue;
            }
            if ended.success && round < ROUNDS_MAX {
                let refused = self.unnameable(namespace, cell, &slots, &types, &shape).await?;
                if shape.hide(&refused, &types, text) {
                    continue;
                }
            }
            let mut warnings = self.verdict(
                namespace,
                cell,
                &call,
                &plan,
                &messages,
                ended.success,
                split.unparsed,
            )?;
            warnings.retain(|each| !leaf::is_premature(each, cell.text, split, &slots, &shape));
            let (mut delta, unkept) =
                leaf::delta(cell.label, split, &slots, &shape, &types.puts, cell.text);
            delta.imports_lost = imports_lost;
            warnings.extend(unkept.into_iter().map(|unkept| {
                let at = leaf::declared_at(cell.text, split, &unkept.name);
                let number = slots.puts.iter().rposition(|(name, _)| *name == unkept.name);
                let type_text = number.and_then(|number| types.puts.get(&number));
                let inside = type_text.and_then(|text| inside_function(text, &namespace.items));
                unkept_warning(&unkept, inside, at.map(|range| (book, range)))
            }));
            let needs = namespace.items.libraries(&plan.units);
            let needs = needs.into_iter().map(|file| self.library_file(file)).collect();
            return Ok((call.output, needs, delta, warnings));
        }
        unreachable!("the last round returns")
    }

    /// rustc is to match the user's brackets with each other, not with ours.
    async fn refuse_brackets(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        split: &Split,
    ) -> Result<(), Failed> {
        let alone = split.unparsed.then(|| brackets::alone(cell.text)).flatten();
        let Some(source) = alone else { return Ok(()) };
        let plan = CratePlan { source, ..CratePlan::default() };
        let opt_level = self.leaf_opt_level(split);
        let name = leaf_name(namespace, &plan, opt_level);
        let kind = CrateType::Cdylib;
        let call = self.call(&name, &name, kind, &plan, None, namespace, opt_level);
        let (ended, _) = self.build(&name, &call, &plan).await?;
        let Some(told) = brackets::told(rustc_json::read(&ended.stderr)) else { return Ok(()) };
        self.verdict(namespace, cell, &call, &plan, &told, ended.success, true).map(|_| ())
    }
}

/// What the cell takes and puts.
fn slots(namespace: &Namespace, cell: Cell<'_>, split: &Split) -> Result<LeafSlots, Failed> {
    let mut slots = LeafSlots::of(namespace, cell.text, split);
    // Another value may be given to its name.
    slots.takes.retain(|name| {
        let is_anew = split.declares.iter().any(|(declared, _)| declared == name);
        !is_anew || of_left_out(namespace, &namespace.variables[name]).is_none()
    });
    refuse_left_out(namespace, cell, &slots)?;
    Ok(slots)
}

/// A variable's type may be left out since something that it uses was changed: nothing can be done
/// with its value until it compiles again.
fn refuse_left_out(namespace: &Namespace, cell: Cell<'_>, slots: &LeafSlots) -> Result<(), Failed> {
    let map = crate::cell::Map::default();
    let book = Book { file: "", label: cell.label, text: cell.text, map: &map };
    let left_out = slots.takes.iter().filter_map(|name| {
        let variable = &namespace.variables[name];
        let of = of_left_out(namespace, variable)?;
        let message = format!("`{name}` ({}) is of `{of}`, which is left out", variable.cell);
        let help = format!("`{of}` does not compile any more: change it and run its cell again");
        let at = cell.text.find(name.as_str()).map(|at| (book, at..at + name.len()));
        Some(diagnostic::own(Severity::Error, "left_out", message, &help, at))
    });
    let left_out: Vec<Diagnostic> = left_out.collect();
    if left_out.is_empty() { Ok(()) } else { Err(Failed::Errors(left_out)) }
}

/// The type of a variable, or one that it is made of, that is left out.
fn of_left_out(namespace: &Namespace, variable: &Variable) -> Option<String> {
    let paths = unit_paths(&variable.type_text);
    let mut paths = paths.into_iter();
    let found = paths.find(|(unit, of)| namespace.items.is_left_out(unit, of));
    found.map(|(_, of)| of.to_owned())
}

/// `return` would leave our function around the cell, and its variables unkept.
fn refuse_jumps(cell: Cell<'_>, split: &Split) -> Result<(), Failed> {
    let map = crate::cell::Map::default();
    let book = Book { file: "", label: cell.label, text: cell.text, map: &map };
    let told = jumps::astray(cell.text, split).into_iter().map(|jump| {
        let at = Some((book, jump.at));
        diagnostic::own(Severity::Error, jump.code, jump.message.to_owned(), jump.help, at)
    });
    let told: Vec<Diagnostic> = told.collect();
    if told.is_empty() { Ok(()) } else { Err(Failed::Errors(told)) }
}

pub(super) fn leaf_name(namespace: &Namespace, plan: &CratePlan, opt_level: u8) -> String {
    let set = namespace.set.as_ref().filter(|_| plan.set || plan.api);
    let set = set.map_or("", |set| set.key.as_str());
    let opt_level = opt_level.to_string();
    // What is remembered of a leaf is what these two read and ask for.
    let parts = [plan.source.text.as_str(), set, &opt_level, rustc::SELF, mir::SELF].into_iter();
    let units = namespace.items.with_needs(&plan.units);
    let files: Vec<&str> = units.iter().map(|unit| unit.file.as_str()).collect();
    format!("leaf_{}", store::hash(parts.chain(files)))
}
