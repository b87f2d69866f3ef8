//! `:dep` through compiler and worker, without a kernel: what crates give cells, and what adding
//! one keeps.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use prust_kernel::compile::{DependencyError, Progress};

use super::support::notebook::{Fault, Notebook};

/// A folder that is gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("prust-it-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path).expect("it is new");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is inside")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
        self
    }

    /// A package with this library.
    fn package(name: &str, manifest: &str, library: &str) -> Self {
        let folder = Self::new();
        let head =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        folder.write("Cargo.toml", &(head + manifest)).write("src/lib.rs", library);
        folder
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What adding dependencies has said and cost.
#[derive(Debug, Default)]
struct Told {
    /// Crates named before the build as changing.
    changes: BTreeSet<String>,
    /// Packages that were compiled.
    compiled: Vec<String>,
    /// Variables that are lost.
    lost: Vec<String>,
}

async fn try_add(nb: &mut Notebook, text: &str) -> Result<Told, DependencyError> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let tell = {
        let said = said.clone();
        Arc::new(move |progress| said.lock().expect("nobody panics with it").push(progress))
    };
    let added = nb.compiler.add_dependencies(nb.namespace.set.as_ref(), text, tell).await?;
    let renewal = nb.compiler.renewal(&nb.namespace, &added.set).await.expect("items follow");
    nb.namespace.apply(&renewal.delta);
    let mut told = Told { lost: renewal.delta.unkept, ..Told::default() };
    for progress in said.lock().expect("nobody panics with it").drain(..) {
        match progress {
            Progress::Changes(crates) => told.changes = crates,
            Progress::Line(line) => {
                let compiled = line.strip_prefix("Compiling ");
                told.compiled.extend(compiled.map(str::to_owned));
            }
            Progress::Packages(_) => (),
        }
    }
    Ok(told)
}

async fn add(nb: &mut Notebook, text: &str) -> Told {
    try_add(nb, text).await.unwrap_or_else(|error| panic!("{error}\n{}", error.output()))
}

async fn ok(nb: &mut Notebook, text: &str) {
    nb.run(text).await.unwrap_or_else(|fault| panic!("{text}\n{fault:?}"));
}

async fn value(nb: &mut Notebook, text: &str) -> String {
    match nb.run(text).await {
        Ok(shown) => shown.value.unwrap_or_default(),
        Err(fault) => panic!("{text}\n{fault:?}"),
    }
}

const LOGGER: &str = "struct Out;\n\
    impl log::Log for Out {\n\
        fn enabled(&self, _: &log::Metadata) -> bool { true }\n\
        fn log(&self, record: &log::Record) { println!(\"[{}]\", record.args()); }\n\
        fn flush(&self) {}\n\
    }\n\
    log::set_logger(&Out).map_err(|error| error.to_string())?;\n\
    log::set_max_level(log::LevelFilter::Info);";

#[tokio::test]
async fn a_logger_set_in_one_cell_logs_in_the_next_and_after_another_dependency() {
    let mut nb = Notebook::open().await;
    add(&mut nb, "log = \"0.4\"").await;
    ok(&mut nb, LOGGER).await;
    ok(&mut nb, "fn tell(n: u8) { log::info!(\"fn {n}\"); }").await;
    let shown = nb.run("log::info!(\"one\"); tell(1);").await.expect("it runs");
    assert_eq!(shown.stdout, "[one]\n[fn 1]\n");
    add(&mut nb, "once_cell = \"1\"").await;
    ok(&mut nb, "fn after() { log::info!(\"after\"); }").await;
    let shown = nb.run("log::info!(\"two\"); tell(2); after();").await.expect("it runs");
    assert_eq!(shown.stdout, "[two]\n[fn 2]\n[after]\n");
}

