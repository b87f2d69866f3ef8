//! The generated cargo projects: the dependencies of the `prust` crate, alone or with the
//! notebook's. Text only.

use toml::{Table, Value};

use super::cargo::PROFILE;
use super::graph::Graph;

/// The lock file this binary was built with: serde and serde_json in versions that cargo's own
/// cache most likely still has.
pub(super) const LOCK: &str = include_str!("../../Cargo.lock");

/// What the generated package is called; messages say "this notebook" instead.
pub(super) const PACKAGE: &str = "prust-notebook";

/// The other generated package, on which that one depends: what the `prust` crate uses. Apart,
/// because a package may name a crate only once.
const BASE_PACKAGE: &str = "prust-base";

/// Where it is, below the other one.
pub(super) const BASE_FOLDER: &str = "base";

/// Keeps out a workspace above the store.
const WORKSPACE: &str = "[workspace]\nresolver = \"3\"\n";

/// How dependencies are compiled.
pub(super) const SETTINGS: &str = r#"inherits = "release"
opt-level = 2
debug = false
strip = "none"
debug-assertions = false
overflow-checks = true
lto = false
panic = "unwind"
incremental = false
codegen-units = 16
rpath = false
"#;

/// A package with all the features that others commonly ask of it. Asking for them from the
/// beginning keeps a later dependency from changing it, and with it everything that is built from
/// it.
pub(super) struct Wide {
    package: &'static str,
    /// As far as it decides what is compatible.
    version: &'static str,
    /// Used by procedural macros and build scripts, not by crates that a cell links.
    host: bool,
    features: &'static [&'static str],
}

const SYN: &[&str] = &["full", "extra-traits", "visit", "visit-mut", "fold"];

/// What the `prust` crate uses. Host packages are asked for without being built for their own sake:
/// the generated project has no build script.
pub(super) const BASE: [Wide; 6] = [
    Wide { package: "serde", version: "1", host: false, features: &["derive", "rc", "alloc"] },
    Wide { package: "serde_json", version: "1", host: false, features: &["raw_value"] },
    Wide { package: "memchr", version: "2", host: false, features: &[] },
    Wide { package: "syn", version: "3", host: true, features: SYN },
    Wide { package: "quote", version: "1", host: true, features: &[] },
    Wide { package: "proc-macro2", version: "1", host: true, features: &[] },
];

/// Widened as soon as a notebook has them.
pub(super) const OTHERS: [Wide; 15] = [
    Wide { package: "syn", version: "1", host: true, features: SYN },
    Wide { package: "syn", version: "2", host: true, features: SYN },
    Wide { package: "libc", version: "0", host: false, features: &[] },
    Wide { package: "log", version: "0", host: false, features: &["std"] },
    Wide { package: "once_cell", version: "1", host: false, features: &[] },
    // Behind facades, which leave out the feature `default` alone: who asks for such a crate by
    // itself asks for that, too.
    Wide { package: "aho-corasick", version: "1", host: false, features: &[] },
    Wide { package: "crossbeam-channel", version: "0", host: false, features: &[] },
    Wide { package: "crossbeam-deque", version: "0", host: false, features: &[] },
    Wide { package: "crossbeam-epoch", version: "0", host: false, features: &[] },
    Wide { package: "crossbeam-queue", version: "0", host: false, features: &[] },
    Wide { package: "crossbeam-utils", version: "0", host: false, features: &[] },
    Wide { package: "futures-channel", version: "0", host: false, features: &[] },
    Wide { package: "futures-core", version: "0", host: false, features: &[] },
    Wide { package: "futures-sink", version: "0", host: false, features: &[] },
    Wide { package: "futures-task", version: "0", host: false, features: &[] },
];

/// What is asked for at most, beside what the user wants: text that says all of it.
pub(super) fn widest() -> String {
    base(&OTHERS.iter().collect::<Vec<_>>())
}

/// Those of `OTHERS` that the graph has.
pub(super) fn to_widen(graph: &Graph) -> Vec<&'static Wide> {
    OTHERS.iter().filter(|wide| graph.has(wide.package, wide.version)).collect()
}

fn package(name: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         publish = false\nautobins = false\nautoexamples = false\nautotests = false\n\
         autobenches = false\n\n[lib]\npath = \"lib.rs\"\n\n"
    )
}

/// The manifest of a notebook with these dependencies.
pub(super) fn notebook(wanted: &Table) -> String {
    let mut wanted = wanted.clone();
    let base = Table::from_iter([("path".to_owned(), Value::from(BASE_FOLDER))]);
    wanted.insert(BASE_PACKAGE.to_owned(), Value::Table(base));
    let tables = written([("dependencies", wanted)]);
    format!("{}{WORKSPACE}\n[profile.{PROFILE}]\n{SETTINGS}\n{tables}", package(PACKAGE))
}

/// The manifest of what every notebook has.
pub(super) fn base(widened: &[&Wide]) -> String {
    let (mut normal, mut host) = (Table::new(), Table::new());
    for wide in BASE.iter().chain(widened.iter().copied()) {
        let table = if wide.host { &mut host } else { &mut normal };
        let one = ["serde", "serde_json"].contains(&wide.package);
        let name = match one {
            true => wide.package.to_owned(),
            false => format!("{}-{}", wide.package, wide.version),
        };
        table.insert(name, Value::Table(wide.table()));
    }
    package(BASE_PACKAGE) + &written([("dependencies", normal), ("build-dependencies", host)])
}

fn written<const N: usize>(tables: [(&str, Table); N]) -> String {
    let tables = tables.into_iter().map(|(name, table)| (name.to_owned(), Value::Table(table)));
    toml::to_string(&tables.collect::<Table>()).expect("what was read can be written")
}

impl Wide {
    fn table(&self) -> Table {
        let features: Vec<Value> = self.features.iter().map(|name| Value::from(*name)).collect();
        let entries = [
            ("package", Value::from(self.package)),
            ("version", Value::from(self.version)),
            ("features", Value::from(features)),
        ];
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Whether a package is one of the generated ones.
pub fn is_generated(package: &str) -> bool {
    [PACKAGE, BASE_PACKAGE].iter().any(|ours| package.starts_with(ours))
}
