//! The house rules as a test: sizes, module heads, layers, doors, unsafe files, banned words. Each
//! failure names the file, the line, the rule, and what to do instead. Looks at nothing but text.
mod clients;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;

use crate::tokens::{flat, found, rooms_named};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
const MAIN_LINES_MAX: usize = 80;

/// Room -> rooms it may name. A room may always name itself; `main.rs` may name all.
const LAYERS: &[(&str, &[&str])] = &[
    // The kernel and the supervisor may run a controller, as a task or a thread, and engines.
    ("kernel", &["controller", "pool", "client", "compile", "worker", "wire", "process", "cell"]),
    ("supervisor", &["controller", "pool", "client", "compile", "wire", "process"]),
    ("controller", &["client", "compile", "store", "worker", "wire", "process", "cell"]),
    ("engine", &["client", "compile", "worker", "wire", "process", "cell"]),
    ("pool", &["process", "wire"]),
    ("client", &["compile", "worker", "wire", "process", "cell"]),
    ("compile", &["worker", "wire", "process", "cell"]),
    ("worker", &["wire", "process", "cell"]),
    ("wire", &["process"]),
    ("store", &["process"]),
    ("process", &[]),
    ("cell", &[]),
];

/// One outside thing: the tokens that name it, the files that may, and what the others do.
struct Door {
    tokens: &'static str,
    files: &'static [&'static str],
    instead: &'static str,
}

const DOORS: &[Door] = &[
    Door {
        tokens: "zmq : :",
        files: &["src/wire/socket.rs", "src/wire/member.rs", "src/wire/curve.rs"],
        instead: "go through wire::socket",
    },
    Door {
        tokens: "hmac : :",
        files: &["src/wire/envelope.rs"],
        instead: "use wire's Writer, Reader",
    },
    Door { tokens: "rusqlite : :", files: &["src/store/file.rs"], instead: "use store::Store" },
    Door {
        tokens: "addr2line : :",
        files: &["src/compile/trail.rs"],
        instead: "use compile::Compiler::trail",
    },
    Door {
        tokens: "libc : :",
        files: &["src/process.rs"],
        instead: "add a function to process.rs",
    },
    Door {
        tokens: "Command : : new",
        files: &[
            "src/process.rs",
            "src/runtime/os.rs",
            "src/worker/life.rs",
            "src/pool/mod.rs",
            "src/supervisor/detach.rs",
            "src/kernel/executor/magic.rs",
            "src/kernel/executor/attach.rs",
            "src/engine/nanny.rs",
            "src/compile/",
        ],
        instead: "start children where their room does it",
    },
    Door {
        tokens: "command . spawn (",
        files: &["src/process/children.rs"],
        instead: "use process::spawn: a child it does not know may be collected by others",
    },
    Door {
        tokens: "command . output (",
        files: &["src/process/children.rs"],
        instead: "use process::output: a child it does not know may be collected by others",
    },
    Door {
        tokens: "unbounded_channel (",
        files: &[
            "src/wire/guest.rs",
            "src/wire/socket.rs",
            "src/worker/",
            "src/pool/",
            "src/kernel/",
            "src/client/",
            "src/engine/",
        ],
        instead: "bound it by a named constant, or list the file here with a sentence at the call",
    },
];

/// Rooms that decide and do nothing else: the same input gives the same output.
const PURE: &[&str] = &["src/cluster/", "src/cell/", "src/kernel/panel/", "src/client/summary.rs"];

const IMPURE_TOKENS: &[&str] = &[
    "Instant : : now",
    "SystemTime : : now",
    "std : : net",
    "std : : fs",
    "std : : process",
    "thread : : spawn",
    "thread : : sleep",
    "std : : env",
    "tokio : :",
];

/// Files that may say `unsafe`, with what they need it for.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("src/wire/nacl.rs", "what libzmq calls, with C's interface"),
    ("src/process.rs", "signals, process groups, death of the parent"),
    ("src/runtime/os.rs", "system calls of the worker"),
    ("src/runtime/erased.rs", "errors that borrow, looked at by type"),
    ("src/runtime/slots.rs", "variables of any type, taken back by type"),
    ("src/runtime/call.rs", "a function named by library and offset"),
    ("src/runtime/worker_main.rs", "loading cells, replacing read"),
    ("src/api/call.rs", "trampolines of functions of size zero"),
    ("src/api/numbers.rs", "numbers as the bytes they are"),
    ("src/api/reference.rs", "a look at a slot of the engine"),
];

