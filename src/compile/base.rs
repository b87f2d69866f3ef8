//! What every cell links, built once per toolchain: the runtime and the worker by rustc alone, the
//! `prust` crate (with serde) by cargo. Sources are embedded in this binary; results go to the
//! store.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};

use super::CompileError;
use super::cargo;
use super::dependencies::DependencySet;
use super::graph::Graph;
use super::layers::{self, Crate, Layer, Maker};
use super::manifest;
use super::rustc::{Call, CrateType, Loading};
use super::store::{self, Store};
use super::toolchain::Toolchain;
use crate::process;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Built libraries that cells link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) worker: PathBuf,
    pub(super) runtime: PathBuf,
    /// The crates that every cell may name: `prust`, `serde`, `serde_json`.
    pub(super) set: DependencySet,
}

impl Base {
    /// The names of its libraries.
    pub(super) fn libraries(&self) -> HashSet<String> {
        let layers = self.set.layers.iter().map(|layer| &layer.file);
        let files = layers.chain([&self.runtime]).filter_map(|file| file.file_name());
        files.map(|name| name.to_string_lossy().into_owned()).collect()
    }
}

/// The key of a store: everything that its contents depend on.
pub(super) fn key(toolchain: &Toolchain) -> String {
    let manifest = manifest::notebook(&toml::Table::new()) + &manifest::base(&[]);
    let embedded = RUNTIME.iter().chain(API).flat_map(|(name, text)| [*name, *text]);
    let version = [toolchain.version.as_str(), env!("CARGO_PKG_VERSION")];
    store::hash(version.into_iter().chain([manifest::LOCK, &manifest]).chain(embedded))
}

/// Gives the base, building it when the store lacks it. Blocks; seconds the first time.
/// `tell` is told each step.
pub(super) fn ready(
    store: &Store,
    toolchain: &Toolchain,
    tell: cargo::Tell,
) -> Result<Base, CompileError> {
    let record = store.root.join("base.json");
    if let Some(base) = read(&record) {
        return Ok(base);
    }
    tell("waiting for another notebook that prepares it");
    let _lock = store.lock("base")?;
    if let Some(base) = read(&record) {
        return Ok(base);
    }
    tell("the worker and its runtime");
    let (worker, runtime) = build_worker(store, toolchain)?;
    // The caller is a thread that may block.
    let build = build_api(store, toolchain, &runtime, tell);
    let set = tokio::runtime::Handle::current().block_on(build)?;
    let base = Base { worker, runtime, set };
    let text = serde_json::to_vec_pretty(&base).expect("paths and names always serialise");
    store::write(&record, &text).map_err(|source| CompileError::Cache { path: record, source })?;
    Ok(base)
}

fn read(record: &Path) -> Option<Base> {
    let base: Base = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    (base.worker.is_file() && base.runtime.is_file()).then_some(base)
}

fn unpack(files: &[(&str, &str)], folder: &Path) -> Result<(), CompileError> {
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().expect("it is below a folder").to_owned();
        fs::create_dir_all(&parent)
            .and_then(|()| store::write(&path, text.as_bytes()))
            .map_err(|source| CompileError::Cache { path, source })?;
    }
    Ok(())
}

fn build_worker(store: &Store, toolchain: &Toolchain) -> Result<(PathBuf, PathBuf), CompileError> {
    let sources = store.src().join("runtime");
    unpack(RUNTIME, &sources)?;
    let runtime = store.lib().join("libprust_runtime.so");
    let worker = store.bin().join("prust-worker");
    let extern_runtime = format!("--extern=prust_runtime={}", runtime.display());
    let rpath = format!("-Clink-arg=-Wl,-rpath,$ORIGIN/../lib:{}", toolchain.libdir.display());
    build(
        toolchain,
        "the runtime",
        &sources.join("lib.rs"),
        &runtime,
        &[
            "--crate-type=dylib",
            "--crate-name=prust_runtime",
            "--cfg=prust_cells",
            "-Clink-arg=-Wl,-rpath,$ORIGIN",
        ],
    )?;
    build(
        toolchain,
        "the worker",
        &sources.join("worker_main.rs"),
        &worker,
        &[
            "--crate-type=bin",
            "--crate-name=prust_worker",
            &extern_runtime,
            &rpath,
            "-Clink-arg=-Wl,--export-dynamic-symbol=read",
        ],
    )?;
    Ok((worker, runtime))
}

fn build(
    toolchain: &Toolchain,
    what: &'static str,
    source: &Path,
    output: &Path,
    arguments: &[&str],
) -> Result<(), CompileError> {
    let mut command = Command::new(&toolchain.rustc);
    command
        .args(["--edition=2024", "-Cprefer-dynamic", "-Copt-level=2", "-Cmetadata=prust"])
        .args(["-Aunknown_lints", "--cap-lints=allow", "-o"])
        .arg(output)
        .args(arguments)
        .arg(source)
        // For the one unstable feature of the runtime's.
        .env("RUSTC_BOOTSTRAP", "1");
    let ended = process::output(process::end_with_us(&mut command))
        .map_err(|source| CompileError::Run { program: toolchain.rustc.clone(), source })?;
    succeed(what, &ended)
}

