//! The door to cargo: its environment, the call, what it says meanwhile and which files it made.
//! Dropping a running call ends cargo and its children (an interrupt).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::toolchain::Toolchain;
use super::{CompileError, manifest};
use crate::process;

/// The profile of the generated manifests; its own name keeps the user's settings for `dev` and
/// `release` out.
pub(super) const PROFILE: &str = "prust";

/// What cargo would take over from the environment, to other results for other people.
const NOT_OURS: [&str; 12] = [
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_TERM_QUIET",
    "CARGO_TERM_VERBOSE",
    "CARGO_UNSTABLE_BUILD_STD",
    "CARGO_PRIMARY_PACKAGE",
    "RUSTC_BOOTSTRAP",
    "RUSTC_LOG",
];

/// Is told each line that cargo says about its progress.
pub(super) type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// One cargo call.
pub(super) struct Call<'a> {
    pub(super) toolchain: &'a Toolchain,
    /// The generated project's folder.
    pub(super) project: &'a Path,
    /// Where everything is built.
    pub(super) target: PathBuf,
    pub(super) offline: bool,
    /// A program between cargo and rustc, with its environment.
    pub(super) wrapper: Option<(PathBuf, Vec<(String, String)>)>,
    pub(super) tell: Tell,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// A crate that cargo built: its name as code writes it, and its files.
#[derive(Clone, Debug)]
pub(super) struct Artifact {
    pub(super) package: String,
    pub(super) name: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) proc_macro: bool,
}

/// What one `cargo build` made, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Artifacts {
    pub(super) crates: Vec<Artifact>,
    /// Folders with native libraries, from build scripts.
    pub(super) native: Vec<PathBuf>,
    /// Whether code in other languages becomes part of a crate.
    pub(super) foreign: bool,
    /// Errors as rustc rendered them, with the packages they are in.
    pub(super) errors: String,
}

#[derive(Deserialize)]
struct Line {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    linked_paths: Vec<String>,
    #[serde(default)]
    linked_libs: Vec<String>,
    message: Option<Rendered>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Rendered {
    level: String,
    rendered: Option<String>,
}

impl Call<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.toolchain.cargo);
        NOT_OURS.iter().for_each(|name| {
            command.env_remove(name);
        });
        let (wrapper, extra) = match &self.wrapper {
            Some((program, extra)) => (program.as_path(), extra.as_slice()),
            None => (Path::new(""), [].as_slice()),
        };
        command
            .current_dir(self.project)
            .args(arguments)
            .args(["--config", "term.quiet=false", "--config", "term.verbose=false"])
            .args(self.offline.then_some("--offline"))
            .env("RUSTC", &self.toolchain.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", "-Cprefer-dynamic")
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_BUILD_BUILD_DIR", &self.target)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .env("RUSTC_WRAPPER", wrapper)
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .envs(extra.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended, CompileError> {
        let program = &self.toolchain.cargo;
        let no_cargo = |source| CompileError::NoCargo { program: program.clone(), source };
        let mut command = self.command(arguments);
        process::end_with_us(command.as_std_mut());
        let mut child = process::spawn_async(&mut command).map_err(no_cargo)?;
        // An interrupt drops this call, and ends rustc and build scripts, too.
        let interrupted = child.id().map(process::GroupKill::new);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = tokio::join!(all(stdout), lines(stderr, &self.tell));
        let status = child.wait().await.map_err(no_cargo)?;
        interrupted.into_iter().for_each(process::GroupKill::disarm);
        Ok(Ended { success: status.success(), stdout, stderr })
    }

    /// Resolves the project and prints its packages, by `graph::FORMAT`.
    pub(super) async fn tree(&self) -> Result<Ended, CompileError> {
        let host = self.toolchain.host.as_str();
        let form = ["--prefix", "depth", "--format", super::graph::FORMAT, "--charset", "ascii"];
        let what = ["tree", "--edges", "normal,build", "--target", host];
        self.run(&[what.as_slice(), form.as_slice()].concat()).await
    }

    /// Builds the project.
    pub(super) async fn build(&self) -> Result<(Artifacts, Ended), CompileError> {
        let host = self.toolchain.host.as_str();
        let ended = self
            .run(&["build", "--message-format=json", "--profile", PROFILE, "--target", host])
            .await?;
        Ok((read(&ended.stdout), ended))
    }

    /// The packages that the project names, by the names that code has for them.
    pub(super) async fn direct(&self) -> Result<Direct, CompileError> {
        let host = self.toolchain.host.as_str();
        let ended =
            self.run(&["metadata", "--format-version", "1", "--filter-platform", host]).await?;
        Ok(direct(&ended.stdout).unwrap_or_default())
    }
}

/// Names and packages of the notebook, and of what every notebook has.
#[derive(Debug, Default)]
pub(super) struct Direct {
    pub(super) notebook: Vec<(String, String)>,
    pub(super) base: Vec<(String, String)>,
}

async fn all(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What came before a broken pipe is what there is.
        let _ = from.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn lines(from: Option<impl AsyncRead + Unpin>, tell: &Tell) -> String {
    let mut said = String::new();
    let Some(from) = from else { return said };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = from.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        tell(text.trim());
        said.push_str(&text);
        line.clear();
    }
    said
}

fn read(stdout: &str) -> Artifacts {
    let mut artifacts = Artifacts::default();
    for line in stdout.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        match (line.reason.as_str(), line.target, line.message) {
            ("compiler-artifact", Some(target), _) => {
                let proc_macro = target.kind.iter().any(|kind| kind == "proc-macro");
                let is_library = proc_macro || target.kind.iter().any(|kind| kind.ends_with("lib"));
                if is_library {
                    let name = target.name.replace('-', "_");
                    let (package, files) = (line.package_id, line.filenames);
                    artifacts.crates.push(Artifact { package, name, files, proc_macro });
                }
            }
            ("build-script-executed", ..) => {
                let plain = |path: &String| {
                    PathBuf::from(path.split_once('=').map_or(path.as_str(), |(_, path)| path))
                };
                artifacts.native.extend(line.linked_paths.iter().map(plain));
                artifacts.foreign |= line.linked_libs.iter().any(|lib| lib.starts_with("static"));
            }
            ("compiler-message", _, Some(message)) if message.level == "error" => {
                artifacts.errors.push_str(&message.rendered.unwrap_or_default());
            }
            _ => (),
        }
    }
    artifacts
}

fn direct(metadata: &str) -> Option<Direct> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let resolve = metadata.get("resolve")?;
    let root = resolve.get("root")?.as_str()?;
    let nodes = resolve.get("nodes")?.as_array()?;
    let named = |package: &str| {
        let node = nodes.iter().find(|node| node["id"].as_str() == Some(package))?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let normal = node["deps"].as_array()?.iter().filter(|dependency| {
            let kinds = dependency["dep_kinds"].as_array();
            kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        });
        let both = |of: &serde_json::Value| Some((text(&of["name"])?, text(&of["pkg"])?));
        normal.map(both).collect::<Option<Vec<_>>>()
    };
    let all = named(root)?;
    let is_base = |(name, _): &&(String, String)| manifest::is_generated(&name.replace('_', "-"));
    let base = named(&all.iter().find(is_base)?.1)?;
    let notebook = all.into_iter().filter(|one| !is_base(&one)).collect();
    Some(Direct { notebook, base })
}
