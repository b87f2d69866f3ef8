//! What the user wants: the text of `:dep` lines, a `[dependencies]` table or a cargo-script front
//! matter, read to one table. Runs nothing.

use std::path::Path;

use toml::{Table, Value};

/// What a dependency may say about itself.
const KEYS: [&str; 12] = [
    "version",
    "features",
    "default-features",
    "path",
    "git",
    "branch",
    "tag",
    "rev",
    "package",
    "registry",
    "registry-index",
    "optional",
];

/// Why a text is no dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// What the user wrote.
    pub(super) line: String,
    pub(super) why: String,
}

/// Reads dependencies by name; paths become absolute, from `cwd`. The second part says what of the
/// text has no effect.
pub(super) fn read(text: &str, cwd: &Path) -> Result<(Table, Vec<String>), Unreadable> {
    let full = with_versions(text);
    let mut document: Table = full.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let number = full[..start.min(full.len())].matches('\n').count();
        let line = text.lines().nth(number).unwrap_or(text).trim().to_owned();
        Unreadable { line, why: error.message().to_owned() }
    })?;
    let mut remarks = Vec::new();
    let is_manifest = ["dependencies", "package"]
        .iter()
        .any(|name| document.get(*name).is_some_and(|value| value.as_table().is_some()))
        && text.lines().any(|line| line.trim_start().starts_with('['));
    if is_manifest {
        let dependencies = match document.remove("dependencies") {
            Some(Value::Table(table)) => table,
            _ => Table::new(),
        };
        let others: Vec<&str> = document.keys().map(String::as_str).collect();
        if !others.is_empty() {
            remarks.push(format!("only [dependencies] counts; without effect: {others:?}"));
        }
        document = dependencies;
    }
    for (name, value) in &mut document {
        check(name, value, cwd).map_err(|why| Unreadable { line: name.clone(), why })?;
    }
    Ok((document, remarks))
}

/// `serde_json` is any version of it, `serde_json@1` is that one: what TOML has no form for.
fn with_versions(text: &str) -> String {
    let mut depth = 0_i32;
    let mut full = String::new();
    for line in text.lines() {
        let bare = line.trim().trim_end_matches(';').trim_end();
        let (name, version) = bare.split_once('@').unwrap_or((bare, "*"));
        if depth == 0 && is_name(name) && !version.contains(['"', ' ']) {
            full.push_str(&format!("{name} = \"{version}\"\n"));
            continue;
        }
        for letter in line.chars() {
            depth += i32::from("{[".contains(letter)) - i32::from("}]".contains(letter));
        }
        full.push_str(if depth == 0 { line.trim_end().trim_end_matches(';') } else { line });
        full.push('\n');
    }
    full
}

fn is_name(text: &str) -> bool {
    let inside = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    text.chars().all(inside) && text.chars().next().is_some_and(char::is_alphabetic)
}

fn check(name: &str, value: &mut Value, cwd: &Path) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("`{name}` cannot be the name of a crate"));
    }
    if name == "prust" || name == "prust_runtime" {
        return Err("every cell has it already".to_owned());
    }
    let table = match value {
        Value::String(version) if version.trim().is_empty() => {
            return Err("the version is empty; \"*\" means any".to_owned());
        }
        Value::String(_) => return Ok(()),
        Value::Table(table) => table,
        _ => return Err("give a version in quotes, or a table in braces".to_owned()),
    };
    for key in table.keys() {
        if key == "workspace" {
            return Err("a notebook has no workspace to take it from: give a version".to_owned());
        }
        if !KEYS.contains(&key.as_str()) {
            return Err(format!("`{key}` says nothing here; known are {}", KEYS.join(", ")));
        }
    }
    table.remove("optional");
    let has_source = ["version", "path", "git"].iter().any(|key| table.contains_key(*key));
    if !has_source {
        table.insert("version".to_owned(), Value::from("*"));
    }
    if let Some(Value::String(path)) = table.get_mut("path") {
        let full = cwd.join(&*path);
        let full = full.canonicalize().map_err(|error| format!("no crate at {path}: {error}"))?;
        if !full.join("Cargo.toml").is_file() {
            return Err(format!("there is no Cargo.toml in {}", full.display()));
        }
        *path = full.display().to_string();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn table(text: &str) -> String {
        let (table, remarks) = read(text, Path::new("/")).expect("it is a dependency");
        assert_eq!(remarks, [""; 0]);
        toml::to_string(&table).expect("a table can be written")
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(table("rand"), "rand = \"*\"\n");
        assert_eq!(table("rand@0.9;"), "rand = \"0.9\"\n");
        assert_eq!(table("rand = \"0.9\";\nlog"), "log = \"*\"\nrand = \"0.9\"\n");
        assert_eq!(
            table("a-b = {\n  features = [\n\"x\"],\n}"),
            "[a-b]\nfeatures = [\"x\"]\nversion = \"*\"\n"
        );
        assert_eq!(table("[dependencies]\nlog = \"0.4\""), "log = \"0.4\"\n");
        assert_eq!(table("[dependencies.log]\nversion = \"0.4\""), "[log]\nversion = \"0.4\"\n");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let text = "[package]\nedition = \"2021\"\n[dependencies]\nlog = \"0.4\"";
        let (table, remarks) = read(text, Path::new("/")).expect("it is a front matter");
        assert_eq!(table.len(), 1);
        assert!(remarks[0].contains("package"), "{remarks:?}");
    }

    #[test]
    fn a_mistake_is_named() {
        let why = |text: &str| read(text, Path::new("/")).expect_err("it is a mistake").why;
        assert!(why("log = { feature = [\"std\"] }").contains("`feature`"));
        assert!(why("log = 1").contains("version in quotes"));
        assert!(why("x = { path = \"nowhere/at/all\" }").contains("nowhere/at/all"));
        assert!(why("prust = \"1\"").contains("already"));
        assert!(read("log = { version = \"0.4\"", Path::new("/")).is_err());
        assert_eq!(
            read("good = \"1\"\nbad = = 2", Path::new("/")).expect_err("no value").line,
            "bad = = 2"
        );
    }
}
