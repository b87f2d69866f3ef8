//! A client in the controller's own process: messages change hands as they are, with nothing
//! between the two loops. Each says the number of the socket by which it would have come. To the
//! controller the client is one more peer of those sockets (see `peers`).
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::member::{Lane, Way, n_bytes};
use super::peers::Sent;
use super::socket::{Batch, Frames};

/// Bytes that wait for the client; what is more waits with the ROUTER's peers, and what is
/// published beyond it is missed.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How much is read before somebody else has a turn.
const READ_MESSAGES_MAX: usize = 256;

type Sender = UnboundedSender<(usize, Frames)>;
type Receiver = UnboundedReceiver<(usize, Frames)>;

/// The client's end. It hears all that is published. How much it sends ahead is its own to limit.
#[derive(Debug)]
pub struct Guest {
    name: Vec<u8>,
    to: Sender,
    from: Receiver,
    n_waiting_bytes: Arc<AtomicUsize>,
}

/// The controller's end.
#[derive(Debug)]
pub(super) struct Host {
    way: Arc<GuestWay>,
    from: Receiver,
    /// What was received and not taken.
    received: Batch,
}

/// What leads to the client.
#[derive(Debug)]
struct GuestWay {
    name: Vec<u8>,
    to: Sender,
    n_waiting_bytes: Arc<AtomicUsize>,
}

/// Both ends.
pub(super) fn pair() -> (Guest, Host) {
    let name = uuid::Uuid::new_v4().simple().to_string().into_bytes();
    // Bounded otherwise: one way by the client's window, the other way by what is counted here.
    let (to_host, of_guest) = unbounded_channel();
    let (to_guest, of_host) = unbounded_channel();
    let n_waiting_bytes = Arc::new(AtomicUsize::new(0));
    let way = GuestWay {
        name: name.clone(),
        to: to_guest,
        n_waiting_bytes: Arc::clone(&n_waiting_bytes),
    };
    let host = Host { way: Arc::new(way), from: of_guest, received: Batch::new() };
    (Guest { name, to: to_host, from: of_host, n_waiting_bytes }, host)
}

impl Guest {
    /// Waits for messages, with the numbers of their sockets. For ever, when the controller is
    /// gone: a client tells by its questions. Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Batch {
        let Some(first) = self.from.recv().await else { return std::future::pending().await };
        let mut batch = vec![first];
        while batch.len() < READ_MESSAGES_MAX
            && let Ok(more) = self.from.try_recv()
        {
            batch.push(more);
        }
        let n_bytes = batch.iter().map(|(_, frames)| n_bytes(frames)).sum();
        self.n_waiting_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
        batch
    }

    /// Sends messages, in order. Never blocks.
    pub fn send_batch(&mut self, batch: Batch) {
        for (position, mut frames) in batch {
            frames.insert(0, self.name.clone());
            // A controller that is gone answers nothing, as any other.
            let _ = self.to.send((position, frames));
        }
    }
}

impl Host {
    pub(super) fn way(&self) -> Arc<dyn Way> {
        Arc::clone(&self.way) as Arc<dyn Way>
    }

    /// Ready as soon as there is something to take; never, when the client is gone.
    pub(super) fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.received.is_empty() {
            match self.from.poll_recv(context) {
                Poll::Ready(Some(message)) => self.received.push(message),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    /// Takes what has come by now, up to a limit.
    pub(super) fn take(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.received);
        while batch.len() < READ_MESSAGES_MAX
            && let Ok(more) = self.from.try_recv()
        {
            batch.push(more);
        }
        batch
    }
}

impl GuestWay {
    fn push(&self, lane: Lane, frames: impl FnOnce() -> Frames) -> Sent {
        if self.n_waiting_bytes.load(Ordering::Relaxed) > WAITING_BYTES_MAX {
            return Sent::Full;
        }
        let frames = frames();
        self.n_waiting_bytes.fetch_add(n_bytes(&frames), Ordering::Relaxed);
        match self.to.send((usize::from(lane), frames)) {
            Ok(()) => Sent::Whole,
            Err(_) => Sent::Nobody,
        }
    }
}

impl Way for GuestWay {
    fn send(&self, lane: Lane, frames: &mut Frames) -> Option<Sent> {
        let is_here = frames.first()? == &self.name;
        is_here.then(|| self.push(lane, || frames.split_off(1)))
    }

    fn publish(&self, lane: Lane, frames: &[Vec<u8>]) {
        self.push(lane, || frames.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_go_both_ways_under_the_guests_name() {
        let (mut guest, mut host) = pair();
        guest.send_batch(vec![(3, vec![b"question".to_vec()]), (5, Frames::new())]);
        std::future::poll_fn(|context| host.poll_received(context)).await;
        let name = guest.name.clone();
        let taken = host.take();
        assert_eq!(taken, [(3, vec![name.clone(), b"question".to_vec()]), (5, vec![name.clone()])]);
        let way = host.way();
        let sent = way.send(3, &mut vec![name, b"answer".to_vec()]);
        assert!(matches!(sent, Some(Sent::Whole)));
        assert!(way.send(3, &mut vec![b"another".to_vec()]).is_none(), "it leads to nobody else");
        way.publish(11, &[b"topic".to_vec()]);
        let heard = guest.recv().await;
        assert_eq!(heard, [(3, vec![b"answer".to_vec()]), (11, vec![b"topic".to_vec()])]);
    }

    #[tokio::test]
    async fn a_guest_that_does_not_read_holds_no_more_than_its_limit() {
        let (mut guest, host) = pair();
        let (way, name) = (host.way(), guest.name.clone());
        let message = vec![name, vec![0; WAITING_BYTES_MAX / 4]];
        let sent = || way.send(0, &mut message.clone()).expect("it leads to the guest");
        let n_sent = (0..10).take_while(|_| matches!(sent(), Sent::Whole)).count();
        assert_eq!(n_sent, 5, "the last one reaches the limit");
        let mut waits = message.clone();
        assert!(matches!(way.send(0, &mut waits), Some(Sent::Full)));
        assert_eq!(waits, message, "what has no room is whole");
        assert_eq!(guest.recv().await.len(), n_sent);
        assert!(matches!(sent(), Sent::Whole), "there is room again");
        drop(guest);
        assert!(matches!(sent(), Sent::Nobody));
    }
}
