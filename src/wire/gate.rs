//! The gate before ROUTERs whose peers must not take each other's identity, over TCP without CURVE.
//! libzmq can refuse an identity that is taken, but it never lets go of the refused connection, nor
//! of what that has sent. So it listens at sockets in a private folder, and the gate at the TCP
//! addresses: it lets in who claims an identity that none of its connections has, closes who does
//! not, and moves bytes. What they mean after the READY command it does not know.
//!
//! Nothing collects here: a piece of bytes that the one side has no room for is all that is read of
//! the other.
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, copy};
use tokio::net::{TcpStream, UnixStream, unix};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::greeting::{self, GREETING_BYTES};
use crate::process::Scratch;

/// How long a connection may take until its READY command is whole; libzmq's own limit.
const SHAKING_FOR: Duration = Duration::from_secs(30);
/// Connections of one address that have not said all of it; with one more the oldest is closed, so
/// that nobody is kept out by those who say nothing.
const SHAKING_MAX: usize = 1024;
/// How long nobody is let in after the system has refused a connection, for want of descriptors.
const FULL_FOR: Duration = Duration::from_millis(100);
/// The most that is moved at once.
const PIECE_BYTES: usize = 64 << 10;
/// How long one side may take to end, or to take anything, when the other has ended.
const ENDING_FOR: Duration = Duration::from_secs(1);
/// How long connections may last when the gate closes: libzmq closes them, within a second, once it
/// has sent what it has.
const CLOSING_FOR: Duration = Duration::from_secs(2);
/// The longest path of a folder for sockets: with their names, less than the 108 bytes that the
/// system has for it.
const FOLDER_BYTES_MAX: usize = 100;

/// The gate of a group of sockets. Dropped after them, it waits until what they have sent last is
/// on its way.
#[derive(Debug, Default)]
pub(super) struct Gate {
    doors: Vec<Door>,
    /// Those who are inside, by door.
    #[cfg(test)]
    pub(super) guests: Vec<Arc<Guests>>,
    thread: Option<(watch::Sender<()>, JoinHandle<()>)>,
    folder: Option<Scratch>,
}

/// One address.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    inner: Arc<Path>,
    guests: Arc<Guests>,
}

impl Gate {
    /// Takes an address, and returns it, with the port that it was given if it had none, and the
    /// path where libzmq is to listen.
    ///
    /// # Errors
    /// `AddrInUse`, or whatever else the system says.
    pub(super) fn listen(&mut self, at: SocketAddr) -> io::Result<(SocketAddr, PathBuf)> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => short_folder()?,
        };
        let inner = folder.path().join(self.doors.len().to_string());
        self.folder = Some(folder);
        let guests = Arc::<Guests>::default();
        #[cfg(test)]
        self.guests.push(Arc::clone(&guests));
        self.doors.push(Door { listener, inner: inner.clone().into(), guests });
        Ok((at, inner))
    }

    /// Lets peers in, now that libzmq listens; does nothing if there is no address.
    ///
    /// # Errors
    /// When the operating system has no thread or descriptor left.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.doors.is_empty() {
            return Ok(());
        }
        let doors = std::mem::take(&mut self.doors);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopping) = watch::channel(());
        let serve = async move {
            let mut all = JoinSet::new();
            for door in doors {
                all.spawn(door.serve(stopping.clone()));
            }
            all.join_all().await;
        };
        let thread = std::thread::Builder::new()
            .name("prust-gate".to_owned())
            .spawn(move || runtime.block_on(serve))?;
        self.thread = Some((stop, thread));
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // A panic of the thread has been reported by its hook.
            let _ = thread.join();
        }
    }
}

/// A private folder for sockets.
pub(super) fn short_folder() -> io::Result<Scratch> {
    let folder = Scratch::new()?;
    let is_short = folder.path().as_os_str().len() <= FOLDER_BYTES_MAX;
    if is_short { Ok(folder) } else { Scratch::in_memory() }
}

