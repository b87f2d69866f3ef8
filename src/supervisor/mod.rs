//! `prust cluster`: a controller and its engines that outlive notebooks. The supervisor is a
//! process with the controller as a thread and the pool of engines as its children; the other
//! commands look for it by its files and ask its controller. Compiles nothing, runs no user code.
//!
//! Reading order: `arguments`, `record` (the files that say what runs), `serve` (the supervisor's
//! loop), `detach` (how it becomes a daemon), then `inspect` (list, status, dump, stop).
mod arguments;
mod detach;
mod inspect;
mod record;
mod serve;

use std::fmt;
use std::io::Write;

use self::arguments::{Command, read};

const HELP: &str = "\
Usage: prust cluster COMMAND [OPTIONS]

Runs a controller and its engines that outlive notebooks; a notebook uses them after
%cluster attach, a Python ipyparallel.Client by the profile or the connection file.

  start     start one; without --detach it stays in the foreground until Ctrl-C
  stop      end it and its engines
  list      the clusters of the profile, alive or stale
  status    engines, queues, rates; also of an ipcontroller, as far as it tells
  dump      the whole state of the controller as JSON, for bug reports

  --profile=NAME       the profile in the IPython directory (default: default)
  --profile-dir=DIR    or the profile's directory
  --ipython-dir=DIR    the IPython directory (default: $IPYTHONDIR or ~/.ipython)
  --cluster-id=ID      tells several clusters of a profile apart

start:
  -n N                 how many engines (default: one per core, at least two)
  --detach             go on without the terminal, until prust cluster stop
  --restore            go on with the records of the cluster before: results by their ids
                       (a detached cluster keeps them in security/tasks[-ID].db)
  --ip=IP              the address to listen on (default: 127.0.0.1; * for all)
  --location=HOST      where others find this machine
  --work-dir=DIR       where the engines' cells run (default: here)
  --log-level=LEVEL    debug, info, warn, error (default: warn)

status:
  --json               for programs

A cluster that a notebook starts for itself has no files in a profile and ends with its
kernel: list shows those that were started by this command, and controllers of other
programs (prust controller, ipcontroller).
";

/// Runs one of the commands; returns the exit code.
pub fn run(args: Vec<String>) -> i32 {
    let command = match read(args, &|name| std::env::var_os(name)) {
        Ok(Some(command)) => command,
        Ok(None) => return say(HELP),
        Err(error) => return fail(&error, 2),
    };
    match command {
        Command::Start(options) if options.detach => detach::start(&options),
        Command::Start(options) => serve::run(options),
        Command::List(place) => inspect::list(&place),
        Command::Status { place, json } => inspect::status(&place, json),
        Command::Dump(place) => inspect::dump(&place),
        Command::Stop(place) => inspect::stop(&place),
    }
}

/// Writes to standard output; the exit code of a command that went well.
fn say(text: &str) -> i32 {
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}

/// Tells why a command failed, and hands the exit code on.
fn fail(error: &dyn fmt::Display, code: i32) -> i32 {
    // Nobody is left to be told that nobody listens.
    let _ = writeln!(std::io::stderr(), "prust cluster: {error}");
    code
}
