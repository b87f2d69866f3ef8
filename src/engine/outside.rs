//! The engine's loop and everything it touches: sockets, the worker, compilations, signals, the
//! owner's pipe. Turns what happens into events and carries out effects; decides nothing.
use std::collections::VecDeque;
use std::future::pending;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::event::{Channel, Effect, Event, Fault, Now, Publication, Reply};
use super::flags::Flags;
use super::nanny::Nanny;
use super::reply::Metadata;
use super::sockets::{BROADCAST, CONTROL, IOPUB, MUX, PING, PONG, REGISTRATION, Sockets, TASK};
use super::state::{Engine, Settings};
use super::workshop::Workshop;
use crate::process::Alarm;
use crate::wire::connection::{EngineFile, engine_file_path, profile_dir};
use crate::wire::{Batch, Draft, Frames, Reader, Writer};
use crate::worker::{Worker, WorkerEvent};

/// How often a missing connection file is looked for.
const FILE_POLL: Duration = Duration::from_millis(50);
/// Events taken before their effects leave, so that a flood of output does not delay a reply.
const EVENTS_PER_TURN_MAX: usize = 512;
/// Printed text joined into one message, at most.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Replies to short calls may wait for the next ones while more calls are queued here: a reply
/// costs several threads' waking, however many leave together. So many wait at most, and so long.
const HELD_MAX: usize = 16;
const HELD_TIME: Duration = Duration::from_millis(2);
/// How long the worker may take to end with us; it ends by itself when our side is closed.
const STOP_TIME: Duration = Duration::from_secs(1);

/// Runs one engine until it ends.
pub(super) async fn run(flags: Flags) -> i32 {
    match Outside::open(flags).await {
        Ok(outside) => outside.run().await,
        Err(why) => {
            tracing::error!("failed to {why}");
            1
        }
    }
}

/// The run that waits for it, and the compilation, which ends as an event.
type Compiling = (u64, JoinHandle<Event>);

struct Outside {
    uuid: Arc<str>,
    file: EngineFile,
    writer: Writer,
    reader: Reader,
    sockets: Sockets,
    /// What this turn sends, and until when it may wait.
    outgoing: Batch,
    held_until: Option<Instant>,
    worker: Worker,
    worker_events: UnboundedReceiver<WorkerEvent>,
    workshop: Workshop,
    compiling: Option<Compiling>,
    /// What came of effects that are done at once.
    told: Vec<Event>,
    owner: Option<pipe::Receiver>,
    /// Whether nobody watches this process, so that it needs a nanny.
    alone: bool,
    nanny: Option<Nanny>,
    state: Engine,
}

