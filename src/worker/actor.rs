//! The task that owns one worker: which process runs, which sleeps, what is queued. It wakes the
//! snapshot when the running process dies and starts a new one when there is none. The only writer
//! of worker frames.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use prust_runtime::frame::{FromWorker, Status, ToWorker};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::life::{self, Incoming, Meeting};
use super::output::{LIVE_READS, Stream};
use super::{Command, Config, Outcome, Std, WorkerEvent};
use crate::process::{self, Signal};

/// An interrupted cell that waits on the host may unwind by itself for this long; then it is
/// killed.
const UNWIND_TIME: Duration = Duration::from_millis(600);

/// A snapshot that was asked for connects within this time, even on a loaded machine.
const SNAPSHOT_TIME: Duration = Duration::from_secs(3);

/// A connected process: the running worker or the sleeping snapshot.
struct Link {
    link: u64,
    pid: u32,
    write: OwnedWriteHalf,
    /// The run a snapshot was taken for.
    snapshot: u64,
    threads: Vec<String>,
}

/// One piece of work that was sent and has not ended.
struct Running {
    run: u64,
    frame: ToWorker,
    snapshot: bool,
    mutates: bool,
}

/// Why the running process is being ended by us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Interrupt,
    Undo,
    Restart,
    /// A failed cell lost a variable: its own outcome was kept for when the snapshot is awake.
    Lost,
}

pub(super) struct Actor {
    config: Config,
    events: UnboundedSender<WorkerEvent>,
    meeting: Meeting,
    incoming: (UnboundedSender<Incoming>, UnboundedReceiver<Incoming>),
    stdout: (Stream, io::PipeWriter),
    stderr: (Stream, io::PipeWriter),
    links: u64,
    active: Option<Link>,
    sleeping: Option<Link>,
    queue: VecDeque<Running>,
    /// Requests of the active link that topic "client" holds: an interrupt is delivered there.
    waiting: Vec<u64>,
    ending: Option<Ending>,
    kept: Option<WorkerEvent>,
    kill_at: Option<Instant>,
    snapshots: bool,
    /// The state changed since the sleeping snapshot was taken.
    changed: bool,
    /// The run whose snapshot was asked for last and should be sleeping, or be about to connect.
    expected: Option<u64>,
    /// The process is gone and its snapshot has not yet connected; until when to wait for it.
    awaiting: Option<(Instant, String)>,
}

impl Actor {
    pub(super) fn new(config: Config, events: UnboundedSender<WorkerEvent>) -> io::Result<Self> {
        // Snapshots outlive the worker that forked them: they must become our children.
        process::adopt_orphans()?;
        Ok(Self {
            config,
            events,
            meeting: Meeting::new()?,
            incoming: unbounded_channel(),
            stdout: Stream::new(Std::Out)?,
            stderr: Stream::new(Std::Err)?,
            links: 0,
            active: None,
            sleeping: None,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            ending: None,
            kept: None,
            kill_at: None,
            snapshots: true,
            changed: true,
            expected: None,
            awaiting: None,
        })
    }