fn succeed(what: &'static str, ended: &Output) -> Result<(), CompileError> {
    if ended.status.success() {
        return Ok(());
    }
    Err(CompileError::Base { what, output: String::from_utf8_lossy(&ended.stderr).into_owned() })
}

/// Where cargo builds everything of this store, so that sets share what they can.
pub(super) fn target(store: &Store) -> PathBuf {
    store.root.join("target")
}

/// Writes the manifests of a generated project and their empty crates.
pub(super) fn write_project(
    project: &Path,
    wanted: &toml::Table,
    widened: &[&manifest::Wide],
) -> Result<(), CompileError> {
    let (notebook, base) = (manifest::notebook(wanted), manifest::base(widened));
    let base_folder = project.join(manifest::BASE_FOLDER);
    unpack(&[("Cargo.toml", &notebook), ("lib.rs", "")], project)?;
    unpack(&[("Cargo.toml", &base), ("lib.rs", "")], &base_folder)
}

async fn build_api(
    store: &Store,
    toolchain: &Toolchain,
    runtime: &Path,
    tell: cargo::Tell,
) -> Result<DependencySet, CompileError> {
    let project = store.root.join("projects").join("base");
    write_project(&project, &toml::Table::new(), &[])?;
    unpack(&[("Cargo.lock", manifest::LOCK)], &project)?;
    unpack(API, &store.src().join("prust"))?;
    let mut call = cargo::Call {
        toolchain,
        project: &project,
        target: target(store),
        offline: true,
        wrapper: None,
        tell: tell.clone(),
    };
    // From cargo's own cache if that is enough, else with the network.
    if !call.tree().await?.success {
        call.offline = false;
    }
    let (mut artifacts, mut ended) = call.build().await?;
    if !ended.success && call.offline {
        call.offline = false;
        (artifacts, ended) = call.build().await?;
    }
    if !ended.success {
        let output = ended.stderr + &artifacts.errors;
        return Err(CompileError::Base { what: "serde, for the prust crate", output });
    }
    let tree = call.tree().await?;
    let graph = Graph::read(&tree.stdout);
    let crates = layers::keep(store, &call.target.join(&toolchain.host), &artifacts)?;
    let named = layers::named(&call.direct().await?.base, &crates);
    let maker = Maker { store, toolchain, runtime, native: &[], foreign: false };
    tell("the prust crate");
    let mut layer = api(&maker, &named, &[]).await?;
    layer.holds = crates.iter().filter(|one| !one.proc_macro).map(Crate::identity).collect();
    let externs = externs(&named, &layer);
    let (api, layers) = (externs.clone(), vec![layer]);
    Ok(DependencySet { externs, api, layers, crates, graph, project, ..Default::default() })
}

/// What every cell may name.
pub(super) fn externs(named: &[(String, PathBuf)], api: &Layer) -> Vec<(String, PathBuf)> {
    let mut externs = vec![(api.name.clone(), api.file.clone())];
    let serde = |(name, _): &&(String, PathBuf)| name == "serde" || name == "serde_json";
    externs.extend(named.iter().filter(serde).cloned());
    externs
}

/// The `prust` crate over these builds of serde. With libraries beneath it is another crate of the
/// same name, which takes from them what they hold.
pub(super) async fn api(
    maker: &Maker<'_>,
    named: &[(String, PathBuf)],
    beneath: &[Layer],
) -> Result<Layer, CompileError> {
    let folder = maker.store.src().join("prust");
    let mut source = folder.join("lib.rs");
    let mut metadata = "prust".to_owned();
    let mut layer = Layer { name: metadata.clone(), ..Layer::default() };
    let mut externs: Vec<(String, PathBuf)> =
        externs(named, &layer).into_iter().filter(|(name, _)| *name != layer.name).collect();
    externs.push(("prust_runtime".to_owned(), maker.runtime.to_owned()));
    if !beneath.is_empty() {
        metadata =
            format!("prust-{}", store::hash(beneath.iter().map(|below| below.name.as_str())));
        let cache = |error| CompileError::Cache { path: folder.clone(), source: error };
        let mut text = fs::read_to_string(&source).map_err(cache)?;
        for (number, below) in beneath.iter().enumerate() {
            text.push_str(&format!("\nextern crate c{number} as _;\n"));
            externs.push((format!("c{number}"), below.file.clone()));
        }
        source = folder.join(format!("{metadata}.rs"));
        store::write(&source, text.as_bytes()).map_err(cache)?;
    }
    layer.file = maker.store.lib().join(format!("lib{metadata}.so"));
    let call = Call {
        crate_name: layer.name.clone(),
        crate_type: CrateType::Dylib,
        source,
        output: layer.file.clone(),
        mir: None,
        externs,
        search: vec![maker.store.lib(), maker.store.deps()],
        native: Vec::new(),
        exports: None,
        loading: Loading::default(),
        metadata,
        environment: Vec::new(),
        opt_level: layers::OPT_LEVEL,
        cwd: folder,
        linker: None,
    };
    let ended = maker.make(call).await?;
    match ended.success {
        true => Ok(layer),
        false => Err(CompileError::Base { what: "the prust crate", output: ended.stderr }),
    }
}
