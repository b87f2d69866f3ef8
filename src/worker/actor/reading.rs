//! What the worker prints and shows, told to the owner at the owner's pace. Part of the [`Actor`].
//!
//! A cell prints faster than anybody reads. After so many bytes no more is read until the owner
//! says that it has handled them: the pipe fills, and the cell waits as it would for a terminal. So
//! neither memory nor the time until an interrupt is seen grows with what is printed.

use std::time::Duration;

use prust_runtime::door::{BLOCKS, SHOWN};
use prust_runtime::frame::{DisplayKind, Status};

use super::{Actor, Running};
use crate::worker::output::{LIVE_READS, Stream};
use crate::worker::{WorkerEvent, forms};

/// Where calls follow one another, one that prints is read at its end, but not later than this.
const LONG: Duration = Duration::from_millis(2);

/// How far the owner is behind.
#[derive(Default)]
pub(super) struct Reading {
    /// Told since the owner last said that it follows.
    ahead_bytes: usize,
    pub(super) paused: bool,
    /// Displays that wait for the owner before the cell goes on.
    held: Vec<u64>,
}

impl Actor {
    /// Whether what is printed is read at once. Where the worker has calls ahead, the next one may
    /// begin to print before the end of the one before is known here: then it is read at the ends.
    pub(super) fn reads_live(&self) -> bool {
        !self.reading.paused && !self.has_ahead()
    }

    /// Whether the worker has calls behind the one that runs. Nothing else is sent behind a call.
    pub(super) fn has_ahead(&self) -> bool {
        self.queue.len() > 1 && self.queue.back().is_some_and(Running::is_call)
    }

    /// A run or call has ended. Where another follows at once, what the worker says was unread is
    /// its output and no more; else all there is.
    pub(super) fn end_output(&mut self, unread: bool) {
        if unread || self.queue.is_empty() {
            return self.drain_all();
        }
        let events = self.stdout.0.end();
        self.tell_printed(events);
        let events = self.stderr.0.end();
        self.tell_stderr(events);
    }

    pub(super) fn drain_stdout(&mut self) {
        let events = self.stdout.0.drain(LIVE_READS);
        self.tell_printed(events);
    }

    pub(super) fn drain_stderr(&mut self) {
        let events = self.stderr.0.drain(LIVE_READS);
        self.tell_stderr(events);
    }

    fn tell_stderr(&mut self, events: Vec<WorkerEvent>) {
        for event in &events {
            if let WorkerEvent::Output { text, .. } = event {
                self.scene.wrote(text);
            }
        }
        self.tell_printed(events);
    }

    fn tell_printed(&mut self, events: Vec<WorkerEvent>) {
        for event in events {
            self.reading.ahead_bytes += match &event {
                WorkerEvent::Output { text, .. } => text.len(),
                WorkerEvent::Display { data, .. } => data.iter().map(|(_, text)| text.len()).sum(),
                _ => 0,
            };
            self.tell(event);
        }
        if self.reading.ahead_bytes > self.config.ahead_bytes_max && !self.reading.paused {
            self.reading.paused = true;
            self.tell(WorkerEvent::Paused);
        }
    }

    /// The owner has handled what it was told.
    pub(super) async fn read_on(&mut self) {
        let held = std::mem::take(&mut self.reading).held;
        for request in held {
            self.reply(request, Status::Ok, Vec::new(), Vec::new()).await;
        }
    }

    /// Gives out what was held back because of what might follow.
    pub(super) fn release(&mut self) {
        let events = self.stdout.0.release();
        self.tell_printed(events);
        let events = self.stderr.0.release();
        self.tell_stderr(events);
    }

    /// What was printed before the worker said something by the other way.
    pub(super) fn drain_before(&mut self) {
        self.drain_stdout();
        self.drain_stderr();
        self.release();
    }

    /// All that was printed so far, told.
    pub(super) fn drain_all(&mut self) {
        let events = self.stdout.0.finish();
        self.tell_printed(events);
        let events = self.stderr.0.finish();
        self.tell_stderr(events);
    }

    pub(super) fn displayed(&mut self, kind: DisplayKind, id: String, data: Vec<(String, String)>) {
        self.drain_before();
        let data = forms::readable(data);
        self.tell_printed(vec![WorkerEvent::Display { kind, id, data }]);
    }

    /// The cell waits until what it has shown so far is told, or says where blocks are shown.
    pub(super) async fn arranged(&mut self, request: u64, topic: &str, head: &[u8], body: &[u8]) {
        if topic == BLOCKS {
            self.drain_before();
            self.stdout.0.direct(head, body);
        }
        if self.reading.paused {
            self.reading.held.push(request);
        } else {
            self.reply(request, Status::Ok, Vec::new(), Vec::new()).await;
        }
    }
}

/// Waits until something printed has been there to be read for a while.
pub(super) async fn prints_long(stdout: &Stream, stderr: &Stream) {
    tokio::select! {
        () = stdout.readable() => (),
        () = stderr.readable() => (),
    }
    tokio::time::sleep(LONG).await;
}

/// Whether a request is for [`Actor::arranged`].
pub(super) fn arranges(topic: &str) -> bool {
    [SHOWN, BLOCKS].contains(&topic)
}
