//! The commands that look at clusters that run: list, status, dump; and the one that ends them.
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::arguments::Place;
use super::record::{Files, Record, recorded};
use crate::client::ask::{AskError, Questions};
use crate::client::report::{Process, QUEUE_REQUEST, Report, STATUS_REQUEST};
use crate::process::{self, Signal};
use crate::wire;
use crate::wire::connection::{ClientFile, FileError};
use crate::wire::profiles::clusters_in;

/// How long a supervisor may take to end its engines, which have some seconds themselves.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why a command has nothing to tell.
#[derive(Debug)]
enum InspectError {
    File(FileError),
    Ask { file: PathBuf, source: AskError },
    Nothing { file: PathBuf },
    Foreign { file: PathBuf },
    Elsewhere { record: Box<Record>, source: AskError },
    Stays { record: Box<Record> },
    Process(std::io::Error),
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(source) => write!(f, "failed to {source}"),
            Self::Ask { file, source } => write!(f, "{}: {source}", file.display()),
            Self::Nothing { file } => {
                write!(f, "no cluster runs here: there is no {}", file.display())
            }
            Self::Foreign { file } => write!(
                f,
                "the controller of {} was not started by prust cluster: end it where it was \
                 started",
                file.display()
            ),
            Self::Elsewhere { record, source } => write!(
                f,
                "the cluster runs on {} (process {}) and does not answer: {source}",
                record.host, record.pid
            ),
            Self::Stays { record } => {
                write!(f, "process {} does not end, not even when killed", record.pid)
            }
            Self::Process(source) => write!(f, "failed to end the cluster: {source}"),
        }
    }
}

/// Shows every cluster of a profile; the exit code.
pub(super) fn list(place: &Place) -> i32 {
    let dir = &place.profile_dir;
    let mut ids = recorded(dir);
    ids.extend(clusters_in(dir).into_iter().map(|(id, _)| id));
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        return super::say(&format!("no clusters in {}\n", dir.display()));
    }
    let mut text = "cluster           state    engines  process  connection file\n".to_owned();
    for id in ids {
        let place = Place { profile_dir: dir.clone(), cluster_id: id };
        text.push_str(&row(&place));
    }
    super::say(&text)
}

fn row(place: &Place) -> String {
    let files = Files::of(place);
    let record = files.read();
    let answer = ask(place, "connection_request");
    let n_engines = answer.as_ref().ok().map(|answer| {
        let engines = answer["engines"].as_object();
        engines.map_or(0, serde_json::Map::len).to_string()
    });
    let state = match (&n_engines, files.is_held()) {
        (Some(_), true) => "running",
        (Some(_), false) => "foreign",
        (None, true) => "hangs",
        (None, false) => "stale",
    };
    let id = if place.cluster_id.is_empty() { "(default)" } else { &place.cluster_id };
    let n_engines = n_engines.unwrap_or_else(|| "-".to_owned());
    let pid = record.filter(|_| state != "foreign").map(|record| record.pid.to_string());
    let pid = pid.unwrap_or_else(|| "-".to_owned());
    let file = place.client_file();
    format!("{id:<16}  {state:<7}  {n_engines:>7}  {pid:>7}  {}\n", file.display())
}

/// Shows how a cluster is; the exit code.
pub(super) fn status(place: &Place, as_json: bool) -> i32 {
    let report = match report(place) {
        Ok(report) => report,
        Err(error) => return super::fail(&error, 1),
    };
    let record = Files::of(place).read();
    if as_json {
        let mut all = report.to_json();
        all["client_file"] = json!(place.client_file());
        all["supervisor"] = json!(record);
        return super::say(&format!("{all:#}\n"));
    }
    let file = place.client_file();
    let by = match &record {
        Some(record) => format!(", process {} on {}", record.pid, record.host),
        None => String::new(),
    };
    super::say(&format!("{}{by}\n{report}\n", file.display()))
}

