//! Dependency sets: what `:dep` lines ask for, built by cargo as one shared library that re-exports
//! them all, in one graph with the `prust` crate. A set is known by the hash of its lines.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::CompileError;
use super::base;
use super::cell::Compiler;
use super::manifest;
use super::store::{self, Store};

/// A built set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DependencySet {
    /// The `name = ..` lines, sorted.
    pub(super) lines: Vec<String>,
    /// Name and file of every crate that a cell may name.
    pub(super) externs: Vec<(String, PathBuf)>,
}

/// Why a dependency was not added. Nothing has changed then.
#[derive(Debug)]
pub enum DependencyError {
    /// The line is no dependency.
    Syntax {
        line: String,
    },
    /// cargo or rustc says no; its words.
    Build {
        output: String,
    },
    World(CompileError),
}

impl std::fmt::Display for DependencyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Syntax { line } => write!(
                f,
                "`{line}` is no dependency; write `:dep name = \"1.0\"` or \
                 `:dep name = {{ version = \"1.0\", features = [\"..\"] }}`"
            ),
            Self::Build { output } => write!(f, "{output}"),
            Self::World(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DependencyError {}

/// Loads the record of a set that was built before.
pub(super) fn load(store: &Store, key: &str) -> Result<DependencySet, CompileError> {
    let path = store.root.join("sets").join(format!("{key}.json"));
    let text =
        fs::read(&path).map_err(|source| CompileError::Cache { path: path.clone(), source })?;
    serde_json::from_slice(&text)
        .map_err(|source| CompileError::Cache { path, source: std::io::Error::other(source) })
}

/// `serde_json` reads `serde_json = "*"`; the rest must name and say.
fn normal(line: &str) -> Result<(String, String), DependencyError> {
    let line = line.trim().trim_end_matches(';');
    let (name, rest) = match line.split_once('=') {
        Some((name, rest)) => (name.trim(), rest.trim().to_owned()),
        None => (line, "\"*\"".to_owned()),
    };
    let good = !name.is_empty()
        && name.chars().all(|letter| letter.is_alphanumeric() || letter == '-' || letter == '_');
    if !good || rest.is_empty() {
        return Err(DependencyError::Syntax { line: line.to_owned() });
    }
    Ok((name.to_owned(), rest))
}

impl Compiler {
    /// Builds the set that has the crates of `set` (a key from before) and those of `lines`. Gives
    /// its key.
    ///
    /// # Errors
    /// [`DependencyError`]; the old set stays in force.
    pub async fn add_dependencies(
        &self,
        set: Option<&str>,
        lines: &[String],
    ) -> Result<String, DependencyError> {
        let compiler = self.clone();
        let set = set.map(str::to_owned);
        let lines = lines.to_vec();
        let built = tokio::task::spawn_blocking(move || compiler.build_set(set.as_deref(), &lines));
        built.await.expect("building neither panics nor is cancelled")
    }

    fn build_set(&self, old: Option<&str>, lines: &[String]) -> Result<String, DependencyError> {
        let store = &self.shared.store;
        let mut all: Vec<(String, String)> = Vec::new();
        if let Some(key) = old {
            let set = load(store, key).map_err(DependencyError::World)?;
            for line in &set.lines {
                all.push(normal(line)?);
            }
        }
        for line in lines {
            let (name, rest) = normal(line)?;
            all.retain(|(known, _)| *known != name);
            all.push((name, rest));
        }
        all.sort();
        let texts: Vec<String> =
            all.iter().map(|(name, rest)| format!("{name} = {rest}")).collect();
        let key = store::hash(texts.iter().map(String::as_str));
        if load(store, &key).is_ok() {
            return Ok(key);
        }
        let _lock = store.lock("base").map_err(DependencyError::World)?;
        let externs = self.cargo_set(&key, &all)?;
        let path = store.root.join("sets").join(format!("{key}.json"));
        let text = serde_json::to_vec_pretty(&DependencySet { lines: texts, externs })
            .expect("texts always serialise");
        store::write(&path, &text)
            .map_err(|source| DependencyError::World(CompileError::Cache { path, source }))?;
        Ok(key)
    }

    fn cargo_set(
        &self,
        key: &str,
        all: &[(String, String)],
    ) -> Result<Vec<(String, PathBuf)>, DependencyError> {
        let shared = &self.shared;
        let project = base::project(&shared.store);
        let package = format!("prust_set_{key}");
        let world = |path: PathBuf| {
            move |source| DependencyError::World(CompileError::Cache { path, source })
        };
        let folder = project.join(&package);
        fs::create_dir_all(&folder).map_err(world(folder.clone()))?;
        fs::create_dir_all(shared.store.root.join("sets")).map_err(world(folder.clone()))?;
        let write =
            |path: PathBuf, text: &str| store::write(&path, text.as_bytes()).map_err(world(path));
        write(folder.join("Cargo.toml"), &set_manifest(&package, all))?;
        let names: Vec<String> = all.iter().map(|(name, _)| name.replace('-', "_")).collect();
        let uses: String = names.iter().map(|name| format!("pub extern crate {name};\n")).collect();
        write(folder.join("lib.rs"), &format!("pub extern crate prust;\n{uses}"))?;
        let members = format!("members = [\"prust\", \"{package}\"]");
        let workspace = manifest::WORKSPACE.replace("members = [\"prust\"]", &members);
        let workspace_file = project.join("Cargo.toml");
        write(workspace_file.clone(), &workspace)?;
        let built = manifest::cargo(
            &shared.toolchain,
            &project,
            &shared.base.runtime,
            &["-p", &package],
            &[],
        );
        // The next set starts again from the prust crate alone.
        write(workspace_file, manifest::WORKSPACE)?;
        let (artifacts, ended) = built.map_err(DependencyError::World)?;
        if !ended.status.success() {
            let words = String::from_utf8_lossy(&ended.stderr);
            let output = if artifacts.errors.is_empty() { words.into() } else { artifacts.errors };
            let output = output
                .replace(&format!("{package} v0.1.0 ({})", folder.display()), "this notebook")
                .replace(&folder.display().to_string(), "this notebook")
                .replace(&package, "this notebook");
            return Err(DependencyError::Build { output });
        }
        let kept = manifest::keep(&shared.store, &artifacts).map_err(DependencyError::World)?;
        let wanted = |name: &String| {
            *name == package
                || names.contains(name)
                || ["prust", "serde", "serde_json"].contains(&name.as_str())
        };
        Ok(kept.into_iter().filter(|(name, _)| wanted(name)).collect())
    }
}

fn set_manifest(package: &str, all: &[(String, String)]) -> String {
    let lines: String = all.iter().map(|(name, rest)| format!("{name} = {rest}\n")).collect();
    format!(
        "[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\n\
         path = \"lib.rs\"\ncrate-type = [\"dylib\"]\n\n[dependencies]\n\
         prust = {{ path = \"../prust\" }}\n\
         {lines}"
    )
}
