//! The door to rustc: one call, one crate. Dropping a running call ends the compiler (an
//! interrupt).

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::CompileError;
use super::toolchain::Toolchain;
use crate::process;

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
    /// Makes two crates of one name two crates; usually the name again.
    pub(super) metadata: String,
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) opt_level: u8,
    pub(super) cwd: PathBuf,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) success: bool,
    /// JSON lines.
    pub(super) stderr: String,
}

impl Call {
    /// The flags that change what comes out; part of the library's content hash.
    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = [
            "--edition=2024",
            "-Cprefer-dynamic",
            "-Coverflow-checks=on",
            "-Cdebuginfo=line-tables-only",
            "-Cembed-bitcode=no",
            "-Ccodegen-units=1",
            "-Clink-arg=-Wl,-rpath,$ORIGIN",
        ]
        .map(str::to_owned)
        .into();
        flags.push(format!("-Copt-level={}", self.opt_level));
        flags.push(match self.crate_type {
            CrateType::Dylib => "--crate-type=dylib".into(),
            CrateType::Cdylib => "--crate-type=cdylib".into(),
        });
        flags
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = self.flags();
        arguments.push(format!("--crate-name={}", self.crate_name));
        arguments.push(format!("-Cmetadata={}", self.metadata));
        arguments.push("--error-format=json".into());
        arguments.push("--cap-lints=warn".into());
        for (name, path) in &self.externs {
            arguments.push(format!("--extern={name}={}", path.display()));
        }
        for folder in &self.search {
            arguments.push(format!("-Ldependency={}", folder.display()));
        }
        for folder in &self.native {
            arguments.push(format!("-Lnative={}", folder.display()));
            // Found at run time, too, also by libraries that such a library needs in turn.
            arguments.push(format!("-Clink-arg=-Wl,-rpath,{}", folder.display()));
            arguments.push("-Clink-arg=-Wl,--disable-new-dtags".to_owned());
        }
        if let Some(exports) = &self.exports {
            arguments.push(format!("-Clink-arg=-Wl,--version-script={}", exports.display()));
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

    /// Runs rustc to its end.
    ///
    /// # Errors
    /// When rustc cannot be started; a program that does not compile is a normal end.
    pub(super) async fn run(&self, toolchain: &Toolchain) -> Result<Ended, CompileError> {
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
