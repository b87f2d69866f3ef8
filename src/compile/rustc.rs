//! The door to rustc: one call, one crate. Dropping a running call ends the compiler (an
//! interrupt).

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::CompileError;
use super::toolchain::{Linker, Toolchain};
use crate::process;

/// This file decides what a library is made of, beside its source.
pub(super) const SELF: &str = include_str!("rustc.rs");

/// rustc's words when the linker refuses.
const LINKING_FAILED: &str = "linking with `";

/// What kind of library to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrateType {
    /// A unit: later cells link it.
    Dylib,
    /// A leaf: nothing links it.
    Cdylib,
}

/// One rustc call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) crate_name: String,
    pub(super) crate_type: CrateType,
    pub(super) source: PathBuf,
    /// The library to write.
    pub(super) output: PathBuf,
    /// Where to write MIR, if its types are wanted.
    pub(super) mir: Option<PathBuf>,
    pub(super) externs: Vec<(String, PathBuf)>,
    pub(super) search: Vec<PathBuf>,
    /// Folders with libraries in other languages.
    pub(super) native: Vec<PathBuf>,
    /// Says which symbols the library shows, beside those of Rust.
    pub(super) exports: Option<PathBuf>,
    pub(super) loading: Loading,
    /// Makes two crates of one name two crates; usually the name again.
    pub(super) metadata: String,
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) opt_level: u8,
    pub(super) cwd: PathBuf,
    /// `None`: the C compiler links.
    pub(super) linker: Option<Linker>,
}

/// What the dynamic loader is to make of a library, where that is not what follows from its text.
#[derive(Clone, Debug, Default)]
pub(super) struct Loading {
    /// The file that is loaded in its place, without `lib` and `.so`.
    pub(super) instead: Option<String>,
    /// Libraries that are loaded with it in any case, and searched before those that these need.
    pub(super) needs: Vec<PathBuf>,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) success: bool,
    /// JSON lines.
    pub(super) stderr: String,
}

/// A unit is compiled in as many parts at once. rustc puts what the user wrote into one and generic
/// code into the others, and copies what is small or a closure: hot loops are as fast as in one
/// part, and a cell of items takes a quarter less time on two cores.
const CODEGEN_UNITS_MAX: usize = 4;

fn codegen_units() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(CODEGEN_UNITS_MAX)
}

