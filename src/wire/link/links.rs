//! The controller's end of its links: who has come in, and what waits for them. How much may wait
//! is decided as for the peers of a ROUTER (see `peers`).
use std::collections::{HashMap, hash_map};
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::message::Inbound;
use super::{Outbound, READ_MESSAGES_MAX, SHAKING_FOR, WELCOME, take};
use crate::process::{Inward, Outward, Scratch, divide};
use crate::wire::gate::short_folder;
use crate::wire::member::{Lane, Way};
use crate::wire::peers::Sent;
use crate::wire::socket::{Batch, Frames};

/// Bytes that wait at a link until its peer reads; what is more waits with the ROUTER's peers.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Batches that wait for their reader. No more is read then.
const BATCHES_MAX: usize = 64;
/// How long nobody is let in after the system has refused a connection, for want of descriptors.
const FULL_FOR: Duration = Duration::from_millis(100);
/// The longest name that a peer may have, as in ZeroMQ.
const NAME_BYTES_MAX: usize = 255;

/// The links of a group of sockets. Dropping it closes them.
#[derive(Debug)]
pub(in crate::wire) struct Links {
    table: Arc<Table>,
    incoming: Receiver<Batch>,
    /// What was received and not taken.
    received: Batch,
    /// Until somebody waits for something.
    bound: Option<(StdListener, Sender<Batch>)>,
    serving: Option<AbortHandle>,
    folder: Scratch,
}

impl Links {
    /// Listens in a folder of its own.
    ///
    /// # Errors
    /// The folder or the socket cannot be made.
    pub(in crate::wire) fn listen() -> io::Result<Self> {
        let folder = short_folder()?;
        let listener = StdListener::bind(path_in(&folder))?;
        listener.set_nonblocking(true)?;
        let (sender, incoming) = channel(BATCHES_MAX);
        let (table, received, bound) = (Arc::default(), Batch::new(), Some((listener, sender)));
        Ok(Self { table, incoming, received, bound, serving: None, folder })
    }

    /// Where it listens.
    pub(in crate::wire) fn path(&self) -> PathBuf {
        path_in(&self.folder)
    }

    pub(in crate::wire) fn way(&self) -> Arc<dyn Way> {
        Arc::clone(&self.table) as Arc<dyn Way>
    }

    /// Writes what was sent, as far as there is room. The rest follows by itself.
    pub(in crate::wire) fn flush(&self) {
        for peer in std::mem::take(&mut *lock(&self.table.written)) {
            peer.flush();
        }
    }

