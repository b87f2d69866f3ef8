//! A cell's items to libraries: the crates that they touch are built, each after those it needs,
//! two or more at a time. Earlier items that the new ones break keep what they knew, and are named.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tokio::task::JoinSet;

use super::blame::{Breaks, blame, blame_imports, give_copies_up, give_members_up};
use super::cell::{Cell, Compiler, Failed, OPT_LEVEL_UNIT};
use super::imports;
use super::rustc::{self, CrateType};
use super::told::told;
use super::verdict::{distinct, unit_books};
use crate::cell::diagnostic::{self, Book, Diagnostic, Severity};
use crate::cell::expand::Expanded;
use crate::cell::items::{Advance, ItemId, Items, NewCell, Sheet, Storage, Unit, advance};
use crate::cell::map::byte_at;
use crate::cell::mentions::mentions_of_text;
use crate::cell::namespace::digest;
use crate::cell::plan::unit::{self as plan, UnitPlan};
use crate::cell::rustc_json::{self, Message, Span};
use crate::cell::{CrateSet, Map, Namespace, Split};

/// How often an earlier item may be tried with something else. There are six ways, and that by
/// names is tried again while some calls turn out to be of others.
const TRIES_MAX: usize = 16;

/// A cell's items, compiled.
#[derive(Debug)]
pub(super) struct Units {
    pub(super) items: Items,
    pub(super) warnings: Vec<Diagnostic>,
    /// Keys of imports that lead nowhere any more.
    pub(super) imports_lost: BTreeSet<String>,
}

/// What rustc said of one unit.
pub(super) struct Verdict {
    pub(super) unit: String,
    pub(super) messages: Vec<Message>,
    pub(super) success: bool,
}

impl Compiler {
    /// Compiles a cell's items and whatever they touch.
    pub(super) async fn units(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        split: &Split,
    ) -> Result<Units, Failed> {
        let new = plan::new_cell(namespace, cell.key, cell.label, cell.text, split);
        let mut result = self.advanced(namespace, &new, &BTreeSet::new()).await;
        if let Err(Failed::Errors(errors)) = &mut result {
            for error in errors {
                of_variable(error, split);
                of_module(error, cell, split, &namespace.items);
            }
        }
        if let Ok(units) = &mut result {
            // What the cell makes anew is of the new type.
            units.warnings.retain(|warning| {
                let name = warning.message.split('`').nth(1).unwrap_or_default();
                let is_old = warning.code.as_deref() == Some("old_type");
                !is_old || split.declares.iter().all(|(declared, _)| declared != name)
            });
        }
        result
    }

    /// Makes anew the items that name one of these crates; `None` when there are none.
    pub(super) async fn renewed_items(
        &self,
        namespace: &Namespace,
        crates: &BTreeSet<String>,
    ) -> Result<Option<Units>, Failed> {
        let forced = namespace.items.naming(crates);
        if forced.is_empty() {
            return Ok(None);
        }
        self.advanced(namespace, &NewCell::default(), &forced).await.map(Some)
    }