#[tokio::test]
async fn adding_a_crate_keeps_the_values_of_those_that_stay() {
    let mut nb = Notebook::open().await;
    ok(&mut nb, "struct Held { v: serde_json::Value }").await;
    ok(&mut nb, "let held = Held { v: serde_json::json!({\"a\": [1, 2]}) };").await;
    add(&mut nb, "fastrand").await;
    ok(&mut nb, "let mut rng = fastrand::Rng::with_seed(7); let before = rng.fork().u32(..);")
        .await;
    ok(
        &mut nb,
        "let mut same = fastrand::Rng::with_seed(7); same.fork(); let next = same.u64(..);",
    )
    .await;
    let told = add(&mut nb, "once_cell = \"1\"").await;
    assert_eq!((told.lost, told.changes), (Vec::new(), BTreeSet::new()));
    ok(&mut nb, "static CELL: once_cell::sync::OnceCell<u8> = once_cell::sync::OnceCell::new();")
        .await;
    ok(&mut nb, "CELL.set(3).unwrap();").await;
    let told = add(&mut nb, "log = \"0.4\"").await;
    assert_eq!((told.lost, told.changes), (Vec::new(), BTreeSet::new()));
    let shown =
        value(&mut nb, "(rng.u64(..) == next, held.v[\"a\"][1].as_u64(), CELL.get())").await;
    assert_eq!(shown, "(true, Some(2), Some(3))");
}

#[tokio::test]
async fn one_rayon_pool_serves_all_cells() {
    let mut nb = Notebook::open().await;
    add(&mut nb, "rayon = \"1\"").await;
    ok(
        &mut nb,
        "use rayon::prelude::*;\n\
         rayon::ThreadPoolBuilder::new().num_threads(3).build_global()?;",
    )
    .await;
    assert_eq!(value(&mut nb, "rayon::current_num_threads()").await, "3");
    add(&mut nb, "log = \"0.4\"").await;
    ok(&mut nb, "fn sum(n: u32) -> u32 { (0..n).into_par_iter().sum() }").await;
    assert_eq!(value(&mut nb, "(sum(10), rayon::current_num_threads())").await, "(45, 3)");
}

#[tokio::test]
async fn values_of_a_crate_whose_features_change_are_named_before_and_never_reinterpreted() {
    let mut nb = Notebook::open().await;
    add(&mut nb, "fastrand = { version = \"2\", default-features = false }").await;
    ok(&mut nb, "struct Dice { rng: fastrand::Rng, n: u8 }\nfn plain() -> u8 { 4 }").await;
    ok(&mut nb, "fn roll(rng: &mut fastrand::Rng) -> u8 { rng.u8(1..=6) }").await;
    ok(
        &mut nb,
        "let mut rng = fastrand::Rng::with_seed(7); let kept = vec![1, 2];\n\
         let dice = Dice { rng: fastrand::Rng::with_seed(1), n: 2 };",
    )
    .await;
    let told = add(&mut nb, "fastrand = \"2\"").await;
    assert_eq!(told.lost, ["rng"]);
    assert!(told.changes.contains("fastrand"), "{told:?}");
    let Err(Fault::Compile(_)) = nb.run("roll(&mut rng)").await else { panic!("it is lost") };
    let shown = value(&mut nb, "(kept.len(), dice.n, plain())").await;
    assert_eq!(shown, "(2, 2, 4)");
    ok(&mut nb, "let mut rng = fastrand::Rng::new(); let one = roll(&mut rng);").await;
    ok(&mut nb, "impl Dice { fn faces(&self) -> u8 { self.n } }").await;
    let new = "Dice { rng: fastrand::Rng::new(), n: 6 }.faces()";
    assert_eq!(value(&mut nb, new).await, "6");
}

