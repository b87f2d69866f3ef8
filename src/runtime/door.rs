//! The door to the host: one Unix socket, which is read by whoever waits for something (`inbox`),
//! requests that wait for their reply. Every other file of the runtime reaches the host through
//! here; the user's stdout never does.

use std::io::{self, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::{self, DisplayKind, FromWorker, Status, ToWorker};
use crate::inbox::Inbox;
use crate::spin::Spin;
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

pub(crate) struct Door {
    stream: Arc<UnixStream>,
    /// Held while frames are written, so that those of several threads do not mix. What is in it
    /// goes behind the next one.
    writing: Mutex<Vec<u8>>,
    /// One thread at a time reads.
    reading: Mutex<BufReader<Shared>>,
    inbox: Inbox,
    next: AtomicU64,
}

/// The one descriptor of the socket: a second one would have to be closed, too (see [`abandon`]).
struct Shared {
    stream: Arc<UnixStream>,
    waiter: Waiter,
    spin: Spin,
}

/// Who waits for what the host says next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiter {
    /// A cell that has asked something.
    Asker,
    /// Whoever waits for what the host may say some time.
    Other,
}

impl Read for Shared {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let descriptor = self.stream.as_raw_fd();
        let sleep = || os::wait_readable(descriptor);
        match self.waiter {
            Waiter::Asker => self.spin.wait(|| os::is_readable(descriptor), sleep),
            Waiter::Other => sleep(),
        }
        (&*self.stream).read(to)
    }
}

/// Replaced when a snapshot wakes: the old door's locks may have been held by threads that are
/// gone.
static DOOR: Mutex<Option<Arc<Door>>> = Mutex::new(None);

/// A question is looked after for so long before its asker sleeps. A call on an engine takes less.
const SPIN: Duration = Duration::from_millis(1);

/// What waits to be told to the host takes no more than this.
const WAITING_BYTES_MAX: usize = 4 << 10;

/// The open door's socket.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// The name of the thread that reads while nobody waits, so that it is not counted among the
/// user's.
pub const THREAD_NAME: &str = "prust-door";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the door over a connected socket whose Hello was sent.
pub(crate) fn open(stream: UnixStream) -> io::Result<Arc<Door>> {
    DESCRIPTOR.store(stream.as_raw_fd(), Ordering::Relaxed);
    let stream = Arc::new(stream);
    let waiter = Waiter::Other;
    let shared = Shared { stream: Arc::clone(&stream), waiter, spin: Spin::new(SPIN) };
    let reading = Mutex::new(BufReader::new(shared));
    let door = Arc::new(Door {
        stream,
        writing: Mutex::default(),
        reading,
        inbox: Inbox::default(),
        next: AtomicU64::new(1),
    });
    *lock(&DOOR) = Some(door.clone());
    last_words::open()?;
    let opened = Arc::clone(&door);
    start(THREAD_NAME, move || door.inbox.read_for_who_works(|| door.read(Waiter::Other)))?;
    Ok(opened)
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
    /// Waits for the host's next command.
    pub(crate) fn take(&self) -> ToWorker {
        self.inbox.take(|| self.read(Waiter::Other))
    }

    /// Reads what the host says next that is not for the door itself.
    fn read(&self, waiter: Waiter) -> ToWorker {
        let mut stream = lock(&self.reading);
        stream.get_mut().waiter = waiter;
        loop {
            let command = frame::receive(&mut *stream).and_then(|body| ToWorker::read(&body));
            match command {
                Ok(ToWorker::Exit) | Err(_) => os::exit_now(0),
                Ok(ToWorker::Recall) => {
                    self.tell(&FromWorker::Recalled { runs: self.inbox.recall() });
                }
                Ok(command) => return command,
            }
        }
    }

    fn tell(&self, message: &FromWorker) {
        self.write(message, 0);
    }

    /// Writes a frame, and behind it those that wait; unless all of them are no more than
    /// `n_bytes_waiting`.
    fn write(&self, message: &FromWorker, n_bytes_waiting: usize) {
        let mut bytes = message.write();
        let mut waiting = lock(&self.writing);
        bytes.append(&mut waiting);
        if bytes.len() <= n_bytes_waiting {
            *waiting = bytes;
        } else if frame::send(&*self.stream, &bytes).is_err() {
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
    door.inbox.expect(id);
    os::flush();
    door.tell(&FromWorker::Request {
        request: id,
        topic: topic.into(),
        head: head.into(),
        body: body.into(),
    });
    match door.inbox.answer(id, || door.read(Waiter::Asker)) {
        (Status::Ok, head, body) => Ok((head, body)),
        (Status::Error, head, _) => Err(Refusal::Error(head)),
        (Status::Interrupted, ..) => Err(Refusal::Interrupted),
    }
}

/// Tells the host without waiting for an answer.
pub fn notify(topic: &str, head: &[u8], body: &[u8]) {
    tell(&notice(topic, head, body));
}

/// Tells the host together with what it is told next: at the end of the cell at the latest.
pub fn notify_soon(topic: &str, head: &[u8], body: &[u8]) {
    if let Some(door) = door() {
        door.write(&notice(topic, head, body), WAITING_BYTES_MAX);
    }
}

fn notice(topic: &str, head: &[u8], body: &[u8]) -> FromWorker {
    FromWorker::Request { request: 0, topic: topic.into(), head: head.into(), body: body.into() }
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