    /// Takes new items in, and `forced` ones as if they were new.
    async fn advanced(
        &self,
        namespace: &Namespace,
        new: &NewCell,
        forced: &BTreeSet<ItemId>,
    ) -> Result<Units, Failed> {
        let held = namespace.held();
        let old = &namespace.items;
        let mut new = new.clone();
        let mut imports_lost: BTreeSet<String> = BTreeSet::new();
        let mut breaks = Breaks::new();
        let mut first: Vec<Diagnostic> = Vec::new();
        // Each round finds an earlier item that is to be tried with the next way, or is the last.
        for _ in 0..=TRIES_MAX * old.all.len() {
            let known = breaks.iter().map(|(id, (broken, _))| (*id, broken.clone())).collect();
            let next = advance(old, &new, &held, &known, forced);
            let Some(mut next) = next else {
                if give_copies_up(&mut breaks) {
                    continue;
                }
                return Err(no_place());
            };
            let verdicts = self.build_touched(namespace, &mut next).await?;
            let files = self.unit_files(&next.items);
            if verdicts.iter().all(|verdict| verdict.success) {
                let mut warnings = self.warnings(&next, &verdicts, &files);
                warnings.extend(told(old, &next, &breaks, namespace));
                return Ok(Units { items: next.items, warnings, imports_lost });
            }
            let failed = verdicts.iter().filter(|verdict| !verdict.success);
            let lost = imports::lost(namespace, failed.flat_map(|verdict| &verdict.messages));
            new.sheet.imports.retain(|import| !lost.contains(&import.key));
            let n_before = imports_lost.len();
            imports_lost.extend(lost);
            if blame_imports(old, &next, &verdicts, &mut breaks) || imports_lost.len() > n_before {
                continue;
            }
            let errors = own_errors(namespace, &next, &verdicts, &files, is_primary);
            if breaks.is_empty() && errors.is_empty() {
                first = own_errors(namespace, &next, &verdicts, &files, is_any);
            }
            let is_blamed = errors.is_empty() && blame(old, &next, &verdicts, &files, &mut breaks);
            if is_blamed || give_members_up(old, &next, &mut breaks) || give_copies_up(&mut breaks)
            {
                continue;
            }
            if !errors.is_empty() {
                // That an earlier item is left out says less than why it would have been.
                let is_of_left_out = |error: &Diagnostic| {
                    let name = error.message.split('`').nth(1).unwrap_or_default();
                    next.items.withheld(name).is_some()
                };
                let follows = !first.is_empty() && errors.iter().all(is_of_left_out);
                return Err(Failed::Errors(if follows { first } else { errors }));
            }
            let failed = verdicts.iter().filter(|verdict| !verdict.success);
            let books = unit_books(&next.items, &files);
            let messages = failed.flat_map(|verdict| &verdict.messages);
            let all = messages.map(|message| diagnostic::translate(message, &books)).collect();
            return Err(Failed::Errors(distinct(all, namespace)));
        }
        let message = "too many earlier items do not compile with these".to_owned();
        let error = diagnostic::own(Severity::Error, "items", message, "", None);
        Err(Failed::Errors(vec![error]))
    }

    /// Writes the touched units, and builds those that the store has not.
    async fn build_touched(
        &self,
        namespace: &Namespace,
        next: &mut Advance,
    ) -> Result<Vec<Verdict>, Failed> {
        let mut plans: BTreeMap<String, UnitPlan> = BTreeMap::new();
        for name in &next.touched {
            let unit = next.items.unit(name).expect("touched units are there");
            let (written, set) = self.written(namespace, &next.items, unit)?;
            let opt_level = self.unit_opt_level(&next.items, unit);
            let file = file_name(set.as_ref(), &next.items, unit, &written, opt_level);
            let storage = storage(&namespace.items, unit, &file);
            let file = match &storage {
                Some(storage) => format!("{}-{}", unit.name, digest([&*file, &*storage.file])),
                None => file,
            };
            let (parts, generated) =
                (written.parts.clone().into(), written.krate.source.text.as_str().into());
            plans.insert(name.clone(), written);
            let unit = next.items.units.iter_mut().find(|unit| unit.name == *name);
            let unit = unit.expect("touched units are there");
            (unit.file, unit.parts, unit.generated) = (file, parts, generated);
            (unit.set, unit.storage) = (set, storage);
            self.remember_unit(unit);
        }
        let scope = Namespace { items: next.items.clone(), ..namespace.clone() };
        let mut waiting: Vec<String> = next.touched.clone();
        let mut verdicts: Vec<Verdict> = Vec::new();
        let mut running = JoinSet::new();
        let at_once = std::thread::available_parallelism().map_or(2, usize::from);
        loop {
            let mut at = 0;
            while at < waiting.len() && running.len() < at_once {
                let unit = next.items.unit(&waiting[at]).expect("touched units are there");
                let is_built = |need: &String| {
                    let done = verdicts.iter().any(|verdict| verdict.unit == *need);
                    done || !next.touched.contains(need)
                };
                if !unit.needs.iter().all(is_built) {
                    at += 1;
                    continue;
                }
                let name = waiting.remove(at);
                let krate = plans[&name].krate.clone();
                let file = unit.file.clone();
                let kind = CrateType::Dylib;
                let set = self.set_of(unit.set.as_ref())?;
                let set = set.as_deref();
                let opt_level = self.unit_opt_level(&next.items, unit);
                let call = self.call(&name, &file, kind, &krate, set, &scope, opt_level);
                let compiler = self.clone();
                running.spawn(async move {
                    let built = compiler.build(&file, &call, &krate).await;
                    (name, built)
                });
            }
            let Some(ended) = running.join_next().await else { break };
            let (unit, built) = ended.expect("building neither panics nor is cancelled");
            let (ended, _) = built?;
            let messages = rustc_json::read(&ended.stderr);
            let success = ended.success;
            verdicts.push(Verdict { unit, messages, success });
            if !success {
                // What needs it cannot be built; what does not is built next time.
                waiting.clear();
            }
        }
        Ok(verdicts)
    }