#[tokio::test]
async fn derives_of_crates_and_renamed_ones_work_and_cargos_variables_are_there() {
    let mut nb = Notebook::open().await;
    add(&mut nb, "thiserror = \"2\"\nlazy-cell = { package = \"once_cell\", version = \"1\" }")
        .await;
    let text = "#[derive(Debug, thiserror::Error)]\n#[error(\"bad {0}\")]\nstruct Bad(u8);\n\
        let bad = Bad(3);\nlet cell = lazy_cell::sync::OnceCell::with_value(5);\nbad.to_string()";
    assert_eq!(value(&mut nb, text).await, "\"bad 3\"");
    assert_eq!(value(&mut nb, "(bad.0, cell.get())").await, "(3, Some(5))");
    let text = "#[derive(serde::Serialize, serde::Deserialize, Debug)] struct P { x: u8 }\n\
        serde_json::from_str::<P>(&serde_json::to_string(&P { x: 1 })?)?";
    assert_eq!(value(&mut nb, text).await, "P { x: 1 }");
    let text =
        "(env!(\"CARGO_PKG_NAME\"), std::path::Path::new(env!(\"CARGO_MANIFEST_DIR\")).is_dir())";
    assert_eq!(value(&mut nb, text).await, "(\"notebook\", true)");
}

const C_BUILD: &str = r#"
use std::process::Command;
fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        assert!(Command::new(program).args(arguments).status().unwrap().success());
    };
    run("cc", &["-c", "-fPIC", "three.c", "-o", &format!("{out}/three.o")]);
    run("ar", &["rcs", &format!("{out}/libthree.a"), &format!("{out}/three.o")]);
    run("cc", &["-shared", "-fPIC", "five.c", "-o", &format!("{out}/libfive.so")]);
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=static=three");
    println!("cargo::rustc-link-lib=dylib=five");
}
"#;

const C_LIBRARY: &str = "unsafe extern \"C\" { fn three(x: i32) -> i32; fn five(x: i32) -> i32; }\n\
    pub fn both(x: i32) -> i32 { unsafe { three(x) + five(x) } }\n\
    pub fn generic<T: Into<i32>>(x: T) -> i32 { unsafe { three(x.into()) } }\n";

#[tokio::test]
async fn build_scripts_link_c_code_static_and_shared() {
    let folder = Folder::package("with-c", "", C_LIBRARY);
    folder
        .write("build.rs", C_BUILD)
        .write("three.c", "int three(int x) { return 3 * x; }")
        .write("five.c", "int five(int x) { return 5 * x; }");
    let mut nb = Notebook::open().await;
    let line = format!("with-c = {{ path = {:?} }}", folder.path());
    add(&mut nb, &line).await;
    ok(&mut nb, "fn eight(x: i32) -> i32 { with_c::both(x) }").await;
    assert_eq!(value(&mut nb, "(eight(1), with_c::generic(2))").await, "(8, 6)");
}

#[tokio::test]
async fn a_crates_macro_around_a_type_makes_it_for_later_cells() {
    let mut nb = Notebook::open().await;
    add(&mut nb, "bitflags = \"2\"").await;
    ok(&mut nb, "use bitflags::bitflags;").await;
    let text = "bitflags! {\n    #[derive(Clone, Copy, Debug, PartialEq)]\n    \
                struct Flags: u8 { const A = 1; const B = 2; }\n}\nlet both = Flags::A | Flags::B;";
    ok(&mut nb, text).await;
    ok(&mut nb, "impl Flags { fn n(self) -> u32 { self.bits().count_ones() } }").await;
    assert_eq!(value(&mut nb, "(both.n(), both.contains(Flags::A))").await, "(2, true)");
    ok(&mut nb, "bitflags::bitflags! { pub struct Other: u8 { const C = 4; } }").await;
    assert_eq!(value(&mut nb, "(Other::C.bits(), both.n())").await, "(4, 2)");
}

