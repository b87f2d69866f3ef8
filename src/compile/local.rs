//! Packages on the user's disk: whether they have been edited, and the identity that an edited one
//! gets.
//!
//! cargo calls a path package the same after an edit, and rustc refuses two crates of one identity
//! in one process. So a program between the two adds what the sources look like to the identity.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::CompileError;
use super::store::{self, Store};

/// Files looked at in one package; a folder with more is compared by its first ones.
const FILES_MAX: usize = 20_000;

/// A package's folder and what its sources looked like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Local {
    pub(super) folder: PathBuf,
    pub(super) fingerprint: String,
}

impl Local {
    pub(super) fn look(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), fingerprint: fingerprint(folder) }
    }

    pub(super) fn is_edited(&self) -> bool {
        fingerprint(&self.folder) != self.fingerprint
    }
}

/// Names, sizes and times of the files of a package, without what is built and hidden.
fn fingerprint(folder: &Path) -> String {
    let mut seen = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().take(FILES_MAX.saturating_sub(seen.len())) {
            let name = entry.file_name();
            let Ok(metadata) = entry.metadata() else { continue };
            if name.to_string_lossy().starts_with('.') || name == "Cargo.lock" {
                continue;
            }
            if metadata.is_dir() {
                if name != "target" {
                    folders.push(entry.path());
                }
                continue;
            }
            let changed =
                metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let nanos = changed.map_or(0, |at| at.as_nanos());
            seen.push(format!("{} {} {nanos}", entry.path().display(), metadata.len()));
        }
    }
    seen.sort();
    store::hash(seen.iter().map(String::as_str))
}

/// `$PRUST_LOCAL` lists folders between colons.
const WRAPPER: &str = r#"#!/bin/sh
case "$PRUST_LOCAL" in
    *":$CARGO_MANIFEST_DIR:"*) exec "$@" "-Cmetadata=$PRUST_LOCAL_EDITION" ;;
esac
exec "$@"
"#;

/// The program between cargo and rustc, and its environment.
pub(super) type Wrapper = (PathBuf, Vec<(String, String)>);

/// What gives edited packages an identity of their own; `None` when there are none.
pub(super) fn wrapper(store: &Store, local: &[Local]) -> Result<Option<Wrapper>, CompileError> {
    use std::os::unix::fs::PermissionsExt;
    if local.is_empty() {
        return Ok(None);
    }
    let path = store.bin().join("rustc-of-local-packages");
    let cache = |source| CompileError::Cache { path: path.clone(), source };
    if fs::read_to_string(&path).ok().as_deref() != Some(WRAPPER) {
        store::write(&path, WRAPPER.as_bytes()).map_err(cache)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(cache)?;
    }
    let folders: Vec<String> =
        local.iter().map(|local| local.folder.display().to_string()).collect();
    let edition = store::hash(local.iter().map(|local| local.fingerprint.as_str()));
    let environment = vec![
        ("PRUST_LOCAL".to_owned(), format!(":{}:", folders.join(":"))),
        ("PRUST_LOCAL_EDITION".to_owned(), edition),
    ];
    Ok(Some((path, environment)))
}
