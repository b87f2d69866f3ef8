//! The network face of one worker: registers with a controller as ipyparallel's engines do, beats,
//! takes work, publishes what it prints, answers. Never runs user code in its own process, and
//! decides nothing outside [`state::Engine`].
//!
//! One loop (`outside.rs`): an event, [`state::Engine::handle`], its effects. Work from all sockets
//! goes through one queue, one piece at a time. An engine registers only when its worker is ready,
//! so an engine that is announced is usable.
mod ahead;
mod event;
mod flags;
mod libraries;
mod nanny;
mod outside;
mod publish;
pub mod python;
mod reply;
mod request;
mod sockets;
mod state;
mod work;
mod workshop;

#[cfg(test)]
mod tests;

use std::io::Write;

use flags::{Flags, LogLevel};

/// Runs one engine to its end; `args` are those behind `prust engine`. Returns the exit code: 0 for
/// an end that somebody asked for, 1 for everything else, with the reason in the log.
pub fn run(args: Vec<String>) -> i32 {
    let flags = match Flags::read(&args, &|name| std::env::var(name).ok()) {
        Ok(flags) => flags,
        Err(error) => {
            start_log(LogLevel::Info);
            tracing::error!("failed to {error}");
            return 1;
        }
    };
    if flags.nanny {
        return nanny::run();
    }
    if flags.help {
        // A closed pipe is the reader's choice.
        let _ = std::io::stdout().write_all(HELP.as_bytes());
        return 0;
    }
    start_log(flags.log_level);
    if let Some(work_dir) = &flags.work_dir
        && let Err(error) = std::env::set_current_dir(work_dir)
    {
        tracing::error!("failed to enter the working directory {}: {error}", work_dir.display());
        return 1;
    }
    for ignored in &flags.ignored {
        tracing::info!("{ignored} means nothing to a Rust engine and is ignored");
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        // As a task of its own: waking the root future costs a system call each time.
        Ok(runtime) => runtime.block_on(async {
            tokio::spawn(crate::process::collect_orphans());
            tokio::spawn(outside::run(flags)).await.unwrap_or_else(|error| {
                tracing::error!("the engine's loop ended early: {error}");
                1
            })
        }),
        Err(error) => {
            tracing::error!("failed to start the event loop: {error}");
            1
        }
    }
}

fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    // Somebody above may have started a log already; theirs is as good.
    let _ = log.with_max_level(level).try_init();
}

const HELP: &str = "\
prust engine: one Rust engine of an ipyparallel cluster

Usage: prust engine [--file=FILE | --profile=NAME | --profile-dir=DIR] [--cluster-id=ID]

  --file=FILE         the connection file, ipcontroller-engine.json
  --profile=NAME      or the IPython profile that has it (default: default)
  --profile-dir=DIR   or that profile's directory
  --cluster-id=ID     the cluster's id, part of the file's name
  --work-dir=DIR      where cells run
  --timeout=SECONDS   how long file, worker and controller may each take (default: 10)
  --location=HOST     the address of a controller that listens on every interface
  --id=N, --mpi       the id to ask for; the rank of this MPI process
  --uuid=NAME         the name of this engine (default: made up)
  --owner-stdin       end when standard input, a pipe, is closed
  --log-level=LEVEL   10, 20, 30, 40 or a name (default: INFO)

The environment variables IPP_CONNECTION_INFO, IPP_CLUSTER_ID and IPP_PROFILE_DIR are understood;
other settings of Python's ipengine are ignored with a line in the log.
";
