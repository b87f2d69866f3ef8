//! Build script: lists the sources of `runtime` and `api` with their texts, so that the binary can
//! have the user's own rustc compile them. Embeds nothing else.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it"));
    let mut table = String::new();
    for room in ["runtime", "api"] {
        let folder = root.join("src").join(room);
        let mut files = Vec::new();
        list(&folder, &mut files);
        files.sort();
        let _ = writeln!(table, "/// Path below `src/{room}` and text.");
        let _ = writeln!(table, "pub(super) const {}: &[(&str, &str)] = &[", room.to_uppercase());
        for file in files {
            let name = file.strip_prefix(&folder).expect("it was listed there");
            let _ = writeln!(table, "    ({name:?}, include_str!({file:?})),");
        }
        table.push_str("];\n");
        // The folder too: a new file must be listed.
        let line = format!("cargo::rerun-if-changed={}\n", folder.display());
        std::io::stdout().write_all(line.as_bytes()).expect("cargo reads it");
    }
    std::fs::write(out.join("embedded.rs"), table).expect("OUT_DIR is writable");
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the room exists").flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