const BANNED: &[(&str, &str)] = &[
    ("println ! (", "write to the stream you mean; stdout belongs to the user"),
    ("eprintln ! (", "use tracing"),
    ("print ! (", "write to the stream you mean; stdout belongs to the user"),
    ("eprint ! (", "use tracing"),
    ("dbg ! (", "use tracing"),
    ("todo ! (", "write it, or leave the feature out"),
    ("unimplemented ! (", "write it, or leave the feature out"),
    ("# [ ignore", "assert what is true today and say why it is wrong"),
    ("# [ should_panic", "assert on the error itself"),
];

/// Crate roots: nobody declares them as a module.
const ROOTS: &[&str] = &["lib.rs", "main.rs", "embed.rs", "worker_main.rs"];

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
    syntax: syn::File,
    /// Every token with its line; string literals are one token and never match a rule.
    tokens: Vec<(String, usize)>,
}

#[test]
fn tidy_sizes_heads_and_columns() {
    let mut complaints = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        if !source.text.starts_with("//!") {
            complaints.push(format!("{}:1: starts without //!: say what it is for", source.path));
        }
        let lines_max = if source.path == "src/main.rs" { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        if lines.len() > lines_max {
            complaints.push(format!("{}: {} lines: split it by noun", source.path, lines.len()));
        }
        for (index, line) in lines.iter().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                complaints.push(format!("{}:{}: over 100 columns", source.path, index + 1));
            }
        }
        let mut functions = Functions { path: &source.path, complaints: &mut complaints };
        functions.visit_file(&source.syntax);
    }
    report(complaints);
}

#[test]
fn tidy_imports_point_down() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        let room = room(&source.path);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == room) else {
            continue;
        };
        for (named, line) in rooms_named(&source.tokens) {
            let known = LAYERS.iter().any(|(name, _)| *name == named);
            if known && named != room && !allowed.contains(&named.as_str()) {
                complaints.push(format!(
                    "{}:{line}: {room} names {named}: imports point down; move the shared part",
                    source.path
                ));
            }
        }
    }
    report(complaints);
}

#[test]
fn tidy_one_door_per_outside_thing() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        for door in DOORS.iter().filter(|door| !listed(&source.path, door.files)) {
            for line in found(&source.tokens, door.tokens) {
                complaints
                    .push(format!("{}:{line}: {}: {}", source.path, door.tokens, door.instead));
            }
        }
        // The simulation's replay takes its seed from the environment; it is a test.
        if listed(&source.path, PURE) && source.path != "src/cluster/sim.rs" {
            for tokens in IMPURE_TOKENS {
                for line in found(&source.tokens, tokens) {
                    complaints.push(format!(
                        "{}:{line}: {tokens} in a pure room: take it as an argument",
                        source.path
                    ));
                }
            }
        }
    }
    report(complaints);
}

#[test]
fn tidy_unsafe_is_listed_and_argued() {
    let mut complaints = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for line in found(&source.tokens, "unsafe {") {
            let above = &lines[line.saturating_sub(12)..line];
            if !above.iter().any(|text| text.contains("SAFETY:")) {
                complaints.push(format!("{}:{line}: unsafe without // SAFETY:", source.path));
            }
        }
        let uses = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
        let lines = uses.iter().flat_map(|tokens| found(&source.tokens, tokens));
        if !UNSAFE_FILES.iter().any(|(path, _)| *path == source.path) {
            for line in lines {
                complaints.push(format!(
                    "{}:{line}: unsafe outside the listed files: use a function of one of them",
                    source.path
                ));
            }
        }
    }
    report(complaints);
}

#[test]
fn tidy_nothing_banned_is_said() {
    let unfinished = [concat!("FIX", "ME"), concat!("TO", "DO:"), concat!("X", "XX")];
    let mut complaints = Vec::new();
    for source in sources() {
        for (tokens, instead) in BANNED {
            for line in found(&source.tokens, tokens) {
                complaints.push(format!("{}:{line}: {tokens}: {instead}", source.path));
            }
        }
        if is_test(&source.path) {
            for line in found(&source.tokens, "sleep (") {
                complaints.push(format!(
                    "{}:{line}: a test sleeps: wait for a message with a deadline",
                    source.path
                ));
            }
        }
    }
    for path in files(&["src", "tests", "benches", "kernelspec"]) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if unfinished.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{path}:{}: unfinished: finish it", index + 1));
            }
        }
    }
    report(complaints);
}

