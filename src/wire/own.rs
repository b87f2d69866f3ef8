//! A group of sockets owned by the loop that reads them: what arrives wakes the loop itself, and
//! what it sends is with libzmq when it goes on. A thread between would have to be woken for each
//! message, twice, and that is most of what a short call costs.
//!
//! libzmq's descriptors are watched by tokio, which reports edges. None is lost: each signal of
//! libzmq is one, and a socket whose descriptor was reported is asked until it has nothing.
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::group::{AGAIN, Group, SWEEP};
use super::guest::{self, Guest, Host};
use super::link::Links;
use super::member::Member;
use super::socket::{Batch, Context, SocketError};
use super::spec::Spec;

/// The sockets. Dropping them closes them; the last messages may still be on their way then, and
/// dropping the `Context` waits for them, up to a second.
pub struct OwnSockets {
    /// Absent until something is waited for.
    watch: Option<Watch>,
    group: Group,
    links: Option<Links>,
    host: Option<Host>,
    unreached: Vec<(usize, Vec<u8>)>,
}

struct Watch {
    /// Absent if the operating system refused: then the sweep has to do.
    descriptors: Vec<Option<AsyncFd<OwnedFd>>>,
    sweep: Interval,
    again: Interval,
}

impl std::fmt::Debug for OwnSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnSockets").finish_non_exhaustive()
    }
}

impl OwnSockets {
    /// Opens every socket of `specs`; the resolved addresses come with them, per spec, per end.
    ///
    /// # Errors
    /// `InUse` when an address to bind belongs to another process, `Open` for every other refusal
    /// of libzmq, `Thread` when the operating system has none left for the gate.
    pub fn open(
        context: &Context,
        specs: Vec<Spec>,
    ) -> Result<(Self, Vec<Vec<String>>), SocketError> {
        let (group, endpoints) = Group::open(context, specs)?;
        Ok((Self { watch: None, group, links: None, host: None, unreached: Vec::new() }, endpoints))
    }

    /// Lets peers of this host come by links to the sockets whose specs say so; returns where.
    ///
    /// # Errors
    /// When the system has no folder or socket for it.
    pub fn listen_for_links(&mut self) -> std::io::Result<PathBuf> {
        let links = Links::listen()?;
        self.group.open_way(&links.way(), is_linked);
        let path = links.path();
        self.links = Some(links);
        Ok(path)
    }

    /// Lets one peer of this process come without a socket, to those whose specs say so.
    pub fn invite(&mut self) -> Guest {
        let (guest, host) = guest::pair();
        self.group.open_way(&host.way(), is_host);
        self.host = Some(host);
        guest
    }

    /// Sends messages, in order. Never blocks: what a peer has no room for waits for it.
    pub fn send_batch(&mut self, batch: Batch) {
        for (position, frames) in batch {
            self.group.send(position, frames);
        }
        self.flush_links();
    }

    fn flush_links(&self) {
        if let Some(links) = &self.links {
            links.flush();
        }
    }

    /// Waits for what arrives. Also returns, with nothing, when a message did not reach its peer.
    /// Nothing is lost when the future is dropped. Must be called within a tokio runtime with
    /// input, output and time.
    pub async fn recv(&mut self) -> Batch {
        loop {
            // A loop that always finds something must still let the runtime look around.
            tokio::task::coop::consume_budget().await;
            std::future::poll_fn(|context| self.poll_stirred(context)).await;
            let batch = self.try_recv();
            if !batch.is_empty() || !self.unreached.is_empty() {
                return batch;
            }
        }
    }

    /// Reads what has arrived by now, up to a limit.
    pub fn try_recv(&mut self) -> Batch {
        let mut batch = self.group.receive();
        self.unreached.extend(self.group.retry());
        self.flush_links();
        let Self { group, links, host, .. } = self;
        if let Some(links) = links {
            let linked = links.take().into_iter();
            batch.extend(linked.filter_map(|(at, frames)| group.came(at, frames, is_linked)));
        }
        if let Some(host) = host {
            let of_guest = host.take().into_iter();
            batch.extend(of_guest.filter_map(|(at, frames)| group.came(at, frames, is_host)));
        }
        batch
    }

    /// The peers that messages did not reach since the last call, because they are gone or do not
    /// read. Each entry stands for a message that was dropped.
    pub fn unreached(&mut self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(&mut self.unreached)
    }

    /// Ready as soon as some socket may have something.
    fn poll_stirred(&mut self, context: &mut TaskContext<'_>) -> Poll<()> {
        let Self { watch, group, links, host, .. } = self;
        let watch = watch.get_or_insert_with(|| Watch::new(group));
        for (position, descriptor) in watch.descriptors.iter().enumerate() {
            if descriptor.as_ref().is_some_and(|descriptor| is_woken(descriptor, context)) {
                group.stir(position);
            }
        }
        let links = links.as_mut();
        let has_linked = links.is_some_and(|links| links.poll_received(context).is_ready());
        let host = host.as_mut();
        let has_guests = host.is_some_and(|host| host.poll_received(context).is_ready());
        if has_linked || has_guests || group.is_stirred() {
            return Poll::Ready(());
        }
        let is_late = watch.sweep.poll_tick(context).is_ready();
        if !is_late && group.is_waiting() {
            ready!(watch.again.poll_tick(context));
        } else if !is_late {
            return Poll::Pending;
        }
        for position in 0..watch.descriptors.len() {
            group.stir(position);
        }
        Poll::Ready(())
    }
}

