//! The controller's loop: messages in, signatures checked, effects out, in batches. The only place
//! of this room that sends or reads the clock.
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use prust_cluster::{
    Channel, Cluster, Effect, Event, Head, Keeps, Message, Millis, Restored, Settings,
};
use tokio::sync::watch;

use super::Status;
use crate::process::Alarm;
use crate::store::Store;
use crate::wire::{Batch, Draft, Frames, OwnSockets, Reader, Writer};

/// How many bursts are taken together before answers are sent.
const BURSTS_MAX: usize = 16;
/// How many new tasks are taken in before engines are heard and answers are sent: a submission of
/// thousands must not keep the engines waiting.
const TASKS_PER_TURN_MAX: usize = 64;
/// How much may wait to be taken in; beyond that all of it is, or is refused.
const BACKLOG_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Served {
    pub(super) sockets: OwnSockets,
    pub(super) key: String,
    pub(super) settings: super::Settings,
    /// With what it has of a controller before this one.
    pub(super) store: Option<(Store, Restored)>,
    pub(super) connection_info: serde_json::Value,
}

/// Serves until a client asks for the end, or `stopped` says so.
pub(super) async fn serve(
    served: Served,
    mut stopped: watch::Receiver<bool>,
    status: watch::Sender<Status>,
) {
    let Served { mut sockets, key, settings, store, connection_info } = served;
    let (store, restored) = store.unzip();
    let mut server = Server::new(&key, &settings, store, connection_info);
    if let Some(restored) = restored {
        let mut outgoing = Batch::new();
        server.restore(restored, &mut outgoing);
        sockets.send_batch(outgoing);
    }
    let mut alarm = Alarm::new();
    loop {
        let mut outgoing = Batch::new();
        if server.backlog.is_empty() {
            let wait = server.cluster.next_deadline() - server.clock.now();
            alarm.set(Some(Instant::now() + Duration::from_millis(wait.0)));
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                burst = sockets.recv() => server.take(burst, &mut outgoing),
                () = alarm.ring() => {
                    server.handle(Event::Tick, &mut outgoing);
                }
            }
        } else {
            // Others of this thread have a turn.
            tokio::task::yield_now().await;
        }
        for _ in 0..BURSTS_MAX {
            let burst = sockets.try_recv();
            if burst.is_empty() {
                server.cluster.caught_up(server.clock.now());
                break;
            }
            server.take(burst, &mut outgoing);
        }
        for (socket, name) in sockets.unreached() {
            server.unreached(socket, name, &mut outgoing);
        }
        server.submit(TASKS_PER_TURN_MAX, &mut outgoing);
        sockets.send_batch(outgoing);
        if server.has_stopped || *stopped.borrow() {
            break;
        }
        let new = server.status(false);
        status.send_if_modified(|status| std::mem::replace(status, new) != new);
    }
    server.keep_rest();
    // Waits until the last messages have left; nobody else of this thread has to.
    let _ = tokio::task::spawn_blocking(move || drop(sockets)).await;
    server.reader.log_dropped();
    status.send_replace(server.status(true));
}

struct Server {
    cluster: Cluster,
    /// New tasks that were not taken in yet. What clients ask or cancel waits for them.
    backlog: VecDeque<(usize, Frames)>,
    n_backlog_bytes: usize,
    reader: Reader,
    writer: Writer,
    store: Option<Store>,
    clock: Clock,
    has_stopped: bool,
}

impl Server {
    fn new(
        key: &str,
        of: &super::Settings,
        store: Option<Store>,
        connection_info: serde_json::Value,
    ) -> Self {
        let clock = Clock::new();
        let session = uuid::Uuid::new_v4();
        let millis = |span: Duration| Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let settings = Settings {
            period: millis(of.ping).max(Millis(1)),
            lost_after: millis(of.lost_after),
            hwm: of.hwm,
            scheme: of.scheme,
            seed: session.as_u64_pair().0,
            keeps: match store {
                _ if !of.keeps_finished => Keeps::Nothing,
                Some(_) => Keeps::Store,
                None => Keeps::Memory,
            },
            session: session.to_string(),
            connection_info,
        };
        Self {
            cluster: Cluster::new(settings, clock.now()),
            backlog: VecDeque::new(),
            n_backlog_bytes: 0,
            reader: Reader::new(key),
            writer: Writer::new(key, session.to_string(), "prust-controller"),
            store,
            clock,
            has_stopped: false,
        }
    }

    /// Goes on where the controller before this one was.
    fn restore(&mut self, restored: Restored, outgoing: &mut Batch) {
        let (n_records, n_engines) = (restored.rows.len(), restored.engines.len());
        for effect in self.cluster.restore(restored, self.clock.now()) {
            self.perform(effect, outgoing);
        }
        if n_records + n_engines > 0 {
            tracing::info!(n_records, n_engines, "restored");
        }
    }

    /// What the store was to be told later, it is told now.
    fn keep_rest(&mut self) {
        let mut to_nobody = Batch::new();
        for effect in self.cluster.keep_rest(self.clock.now()) {
            self.perform(effect, &mut to_nobody);
        }
    }

