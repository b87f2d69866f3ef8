//! Libraries on hosts where they were not compiled: looked for in this host's store by name, and
//! kept there when a client brings them. A name is a hash of what a library was made from, in a
//! store whose own name is a hash of toolchain and prust version: the same name is the same
//! library.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use object::{Object, ReadCache};

use super::cell::Compiler;
use super::store::{self, Store};

/// What the names of libraries in a store start with: cells', and those of the base and of
/// dependencies.
const PREFIXES: [&str; 3] = ["leaf_", "unit_", "prust"];

/// Where a library is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Here(PathBuf),
    /// Neither it nor these that it needs, as far as is known, are on this host.
    Lacks(Vec<String>),
}

/// Why a library cannot be had on this host.
#[derive(Debug)]
pub enum Stranded {
    /// It was compiled by another toolchain, or for another version of prust.
    OtherStore {
        library: PathBuf,
        own: String,
    },
    /// Nobody has it.
    Nowhere {
        library: PathBuf,
    },
    /// A name that is not that of a library.
    Name {
        name: String,
    },
    Store {
        name: String,
        source: io::Error,
    },
}

impl std::error::Error for Stranded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store { source, .. } => Some(source),
            Self::OtherStore { .. } | Self::Nowhere { .. } | Self::Name { .. } => None,
        }
    }
}

impl std::fmt::Display for Stranded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherStore { library, own } => write!(
                f,
                "{} is not on this host's file system, and cannot be sent: it was compiled by \
                 another rustc or for another version of prust than this host has (its cache is \
                 {own}); install the same ones on both hosts",
                library.display()
            ),
            Self::Nowhere { library } => write!(
                f,
                "{} is neither on this host's file system nor does the client have it",
                library.display()
            ),
            Self::Name { name } => write!(f, "{name:?} is not the name of a library"),
            Self::Store { name, source } => {
                write!(f, "cannot keep {name} in this host's cache: {source}")
            }
        }
    }
}

impl Compiler {
    /// Looks for a library that a client names, and for what it needs; the client has none of
    /// `absent`.
    ///
    /// # Errors
    /// [`Stranded`] when it cannot ever be here.
    pub fn find(&self, library: &Path, absent: &HashSet<String>) -> Result<Found, Stranded> {
        let store = &self.shared.store;
        // What is in the store may have been brought, and what it needs may not.
        if library.parent() != Some(&store.lib()) && library.is_file() {
            return Ok(Found::Here(library.to_owned()));
        }
        let mut whole = self.shared.whole.lock().unwrap_or_else(PoisonError::into_inner);
        find(store, library, absent, &mut whole)
    }

    /// Keeps a library that a client has brought.
    ///
    /// # Errors
    /// [`Stranded`]; nothing is kept then.
    pub fn take_in(&self, name: &str, bytes: &[u8]) -> Result<(), Stranded> {
        take_in(&self.shared.store, name, bytes)
    }

    /// Where this host's libraries are.
    pub fn libraries(&self) -> PathBuf {
        self.shared.store.lib()
    }
}

/// Whether a text is the name of a library in a store, and of no other file: those of Rust and of
/// the system are on every host.
pub fn is_library_name(name: &str) -> bool {
    let stem = name.strip_prefix("lib").and_then(|name| name.strip_suffix(".so"));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    stem.is_some_and(|stem| {
        PREFIXES.iter().any(|prefix| stem.starts_with(prefix)) && stem.bytes().all(is_plain)
    })
}

/// `whole` are libraries of which all that they need was found before.
fn find(
    store: &Store,
    library: &Path,
    absent: &HashSet<String>,
    whole: &mut HashSet<String>,
) -> Result<Found, Stranded> {
    let own = store.root.file_name().unwrap_or_default();
    let theirs = library.parent().and_then(Path::parent).and_then(Path::file_name);
    if theirs != Some(own) {
        let (library, own) = (library.to_owned(), own.to_string_lossy().into_owned());
        return Err(Stranded::OtherStore { library, own });
    }
    let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !is_library_name(&name) {
        return Err(Stranded::Name { name });
    }
    if absent.contains(&name) {
        return Err(Stranded::Nowhere { library: library.to_owned() });
    }
    let (mut seen, mut next, mut lacks) = (HashSet::new(), vec![name.clone()], Vec::new());
    while let Some(name) = next.pop() {
        if absent.contains(&name) || whole.contains(&name) || !seen.insert(name.clone()) {
            continue;
        }
        hold(store, &name)?;
        match needed(&store.lib().join(&name)) {
            Ok(needed) => next.extend(needed.into_iter().filter(|name| is_library_name(name))),
            Err(_) => lacks.push(name),
        }
    }
    if !lacks.is_empty() {
        return Ok(Found::Lacks(lacks));
    }
    whole.extend(seen);
    Ok(Found::Here(store.lib().join(name)))
}

