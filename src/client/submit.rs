//! From a user's call to messages: resolves targets, cuts items into tasks, sends them.

use super::chunk;
use super::command::SubmissionId;
use super::event::Now;
use super::metadata::Wishes;
use super::state::State;
use super::submission::{CallWork, Parts, Submission, Work};
use super::task::{Stage, Task};
use crate::cell::namespace::{Delta, Variable};
use prust::items::Lengths;
use prust::mapped::{self, Mapped};
use prust::request::{self, Call, Options, Submit};
use prust::targets::TargetError;
use prust::{EngineId, Error, Targets};
use serde_json::value::RawValue;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A submission about to be made.
pub(super) struct Plan {
    pub(super) label: String,
    pub(super) method: &'static str,
    pub(super) work: Work,
    pub(super) balanced: bool,
    pub(super) tasks: Vec<Task>,
    pub(super) after: Vec<String>,
    pub(super) follow: Vec<String>,
}

impl State {
    pub(super) fn submit(
        &mut self,
        cell: &str,
        submit: Submit,
        body: Vec<u8>,
        now: Now,
    ) -> Result<SubmissionId, Error> {
        let Submit { work, targets, balanced, options, there } = submit;
        match work {
            request::Work::Execute { source } => {
                self.submit_cell(&targets, balanced, options, source, now)
            }
            request::Work::Apply { call, prefix, lengths } => {
                let work = Given { call, prefix, lengths, body, there, replicate: true };
                self.submit_call(cell, work, &targets, balanced, &options, now)
            }
            request::Work::Map { call, prefix, lengths } => {
                let work = Given { call, prefix, lengths, body, there, replicate: false };
                self.submit_call(cell, work, &targets, balanced, &options, now)
            }
        }
    }

    fn submit_call(
        &mut self,
        cell: &str,
        given: Given,
        targets: &Targets,
        balanced: bool,
        options: &Options,
        now: Now,
    ) -> Result<SubmissionId, Error> {
        let engines = self.engines_meant(targets, balanced)?;
        self.send_all(&options.after);
        self.send_all(&options.follow);
        let (after, follow) =
            (self.message_ids(&options.after)?, self.message_ids(&options.follow)?);
        let n = given.lengths.n_items();
        let per_task = given.call.per_task;
        let n_values = |items: &Range<u64>| {
            if given.replicate || per_task { 1 } else { items.end - items.start }
        };
        let tasks: Vec<Task> = if balanced {
            let chunks = match options.chunksize {
                _ if given.replicate => std::iter::once(0..n).collect(),
                Some(size) => chunk::fixed(n, size),
                None => chunk::adaptive(n, engines.len() as u64),
            };
            chunks
                .into_iter()
                .map(|items| Task::new(items.clone(), n_values(&items), None))
                .collect()
        } else {
            let chunks = if given.replicate {
                vec![0..n; engines.len()]
            } else {
                chunk::partition(n, engines.len() as u64, given.call.method == "scatter")
            };
            let tasks = chunks.into_iter().zip(&engines);
            tasks.map(|(items, id)| Task::new(items.clone(), n_values(&items), Some(*id))).collect()
        };
        let delta = delta(cell, &given.call);
        let seconds = |span: Duration| span.as_secs_f64();
        let wishes = balanced.then(|| Wishes {
            targets: self.target_uuids(targets, &engines),
            retries: options.retries,
            timeout: options.timeout.map_or(0.0, seconds),
            time_limit: options.time_limit.map(seconds),
            after: after.clone(),
            follow: follow.clone(),
        });
        let label = options.label.clone().unwrap_or_else(|| given.call.name.clone());
        let method = method_name(&given.call.method);
        let work = Work::Call(Arc::new(given.into_work(
            delta,
            (label.clone(), wishes),
            self.empty.clone(),
            self.settings.shared_folder.clone(),
        )?));
        Ok(self.start(Plan { label, method, work, balanced, tasks, after, follow }, now))
    }

