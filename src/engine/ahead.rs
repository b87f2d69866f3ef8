//! Calls that the worker has before the one in hand has ended: where short ones follow one another,
//! it need not wait for each of them to be brought. Part of [`Engine`].
//!
//! A call sent ahead has not begun until the one before it is done, and the worker gives back what
//! has not begun when it is asked to: for whoever looks at the queue it still waits there.
use std::sync::Arc;
use std::time::Duration;

use super::event::{Effect, Now};
use super::request::{Route, Task, Work};
use super::state::Engine;
use super::work::{Running, Stage};
use crate::worker::Call;

/// A call that took less is quick: the next one will most likely end as soon.
pub(super) const QUICK_TIME: Duration = Duration::from_millis(2);
/// Calls behind the running one that the worker may have.
const AHEAD_MAX: usize = 16;
/// Larger arguments are not worth a copy that may be needed if the call comes back.
const AHEAD_BYTES_MAX: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Ahead {
    run: u64,
    task: Task,
    /// It is to be interrupted when it begins.
    is_unwanted: bool,
}

/// What was sent ahead, and what waits for its return.
#[derive(Debug, Default)]
pub(super) struct AheadList {
    calls: std::collections::VecDeque<Ahead>,
    /// The worker was asked to give them back.
    is_recalled: bool,
    /// Requests to abort that concern them, or may.
    aborts: Vec<(Route, Option<Vec<String>>)>,
}

impl AheadList {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Engine {
    /// Whether short calls follow one another: one runs, the last was quick, more are waiting.
    pub fn is_quick(&self) -> bool {
        let is_more = !self.queue.is_empty() || !self.ahead.is_empty();
        self.was_quick && self.runs_call() && is_more
    }

    /// Whether a call runs that nothing is known of yet, and that changes no variables.
    fn runs_call(&self) -> bool {
        self.running.as_ref().is_some_and(|running| {
            running.stage == Stage::Working
                && running.busy_due().is_some()
                && plain_call(&running.task.work).is_some()
        })
    }

    /// Sends the worker what will follow.
    pub(super) fn send_ahead(&mut self) {
        let may_send = self.was_quick && self.clears.is_empty() && !self.ahead.is_recalled;
        if !may_send || !self.runs_call() {
            return;
        }
        while self.ahead.calls.len() < AHEAD_MAX {
            let next = self.queue.front().and_then(|task| plain_call(&task.work)).cloned();
            let Some(mut call) =
                next.flatten().filter(|call| call.payload.len() <= AHEAD_BYTES_MAX)
            else {
                return;
            };
            let Some(place) = self.libraries.place(&call.library) else { return };
            place.clone_into(&mut call.library);
            let Some(task) = self.queue.pop_front() else { return };
            self.run_last += 1;
            let run = self.run_last;
            self.effects.push(Effect::Call { run, call });
            self.ahead.calls.push_back(Ahead { run, task, is_unwanted: false });
        }
    }

    /// The next call that the worker has is the one that runs now.
    pub(super) fn go_on_with_ahead(&mut self, now: Now) -> bool {
        let Some(Ahead { run, mut task, is_unwanted }) = self.ahead.calls.pop_front() else {
            return false;
        };
        if let Work::Call { call, .. } = &mut task.work {
            *call = None;
        }
        self.parent = Arc::clone(&task.route.parent);
        self.before = None;
        self.read_on();
        self.running = Some(Running::call(run, task, self.execution_count, now));
        if is_unwanted {
            self.effects.push(Effect::Interrupt);
        }
        true
    }

    /// Calls that the worker will not run: they wait in front of all others again.
    pub(super) fn recalled(&mut self, runs: &[u64], now: Now) {
        let calls = std::mem::take(&mut self.ahead.calls);
        let (back, left): (Vec<_>, Vec<_>) =
            calls.into_iter().partition(|ahead| runs.contains(&ahead.run));
        self.ahead.calls = left.into();
        self.ahead.is_recalled = false;
        // Whatever it was that called them back: the one in hand is nothing to hurry after.
        self.was_quick = false;
        for Ahead { task, is_unwanted, .. } in back.into_iter().rev() {
            if is_unwanted {
                self.abort_now(task, now);
            } else {
                self.queue.push_front(task);
            }
        }
        for (route, msg_ids) in std::mem::take(&mut self.ahead.aborts) {
            self.abort(route, msg_ids, now);
        }
        self.start_next(now);
    }

    /// Keeps a request to abort that has to wait for calls that the worker has; gives back any
    /// other.
    pub(super) fn waits_for_ahead(
        &mut self,
        route: Route,
        msg_ids: Option<Vec<String>>,
    ) -> Option<(Route, Option<Vec<String>>)> {
        let is_meant = |ahead: &Ahead| match &msg_ids {
            None => true,
            Some(msg_ids) => msg_ids.contains(&ahead.task.route.msg_id),
        };
        if !self.ahead.calls.iter().any(is_meant) {
            return Some((route, msg_ids));
        }
        if !std::mem::replace(&mut self.ahead.is_recalled, true) {
            self.effects.push(Effect::Recall);
        }
        self.ahead.aborts.push((route, msg_ids));
        None
    }

    /// Has calls interrupted as soon as they begin. Says whether the worker has any of them.
    pub(super) fn interrupt_ahead(&mut self, msg_ids: &[String]) -> bool {
        let is_meant = |ahead: &&mut Ahead| msg_ids.contains(&ahead.task.route.msg_id);
        let meant = self.ahead.calls.iter_mut().filter(is_meant);
        meant.map(|ahead| ahead.is_unwanted = true).count() > 0
    }

    /// The worker is replaced: nothing that it had comes back.
    pub(super) fn abort_ahead(&mut self, now: Now) {
        for ahead in std::mem::take(&mut self.ahead.calls) {
            self.abort_now(ahead.task, now);
        }
    }
}

/// The call of a task that is one and changes no variables; `None` inside if the worker has it.
fn plain_call(work: &Work) -> Option<&Option<Call>> {
    match work {
        Work::Call { call, mutates: false, delta: None } => Some(call),
        _ => None,
    }
}