/// The names of the libraries that one is linked to.
fn needed(library: &Path) -> io::Result<Vec<String>> {
    // A dependency set's may be large, and what is looked at is at a few places.
    let bytes = ReadCache::new(File::open(library)?);
    let file = object::File::parse(&bytes).map_err(io::Error::other)?;
    let libraries = file.import_libraries().map_err(io::Error::other)?;
    let names = libraries.filter_map(|library| {
        library.ok().map(|library| String::from_utf8_lossy(library.name()).into_owned())
    });
    Ok(names.collect())
}

fn take_in(store: &Store, name: &str, bytes: &[u8]) -> Result<(), Stranded> {
    if !is_library_name(name) {
        return Err(Stranded::Name { name: name.to_owned() });
    }
    hold(store, name)?;
    let path = store.lib().join(name);
    // Whatever is there may be loaded; it is the same.
    if path.is_file() {
        return Ok(());
    }
    store::write(&path, bytes).map_err(|source| Stranded::Store { name: name.to_owned(), source })
}

/// Says that this process uses a library, as whoever compiles one does.
fn hold(store: &Store, name: &str) -> Result<(), Stranded> {
    let stem = name.strip_prefix("lib").unwrap_or(name);
    let stem = stem.strip_suffix(".so").unwrap_or(stem);
    store.hold(stem).map_err(|source| Stranded::Store { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;

    fn store(key: &str) -> (Scratch, Store) {
        let scratch = Scratch::new().expect("there is room");
        let store = Store::open(scratch.path(), key).expect("it can be made");
        (scratch, store)
    }

    /// The bytes of a library that is linked to another.
    fn linked(store: &Store, name: &str, to: Option<&str>) -> Vec<u8> {
        let at = store.root.join(format!("lib{name}.so"));
        let mut linker = std::process::Command::new("cc");
        linker.args(["-shared", "-nostdlib", "-Wl,--no-as-needed", "-o"]).arg(&at);
        linker.arg(format!("-Wl,-soname,lib{name}.so"));
        linker.args(to.map(|to| store.root.join(format!("lib{to}.so"))));
        linker.args(["-x", "c", "/dev/null"]);
        assert!(linker.status().expect("there is a compiler").success());
        std::fs::read(at).expect("it was just written")
    }

    fn names(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_not_here_is_named_until_it_has_come_with_all_that_it_needs() {
        let (_scratch, store) = store("key");
        let elsewhere = Path::new("/home/u/.cache/prust/key/lib/libleaf_1.so");
        let mut whole = HashSet::new();
        let mut look = |absent: &[&str]| {
            find(&store, elsewhere, &names(absent), &mut whole).expect("it may be had")
        };
        let lacks = |name: &str| Found::Lacks(vec![name.to_owned()]);
        let unit = linked(&store, "unit_1", None);
        let leaf = linked(&store, "leaf_1", Some("unit_1"));
        assert_eq!(look(&[]), lacks("libleaf_1.so"));
        take_in(&store, "libleaf_1.so", &leaf).expect("there is room");
        assert_eq!(look(&[]), lacks("libunit_1.so"));
        take_in(&store, "libunit_1.so", &unit).expect("there is room");
        let here = Found::Here(store.lib().join("libleaf_1.so"));
        assert_eq!(look(&[]), here);
        // What was found once is not looked at again.
        std::fs::write(store.lib().join("libunit_1.so"), b"").expect("there is room");
        assert_eq!(look(&[]), here);
    }

    #[test]
    fn what_cannot_be_had_says_why() {
        let (_scratch, store) = store("key");
        let look = |library: &str, absent: &[&str]| {
            let mut whole = HashSet::new();
            let library = Path::new(library);
            let found = find(&store, library, &names(absent), &mut whole);
            found.expect_err("it cannot be had").to_string()
        };
        assert!(look("/c/other/lib/libleaf_1.so", &[]).contains("another rustc"));
        let nobody = look("/c/key/lib/libleaf_1.so", &["libleaf_1.so"]);
        assert!(nobody.contains("nor does the client"), "{nobody}");
        assert!(look("/c/key/lib/passwd", &[]).contains("not the name"));
        for name in ["../libleaf_1.so", "leaf_1.json", "libleaf_/x.so", "libleaf_1", "libc.so.6"] {
            take_in(&store, name, b"").expect_err("it is no library");
        }
    }
}
