//! The two ends of a connected Unix socket, for loops that answer each other message by message.
//! tokio watches its own sockets for both directions, and Linux tells who may write whenever the
//! peer has read: each message would wake its sender once more. Here somebody is told that there is
//! room only while he waits for it.
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

/// What the peer sends.
#[derive(Debug)]
pub struct Inward {
    watched: AsyncFd<OwnedFd>,
    stream: Arc<UnixStream>,
}

/// What is sent to the peer, which hears the end when this is dropped.
#[derive(Debug)]
pub struct Outward(Arc<UnixStream>);

/// Divides a socket. Must be called within a tokio runtime.
///
/// # Errors
/// What the system says.
pub fn divide(stream: UnixStream) -> io::Result<(Inward, Outward)> {
    stream.set_nonblocking(true)?;
    let stream = Arc::new(stream);
    let watched = super::watch_for(Interest::READABLE, stream.as_raw_fd())?;
    Ok((Inward { watched, stream: Arc::clone(&stream) }, Outward(stream)))
}

impl Inward {
    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when that is nothing, or whatever else the system says.
    pub fn try_read(&self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.as_ref().read(to)
    }
}

impl AsyncRead for Inward {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.watched.poll_read_ready(context))?;
            let room = to.initialize_unfilled();
            let n_room = room.len();
            match self.stream.as_ref().read(room) {
                Ok(n_bytes) => {
                    // There was no more: what comes from now on is told anew.
                    if 0 < n_bytes && n_bytes < n_room {
                        guard.clear_ready();
                    }
                    to.advance(n_bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Outward {
    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, or whatever else the system says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_ref().write(bytes)
    }

    /// Waits until there is room. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub async fn writable(&self) -> io::Result<()> {
        let watched = super::watch_for(Interest::WRITABLE, self.0.as_raw_fd())?;
        watched.writable().await.map(|_| ())
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// What the system says; some of it may have been written.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n_bytes) => bytes = &bytes[n_bytes..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Outward {
    fn drop(&mut self) {
        // A peer that is gone needs not hear it.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    fn pair() -> ((Inward, Outward), (Inward, Outward)) {
        let (a, b) = UnixStream::pair().unwrap();
        (divide(a).unwrap(), divide(b).unwrap())
    }

    #[tokio::test]
    async fn questions_and_answers_never_miss_each_other() {
        let ((mut a_in, a_out), (mut b_in, b_out)) = pair();
        let answers = async {
            let mut byte = [0];
            while b_in.read(&mut byte).await.unwrap() > 0 {
                b_out.write_all(&byte).await.unwrap();
            }
        };
        let asks = async {
            for n in 0..5000 {
                let asked = [u8::try_from(n % 256).unwrap()];
                a_out.write_all(&asked).await.unwrap();
                let mut answered = [0];
                a_in.read_exact(&mut answered).await.unwrap();
                assert_eq!(answered, asked);
            }
            drop(a_out);
        };
        timeout(WITHIN, async { tokio::join!(answers, asks) }).await.expect("it ends");
    }

    #[tokio::test]
    async fn what_has_no_room_waits_for_it_and_arrives_whole() {
        let ((_a_in, a_out), (mut b_in, _b_out)) = pair();
        let sent: Vec<u8> = (0..8u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
        let writes = async {
            a_out.write_all(&sent).await.unwrap();
            drop(a_out);
        };
        let mut received = Vec::new();
        let both = async { tokio::join!(writes, b_in.read_to_end(&mut received)) };
        timeout(WITHIN, both).await.expect("it ends").1.unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn who_has_written_is_not_woken_by_the_peers_reading() {
        let ((mut a_in, a_out), (mut b_in, b_out)) = pair();
        let n_polls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&n_polls);
        let waiting = tokio::spawn(std::future::poll_fn(move |context| {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut room = [0; 64];
            Pin::new(&mut a_in).poll_read(context, &mut ReadBuf::new(&mut room))
        }));
        // By the end of an exchange elsewhere all that was told before it is known.
        let elsewhere = async || {
            let ((_c_in, c_out), (mut d_in, _d_out)) = pair();
            c_out.write_all(b"x").await.unwrap();
            d_in.read_exact(&mut [0]).await.unwrap();
        };
        elsewhere().await;
        a_out.write_all(b"asked").await.unwrap();
        b_in.read_exact(&mut [0; 5]).await.unwrap();
        elsewhere().await;
        assert_eq!(n_polls.load(Ordering::Relaxed), 1);
        b_out.write_all(b"answered").await.unwrap();
        timeout(WITHIN, waiting).await.expect("it is woken by what is sent").unwrap().unwrap();
    }
}
