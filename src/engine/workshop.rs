//! How an engine gets its worker, and compiles cells that a client sent as plain text. The only
//! file of this room that speaks to the compiler.
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::event::{Fault, Prepared, Wanted};
use super::flags::Tools;
use crate::cell::Diagnostic;
use crate::cell::namespace::Namespace;
use crate::cell::plan::leaf::ENTRY;
use crate::cell::plan::trampoline::Way;
use crate::compile::{
    Cell, Compiler, Failed, Found, NoTrampoline, Settings, Stranded, TOOLCHAIN, Trampoline,
};
use crate::worker::{self, Outcome, WorkerEvent};

#[derive(Clone)]
pub(super) struct Workshop {
    compiler: Compiler,
    cwd: PathBuf,
}

/// What an engine prints ahead of whoever shows it: many engines have one reader.
const AHEAD_BYTES_MAX: usize = 1 << 20;

impl Workshop {
    pub(super) async fn open(tools: &Tools) -> Result<Self, String> {
        let Tools { cache, rustc, cargo, toolchain } = tools.clone();
        let cwd = std::env::current_dir()
            .map_err(|error| format!("find the working directory: {error}"))?;
        let settings = Settings { cache, rustc, cargo, toolchain, cwd: cwd.clone() };
        let compiler = Compiler::open(settings)
            .await
            .map_err(|error| format!("get the Rust toolchain ready: {error}"))?;
        Ok(Self { compiler, cwd })
    }

    pub(super) fn worker_config(&self) -> worker::Config {
        worker::Config {
            exe: self.compiler.worker().to_owned(),
            cwd: self.cwd.clone(),
            // Not what a cell's own programs are to go by.
            env: vec![(TOOLCHAIN.to_owned(), String::new())],
            snapshot_bytes_max: worker::snapshot_bytes_max(),
            ahead_bytes_max: AHEAD_BYTES_MAX,
        }
    }

    /// Compiles one cell; the namespace is what the worker knows now.
    pub(super) async fn compile(
        &self,
        namespace: &Namespace,
        code: String,
        label: String,
    ) -> Result<Prepared, Fault> {
        let cell = Cell { text: &code, label: &label, key: "" };
        match self.compiler.cell(namespace, cell).await {
            Ok(compiled) => Ok(Prepared {
                library: compiled.library,
                entry: ENTRY.to_owned(),
                delta: Some(Box::new(compiled.delta)),
                warnings: compiled.warnings.iter().map(|warning| drawn(&warning.plain)).collect(),
            }),
            Err(Failed::Errors(diagnostics)) => Err(rejected(&diagnostics)),
            Err(Failed::World(error)) => Err(Fault::new("CompileError", error.to_string())),
        }
    }

    /// Compiles the functions that are wanted, in their order.
    pub(super) async fn trampolines(
        &self,
        namespace: &Namespace,
        wanted: &[Wanted],
    ) -> Result<Vec<Trampoline>, Fault> {
        let mut found: Vec<Trampoline> = Vec::with_capacity(wanted.len());
        for (idx, each) in wanted.iter().enumerate() {
            let Wanted { way, name, type_text } = each;
            let is_same = |other: &Wanted| other.way == *way && other.type_text == *type_text;
            let trampoline = match wanted[..idx].iter().position(is_same) {
                Some(earlier) => found[earlier].clone(),
                None => match self.compiler.trampoline(namespace, *way, type_text).await {
                    Ok(trampoline) => trampoline,
                    Err(NoTrampoline::Refused(why)) => {
                        return Err(refused(*way, name, type_text, &why));
                    }
                    Err(NoTrampoline::World(error)) => {
                        return Err(Fault::new("CompileError", error.to_string()));
                    }
                },
            };
            found.push(trampoline);
        }
        Ok(found)
    }

    /// Looks for a library that a client has compiled.
    pub(super) fn find(&self, library: &Path, absent: &HashSet<String>) -> Result<Found, Fault> {
        self.compiler.find(library, absent).map_err(|why| stranded(&why))
    }

    /// Keeps libraries that a client has brought.
    pub(super) fn keep(&self, files: &[(String, Vec<u8>)]) -> Result<(), Fault> {
        let kept = files.iter().try_for_each(|(name, bytes)| self.compiler.take_in(name, bytes));
        kept.map_err(|why| stranded(&why))
    }

    /// Where a failure is in the user's own text, if this engine compiled it. (The client that
    /// compiled it elsewhere finds that out itself.)
    pub(super) fn place(&self, mut event: WorkerEvent) -> WorkerEvent {
        if let WorkerEvent::Done {
            outcome: Outcome::Error { failure, .. } | Outcome::Crashed { why: failure, .. },
            ..
        } = &mut event
            && let Some(place) = self.compiler.place(&failure.file, failure.line, failure.column)
        {
            failure.file = place.label;
            failure.line = u32::try_from(place.line).unwrap_or(u32::MAX);
            failure.column = u32::try_from(place.column).unwrap_or(u32::MAX);
        }
        event
    }
}

fn stranded(why: &Stranded) -> Fault {
    Fault::new("LibraryMissing", why.to_string())
}

/// A variable whose type serde does not take.
fn refused(way: Way, name: &str, type_text: &str, why: &str) -> Fault {
    let short = prust_runtime::cell::short_type_name;
    let (ty, why) = (short(type_text), short(why));
    let way = match way {
        Way::Push => "pushed",
        Way::Pull => "pulled",
    };
    let text = format!(
        "`{name}`, a `{ty}`, cannot be {way}: {why}. Derive serde's Serialize for the \
         type, or make a variable of what it holds and take that"
    );
    Fault::new("NotSerializable", text)
}

/// The compiler's errors as one error: named after the first, all drawn.
fn rejected(diagnostics: &[Diagnostic]) -> Fault {
    let first = diagnostics.iter().find(|diagnostic| diagnostic.code.is_some());
    let code = first.and_then(|diagnostic| diagnostic.code.as_deref());
    let evalue = diagnostics.first().map(|first| first.message.clone()).unwrap_or_default();
    Fault {
        ename: code
            .map_or_else(|| "CompileError".to_owned(), |code| format!("CompileError({code})")),
        evalue,
        traceback: diagnostics.iter().map(|diagnostic| diagnostic.plain.clone()).collect(),
    }
}

fn drawn(plain: &str) -> String {
    format!("{}\n", plain.trim_end())
}
