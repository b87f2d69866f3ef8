//! Shared libraries of crates, one upon the other. A crate is in exactly one library of a process:
//! what an earlier layer holds is taken from there, so its types and statics stay the same when
//! crates are added. Packages on the user's disk, which change, stand in layers of their own, on
//! which nothing else is built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CompileError;
use super::cargo::{Artifact, Artifacts};
use super::rustc::{Call, CrateType, Ended, Loading};
use super::store::{self, Store};
use super::toolchain::Toolchain;

/// Optimisation of a layer: as that of the crates in it.
pub(super) const OPT_LEVEL: u8 = 2;

/// A compiled crate in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Crate {
    /// cargo's id of the package.
    pub(super) package: String,
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) proc_macro: bool,
    /// From the user's disk.
    pub(super) local: bool,
}

/// In a woken worker rayon's threads are gone, and whatever is given to its pool waits for ever. So
/// the main thread, which runs the cells, joins a new pool. It can do so once in its life; in a
/// later wake it goes on in the pool it is in, alone, because a member of a pool does what nobody
/// else takes.
const MENDS: &str = r#"
mod mend {
    fn pool() {
        let pool = ::rayon_core::ThreadPoolBuilder::new().use_current_thread().build();
        ::core::mem::forget(pool);
    }
    extern "C" fn register() {
        ::prust_runtime::snapshot::after_wake(pool);
    }
    #[used]
    #[unsafe(link_section = ".init_array")]
    static REGISTER: extern "C" fn() = register;
}
"#;

impl Crate {
    /// Whether it is a pool of threads that can be mended: rayon from 1.12 on.
    fn mends(&self) -> bool {
        let version = self.package.rsplit_once('@').map_or("", |(_, version)| version);
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        self.name == "rayon_core" && !self.local && (major, minor) >= (1, 12)
    }

    /// Equal identities mean the same types and statics.
    pub(super) fn identity(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A shared library with crates in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// Its own crate's name.
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// Identities of the crates in it.
    pub(super) holds: BTreeSet<String>,
    pub(super) local: bool,
}

/// Copies what cargo built to the store: shared libraries and what compiling against them needs.
pub(super) fn keep(
    store: &Store,
    target: &Path,
    artifacts: &Artifacts,
) -> Result<Vec<Crate>, CompileError> {
    let mut kept: Vec<Crate> = Vec::new();
    for built in artifacts.crates.iter().filter(|built| !is_ours(built)) {
        let local = built.package.starts_with("path+");
        let wanted = if built.proc_macro { "so" } else { "rlib" };
        let file =
            built.files.iter().find(|file| file.extension().is_some_and(|end| end == wanted));
        // A crate for build scripts is of no use to cells.
        let Some(file) = file.filter(|file| built.proc_macro || file.starts_with(target)) else {
            continue;
        };
        let file = keep_file(store, file, local)?;
        let (package, name) = (built.package.clone(), built.name.clone());
        kept.push(Crate { package, name, file, proc_macro: built.proc_macro, local });
    }
    Ok(kept)
}

/// Files by the names that the generated project has for its dependencies.
pub(super) fn named(direct: &[(String, String)], crates: &[Crate]) -> Vec<(String, PathBuf)> {
    let file = |package: &str| crates.iter().find(|one| one.package == package);
    direct
        .iter()
        .filter_map(|(name, package)| Some((name.clone(), file(package)?.file.clone())))
        .collect()
}

fn is_ours(built: &Artifact) -> bool {
    super::manifest::is_generated(&built.name.replace('_', "-"))
}

fn keep_file(store: &Store, file: &Path, local: bool) -> Result<PathBuf, CompileError> {
    let cache = |source| CompileError::Cache { path: file.to_owned(), source };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let end = file.extension().unwrap_or_default().to_string_lossy().into_owned();
    // cargo's name says all about a package that never changes.
    let name = if local {
        let content = store::hash_of(&fs::read(file).map_err(cache)?);
        format!("{stem}-{content}.{end}")
    } else {
        format!("{stem}.{end}")
    };
    let to = store.deps().join(name);
    if !to.is_file() {
        store::copy(file, &to)
            .map_err(|source| CompileError::Cache { path: to.clone(), source })?;
    }
    Ok(to)
}

/// What a layer is made with.
pub(super) struct Maker<'a> {
    pub(super) store: &'a Store,
    pub(super) toolchain: &'a Toolchain,
    /// Name and file of the runtime.
    pub(super) runtime: &'a Path,
    pub(super) native: &'a [PathBuf],
    /// Code in other languages is part of some crates.
    pub(super) foreign: bool,
}

/// Shows what C code defines: generic and inlined functions that call it are compiled into cells.
/// rustc's own list hides all that it does not know, by `*`, weaker than any other pattern.
const EXPORTS: &str = "{ global: ?*; };\n";