impl Call {
    /// The flags that change what comes out; part of the library's content hash.
    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = [
            "--edition=2024",
            "-Cprefer-dynamic",
            "-Coverflow-checks=on",
            // A type must not hang on the level that its crate happens to be compiled at.
            "-Cdebug-assertions=off",
            "-Cdebuginfo=line-tables-only",
            "-Cembed-bitcode=no",
        ]
        .map(str::to_owned)
        .into();
        flags.push(format!("-Copt-level={}", self.opt_level));
        let n_parts = match self.crate_type {
            CrateType::Dylib if self.opt_level > 0 => codegen_units(),
            CrateType::Dylib | CrateType::Cdylib => 1,
        };
        flags.push(format!("-Ccodegen-units={n_parts}"));
        if n_parts > 1 {
            // Optimising across the parts again would cost what they have saved.
            flags.push("-Clto=off".into());
        }
        flags.push(match self.crate_type {
            CrateType::Dylib => "--crate-type=dylib".into(),
            CrateType::Cdylib => "--crate-type=cdylib".into(),
        });
        if let Some(Linker { program, search }) = &self.linker {
            flags.push(format!("-Clinker={}", program.display()));
            flags.push("-Clinker-flavor=ld.lld".into());
            // Small libraries are linked before a second thread has begun.
            flags.push("-Clink-arg=--threads=1".into());
            flags.extend(search.iter().map(|folder| format!("-Clink-arg=-L{}", folder.display())));
        }
        flags.push(self.for_linker("-rpath", "$ORIGIN"));
        flags
    }

    /// An option of the linker's, by whatever way it is called.
    fn for_linker(&self, option: &str, value: &str) -> String {
        let through = if self.linker.is_some() { "" } else { "-Wl," };
        let equals = if value.is_empty() { "" } else { "=" };
        format!("-Clink-arg={through}{option}{equals}{value}")
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = self.flags();
        arguments.push(format!("--crate-name={}", self.crate_name));
        arguments.push(format!("-Cmetadata={}", self.metadata));
        arguments.push("--error-format=json".into());
        for (name, path) in &self.externs {
            arguments.push(format!("--extern={name}={}", path.display()));
        }
        for folder in &self.search {
            arguments.push(format!("-Ldependency={}", folder.display()));
        }
        for folder in &self.native {
            arguments.push(format!("-Lnative={}", folder.display()));
            // Found at run time, too, also by libraries that such a library needs in turn.
            arguments.push(self.for_linker("-rpath", &folder.display().to_string()));
            arguments.push(self.for_linker("--disable-new-dtags", ""));
        }
        if let Some(exports) = &self.exports {
            arguments.push(self.for_linker("--version-script", &exports.display().to_string()));
        }
        if let Some(file) = &self.loading.instead {
            arguments.push(self.for_linker("-soname", &format!("lib{file}.so")));
        }
        if !self.loading.needs.is_empty() {
            arguments.push(self.for_linker("--no-as-needed", ""));
            let needs = self.loading.needs.iter();
            arguments.extend(needs.map(|library| format!("-Clink-arg={}", library.display())));
        }
        // Object files on their way go here, not into the user's directory, where two processes
        // that compile the same cell would take each other's away.
        if let Some(folder) = self.output.parent() {
            arguments.push(format!("--out-dir={}", folder.display()));
        }
        let link = format!("link={}", self.output.display());
        match &self.mir {
            Some(mir) => arguments.push(format!("--emit=mir={},{link}", mir.display())),
            None => arguments.push(format!("--emit={link}")),
        }
        if self.mir.is_some() {
            arguments.push("-Ztrim-diagnostic-paths=no".into());
        }
        arguments.push(self.source.display().to_string());
        arguments
    }

    /// Runs rustc to its end. What cannot be linked directly is linked by the C compiler, which
    /// knows more of the system.
    ///
    /// # Errors
    /// When rustc cannot be started; a program that does not compile is a normal end.
    pub(super) async fn run(&self, toolchain: &Toolchain) -> Result<Ended, CompileError> {
        let ended = self.run_once(toolchain).await?;
        if ended.success || self.linker.is_none() || !ended.stderr.contains(LINKING_FAILED) {
            return Ok(ended);
        }
        let through_cc = Self { linker: None, ..self.clone() };
        through_cc.run_once(toolchain).await
    }

    async fn run_once(&self, toolchain: &Toolchain) -> Result<Ended, CompileError> {
        let mut command = Command::new(&toolchain.rustc);
        command
            .args(self.arguments())
            .current_dir(&self.cwd)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.mir.is_some() {
            // Only for our own leaf: the one unstable flag that prints types by their full paths.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        process::end_with_us(command.as_std_mut());
        let failed = |source| CompileError::Run { program: toolchain.rustc.clone(), source };
        let child = process::spawn_async(&mut command).map_err(failed)?;
        let output = child.wait_with_output().await.map_err(failed)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Ended { success: output.status.success(), stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_linked_directly_is_linked_by_the_c_compiler() {
        let scratch = process::Scratch::new().expect("there is room");
        let folder = scratch.path();
        let source = folder.join("leaf_1.rs");
        std::fs::write(&source, "#[unsafe(no_mangle)]\npub fn entry() {}\n").expect("it is ours");
        let settings = crate::compile::Settings {
            cache: folder.to_owned(),
            cwd: folder.to_owned(),
            ..crate::compile::Settings::default()
        };
        let mut toolchain = Toolchain::find(&settings).expect("tests need one");
        let refusing = Linker { program: "/bin/false".into(), search: vec![folder.to_owned()] };
        let output = folder.join("libleaf_1.so");
        let call = |linker: Option<Linker>| Call {
            crate_name: "leaf_1".into(),
            crate_type: CrateType::Cdylib,
            source: source.clone(),
            output: output.clone(),
            mir: None,
            externs: Vec::new(),
            search: Vec::new(),
            native: Vec::new(),
            exports: None,
            loading: Loading::default(),
            metadata: "leaf_1".into(),
            environment: Vec::new(),
            opt_level: 0,
            cwd: folder.to_owned(),
            linker,
        };
        let refused = call(Some(refusing.clone())).run_once(&toolchain).await.expect("it runs");
        assert!(!refused.success && refused.stderr.contains(LINKING_FAILED), "{}", refused.stderr);
        let ended = call(Some(refusing)).run(&toolchain).await.expect("it runs");
        assert!(ended.success && output.is_file(), "{}", ended.stderr);
        let direct = toolchain.linker.take();
        assert!(direct.is_some(), "rustup's toolchains bring a linker along");
        let ended = call(direct).run_once(&toolchain).await.expect("it runs");
        assert!(ended.success, "{}", ended.stderr);
    }
}