    /// Below level 2, crates use each other's copies of generic code: those of statics are loaded
    /// as they were first, and nothing is to look for later copies there.
    fn unit_opt_level(&self, items: &Items, unit: &Unit) -> u8 {
        let level = self.opt_level().unwrap_or(OPT_LEVEL_UNIT);
        if items.is_static(unit) { level.max(OPT_LEVEL_UNIT) } else { level }
    }

    /// A unit's source, and the set it is to be made with. An older definition, of crates that are
    /// other ones now, goes on with those that it knew: its crate's name says what it is made of.
    fn written(
        &self,
        namespace: &Namespace,
        items: &Items,
        unit: &Unit,
    ) -> Result<(UnitPlan, Option<CrateSet>), Failed> {
        let set = &namespace.set;
        let written = plan::unit(items, unit, set.as_ref());
        let before = namespace.items.unit(&unit.name).filter(|before| before.set != *set);
        if let (Some(before), Some(set)) = (before, set) {
            let lost = self.lost(before.set.as_ref(), set)?;
            if !mentions_of_text(&written.krate.source.text).is_disjoint(&lost) {
                let old = before.set.clone();
                return Ok((plan::unit(items, unit, old.as_ref()), old));
            }
        }
        Ok((written, set.clone()))
    }

    /// Warnings about the new cell's own text.
    fn warnings(&self, next: &Advance, verdicts: &[Verdict], files: &[String]) -> Vec<Diagnostic> {
        let books = unit_books(&next.items, files);
        // A renewal has no new cell.
        let Some(Sheet { label, .. }) = next.items.sheets.get(&next.sheet).map(|sheet| &**sheet)
        else {
            return Vec::new();
        };
        let messages = verdicts.iter().flat_map(|verdict| &verdict.messages);
        let all = messages.map(|message| diagnostic::translate(message, &books));
        all.filter(|warning| warning.place.as_ref().is_some_and(|(cell, ..)| cell == label))
            .collect()
    }
}

/// Says so where an impl in a module is for a type of an earlier cell: only one beside the modules
/// goes where its type is.
fn of_module(error: &mut Diagnostic, cell: Cell<'_>, split: &Split, items: &Items) {
    let is_orphan = matches!(error.code.as_deref(), Some("E0116" | "E0117"));
    let Some((label, line, column)) = error.place.as_ref().filter(|_| is_orphan) else { return };
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let at = byte_at(cell.text, number(*line), number(*column));
    let mut modules = split.items.iter().filter(|piece| !piece.modules.is_empty());
    if label != cell.label || !modules.any(|piece| piece.range.contains(&at)) {
        return;
    }
    let header = cell.text.get(at..).and_then(|text| text.split('{').next()).unwrap_or_default();
    let is_type = |name: &String| {
        items.texts(name).any(|(piece, _)| piece.provides.iter().any(|it| it.kind.is_type()))
    };
    if let Some(name) = mentions_of_text(header).into_iter().find(is_type) {
        error.note(&format!(
            "`{name}` is of an earlier cell: write this `impl` outside of the module, or define \
             `{name}` in the module"
        ));
    }
}

