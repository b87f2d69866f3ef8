//! Tests of the gate: who comes in, who does not, and that nothing is kept of either.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as Client};
use std::os::unix::net::{UnixListener, UnixStream as Inner};
use std::time::Instant;

use super::*;
use crate::wire::greeting::said_by;
use crate::wire::socket::{Frames, open};
use crate::wire::{Kind, Spec};

const PATIENCE: Duration = Duration::from_secs(10);
const LOCAL: &str = "127.0.0.1:0";

/// A gate with one address, before a socket that is played by the test.
struct Played {
    gate: Gate,
    at: SocketAddr,
    libzmq: UnixListener,
}

impl Played {
    fn new() -> Self {
        let mut gate = Gate::default();
        let (at, path) = gate.listen(LOCAL.parse().unwrap()).expect("a free port");
        let libzmq = UnixListener::bind(path).expect("the folder is ours");
        gate.open().expect("threads are left");
        Self { gate, at, libzmq }
    }

    fn connect(&self) -> Client {
        connect(self.at)
    }

    /// What libzmq has when a client has come: it greets.
    fn accept(&self) -> Inner {
        let (mut inner, _) = self.libzmq.accept().expect("it connects");
        inner.set_read_timeout(Some(PATIENCE)).unwrap();
        inner.write_all(&[b'g'; GREETING_BYTES]).unwrap();
        inner
    }

    /// A client in this name that was let in, with its end inside.
    fn enter(&self, name: &str) -> (Client, Inner) {
        let (mut client, said) = (self.connect(), hello(name));
        client.write_all(&said).unwrap();
        let mut inner = self.accept();
        assert_eq!(read(&mut inner, said.len()), said);
        assert_eq!(read(&mut client, GREETING_BYTES), [b'g'; GREETING_BYTES]);
        (client, inner)
    }

    fn wait(&self, is_enough: impl Fn(&List) -> bool) {
        wait(&self.gate, is_enough);
    }
}

fn connect(at: SocketAddr) -> Client {
    let client = Client::connect(at).expect("the gate listens");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn hello(name: &str) -> Vec<u8> {
    said_by(&[("Socket-Type", b"DEALER"), ("Identity", name.as_bytes())])
}

fn read(from: &mut impl Read, n_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes];
    from.read_exact(&mut bytes).expect("it was said");
    bytes
}