impl Outside {
    async fn open(flags: Flags) -> Result<Self, String> {
        let owner = if flags.owner_stdin { Some(owner_pipe()?) } else { None };
        let workshop = Workshop::open(&flags.tools).await?;
        let (worker, worker_events) = crate::worker::start(workshop.worker_config())
            .map_err(|error| format!("start the worker: {error}"))?;
        let mut file = connection_file(&flags).await?;
        if let Some(location) = flags.location {
            file.location = location;
        }
        let uuid: Arc<str> = flags.uuid.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()).into();
        let sockets = Sockets::open(&file, &uuid).await.map_err(|error| error.to_string())?;
        let settings = Settings { uuid: Arc::clone(&uuid), id: flags.id, timeout: flags.timeout };
        Ok(Self {
            writer: Writer::new(&file.key, uuid.to_string(), "prust"),
            reader: Reader::new(&file.key),
            uuid,
            file,
            sockets,
            outgoing: Batch::new(),
            held_until: None,
            worker,
            worker_events,
            workshop,
            compiling: None,
            told: Vec::new(),
            alone: owner.is_none(),
            owner,
            nanny: None,
            state: Engine::new(settings, now()),
        })
    }

    async fn run(mut self) -> i32 {
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!("failed to watch for signals: {error}");
                    return 1;
                }
            };
        let mut alarm = Alarm::new();
        loop {
            let mut events = Vec::new();
            alarm.set(self.state.next_deadline().into_iter().chain(self.held_until).min());
            tokio::select! {
                batch = self.sockets.recv() => self.received(batch, &mut events),
                Some(event) = self.worker_events.recv() => {
                    events.push(Event::Worker(self.workshop.place(event)));
                }
                event = compiled(&mut self.compiling) => {
                    self.compiling = None;
                    events.push(event);
                }
                () = closed(self.owner.as_mut()) => {
                    self.owner = None;
                    events.push(Event::Stop { cause: "its owner is gone".to_owned() });
                }
                _ = terminate.recv() => {
                    events.push(Event::Stop { cause: "terminated by a signal".to_owned() });
                }
                _ = interrupt.recv() => events.push(Event::Interrupt),
                () = alarm.ring() => events.push(Event::Tick),
            }
            self.take_more(&mut events);
            let mut events = VecDeque::from(events);
            while let Some(event) = events.pop_front() {
                for effect in self.state.handle(event, now()) {
                    if let Some(code) = self.perform(effect) {
                        return self.close(code).await;
                    }
                }
                events.extend(self.told.drain(..));
            }
            if !self.may_hold() {
                self.flush();
            }
        }
    }

    /// Whether what is to be sent may wait a moment, because more will follow at once.
    fn may_hold(&mut self) -> bool {
        let replies = self.outgoing.iter().all(|(socket, _)| *socket == TASK);
        if self.outgoing.len() >= HELD_MAX || !replies || !self.state.is_quick() {
            return false;
        }
        let now = Instant::now();
        *self.held_until.get_or_insert(now + HELD_TIME) > now
    }

    /// What else has happened by now, up to a limit. Text printed in one go becomes one event.
    fn take_more(&mut self, events: &mut Vec<Event>) {
        while events.len() < EVENTS_PER_TURN_MAX
            && let Ok(event) = self.worker_events.try_recv()
        {
            match (events.last_mut(), event) {
                (
                    Some(Event::Worker(WorkerEvent::Output { stream: last, text: whole })),
                    WorkerEvent::Output { stream, text },
                ) if *last == stream && whole.len() + text.len() <= OUTPUT_BYTES_MAX => {
                    whole.push_str(&text);
                }
                (_, event) => events.push(Event::Worker(self.workshop.place(event))),
            }
        }
        while events.len() < EVENTS_PER_TURN_MAX
            && let batch = self.sockets.try_recv()
            && !batch.is_empty()
        {
            self.received(batch, events);
        }
    }

    fn received(&mut self, batch: Batch, events: &mut Vec<Event>) {
        for (socket, mut frames) in batch {
            let channel = match socket {
                MUX => Channel::Mux,
                TASK => Channel::Task,
                CONTROL => Channel::Control,
                BROADCAST => Channel::Broadcast,
                PING => {
                    events.push(Event::Ping(frames.pop().unwrap_or_default()));
                    continue;
                }
                REGISTRATION => {
                    if let Ok(message) = self.reader.read(frames)
                        && message.header.msg_type == "registration_reply"
                    {
                        events.push(Event::RegistrationReply(message));
                    }
                    continue;
                }
                // Nothing is sent to a publisher or as the answer to a heartbeat.
                _ => continue,
            };
            // A message that is not what it claims has been counted, and has no sender to be told.
            if let Ok(message) = self.reader.read(frames) {
                events.push(Event::Request { channel, message });
            }
        }
    }

    /// Carries out one effect; the exit code when it was the last.
    fn perform(&mut self, effect: Effect) -> Option<i32> {
        match effect {
            Effect::Register { id } => self.register(id),
            Effect::Join { id } => return self.join(id),
            Effect::Unregister { id, cause } => {
                let content = json!({"id": id, "uuid": *self.uuid, "cause": cause});
                self.registrar_send("unregistration_request", &content);
            }
            Effect::Reply(reply) => self.reply(*reply),
            Effect::Publish(publication) => self.publish(*publication),
            Effect::Pong(payload) => self.outgoing.push((PONG, Frames::from([payload]))),
            Effect::Compile { run, code, label, namespace } => {
                let workshop = self.workshop.clone();
                let compilation = async move {
                    let result = workshop.compile(&namespace, code, label).await;
                    Event::Compiled { run, result }
                };
                self.compiling = Some((run, tokio::spawn(compilation)));
            }
            Effect::Trampolines { run, wanted, namespace } => {
                let workshop = self.workshop.clone();
                let compilation = async move {
                    let result = workshop.trampolines(&namespace, &wanted).await;
                    Event::Trampolines { run, result }
                };
                self.compiling = Some((run, tokio::spawn(compilation)));
            }
            Effect::CancelCompile => {
                if let Some((_, compilation)) = self.compiling.take() {
                    compilation.abort();
                }
            }
            Effect::Find { run, library, absent } => {
                let found = self.workshop.find(&library, &absent);
                self.told.push(Event::Found { run, found });
            }
            Effect::Keep { run, files } => {
                if let Err(fault) = self.workshop.keep(&files) {
                    self.told.push(Event::Found { run, found: Err(fault) });
                }
            }
            Effect::Run { run, library, entry } => self.worker.run(run, &library, &entry),
            Effect::Call { run, call } => self.worker.call(run, call),
            Effect::Recall => self.worker.recall(),
            Effect::Interrupt => self.worker.interrupt(),
            Effect::ReadOn => self.worker.read_on(),
            Effect::ReplaceWorker => self.worker.restart(),
            Effect::Answer { request, status, head, body } => {
                self.worker.reply(request, status, head, body);
            }
            Effect::Exit { code, cause } => {
                if code == 0 {
                    tracing::info!("ending: {cause}");
                } else {
                    tracing::error!("ending: {cause}");
                }
                return Some(code);
            }
        }
        None
    }

    fn reply(&mut self, reply: Reply) {
        let draft = Draft::new(&reply.msg_type, &reply.content)
            .to(&reply.ids)
            .answering(&reply.parent)
            .metadata(&reply.metadata)
            .buffers(reply.buffers);
        self.outgoing.push((socket_of(reply.channel), self.writer.write(draft).1));
    }

    fn publish(&mut self, publication: Publication) {
        let metadata = Metadata::Plain { engine: Arc::clone(&self.uuid) };
        let topic = [publication.topic.into_bytes()];
        let draft = Draft::new(publication.msg_type, &publication.content)
            .to(&topic)
            .answering(&publication.parent)
            .metadata(&metadata)
            .buffers(publication.buffers);
        self.outgoing.push((IOPUB, self.writer.write(draft).1));
    }

    fn register(&mut self, id: Option<u32>) {
        let version = env!("CARGO_PKG_VERSION");
        let implementation =
            json!({"name": "prust", "version": version, "pid": std::process::id()});
        let mut content = json!({"uuid": *self.uuid, "implementation": implementation});
        if let Some(id) = id {
            content["id"] = id.into();
        }
        self.registrar_send("registration_request", &content);
    }

    fn registrar_send(&mut self, msg_type: &str, content: &serde_json::Value) {
        let metadata = Metadata::Plain { engine: Arc::clone(&self.uuid) };
        let (_, frames) = self.writer.write(Draft::new(msg_type, content).metadata(&metadata));
        self.sockets.send_registrar(frames);
    }

    fn join(&mut self, id: u32) -> Option<i32> {
        match self.sockets.join(&self.file, &self.uuid, id) {
            Ok(()) => {
                self.hire(id);
                tracing::info!("Completed registration with id {id}");
                None
            }
            Err(error) => {
                tracing::error!("failed to {error}");
                Some(1)
            }
        }
    }

    /// Makes sure that the controller hears of a violent end of this process.
    fn hire(&mut self, id: u32) {
        if !self.alone {
            return;
        }
        let registration = self.file.endpoint(self.file.registration);
        match Nanny::start(&registration, &self.file.key, &self.uuid, id) {
            Ok(nanny) => self.nanny = Some(nanny),
            Err(error) => {
                tracing::warn!("there is no nanny, a crash is noticed late: {error}");
            }
        }
    }

    fn flush(&mut self) {
        self.held_until = None;
        if self.sockets.has_joined() {
            self.sockets.send_batch(std::mem::take(&mut self.outgoing));
        }
    }

    /// Sends what is left, and ends the worker.
    async fn close(mut self, code: i32) -> i32 {
        self.flush();
        self.worker.stop();
        let ended = async { while self.worker_events.recv().await.is_some() {} };
        // A worker that does not end now ends when this process does.
        let _ = tokio::time::timeout(STOP_TIME, ended).await;
        self.sockets.close().await;
        self.reader.log_dropped();
        if let Some(nanny) = self.nanny {
            nanny.dismiss();
        }
        code
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), date: SystemTime::now() }
}