#[tokio::test]
async fn an_edited_package_is_built_anew_and_the_rest_stays() {
    let folder = Folder::package("local", "", "pub struct L(pub u8);\npub fn f() -> u8 { 1 }\n");
    let mut nb = Notebook::open().await;
    let line = format!("local = {{ path = {:?} }}\nfastrand = \"2\"", folder.path());
    add(&mut nb, &line).await;
    ok(&mut nb, "let rng = fastrand::Rng::with_seed(1); let l = local::L(2);").await;
    ok(&mut nb, "fn calls() -> u8 { local::f() + 10 }").await;
    assert_eq!(value(&mut nb, "(calls(), local::f())").await, "(11, 1)");
    assert!(!nb.compiler.is_edited(nb.namespace.set.as_ref()));
    folder.write("src/lib.rs", "pub struct L(pub u64);\npub fn f() -> u8 { 2 } // edited\n");
    assert!(nb.compiler.is_edited(nb.namespace.set.as_ref()));
    let told = add(&mut nb, "").await;
    assert_eq!(told.lost, ["l"]);
    let users = told.compiled.iter().filter(|line| !line.starts_with("prust-"));
    assert_eq!(users.count(), 1, "{told:?}");
    assert_eq!(value(&mut nb, "(calls(), local::f(), rng.get_seed())").await, "(12, 2, 1)");
    folder.write("src/lib.rs", "pub fn f() -> u8 { \"three\" }\n");
    let error = try_add(&mut nb, "").await.expect_err("it is no number");
    assert_eq!(error.to_string(), "`local` does not compile");
    assert!(error.output().contains("src/lib.rs:1:20"), "{}", error.output());
}

#[tokio::test]
async fn a_git_repository_is_a_source() {
    let folder = Folder::package("from-git", "", "pub fn word() -> &'static str { \"git\" }\n");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=T", "-c", "user.email=t@example.invalid"]).args(arguments);
        let ended = git.current_dir(folder.path()).output().expect("git is installed");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    git(&["init", "--quiet", "--initial-branch=trunk"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=first"]);
    let mut nb = Notebook::open().await;
    let source = format!("git = \"file://{}\", branch = \"trunk\"", folder.path().display());
    add(&mut nb, &format!("from-git = {{ {source} }}")).await;
    assert_eq!(value(&mut nb, "from_git::word()").await, "\"git\"");
}

#[tokio::test]
async fn a_bad_dependency_is_named_and_not_kept() {
    let mut nb = Notebook::open().await;
    add(&mut nb, "log = \"0.4\"").await;
    let before = nb.namespace.clone();
    let bad = [
        ("prust-no-such-crate-0 = \"1\"", "there is no crate `prust-no-such-crate-0`"),
        ("fastrand = \"99\"", "`fastrand` has no version 99; there are"),
        (
            "fastrand = { version = \"2\", features = [\"nope\"] }",
            "`fastrand` has no feature `nope`; it has",
        ),
        ("fastrand = { versoin = \"2\" }", "`versoin` says nothing here"),
        ("fastrand = { path = \"no/such/folder\" }", "no crate at no/such/folder"),
        ("fastrand = = 2", "`fastrand = = 2` is no dependency"),
        ("fastrand = \"not a version\"", "not a version"),
    ];
    for (text, expected) in bad {
        let error = try_add(&mut nb, text).await.expect_err(text);
        let said = format!("{error}\n{}", error.output());
        assert!(said.contains(expected), "{text}\n{said}");
        assert!(!said.contains("prust-notebook") && !said.contains("/projects/"), "{said}");
        assert_eq!(nb.namespace, before);
    }
    ok(&mut nb, "log::info!(\"still there\");").await;
}

#[tokio::test]
async fn a_second_notebook_with_the_same_crates_builds_nothing() {
    let text = "fastrand = \"2\"\nlog";
    let mut first = Notebook::open().await;
    add(&mut first, text).await;
    let mut second = Notebook::open().await;
    // What cargo would say is not even asked for.
    assert_eq!(add(&mut second, text).await.compiled, [""; 0]);
    assert_eq!(first.namespace.set, second.namespace.set);
}
