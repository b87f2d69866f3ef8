//! Tests of links: every message arrives once and in order, names are one's own, nobody who does
//! not read keeps others waiting, and both ends notice the other's end.
use std::io::Write;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;

use super::*;
use crate::wire::{Context, Kind, OwnSockets, Spec};

const WITHIN: Duration = Duration::from_secs(60);
const ROUTER: usize = 0;
const SUB: usize = 1;
const PUB: usize = 2;
const APART: usize = 3;

/// Sockets of a controller of which the first three have links.
fn controller(context: &Context, limit: usize) -> (OwnSockets, PathBuf, String) {
    let bound = |kind| Spec::bind(kind, "tcp://127.0.0.1:0").limit(limit);
    let mut specs = [Kind::Router, Kind::Sub, Kind::Pub, Kind::Router].map(bound);
    for spec in &mut specs[..APART] {
        spec.linked = true;
    }
    let (mut sockets, endpoints) = OwnSockets::open(context, specs.into()).unwrap();
    let path = sockets.listen_for_links().unwrap();
    (sockets, path, endpoints[ROUTER][0].clone())
}

/// Comes in while the controller looks.
async fn enter(sockets: &mut OwnSockets, path: &Path, name: &str) -> io::Result<Link> {
    tokio::select! {
        link = Link::open(path, name.as_bytes()) => link,
        batch = sockets.recv() => panic!("{batch:?} came before anybody had come in"),
    }
}

async fn next(sockets: &mut OwnSockets) -> Batch {
    timeout(WITHIN, sockets.recv()).await.expect("something comes")
}

async fn heard(link: &mut Link) -> Batch {
    timeout(WITHIN, link.recv()).await.expect("something comes")
}

fn to(name: &str, text: &[u8]) -> Vec<Vec<u8>> {
    vec![name.as_bytes().to_vec(), text.to_vec()]
}

#[tokio::test]
async fn a_link_stands_in_for_each_kind_of_socket() {
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 20);
    let mut a = enter(&mut sockets, &path, "a").await.unwrap();
    let mut b = enter(&mut sockets, &path, "b").await.unwrap();
    a.send_batch(vec![(ROUTER, vec![b"asks".to_vec()]), (SUB, to("topic", b"prints"))]);
    let mut came = next(&mut sockets).await;
    while came.len() < 2 {
        came.extend(next(&mut sockets).await);
    }
    assert_eq!(came, [(ROUTER, to("a", b"asks")), (SUB, to("topic", b"prints"))]);
    sockets.send_batch(vec![(ROUTER, to("b", b"work")), (PUB, vec![b"beat".to_vec()])]);
    assert_eq!(heard(&mut a).await, [(PUB, vec![b"beat".to_vec()])]);
    let heard = heard(&mut b).await;
    assert_eq!(heard, [(ROUTER, vec![b"work".to_vec()]), (PUB, vec![b"beat".to_vec()])]);
}

#[tokio::test]
async fn peers_with_and_without_links_are_served_side_by_side() {
    let context = Context::new();
    let (mut sockets, path, endpoint) = controller(&context, 1 << 20);
    let mut link = enter(&mut sockets, &path, "near").await.unwrap();
    let specs = vec![Spec::connect(Kind::Dealer, endpoint).identity("far")];
    let (mut dealer, _) = OwnSockets::open(&context, specs).unwrap();
    dealer.send_batch(vec![(0, vec![b"here".to_vec()])]);
    assert_eq!(next(&mut sockets).await, [(ROUTER, to("far", b"here"))]);
    sockets.send_batch(vec![(ROUTER, to("far", b"1")), (ROUTER, to("near", b"2"))]);
    assert_eq!(timeout(WITHIN, dealer.recv()).await.unwrap(), [(0, vec![b"1".to_vec()])]);
    assert_eq!(heard(&mut link).await, [(ROUTER, vec![b"2".to_vec()])]);
}

#[tokio::test]
async fn a_hundred_thousand_messages_arrive_in_order_both_ways() {
    const N: u32 = 100_000;
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 30);
    let mut link = enter(&mut sockets, &path, "engine").await.unwrap();
    let number = |n: u32| n.to_le_bytes().to_vec();
    sockets.send_batch((0..N).map(|n| (ROUTER, to("engine", &number(n)))).collect());
    link.send_batch((0..N).map(|n| (ROUTER, vec![number(n)])).collect());
    let (mut n_there, mut n_back) = (0, 0);
    let both = async {
        while n_there < N || n_back < N {
            // Whoever loses is dropped and has taken nothing with it.
            tokio::select! {
                batch = sockets.recv() => for (_, frames) in batch {
                    assert_eq!(frames, to("engine", &number(n_back)));
                    n_back += 1;
                },
                batch = link.recv() => for (_, frames) in batch {
                    assert_eq!(frames, [number(n_there)]);
                    n_there += 1;
                },
                () = tokio::task::yield_now() => (),
            }
        }
    };
    timeout(WITHIN, both).await.expect("all arrive");
}

