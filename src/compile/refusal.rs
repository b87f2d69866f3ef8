//! Why a dependency is not added, in the user's terms: cargo's words about the generated project,
//! with its summary in front.

use std::path::Path;

use super::CompileError;
use super::manifest::PACKAGE;
use super::wanted::Unreadable;

/// Words that all refer to what the user wrote; nothing else would make another try worthwhile.
const USERS: [&str; 8] = [
    "no matching package",
    "failed to select a version",
    "failed to parse",
    "does not have these features",
    "invalid character",
    "is not a valid",
    "unexpected end of input",
    "invalid type",
];

/// Why a dependency was not added. Nothing has changed then.
#[derive(Debug)]
pub enum DependencyError {
    /// The text is no dependency.
    Syntax {
        line: String,
        why: String,
    },
    /// cargo or rustc says no.
    Build {
        /// One line.
        summary: String,
        /// cargo's own words.
        output: String,
    },
    World(CompileError),
}

impl From<CompileError> for DependencyError {
    fn from(error: CompileError) -> Self {
        Self::World(error)
    }
}

impl std::fmt::Display for DependencyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Syntax { line, why } => write!(
                f,
                "`{line}` is no dependency: {why}. Write `:dep name = \"1.0\"` or \
                 `:dep name = {{ version = \"1.0\", features = [\"..\"] }}`"
            ),
            Self::Build { summary, .. } => f.write_str(summary),
            Self::World(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DependencyError {}

impl DependencyError {
    /// cargo's own words, where there are any.
    pub fn output(&self) -> &str {
        match self {
            Self::Build { output, .. } => output,
            Self::Syntax { .. } | Self::World(_) => "",
        }
    }
}

pub(super) fn syntax(text: Unreadable) -> DependencyError {
    DependencyError::Syntax { line: text.line, why: text.why }
}

/// Whether cargo refuses what the user wrote, rather than having trouble with the network.
pub(super) fn is_users(stderr: &str) -> bool {
    USERS.iter().any(|words| stderr.contains(words))
}

/// The crates were built, but make no shared library.
pub(super) fn link(output: &str) -> DependencyError {
    DependencyError::Build {
        summary: "the crates were built, but cannot be put into one library".to_owned(),
        output: output.to_owned(),
    }
}

/// cargo's refusal. `errors` are what rustc said.
pub(super) fn build(stderr: &str, errors: &str, project: &Path) -> DependencyError {
    let folder = project.display().to_string();
    let ours = |text: &str| {
        text.replace(&format!("`{PACKAGE} v0.0.0 ({folder})`"), "this notebook")
            .replace(&format!("{PACKAGE} v0.0.0 ({folder})"), "this notebook")
            .replace(&format!("package `{PACKAGE}`"), "this notebook")
            .replace(&format!("`{PACKAGE}`"), "this notebook")
            .replace("package this notebook", "this notebook")
            .replace(&format!("{folder}/base/Cargo.toml"), "what every notebook has")
            .replace(&format!("{folder}/Cargo.toml"), "this notebook's dependencies")
    };
    let chatter =
        ["Updating", "Locking", "Adding", "Downloading", "Downloaded", "Compiling", "Blocking"];
    let told = |line: &&str| !chatter.iter().any(|word| line.trim_start().starts_with(word));
    let said: Vec<&str> = stderr.lines().filter(told).collect();
    let words = ours(&said.join("\n"));
    let summary = summary(&words).unwrap_or_else(|| {
        let first = words.lines().find(|line| line.starts_with("error"));
        let first = first.and_then(|line| line.split_once(": ")).map(|(_, rest)| rest.to_owned());
        first.unwrap_or_else(|| "cargo failed without a word".to_owned())
    });
    let mut output = errors.to_owned();
    output.push_str(&words);
    DependencyError::Build { summary, output }
}

/// The commonest refusals in one line each.
fn summary(words: &str) -> Option<String> {
    let between = |start: &str, end: &str| {
        let rest = words.split_once(start)?.1;
        Some(rest.split_once(end)?.0.trim().to_owned())
    };
    if let Some(name) = between("no matching package named `", "`") {
        return Some(format!("there is no crate `{name}`"));
    }
    if let Some(name) = between("no matching package found\nsearched package name: `", "`") {
        let near = between("perhaps you meant:", "\n").map(|near| format!("; perhaps {near}"));
        return Some(format!("there is no crate `{name}`{}", near.unwrap_or_default()));
    }
    if let Some(wanted) = between("failed to select a version for the requirement `", "`\n") {
        let (name, version) = wanted.split_once(" = ").unwrap_or((&wanted, ""));
        let version = version.trim_matches('"').trim_start_matches('^');
        let there = between("candidate versions found which didn't match: ", "\n");
        let there = there.map(|there| format!("; there are {there}")).unwrap_or_default();
        return Some(format!("`{name}` has no version {version}{there}"));
    }
    if let Some(name) = between("with feature `", "`") {
        let package = between("depends on `", "`").unwrap_or_default();
        let hint = between("package `", "\n").filter(|line| line.contains("does have feature"));
        let hint = hint
            .and_then(|line| Some(line.split_once("does have feature ")?.1.to_owned()))
            .or_else(|| between("available features: ", "\n"))
            .map(|has| format!("; it has {has}"));
        return Some(format!("`{package}` has no feature `{name}`{}", hint.unwrap_or_default()));
    }
    if let Some(name) = between("could not compile `", "`") {
        return Some(format!("`{name}` does not compile"));
    }
    let script = between("failed to run custom build command for `", "`")?;
    Some(format!("the build script of `{script}` failed"))
}