impl Door {
    async fn serve(self, mut stopping: watch::Receiver<()>) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "an address is not listened at"),
        };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = stopping.changed() => break,
                Some(_) = connections.join_next() => (),
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) => {
                        let (guest, inner) = (self.guests.enter(), Arc::clone(&self.inner));
                        connections.spawn(attend(client, inner, guest, stopping.clone()));
                    }
                    // Who connects and is gone at once must not keep others waiting.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
                    Err(error) => {
                        self.guests.count(&format_args!("the system refuses it: {error}"));
                        sleep(FULL_FOR).await;
                    }
                },
            }
        }
        drop(listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        // What lasts longer is cut off.
        let _ = timeout(CLOSING_FOR, all_ended).await;
    }
}

/// One connection, from its first byte to its last.
async fn attend(
    mut client: TcpStream,
    inner: Arc<Path>,
    mut guest: Guest,
    mut stopping: watch::Receiver<()>,
) {
    let shaken = tokio::select! {
        shaken = timeout(SHAKING_FOR, shake(&mut client, &inner)) => shaken,
        () = guest.shown_out.notified() => return,
        _ = stopping.changed() => return,
    };
    let (mut inner, said) = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => return tracing::debug!(%error, "a peer did not come in"),
        Err(_) => return tracing::debug!("a peer did not come in: it did not say who it is"),
    };
    let identity = greeting::read(&said).ok().flatten().unwrap_or_default();
    if guest.claim(identity) {
        let moved = move_all(&mut client, &mut inner, &said[GREETING_BYTES..]).await;
        tracing::trace!(?moved, "a connection has ended");
    }
}

/// Lets the greetings through, and holds back what comes after them: all that the client has said
/// is returned as soon as its READY command is whole. That of libzmq waits there, so that a client
/// that is refused does not believe that it may send.
async fn shake(client: &mut TcpStream, inner: &Path) -> io::Result<(UnixStream, Vec<u8>)> {
    client.set_nodelay(true)?;
    let mut inner = UnixStream::connect(inner).await?;
    let (mut from_client, mut to_client) = client.split();
    let (from_inner, mut to_inner) = inner.split();
    let mut greeting = from_inner.take(GREETING_BYTES as u64);
    let tell = async {
        copy(&mut greeting, &mut to_client).await?;
        match greeting.limit() {
            0 => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    };
    let hear = async {
        let mut said = Vec::new();
        loop {
            let n_told = said.len().min(GREETING_BYTES);
            let mut piece = [0; 512];
            let n_bytes = from_client.read(&mut piece).await?;
            if n_bytes == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            said.extend_from_slice(&piece[..n_bytes]);
            let is_whole = greeting::read(&said).map_err(io::Error::other)?.is_some();
            to_inner.write_all(&said[n_told..said.len().min(GREETING_BYTES)]).await?;
            if is_whole {
                return Ok(said);
            }
        }
    };
    let ((), said) = tokio::try_join!(tell, hear)?;
    Ok((inner, said))
}

/// Moves bytes both ways until one side has ended, and what it has said is with the other.
async fn move_all(client: &mut TcpStream, inner: &mut UnixStream, said: &[u8]) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_inner, mut to_inner) = inner.split();
    to_inner.write_all(said).await?;
    let mut out = pin!(pump(from_inner, to_client, is_over));
    tokio::select! {
        moved = &mut out => moved,
        moved = pump(from_client, to_inner, |_| false) => {
            // libzmq reads to the end, and closes. A side that is only half open is of no use.
            let _ = timeout(ENDING_FOR, out).await;
            moved
        }
    }
}

/// Moves bytes one way, and ends the other side when this one has ended. When `is_over` says that
/// it has, though not all was read, the other side must go on taking what there is.
async fn pump<R, W>(mut from: R, mut to: W, is_over: impl Fn(&R) -> bool) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut moved = Ok(());
    while moved.is_ok() {
        let rest = std::future::poll_fn(|context| move_piece(context, &mut from, &mut to)).await;
        moved = match rest {
            Ok(Some(rest)) => finish(&rest, &mut to, || is_over(&from)).await,
            Ok(None) => break,
            Err(error) => Err(error),
        };
    }
    // It may have ended before.
    let _ = to.shutdown().await;
    moved
}

