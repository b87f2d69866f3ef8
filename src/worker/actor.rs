//! The task that owns one worker: which process runs, which sleeps, what is queued. It wakes the
//! snapshot when the running process dies and starts a new one when there is none. The only writer
//! of worker frames.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use prust_runtime::frame::{FromWorker, Status, ToWorker};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::death::Scene;
use super::life::{self, Incoming, Meeting};
use super::output::Stream;
use super::question::{Question, Surroundings};
use super::watch::Watch;
use super::{Command, Config, Costs, Failure, Outcome, Snapshots, Std, WorkerEvent};
use crate::process::{self, Outward, Signal};

mod lingering;
mod reading;
mod succession;

use lingering::{Lingering, linger};
use reading::Reading;

/// An interrupted cell that waits on the host may unwind by itself for this long; then it is
/// killed.
const UNWIND_TIME: Duration = Duration::from_millis(600);

/// A snapshot that was asked for connects within this time, even on a loaded machine.
const SNAPSHOT_TIME: Duration = Duration::from_secs(3);

/// Frames of a worker that are handled before its output is looked at again.
const HEARD_MAX: usize = 16;

/// A connected process: the running worker or the sleeping snapshot.
struct Link {
    link: u64,
    pid: u32,
    write: Outward,
    /// The run a snapshot was taken for.
    snapshot: u64,
    threads: Vec<String>,
}

/// One piece of work that was sent and has not ended.
struct Running {
    run: u64,
    frame: ToWorker,
    snapshot: bool,
    /// Without a snapshot of its own it goes on under the one before.
    keep: bool,
    mutates: bool,
}

impl Running {
    fn is_call(&self) -> bool {
        matches!(self.frame, ToWorker::Call { .. })
    }
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
    reading: Reading,
    lingering: Lingering,
    links: u64,
    active: Option<Link>,
    sleeping: Option<Link>,
    queue: VecDeque<Running>,
    /// The host waits for an answer; a worker that starts meanwhile is asked again.
    question: Option<Question>,
    /// The worker was asked for the calls that it has not begun.
    recalling: bool,
    /// Requests of the active link that topic "client" holds: an interrupt is delivered there.
    waiting: Vec<u64>,
    ending: Option<Ending>,
    kept: Option<(u64, Failure)>,
    kill_at: Option<Instant>,
    snapshots: Snapshots,
    /// The process group of the worker, its snapshots and what its cells have started.
    group: u32,
    scene: Scene,
    /// Threads that the running process has lost in waking up.
    lost: Vec<String>,
    watch: Option<Watch>,
    /// Requests other than the client's, such as for input, that have no answer yet.
    asking: Vec<u64>,
    /// The user was told what an interrupt would cost.
    warned: bool,
    /// The state changed since the sleeping snapshot was taken.
    changed: bool,
    /// The run whose snapshot was asked for last and should be sleeping, or be about to connect.
    expected: Option<u64>,
    /// The process is gone and its snapshot has not yet connected; until when to wait for it.
    awaiting: Option<(Instant, End)>,
}