impl Maker<'_> {
    /// The libraries for `crates`: those of `old` that still hold any of them, and new ones for the
    /// rest.
    pub(super) async fn layers(
        &self,
        old: &[Layer],
        crates: &[Crate],
    ) -> Result<Result<Vec<Layer>, String>, CompileError> {
        let linked = |one: &&Crate| !one.proc_macro;
        let wanted: BTreeSet<String> = crates.iter().filter(linked).map(Crate::identity).collect();
        let mut layers: Vec<Layer> = old
            .iter()
            .filter(|layer| layer.name == "prust" || !layer.holds.is_disjoint(&wanted))
            .cloned()
            .collect();
        let held: BTreeSet<String> =
            layers.iter().flat_map(|layer| layer.holds.iter().cloned()).collect();
        for local in [false, true] {
            let new: Vec<&Crate> = crates
                .iter()
                .filter(linked)
                .filter(|one| one.local == local && !held.contains(&one.identity()))
                .collect();
            if new.is_empty() {
                continue;
            }
            let beneath: Vec<Layer> =
                layers.iter().filter(|layer| local || !layer.local).cloned().collect();
            match self.layer(&beneath, &new, local).await? {
                Ok(layer) => layers.push(layer),
                Err(words) => return Ok(Err(words)),
            }
        }
        Ok(Ok(layers))
    }

    async fn layer(
        &self,
        beneath: &[Layer],
        crates: &[&Crate],
        local: bool,
    ) -> Result<Result<Layer, String>, CompileError> {
        let holds: BTreeSet<String> = crates.iter().map(|one| one.identity()).collect();
        let names = beneath.iter().map(|layer| layer.name.as_str());
        let native = self.native.iter().filter_map(|folder| folder.to_str());
        let mends = crates.iter().any(|one| one.mends()).then_some(MENDS);
        let parts = holds.iter().map(String::as_str).chain(names).chain(native).chain(mends);
        let name = format!("prust_set_{}", store::hash(parts));
        let file = self.store.lib().join(format!("lib{name}.so"));
        let layer = Layer { name: name.clone(), file: file.clone(), holds, local };
        if file.is_file() {
            return Ok(Ok(layer));
        }
        let mut source = String::new();
        let mut externs = Vec::new();
        let beneath = beneath.iter().map(|layer| &layer.file);
        for (number, file) in beneath.chain(crates.iter().map(|one| &one.file)).enumerate() {
            // Names of packages may meet; numbers do not.
            source.push_str(&format!("extern crate c{number} as _;\n"));
            externs.push((format!("c{number}"), file.clone()));
        }
        if let Some(rayon) = crates.iter().find(|one| one.mends()) {
            source.push_str(MENDS);
            externs.push(("rayon_core".to_owned(), rayon.file.clone()));
            externs.push(("prust_runtime".to_owned(), self.runtime.to_owned()));
        }
        let path = self.store.src().join(format!("{name}.rs"));
        store::write(&path, source.as_bytes())
            .map_err(|error| CompileError::Cache { path: path.clone(), source: error })?;
        let exports = self.store.src().join("exports.map");
        if self.foreign {
            store::write(&exports, EXPORTS.as_bytes())
                .map_err(|error| CompileError::Cache { path: exports.clone(), source: error })?;
        }
        let call = Call {
            crate_name: name.clone(),
            crate_type: CrateType::Dylib,
            source: path,
            output: file,
            mir: None,
            externs,
            search: vec![self.store.lib(), self.store.deps()],
            native: self.native.to_vec(),
            exports: self.foreign.then_some(exports),
            loading: Loading::default(),
            metadata: name,
            environment: Vec::new(),
            opt_level: OPT_LEVEL,
            cwd: self.store.root.clone(),
            linker: None,
        };
        let mut ended = self.make(call.clone()).await?;
        if !ended.success && self.foreign {
            // Not every linker takes a second list.
            ended = self.make(Call { exports: None, ..call }).await?;
        }
        Ok(if ended.success { Ok(layer) } else { Err(words(&ended)) })
    }

    /// Runs rustc so that others see the library whole or not at all. Its file name is what SONAME
    /// says, so the scratch is a folder.
    pub(super) async fn make(&self, call: Call) -> Result<Ended, CompileError> {
        let output = call.output.clone();
        let cache = |source| CompileError::Cache { path: output.clone(), source };
        let scratch = Scratch(store::scratch_name(&output));
        fs::create_dir(&scratch.0).map_err(cache)?;
        let built = scratch.0.join(output.file_name().unwrap_or_default());
        let ended = Call { output: built.clone(), ..call }.run(self.toolchain).await?;
        if ended.success {
            fs::rename(&built, &output).map_err(cache)?;
        }
        Ok(ended)
    }
}

/// A folder that is gone with its value, also when the work in it is interrupted.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover only takes room.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn words(ended: &Ended) -> String {
    let messages = crate::cell::rustc_json::read(&ended.stderr);
    messages.into_iter().filter_map(|message| message.rendered).collect()
}