fn is_linked(member: &Member) -> bool {
    member.is_linked
}

fn is_host(member: &Member) -> bool {
    member.is_host
}

impl Watch {
    fn new(group: &Group) -> Self {
        let watched = |fd| match crate::process::watch(fd) {
            Ok(descriptor) => Some(descriptor),
            Err(error) => {
                tracing::error!(%error, "a socket cannot be watched: what comes there comes late");
                None
            }
        };
        let every = |period| {
            let mut every = interval(period);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        };
        let descriptors = group.descriptors().map(watched).collect();
        Self { descriptors, sweep: every(SWEEP), again: every(AGAIN) }
    }
}

/// Whether libzmq has signalled since the last call; who is told no is woken by the next signal.
fn is_woken(descriptor: &AsyncFd<OwnedFd>, context: &mut TaskContext<'_>) -> bool {
    match descriptor.poll_read_ready(context) {
        // Cleared before the socket is asked: what is signalled from now on is another edge.
        Poll::Ready(Ok(mut guard)) => {
            guard.clear_ready();
            true
        }
        // An error says that the runtime is ending.
        Poll::Ready(Err(_)) | Poll::Pending => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::spec::Kind;
    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    /// A ROUTER and a DEALER named `peer`, which has said hello.
    async fn pair(context: &Context) -> (OwnSockets, OwnSockets) {
        let spec = Spec::bind(Kind::Router, "tcp://127.0.0.1:0").limit(1 << 30);
        let (mut router, endpoints) = OwnSockets::open(context, vec![spec]).unwrap();
        let spec = Spec::connect(Kind::Dealer, &endpoints[0][0]).identity("peer");
        let (mut dealer, _) = OwnSockets::open(context, vec![spec]).unwrap();
        dealer.send_batch(vec![(0, vec![b"hello".to_vec()])]);
        let hello = timeout(WITHIN, router.recv()).await.expect("it arrives");
        assert_eq!(hello, [(0, vec![b"peer".to_vec(), b"hello".to_vec()])]);
        (router, dealer)
    }

    #[tokio::test]
    async fn a_question_and_its_answer_never_miss_each_other() {
        let context = Context::new();
        let (mut router, mut dealer) = pair(&context).await;
        let asks = async {
            for n in 0..5000u32 {
                dealer.send_batch(vec![(0, vec![n.to_le_bytes().to_vec()])]);
                assert_eq!(dealer.recv().await, [(0, vec![n.to_le_bytes().to_vec()])]);
            }
        };
        let answers = async {
            loop {
                let batch = router.recv().await;
                router.send_batch(batch);
            }
        };
        tokio::select! {
            asked = timeout(WITHIN, asks) => asked.expect("no answer is missed"),
            () = answers => (),
        }
    }

    #[tokio::test]
    async fn a_hundred_thousand_messages_arrive_in_order_whatever_is_dropped_meanwhile() {
        const N: u32 = 100_000;
        let context = Context::new();
        let (mut router, mut dealer) = pair(&context).await;
        let messages = (0..N).map(|n| (0, vec![b"peer".to_vec(), n.to_le_bytes().to_vec()]));
        router.send_batch(messages.collect());
        let mut next = 0;
        let reads = async {
            while next < N {
                // Either side may win; who loses is dropped and has taken nothing with it.
                tokio::select! {
                    batch = dealer.recv() => for (_, frames) in batch {
                        assert_eq!(frames, [next.to_le_bytes()]);
                        next += 1;
                    },
                    unreached = router.recv() => assert!(unreached.is_empty()),
                    () = tokio::task::yield_now() => (),
                }
            }
        };
        timeout(WITHIN, reads).await.expect("all arrive");
    }

    #[tokio::test]
    async fn a_loop_that_always_finds_something_leaves_room_for_others() {
        let context = Context::new();
        let (mut router, mut dealer) = pair(&context).await;
        let echoes = async {
            dealer.send_batch(vec![(0, vec![b"ball".to_vec()])]);
            loop {
                let batch = router.try_recv();
                router.send_batch(batch);
                let batch = dealer.recv().await;
                // There is always a next one.
                dealer.send_batch(batch.clone());
                router.send_batch(vec![(0, vec![b"peer".to_vec(), b"again".to_vec()])]);
            }
        };
        tokio::select! {
            () = echoes => (),
            () = tokio::time::sleep(Duration::from_millis(20)) => (),
        }
    }

    #[tokio::test]
    async fn a_peer_that_a_message_does_not_reach_is_named() {
        let context = Context::new();
        let (mut router, _dealer) = pair(&context).await;
        router.send_batch(vec![(0, vec![b"nobody".to_vec(), b"hello".to_vec()])]);
        let batch = timeout(WITHIN, router.recv()).await.expect("it is told");
        assert!(batch.is_empty());
        assert_eq!(router.unreached(), [(0, b"nobody".to_vec())]);
    }
}