#[tokio::test]
async fn a_name_that_is_taken_is_free_again_when_its_link_has_ended() {
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 20);
    let mut first = enter(&mut sockets, &path, "engine").await.unwrap();
    let second = enter(&mut sockets, &path, "engine").await;
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    sockets.send_batch(vec![(ROUTER, to("engine", b"work"))]);
    assert_eq!(heard(&mut first).await, [(ROUTER, vec![b"work".to_vec()])]);
    drop(first);
    let again = async {
        loop {
            if let Ok(link) = enter(&mut sockets, &path, "engine").await {
                return link;
            }
        }
    };
    let mut third = timeout(WITHIN, again).await.expect("the name is free");
    sockets.send_batch(vec![(ROUTER, to("engine", b"more"))]);
    assert_eq!(heard(&mut third).await, [(ROUTER, vec![b"more".to_vec()])]);
}

#[tokio::test]
async fn who_does_not_read_keeps_nobody_waiting_and_is_cut_off_at_the_limit() {
    const LIMIT: usize = 1 << 20;
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, LIMIT);
    let _deaf = enter(&mut sockets, &path, "deaf").await.unwrap();
    let mut good = enter(&mut sockets, &path, "good").await.unwrap();
    let mut n_sent = 0;
    while sockets.unreached().is_empty() {
        sockets.send_batch(vec![(ROUTER, to("deaf", &[0; 64 << 10]))]);
        sockets.try_recv();
        n_sent += 1;
        assert!(n_sent < 1000, "what waits for one peer has a limit");
    }
    sockets.send_batch(vec![(ROUTER, to("good", b"work"))]);
    assert_eq!(heard(&mut good).await, [(ROUTER, vec![b"work".to_vec()])]);
}

#[tokio::test]
async fn what_had_no_room_follows_as_soon_as_it_is_read() {
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 30);
    let mut link = enter(&mut sockets, &path, "slow").await.unwrap();
    let message = |n: u8| vec![n; 3 << 20];
    sockets.send_batch((0..20).map(|n| (ROUTER, to("slow", &message(n)))).collect());
    let mut n_heard = 0;
    let all = async {
        while n_heard < 20 {
            tokio::select! {
                _ = sockets.recv() => (),
                batch = link.recv() => for (_, frames) in batch {
                    assert!(frames == [message(n_heard)], "message {n_heard}");
                    n_heard += 1;
                },
            }
        }
    };
    timeout(WITHIN, all).await.expect("all arrive");
}

#[tokio::test]
async fn what_had_no_room_yet_is_written_before_the_end() {
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 20);
    let mut link = enter(&mut sockets, &path, "engine").await.unwrap();
    let message = |n: u8| vec![n; 1 << 20];
    link.send_batch((0..20).map(|n| (ROUTER, vec![message(n)])).collect());
    let hear = async {
        let mut came = Batch::new();
        while came.len() < 20 {
            came.extend(sockets.recv().await);
        }
        came
    };
    let ((), came) = timeout(WITHIN, async { tokio::join!(link.close(), hear) }).await.unwrap();
    let sent: Batch = (0..20).map(|n| (ROUTER, to("engine", &message(n)))).collect();
    assert!(came == sent);
}

#[tokio::test]
async fn what_is_no_message_ends_its_own_link_alone() {
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 20);
    let mut good = enter(&mut sockets, &path, "good").await.unwrap();
    let mut hello = Vec::new();
    message::write(0, &[b"bad".to_vec()], &mut hello);
    let two_names = [2, 0, 0, 0, 0, 0, 0, 0];
    let mut liars = Vec::new();
    for said in [&[0xFF; 64][..], b"GET / HTTP/1.1\r\n\r\n", &two_names, &hello] {
        let mut stream = StdStream::connect(&path).unwrap();
        stream.write_all(said).unwrap();
        // What follows the name.
        stream.write_all(&[0xEE; 64]).unwrap();
        liars.push(stream);
    }
    // A lane whose socket has no links is nobody's.
    good.send_batch(vec![(APART, vec![b"x".to_vec()]), (200, Vec::new())]);
    good.send_batch(vec![(ROUTER, vec![b"still here".to_vec()])]);
    let mut came = next(&mut sockets).await;
    while came.is_empty() {
        came = next(&mut sockets).await;
    }
    assert_eq!(came, [(ROUTER, to("good", b"still here"))]);
}

#[tokio::test]
async fn an_end_hears_what_was_said_last() {
    let context = Context::new();
    let (mut sockets, path, _) = controller(&context, 1 << 20);
    let mut link = enter(&mut sockets, &path, "engine").await.unwrap();
    sockets.send_batch(vec![(ROUTER, to("engine", b"goodbye"))]);
    drop(sockets);
    assert_eq!(heard(&mut link).await, [(ROUTER, vec![b"goodbye".to_vec()])]);
    assert!(!path.exists(), "the folder is gone");
    assert!(Link::open(&path, b"late").await.is_err());
}