fn report(place: &Place) -> Result<Report, InspectError> {
    let record = Files::of(place).read();
    let engines = record.iter().flat_map(|record| &record.engines);
    let host = record.as_ref().map(|record| record.host.clone());
    let processes: BTreeMap<String, Process> = engines
        .map(|(uuid, pid)| {
            let host = host.clone();
            (uuid.clone(), Process { pid: Some(*pid), host, implementation: None })
        })
        .collect();
    let report = match ask(place, STATUS_REQUEST) {
        Ok(status) => Report::read(&status),
        Err(InspectError::Ask { source: AskError::Refused { .. }, .. }) => {
            // A stock controller has never heard of it.
            let queue = ask(place, QUEUE_REQUEST)?;
            let connection = ask(place, "connection_request")?;
            let engines = connection["engines"].as_object().into_iter().flatten();
            let engine =
                |(id, uuid): (&String, &Value)| Some((id.parse().ok()?, uuid.as_str()?.to_owned()));
            Report::read_stock(&queue, &engines.filter_map(engine).collect())
        }
        Err(error) => return Err(error),
    };
    Ok(report.with_processes(processes))
}

/// Writes the whole state of a controller; the exit code.
pub(super) fn dump(place: &Place) -> i32 {
    match ask(place, "prust_dump_request") {
        Ok(dump) => super::say(&format!("{dump:#}\n")),
        Err(error) => super::fail(&error, 1),
    }
}

/// Ends a cluster and waits until it is gone; the exit code.
pub(super) fn stop(place: &Place) -> i32 {
    match stopped(place) {
        Ok(text) => super::say(&text),
        Err(error) => super::fail(&error, 1),
    }
}

fn stopped(place: &Place) -> Result<String, InspectError> {
    let (files, file) = (Files::of(place), place.client_file());
    let Some(record) = files.read() else {
        return Err(match ask(place, "connection_request") {
            Ok(_) => InspectError::Foreign { file },
            Err(_) => InspectError::Nothing { file },
        });
    };
    if !files.is_held() {
        clear(place, &files);
        return Ok(format!("process {} has ended before; its files are removed\n", record.pid));
    }
    let record = Box::new(record);
    if record.host == process::hostname() {
        process::signal(record.pid, Signal::Terminate).map_err(InspectError::Process)?;
    } else if let Err(InspectError::Ask { source, .. }) = ask(place, "shutdown_request") {
        return Err(InspectError::Elsewhere { record, source });
    }
    if !gone(&files) && record.host == process::hostname() {
        // Its engines end when its end of their pipes is closed.
        process::signal(record.pid, Signal::Kill).map_err(InspectError::Process)?;
    }
    if !gone(&files) {
        return Err(InspectError::Stays { record });
    }
    clear(place, &files);
    Ok(format!("the cluster of {} has ended\n", file.display()))
}

/// Removes what a supervisor left that could not do it itself.
fn clear(place: &Place, files: &Files) {
    files.remove();
    // Another controller may have taken the place meanwhile.
    if ask(place, "connection_request").is_err() {
        for path in [place.client_file(), place.engine_file()] {
            // Mostly it is gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn gone(files: &Files) -> bool {
    let until = Instant::now() + END_WITHIN;
    while files.is_held() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Asks a place's controller one thing.
fn ask(place: &Place, msg_type: &str) -> Result<Value, InspectError> {
    let path = place.client_file();
    if !path.exists() {
        return Err(InspectError::Nothing { file: path });
    }
    let file = ClientFile::read(&path).map_err(InspectError::File)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.map_err(InspectError::Process)?.block_on(async {
        let mut questions = Questions::open(&wire::Context::new(), &file).await?;
        // Null targets are all engines; other questions take no content.
        questions.ask(msg_type, &json!({"targets": null, "verbose": false})).await
    });
    answer.map_err(|source| InspectError::Ask { file: path, source })
}
