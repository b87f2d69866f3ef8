//! What is kept of ended work: for a retry, and for how long.

use super::command::SubmissionId;
use super::event::Now;
use super::state::State;
use super::submission::{CallWork, Work};
use super::submit::Plan;
use super::task::{End, Task};
use prust::items::Lengths;
use prust::mapped;
use prust::outcome;
use prust::{EngineId, Error};
use std::sync::Arc;

/// Records of ended submissions kept at most, whatever they hold.
const SUBMISSIONS_MAX: usize = 10_000;

impl State {
    /// The failed items of a call again, where they would run now.
    pub(super) fn retry(&mut self, id: SubmissionId, now: Now) -> Result<SubmissionId, Error> {
        let gone = || Error::ResultPurged { submission: id };
        let submission =
            self.submissions.get(&id).filter(|known| !known.purged).ok_or_else(gone)?;
        if !submission.is_finished() {
            return Err(Error::NotReady { question: "what to retry".to_owned() });
        }
        let Work::Call(work) = &submission.work else {
            let what = match submission.work {
                Work::Fetched => "retrying work that was fetched by its ids (rc.resubmit can)",
                _ => "retrying a cell",
            };
            return Err(Error::Unsupported { what: what.to_owned() });
        };
        let (work, balanced) = (work.clone(), submission.balanced);
        let failed: Vec<(&Task, Vec<u64>)> = submission
            .tasks
            .iter()
            .map(|task| (task, failed_items(task)))
            .filter(|(task, items)| !items.is_empty() || task.has_failed())
            .collect();
        let (again, tasks) = if work.replicate || work.call.per_task {
            let again = |(task, _): &(&Task, _)| (task.items.clone(), task.n_values, task.engine);
            (work.clone(), failed.iter().map(again).collect::<Vec<_>>())
        } else {
            let mut tasks = Vec::new();
            let mut start = 0;
            for (task, items) in &failed {
                let n = items.len() as u64;
                tasks.push((start..start + n, n, task.engine));
                start += n;
            }
            let items = failed.iter().flat_map(|(_, items)| items.iter().copied());
            (Arc::new(work.only(items)), tasks)
        };
        let mut plan = Plan {
            label: format!("{} (retry)", submission.label),
            method: submission.method,
            work: Work::Call(again),
            balanced,
            tasks: Vec::new(),
            after: Vec::new(),
            follow: Vec::new(),
        };
        // A lost engine's share goes to those that are left.
        let live = self.live();
        let place = |idx: usize, engine: Option<EngineId>| match engine {
            _ if balanced => None,
            Some(engine) if live.contains(&engine) => Some(engine),
            _ => live.get(idx % live.len().max(1)).copied(),
        };
        let tasks = tasks.into_iter().enumerate();
        plan.tasks = tasks
            .map(|(idx, (items, n, engine))| Task::new(items, n, place(idx, engine)))
            .collect();
        if !balanced && live.is_empty() {
            return Err(Error::NoEnginesRegistered);
        }
        Ok(self.start(plan, now))
    }

    /// Drops old results until what is held is within its limit.
    pub(super) fn make_room(&mut self) {
        let too_much = self.bytes_held > self.settings.results_bytes_max;
        let too_many = self.submissions.len() >= SUBMISSIONS_MAX;
        if !too_much && !too_many {
            return;
        }
        for forgotten in [true, false] {
            let candidates = self.submissions.values().filter(|known| {
                known.is_finished() && known.is_settled() && known.forgotten == forgotten
            });
            let candidates: Vec<SubmissionId> = candidates.map(|known| known.id).collect();
            for id in candidates {
                if too_many && self.submissions.len() > SUBMISSIONS_MAX * 9 / 10 {
                    self.drop_submission(id);
                } else if self.bytes_held > self.settings.results_bytes_max {
                    self.purge(id);
                } else {
                    return;
                }
            }
        }
    }

    fn purge(&mut self, id: SubmissionId) {
        if let Some(submission) = self.submissions.get_mut(&id) {
            self.bytes_held = self.bytes_held.saturating_sub(submission.bytes_held);
            let files = submission.purge();
            self.release(files);
        }
    }

    fn drop_submission(&mut self, id: SubmissionId) {
        self.purge(id);
        if let Some(submission) = self.submissions.remove(&id) {
            let first = submission.first_number;
            self.by_number.remove(&first);
            if matches!(submission.work, Work::Fetched) || submission.purged {
                self.fetches.forget(first..first + submission.tasks.len() as u64);
            }
            self.aliases.retain(|_, (known, _)| *known != id);
        }
    }
}

impl CallWork {
    /// The same call on some of its items.
    fn only(&self, items: impl Iterator<Item = u64>) -> Self {
        let (prefix, bytes) = self.body.split_at(self.prefix);
        let mut body = prefix.to_vec();
        let (mut each, mut there) = (Vec::new(), Vec::new());
        for item in items {
            let span = self.lengths.span(&self.ends, item..item + 1);
            each.push(span.len() as u32);
            if self.there.is_empty() {
                body.extend_from_slice(&bytes[span]);
            } else {
                there.extend(mapped::part(&self.there, span.start as u64..span.end as u64));
            }
        }
        let lengths = Lengths::Each(each);
        Self {
            call: self.call.clone(),
            body,
            prefix: self.prefix,
            ends: lengths.ends(),
            lengths,
            near: mapped::near(&there),
            there,
            folder: self.folder.clone(),
            replicate: false,
            delta: self.delta.clone(),
            label: self.label.clone(),
            wishes: self.wishes.clone(),
            content: self.content.clone(),
        }
    }
}

fn failed_items(task: &Task) -> Vec<u64> {
    match task.end() {
        Some(End::Failed(_) | End::Aborted(_)) => task.items.clone().collect::<Vec<_>>(),
        Some(End::Value(Some(value))) => match outcome::read_outcomes(value) {
            Ok((outcomes, _)) => {
                outcomes.failed.iter().map(|(item, _)| task.items.start + item).collect()
            }
            Err(_) => Vec::new(),
        },
        Some(End::Value(None)) | None => Vec::new(),
    }
}