/// Reads a piece and writes what there is room for. Returns the rest; nothing at the end.
fn move_piece(
    context: &mut Context<'_>,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Poll<io::Result<Option<Vec<u8>>>> {
    let mut space = [const { MaybeUninit::uninit() }; PIECE_BYTES];
    let mut piece = ReadBuf::uninit(&mut space);
    ready!(Pin::new(from).poll_read(context, &mut piece))?;
    let piece = piece.filled();
    if piece.is_empty() {
        return Poll::Ready(Ok(None));
    }
    let n_written = match Pin::new(to).poll_write(context, piece) {
        Poll::Ready(n_written) => n_written?,
        Poll::Pending => 0,
    };
    Poll::Ready(Ok(Some(piece[n_written..].to_vec())))
}

async fn finish(
    mut rest: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    is_over: impl Fn() -> bool,
) -> io::Result<()> {
    while !rest.is_empty() {
        match timeout(ENDING_FOR, to.write(rest)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n_written) => rest = &rest[n_written?..],
            Err(_) if is_over() => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => (),
        }
    }
    Ok(())
}

/// Whether libzmq has closed a connection. It does so when a peer is dead, and its identity must
/// not wait until the system believes that, too.
fn is_over(from: &unix::ReadHalf<'_>) -> bool {
    let ready = pin!(from.ready(Interest::READABLE));
    match ready.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready.is_ok_and(|ready| ready.is_read_closed()),
        Poll::Pending => false,
    }
}

/// Who is connected to one address.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<List>);

#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) identities: HashSet<Vec<u8>>,
    /// Those who have not said who they are, oldest first.
    pub(super) shaking: BTreeMap<u64, Arc<Notify>>,
    n_entered: u64,
    pub(super) n_connected: usize,
    pub(super) n_refused: u64,
}

/// One connection, which leaves the list when this is dropped.
struct Guest {
    guests: Arc<Guests>,
    number: u64,
    /// Told when this one has to go.
    shown_out: Arc<Notify>,
    identity: Vec<u8>,
}

impl Guests {
    pub(super) fn lock(&self) -> MutexGuard<'_, List> {
        // Every change leaves a valid list.
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// A new connection. If too many have not said who they are, the oldest of them is closed.
    fn enter(self: &Arc<Self>) -> Guest {
        let mut list = self.lock();
        let oldest = if list.shaking.len() < SHAKING_MAX { None } else { list.shaking.pop_first() };
        let (number, shown_out) = (list.n_entered, Arc::<Notify>::default());
        list.n_entered += 1;
        list.n_connected += 1;
        list.shaking.insert(number, Arc::clone(&shown_out));
        drop(list);
        if let Some((_, oldest)) = oldest {
            oldest.notify_one();
            self.count(&"too many do not say who they are");
        }
        Guest { guests: Arc::clone(self), number, shown_out, identity: Vec::new() }
    }

    fn count(&self, why: &dyn std::fmt::Display) {
        let mut list = self.lock();
        list.n_refused += 1;
        let n_refused = list.n_refused;
        drop(list);
        tracing::debug!("a connection is closed: {why}");
        if n_refused.is_power_of_two() {
            tracing::warn!(n_refused, "connections were closed, the last one because {why}");
        }
    }
}

impl Guest {
    /// Takes an identity until the connection has ended, if nobody has it. Peers without one do not
    /// disturb each other. Who has been shown out gets none.
    fn claim(&mut self, identity: &[u8]) -> bool {
        let mut list = self.guests.lock();
        if list.shaking.remove(&self.number).is_none() {
            return false;
        }
        if identity.is_empty() || list.identities.insert(identity.to_vec()) {
            identity.clone_into(&mut self.identity);
            return true;
        }
        drop(list);
        let identity = String::from_utf8_lossy(identity);
        self.guests.count(&format_args!("another peer has the identity {identity:?}"));
        false
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut list = self.guests.lock();
        list.n_connected -= 1;
        list.shaking.remove(&self.number);
        list.identities.remove(&self.identity);
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
