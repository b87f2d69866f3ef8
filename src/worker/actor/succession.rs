//! What follows when the running process ends: its snapshot wakes, or a new process starts, and the
//! run that was cut off is told. Part of the [`Actor`].

use std::io;

use prust_runtime::frame::ToWorker;
use tokio::time::Instant;

use super::{Actor, End, Ending, Link, Running, SNAPSHOT_TIME};
use crate::process::{self, Signal};
use crate::worker::{Outcome, WorkerEvent, life};

impl Actor {
    pub(super) async fn gone(&mut self, link: u64) {
        if let Some(sleeping) = self.sleeping.take_if(|sleeping| sleeping.link == link) {
            self.expected.take_if(|run| *run == sleeping.snapshot);
            return;
        }
        let Some(active) = self.active.take_if(|active| active.link == link) else { return };
        let pid = active.pid;
        let status = tokio::task::spawn_blocking(move || process::reap(pid)).await;
        self.forget_requests();
        self.watch = None;
        self.drain_all();
        let status = status.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (cause, why) = self.scene.explain(status);
        let end = End { cause, why };
        let asleep = self.sleeping.as_ref().map(|sleeping| sleeping.snapshot);
        let missing = self.expected.is_some() && asleep != self.expected;
        if self.ending != Some(Ending::Restart) && missing {
            self.awaiting = Some((Instant::now() + SNAPSHOT_TIME, end));
        } else {
            let sleeping =
                self.sleeping.take_if(|sleeping| Some(sleeping.snapshot) == self.expected);
            self.resume(end, sleeping).await;
        }
    }

    /// Goes on after the running process died: with the snapshot, or from nothing.
    pub(super) async fn resume(&mut self, end: End, sleeping: Option<Link>) {
        let ending = self.ending.take();
        self.changed = true;
        self.expected = None;
        let sleeping = sleeping.filter(|_| ending != Some(Ending::Restart));
        let restored = sleeping.is_some();
        let threads_lost =
            sleeping.as_ref().map(|sleeping| sleeping.threads.clone()).unwrap_or_default();
        // Nobody holds them any more.
        life::end_started(self.group, sleeping.as_ref().map(|sleeping| sleeping.pid));
        self.lost = threads_lost.clone();
        if let Some(sleeping) = sleeping {
            let _ = sleeping.write.write_all(&ToWorker::Wake.write()).await;
            self.active = Some(sleeping);
        } else if !self.spawn() {
            return;
        }
        self.give_back();
        self.report(ending, end, restored, threads_lost);
        if restored {
            self.send_queue().await;
        }
    }

    /// Tells which calls the process that is gone had not begun: whoever sent them ahead may send
    /// them again, with a snapshot before them.
    fn give_back(&mut self) {
        let n_begun = usize::from(self.kept.is_none()).min(self.queue.len());
        let left = self.queue.split_off(n_begun);
        let (calls, others): (Vec<_>, Vec<_>) = left.into_iter().partition(Running::is_call);
        self.queue.extend(others);
        if !calls.is_empty() || std::mem::take(&mut self.recalling) {
            self.recalled(calls.iter().map(|work| work.run).collect());
        }
    }

    /// Asks for the calls that the worker has not begun.
    pub(super) async fn recall(&mut self) {
        self.recalling = true;
        if self.active.is_none() {
            // A process that is not there yet has begun with nothing.
            return self.give_back();
        }
        self.send(&ToWorker::Recall).await;
    }

    pub(super) fn recalled(&mut self, runs: Vec<u64>) {
        self.recalling = false;
        self.queue.retain(|work| !runs.contains(&work.run));
        self.tell(WorkerEvent::Recalled { runs });
    }

    fn report(&mut self, ending: Option<Ending>, end: End, restored: bool, lost: Vec<String>) {
        let threads_lost = lost;
        let End { cause, why } = end;
        if let Some((run, failure)) = self.kept.take() {
            let outcome = match (restored, failure.ename.as_str()) {
                (false, _) => Outcome::Crashed { cause, why: failure, restored, threads_lost },
                (true, "Interrupted") => Outcome::Interrupted { restored, threads_lost },
                (true, _) => Outcome::Error { failure, restored, lost: Vec::new(), threads_lost },
            };
            return self.tell(WorkerEvent::Done { run, outcome });
        }
        match (ending, self.queue.pop_front()) {
            (Some(Ending::Interrupt), Some(work)) if restored => {
                let outcome = Outcome::Interrupted { restored, threads_lost };
                self.tell(WorkerEvent::Done { run: work.run, outcome });
            }
            (_, Some(work)) => {
                let outcome = Outcome::Crashed { cause, why, restored, threads_lost };
                self.tell(WorkerEvent::Done { run: work.run, outcome });
            }
            (Some(Ending::Restart), None) => (),
            (Some(Ending::Undo | Ending::Lost | Ending::Interrupt) | None, None) => {
                self.tell(WorkerEvent::Died { cause, restored, threads_lost });
            }
        }
    }

    /// Sends all queued work to a process that has just become active. Only the first may fork
    /// again: the others' flags stand.
    pub(super) async fn send_queue(&mut self) {
        if !self.queue.is_empty() {
            self.begin();
        }
        let frames: Vec<Vec<u8>> = self.queue.iter().map(|work| work.frame.write()).collect();
        let protected = self.queue.iter().rfind(|work| work.snapshot);
        self.expected = protected.map(|work| work.run);
        if let Some(active) = &mut self.active {
            for frame in frames {
                let _ = active.write.write_all(&frame).await;
            }
        }
        if let Some(question) = self.question {
            self.send(&question.frame()).await;
        }
    }

    pub(super) fn stop(&mut self) {
        if self.group != 0 {
            // Whatever its cells have started, too.
            let _ = process::signal_group(self.group, Signal::Kill);
        }
        for link in [self.active.take(), self.sleeping.take()].into_iter().flatten() {
            let _ = process::signal(link.pid, Signal::Kill);
            // Collected in the background; at our own end the system does it.
            let pid = link.pid;
            std::mem::drop(tokio::task::spawn_blocking(move || process::reap(pid)));
        }
    }
}
