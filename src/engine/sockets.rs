//! How the engine is connected with its controller: by a link, if the connection file knows one of
//! this host; by a ZeroMQ socket for each channel, else. Positions mean the same either way.
use std::future::pending;

use prust_cluster::Channel;

use crate::wire::connection::EngineFile;
use crate::wire::curve::address;
use crate::wire::{Batch, Context, Frames, Kind, Link, OwnSockets, SocketError, Spec};

/// The channels by their positions. The heart comes last of those that are joined: who sees it beat
/// can send work.
const CHANNELS: [Channel; 8] = [
    Channel::EngineIopub,
    Channel::EngineMux,
    Channel::EngineTask,
    Channel::EngineControl,
    Channel::EngineBroadcast,
    Channel::Ping,
    Channel::Pong,
    Channel::Registration,
];
pub(super) const IOPUB: usize = 0;
pub(super) const MUX: usize = 1;
pub(super) const TASK: usize = 2;
pub(super) const CONTROL: usize = 3;
pub(super) const BROADCAST: usize = 4;
pub(super) const PING: usize = 5;
pub(super) const PONG: usize = 6;
pub(super) const REGISTRATION: usize = 7;

/// Connected for registration first; the other channels are joined afterwards.
pub(super) enum Sockets {
    Link { link: Link, has_joined: bool },
    Apart(Box<Apart>),
}

pub(super) struct Apart {
    registrar: OwnSockets,
    joined: Option<OwnSockets>,
    /// Dropped last: that lets the last messages out.
    context: Context,
}

impl Sockets {
    /// Connects for the registration as `uuid`.
    ///
    /// # Errors
    /// libzmq refuses a socket.
    pub(super) async fn open(file: &EngineFile, uuid: &str) -> Result<Self, SocketError> {
        if let Some(path) = file.link() {
            match Link::open(path, uuid.as_bytes()).await {
                Ok(link) => {
                    tracing::info!("Registering with controller at {}", path.display());
                    return Ok(Self::Link { link, has_joined: false });
                }
                Err(error) => tracing::debug!(%error, "no link to the controller"),
            }
        }
        let context = Context::new();
        let registration = file.endpoint(file.registration);
        tracing::info!("Registering with controller at {}", address(&registration));
        // Without an identity: two engines of one uuid both get an answer, and one a refusal.
        let specs = vec![Spec::connect(Kind::Dealer, registration)];
        let (registrar, _) = OwnSockets::open(&context, specs)?;
        Ok(Self::Apart(Box::new(Apart { context, registrar, joined: None })))
    }

    /// Connects the channels of an engine that has the number `id`.
    ///
    /// # Errors
    /// libzmq refuses a socket.
    pub(super) fn join(
        &mut self,
        file: &EngineFile,
        uuid: &str,
        id: u32,
    ) -> Result<(), SocketError> {
        match self {
            Self::Link { has_joined, .. } => *has_joined = true,
            Self::Apart(apart) => {
                let (joined, _) = OwnSockets::open(&apart.context, specs(file, uuid, id))?;
                apart.joined = Some(joined);
            }
        }
        Ok(())
    }

    pub(super) fn has_joined(&self) -> bool {
        match self {
            Self::Link { has_joined, .. } => *has_joined,
            Self::Apart(apart) => apart.joined.is_some(),
        }
    }

    /// Waits for messages. Nothing is lost when the future is dropped.
    pub(super) async fn recv(&mut self) -> Batch {
        match self {
            Self::Link { link, has_joined } => of_link(link.recv().await, *has_joined),
            Self::Apart(apart) => {
                let of_joined = async {
                    match &mut apart.joined {
                        Some(joined) => joined.recv().await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    batch = apart.registrar.recv() => of_registrar(batch),
                    batch = of_joined => batch,
                }
            }
        }
    }

    /// Reads what has arrived by now, up to a limit.
    pub(super) fn try_recv(&mut self) -> Batch {
        match self {
            Self::Link { link, has_joined } => of_link(link.try_recv(), *has_joined),
            Self::Apart(apart) => {
                apart.joined.as_mut().map(OwnSockets::try_recv).unwrap_or_default()
            }
        }
    }

    /// Sends messages by joined channels, in order.
    pub(super) fn send_batch(&mut self, mut batch: Batch) {
        match self {
            Self::Link { link, .. } => {
                for (position, _) in &mut batch {
                    *position = CHANNELS[*position].place();
                }
                link.send_batch(batch);
            }
            Self::Apart(apart) => {
                if let Some(joined) = &mut apart.joined {
                    joined.send_batch(batch);
                }
            }
        }
    }

    /// Ends the connection when what was sent is on its way.
    pub(super) async fn close(self) {
        if let Self::Link { link, .. } = self {
            link.close().await;
        }
    }

    /// Sends a message to the registrar.
    pub(super) fn send_registrar(&mut self, frames: Frames) {
        match self {
            Self::Link { .. } => self.send_batch(vec![(REGISTRATION, frames)]),
            Self::Apart(apart) => apart.registrar.send_batch(vec![(0, frames)]),
        }
    }
}

/// An engine that has not joined hears the registrar only.
fn of_link(batch: Batch, has_joined: bool) -> Batch {
    let place = |(lane, frames)| {
        let position = CHANNELS.iter().position(|channel| channel.place() == lane)?;
        (has_joined || position == REGISTRATION).then_some((position, frames))
    };
    batch.into_iter().filter_map(place).collect()
}

fn of_registrar(batch: Batch) -> Batch {
    batch.into_iter().map(|(_, frames)| (REGISTRATION, frames)).collect()
}

fn specs(file: &EngineFile, uuid: &str, id: u32) -> Vec<Spec> {
    let dealer =
        |port: u16| Spec::connect(Kind::Dealer, file.endpoint(port)).identity(uuid.as_bytes());
    // A controller without broadcast ports broadcasts nothing: a second connection to mux would
    // steal the name of the first, so that place stays unconnected.
    let mut broadcast = Spec::connect(Kind::Dealer, "").identity(uuid.as_bytes());
    broadcast.ends.clear();
    if !file.broadcast.is_empty() {
        broadcast = dealer(file.broadcast[id as usize % file.broadcast.len()]);
    }
    vec![
        Spec::connect(Kind::Pub, file.endpoint(file.iopub)),
        dealer(file.mux),
        dealer(file.task),
        dealer(file.control),
        broadcast,
        Spec::connect(Kind::Sub, file.endpoint(file.hb_ping)),
        dealer(file.hb_pong),
    ]
}
