//! From `prust kernel`'s arguments and the environment to settings, and then to a running kernel.
//! The one file of this room that reads the environment.
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use tokio::runtime::{Builder, Handle};

use super::executor;
use super::serve::{self, bind, serve};
use crate::{compile, process, wire, worker};

const HELP: &str = "\
prust kernel: a Jupyter kernel on a connection file; started by Jupyter, rarely by hand

  prust kernel -f CONNECTION_FILE

Ports of 0 in the file are chosen and written back. PRUST_LOG=debug says more on standard error.
";

/// Runs a kernel until it is shut down; `args` are those behind `prust kernel`. Returns the exit
/// code.
pub fn run(args: Vec<OsString>) -> i32 {
    let settings = match read(args, &|name| std::env::var_os(name)) {
        Ok(Some(settings)) => settings,
        Ok(None) => return say(HELP, 0),
        Err(problem) => return say(&format!("prust kernel: {problem}\n"), 2),
    };
    start_log();
    // All that a message passes is on one thread: another one would have to be woken. What computes
    // for long (the compiler's side of a cell) has threads of its own.
    let runtime = Builder::new_current_thread().enable_all().build();
    let computing = Builder::new_multi_thread().thread_name("prust-compiler").enable_all().build();
    match runtime.and_then(|runtime| Ok((runtime, computing?))) {
        Ok((runtime, computing)) => {
            let computing = computing.handle().clone();
            // As a task of its own: waking the root future costs a system call each time.
            let running = async { tokio::spawn(start(settings, computing)).await };
            match runtime.block_on(running) {
                Ok(Ok(())) => 0,
                Ok(Err(error)) => say(&format!("prust kernel: failed to {error}\n"), 1),
                Err(error) => say(&format!("prust kernel: ended early: {error}\n"), 1),
            }
        }
        Err(error) => say(&format!("prust kernel: failed to start its threads: {error}\n"), 1),
    }
}

async fn start(settings: Settings, computing: Handle) -> Result<(), serve::KernelError> {
    let Settings { face, executor } = settings;
    let bound = bind(face)?;
    tokio::spawn(process::collect_orphans());
    let (work, reports) = executor::start(executor, computing);
    serve(bound, work, reports).await;
    Ok(())
}

#[derive(Debug)]
struct Settings {
    face: serve::Settings,
    executor: executor::Settings,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// `None` asks for help.
fn read(args: Vec<OsString>, env: Environment<'_>) -> Result<Option<Settings>, String> {
    use lexopt::prelude::{Long, Short, Value};
    let mut file = None;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Short('f') | Long("connection-file") => {
                file = Some(parser.value().map_err(|error| error.to_string())?);
            }
            Value(value) if file.is_none() => file = Some(value),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let file = file.ok_or("it needs a connection file: prust kernel -f CONNECTION_FILE")?;
    let text = |name: &str| env(name).and_then(|value| value.into_string().ok());
    let n_cores = std::thread::available_parallelism().map_or(2, usize::from);
    let exe = std::env::current_exe().map_err(|error| format!("cannot find itself: {error}"))?;
    Ok(Some(Settings {
        face: serve::Settings {
            connection_file: PathBuf::from(file),
            parent_pid: text("JPY_PARENT_PID").and_then(|pid| pid.parse().ok()),
            username: text("USER").unwrap_or_else(|| "kernel".to_owned()),
        },
        executor: executor::Settings {
            compile: compile_settings(env)?,
            exe,
            session: uuid::Uuid::new_v4().to_string(),
            n_engines: n_cores.max(2),
            n_cores,
            profiles: wire::profiles::Profiles::read(env),
            snapshot_bytes_max: worker::snapshot_bytes_max(),
        },
    }))
}

/// Where cells are compiled, and with which tools; also for `install` and `doctor`.
pub(super) fn compile_settings(env: Environment<'_>) -> Result<compile::Settings, String> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = match set("XDG_CACHE_HOME") {
        Some(cache) => cache,
        None => set("HOME").ok_or("neither HOME nor XDG_CACHE_HOME is set")?.join(".cache"),
    };
    let cwd = std::env::current_dir()
        .map_err(|error| format!("cannot use the working directory: {error}"))?;
    Ok(compile::Settings {
        cache: cache.join("prust"),
        rustc: set("RUSTC"),
        cargo: set("CARGO"),
        cwd,
        toolchain: None,
    })
}

/// Logs to standard error; `PRUST_LOG` is `error`, `warn` (the default), `info`, `debug`, `trace`.
fn start_log() {
    let level = std::env::var("PRUST_LOG").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(tracing::Level::WARN);
    // A second subscriber is refused, and the first one is as good.
    let _ = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).try_init();
}

/// Writes to standard output if the code is 0, else to standard error; returns the code.
pub(super) fn say(text: &str, code: i32) -> i32 {
    // Nobody is left to be told that nobody listens.
    let _ = match code {
        0 => std::io::stdout().write_all(text.as_bytes()),
        _ => std::io::stderr().write_all(text.as_bytes()),
    };
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &[&str]) -> Result<Option<Settings>, String> {
        let env = |name: &str| match name {
            "HOME" => Some(OsString::from("/home/me")),
            "JPY_PARENT_PID" => Some(OsString::from("17")),
            _ => None,
        };
        read(words.iter().map(OsString::from).collect(), &env)
    }

    #[test]
    fn the_connection_file_is_read_in_all_ways() {
        for words in [&["-f", "a.json"][..], &["--connection-file=a.json"], &["a.json"]] {
            let settings = read_words(words).expect("it is right").expect("no help was asked for");
            assert_eq!(settings.face.connection_file, PathBuf::from("a.json"));
            assert_eq!(settings.face.parent_pid, Some(17));
            assert_eq!(settings.executor.compile.cache, PathBuf::from("/home/me/.cache/prust"));
        }
    }

    #[test]
    fn wrong_arguments_are_explained() {
        assert!(read_words(&[]).expect_err("no file").contains("-f"));
        assert!(read_words(&["-f"]).is_err());
        assert!(read_words(&["-f", "a", "--nonsense"]).expect_err("unknown").contains("nonsense"));
        assert!(read_words(&["-h"]).expect("help").is_none());
    }
}
