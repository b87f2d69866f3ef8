//! The failures of a parallel cell as one, in the words of each engine. Decides nothing.

use prust::RemoteError;

use super::super::Executor;
use super::super::tell::{Fault, red};

/// Tracebacks shown of one failed parallel cell; the rest is counted.
const TRACEBACKS_MAX: usize = 4;

impl Executor {
    /// All failures of a parallel cell as one; without those that the user's interrupt made, where
    /// there was one.
    pub(super) fn px_fault(&self, tag: u64, was_interrupted: bool) -> Option<Fault> {
        let (n_failed, failed) = self.parallel.cells.get(&tag)?.finished.as_ref()?;
        let is_own = |error: &&RemoteError| !(was_interrupted && error.ename == "Interrupted");
        let failed: Vec<&RemoteError> = failed.iter().filter(is_own).collect();
        let n_failed = if was_interrupted { failed.len() as u64 } else { *n_failed };
        if n_failed == 0 {
            return None;
        }
        let mut traceback = Vec::new();
        for error in failed.iter().take(TRACEBACKS_MAX) {
            let engine = engine_text(error);
            traceback.push(format!("[{engine}:execute]: {}: {}", red(&error.ename), error.evalue));
            let lines = error.traceback.iter().filter(|line| !line.contains(&error.evalue));
            let lines: Vec<&str> = lines.map(String::as_str).collect();
            traceback.extend((!lines.is_empty()).then(|| self.in_user_terms(&lines.join("\n"))));
        }
        let more = usize::try_from(n_failed).unwrap_or(usize::MAX).saturating_sub(TRACEBACKS_MAX);
        if more > 0 {
            traceback.push(format!("... {more} more exceptions ..."));
        }
        let words = |error: &RemoteError| {
            format!("[{}] {}: {}", engine_text(error), error.ename, error.evalue)
        };
        let evalue = match failed.first() {
            Some(error) if n_failed == 1 => words(error),
            Some(error) => format!("{n_failed} engines failed, the first: {}", words(error)),
            None => format!("{n_failed} engines failed"),
        };
        let ename = "CompositeError".to_owned();
        Some(Fault { ename, evalue: self.in_user_terms(&evalue), traceback })
    }

    fn in_user_terms(&self, text: &str) -> String {
        match &self.compiler {
            Some(compiler) => compiler.in_user_terms(text),
            None => text.to_owned(),
        }
    }
}

fn engine_text(error: &RemoteError) -> String {
    error.engine_id.map_or("?".to_owned(), |id| id.to_string())
}
