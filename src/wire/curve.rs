//! CURVE: a controller that has a key pair speaks encrypted, and only to peers that know its public
//! key, which stands in its connection files. Peers have fresh key pairs; they are not asked for
//! more. So the public key is to be kept like a password, and is never shown.
//!
//! An address with the key of its server is written `tcp://host:port|KEY`: whoever connects to what
//! a connection file says connects encrypted.
use std::fmt;

use super::nacl;

/// Stands between an address and a key; no address and no key has it.
const BAR: char = '|';

/// What Z85 has beside letters and digits.
const SIGNS: &[u8] = b".-:+=^!/*?&<>()[]{}@%$#";

/// The secret key of a controller.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerKey([u8; 32]);

impl ServerKey {
    /// Makes a new one.
    pub fn random() -> Self {
        Self(nacl::new_secret())
    }

    /// Reads a secret key as ZeroMQ writes them: 40 characters of Z85.
    pub fn read(text: &str) -> Option<Self> {
        read(text).map(Self)
    }

    /// The public key, as connection files have it.
    pub fn public(&self) -> String {
        zmq::z85_encode(&nacl::public_of(self.0)).expect("a key has 32 bytes")
    }

    /// Makes a server of a socket, before it is bound.
    pub(super) fn apply(&self, socket: &zmq::Socket) -> Result<(), zmq::Error> {
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(&self.0)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey")
    }
}

/// Whether the libzmq of this program can encrypt.
pub fn is_available() -> bool {
    zmq::has("curve") == Some(true)
}

/// Whether a text can be the public key of a server.
pub fn is_key(text: &str) -> bool {
    read(text).is_some()
}

/// An address with the key of its server.
pub(super) fn with_key(address: &str, key: &str) -> String {
    format!("{address}{BAR}{key}")
}

/// An address without the key of its server, to be shown or looked up.
pub fn address(endpoint: &str) -> &str {
    endpoint.split_once(BAR).map_or(endpoint, |(address, _)| address)
}

/// Connects a socket to an address, encrypted if that has a key.
pub(super) fn connect(socket: &zmq::Socket, endpoint: &str) -> Result<(), zmq::Error> {
    if let Some((_, key)) = endpoint.split_once(BAR) {
        let secret = nacl::new_secret();
        socket.set_curve_serverkey(&read(key).ok_or(zmq::Error::EINVAL)?)?;
        socket.set_curve_publickey(&nacl::public_of(secret))?;
        socket.set_curve_secretkey(&secret)?;
    }
    socket.connect(address(endpoint))
}

fn read(text: &str) -> Option<[u8; 32]> {
    // libzmq's reader goes astray with other lengths, and stops silently at other characters.
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || SIGNS.contains(&byte);
    let is_z85 = text.len() == 40 && text.bytes().all(is_digit);
    is_z85.then(|| zmq::z85_decode(text).ok()?.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_shown_to_nobody() {
        // The example of ZeroMQ's own documentation of CURVE.
        let (public, secret) = (
            "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
            "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
        );
        let key = ServerKey::read(secret).unwrap();
        assert_eq!(key.public(), public);
        assert_eq!(format!("{key:?}"), "ServerKey");
        assert_ne!(ServerKey::random(), ServerKey::random());
        assert!(is_key(public));
        for bad in ["", &public[1..], &"é".repeat(20), &"~".repeat(40)] {
            assert!(!is_key(bad), "{bad}");
        }
        let endpoint = with_key("tcp://h:1", public);
        assert_eq!(address(&endpoint), "tcp://h:1");
        assert_eq!(address("tcp://h:1"), "tcp://h:1");
    }
}