/// Says so where an item names a variable of its cell.
fn of_variable(error: &mut Diagnostic, split: &Split) {
    let name = error.message.split('`').nth(1).unwrap_or_default().to_owned();
    if error.code.as_deref() == Some("E0425") && split.declares.iter().any(|(it, _)| *it == name) {
        error.note(&format!(
            "`{name}` is a variable, and items see no variables: hand it over as an argument, or \
             make it a `const` or a `static`"
        ));
    }
}

/// Not a mistake of the user's, who can get on nevertheless.
fn no_place() -> Failed {
    let message = "these items cannot be compiled together with those of earlier cells".to_owned();
    let help =
        "give a redefined type another name, or start again with %restart; nothing has changed";
    Failed::Errors(vec![diagnostic::own(Severity::Error, "items", message, help, None)])
}

/// Where the statics of a unit are that is built anew as `file`.
fn storage(old: &Items, unit: &Unit, file: &str) -> Option<Storage> {
    let before = old.unit(&unit.name).filter(|before| old.is_static(before))?;
    let first = before.storage.clone().unwrap_or_else(|| {
        let needs = old.libraries(&before.needs).into_iter().map(str::to_owned).collect();
        Storage { file: before.file.clone(), needs }
    });
    (first.file != file).then_some(first)
}

/// Another name whenever anything that goes into the library is another.
fn file_name(
    set: Option<&CrateSet>,
    items: &Items,
    unit: &Unit,
    plan: &UnitPlan,
    opt_level: u8,
) -> String {
    let needs = unit.needs.iter().filter_map(|need| items.unit(need));
    let needs: Vec<&str> = needs.map(|need| need.file.as_str()).collect();
    let uses_crates = plan.krate.set || plan.krate.api;
    let set = set.filter(|_| uses_crates).map_or("", |set| set.key.as_str());
    let opt_level = opt_level.to_string();
    let parts = [plan.krate.source.text.as_str(), set, opt_level.as_str(), rustc::SELF];
    format!("{}-{}", unit.name, digest(parts.into_iter().chain(needs)))
}

fn is_primary(span: &Span) -> bool {
    span.is_primary
}

fn is_any(_: &Span) -> bool {
    true
}

/// Errors that point into the new cell, by such of their places.
fn own_errors(
    namespace: &Namespace,
    next: &Advance,
    verdicts: &[Verdict],
    files: &[String],
    which: fn(&Span) -> bool,
) -> Vec<Diagnostic> {
    let books = unit_books(&next.items, files);
    let Some(sheet) = next.items.sheets.get(&next.sheet) else { return Vec::new() };
    let is_own = |message: &&Message| {
        let spans = message.spans.iter().filter(|span| which(span));
        let mut places = spans.filter_map(|span| diagnostic::span_place(span, &books));
        places.any(|(book, _)| book.label == sheet.label && book.text == sheet.own_text())
    };
    let failed = verdicts.iter().filter(|verdict| !verdict.success);
    let messages: Vec<&Message> = failed
        .flat_map(|verdict| &verdict.messages)
        .filter(|message| message.level == "error")
        .collect();
    if !messages.iter().any(is_own) {
        return Vec::new();
    }
    let all = messages.iter().map(|message| diagnostic::translate(message, &books));
    distinct(all.collect(), namespace)
}

/// Says which calls make items that later cells do not see.
pub(super) fn mixed(cell: Cell<'_>, made: &Expanded) -> Vec<Diagnostic> {
    let map = Map::default();
    let warn = |(range, name): &(Range<usize>, String)| {
        let book = Book { file: "", label: cell.label, text: cell.text, map: &map };
        let message = format!("the items that `{name}!` makes here stay in this cell");
        let help = "for later cells, let a macro make items only, without `use` and statements";
        let at = Some((book, range.clone()));
        diagnostic::own(Severity::Warning, "local_items", message, help, at)
    };
    made.mixed.iter().map(warn).collect()
}