fn socket_of(channel: Channel) -> usize {
    match channel {
        Channel::Mux => MUX,
        Channel::Task => TASK,
        Channel::Broadcast => BROADCAST,
        Channel::Control => CONTROL,
    }
}

async fn compiled(compiling: &mut Option<Compiling>) -> Event {
    let Some((run, compilation)) = compiling else { return pending().await };
    compilation.await.unwrap_or_else(|error| {
        let text = format!("the compiler's task ended early: {error}");
        Event::Compiled { run: *run, result: Err(Fault::new("EngineError", text)) }
    })
}

/// Returns when the owner's pipe has been closed. Nothing is ever written to it.
async fn closed(owner: Option<&mut pipe::Receiver>) {
    let Some(owner) = owner else { return pending().await };
    loop {
        let mut byte = [0];
        match owner.try_read(&mut byte) {
            Ok(0) => return,
            Ok(_) => (),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if owner.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn owner_pipe() -> Result<pipe::Receiver, String> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    stdin
        .and_then(pipe::Receiver::from_owned_fd)
        .map_err(|error| format!("watch the owner's pipe on standard input: {error}"))
}

/// Reads the connection file, waiting for it to be written.
async fn connection_file(flags: &Flags) -> Result<EngineFile, String> {
    if let Some(text) = &flags.connection_info {
        return EngineFile::from_text(text).map_err(|error| error.to_string());
    }
    let path = file_path(flags);
    let until = tokio::time::Instant::now() + flags.timeout;
    while !path.exists() && tokio::time::Instant::now() < until {
        tokio::time::sleep(FILE_POLL).await;
    }
    EngineFile::read(&path).map_err(|error| error.to_string())
}

fn file_path(flags: &Flags) -> PathBuf {
    if let Some(file) = &flags.file {
        return file.clone();
    }
    let profile = match &flags.profile_dir {
        Some(directory) => directory.clone(),
        None => profile_dir(&flags.ipython_dir, &flags.profile),
    };
    engine_file_path(&profile, &flags.cluster_id)
}
