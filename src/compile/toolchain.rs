//! The user's Rust toolchain: where rustc and the shared standard library are. Runs rustc only to
//! ask; engines are told by who starts them, because asking takes longer than all else in their
//! start.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{CompileError, Settings};

/// The environment variable by which an engine is told what its owner has found.
pub const TOOLCHAIN: &str = "PRUST_TOOLCHAIN";

/// A toolchain that can build cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Toolchain {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    /// `rustc -vV`: version, commit and host.
    pub(super) version: String,
    pub(super) host: String,
    /// Where `libstd-*.so` is.
    pub(super) libdir: PathBuf,
    /// `None` where rustc brings no linker along, or the C compiler cannot be asked.
    pub(super) linker: Option<Linker>,
}

/// The linker that comes with rustc. Called without the C compiler in between it takes half the
/// time; a cell is mostly waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Linker {
    pub(super) program: PathBuf,
    /// Where the C compiler would have it look for libraries.
    pub(super) search: Vec<PathBuf>,
}

impl Toolchain {
    /// Finds rustc, and past a rustup shim the compiler itself (the shim costs tens of milliseconds
    /// a call). What the settings know of it is believed as long as it is there.
    pub(super) fn find(settings: &Settings) -> Result<Self, CompileError> {
        if let Some(known) = settings.toolchain.as_deref().and_then(Self::told) {
            return Ok(known);
        }
        let asked = settings.rustc.clone().unwrap_or_else(|| PathBuf::from("rustc"));
        let version = ask(&asked, &["-vV"])?;
        let answer = ask(&asked, &["--print", "sysroot", "--print", "target-libdir"])?;
        let bad =
            |why: &str| CompileError::BadRustc { program: asked.clone(), why: why.to_owned() };
        let paths: Vec<&str> = answer.lines().collect();
        let [sysroot, libdir] = paths[..] else {
            return Err(bad("it names no sysroot"));
        };
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .ok_or_else(|| bad("it names no host"))?
            .to_owned();
        let libdir = PathBuf::from(libdir);
        if !has_shared_std(&libdir) {
            return Err(CompileError::NoSharedStd { libdir });
        }
        let linker = Linker::find(&libdir.join("../bin/rust-lld"));
        let direct = Path::new(sysroot).join("bin/rustc");
        let rustc =
            if settings.rustc.is_none() && direct.is_file() { direct } else { asked.clone() };
        let beside = Path::new(sysroot).join("bin/cargo");
        let cargo = settings
            .cargo
            .clone()
            .unwrap_or_else(|| if beside.is_file() { beside } else { PathBuf::from("cargo") });
        Ok(Self { rustc, cargo, version, host, libdir, linker })
    }

    /// In the words of the environment variable; nothing if its paths are not text.
    pub(super) fn tell(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    fn told(text: &str) -> Option<Self> {
        let told: Self = serde_json::from_str(text).ok()?;
        (told.rustc.is_file() && has_shared_std(&told.libdir)).then_some(told)
    }
}

/// Finds the toolchain for the engines that this process will start: the value of [`TOOLCHAIN`].
/// Nothing if it cannot be found or told: the engines ask, then, and say what is wrong. Blocks.
pub fn toolchain(settings: &Settings) -> Option<String> {
    Toolchain::find(settings).ok()?.tell()
}

impl Linker {
    fn find(program: &Path) -> Option<Self> {
        let program = program.canonicalize().ok()?;
        let answer = ask(Path::new("cc"), &["-print-search-dirs"]).ok()?;
        let search = folders(&answer);
        (!search.is_empty()).then_some(Self { program, search })
    }
}

/// The folders in the C compiler's line `libraries: =a:b`, each once, that exist.
fn folders(answer: &str) -> Vec<PathBuf> {
    let line = answer.lines().find_map(|line| line.strip_prefix("libraries: ="));
    let mut found = Vec::new();
    for folder in line.unwrap_or_default().split(':') {
        if let Ok(folder) = Path::new(folder).canonicalize()
            && !found.contains(&folder)
        {
            found.push(folder);
        }
    }
    found
}

fn has_shared_std(libdir: &Path) -> bool {
    std::fs::read_dir(libdir).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".so")
        })
    })
}

fn ask(program: &Path, arguments: &[&str]) -> Result<String, CompileError> {
    let output = crate::process::output(Command::new(program).args(arguments))
        .map_err(|source| CompileError::NoRustc { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CompileError::BadRustc { program: program.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_an_owner_has_found_is_believed_while_it_is_there() {
        let asks = Settings::default();
        let found = Toolchain::find(&asks).expect("there is a rustc");
        let knows = |toolchain: &Toolchain| {
            let toolchain = toolchain.tell();
            Settings { toolchain, rustc: Some("no-such-rustc".into()), ..Settings::default() }
        };
        assert_eq!(Toolchain::find(&knows(&found)).expect("nobody is asked"), found);
        let gone = Toolchain { rustc: "/nowhere/rustc".into(), ..found };
        assert!(Toolchain::find(&knows(&gone)).is_err(), "somebody else is asked");
        let unknown = std::ffi::OsString::from_vec(b"/\xff/rustc".to_vec());
        assert_eq!(Toolchain { rustc: unknown.into(), ..gone }.tell(), None);
    }

    #[test]
    fn the_c_compilers_folders_are_read_once_each() {
        let answer = "install: /x\nlibraries: =/usr/lib/:/usr/lib/../lib:/nowhere/at/all:/usr\n";
        let usr_lib = Path::new("/usr/lib").canonicalize().expect("every system has it");
        assert_eq!(folders(answer), [usr_lib, PathBuf::from("/usr")]);
        assert_eq!(folders("install: /x"), Vec::<PathBuf>::new());
    }
}
