//! A plain cell: compiled, run in the local worker, its outcome told. The worker's own requests
//! (input, cluster) pass through here.

use std::collections::BTreeSet;

use super::Executor;
use super::job::{Compilation, Stage, interrupted};
use super::tell::{Fault, bundle};
use crate::cell::plan::leaf::ENTRY;
use crate::compile::{Compiled, Failed};
use crate::kernel::seam::{Answer, Report};
use crate::wire::jupyter::Object;
use crate::worker::{DisplayKind, Outcome, Status, Std, WorkerEvent};

impl Executor {
    pub(super) fn compiled(&mut self, id: u64, result: Compilation) {
        if self.job.as_ref().is_none_or(|job| job.id != id) {
            return;
        }
        match result {
            Ok(compiled) => self.run_local(compiled),
            Err(Failed::Errors(errors)) => self.fail(Fault::of_diagnostics(&errors)),
            Err(Failed::World(error)) => self.fail(Fault::new("ToolchainError", error.to_string())),
        }
    }

    fn run_local(&mut self, compiled: Compiled) {
        self.show_warnings(&compiled.warnings);
        let Some(library) = compiled.library else {
            self.commit(&compiled.delta);
            return self.go_on();
        };
        let run = self.next_number();
        let first = self.changes(true);
        self.set_stage(Stage::Running { run, delta: Box::new(compiled.delta) });
        match &self.worker {
            Some(worker) if first => worker.run(run, &library, ENTRY),
            Some(worker) => worker.run_on(run, &library, ENTRY),
            None => (),
        }
    }

    fn commit(&mut self, delta: &crate::cell::Delta) {
        self.changes(false);
        self.namespace.apply(delta);
    }