    /// The loop: one event at a time until stopped or every handle is gone.
    pub(super) async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        if !self.spawn() {
            return;
        }
        loop {
            let deadline = self.kill_at.or(self.awaiting.as_ref().map(|(until, _)| *until));
            tokio::select! {
                biased;
                () = self.stdout.0.readable() => self.drain_stdout(),
                () = self.stderr.0.readable() => self.drain_stderr(),
                Some(incoming) = self.incoming.1.recv() => self.heard(incoming).await,
                Ok((stream, _)) = self.meeting.listener.accept() => {
                    self.links += 1;
                    tokio::spawn(life::listen_to(self.links, stream, self.incoming.0.clone()));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.deadline_passed().await;
                }
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => return self.stop(),
                    Some(command) => self.commanded(command).await,
                },
            }
        }
    }

    fn tell(&self, event: WorkerEvent) {
        // The owner may have dropped its end; the loop ends when the handles are gone too.
        let _ = self.events.send(event);
    }

    fn spawn(&mut self) -> bool {
        match life::spawn(&self.config, &self.meeting, &self.stdout.1, &self.stderr.1) {
            Ok(_) => true,
            Err(error) => {
                let exe = self.config.exe.display();
                self.tell(WorkerEvent::Failed { why: format!("cannot start {exe}: {error}") });
                false
            }
        }
    }

    fn drain_stdout(&mut self) {
        let events = self.stdout.0.drain(LIVE_READS);
        events.into_iter().for_each(|event| self.tell(event));
    }

    fn drain_stderr(&mut self) {
        let events = self.stderr.0.drain(LIVE_READS);
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// All that was printed so far, told.
    fn drain_all(&mut self) {
        let mut events = self.stdout.0.finish();
        events.extend(self.stderr.0.finish());
        events.into_iter().for_each(|event| self.tell(event));
    }

    async fn commanded(&mut self, command: Command) {
        match command {
            Command::Run { run, library, entry } => {
                let snapshot = self.wants_snapshot();
                let library = library.display().to_string();
                let frame = ToWorker::Run { run, library, entry, snapshot };
                self.enqueue(Running { run, frame, snapshot, mutates: true }).await;
            }
            Command::Call { run, call } => {
                let snapshot = self.changed && self.wants_snapshot();
                let frame = ToWorker::Call {
                    run,
                    library: call.library.display().to_string(),
                    offset: call.offset,
                    snapshot,
                    payload: call.payload,
                };
                self.enqueue(Running { run, frame, snapshot, mutates: call.mutates }).await;
            }
            Command::Reply { request, status, head, body } => {
                self.reply(request, status, head, body).await;
            }
            Command::Clear { names } => {
                self.changed = true;
                self.send(&ToWorker::Clear { names }).await;
            }
            Command::Load { library } => {
                self.send(&ToWorker::Load { library: library.display().to_string() }).await;
            }
            Command::Snapshots { on } => self.snapshots = on,
            Command::Interrupt => self.interrupt().await,
            Command::Undo => self.end(Ending::Undo),
            Command::Restart => self.end(Ending::Restart),
            Command::Stop => (),
        }
    }

    fn wants_snapshot(&self) -> bool {
        if !self.snapshots {
            return false;
        }
        let resident_bytes = self.active.as_ref().map_or(0, |link| life::resident_bytes(link.pid));
        let small = resident_bytes <= self.config.snapshot_bytes_max;
        if !small {
            self.tell(WorkerEvent::Unprotected { resident_bytes });
        }
        small
    }

    async fn enqueue(&mut self, work: Running) {
        if work.snapshot {
            self.changed = false;
        }
        self.changed |= work.mutates;
        if self.active.is_some() && self.ending.is_none() {
            self.expect_snapshot(&work);
            self.send(&work.frame).await;
        }
        self.queue.push_back(work);
    }

    /// What can be woken once `work` has begun. A cell that runs without a snapshot makes the one
    /// before a lie about the past: it is let go, and ends at the end of its connection.
    fn expect_snapshot(&mut self, work: &Running) {
        if work.snapshot {
            self.expected = Some(work.run);
        } else if matches!(work.frame, ToWorker::Run { .. }) {
            self.expected = None;
            self.sleeping = None;
        }
    }

    async fn send(&mut self, frame: &ToWorker) {
        if let Some(active) = &mut self.active {
            // A dead worker shows as the end of its connection, and the queue is sent again.
            let _ = active.write.write_all(&frame.write()).await;
        }
    }

    async fn reply(&mut self, request: u64, status: Status, head: Vec<u8>, body: Vec<u8>) {
        let Some(link) = self.active.as_ref().map(|active| active.link) else { return };
        let (asked, request) = (request >> 32, request & 0xFFFF_FFFF);
        if asked == link {
            self.waiting.retain(|waiting| *waiting != request);
            self.send(&ToWorker::Reply { request, status, head, body }).await;
        }
    }

    async fn interrupt(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        if self.waiting.is_empty() {
            return self.end(Ending::Interrupt);
        }
        self.kill_at = Some(Instant::now() + UNWIND_TIME);
        for request in std::mem::take(&mut self.waiting) {
            let (head, body) = (Vec::new(), Vec::new());
            self.send(&ToWorker::Reply { request, status: Status::Interrupted, head, body }).await;
        }
    }

    /// Ends the running process; what follows is decided when its connection ends.
    fn end(&mut self, ending: Ending) {
        self.kill_at = None;
        self.ending = Some(ending);
        if let Some(active) = &self.active {
            // Already gone is as good.
            let _ = process::signal(active.pid, Signal::Kill);
        }
    }

    async fn deadline_passed(&mut self) {
        if self.kill_at.take().is_some() {
            return self.end(Ending::Interrupt);
        }
        if let Some((_, cause)) = self.awaiting.take() {
            self.resume(cause, None).await;
        }
    }

    async fn heard(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Hello { link, pid, snapshot: 0, threads, write } => {
                self.active = Some(Link { link, pid, write, snapshot: 0, threads });
                self.tell(WorkerEvent::Ready { pid });
                self.send_queue().await;
            }
            Incoming::Hello { snapshot, .. } if Some(snapshot) != self.expected => (),
            Incoming::Hello { link, pid, snapshot, threads, write } => {
                self.sleeping = Some(Link { link, pid, write, snapshot, threads });
                if let Some((_, cause)) = self.awaiting.take() {
                    let sleeping = self.sleeping.take();
                    self.resume(cause, sleeping).await;
                }
            }
            Incoming::Frame { link, frame } => {
                if self.active.as_ref().is_some_and(|active| active.link == link) {
                    self.framed(link, frame);
                }
            }
            Incoming::Gone { link } => self.gone(link).await,
        }
    }

    fn framed(&mut self, link: u64, frame: FromWorker) {
        match frame {
            FromWorker::Hello { .. } => (),
            FromWorker::Display { kind, id, data } => {
                self.drain_stdout();
                self.tell(WorkerEvent::Display { kind, id, data });
            }
            FromWorker::Request { request, topic, head, body } => {
                self.drain_stdout();
                if topic == "client" && request != 0 {
                    self.waiting.push(request);
                }
                let request = if request == 0 { 0 } else { (link << 32) | request };
                self.tell(WorkerEvent::Request { request, topic, head, body });
            }
            FromWorker::Done { run, failure, lost, value } => {
                self.drain_all();
                self.kill_at = None;
                self.waiting.clear();
                self.queue.retain(|running| running.run != run);
                let outcome = match failure {
                    None => Outcome::Ok { value },
                    Some(failure) if failure.ename == "Interrupted" => {
                        Outcome::Interrupted { restored: false, threads_lost: Vec::new() }
                    }
                    Some(failure) => Outcome::Error { failure, restored: !lost.is_empty() },
                };
                let lost_by_failure = !lost.is_empty() && !matches!(outcome, Outcome::Ok { .. });
                let done = WorkerEvent::Done { run, outcome };
                if lost_by_failure && self.expected.is_some() {
                    self.kept = Some(done);
                    self.end(Ending::Lost);
                } else {
                    self.tell(done);
                }
            }
        }
    }

    async fn gone(&mut self, link: u64) {
        if let Some(sleeping) = self.sleeping.take_if(|sleeping| sleeping.link == link) {
            self.expected.take_if(|run| *run == sleeping.snapshot);
            return;
        }
        let Some(active) = self.active.take_if(|active| active.link == link) else { return };
        let pid = active.pid;
        let status = tokio::task::spawn_blocking(move || process::reap(pid)).await;
        let cause = life::cause(status.unwrap_or_else(|error| Err(io::Error::other(error))));
        self.waiting.clear();
        self.drain_all();
        let asleep = self.sleeping.as_ref().map(|sleeping| sleeping.snapshot);
        let missing = self.expected.is_some() && asleep != self.expected;
        if self.ending != Some(Ending::Restart) && missing {
            self.awaiting = Some((Instant::now() + SNAPSHOT_TIME, cause));
        } else {
            let sleeping =
                self.sleeping.take_if(|sleeping| Some(sleeping.snapshot) == self.expected);
            self.resume(cause, sleeping).await;
        }
    }

    /// Goes on after the running process died: with the snapshot, or from nothing.
    async fn resume(&mut self, cause: String, sleeping: Option<Link>) {
        let ending = self.ending.take();
        self.changed = true;
        self.expected = None;
        let sleeping = sleeping.filter(|_| ending != Some(Ending::Restart));
        let restored = sleeping.is_some();
        let threads_lost =
            sleeping.as_ref().map(|sleeping| sleeping.threads.clone()).unwrap_or_default();
        if let Some(mut sleeping) = sleeping {
            let _ = sleeping.write.write_all(&ToWorker::Wake.write()).await;
            self.active = Some(sleeping);
        } else if !self.spawn() {
            return;
        }
        self.report(ending, cause, restored, threads_lost);
        if restored {
            self.send_queue().await;
        }
    }

    fn report(&mut self, ending: Option<Ending>, cause: String, restored: bool, lost: Vec<String>) {
        let threads_lost = lost;
        if let Some(kept) = self.kept.take() {
            return self.tell(kept);
        }
        match (ending, self.queue.pop_front()) {
            (Some(Ending::Interrupt), Some(work)) if restored => {
                let outcome = Outcome::Interrupted { restored, threads_lost };
                self.tell(WorkerEvent::Done { run: work.run, outcome });
            }
            (_, Some(work)) => {
                let outcome = Outcome::Crashed { cause, restored, threads_lost };
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
    async fn send_queue(&mut self) {
        let frames: Vec<Vec<u8>> = self.queue.iter().map(|work| work.frame.write()).collect();
        let protected = self.queue.iter().rfind(|work| work.snapshot);
        self.expected = protected.map(|work| work.run);
        if let Some(active) = &mut self.active {
            for frame in frames {
                let _ = active.write.write_all(&frame).await;
            }
        }
    }

    fn stop(&mut self) {
        for link in [self.active.take(), self.sleeping.take()].into_iter().flatten() {
            let _ = process::signal(link.pid, Signal::Kill);
            // Collected in the background; at our own end the system does it.
            let pid = link.pid;
            std::mem::drop(tokio::task::spawn_blocking(move || process::reap(pid)));
        }
    }
}