/// All that comes until the other side has ended.
fn read_to_end(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match from.read_to_end(&mut bytes) {
        Ok(_) => (),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

fn wait(gate: &Gate, is_enough: impl Fn(&List) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_enough(&gate.guests[0].lock()) {
        assert!(Instant::now() < end, "{:?}", gate.guests[0].lock());
        std::thread::yield_now();
    }
}

#[test]
fn what_a_client_says_after_its_greeting_waits_until_it_has_said_who_it_is() {
    let played = Played::new();
    let (mut client, said) = (played.connect(), hello("a"));
    let (greeting, ready) = said.split_at(GREETING_BYTES);
    client.write_all(greeting).unwrap();
    let mut inner = played.accept();
    // libzmq's own READY command waits as well.
    inner.write_all(b"ready").unwrap();
    assert_eq!(read(&mut inner, GREETING_BYTES), greeting);
    assert_eq!(read(&mut client, GREETING_BYTES), [b'g'; GREETING_BYTES]);
    let (last, first) = ready.split_last().unwrap();
    client.write_all(first).unwrap();
    inner.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    for stream in [&mut inner as &mut dyn Read, &mut client] {
        let error = stream.read(&mut [0]).expect_err("nothing is let through");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
    inner.set_nonblocking(false).unwrap();
    client.set_nonblocking(false).unwrap();
    client.write_all(&[*last]).unwrap();
    client.write_all(b"more").unwrap();
    assert_eq!(read(&mut inner, ready.len() + 4), [ready, b"more"].concat());
    assert_eq!(read(&mut client, 5), b"ready");
    played.wait(|list| list.n_connected == 1 && list.shaking.is_empty());
    // What was said last is heard before the end, on either side.
    inner.write_all(b"bye").unwrap();
    drop(inner);
    assert_eq!(read_to_end(&mut client), b"bye");
    let (mut client, mut inner) = played.enter("a");
    client.write_all(b"bye").unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut inner), b"bye");
    drop(inner);
    played.wait(|list| list.n_connected == 0 && list.identities.is_empty());
}

#[test]
fn an_identity_belongs_to_one_connection_until_that_has_ended() {
    let played = Played::new();
    let (client, inner) = played.enter("a");
    let (_other, _inner) = played.enter("b");
    // Peers without an identity do not disturb each other.
    let _nobodies = [played.enter(""), played.enter("")];
    let mut thief = played.connect();
    thief.write_all(&hello("a")).unwrap();
    let mut inner_of_thief = played.accept();
    assert_eq!(read_to_end(&mut thief), [b'g'; GREETING_BYTES]);
    assert_eq!(read_to_end(&mut inner_of_thief), hello("a")[..GREETING_BYTES]);
    played.wait(|list| list.n_connected == 4 && list.n_refused == 1);
    // Half an end is one.
    client.shutdown(Shutdown::Write).unwrap();
    let mut inner = inner;
    assert_eq!(read_to_end(&mut inner), b"");
    drop(inner);
    played.wait(|list| !list.identities.contains(b"a".as_slice()));
    played.enter("a");
}

#[test]
fn who_does_not_say_who_it_is_is_closed() {
    let played = Played::new();
    let mut encrypted = hello("a");
    encrypted[12..16].copy_from_slice(b"CURV");
    for said in [b"GET / HTTP/1.1\r\n\r\n", encrypted.as_slice(), &[0xFF; 4096]] {
        let mut client = played.connect();
        client.write_all(said).unwrap();
        let (mut inner, _) = played.libzmq.accept().expect("it connects");
        assert_eq!(read_to_end(&mut inner), b"", "libzmq hears nothing of it");
        read_to_end(&mut client);
    }
    played.wait(|list| list.n_connected == 0 && list.shaking.is_empty());
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let played = Played::new();
    let mut oldest = played.connect();
    let _inner = played.libzmq.accept().expect("it connects");
    let guests = &played.gate.guests[0];
    let mut next = guests.enter();
    let rest: Vec<Guest> = (2..SHAKING_MAX).map(|_| guests.enter()).collect();
    assert_eq!(guests.lock().n_refused, 0);
    let mut last = guests.enter();
    read_to_end(&mut oldest);
    assert!(next.claim(b"next"), "it is not too late for who was the second");
    assert!(last.claim(b"last"));
    let more: Vec<Guest> = (0..SHAKING_MAX).map(|_| guests.enter()).collect();
    assert_eq!(guests.lock().shaking.len(), SHAKING_MAX);
    let mut late = rest.into_iter().next().unwrap();
    assert!(!late.claim(b"late"), "it was shown out");
    drop((late, more));
    played.wait(|list| list.n_connected == 2 && list.shaking.is_empty());
}

#[test]
fn a_dead_peer_that_reads_nothing_has_its_identity_no_longer_than_libzmq_thinks() {
    let played = Played::new();
    let (_client, mut inner) = played.enter("a");
    inner.set_nonblocking(true).unwrap();
    // Until nothing moves any more.
    let (mut since, mut n_bytes) = (Instant::now(), 0);
    while since.elapsed() < FULL_FOR {
        match inner.write(&[0; PIECE_BYTES]) {
            Ok(n) => (since, n_bytes) = (Instant::now(), n_bytes + n),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        std::thread::yield_now();
    }
    assert!(n_bytes < 64 << 20, "the peer waits");
    drop(inner);
    played.wait(|list| list.identities.is_empty());
}

#[test]
fn closing_waits_for_what_was_said_last_and_frees_address_and_folder() {
    let played = Played::new();
    let (mut client, mut inner) = played.enter("a");
    let _still_shaking = played.connect();
    let folder = played.gate.folder.as_ref().unwrap().path().to_owned();
    let said = vec![7; 1 << 20];
    let last = said.clone();
    let libzmq = std::thread::spawn(move || inner.write_all(&last));
    let Played { gate, at, .. } = played;
    let closing = std::thread::spawn(move || drop(gate));
    assert!(read_to_end(&mut client) == said, "nothing is missing");
    libzmq.join().unwrap().expect("all was taken");
    closing.join().unwrap();
    Gate::default().listen(at).expect("the address is free");
    assert!(!folder.exists());
}

#[tokio::test]
async fn of_thousands_that_claim_an_identity_that_is_taken_nothing_is_kept() {
    const N_THIEVES: u64 = 3000;
    let context = crate::wire::Context::new();
    let mut gate = Gate::default();
    let (at, path) = gate.listen(LOCAL.parse().unwrap()).expect("a free port");
    let spec = Spec::bind(Kind::Router, format!("ipc://{}", path.display()));
    let spec = spec.limit(1 << 20).taken(PATIENCE);
    let mut server = open(&context, "server", vec![spec]).expect("a free path");
    gate.open().expect("threads are left");
    let spec = Spec::connect(Kind::Dealer, format!("tcp://{at}")).identity("engine");
    let mut engine = open(&context, "engine", vec![spec]).expect("it connects");
    let message = |text: &str| -> Frames { vec![b"engine".to_vec(), text.as_bytes().to_vec()] };
    engine.sockets.send(0, vec![b"first".to_vec()]);
    let batch = timeout(PATIENCE, server.incoming.recv()).await.expect("it comes");
    assert_eq!(batch, Some(vec![(0, message("first"))]));
    for _ in 0..N_THIEVES {
        let mut thief = connect(at);
        let mut said = hello("engine");
        said.extend(b"\0\x04mine\0\x04mine");
        thief.write_all(&said).unwrap();
        assert_eq!(read_to_end(&mut thief).len(), GREETING_BYTES, "it is closed");
    }
    wait(&gate, |list| list.n_refused == N_THIEVES && list.n_connected == 1);
    assert_eq!(gate.guests[0].lock().identities, HashSet::from([b"engine".to_vec()]));
    assert!(server.incoming.try_recv().is_err());
    server.sockets.send(0, message("still yours"));
    let batch = timeout(PATIENCE, engine.incoming.recv()).await.expect("it comes");
    assert_eq!(batch, Some(vec![(0, vec![b"still yours".to_vec()])]));
    server.sockets.close();
}
