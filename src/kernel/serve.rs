//! The kernel's loop: sockets, signals and timers become events, effects become messages. Decides
//! nothing itself.
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};

use super::face::{Effect, Event, Face, Moment};
use super::outbox::Outgoing;
use super::requests;
use super::seam::{Outcome, Report, Work};
use crate::wire::connection::{Channel, FileError, KernelFile};
use crate::wire::{
    Batch, Context, Draft, Frames, Kind, Opened, Reader, SocketError, Spec, Writer, socket,
};

/// How long the first broadcasts wait for a subscriber.
const HOLD: Duration = Duration::from_secs(1);
/// How long an error that is known at once waits for the cells that were sent with its cell, so
/// that they are aborted. Whoever waits for the reply before the next cell is never hit by it.
const SETTLE: Duration = Duration::from_millis(20);
/// How long the executor may take to end its processes; Jupyter kills the kernel after five.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How often the parent process is looked at.
const PARENT_CHECK: Duration = Duration::from_secs(1);

/// What a kernel is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub connection_file: PathBuf,
    /// The value of `JPY_PARENT_PID`: the process whose end is the kernel's end.
    pub parent_pid: Option<u32>,
    pub username: String,
}

/// Why the kernel could not run.
#[derive(Debug)]
pub enum KernelError {
    File(FileError),
    Socket(SocketError),
    Signals { source: std::io::Error },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Socket(error) => error.fmt(f),
            Self::Signals { source } => write!(f, "listen for signals: {source}"),
        }
    }
}

impl std::error::Error for KernelError {}

/// A kernel whose sockets are bound: frontends can connect, nobody answers yet.
pub struct Bound {
    settings: Settings,
    context: Context,
    file: KernelFile,
    opened: Opened,
    interrupts: Signal,
    terminations: Signal,
}

/// Binds the sockets and fills in the connection file. Apart from `serve`, so that nothing else
/// is started for a file that cannot be used.
///
/// # Errors
/// When the connection file cannot be used or an address is taken.
pub fn bind(settings: Settings) -> Result<Bound, KernelError> {
    // Before anything else: an interrupt during the start must not kill the kernel.
    let listen = |kind| signal(kind).map_err(|source| KernelError::Signals { source });
    let interrupts = listen(SignalKind::interrupt())?;
    let terminations = listen(SignalKind::terminate())?;
    let context = Context::new();
    let (file, opened) = open(&context, &settings.connection_file)?;
    Ok(Bound { settings, context, file, opened, interrupts, terminations })
}

/// Serves frontends until a shutdown. `work` and `reports` lead to the executor; the end of
/// `reports` means that it has ended its processes.
pub async fn serve(bound: Bound, work: UnboundedSender<Work>, reports: UnboundedReceiver<Report>) {
    let Bound { settings, context, file, opened, mut interrupts, mut terminations } = bound;
    let mut kernel = Kernel::new(&settings, &file, opened, work, reports);
    let mut orphaned = tokio::spawn(orphaned(settings.parent_pid));
    let hold_over = TokioInstant::now() + HOLD;
    kernel.held = true;
    kernel.handle(None);
    while !kernel.exiting {
        let deadline = kernel.face.deadline().map(TokioInstant::from_std);
        let next_tick = deadline.unwrap_or_else(far_future);
        let settles_at = kernel.settles_at();
        tokio::select! {
            biased;
            Some(batch) = kernel.incoming.recv() => kernel.receive(batch),
            // Before the reports, of which a cell may make more without end.
            Some(()) = interrupts.recv() => kernel.handle(Some(Event::Interrupt)),
            Some(()) = terminations.recv() => kernel.handle(Some(Event::Terminate)),
            Ok(()) = &mut orphaned => kernel.handle(Some(Event::Terminate)),
            Some(report) = kernel.reports.recv() => {
                kernel.receive_all();
                kernel.handle(Some(Event::Report(report)));
            }
            () = sleep_until(settles_at) => {
                kernel.receive_all();
                if let Some((_, report)) = kernel.settling.pop_front() {
                    kernel.handle(Some(Event::Report(report)));
                }
            }
            () = sleep_until(next_tick) => kernel.handle(Some(Event::Tick)),
            () = sleep_until(hold_over), if kernel.held => {
                kernel.held = false;
                kernel.handle(Some(Event::HoldOver));
            }
        }
    }
    orphaned.abort();
    kernel.close().await;
    // Waits for the last messages to leave.
    drop(context);
}

struct Kernel {
    face: Face,
    writer: Writer,
    reader: Reader,
    sockets: crate::wire::Sockets,
    incoming: Receiver<Batch>,
    work: UnboundedSender<Work>,
    reports: UnboundedReceiver<Report>,
    /// Reports of the face to itself and when they are due: at most one per running cell.
    settling: VecDeque<(TokioInstant, Report)>,
    held: bool,
    exiting: bool,
}

impl Kernel {
    fn new(
        settings: &Settings,
        file: &KernelFile,
        opened: Opened,
        work: UnboundedSender<Work>,
        reports: UnboundedReceiver<Report>,
    ) -> Self {
        let Opened { sockets, incoming, .. } = opened;
        let session = uuid::Uuid::new_v4().to_string();
        let kernel_id = uuid::Uuid::new_v4().to_string();
        let Value::Object(ports) = requests::connect_ports(file) else {
            unreachable!("the ports are an object")
        };
        tracing::info!(%session, path = %settings.connection_file.display(), "the kernel listens");
        Self {
            face: Face::new(&session, &kernel_id, ports),
            writer: Writer::new(&file.key, session, &settings.username),
            reader: Reader::new(&file.key),
            sockets,
            incoming,
            work,
            reports,
            settling: VecDeque::new(),
            held: false,
            exiting: false,
        }
    }

