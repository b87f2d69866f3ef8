//! What every cell links, built once per toolchain: the runtime and the worker by rustc alone, the
//! `prust` crate (with serde) by cargo. Sources are embedded in this binary; results go to the
//! store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};

use super::CompileError;
use super::manifest::{self, Artifacts};
use super::store::{self, Store};
use super::toolchain::Toolchain;
use crate::process;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Built libraries that cells link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) worker: PathBuf,
    pub(super) runtime: PathBuf,
    /// Name and file of the crates that a cell may name: `prust`, `serde`, `serde_json`.
    pub(super) externs: Vec<(String, PathBuf)>,
}

/// The key of a store: everything that its contents depend on.
pub(super) fn key(toolchain: &Toolchain) -> String {
    let embedded = RUNTIME.iter().chain(API).flat_map(|(name, text)| [*name, *text]);
    let parts = [toolchain.version.as_str(), env!("CARGO_PKG_VERSION"), manifest::LOCK];
    store::hash(parts.into_iter().chain(embedded))
}

/// Gives the base, building it when the store lacks it. Blocks; seconds the first time.
pub(super) fn ready(store: &Store, toolchain: &Toolchain) -> Result<Base, CompileError> {
    let record = store.root.join("base.json");
    if let Some(base) = read(&record) {
        return Ok(base);
    }
    let _lock = store.lock("base")?;
    if let Some(base) = read(&record) {
        return Ok(base);
    }
    let (worker, runtime) = build_worker(store, toolchain)?;
    let artifacts = build_api(store, toolchain, &runtime)?;
    let base = Base { worker, runtime, externs: keep(store, &artifacts)? };
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
        &["--crate-type=dylib", "--crate-name=prust_runtime", "-Clink-arg=-Wl,-rpath,$ORIGIN"],
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
        .arg(source);
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

/// The cargo project of the `prust` crate, which dependency sets join by path.
pub(super) fn project(store: &Store) -> PathBuf {
    store.root.join("project")
}

fn build_api(
    store: &Store,
    toolchain: &Toolchain,
    runtime: &Path,
) -> Result<Artifacts, CompileError> {
    let project = project(store);
    unpack(API, &project.join("prust"))?;
    unpack(&[("prust/Cargo.toml", manifest::API), ("Cargo.toml", manifest::WORKSPACE)], &project)?;
    unpack(&[("Cargo.lock", manifest::LOCK)], &project)?;
    let (artifacts, ended) = manifest::cargo(toolchain, &project, runtime, &["-p", "prust"], &[])?;
    succeed("the prust crate", &ended)?;
    Ok(artifacts)
}

/// Copies the built crates to the store; gives those that cells name.
fn keep(store: &Store, artifacts: &Artifacts) -> Result<Vec<(String, PathBuf)>, CompileError> {
    let kept = manifest::keep(store, artifacts)?;
    let named = ["prust", "serde", "serde_json"];
    Ok(kept.into_iter().filter(|(name, _)| named.contains(&name.as_str())).collect())
}
