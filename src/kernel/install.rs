//! `prust install`: puts the kernelspec where Jupyter looks for it, and has the worker and the
//! libraries that cells link against built ahead of time. Never touches another kernel's files.
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arguments::{compile_settings, say};
use crate::compile::Compiler;
use crate::process::output_of;

const HELP: &str = "\
prust install: make the kernel known to Jupyter

  prust install --user          for this user
  prust install --prefix DIR    below DIR/share/jupyter
  prust install --sys-prefix    into the active virtual or conda environment

  --no-build                    do not build the worker and its libraries now
";

/// The kernelspec's files; its program is put in when it is installed.
const KERNEL_JSON: &str = include_str!("../../kernelspec/kernel.json");
const LOGOS: [(&str, &[u8]); 3] = [
    ("logo-32x32.png", include_bytes!("../../kernelspec/logo-32x32.png")),
    ("logo-64x64.png", include_bytes!("../../kernelspec/logo-64x64.png")),
    ("logo-svg.svg", include_bytes!("../../kernelspec/logo-svg.svg")),
];

#[derive(Debug, PartialEq, Eq)]
enum Target {
    User,
    Prefix(PathBuf),
    SysPrefix,
}

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    target: Target,
    build: bool,
}

/// Runs `prust install`; `args` are those behind it. Returns the exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    let arguments = match read(args) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return say(HELP, 0),
        Err(problem) => return say(&format!("prust install: {problem}\n\n{HELP}"), 2),
    };
    match install(&arguments) {
        Ok(directory) => say(&format!("installed the kernel in {}\n", directory.display()), 0),
        Err(problem) => say(&format!("prust install: {problem}\n"), 1),
    }
}

fn read(args: Vec<OsString>) -> Result<Option<Arguments>, String> {
    use lexopt::prelude::{Long, Short};
    let mut target = None;
    let mut build = true;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let chosen = match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("no-build") => {
                build = false;
                continue;
            }
            Long("user") => Target::User,
            Long("sys-prefix") => Target::SysPrefix,
            Long("prefix") => {
                Target::Prefix(parser.value().map_err(|error| error.to_string())?.into())
            }
            other => return Err(other.unexpected().to_string()),
        };
        if target.replace(chosen).is_some() {
            return Err("choose one of --user, --prefix and --sys-prefix".to_owned());
        }
    }
    match target {
        Some(target) => Ok(Some(Arguments { target, build })),
        None => Err("say where: --user, --prefix DIR or --sys-prefix".to_owned()),
    }
}

fn install(arguments: &Arguments) -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Err("prust runs on Linux with glibc only".to_owned());
    }
    let data = data_directory(&arguments.target)?;
    let exe = std::env::current_exe().map_err(|error| format!("cannot find itself: {error}"))?;
    let directory = data.join("kernels").join("prust");
    write(&directory, &exe)
        .map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
    if arguments.build {
        let settings = compile_settings(&|name| std::env::var_os(name))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the event loop: {error}"))?;
        let opened = runtime.block_on(Compiler::open(settings));
        opened.map_err(|error| {
            format!("the kernel is installed, but cells cannot be compiled yet: {error}")
        })?;
    }
    Ok(directory)
}

fn write(directory: &Path, exe: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut spec: Value = serde_json::from_str(KERNEL_JSON).expect("our own kernelspec is JSON");
    spec["argv"][0] = exe.to_string_lossy().into_owned().into();
    let text = serde_json::to_string_pretty(&spec).expect("it was JSON before");
    fs::write(directory.join("kernel.json"), text + "\n")?;
    for (name, bytes) in LOGOS {
        fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}

/// Jupyter's data directory of the target.
fn data_directory(target: &Target) -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let below = |prefix: PathBuf| prefix.join("share").join("jupyter");
    match target {
        Target::Prefix(prefix) => {
            // The kernelspec would name a place that depends on where somebody stands.
            let prefix = std::path::absolute(prefix)
                .map_err(|error| format!("cannot use {}: {error}", prefix.display()))?;
            Ok(below(prefix))
        }
        Target::User => {
            let home = || set("HOME").map(PathBuf::from).ok_or("HOME is not set");
            match (set("JUPYTER_DATA_DIR"), set("XDG_DATA_HOME")) {
                (Some(data), _) => Ok(data.into()),
                (None, Some(data)) => Ok(PathBuf::from(data).join("jupyter")),
                (None, None) => Ok(home()?.join(".local/share/jupyter")),
            }
        }
        Target::SysPrefix => match set("VIRTUAL_ENV").or_else(|| set("CONDA_PREFIX")) {
            Some(prefix) => Ok(below(prefix.into())),
            None => python_prefix().map(below),
        },
    }
}

/// Where the Python on the path keeps its files.
fn python_prefix() -> Result<PathBuf, String> {
    let hint = "activate the environment, or use --prefix";
    let output = output_of("python3", &["-c", "import sys; print(sys.prefix)"])
        .map_err(|error| format!("cannot ask python3 for its prefix: {error}; {hint}"))?;
    let prefix = output.trim();
    if prefix.is_empty() {
        return Err(format!("python3 does not say what its prefix is; {hint}"));
    }
    Ok(prefix.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &[&str]) -> Result<Option<Arguments>, String> {
        read(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn one_target_has_to_be_chosen() {
        let user = Arguments { target: Target::User, build: true };
        assert_eq!(read_words(&["--user"]), Ok(Some(user)));
        let prefix = Arguments { target: Target::Prefix("/opt".into()), build: false };
        assert_eq!(read_words(&["--no-build", "--prefix=/opt"]), Ok(Some(prefix)));
        assert!(read_words(&[]).expect_err("none").contains("--user"));
        assert!(read_words(&["--user", "--sys-prefix"]).expect_err("two").contains("one of"));
        assert!(read_words(&["--prefix"]).is_err());
    }

    #[test]
    fn the_kernelspec_names_this_program_and_has_its_logos() {
        let directory = std::env::temp_dir().join(format!("prust-spec-{}", std::process::id()));
        write(&directory, Path::new("/opt/bin/prust")).expect("the directory is writable");
        let text = fs::read_to_string(directory.join("kernel.json")).expect("it was written");
        let spec: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(spec["argv"][0], "/opt/bin/prust");
        assert!(
            spec["argv"].as_array().expect("a list").iter().any(|word| word == "{connection_file}")
        );
        assert_eq!(
            (spec["language"].as_str(), spec["interrupt_mode"].as_str()),
            (Some("rust"), Some("message"))
        );
        assert!(directory.join("logo-svg.svg").is_file());
        fs::remove_dir_all(directory).expect("it is ours");
    }
}
