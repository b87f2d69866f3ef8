//! One function for one type, and where it stands in its library: what an engine asks its worker to
//! call when no client has compiled the call. Compiled once per type and kept in the store.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol};

use super::CompileError;
use super::cell::{Compiler, OPT_LEVEL_HOT};
use super::leaf::leaf_name;
use super::rustc::CrateType;
use crate::cell::plan::leaf::ENTRY;
use crate::cell::plan::trampoline::{Way, trampoline};
use crate::cell::{Namespace, rustc_json};

/// A function by the library that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trampoline {
    pub library: PathBuf,
    pub offset: u64,
}

/// Why there is no function for a type.
#[derive(Debug)]
pub enum NoTrampoline {
    /// rustc's first words on the type.
    Refused(String),
    World(CompileError),
}

impl From<CompileError> for NoTrampoline {
    fn from(error: CompileError) -> Self {
        Self::World(error)
    }
}

impl Compiler {
    /// The function that goes this way with a type, written as this namespace writes it.
    ///
    /// # Errors
    /// The type cannot be sent that way, or nothing can be compiled here.
    pub async fn trampoline(
        &self,
        namespace: &Namespace,
        way: Way,
        type_text: &str,
    ) -> Result<Trampoline, NoTrampoline> {
        let plan = trampoline(namespace, way, type_text);
        let set = self.set_of(namespace.set.as_ref())?;
        let level = OPT_LEVEL_HOT;
        let name = leaf_name(namespace, &plan, level);
        let kind = CrateType::Cdylib;
        let call = self.call(&name, &name, kind, &plan, set.as_deref(), namespace, level);
        let (ended, _) = self.build(&name, &call, &plan).await?;
        if !ended.success {
            let messages = rustc_json::read(&ended.stderr).into_iter();
            let mut errors = messages.filter(|message| message.level == "error");
            let first = errors.next().map_or_else(|| ended.stderr.clone(), |error| error.message);
            return Err(NoTrampoline::Refused(first));
        }
        match offset_of(&call.output, ENTRY) {
            Ok(offset) => Ok(Trampoline { library: call.output, offset }),
            Err(source) => Err(CompileError::Cache { path: call.output, source }.into()),
        }
    }
}

/// How far a symbol is from where its library is loaded.
fn offset_of(library: &Path, name: &str) -> std::io::Result<u64> {
    let bytes = std::fs::read(library)?;
    let file = object::File::parse(&*bytes).map_err(std::io::Error::other)?;
    let mut symbols = file.dynamic_symbols();
    let symbol = symbols.find(|symbol| symbol.is_definition() && symbol.name() == Ok(name));
    let missing = || std::io::Error::other(format!("the library has no symbol `{name}`"));
    symbol.map(|symbol| symbol.address()).ok_or_else(missing)
}
