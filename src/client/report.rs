//! A cluster's status as a controller tells it, read once and shown twice: a table for people, JSON
//! for programs. Understands our controller's answer and what a stock one can answer. Asks nobody.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// What only our controllers answer; others refuse it.
pub const STATUS_REQUEST: &str = "prust_status_request";
/// What every controller answers: the work of every engine.
pub const QUEUE_REQUEST: &str = "queue_request";

/// How a cluster is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    engines: Vec<Row>,
    unassigned: u64,
    /// The answer of our controller; a stock one gives none.
    more: Option<Value>,
    /// What we know that the controller does not: by uuid, the process of an engine.
    processes: BTreeMap<String, Process>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: u64,
    uuid: String,
    queue: u64,
    tasks: u64,
    completed: u64,
}

/// Where an engine is, and what it is if it is none of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: Option<u32>,
    pub host: Option<String>,
    /// The name by which it answers `kernel_info_request`.
    pub implementation: Option<String>,
}

impl Report {
    /// Reads the answer to [`STATUS_REQUEST`].
    pub fn read(status: &Value) -> Self {
        let engines = status["engines"].as_array().into_iter().flatten();
        let engines = engines.map(|engine| {
            let id = engine["id"].as_u64().unwrap_or_default();
            Row::read(id, engine["uuid"].as_str().unwrap_or_default(), engine)
        });
        Self {
            engines: engines.collect(),
            unassigned: status["unassigned"].as_u64().unwrap_or_default(),
            more: Some(status.clone()),
            processes: BTreeMap::new(),
        }
    }

    /// Reads the answers of a stock controller to [`QUEUE_REQUEST`] and, for the uuids, to
    /// `connection_request`.
    pub fn read_stock(queue: &Value, engines: &BTreeMap<u64, String>) -> Self {
        let rows = queue.as_object().into_iter().flatten();
        let mut rows: Vec<Row> = rows
            .filter_map(|(id, counts)| {
                let id = id.parse::<u64>().ok()?;
                let uuid = engines.get(&id).map_or("", String::as_str);
                Some(Row::read(id, uuid, counts))
            })
            .collect();
        rows.sort_by_key(|row| row.id);
        Self {
            engines: rows,
            unassigned: queue["unassigned"].as_u64().unwrap_or_default(),
            more: None,
            processes: BTreeMap::new(),
        }
    }

    /// Adds what is known of the engines' processes, by uuid.
    #[must_use]
    pub fn with_processes(mut self, processes: BTreeMap<String, Process>) -> Self {
        self.processes = processes;
        self
    }

    pub fn n_engines(&self) -> usize {
        self.engines.len()
    }

    /// All of it for programs.
    pub fn to_json(&self) -> Value {
        let engines = self.engines.iter().map(|row| {
            let mut engine = json!({
                "id": row.id, "uuid": row.uuid, "queue": row.queue, "tasks": row.tasks,
                "completed": row.completed,
            });
            let process = self.processes.get(&row.uuid).cloned().unwrap_or_default();
            engine["pid"] = json!(process.pid);
            engine["host"] = json!(process.host);
            engine
        });
        let mut all = match &self.more {
            Some(more) => more.clone(),
            None => json!({}),
        };
        all["controller"] = if self.more.is_some() { "prust" } else { "stock" }.into();
        all["engines"] = engines.collect();
        all["unassigned"] = self.unassigned.into();
        if let Some(fields) = all.as_object_mut() {
            // That the query went well.
            fields.remove("status");
        }
        all
    }
}

impl Row {
    fn read(id: u64, uuid: &str, counts: &Value) -> Self {
        // A verbose answer lists the tasks.
        let count = |key: &str| match &counts[key] {
            Value::Array(tasks) => tasks.len() as u64,
            count => count.as_u64().unwrap_or_default(),
        };
        let uuid = uuid.to_owned();
        Self {
            id,
            uuid,
            queue: count("queue"),
            tasks: count("tasks"),
            completed: count("completed"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.engines.is_empty() {
            writeln!(f, "engine  process  queue  tasks  completed  uuid")?;
        }
        for row in &self.engines {
            let process = self.processes.get(&row.uuid).cloned().unwrap_or_default();
            let pid = process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let Row { id, uuid, queue, tasks, completed } = row;
            write!(f, "{id:>6}  {pid:>7}  {queue:>5}  {tasks:>5}  {completed:>9}  {uuid}")?;
            if let Some(other) = process.implementation {
                write!(f, "  ({other}: views take Rust engines only)")?;
            }
            writeln!(f)?;
        }
        let n_engines = self.engines.len();
        let s = if n_engines == 1 { "" } else { "s" };
        write!(f, "{n_engines} engine{s}, {} tasks wait for one", self.unassigned)?;
        let Some(more) = &self.more else {
            return write!(
                f,
                "\nThis is a stock controller: it tells no rates, records or uptime."
            );
        };
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let real = |value: &Value| value.as_f64().unwrap_or_default();
        let starting = number(&more["engines_starting"]);
        if starting > 0 {
            write!(f, ", {starting} more are starting")?;
        }
        let (tasks, records) = (&more["tasks"], &more["records"]);
        write!(
            f,
            "\n{} tasks submitted, {} ended, {:.1} per second lately; up for {}\n{} records kept, \
             {:.1} MB",
            number(&tasks["submitted"]),
            number(&tasks["ended"]),
            real(&tasks["ended_per_second"]),
            duration(real(&more["uptime_seconds"])),
            number(&records["kept"]),
            real(&records["bytes"]) / 1e6,
        )?;
        let messages = &more["messages"];
        let refused = number(&messages["refused"]);
        let unused: u64 =
            ["malformed", "duplicate", "late"].map(|key| number(&messages[key])).iter().sum();
        write!(
            f,
            "; {refused} messages refused (unsigned, forged, replayed or broken), {unused} unused"
        )
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_answer_is_a_table_that_says_what_it_lacks() {
        let queue = json!({
            "status": "ok", "0": {"queue": 1, "completed": 7, "tasks": 2}, "unassigned": 3,
        });
        let engines = BTreeMap::from([(0, "e0".to_owned())]);
        let report = Report::read_stock(&queue, &engines);
        let text = report.to_string();
        assert!(text.contains("     0        -      1      2          7  e0"), "{text}");
        assert!(text.contains("1 engine, 3 tasks wait for one\nThis is a stock"), "{text}");
        let json = report.to_json();
        assert_eq!((&json["controller"], &json["unassigned"]), (&json!("stock"), &json!(3)));
    }

    #[test]
    fn an_engine_of_another_language_is_named() {
        let status = json!({
            "status": "ok", "uptime_seconds": 3700.0,
            "engines": [{"id": 4, "uuid": "u", "queue": 0, "tasks": 0, "completed": 0}],
        });
        let python = Process { implementation: Some("ipython".to_owned()), ..Process::default() };
        let report =
            Report::read(&status).with_processes(BTreeMap::from([("u".to_owned(), python)]));
        let text = report.to_string();
        assert!(text.contains("u  (ipython: views take Rust engines only)\n"), "{text}");
        assert!(text.contains("up for 1 h 1 min"), "{text}");
        assert_eq!(report.to_json()["controller"], "prust");
    }
}