#[test]
fn tidy_every_file_is_declared() {
    let sources = sources();
    let mut complaints = Vec::new();
    let manifest = fs::read_to_string(root().join("src/cluster/Cargo.toml"));
    let manifest = manifest.expect("the crate has a manifest");
    for source in &sources {
        let path = Path::new(&source.path);
        let is_bench = manifest.contains(&format!("path = \"../../{}\"", source.path));
        let name =
            path.file_name().and_then(|name| name.to_str()).expect("a listed file has a name");
        if ROOTS.contains(&name) || is_bench {
            continue;
        }
        let (folder, module) = match (name, path.parent()) {
            ("mod.rs", Some(folder)) => (folder.parent(), folder.file_name()),
            (_, folder) => (folder, path.file_stem()),
        };
        let (Some(folder), Some(module)) = (folder.and_then(Path::to_str), module) else {
            continue;
        };
        let declaration = format!("mod {} ;", module.to_string_lossy());
        let by_path = format!("path = \"{name}\"");
        let declared = sources.iter().any(|other| {
            let says = !found(&other.tokens, &declaration).is_empty();
            may_declare(&other.path, folder) && (says || other.text.contains(&by_path))
        });
        if !declared {
            complaints.push(format!("{}: nobody declares it: delete or use it", source.path));
        }
    }
    report(complaints);
}

#[test]
fn tidy_the_runtime_needs_nothing_but_std() {
    let manifest = fs::read_to_string(root().join("src/runtime/Cargo.toml")).expect("a manifest");
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or("");
    let entries = dependencies.lines().take_while(|line| !line.starts_with('[')).filter(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    assert_eq!(entries.count(), 0, "prust-runtime is compiled by the user's rustc alone");
}

#[test]
fn tidy_the_rules_find_what_they_forbid() {
    let tokens =
        flat("fn f() { zmq::poll(); let s = \"zmq::x dbg!(1)\"; dbg!(s); unsafe { g() } }");
    assert_eq!(found(&tokens, "zmq : :").len(), 1);
    assert_eq!(found(&tokens, "dbg ! (").len(), 1);
    assert_eq!(found(&tokens, "unsafe {").len(), 1);
    let tokens =
        flat("use crate::{wire::Frames, cell}; use crate::worker; fn f() { crate::client::g() }");
    let named: Vec<String> = rooms_named(&tokens).into_iter().map(|(name, _)| name).collect();
    assert_eq!(named, ["wire", "cell", "worker", "client"]);
}

struct Functions<'a> {
    path: &'a str,
    complaints: &'a mut Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (from, to) = (block.span().start().line, block.span().end().line);
        let n_lines = to + 1 - from;
        if n_lines > FUNCTION_LINES_MAX {
            let path = self.path;
            self.complaints.push(format!("{path}:{from}: {name} has {n_lines} lines: split it"));
        }
    }
}

impl Visit<'_> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.measure(&function.sig.ident, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.measure(&function.sig.ident, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}

fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "the house is not tidy:\n{}\n", complaints.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let paths =
        files(&["src", "tests", "benches"]).into_iter().filter(|path| path.ends_with(".rs"));
    paths
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("a listed file can be read");
            let syntax = syn::parse_file(&text)
                .unwrap_or_else(|error| panic!("{path}: {error} at {:?}", error.span().start()));
            let tokens = flat(&text);
            Source { path, text, syntax, tokens }
        })
        .collect()
}

/// Paths of all files below some folders, relative to the repository, in order.
fn files(folders: &[&str]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else { continue };
        for entry in entries {
            let entry = entry.expect("a folder of the repository can be listed");
            let path = folder.join(entry.file_name());
            let name = entry.file_name();
            if ["__pycache__", "shots"].iter().any(|made| name == *made) {
                continue;
            }
            if entry.file_type().expect("an entry has a type").is_dir() {
                open.push(path);
            } else {
                found.insert(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.into_iter().collect()
}

fn room(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap_or(path);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// True for a file that is listed by its name or by its folder.
fn listed(path: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| path == *entry || entry.ends_with('/') && path.starts_with(entry))
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("tests.rs")
}

/// True for files whose `mod x;` means a file in `folder`: those in it, and the one beside it.
fn may_declare(path: &str, folder: &str) -> bool {
    Path::new(path).parent() == Some(Path::new(folder)) || path == format!("{folder}.rs")
}
