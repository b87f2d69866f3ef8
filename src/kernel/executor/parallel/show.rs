//! What engines print and show in a parallel cell: `[stdout:2]` lines live, `Out[2:5]: ..` for
//! values, or all of it after the fact in groups. Words and shapes are ipyparallel's.

use prust::EngineId;
use serde_json::Value;

use super::PxCell;
use crate::client::{Command, Output, SubmissionId};
use crate::compile::Compiler;
use crate::kernel::executor::Executor;
use crate::kernel::magics::GroupBy;
use crate::kernel::seam::{Report, RunId};

/// Engines that print on at the same moment.
const PRINTING_ENGINES_MAX: usize = 4;

/// Output of one parallel cell that is remembered for `%pxresult`.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

impl Executor {
    pub(super) fn engine_output(
        &mut self,
        submission: SubmissionId,
        engine: EngineId,
        output: Output,
    ) {
        let Some((tag, cell)) =
            self.parallel.cells.iter_mut().find(|(_, cell)| cell.submission == Some(submission))
        else {
            return;
        };
        let tag = *tag;
        cell.remember(engine, &output);
        let live = cell.streams() && cell.answers.is_none();
        if live && self.waits_for(tag) {
            self.show_live(tag, engine, output);
        }
    }

    pub(super) fn engine_paused(&mut self, engine: EngineId) {
        self.parallel.paused.push_back(engine);
        self.report(Report::Paused);
    }

    /// An engine on another host has to be sent what was compiled here.
    pub(super) fn engine_lacks(&mut self, engine: EngineId, names: Vec<String>) {
        if let Some(folder) = self.compiler.as_ref().map(Compiler::libraries) {
            self.command(Command::Bring { engine, names, folder });
        }
    }

    /// What was printed so far has been handled: some of the engines that wait print on, so that
    /// many of them together print no faster than one worker.
    pub(in crate::kernel::executor) fn engines_print_on(&mut self) {
        for _ in 0..PRINTING_ENGINES_MAX {
            let Some(engine) = self.parallel.paused.pop_front() else { return };
            self.command(Command::ReadOn { engine });
        }
        if !self.parallel.paused.is_empty() {
            self.report(Report::Paused);
        }
    }

    fn show_live(&mut self, tag: u64, engine: EngineId, output: Output) {
        let Some(cell) = self.parallel.cells.get_mut(&tag) else { return };
        let run = cell.run;
        match output {
            Output::Stream { stderr, text } => {
                let at_start = !cell.open_lines.contains_key(&(engine, stderr));
                if text.ends_with('\n') {
                    cell.open_lines.remove(&(engine, stderr));
                } else {
                    cell.open_lines.insert((engine, stderr), ());
                }
                let text = prefixed(&prefix(engine, stderr), &text, at_start);
                stream_report(self, run, stderr, text);
            }
            Output::Display { content, .. } => show_display(self, run, engine, content, false),
            // Values come at the end, in the order of engines.
            Output::Result { .. } => (),
            // The run's own outcome tells it, once for all engines.
            Output::Error { .. } => (),
        }
    }

    /// Ends lines that engines left open, so that what follows starts on a line of its own.
    pub(super) fn end_lines(&mut self, tag: u64) {
        let Some(cell) = self.parallel.cells.get_mut(&tag) else { return };
        let run = cell.run;
        let open = std::mem::take(&mut cell.open_lines);
        for ((_, stderr), ()) in open {
            stream_report(self, run, stderr, "\n".to_owned());
        }
    }

    /// Shows the engines' values, in the order of engines.
    pub(super) fn show_values(&self, tag: u64) {
        let Some(cell) = self.parallel.cells.get(&tag) else { return };
        let mut values: Vec<(EngineId, &Value)> = cell
            .outputs
            .iter()
            .filter_map(|(engine, output)| match output {
                Output::Result { content } => Some((*engine, content)),
                _ => None,
            })
            .collect();
        values.sort_by_key(|(engine, _)| *engine);
        for (engine, content) in values {
            show_display(self, cell.run, engine, content.clone(), true);
        }
    }

