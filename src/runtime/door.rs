//! The door to the host: one Unix socket, one reading thread of ours, requests that wait for their
//! reply. Every other file of the runtime reaches the host through here; the user's stdout never
//! does.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::{self, DisplayKind, FromWorker, Status, ToWorker};
use crate::inbox::Inbox;
use crate::{last_words, os};

/// Why a request has no answer.
#[derive(Debug)]
pub enum Refusal {
    /// The host says no; the bytes are the topic's own error format.
    Error(Vec<u8>),
    /// The user interrupted the cell while it waited. Pass on with [`interrupted`].
    Interrupted,
}

/// The payload that unwinds an interrupted cell.
pub struct Interrupted;

type Answer = (Status, Vec<u8>, Vec<u8>);

struct Door {
    stream: UnixStream,
    /// Held while a frame is written, so that frames of several threads do not mix.
    writing: Mutex<()>,
    waiting: Mutex<HashMap<u64, Sender<Answer>>>,
    next: AtomicU64,
}

/// Replaced when a snapshot wakes: the old door's locks may have been held by threads that are
/// gone.
static DOOR: Mutex<Option<Arc<Door>>> = Mutex::new(None);

/// The open door's socket.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// The name of the reading thread, so that it is not counted among the user's.
pub const THREAD_NAME: &str = "prust-door";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the door over a connected socket whose Hello was sent; gives the host's commands in order.
pub(crate) fn open(stream: UnixStream) -> io::Result<Arc<Inbox>> {
    DESCRIPTOR.store(stream.as_raw_fd(), Ordering::Relaxed);
    let door = Arc::new(Door {
        stream,
        writing: Mutex::new(()),
        waiting: Mutex::new(HashMap::new()),
        next: AtomicU64::new(1),
    });
    *lock(&DOOR) = Some(door.clone());
    last_words::open()?;
    let inbox = Arc::<Inbox>::default();
    let commands = Arc::clone(&inbox);
    start(THREAD_NAME, move || read_until_the_host_is_gone(&door, &commands))?;
    Ok(inbox)
}

/// Starts a thread of ours, and waits until it has its name: by that, a snapshot tells ours from
/// the user's.
pub(crate) fn start(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    let (begins, begun) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .stack_size(crate::snapshot::stack_bytes())
        .name(name.into())
        .spawn(move || {
            // Who waits goes on when this ends, too.
            let _ = begins.send(());
            work();
        })?;
    let _ = begun.recv();
    Ok(thread)
}

fn read_until_the_host_is_gone(door: &Door, commands: &Inbox) -> ! {
    let mut stream = io::BufReader::new(&door.stream);
    loop {
        let command = frame::receive(&mut stream).and_then(|body| ToWorker::read(&body));
        match command {
            Ok(ToWorker::Reply { request, status, head, body }) => {
                if let Some(waiter) = lock(&door.waiting).remove(&request) {
                    // The waiter may have unwound meanwhile.
                    let _ = waiter.send((status, head, body));
                }
            }
            Ok(ToWorker::Exit) | Err(_) => os::exit_now(0),
            Ok(ToWorker::Recall) => door.tell(&FromWorker::Recalled { runs: commands.recall() }),
            Ok(command) => commands.put(command),
        }
    }
}

/// Holds the door shut while a snapshot forks, so that no thread is halfway through it.
pub(crate) fn hold() -> impl Sized {
    lock(&DOOR)
}

/// In a fresh fork: lets go of the worker's socket. Were it kept open, the host would not notice
/// the worker's end. The old door itself is leaked, its locks may be held by threads that are gone.
pub(crate) fn abandon() {
    os::close_descriptor(DESCRIPTOR.swap(-1, Ordering::Relaxed));
}

fn door() -> Option<Arc<Door>> {
    lock(&DOOR).clone()
}

/// Sends one frame to the host; without a host (a cell's code run elsewhere) it is dropped.
pub(crate) fn tell(message: &FromWorker) {
    if let Some(door) = door() {
        door.tell(message);
    }
}

impl Door {
    fn tell(&self, message: &FromWorker) {
        let bytes = message.write();
        let _writing = lock(&self.writing);
        if frame::send(&self.stream, &bytes).is_err() {
            os::exit_now(0);
        }
    }
}

/// Asks the host and waits. Callable from any thread of a cell.
///
/// # Errors
/// [`Refusal::Error`] with the topic's own error bytes, or [`Refusal::Interrupted`].
pub fn request(topic: &str, head: &[u8], body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let door = door().ok_or_else(|| Refusal::Error(b"\"there is no host\"".to_vec()))?;
    let id = door.next.fetch_add(1, Ordering::Relaxed);
    let (sender, receiver) = mpsc::channel();
    lock(&door.waiting).insert(id, sender);
    os::flush();
    tell(&FromWorker::Request {
        request: id,
        topic: topic.into(),
        head: head.into(),
        body: body.into(),
    });
    match receiver.recv() {
        Ok((Status::Ok, head, body)) => Ok((head, body)),
        Ok((Status::Error, head, _)) => Err(Refusal::Error(head)),
        Ok((Status::Interrupted, ..)) | Err(_) => Err(Refusal::Interrupted),
    }
}

/// Tells the host without waiting for an answer.
pub fn notify(topic: &str, head: &[u8], body: &[u8]) {
    tell(&FromWorker::Request {
        request: 0,
        topic: topic.into(),
        head: head.into(),
        body: body.into(),
    });
}

/// Unwinds the cell as interrupted.
pub fn interrupted() -> ! {
    std::panic::resume_unwind(Box::new(Interrupted))
}

/// Shows something under the running cell, or updates or clears what is shown.
pub fn display(kind: DisplayKind, id: &str, data: &[(&str, &str)]) {
    os::flush();
    tell(&FromWorker::Display {
        kind,
        id: id.into(),
        data: data.iter().map(|(mime, text)| ((*mime).into(), (*text).into())).collect(),
    });
    // Text goes another way: what is printed from now on must not overtake. After the value of a
    // cell nothing is printed.
    if kind != DisplayKind::Result && matches!(request(SHOWN, &[], &[]), Err(Refusal::Interrupted))
    {
        interrupted();
    }
}

/// Waits until the host has read what was printed so far: what is printed from now on then belongs
/// to what begins now.
pub(crate) fn settle() {
    // Without an answer there is nothing to wait for.
    let _ = request(SHOWN, &[], &[]);
}

/// The topic by which a display waits until the host has it.
pub const SHOWN: &str = "shown";

/// The topic by which the host is told where evcxr's blocks are shown.
pub const BLOCKS: &str = "blocks";

/// Has the blocks of evcxr's convention that `show` prints shown as `kind` under `id`.
pub fn blocks_at(kind: DisplayKind, id: &str, show: &mut dyn FnMut()) {
    /// Says the end, also when `show` panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            // An interrupt that comes now is told to the next request.
            let _ = request(BLOCKS, &[], &[]);
        }
    }
    let head: &[u8] = if kind == DisplayKind::Update { b"update" } else { b"display" };
    if matches!(request(BLOCKS, head, id.as_bytes()), Err(Refusal::Interrupted)) {
        interrupted();
    }
    let _end = End;
    show();
}

/// Asks the user for a line. `None` at end of input.
pub fn input(prompt: &str, password: bool) -> Option<String> {
    match request("input", prompt.as_bytes(), &[password.into()]) {
        Ok((head, _)) => Some(String::from_utf8_lossy(&head).into_owned()),
        Err(Refusal::Error(_)) => None,
        Err(Refusal::Interrupted) => interrupted(),
    }
}