    fn settles_at(&self) -> TokioInstant {
        self.settling.front().map_or_else(far_future, |(due, _)| *due)
    }

    /// Handles everything that has arrived, so that an error finds the queue as it is.
    fn receive_all(&mut self) {
        while let Ok(batch) = self.incoming.try_recv() {
            self.receive(batch);
        }
    }

    fn receive(&mut self, batch: Batch) {
        for (position, frames) in batch {
            let Some(event) = self.event(position, frames) else { continue };
            self.handle(Some(event));
        }
    }

    fn event(&mut self, position: usize, frames: Frames) -> Option<Event> {
        let channel = *Channel::ALL.get(position)?;
        if channel == Channel::IoPub {
            // The first byte says whether somebody comes (1) or goes (0).
            let subscription = frames.first()?.strip_prefix(&[1])?;
            return Some(Event::Subscribed(subscription.to_vec()));
        }
        let message = match self.reader.read(frames) {
            Ok(message) => message,
            Err(why) => {
                tracing::debug!(?channel, ?why, "dropped a message");
                return None;
            }
        };
        tracing::debug!(?channel, msg_type = message.header.msg_type, "arrived");
        match channel {
            Channel::Shell => Some(Event::Shell(message)),
            Channel::Control => Some(Event::Control(message)),
            Channel::Stdin => Some(Event::Stdin(message)),
            Channel::IoPub | Channel::Heartbeat => None,
        }
    }

    /// Handles one event (or only what is there to do at the start) and performs the effects.
    fn handle(&mut self, event: Option<Event>) {
        let now = Moment { instant: Instant::now(), wall: SystemTime::now() };
        let effects = match event {
            Some(event) => self.face.handle(event, now),
            None => self.face.outbox.take(),
        };
        let mut batch = Batch::new();
        for effect in effects {
            match effect {
                Effect::Send(outgoing) => batch.push(self.written(outgoing)),
                Effect::Work(work) => {
                    if self.work.send(work).is_err() {
                        tracing::error!("the executor is gone");
                    }
                }
                Effect::Report(report) => {
                    let failed =
                        matches!(&report, Report::Done { outcome: Outcome::Error { .. }, .. });
                    let delay = if failed { SETTLE } else { Duration::ZERO };
                    self.settling.push_back((TokioInstant::now() + delay, report));
                }
                Effect::Exit => self.exiting = true,
            }
        }
        self.sockets.send_batch(batch);
    }

    fn written(&self, outgoing: Outgoing) -> (usize, Frames) {
        let Outgoing { channel, ids, msg_id, date, msg_type, parent, metadata, content, buffers } =
            outgoing;
        let draft = Draft::new(&msg_type, &content)
            .to(&ids)
            .answering(&parent.0)
            .metadata(&metadata)
            .buffers(buffers)
            .msg_id(msg_id)
            .date(date);
        let (_, frames) = self.writer.write(draft);
        let position = Channel::ALL.iter().position(|other| *other == channel);
        (position.expect("ALL holds every channel"), frames)
    }

    async fn close(mut self) {
        // The executor drops its sender when its processes have ended.
        drop(self.work);
        let ended = async { while self.reports.recv().await.is_some() {} };
        if timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("the executor did not end in time");
        }
        self.reader.log_dropped();
        self.sockets.close();
    }
}

/// Reads the connection file, binds the five sockets, and writes the file back if ports were open.
fn open(context: &Context, path: &Path) -> Result<(KernelFile, Opened), KernelError> {
    let mut file = KernelFile::read(path).map_err(KernelError::File)?;
    file.choose_ipc_ports();
    let spec = |channel: Channel| {
        let endpoint = file.endpoint(channel);
        match channel {
            Channel::IoPub => Spec::bind(Kind::XPub, endpoint),
            // A ROUTER that returns what it gets; a REP could wedge on a dead peer.
            Channel::Heartbeat => Spec::bind(Kind::Router, endpoint).echo(),
            Channel::Shell | Channel::Stdin | Channel::Control => {
                Spec::bind(Kind::Router, endpoint)
            }
        }
    };
    let specs = Channel::ALL.into_iter().map(spec).collect();
    let opened = socket::open(context, "jupyter", specs).map_err(KernelError::Socket)?;
    file.fill_ports(path, &opened.endpoints).map_err(KernelError::File)?;
    Ok((file, opened))
}

fn far_future() -> TokioInstant {
    TokioInstant::now() + Duration::from_secs(3600)
}

/// Ends when the process that started the kernel has ended; never, if it is not our parent (a
/// wrapper is between) or is the first process of the machine.
async fn orphaned(parent_pid: Option<u32>) {
    let watched = parent_pid.filter(|pid| *pid > 1 && *pid == crate::process::parent());
    let Some(pid) = watched else { return std::future::pending().await };
    while crate::process::parent() == pid {
        tokio::time::sleep(PARENT_CHECK).await;
    }
    tracing::info!(pid, "the process that started the kernel has ended");
}
