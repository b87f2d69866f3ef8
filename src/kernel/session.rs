//! The session's memory: execution counter, history, which requests wait, which run a late output
//! belongs to. Never sends anything.
use std::collections::VecDeque;

use serde_json::{Value, json};

use super::face::Parent;
use super::seam::RunId;
use crate::wire::Message;
use crate::wire::jupyter::HistoryRequest;

/// Inputs remembered. A console asks for the last thousand.
const HISTORY_ENTRIES_MAX: usize = 10_000;
/// Ended runs whose late output (background work) still finds its cell.
const ORIGINS_MAX: usize = 1000;
/// The number of this session in history replies; 0 means the current one, too.
const SESSION_NUMBER: i64 = 1;

/// Where the outputs of a run belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) run: RunId,
    pub(super) parent: Parent,
    /// The request named its cell: a notebook frontend, which finds outputs by their parent.
    pub(super) has_cell_id: bool,
    pub(super) silent: bool,
}

/// The request that is being executed.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) origin: Origin,
    pub(super) ids: Vec<Vec<u8>>,
    pub(super) count: u32,
    pub(super) allow_stdin: bool,
    pub(super) stop_on_error: bool,
    pub(super) stored: bool,
    /// The request's user expressions by name, with what the executor said of them.
    pub(super) expressions: Vec<(String, Option<Value>)>,
    pub(super) started: String,
}

struct Entry {
    line: u32,
    input: String,
    output: Option<String>,
}

#[derive(Default)]
pub(super) struct Session {
    pub(super) running: Option<Running>,
    /// Shell requests that have to wait for the running cell.
    pub(super) queue: VecDeque<Message>,
    count: u32,
    n_runs: RunId,
    history: VecDeque<Entry>,
    origins: VecDeque<Origin>,
}

impl Session {
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Counts a cell and remembers its input; gives its number.
    pub(super) fn store(&mut self, input: &str) -> u32 {
        self.count += 1;
        if self.history.len() == HISTORY_ENTRIES_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Entry { line: self.count, input: input.to_owned(), output: None });
        self.count
    }

    /// Remembers the shown value of the cell that was stored last.
    pub(super) fn store_output(&mut self, output: &str) {
        if let Some(last) = self.history.back_mut() {
            last.output = Some(output.to_owned());
        }
    }

    pub(super) fn next_run(&mut self) -> RunId {
        self.n_runs += 1;
        self.n_runs
    }

    pub(super) fn remember(&mut self, origin: Origin) {
        if self.origins.len() == ORIGINS_MAX {
            self.origins.pop_front();
        }
        self.origins.push_back(origin);
    }

    /// The run an output belongs to: the named one, else the running one, else the last one.
    pub(super) fn origin(&self, run: Option<RunId>) -> Option<&Origin> {
        match run {
            Some(run) => self.origins.iter().rev().find(|origin| origin.run == run),
            None => self.origins.back(),
        }
    }

    /// The entries a history request asks for, oldest first.
    pub(super) fn history(&self, request: &HistoryRequest) -> Vec<Value> {
        let mut entries: Vec<&Entry> = match request.hist_access_type.as_str() {
            "range" => self.range(request),
            "search" => self.search(request),
            _ => self.history.iter().collect(),
        };
        if request.hist_access_type != "range" {
            let n = request.n.unwrap_or(HISTORY_ENTRIES_MAX);
            entries.drain(..entries.len().saturating_sub(n));
        }
        let shown = |entry: &&Entry| match request.output {
            true => json!([SESSION_NUMBER, entry.line, [entry.input, entry.output]]),
            false => json!([SESSION_NUMBER, entry.line, entry.input]),
        };
        entries.iter().map(shown).collect()
    }

    fn range(&self, request: &HistoryRequest) -> Vec<&Entry> {
        let session = request.session.unwrap_or(0);
        if session != 0 && session != SESSION_NUMBER {
            return Vec::new();
        }
        let start = request.start.unwrap_or(1);
        let stop = request.stop.unwrap_or(i64::MAX);
        let wanted = |entry: &&Entry| (start..stop).contains(&i64::from(entry.line));
        self.history.iter().filter(wanted).collect()
    }

    fn search(&self, request: &HistoryRequest) -> Vec<&Entry> {
        let pattern: Vec<char> = request.pattern.as_deref().unwrap_or("*").chars().collect();
        let mut seen = std::collections::HashSet::new();
        let mut found: Vec<&Entry> = self
            .history
            .iter()
            .rev()
            .filter(|entry| matches(&pattern, &entry.input))
            .filter(|entry| !request.unique || seen.insert(entry.input.as_str()))
            .collect();
        found.reverse();
        found
    }
}

/// Whether `text` is what the glob `pattern` describes: `*` any text, `?` any character.
fn matches(pattern: &[char], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // The latest star, and where its text ended when it was tried last.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else { return false };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern[p..].iter().all(|wanted| *wanted == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(inputs: &[&str]) -> Session {
        let mut session = Session::default();
        for input in inputs {
            session.store(input);
        }
        session
    }

    #[track_caller]
    fn check(session: &Session, request: &str, expect: Value) {
        let request = serde_json::from_str(request).expect("it is JSON");
        assert_eq!(Value::from(session.history(&request)), expect);
    }

    #[test]
    fn tail_gives_the_last_ones_oldest_first() {
        let session = session(&["a", "b", "c"]);
        check(
            &session,
            r#"{"hist_access_type": "tail", "n": 2}"#,
            json!([[1, 2, "b"], [1, 3, "c"]]),
        );
        check(&session, r#"{"hist_access_type": "tail", "n": 0}"#, json!([]));
    }

    #[test]
    fn range_stops_before_its_stop() {
        let mut session = session(&["a", "b", "c"]);
        session.store_output("3");
        let request = r#"{"hist_access_type": "range", "session": 0, "start": 2, "stop": 3}"#;
        check(&session, request, json!([[1, 2, "b"]]));
        let request = r#"{"hist_access_type": "range", "session": 1, "start": 3, "output": true}"#;
        check(&session, request, json!([[1, 3, ["c", "3"]]]));
        let request = r#"{"hist_access_type": "range", "session": 7, "start": 1}"#;
        check(&session, request, json!([]));
    }

    #[test]
    fn search_takes_globs_and_can_be_unique() {
        let session = session(&["1 + 1", "let x = 1;", "1 + 1", "x"]);
        let request = r#"{"hist_access_type": "search", "pattern": "1?+*", "unique": true}"#;
        check(&session, request, json!([[1, 3, "1 + 1"]]));
        let request = r#"{"hist_access_type": "search", "pattern": "*1*", "n": 2}"#;
        check(&session, request, json!([[1, 2, "let x = 1;"], [1, 3, "1 + 1"]]));
    }

    #[test]
    fn globs_backtrack() {
        let check = |pattern: &str, text: &str| matches(&pattern.chars().collect::<Vec<_>>(), text);
        assert!(check("a*b*c", "aXbYbZc"));
        assert!(!check("a*b*c", "aXbYbZ"));
        assert!(check("**", "") && !check("?", "") && check("é?", "éà"));
    }
}