    /// Shows all remembered output under `run`.
    pub(super) fn show_outputs(&self, tag: u64, run: RunId, group: Option<GroupBy>) {
        let Some(cell) = self.parallel.cells.get(&tag) else { return };
        let mut outputs: Vec<&(EngineId, Output)> = cell.outputs.iter().collect();
        match group.or(cell.options.group).unwrap_or(GroupBy::Type) {
            GroupBy::Order => (),
            GroupBy::Engine => outputs.sort_by_key(|(engine, _)| *engine),
            GroupBy::Type => outputs.sort_by_key(|(engine, output)| (rank(output), *engine)),
        }
        for (engine, text, stderr) in streams(&outputs) {
            if let Some(output) = text {
                let text = prefixed(&prefix(engine, stderr), &output, true);
                let end = if text.ends_with('\n') { "" } else { "\n" };
                stream_report(self, run, stderr, format!("{text}{end}"));
            }
        }
        for (engine, output) in outputs {
            match output {
                Output::Display { content, .. } => {
                    show_display(self, run, *engine, content.clone(), false);
                }
                Output::Result { content } => {
                    show_display(self, run, *engine, content.clone(), true)
                }
                Output::Stream { .. } | Output::Error { .. } => (),
            }
        }
    }
}

impl PxCell {
    fn remember(&mut self, engine: EngineId, output: &Output) {
        let bytes = match output {
            Output::Stream { text, .. } => text.len(),
            Output::Display { content, .. } | Output::Result { content } => {
                content.to_string().len()
            }
            Output::Error { traceback, .. } => traceback.iter().map(String::len).sum(),
        };
        self.output_bytes += bytes;
        if self.output_bytes <= OUTPUT_BYTES_MAX {
            self.outputs.push((engine, output.clone()));
        }
    }
}

fn rank(output: &Output) -> u8 {
    match output {
        Output::Stream { stderr: false, .. } => 0,
        Output::Stream { stderr: true, .. } => 1,
        Output::Display { .. } => 2,
        Output::Result { .. } => 3,
        Output::Error { .. } => 4,
    }
}

/// Neighbouring pieces of one stream as one text.
fn streams(outputs: &[&(EngineId, Output)]) -> Vec<(EngineId, Option<String>, bool)> {
    let mut joined: Vec<(EngineId, Option<String>, bool)> = Vec::new();
    for (engine, output) in outputs {
        let Output::Stream { stderr, text } = output else { continue };
        match joined.last_mut() {
            Some((last, Some(so_far), of)) if last == engine && of == stderr => {
                so_far.push_str(text)
            }
            _ => joined.push((*engine, Some(text.clone()), *stderr)),
        }
    }
    joined
}

fn prefix(engine: EngineId, stderr: bool) -> String {
    format!("[{}:{engine}] ", if stderr { "stderr" } else { "stdout" })
}

/// Every line begun in `text` gets the prefix.
fn prefixed(prefix: &str, text: &str, at_start: bool) -> String {
    let mut out = String::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if index > 0 || at_start {
            out.push_str(prefix);
        }
        out.push_str(line);
    }
    out
}

fn show_display(
    executor: &Executor,
    run: RunId,
    engine: EngineId,
    mut content: Value,
    result: bool,
) {
    let count = content["execution_count"].as_u64().unwrap_or_default();
    let head =
        if result { format!("Out[{engine}:{count}]: ") } else { format!("[output:{engine}] ") };
    if let Some(plain) = content["data"]["text/plain"].as_str() {
        let text = format!("{head}{plain}");
        content["data"]["text/plain"] = text.into();
    }
    display_report(executor, run, content["data"].take(), content["metadata"].take());
}

/// Reports of one engine's output, live.
fn stream_report(executor: &Executor, run: RunId, stderr: bool, text: String) {
    executor.print(Some(run), stderr, text);
}

/// A display of an engine, with its number in front of the text.
fn display_report(executor: &Executor, run: RunId, data: Value, metadata: Value) {
    let object = |value| match value {
        Value::Object(object) => object,
        _ => serde_json::Map::new(),
    };
    executor.report(Report::Display {
        run: Some(run),
        id: None,
        data: object(data),
        metadata: object(metadata),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_begin_get_a_prefix() {
        assert_eq!(prefixed("[0] ", "a\nb", true), "[0] a\n[0] b");
        assert_eq!(prefixed("[0] ", "c\nd\n", false), "c\n[0] d\n");
    }
}
