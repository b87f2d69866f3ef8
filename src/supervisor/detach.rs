//! How a supervisor becomes a daemon: it is started in a session of its own, with a log in the
//! place of the terminal, and is waited for until it has said that it can be used.
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::arguments::{Options, Place};
use super::serve::{Ready, StartError, Told};
use crate::process;

/// Starts a cluster that goes on by itself; returns the exit code.
pub(super) fn start(options: &Options) -> i32 {
    match started(options) {
        Ok(ready) => super::say(&ready.to_string()),
        Err(error) => super::fail(&error, 1),
    }
}

/// Where the log of a detached cluster is: beside those of ipyparallel's clusters.
pub(super) fn log_path(place: &Place) -> PathBuf {
    let infix = match place.cluster_id.as_str() {
        "" => String::new(),
        id => format!("-{id}"),
    };
    place.profile_dir.join("log").join(format!("prust-cluster{infix}.log"))
}

fn started(options: &Options) -> Result<Ready, StartError> {
    let log = log_path(&options.place);
    let stderr =
        open_log(&log).map_err(|source| StartError::Directory { path: log.clone(), source })?;
    let exe = std::env::current_exe().map_err(StartError::Process)?;
    let mut command = Command::new(exe);
    command.arg("cluster").args(&options.args).arg("--daemon-of-prust");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    process::in_own_session(&mut command);
    let mut daemon = process::spawn(&mut command).map_err(StartError::Process)?;
    let mut line = String::new();
    if let Some(stdout) = daemon.stdout.take() {
        // The daemon writes one line and keeps the pipe; nobody reads on.
        BufReader::new(stdout).read_line(&mut line).map_err(StartError::Process)?;
    }
    match serde_json::from_str(&line) {
        Ok(Told::Ready(ready)) => Ok(ready),
        Ok(Told::Failed(told)) => Err(StartError::Told(told)),
        Err(_) => {
            let status = daemon.wait().map_err(StartError::Process)?;
            Err(StartError::Daemon { status: status.to_string(), log })
        }
    }
}

/// Begins the log anew: it is this process's now, and would grow from start to start.
pub(super) fn empty_log(place: &Place) {
    if let Ok(log) = OpenOptions::new().write(true).open(log_path(place)) {
        // Else it goes on where the one before has ended.
        let _ = log.set_len(0);
    }
}

/// The log, for its owner only.
fn open_log(path: &Path) -> io::Result<std::fs::File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // Appended to: another cluster may run there, and is only refused by the daemon.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