    pub(super) fn worker_said(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Ready { .. } => {
                if matches!(self.job.as_ref().map(|job| &job.stage), Some(Stage::Worker)) {
                    self.go_on();
                }
            }
            WorkerEvent::Output { stream, text } => {
                let text = match &self.compiler {
                    Some(compiler) => compiler.in_user_terms(&text),
                    None => text,
                };
                self.print(None, stream == Std::Err, text);
            }
            WorkerEvent::Display { kind, id, data } => self.displayed(kind, id, &data),
            WorkerEvent::Paused => self.report(Report::Paused),
            WorkerEvent::Request { request, topic, head, body } => {
                self.worker_asks(request, &topic, head, body);
            }
            WorkerEvent::Done { run, outcome } => self.local_done(run, outcome),
            WorkerEvent::Died { cause, restored, threads_lost } => {
                self.worker_died(&cause, restored, &threads_lost);
            }
            WorkerEvent::Failed { why } => {
                self.broken = Some(why.clone());
                self.fail(Fault::new("WorkerError", why));
            }
            WorkerEvent::Unprotected { resident_bytes } => {
                if std::mem::replace(&mut self.said_unprotected, true) {
                    return;
                }
                self.remark(&format!(
                    "the worker holds {}: from now on cells get no snapshot, and a crash would \
                     lose all variables (said once). %snapshot says what one costs; %snapshot on \
                     takes them all the same",
                    crate::worker::size(resident_bytes)
                ));
            }
            WorkerEvent::InterruptCosts => {
                if let Some(job) = &mut self.job {
                    job.interrupted = false;
                }
                self.remark(
                    "there is no snapshot to go back to: ending this cell would lose all \
                     variables. Interrupt once more to end it all the same",
                );
            }
            // The kernel sends no call ahead of another one.
            WorkerEvent::Recalled { .. } => (),
            WorkerEvent::NoSnapshot => self.no_snapshot(),
            WorkerEvent::Stuck { .. } => self.stuck(),
            WorkerEvent::Measured { costs } => self.measured(costs),
            WorkerEvent::Surroundings(surroundings) => self.surrounded(surroundings),
        }
    }

    fn displayed(&mut self, kind: DisplayKind, id: String, data: &[(String, String)]) {
        let run = self.latest_run;
        let submission = data
            .iter()
            .find(|(mime, _)| mime == prust::SUBMISSION_MIME)
            .and_then(|(_, text)| serde_json::from_str::<serde_json::Value>(text).ok())
            .and_then(|value| value.get("submission")?.as_u64());
        if let Some(submission) = submission {
            return self.show_panel(submission, run);
        }
        let data: Vec<(String, String)> = match &self.compiler {
            Some(compiler) => {
                let words = |mime: &str, text: &str| match mime {
                    "text/plain" => compiler.in_user_terms(text),
                    _ => text.to_owned(),
                };
                data.iter().map(|(mime, text)| (mime.clone(), words(mime, text))).collect()
            }
            None => data.to_vec(),
        };
        let data = bundle(data.iter().map(|(mime, text)| (mime.as_str(), text.as_str())));
        let expression = self.job.as_mut().and_then(|job| job.expression.as_mut());
        if let (DisplayKind::Result, Some((_, shown))) = (kind, expression) {
            *shown = data;
            return;
        }
        let metadata = Object::new();
        self.report(match kind {
            DisplayKind::Result => Report::Result { run, data, metadata },
            DisplayKind::Display => {
                let id = (!id.is_empty()).then_some(id);
                Report::Display { run: Some(run), id, data, metadata }
            }
            DisplayKind::Update => Report::UpdateDisplay { run: Some(run), id, data, metadata },
            DisplayKind::Clear => Report::Clear { run: Some(run), wait: false },
        });
    }

    fn worker_asks(&mut self, request: u64, topic: &str, head: Vec<u8>, body: Vec<u8>) {
        match topic {
            "input" => {
                let number = self.next_number();
                self.inputs.insert(number, request);
                let prompt = String::from_utf8_lossy(&head).into_owned();
                let password = body.first() == Some(&1);
                self.report(Report::Input { request: number, prompt, password });
            }
            prust::request::TOPIC => self.cluster_request(request, head, body),
            _ if request == 0 => (),
            _ => {
                if let Some(worker) = &self.worker {
                    worker.reply(request, Status::Error, Vec::new(), Vec::new());
                }
            }
        }
    }

    pub(super) fn input_came(&mut self, request: u64, answer: Answer) {
        let Some(request) = self.inputs.remove(&request) else { return };
        let Some(worker) = &self.worker else { return };
        match answer {
            Answer::Line(line) => worker.reply(request, Status::Ok, line.into_bytes(), Vec::new()),
            Answer::EndOfFile => worker.reply(request, Status::Error, Vec::new(), Vec::new()),
            Answer::Refused => {
                worker.reply(request, Status::Error, Vec::new(), Vec::new());
                self.remark("this frontend cannot ask for input: standard input is at its end");
            }
        }
    }

    fn local_done(&mut self, run: u64, outcome: Outcome) {
        let stage = self.job.as_mut().map(super::job::Job::leave_stage);
        let delta = match stage {
            Some(Stage::Running { run: expected, delta }) if expected == run => delta,
            Some(other) => return self.set_stage(other),
            None => return,
        };
        self.inputs.clear();
        match outcome {
            Outcome::Ok { value } => {
                self.commit(&delta);
                self.learn_sizes(&value);
                self.go_on();
            }
            Outcome::Error { failure, restored, lost, threads_lost } => {
                let mut fault = self.fault_of(&failure);
                if let Some(unkept) = self.unkept(&delta) {
                    fault = fault.note(unkept);
                }
                for name in lost {
                    self.namespace.variables.remove(&name);
                    fault = fault.note(format!(
                        "`{name}` was moved by the cell and is lost: there was no snapshot."
                    ));
                }
                if !restored {
                    self.namespace.remember_failed(&delta);
                }
                if restored {
                    self.roll_back(true, &threads_lost);
                    fault = fault.note(RESTORED);
                    fault = match self.threads_gone() {
                        Some(threads) => fault.note(threads),
                        None => fault,
                    };
                }
                self.fail(fault);
            }
            Outcome::Crashed { restored, threads_lost, .. } if self.was_interrupted() => {
                let fault = interrupted("the cell was ended");
                let fault = self.after_death(fault, restored, &threads_lost);
                self.fail(fault);
            }
            Outcome::Crashed { why, restored, threads_lost, .. } => {
                let fault = self.fault_of(&why);
                let fault = self.after_death(fault, restored, &threads_lost);
                self.fail(fault);
            }
            Outcome::Interrupted { restored: false, .. } => {
                self.fail(interrupted("variables keep what the cell did to them"));
            }
            Outcome::Interrupted { restored: true, threads_lost } => {
                let fault = interrupted("all variables are as they were before the cell");
                let fault = self.after_death(fault, true, &threads_lost);
                self.fail(fault);
            }
        }
    }

    /// Says which variables and items of a failed cell do not come to be.
    fn unkept(&self, delta: &crate::cell::Delta) -> Option<String> {
        let known = &self.namespace;
        let variables = delta.put.iter().map(|(name, _)| name.clone());
        let variables = variables.filter(|name| !known.variables.contains_key(name));
        let items = delta.items.iter().flat_map(|items| items.newer_than(&known.items));
        let names: BTreeSet<String> = variables.chain(items).collect();
        let stays = names.iter().filter_map(|name| {
            let cell = known.items.cell_of(name)?;
            Some(format!(" `{name}` is still that of {cell}."))
        });
        let stays: String = stays.take(NAMES_TOLD).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        let n_more = names.len().saturating_sub(NAMES_TOLD);
        let told = names.iter().take(NAMES_TOLD).map(|name| format!("`{name}`"));
        let told = told.collect::<Vec<_>>().join(", ");
        let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
        (!told.is_empty()).then(|| {
            format!("{told}{more} {verb} not kept: the cell did not reach its end.{stays}")
        })
    }

    /// Says what is left after the process died, and forgets what is not.
    fn after_death(&mut self, fault: Fault, restored: bool, threads_lost: &[String]) -> Fault {
        let stuck = self.job.as_ref().is_some_and(|job| job.stuck);
        let fault = if stuck { fault.note(self.waits_for_lost()) } else { fault };
        self.roll_back(restored, threads_lost);
        if !restored {
            return fault
                .note("There was no snapshot: all variables are lost. Items and imports stay.");
        }
        let fault = if fault.ename == "Interrupted" { fault } else { fault.note(RESTORED) };
        match self.threads_gone() {
            Some(threads) => fault.note(threads),
            None => fault,
        }
    }

    fn was_interrupted(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.interrupted)
    }
}

/// Of more names than this a failed cell tells the number.
const NAMES_TOLD: usize = 8;

const RESTORED: &str = "All variables are as they were before the cell.";
