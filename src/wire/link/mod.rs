//! How an engine speaks with a controller of its own host: by one Unix socket, for all channels.
//! libzmq has a thread of its own at each end, which is woken for each message; on a link the two
//! loops write and read themselves. Messages are the same, signatures and all; each says the number
//! of the socket for which the link stands in.
//!
//! The socket is in a folder that only its owner can enter. Its path stands in the connection file
//! of engines ([`crate::wire::connection::EngineFile::link`]). Who cannot come in by it, and
//! whoever does not know it, has the controller's ZeroMQ sockets.
mod links;
pub mod message;

use std::fmt;
use std::future::pending;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

pub(super) use self::links::Links;
use self::message::{Inbound, KEPT_BYTES};
use super::member::Lane;
use super::socket::Batch;
use crate::process::{Inward, Outward, divide};

/// How long either side may take to say who it is, or to answer that.
const SHAKING_FOR: Duration = Duration::from_secs(30);
/// How much is read before somebody else has a turn.
const READ_MESSAGES_MAX: usize = 256;
/// How long the last messages may take to leave, as in ZeroMQ (see `member`).
const LINGER: Duration = Duration::from_secs(1);
/// What the controller answers who may come in; its last word to everybody else is none.
const WELCOME: u8 = 1;

/// The engine's end of a link.
pub struct Link {
    from: Inward,
    to: Outward,
    inbound: Inbound,
    outbound: Outbound,
    has_ended: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl Link {
    /// Comes in as `name`, the identity that an engine has at a controller.
    ///
    /// # Errors
    /// There is no such socket, nobody listens there, or another has that name.
    pub async fn open(path: &Path, name: &[u8]) -> io::Result<Self> {
        let shake = async {
            let mut stream = UnixStream::connect(path).await?;
            let mut hello = Vec::new();
            message::write(0, &[name.to_vec()], &mut hello);
            stream.write_all(&hello).await?;
            match stream.read_u8().await? {
                WELCOME => Ok::<_, io::Error>(stream),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        let stream = timeout(SHAKING_FOR, shake).await.map_err(io::Error::from)??;
        let (from, to) = divide(stream.into_std()?)?;
        let (inbound, outbound) = (Inbound::default(), Outbound::default());
        Ok(Self { from, to, inbound, outbound, has_ended: false })
    }

    /// Waits for messages, with the numbers of their lanes. For ever, when the other end is gone:
    /// an engine tells by the heartbeats. Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Batch {
        loop {
            let batch = self.taken();
            if !batch.is_empty() {
                return batch;
            }
            if self.has_ended {
                return pending().await;
            }
            let read = tokio::select! {
                read = self.from.read(self.inbound.room()) => Some(read),
                writable = self.to.writable(), if !self.outbound.is_empty() => {
                    writable.err().map(Err)
                }
            };
            self.note(read);
        }
    }

    /// Reads what has arrived by now, up to a limit.
    pub fn try_recv(&mut self) -> Batch {
        if !self.has_ended {
            let read = match self.from.try_read(self.inbound.room()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                read => Some(read),
            };
            self.note(read);
        }
        self.taken()
    }

    /// Sends messages, in order. Never blocks: what there is no room for waits for it.
    pub fn send_batch(&mut self, batch: Batch) {
        if self.has_ended {
            return;
        }
        for (position, frames) in batch {
            let lane = Lane::try_from(position).expect("a lane's number has one byte");
            self.outbound.push(lane, &frames);
        }
        self.write();
    }

    /// Writes what had no room yet, as long as the other end takes it.
    pub async fn close(self) {
        let rest = &self.outbound.bytes[self.outbound.start..];
        if !self.has_ended
            && let Ok(Err(error)) = timeout(LINGER, self.to.write_all(rest)).await
        {
            tracing::debug!(%error, "the controller's end of the link is gone");
        }
    }

    /// Takes in what became of a read; without one there may be room to write.
    fn note(&mut self, read: Option<io::Result<usize>>) {
        match read {
            None => self.write(),
            Some(Ok(n_bytes)) if n_bytes > 0 => self.inbound.filled(n_bytes),
            Some(Ok(_) | Err(_)) => self.has_ended = true,
        }
    }

    fn write(&mut self) {
        if let Err(error) = self.outbound.write(|bytes| self.to.try_write(bytes)) {
            tracing::debug!(%error, "the controller's end of the link is gone");
            self.has_ended = true;
        }
    }

    fn taken(&mut self) -> Batch {
        match take(&mut self.inbound, &[]) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(%error, "nothing is heard of the controller any more");
                self.has_ended = true;
                Batch::new()
            }
        }
    }
}

/// Takes the messages that have come, up to a limit.
fn take(inbound: &mut Inbound, first: &[&[u8]]) -> Result<Batch, message::Broken> {
    let mut batch = Batch::new();
    while batch.len() < READ_MESSAGES_MAX
        && let Some((lane, frames)) = inbound.take(first)?
    {
        batch.push((usize::from(lane), frames));
    }
    Ok(batch)
}

/// What is to be written, and has not been.
#[derive(Debug, Default)]
struct Outbound {
    bytes: Vec<u8>,
    start: usize,
}

impl Outbound {
    fn is_empty(&self) -> bool {
        self.n_bytes() == 0
    }

    fn n_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn push(&mut self, lane: Lane, frames: &[Vec<u8>]) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        message::write(lane, frames, &mut self.bytes);
    }

    /// Writes what there is room for.
    fn write(&mut self, write: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while !self.is_empty() {
            match write(&self.bytes[self.start..]) {
                Ok(n_bytes) => self.start += n_bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        self.start = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