/// How the running process ended.
struct End {
    cause: String,
    why: Failure,
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
            reading: Reading::default(),
            lingering: Lingering::new(),
            links: 0,
            active: None,
            sleeping: None,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            ending: None,
            question: None,
            recalling: false,
            kept: None,
            kill_at: None,
            snapshots: Snapshots::default(),
            group: 0,
            scene: Scene::default(),
            lost: Vec::new(),
            watch: None,
            asking: Vec::new(),
            warned: false,
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
            let look_at = self.watch.as_ref().map(|watch| watch.due);
            let held_until = [&self.stdout.0, &self.stderr.0].into_iter().filter_map(Stream::due);
            let held_until = held_until.min();
            let lingers_until = self.lingering.until();
            tokio::select! {
                biased;
                () = self.stdout.0.readable(), if self.reads_live() => self.drain_stdout(),
                () = self.stderr.0.readable(), if self.reads_live() => self.drain_stderr(),
                () = reading::prints_long(&self.stdout.0, &self.stderr.0),
                    if self.has_ahead() && !self.recalling => self.recall().await,
                Some(incoming) = self.incoming.1.recv() => self.heard_with_more(incoming).await,
                Ok((stream, _)) = self.meeting.listener.accept() => {
                    self.links += 1;
                    tokio::spawn(life::listen_to(self.links, stream, self.incoming.0.clone()));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.deadline_passed().await;
                }
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    self.look();
                }
                () = sleep_until(held_until.unwrap_or_else(Instant::now)),
                    if held_until.is_some() => self.release(),
                () = linger(lingers_until), if lingers_until.is_some() => self.lingering.end(),
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
            Ok(pid) => {
                self.group = pid;
                true
            }
            Err(error) => {
                let exe = self.config.exe.display();
                self.tell(WorkerEvent::Failed { why: format!("cannot start {exe}: {error}") });
                false
            }
        }
    }

    fn look(&mut self) {
        let excused = !self.waiting.is_empty() || !self.asking.is_empty();
        let (Some(watch), Some(active)) = (&mut self.watch, &self.active) else { return };
        if watch.look(active.pid, excused) {
            self.watch = None;
            self.tell(WorkerEvent::Stuck { threads_lost: self.lost.clone() });
        }
    }

    async fn commanded(&mut self, command: Command) {
        match command {
            Command::Run { run, library, entry, first } => {
                let snapshot = first && self.wants_snapshot();
                if first {
                    self.scene.count_kills();
                }
                let library = library.display().to_string();
                let frame = ToWorker::Run { run, library, entry, snapshot };
                self.enqueue(Running { run, frame, snapshot, keep: !first, mutates: true }).await;
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
                let mutates = call.mutates;
                self.enqueue(Running { run, frame, snapshot, keep: true, mutates }).await;
            }
            Command::Reply { request, status, head, body } => {
                self.reply(request, status, head, body).await;
            }
            Command::Load { library } => {
                self.send(&ToWorker::Load { library: library.display().to_string() }).await;
            }
            Command::Snapshots { when } => self.snapshots = when,
            Command::Ask(question) => {
                self.question = Some(question);
                self.send(&question.frame()).await;
            }
            Command::Recall => self.recall().await,
            Command::ReadOn => self.read_on().await,
            Command::Interrupt => self.interrupt().await,
            Command::Undo if self.expected.is_none() => self.tell(WorkerEvent::NoSnapshot),
            Command::Undo => self.end(Ending::Undo),
            Command::Restart => self.end(Ending::Restart),
            Command::Stop => (),
        }
    }

    fn wants_snapshot(&self) -> bool {
        match self.snapshots {
            Snapshots::Never => return false,
            Snapshots::Always => return true,
            Snapshots::Sized => (),
        }
        let resident_bytes = self.resident_bytes();
        let small = resident_bytes <= self.config.snapshot_bytes_max;
        if !small {
            self.tell(WorkerEvent::Unprotected { resident_bytes });
        }
        small
    }

    fn resident_bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |link| life::resident_bytes(link.pid))
    }

    async fn enqueue(&mut self, work: Running) {
        if work.snapshot {
            self.changed = false;
        }
        self.changed |= work.mutates;
        if self.queue.is_empty() {
            self.begin();
        }
        if self.active.is_some() && self.ending.is_none() {
            self.expect_snapshot(&work);
            self.send(&work.frame).await;
        }
        self.queue.push_back(work);
    }

    /// Work begins, after there was none.
    fn begin(&mut self) {
        self.scene.begin();
        self.warned = false;
        self.watch = (!self.lost.is_empty()).then(Watch::new);
    }

    /// What can be woken once `work` has begun. A cell that runs without a snapshot makes the one
    /// before a lie about the past: it is let go, and ends at the end of its connection.
    fn expect_snapshot(&mut self, work: &Running) {
        if work.snapshot {
            self.expected = Some(work.run);
        } else if !work.keep {
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
            self.asking.retain(|asking| *asking != request);
            self.send(&ToWorker::Reply { request, status, head, body }).await;
            self.lingering.answered(Instant::now().into_std());
        }
    }

    async fn interrupt(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        if self.waiting.is_empty() {
            let costs = self.expected.is_none() && !std::mem::replace(&mut self.warned, true);
            return if costs {
                self.tell(WorkerEvent::InterruptCosts);
            } else if self.is_asleep() {
                self.end(Ending::Interrupt);
            } else {
                // The snapshot is being taken: until it is there, a kill costs all variables.
                self.kill_at.get_or_insert(Instant::now() + SNAPSHOT_TIME);
            };
        }
        self.kill_at = Some(Instant::now() + UNWIND_TIME);
        for request in std::mem::take(&mut self.waiting) {
            let (head, body) = (Vec::new(), Vec::new());
            self.send(&ToWorker::Reply { request, status: Status::Interrupted, head, body }).await;
        }
    }

    /// Whether the snapshot that would wake is there, if there is to be one.
    fn is_asleep(&self) -> bool {
        let asleep = self.sleeping.as_ref().map(|sleeping| sleeping.snapshot);
        self.expected.is_none() || asleep == self.expected
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
        if let Some((_, end)) = self.awaiting.take() {
            self.resume(end, None).await;
        }
    }

    /// With what has come with it, up to a limit.
    async fn heard_with_more(&mut self, incoming: Incoming) {
        self.heard(incoming).await;
        for _ in 1..HEARD_MAX {
            let Ok(incoming) = self.incoming.1.try_recv() else { return };
            self.heard(incoming).await;
        }
    }

    async fn heard(&mut self, incoming: Incoming) {
        self.lingering.heard(Instant::now().into_std());
        match incoming {
            Incoming::Hello { link, pid, snapshot: 0, threads, write } => {
                self.active = Some(Link { link, pid, write, snapshot: 0, threads });
                self.tell(WorkerEvent::Ready { pid });
                self.send_queue().await;
            }
            Incoming::Hello { snapshot, .. } if Some(snapshot) != self.expected => (),
            Incoming::Hello { link, pid, snapshot, threads, write } => {
                self.sleeping = Some(Link { link, pid, write, snapshot, threads });
                if self.kill_at.is_some() && self.waiting.is_empty() && self.awaiting.is_none() {
                    // An interrupt came before it.
                    self.end(Ending::Interrupt);
                }
                if let Some((_, end)) = self.awaiting.take() {
                    let sleeping = self.sleeping.take();
                    self.resume(end, sleeping).await;
                }
            }
            Incoming::Frame { link, frame: FromWorker::Request { request, topic, head, body } }
                if reading::arranges(&topic) =>
            {
                self.arranged((link << 32) | request, &topic, &head, &body).await;
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
            FromWorker::Display { kind, id, data } => self.displayed(kind, id, data),
            FromWorker::Request { request, topic, head, body } => {
                // What is only told shows nothing.
                if request != 0 {
                    self.drain_before();
                }
                match (request, topic.as_str()) {
                    (0, _) => (),
                    (_, "client") => self.waiting.push(request),
                    _ => self.asking.push(request),
                }
                let request = if request == 0 { 0 } else { (link << 32) | request };
                self.tell(WorkerEvent::Request { request, topic, head, body });
            }
            FromWorker::Recalled { runs } => self.recalled(runs),
            FromWorker::LastWords { failure } => self.scene.last_words = Some(failure),
            FromWorker::Surroundings { folder, variables } => {
                self.question = None;
                self.tell(WorkerEvent::Surroundings(Surroundings::read(folder, variables)));
            }
            FromWorker::Measured { fork_micros, write_micros_per_gibibyte } => {
                self.question = None;
                let resident_bytes = self.resident_bytes();
                let bytes_max = self.config.snapshot_bytes_max;
                self.tell(WorkerEvent::Measured {
                    costs: Costs {
                        resident_bytes,
                        bytes_max,
                        fork_micros,
                        write_micros_per_gibibyte,
                    },
                });
            }
            // It ended as it was being killed: what it has changed goes with the process, so the
            // interrupt came first.
            FromWorker::Done { .. } if self.ending == Some(Ending::Interrupt) => (),
            FromWorker::Done { run, failure, lost, value, unread } => {
                self.queue.retain(|running| running.run != run);
                self.end_output(unread);
                self.ended(run, failure, lost, value);
            }
        }
    }

    fn ended(&mut self, run: u64, failure: Option<Failure>, lost: Vec<String>, value: Vec<u8>) {
        self.kill_at = None;
        self.forget_requests();
        if self.queue.is_empty() {
            self.watch = None;
        }
        let outcome = match failure {
            None => Outcome::Ok { value },
            Some(failure) if failure.ename == "Interrupted" && lost.is_empty() => {
                Outcome::Interrupted { restored: false, threads_lost: Vec::new() }
            }
            Some(failure) if !lost.is_empty() && self.expected.is_some() => {
                self.kept = Some((run, failure));
                return self.end(Ending::Lost);
            }
            Some(failure) => {
                Outcome::Error { failure, restored: false, lost, threads_lost: Vec::new() }
            }
        };
        self.tell(WorkerEvent::Done { run, outcome });
    }

    fn forget_requests(&mut self) {
        self.waiting.clear();
        self.asking.clear();
    }
}
