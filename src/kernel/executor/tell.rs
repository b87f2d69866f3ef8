//! Reports to the face, in the shapes frontends expect. Words and MIME bundles only.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Executor;
use crate::cell::diagnostic::Diagnostic;
use crate::cell::place::as_included;
use crate::compile::Failed;
use crate::kernel::seam::{Item, Names, Report, RunId, Variable};
use crate::wire::jupyter::{Object, Stdio};
use crate::worker::Failure;

/// Why a run failed, in Jupyter's triple.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) ename: String,
    pub(super) evalue: String,
    pub(super) traceback: Vec<String>,
}

impl Fault {
    /// A fault that is its own traceback.
    pub(super) fn new(ename: &str, evalue: impl Into<String>) -> Self {
        let evalue = evalue.into();
        let traceback = vec![format!("{}: {evalue}", red(ename))];
        Self { ename: ename.to_owned(), evalue, traceback }
    }

    /// The errors of a cell that does not compile; the first one gives the name.
    pub(super) fn of_diagnostics(errors: &[Diagnostic]) -> Self {
        let first = errors.first();
        let ename =
            first.and_then(|error| error.code.clone()).unwrap_or_else(|| "error".to_owned());
        let evalue = first.map(|error| error.message.clone()).unwrap_or_default();
        let traceback = errors.iter().map(|error| error.styled.clone()).collect();
        Self { ename, evalue, traceback }
    }

    /// Why the compiler gave up.
    pub(super) fn of_compiler(failed: Failed) -> Self {
        match failed {
            Failed::Errors(errors) => Self::of_diagnostics(&errors),
            Failed::World(error) => Self::new("ToolchainError", error.to_string()),
        }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        self.notes([note.into()])
    }

    pub(super) fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.traceback.extend(notes);
        self
    }
}

/// Where a failure came from outside of all cells.
fn foreign(failure: &Failure) -> String {
    let Failure { file, line, column, .. } = failure;
    match file.split_once("/library/") {
        Some((_, within)) => {
            format!("  at library/{within}:{line}:{column}, in Rust's own library")
        }
        None => {
            let file = as_included(file).unwrap_or(file);
            format!("  at {file}:{line}:{column}")
        }
    }
}

/// `text` in bold red, as ANSI.
pub(super) fn red(text: &str) -> String {
    format!("\u{1b}[1;31m{text}\u{1b}[0m")
}

/// A MIME bundle as frontends want it: JSON types parsed, all else text.
pub(super) fn bundle<'a>(data: impl IntoIterator<Item = (&'a str, &'a str)>) -> Object {
    data.into_iter()
        .map(|(mime, text)| {
            let json = mime.ends_with("json").then(|| serde_json::from_str(text).ok()).flatten();
            (mime.to_owned(), json.unwrap_or_else(|| Value::from(text)))
        })
        .collect()
}

impl Executor {
    pub(super) fn report(&self, report: Report) {
        // Without a face nobody is there to be told; the loop ends by its own shutdown.
        let _ = self.reports.send(report);
    }

    pub(super) fn print(&self, run: Option<RunId>, stderr: bool, text: String) {
        let stream = if stderr { Stdio::Stderr } else { Stdio::Stdout };
        self.report(Report::Output { run, stream, text });
    }

    /// A line of ours about the running cell.
    pub(super) fn remark(&self, text: &str) {
        self.print(None, true, format!("{text}\n"));
    }

    pub(super) fn show_text(&self, run: RunId, text: String) {
        let data = bundle([("text/plain", text.as_str())]);
        self.report(Report::Display { run: Some(run), id: None, data, metadata: Object::new() });
    }

    pub(super) fn show_warnings(&self, warnings: &[Diagnostic]) {
        for warning in warnings {
            self.print(None, true, format!("{}\n", warning.styled));
        }
    }

    /// A failure of user code, at the user's line.
    pub(super) fn fault_of(&self, failure: &Failure) -> Fault {
        let compiler = self.compiler.as_ref();
        let in_user_terms =
            |text: &str| compiler.map_or(text.to_owned(), |compiler| compiler.in_user_terms(text));
        let mut fault = Fault::new(&failure.ename, in_user_terms(&failure.evalue));
        let given = compiler
            .and_then(|compiler| compiler.place(&failure.file, failure.line, failure.column));
        let mut place = given.clone();
        let trail = match compiler {
            Some(compiler) => compiler.trail(&mut place, &failure.backtrace),
            None => failure.backtrace.clone(),
        };
        fault.traceback.extend(place.map(|place| {
            crate::cell::diagnostic::excerpt(&place.label, &place.text, place.line, place.column)
        }));
        if given.is_none() && !failure.file.is_empty() {
            fault.traceback.push(foreign(failure));
        }
        fault.traceback.extend(trail);
        fault
    }

    /// What completion and inspection may know from now on.
    pub(super) fn report_names(&self) {
        let variables = self.namespace.variables.iter().map(|(name, variable)| Variable {
            name: name.clone(),
            type_text: crate::cell::diagnostic::short(&variable.type_text),
            mutable: variable.mutable,
            cell: variable.cell.clone(),
        });
        let items = self.namespace.items.units.iter().flat_map(|unit| {
            unit.provides.iter().map(|provided| Item {
                name: provided.name.clone(),
                kind: provided.kind.word().to_owned(),
                signature: provided.header.clone(),
                docs: provided.docs.clone(),
                cell: unit.cell.clone(),
            })
        });
        let added = self.namespace.set.iter().flat_map(|set| set.crates.iter().cloned());
        let crates: BTreeSet<String> = ["std", "core", "alloc", "prust", "serde", "serde_json"]
            .into_iter()
            .map(str::to_owned)
            .chain(added.filter(|name| !name.starts_with("prust_")))
            .collect();
        let (variables, items) = (variables.collect(), items.collect());
        let names = Names { variables, items, crates: crates.into_iter().collect() };
        self.report(Report::Names(names.into()));
    }
}
