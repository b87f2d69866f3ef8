//! How the client is connected with its controller: as its guest, when that is in this process; by
//! a ZeroMQ socket for each channel, else. Positions mean the same either way.
use prust_cluster::Channel;

use super::Endpoints;
use crate::wire::{Batch, Context, Guest, Kind, OwnSockets, SocketError, Spec};

pub(super) const QUERY: usize = 0;
pub(super) const CONTROL: usize = 1;
pub(super) const MUX: usize = 2;
pub(super) const TASK: usize = 3;
pub(super) const NOTIFICATION: usize = 4;
pub(super) const IOPUB: usize = 5;

/// The channels by their positions.
const CHANNELS: [Channel; 6] = [
    Channel::Registration,
    Channel::ClientControl,
    Channel::ClientMux,
    Channel::ClientTask,
    Channel::Notification,
    Channel::ClientIopub,
];

pub(super) enum Sockets {
    Within(Guest),
    Apart(Box<OwnSockets>),
}

impl Sockets {
    /// Connects to a controller's addresses.
    ///
    /// # Errors
    /// libzmq refuses a socket.
    pub(super) fn open(context: &Context, endpoints: &Endpoints) -> Result<Self, SocketError> {
        let specs = vec![
            Spec::connect(Kind::Dealer, &endpoints.query),
            Spec::connect(Kind::Dealer, &endpoints.control),
            Spec::connect(Kind::Dealer, &endpoints.mux),
            Spec::connect(Kind::Dealer, &endpoints.task),
            Spec::connect(Kind::Sub, &endpoints.notification),
            Spec::connect(Kind::Sub, &endpoints.iopub),
        ];
        let (sockets, _) = OwnSockets::open(context, specs)?;
        Ok(Self::Apart(Box::new(sockets)))
    }

    /// Waits until the last messages have left, as long as libzmq does; nobody else of this thread
    /// has to.
    pub(super) async fn close(self) {
        if let Self::Apart(sockets) = self {
            // An error says that the runtime is ending.
            let _ = tokio::task::spawn_blocking(move || drop(sockets)).await;
        }
    }

    /// Waits for messages. Nothing is lost when the future is dropped.
    pub(super) async fn recv(&mut self) -> Batch {
        match self {
            Self::Within(guest) => guest.recv().await.into_iter().filter_map(placed).collect(),
            Self::Apart(sockets) => sockets.recv().await,
        }
    }

    /// Sends messages, in order. Never blocks.
    pub(super) fn send_batch(&mut self, mut batch: Batch) {
        match self {
            Self::Within(guest) => {
                for (position, _) in &mut batch {
                    *position = CHANNELS[*position].place();
                }
                guest.send_batch(batch);
            }
            Self::Apart(sockets) => sockets.send_batch(batch),
        }
    }
}

fn placed((place, frames): (usize, Vec<Vec<u8>>)) -> Option<(usize, Vec<Vec<u8>>)> {
    let position = CHANNELS.iter().position(|channel| channel.place() == place)?;
    Some((position, frames))
}
