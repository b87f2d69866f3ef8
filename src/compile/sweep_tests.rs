//! Tests of the sweep: what goes, in which order, and what stays whatever it takes.
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::process;

const BYTES: usize = 1000;
/// What a library of these tests takes: itself, its record, its source.
const LIBRARY_BYTES: u64 = 3 * BYTES as u64;

struct Cache(PathBuf);

impl Cache {
    fn new() -> Self {
        let name = format!("prust-sweep-test-{}", uuid::Uuid::new_v4().simple());
        Self(std::env::temp_dir().join(name))
    }

    fn open(&self, key: &str) -> Store {
        Store::open(&self.0, key).expect("the temporary directory can be written")
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // A leftover of a test harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts a library into a store that was used so many days after 1970.
fn put(store: &Store, name: &str, day: u64) {
    let files = [
        store.lib().join(format!("lib{name}.so")),
        store.src().join(format!("{name}.rs")),
        store.record(name),
    ];
    for path in files {
        fs::write(&path, vec![0; BYTES]).expect("it can be written");
        set_used(&path, day);
    }
}

fn set_used(path: &Path, day: u64) {
    let file = fs::File::options().append(true).open(path).expect("it is there");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400);
    file.set_modified(at).expect("it is ours");
}

/// Tests beside this one start processes, and a process that has not become its program yet holds
/// our locks with us: what is let go is free a moment later.
fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "it never came to be so");
        std::thread::yield_now();
    }
}

fn sweeps_to(store: &Store, bytes_max: u64, expected: &[&str]) {
    eventually(|| {
        sweep(store, bytes_max);
        left(store) == expected
    });
}

fn left(store: &Store) -> Vec<String> {
    let files = entries(&store.lib()).into_iter().chain(entries(&store.src()));
    let names: std::collections::BTreeSet<String> =
        files.filter_map(|file| library_of(&file)).collect();
    names.into_iter().collect()
}

#[test]
fn what_was_used_longest_ago_goes_first_and_no_more_than_needed() {
    let cache = Cache::new();
    let store = cache.open("toolchain");
    for (name, day) in [("leaf_a", 3), ("unit_b", 1), ("leaf_c", 4), ("unit_d", 2)] {
        put(&store, name, day);
    }
    fs::write(store.lib().join("libprust_runtime.so"), [0; BYTES]).expect("it can be written");
    let limit = size_of(&cache.0) - LIBRARY_BYTES - 1;
    sweep(&store, limit + LIBRARY_BYTES + 1);
    assert_eq!(left(&store).len(), 4, "nothing goes below the limit");
    sweeps_to(&store, limit, &["leaf_a", "leaf_c"]);
    assert!(size_of(&cache.0) <= limit);
    assert!(!store.record("unit_b").exists() && !store.src().join("unit_b.rs").exists());
    sweeps_to(&store, 0, &[]);
    assert!(store.lib().join("libprust_runtime.so").exists(), "what all cells need stays");
}

#[test]
fn what_a_process_uses_or_builds_stays_and_a_use_counts() {
    let cache = Cache::new();
    let (store, other) = (cache.open("toolchain"), cache.open("toolchain"));
    for (name, day) in [("leaf_held", 1), ("leaf_other", 2), ("leaf_used", 3), ("leaf_idle", 4)] {
        put(&store, name, day);
    }
    store.hold("leaf_held").expect("it can be locked");
    other.hold("leaf_other").expect("it can be locked");
    let ended = cache.open("toolchain");
    ended.hold("leaf_used").expect("it can be locked");
    drop(ended);
    // Building: its scratch stays. One that nobody builds was left by somebody killed.
    let scratch = |name: &str| store::scratch_name(&store.lib().join(format!("lib{name}.so")));
    let (built, stray) = (scratch("leaf_new"), scratch("leaf_gone"));
    for folder in [&built, &stray] {
        fs::create_dir(folder).expect("it is new");
    }
    let lock = store.lock("leaf_new").expect("nobody has it");
    // The idle one is the oldest: a use counts.
    sweeps_to(&store, size_of(&cache.0) - 1, &["leaf_held", "leaf_other", "leaf_used"]);
    assert!(built.exists() && !stray.exists());
    drop((other, lock));
    sweeps_to(&store, 0, &["leaf_held"]);
    eventually(|| {
        sweep(&store, 0);
        !built.exists()
    });
}

#[test]
fn what_is_loaded_stays() {
    let cache = Cache::new();
    let store = cache.open("toolchain");
    put(&store, "leaf_idle", 2);
    put(&store, "leaf_loaded", 1);
    let library = store.lib().join("libleaf_loaded.so");
    let maps = fs::read_to_string("/proc/self/maps").expect("we are a process");
    let any = maps.lines().find(|line| line.contains("/libgcc_s"));
    let any = any.and_then(|line| line.find('/').map(|at| &line[at..]));
    fs::copy(any.expect("Rust's tests link it"), &library).expect("it can be copied");
    // It has loaded the library once it answers.
    let mut cat = Command::new("cat");
    cat.env("LD_PRELOAD", &library).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = process::spawn(&mut cat).expect("cat exists");
    let mut input = child.stdin.take().expect("it was asked for");
    std::io::Write::write_all(&mut input, b"x").expect("it reads");
    let mut answer = [0];
    let output = child.stdout.as_mut().expect("it was asked for");
    output.read_exact(&mut answer).expect("it answers");
    sweeps_to(&store, 0, &["leaf_loaded"]);
    drop(input);
    child.wait().expect("it is our child");
    sweeps_to(&store, 0, &[]);
}

#[test]
fn the_directory_of_another_toolchain_goes_when_nobody_uses_it() {
    let cache = Cache::new();
    let store = cache.open("new");
    let used = cache.open("used");
    for key in ["old", "used", "newer"] {
        put(&cache.open(key), "leaf_a", 1);
    }
    set_used(&cache.0.join("old/uses"), 1);
    set_used(&cache.0.join("used/uses"), 2);
    set_used(&cache.0.join("newer/uses"), 3);
    fs::create_dir(cache.0.join("of-a-user")).expect("it is new");
    let there = |key: &str| cache.0.join(key).exists();
    let bytes_max = size_of(&cache.0) - 1;
    eventually(|| {
        sweep(&store, bytes_max);
        !there("old")
    });
    assert!(there("used") && there("newer"));
    eventually(|| {
        sweep(&store, 0);
        !there("newer")
    });
    assert!(there("used") && there("of-a-user") && there("new"));
    drop(used);
    eventually(|| {
        sweep(&store, 0);
        !there("used")
    });
    assert!(entries(&cache.0).len() == 2, "{:?}", entries(&cache.0));
}

#[test]
fn a_directory_too_large_by_what_is_in_use_is_started_anew_when_nobody_uses_it() {
    let cache = Cache::new();
    let (store, other) = (cache.open("toolchain"), cache.open("toolchain"));
    let large = store.deps().join("libpolars.rlib");
    fs::write(&large, vec![0; BYTES]).expect("it can be written");
    sweep(&store, 10);
    drop(store);
    let store = cache.open("toolchain");
    assert!(large.exists(), "somebody uses it");
    drop((store, other));
    eventually(|| {
        cache.open("toolchain");
        !large.exists()
    });
    let store = cache.open("toolchain");
    sweep(&store, size_of(&cache.0));
    drop(store);
    fs::write(&large, b"").expect("it can be written");
    cache.open("toolchain");
    assert!(large.exists(), "it is no longer too large");
}
