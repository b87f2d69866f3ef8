//! What travels between processes: sockets, envelopes and signatures, Jupyter's message contents,
//! Python's pickles as inert data, connection files. Knows no notebook and no cluster; decides
//! nothing.
pub mod connection;
pub mod curve;
mod date;
mod draft;
pub mod envelope;
mod gate;
pub mod greeting;
mod group;
mod guest;
pub mod jupyter;
pub mod link;
mod member;
mod nacl;
mod own;
mod peers;
pub mod pickle;
pub mod profiles;
pub mod socket;
mod spec;

pub use draft::Draft;
pub use envelope::{Dropped, DroppedCounts, Header, Message, Reader, Writer};
pub use guest::Guest;
pub use link::Link;
pub use own::OwnSockets;
pub use socket::{Batch, Context, Frames, Kind, Opened, SocketError, Sockets, Spec};
