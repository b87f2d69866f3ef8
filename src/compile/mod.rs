//! From a planned cell to a library: the user's rustc, cargo for dependencies, the
//! content-addressed store. Never loads what it builds, never talks to a worker.
//!
//! [`Compiler::open`] finds the toolchain and has the runtime, the worker and the `prust` crate
//! ready; [`Compiler::cell`] takes a cell to a library: a unit for its items, a leaf for its
//! statements, each one rustc call. A cell that does not compile changes nothing.

use std::path::PathBuf;

mod base;
mod blame;
mod books;
mod cargo;
mod cell;
mod dependencies;
mod graph;
mod imports;
mod layers;
mod leaf;
mod local;
mod manifest;
mod measured;
mod nameable;
mod refusal;
mod refused;
mod remedies;
mod rustc;
mod store;
mod sweep;
mod terms;
mod told;
mod toolchain;
mod trail;
mod trampoline;
mod travel;
mod units;
mod verdict;
mod wanted;

pub use books::Place;
pub use cell::{Cell, Compiled, Compiler, Failed};
pub use dependencies::{Added, Progress, Renewal, Tell};
pub use manifest::is_generated;
pub use refusal::DependencyError;
pub use toolchain::{TOOLCHAIN, toolchain};
pub use trampoline::{NoTrampoline, Trampoline};
pub use travel::{Found, Stranded, is_library_name};

/// Where things are and which tools to use; read from the environment by `main` alone.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The cache directory of the user, for example `~/.cache/prust`.
    pub cache: PathBuf,
    /// A rustc to use instead of the one on the path (`RUSTC`).
    pub rustc: Option<PathBuf>,
    /// A cargo to use instead of the one on the path (`CARGO`).
    pub cargo: Option<PathBuf>,
    /// The notebook's directory: where cells are compiled and run.
    pub cwd: PathBuf,
    /// What another process of ours has found, as [`Compiler::toolchain`] tells it.
    pub toolchain: Option<String>,
}

/// Why nothing can be compiled here. Each names the thing and what to do.
#[derive(Debug)]
pub enum CompileError {
    NoRustc { program: PathBuf, source: std::io::Error },
    BadRustc { program: PathBuf, why: String },
    NoSharedStd { libdir: PathBuf },
    Cache { path: PathBuf, source: std::io::Error },
    Base { what: &'static str, output: String },
    NoCargo { program: PathBuf, source: std::io::Error },
    Run { program: PathBuf, source: std::io::Error },
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRustc { program, source } => write!(
                f,
                "cannot run the Rust compiler `{}`: {source}. Install Rust (https://rustup.rs) and \
                 make \
                 sure that the notebook server's PATH has it, or set RUSTC to its path",
                program.display()
            ),
            Self::BadRustc { program, why } => {
                write!(f, "`{}` does not answer like a Rust compiler: {why}", program.display())
            }
            Self::NoSharedStd { libdir } => write!(
                f,
                "this Rust toolchain has no shared standard library (no libstd-*.so in {}). Some \
                 distributions leave it out: install their package for it, or use a toolchain from \
                 https://rustup.rs",
                libdir.display()
            ),
            Self::Cache { path, source } => write!(
                f,
                "cannot use the cache directory {}: {source}. Make it writable, or set \
                 XDG_CACHE_HOME to \
                 a directory that is",
                path.display()
            ),
            Self::Base { what, output } => write!(f, "failed to build {what}:\n{output}"),
            Self::NoCargo { program, source } => write!(
                f,
                "cannot run `{}`: {source}. It comes with Rust (https://rustup.rs)",
                program.display()
            ),
            Self::Run { program, source } => {
                write!(f, "cannot run `{}`: {source}", program.display())
            }
        }
    }
}

impl std::error::Error for CompileError {}