    /// Ready as soon as there is something to take. Must be called within a tokio runtime.
    pub(in crate::wire) fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.serve();
        if self.received.is_empty() {
            match self.incoming.poll_recv(context) {
                Poll::Ready(Some(batch)) => self.received = batch,
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    /// Takes what has come by now, up to a limit.
    pub(in crate::wire) fn take(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.received);
        while batch.len() < READ_MESSAGES_MAX
            && let Ok(more) = self.incoming.try_recv()
        {
            batch.extend(more);
        }
        batch
    }

    fn serve(&mut self) {
        let Some((listener, sender)) = self.bound.take() else { return };
        match UnixListener::from_std(listener) {
            Ok(listener) => {
                let serving = tokio::spawn(serve(listener, Arc::clone(&self.table), sender));
                self.serving = Some(serving.abort_handle());
            }
            Err(error) => tracing::error!(%error, "engines of this host have no links"),
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn path_in(folder: &Scratch) -> PathBuf {
    Path::new(folder.path()).join("link")
}

/// Who is there, by name.
#[derive(Debug, Default)]
struct Table {
    peers: Mutex<HashMap<Vec<u8>, Arc<Peer>>>,
    /// For whom something was written since the last flush.
    written: Mutex<Vec<Arc<Peer>>>,
}

#[derive(Debug)]
struct Peer {
    to: Outward,
    waiting: Mutex<Waiting>,
    /// Told when there is no room for what waits.
    stuck: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    outbound: Outbound,
    /// Somebody waits until there is room.
    is_stuck: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change leaves a valid value.
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// What is sent leaves with [`Links::flush`].
impl Way for Table {
    fn send(&self, lane: Lane, frames: &mut Frames) -> Option<Sent> {
        let (name, frames) = frames.split_first()?;
        let peer = Arc::clone(lock(&self.peers).get(name)?);
        Some(self.push(peer, lane, frames))
    }

    fn publish(&self, lane: Lane, frames: &[Vec<u8>]) {
        let peers: Vec<_> = lock(&self.peers).values().map(Arc::clone).collect();
        for peer in peers {
            self.push(peer, lane, frames);
        }
    }
}

impl Table {
    fn push(&self, peer: Arc<Peer>, lane: Lane, frames: &[Vec<u8>]) -> Sent {
        let mut waiting = lock(&peer.waiting);
        if waiting.outbound.n_bytes() > WAITING_BYTES_MAX {
            return Sent::Full;
        }
        let is_first = waiting.outbound.is_empty();
        waiting.outbound.push(lane, frames);
        drop(waiting);
        if is_first {
            lock(&self.written).push(peer);
        }
        Sent::Whole
    }

    /// Lets a peer in, if nobody has that name.
    fn enter(&self, name: &[u8], peer: &Arc<Peer>) -> bool {
        match lock(&self.peers).entry(name.to_vec()) {
            hash_map::Entry::Occupied(_) => false,
            hash_map::Entry::Vacant(place) => {
                let is_told = peer.to.try_write(&[WELCOME]).is_ok();
                if is_told {
                    place.insert(Arc::clone(peer));
                }
                is_told
            }
        }
    }
}

impl Peer {
    fn flush(&self) {
        let mut waiting = lock(&self.waiting);
        // An error says that the peer is gone, which its reader notices.
        if waiting.outbound.write(|bytes| self.to.try_write(bytes)).is_err() {
            waiting.outbound = Outbound::default();
        }
        waiting.is_stuck = !waiting.outbound.is_empty();
        if waiting.is_stuck {
            self.stuck.notify_one();
        }
    }

    /// Writes what had no room, whenever there is some.
    async fn write_rest(&self) {
        loop {
            let is_stuck = lock(&self.waiting).is_stuck;
            if !is_stuck {
                self.stuck.notified().await;
            } else if self.to.writable().await.is_ok() {
                self.flush();
            } else {
                return;
            }
        }
    }
}

async fn serve(listener: UnixListener, table: Arc<Table>, sender: Sender<Batch>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = links.join_next() => (),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    links.spawn(attend(stream, Arc::clone(&table), sender.clone()));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
                Err(error) => {
                    tracing::warn!(%error, "the system refuses a link");
                    sleep(FULL_FOR).await;
                }
            },
        }
    }
}

/// One link, from its first byte to its last.
async fn attend(stream: UnixStream, table: Arc<Table>, sender: Sender<Batch>) {
    let (mut from, to) = match stream.into_std().and_then(divide) {
        Ok(ends) => ends,
        Err(error) => return tracing::warn!(%error, "the system refuses a link"),
    };
    let mut inbound = Inbound::default();
    let name = match timeout(SHAKING_FOR, hear_name(&mut from, &mut inbound)).await {
        Ok(Ok(name)) => name,
        Ok(Err(error)) => return tracing::debug!(%error, "a link does not say whose it is"),
        Err(_) => return tracing::debug!("a link does not say whose it is"),
    };
    let peer = Arc::new(Peer { to, waiting: Mutex::default(), stuck: Notify::new() });
    let written_name = String::from_utf8_lossy(&name);
    if !table.enter(&name, &peer) {
        return tracing::warn!(name = %written_name, "a link is closed: another has its name");
    }
    let read = tokio::select! {
        read = read_all(&mut from, &mut inbound, &name, &sender) => read,
        () = peer.write_rest() => Ok(()),
    };
    tracing::debug!(name = %written_name, ?read, "a link has ended");
    lock(&table.peers).remove(&name);
}

async fn hear_name(from: &mut Inward, inbound: &mut Inbound) -> io::Result<Vec<u8>> {
    loop {
        if let Some((_, mut frames)) = inbound.take(&[]).map_err(io::Error::other)? {
            let name = frames.pop().unwrap_or_default();
            let is_name = frames.is_empty() && (1..=NAME_BYTES_MAX).contains(&name.len());
            return if is_name { Ok(name) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        read_some(from, inbound).await?;
    }
}

async fn read_all(
    from: &mut Inward,
    inbound: &mut Inbound,
    name: &[u8],
    sender: &Sender<Batch>,
) -> io::Result<()> {
    loop {
        let batch: Batch = take(inbound, &[name]).map_err(io::Error::other)?;
        if batch.is_empty() {
            read_some(from, inbound).await?;
        } else if sender.send(batch).await.is_err() {
            return Ok(());
        }
    }
}

async fn read_some(from: &mut Inward, inbound: &mut Inbound) -> io::Result<()> {
    match from.read(inbound.room()).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n_bytes => {
            inbound.filled(n_bytes);
            Ok(())
        }
    }
}