    fn take(&mut self, burst: Batch, outgoing: &mut Batch) {
        for (socket, frames) in burst {
            match Channel::ALL.get(socket) {
                Some(Channel::ClientTask) => {
                    self.n_backlog_bytes += n_bytes(&frames);
                    self.backlog.push_back((socket, frames));
                    if self.n_backlog_bytes > BACKLOG_BYTES_MAX {
                        self.submit(usize::MAX, outgoing);
                    }
                }
                Some(Channel::ClientControl | Channel::Registration) => {
                    self.submit(usize::MAX, outgoing);
                    self.receive(socket, frames, outgoing);
                }
                _ => self.receive(socket, frames, outgoing),
            }
        }
    }

    /// Takes some of the new tasks in.
    fn submit(&mut self, n_max: usize, outgoing: &mut Batch) {
        for _ in 0..n_max {
            let Some((socket, frames)) = self.backlog.pop_front() else { return };
            self.n_backlog_bytes -= n_bytes(&frames);
            self.receive(socket, frames, outgoing);
        }
    }

    fn receive(&mut self, socket: usize, frames: Frames, outgoing: &mut Batch) {
        let Some(channel) = Channel::ALL.get(socket).copied() else { return };
        if channel == Channel::Notification {
            // libzmq's own word for a subscription; 0 is its end.
            if matches!(&frames[..], [subscription] if subscription.first() == Some(&1)) {
                self.handle(Event::Subscribed, outgoing);
            }
            return;
        }
        if !channel.is_signed() {
            return self.handle(Event::Echo { frames }, outgoing);
        }
        // The reader keeps everything but the signature, which goes out again with the frames.
        let delimiter = frames.iter().position(|frame| frame == b"<IDS|MSG>");
        let signature = delimiter.and_then(|at| frames.get(at + 1)).cloned().unwrap_or_default();
        let Ok(message) = self.reader.read(frames) else {
            return self.cluster.note_dropped(self.reader.dropped().total());
        };
        let header = message.header;
        let head =
            Head { msg_id: header.msg_id, msg_type: header.msg_type, session: header.session };
        let message = Message {
            ids: message.ids,
            signature,
            header: message.raw_header,
            parent: message.raw_parent,
            metadata: message.raw_metadata,
            content: message.raw_content,
            buffers: message.buffers,
        };
        self.handle(Event::Received { channel, head, message }, outgoing);
    }

    /// A message did not reach a peer; what engines miss must not be waited for.
    fn unreached(&mut self, socket: usize, name: Vec<u8>, outgoing: &mut Batch) {
        let is_engine = Channel::ALL.get(socket).is_some_and(|channel| channel.is_to_engines());
        if is_engine {
            self.handle(Event::Unreached { engine: name }, outgoing);
        }
    }

    fn handle(&mut self, event: Event, outgoing: &mut Batch) {
        for effect in self.cluster.handle(event, self.clock.now()) {
            self.perform(effect, outgoing);
        }
    }

    fn perform(&mut self, effect: Effect, outgoing: &mut Batch) {
        match effect {
            Effect::Forward { channel, frames } => outgoing.push((channel.place(), frames)),
            Effect::Write { channel, ids, msg_type, parent, metadata, content, buffers } => {
                let draft = Draft::new(&msg_type, &content).to(&ids).answering(&parent);
                let (_, frames) = self.writer.write(draft.metadata(&metadata).buffers(buffers));
                tracing::debug!(?channel, %msg_type, %content, "wrote");
                outgoing.push((channel.place(), frames));
            }
            Effect::Resign { channel, ids, header, parent, metadata, content, buffers } => {
                let signed = [header, parent, metadata, content];
                let frames = self.writer.frames(&ids, signed, buffers);
                outgoing.push((channel.place(), frames));
            }
            Effect::Keep(_) | Effect::Forget(_) | Effect::KeepEngines { .. } => self.keep(effect),
            Effect::Stop => self.has_stopped = true,
        }
    }

    fn keep(&self, effect: Effect) {
        let Some(store) = &self.store else { return };
        match effect {
            Effect::Keep(row) => store.keep(*row),
            Effect::Forget(keys) => store.forget(keys),
            Effect::KeepEngines { engines, next } => store.keep_engines(engines, next),
            _ => {}
        }
    }

    fn status(&self, ended: bool) -> Status {
        Status {
            n_engines: self.cluster.n_engines(),
            dropped: self.reader.dropped(),
            unused: self.cluster.counts(),
            ended,
        }
    }
}

fn n_bytes(frames: &Frames) -> usize {
    frames.iter().map(Vec::len).sum()
}

/// The time since the Unix epoch, which does not go back when somebody sets the clock.
struct Clock {
    wall: Duration,
    started: Instant,
}

impl Clock {
    fn new() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { wall, started: Instant::now() }
    }

    fn now(&self) -> Millis {
        let millis = (self.wall + self.started.elapsed()).as_millis();
        Millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}
