//! The door to cargo: manifests of the generated projects, the call, and which files it made. Used
//! for the `prust` crate and for dependency sets, which are one cargo graph with one lock and one
//! target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

use super::CompileError;
use super::store::{self, Store};
use super::toolchain::Toolchain;
use crate::process;

/// The lock file this binary was built with: serde and serde_json in versions that cargo's own
/// cache most likely still has.
pub(super) const LOCK: &str = include_str!("../../Cargo.lock");

/// The workspace of the `prust` crate alone.
pub(super) const WORKSPACE: &str = r#"[workspace]
members = ["prust"]
resolver = "3"

[profile.dev]
opt-level = 2
debug = false
overflow-checks = true
"#;

/// The `prust` crate as cells link it. Its features of serde are the common ones, so that most
/// dependency sets leave them as they are.
pub(super) const API: &str = r#"[package]
name = "prust"
version = "0.1.0"
edition = "2024"

[lib]
path = "lib.rs"
crate-type = ["dylib"]

[dependencies]
serde = { version = "1", features = ["derive", "rc", "alloc"] }
serde_json = { version = "1", features = ["raw_value"] }
"#;

/// A crate that cargo built: its name as code writes it, and its files.
#[derive(Clone, Debug)]
pub(super) struct Artifact {
    pub(super) name: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) proc_macro: bool,
}

/// What one cargo call built, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Artifacts {
    pub(super) crates: Vec<Artifact>,
    /// Folders with native libraries, from build scripts.
    pub(super) native: Vec<PathBuf>,
    /// Errors as cargo rendered them.
    pub(super) errors: String,
}

#[derive(Deserialize)]
struct Line {
    reason: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    linked_paths: Vec<String>,
    message: Option<Rendered>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Rendered {
    level: String,
    rendered: Option<String>,
}

/// Runs `cargo build` in `project`: from cargo's own cache if that is enough, else with the
/// network.
pub(super) fn cargo(
    toolchain: &Toolchain,
    project: &Path,
    runtime: &Path,
    arguments: &[&str],
    flags: &[String],
) -> Result<(Artifacts, Output), CompileError> {
    let offline = call(toolchain, project, runtime, arguments, flags, true)?;
    if offline.1.status.success() || !offline.0.errors.is_empty() {
        return Ok(offline);
    }
    call(toolchain, project, runtime, arguments, flags, false)
}

fn call(
    toolchain: &Toolchain,
    project: &Path,
    runtime: &Path,
    arguments: &[&str],
    flags: &[String],
    offline: bool,
) -> Result<(Artifacts, Output), CompileError> {
    let mut rustflags = vec![
        "-Cprefer-dynamic".to_owned(),
        format!("--extern=prust_runtime={}", runtime.display()),
        format!("-Ldependency={}", runtime.parent().unwrap_or(project).display()),
        "-Clink-arg=-Wl,-rpath,$ORIGIN".to_owned(),
    ];
    rustflags.extend_from_slice(flags);
    let mut command = Command::new(&toolchain.cargo);
    command
        .current_dir(project)
        .args(["build", "--message-format=json", "--target", &toolchain.host])
        .args(arguments)
        .args(offline.then_some("--offline"))
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", project.join("target"))
        .env_remove("RUSTC_WRAPPER");
    let ended = process::output(process::end_with_us(&mut command))
        .map_err(|source| CompileError::NoCargo { program: toolchain.cargo.clone(), source })?;
    Ok((read(&String::from_utf8_lossy(&ended.stdout)), ended))
}

fn read(stdout: &str) -> Artifacts {
    let mut artifacts = Artifacts::default();
    for line in stdout.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        match (line.reason.as_str(), line.target, line.message) {
            ("compiler-artifact", Some(target), _) => {
                let proc_macro = target.kind.iter().any(|kind| kind == "proc-macro");
                let is_library = proc_macro || target.kind.iter().any(|kind| kind.ends_with("lib"));
                if is_library {
                    let name = target.name.replace('-', "_");
                    artifacts.crates.push(Artifact { name, files: line.filenames, proc_macro });
                }
            }
            ("build-script-executed", ..) => {
                let plain = |path: &String| {
                    PathBuf::from(path.split_once('=').map_or(path.as_str(), |(_, path)| path))
                };
                artifacts.native.extend(line.linked_paths.iter().map(plain));
            }
            ("compiler-message", _, Some(message)) if message.level == "error" => {
                artifacts.errors.push_str(&message.rendered.unwrap_or_default());
            }
            _ => (),
        }
    }
    artifacts
}

/// Copies libraries to the store: shared ones to `lib`, the rest to `deps`. Gives each crate's
/// file.
pub(super) fn keep(
    store: &Store,
    artifacts: &Artifacts,
) -> Result<Vec<(String, PathBuf)>, CompileError> {
    let mut kept = Vec::new();
    for built in &artifacts.crates {
        for file in &built.files {
            let extension = file.extension().unwrap_or_default();
            let shared = extension == "so" && !built.proc_macro;
            if !shared && extension != "rlib" && extension != "so" {
                continue;
            }
            let folder = if shared { store.lib() } else { store.deps() };
            let to = folder.join(file.file_name().unwrap_or_default());
            let same = fs::metadata(&to).is_ok_and(|there| {
                fs::metadata(file).is_ok_and(|here| here.len() == there.len()) && !shared
            });
            if !same {
                store::copy(file, &to)
                    .map_err(|source| CompileError::Cache { path: to.clone(), source })?;
            }
            kept.push((built.name.clone(), to));
        }
    }
    Ok(kept)
}