    /// Makes the record and sends its tasks.
    pub(super) fn start(&mut self, plan: Plan, now: Now) -> SubmissionId {
        let Plan { label, method, work, balanced, mut tasks, after, follow } = plan;
        self.make_room();
        self.n_submissions += 1;
        let id = self.n_submissions;
        let first_number = self.n_numbers + 1;
        self.n_numbers += tasks.len() as u64;
        if !tasks.is_empty() {
            self.by_number.insert(first_number, id);
        }
        let is_call = matches!(work, Work::Call(_));
        if is_call && balanced {
            tasks.iter_mut().for_each(|task| task.stage = Stage::Held);
        }
        let parts = Parts { id, label, method, work, balanced, tasks, first_number, after, follow };
        let mut submission = Submission::new(parts, now);
        if !balanced {
            submission.tally.add_lanes(&submission.engines());
        }
        self.bytes_held += submission.bytes_held;
        if let Work::Call(call) = &submission.work {
            let call = Arc::clone(call);
            let folder = self.settings.shared_folder.as_deref();
            self.files.hold(folder, &mut submission, &call.there);
        }
        self.submissions.insert(id, Box::new(submission));
        self.active.insert(id);
        self.touch(id);
        match (is_call, balanced) {
            (true, true) => self.send_balanced(id),
            (true, false) => self.send_direct(id, now),
            (false, _) => (),
        }
        self.refresh_hint(id);
        id
    }

    /// Live engines of a wish. Balanced work without wishes may wait for engines to come.
    pub(super) fn engines_meant(
        &self,
        targets: &Targets,
        balanced: bool,
    ) -> Result<Vec<EngineId>, Error> {
        let live = self.live();
        if balanced && *targets == Targets::All {
            return Ok(live);
        }
        targets.resolve(&live).map_err(|error| self.target_error(error))
    }

    /// An engine of another language is there, and yet no target.
    fn target_error(&self, error: TargetError) -> Error {
        if let TargetError::Unknown { id, .. } = &error
            && let Some(other) = EngineId::try_from(*id).ok().and_then(|id| self.other(id))
        {
            let what = format!("engine {id} is {other}: work on engines that are not Rust's");
            return Error::Unsupported { what };
        }
        error.into()
    }

    fn target_uuids(&self, targets: &Targets, engines: &[EngineId]) -> Vec<String> {
        // Only where all engines are ours may those that come later have a share.
        if *targets == Targets::All && !self.has_others() {
            return Vec::new();
        }
        let uuids = engines.iter().filter_map(|id| self.engines.get(id));
        uuids.map(|engine| engine.uuid.to_string()).collect()
    }

    /// The messages behind submissions that others depend on.
    fn message_ids(&self, submissions: &[SubmissionId]) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        for id in submissions {
            let Some(submission) = self.submissions.get(id) else {
                return Err(Error::ResultPurged { submission: *id });
            };
            if submission.balanced {
                let tasks = 0..submission.tasks.len() as u32;
                ids.extend(tasks.map(|idx| self.msg_id(submission.number(idx))));
            } else if !submission.is_finished() {
                // The scheduler knows only the tasks that it gives out itself.
                let what = "after or follow on a direct view's work that still runs".to_owned();
                return Err(Error::Unsupported { what });
            }
        }
        Ok(ids)
    }
}

/// A call as it came.
struct Given {
    call: Call,
    prefix: u64,
    lengths: Lengths,
    body: Vec<u8>,
    there: Vec<Mapped>,
    replicate: bool,
}

impl Given {
    fn into_work(
        self,
        delta: Option<Delta>,
        (label, wishes): (String, Option<Wishes>),
        content: Arc<RawValue>,
        folder: Option<Arc<str>>,
    ) -> Result<CallWork, Error> {
        let Self { call, prefix, lengths, body, there, replicate } = self;
        let along = (body.len() as u64).checked_sub(prefix);
        let items = along.and_then(|along| along.checked_add(mapped::n_bytes(&there)));
        let is_split = !there.is_empty() && along != Some(0);
        if is_split || items.is_none() || items != lengths.n_bytes().map(|n| n as u64) {
            let reason = "a submission whose table does not fit its bytes".to_owned();
            return Err(Error::Disconnected { reason });
        }
        let ends = lengths.ends();
        let prefix = prefix as usize;
        let near = mapped::near(&there);
        Ok(CallWork {
            call,
            body,
            prefix,
            lengths,
            ends,
            there,
            near,
            folder,
            replicate,
            delta,
            label,
            wishes,
            content,
        })
    }
}

/// What the call adds to an engine's namespace.
fn delta(cell: &str, call: &Call) -> Option<Delta> {
    if call.defines.is_empty() {
        return None;
    }
    let variable = |type_text: &String| Variable {
        type_text: type_text.clone(),
        mutable: true,
        cell: cell.to_owned(),
    };
    let put = call.defines.iter().map(|(name, ty)| (name.clone(), variable(ty))).collect();
    Some(Delta { cell: cell.to_owned(), put, ..Delta::default() })
}

fn method_name(method: &str) -> &'static str {
    ["map", "push", "pull", "scatter"].into_iter().find(|known| *known == method).unwrap_or("apply")
}
