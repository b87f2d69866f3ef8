//! Tests of the socket group: nothing is lost, echoes come back, addresses are resolved.
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::wire::curve::{ServerKey, with_key};
use crate::wire::greeting::{GREETING_BYTES, said_by};

const PATIENCE: Duration = Duration::from_secs(10);

/// Receives batches until `n` messages have come.
async fn collect(incoming: &mut Receiver<Batch>, n: usize) -> Batch {
    let mut all = Batch::new();
    while all.len() < n {
        let batch = timeout(PATIENCE, incoming.recv()).await.expect("messages keep coming");
        all.extend(batch.expect("the group is open"));
    }
    all
}

fn text(frames: &Frames) -> String {
    frames.iter().map(|frame| String::from_utf8_lossy(frame)).collect::<Vec<_>>().join("|")
}

#[tokio::test]
async fn a_hundred_thousand_messages_arrive_in_order() {
    const N: usize = 100_000;
    let context = Context::new();
    let specs = vec![Spec::bind(Kind::Router, "tcp://127.0.0.1:0")];
    let mut server = open(&context, "server", specs).expect("a free port");
    let endpoint = server.endpoints[0][0].clone();
    assert!(port_of(&endpoint).is_some_and(|port| port > 0));
    let specs = vec![Spec::connect(Kind::Dealer, endpoint).identity("me")];
    let client = open(&context, "client", specs).expect("it connects");
    for n in 0..N {
        client.sockets.send(0, vec![n.to_string().into_bytes()]);
    }
    let all = collect(&mut server.incoming, N).await;
    assert_eq!(all.len(), N);
    for (n, (socket, frames)) in all.iter().enumerate() {
        assert_eq!((*socket, text(frames)), (0, format!("me|{n}")));
    }
    client.sockets.close();
    server.sockets.close();
}

#[tokio::test]
async fn an_echo_returns_frames_untouched_and_tells_nobody() {
    let context = Context::new();
    let specs = vec![Spec::bind(Kind::Router, "tcp://127.0.0.1:0").echo()];
    let mut server = open(&context, "heart", specs).expect("a free port");
    let specs = vec![Spec::connect(Kind::Dealer, server.endpoints[0][0].clone())];
    let mut client = open(&context, "client", specs).expect("it connects");
    client.sockets.send(0, vec![b"ping".to_vec(), vec![0; 5000]]);
    let all = collect(&mut client.incoming, 1).await;
    assert_eq!(all[0].1, vec![b"ping".to_vec(), vec![0; 5000]]);
    server.sockets.close();
    assert!(server.incoming.recv().await.is_none());
}

#[tokio::test]
async fn both_ways_at_once_stall_nowhere() {
    const N: usize = 20_000;
    let context = Context::new();
    let specs = vec![Spec::bind(Kind::Router, "inproc://both-ways")];
    let mut server = open(&context, "server", specs).expect("inproc is free");
    let specs = vec![Spec::connect(Kind::Dealer, "inproc://both-ways")];
    let mut client = open(&context, "client", specs).expect("it connects");
    let back = server.sockets.clone();
    let answers = tokio::spawn(async move {
        let mut n_seen = 0;
        while n_seen < N {
            let batch = server.incoming.recv().await.expect("the group is open");
            n_seen += batch.len();
            back.send_batch(batch);
        }
        server
    });
    for n in 0..N {
        client.sockets.send(0, vec![n.to_string().into_bytes()]);
        if n % 1000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let all = collect(&mut client.incoming, N).await;
    assert_eq!(text(&all[N - 1].1), (N - 1).to_string());
    timeout(PATIENCE, answers).await.expect("all were answered").expect("no panic");
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let context = Context::new();
    let specs = vec![Spec::bind(Kind::Router, "tcp://127.0.0.1:0")];
    let server = open(&context, "first", specs).expect("a free port");
    let endpoint = server.endpoints[0][0].clone();
    let error = open(&context, "second", vec![Spec::bind(Kind::Router, endpoint.clone())])
        .expect_err("the port is taken");
    assert!(matches!(&error, SocketError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&endpoint), "{error}");
}

#[tokio::test]
async fn an_ipc_address_in_use_is_not_taken_over() {
    let context = Context::new();
    let path = std::env::temp_dir().join(format!("prust-ipc-{}", std::process::id()));
    let endpoint = format!("ipc://{}-1", path.display());
    let server = open(&context, "first", vec![Spec::bind(Kind::Router, endpoint.clone())])
        .expect("a free path");
    let error = open(&context, "second", vec![Spec::bind(Kind::Router, endpoint)])
        .expect_err("the path is taken");
    assert!(matches!(error, SocketError::InUse { .. }), "{error}");
    server.sockets.close();
}

#[tokio::test]
async fn a_late_peer_gets_what_was_sent_before_it_came() {
    let context = Context::new();
    let specs = vec![Spec::bind(Kind::Dealer, "tcp://127.0.0.1:0")];
    let early = open(&context, "early", specs).expect("a free port");
    for n in 0..5 {
        early.sockets.send(0, vec![n.to_string().into_bytes()]);
    }
    let specs = vec![Spec::connect(Kind::Dealer, early.endpoints[0][0].clone())];
    let mut late = open(&context, "late", specs).expect("it connects");
    let all = collect(&mut late.incoming, 5).await;
    let texts: Vec<String> = all.iter().map(|(_, frames)| text(frames)).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_subscriber_announces_itself_and_gets_everything() {
    let context = Context::new();
    let specs = vec![Spec::bind(Kind::XPub, "tcp://127.0.0.1:0")];
    let mut server = open(&context, "iopub", specs).expect("a free port");
    // Kept, so that no unsubscription comes between.
    let mut clients = Vec::new();
    for _ in 0..2 {
        let specs = vec![Spec::connect(Kind::Sub, server.endpoints[0][0].clone())];
        let mut client = open(&context, "client", specs).expect("it connects");
        let subscriptions = collect(&mut server.incoming, 1).await;
        assert_eq!(subscriptions[0].1, vec![vec![1]]);
        server.sockets.send(0, vec![b"topic".to_vec(), b"body".to_vec()]);
        let all = collect(&mut client.incoming, 1).await;
        assert_eq!(text(&all[0].1), "topic|body");
        clients.push(client);
    }
}

#[tokio::test]
async fn an_identity_that_is_taken_stays_its_peers_until_that_is_gone() {
    let context = Context::new();
    let spec = Spec::bind(Kind::Router, "tcp://127.0.0.1:0").limit(1 << 20).taken(PATIENCE);
    let mut server = open(&context, "server", vec![spec]).expect("a free port");
    let endpoint = server.endpoints[0][0].clone();
    let peer = |name: &str| {
        let spec = Spec::connect(Kind::Dealer, endpoint.clone()).identity("engine");
        open(&context, name, vec![spec]).expect("it connects")
    };
    let mut engine = peer("engine");
    engine.sockets.send(0, vec![b"first".to_vec()]);
    assert_eq!(text(&collect(&mut server.incoming, 1).await[0].1), "engine|first");
    let mut thief = peer("thief");
    for n in 0..100 {
        thief.sockets.send(0, vec![b"mine".to_vec()]);
        server.sockets.send(0, vec![b"engine".to_vec(), vec![n]]);
    }
    assert_eq!(collect(&mut engine.incoming, 100).await.len(), 100);
    assert!(thief.incoming.try_recv().is_err());
    // Its connection has ended: who waits has the identity, and has lost nothing by waiting.
    engine.sockets.close();
    let all = collect(&mut server.incoming, 100).await;
    assert!(all.len() == 100 && all.iter().all(|(_, frames)| text(frames) == "engine|mine"));
    server.sockets.send(0, vec![b"engine".to_vec(), b"welcome".to_vec()]);
    assert_eq!(text(&collect(&mut thief.incoming, 1).await[0].1), "welcome");
    server.sockets.close();
}

#[tokio::test]
async fn a_dead_connection_keeps_its_identity_no_longer_than_heartbeats_take() {
    let context = Context::new();
    let dead_after = Duration::from_millis(200);
    let spec = Spec::bind(Kind::Router, "tcp://127.0.0.1:0").limit(1 << 20).taken(dead_after);
    let mut server = open(&context, "server", vec![spec]).expect("a free port");
    let endpoint = server.endpoints[0][0].clone();
    let mut dead = std::net::TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
    let mut said = said_by(&[("Socket-Type", b"DEALER"), ("Identity", b"engine")]);
    said.extend(b"\0\x05first");
    dead.write_all(&said).unwrap();
    assert_eq!(text(&collect(&mut server.incoming, 1).await[0].1), "engine|first");
    let spec = Spec::connect(Kind::Dealer, endpoint).identity("engine");
    let engine = open(&context, "engine", vec![spec]).expect("it connects");
    engine.sockets.send(0, vec![b"again".to_vec()]);
    assert_eq!(text(&collect(&mut server.incoming, 1).await[0].1), "engine|again");
    server.sockets.close();
}

#[tokio::test]
async fn where_no_stranger_can_connect_the_latest_comer_has_the_identity() {
    let context = Context::new();
    let folder = crate::process::Scratch::new().expect("the temporary directory can be written");
    let key = ServerKey::random();
    let private = Spec::bind(Kind::Router, format!("ipc://{}/s", folder.path().display()));
    let encrypted = Spec::bind(Kind::Router, "tcp://127.0.0.1:0").curve(Some(key.clone()));
    for spec in [private, encrypted] {
        let is_encrypted = spec.curve.is_some();
        let mut server = open(&context, "server", vec![spec.taken(PATIENCE)]).expect("it is free");
        let mut endpoint = server.endpoints[0][0].clone();
        if is_encrypted {
            endpoint = with_key(&endpoint, &key.public());
        }
        let mut engines = Vec::new();
        for text_sent in ["first", "again"] {
            let spec = Spec::connect(Kind::Dealer, endpoint.clone()).identity("engine");
            let engine = open(&context, "engine", vec![spec]).expect("it connects");
            engine.sockets.send(0, vec![text_sent.as_bytes().to_vec()]);
            let all = collect(&mut server.incoming, 1).await;
            assert_eq!(text(&all[0].1), format!("engine|{text_sent}"));
            engines.push(engine);
        }
        server.sockets.close();
    }
}

#[tokio::test]
async fn the_last_messages_pass_the_gate_and_its_address_is_free_at_once() {
    const N: usize = 20;
    let context = Context::new();
    let mut endpoint = "tcp://127.0.0.1:0".to_owned();
    for _ in 0..3 {
        let specs = vec![Spec::bind(Kind::Router, endpoint).limit(64 << 20).taken(PATIENCE)];
        let mut server = open(&context, "server", specs).expect("the address is free");
        endpoint = server.endpoints[0][0].clone();
        let taken = Spec::bind(Kind::Router, endpoint.clone()).taken(PATIENCE);
        let error = open(&context, "second", vec![taken]).expect_err("the port is taken");
        assert!(matches!(&error, SocketError::InUse { .. }), "{error}");
        let spec = Spec::connect(Kind::Dealer, endpoint.clone()).identity("engine");
        let mut engine = open(&context, "engine", vec![spec]).expect("it connects");
        engine.sockets.send(0, vec![b"here".to_vec()]);
        collect(&mut server.incoming, 1).await;
        for _ in 0..N {
            server.sockets.send(0, vec![b"engine".to_vec(), vec![0; 200_000]]);
        }
        server.sockets.close();
        collect(&mut engine.incoming, N).await;
        engine.sockets.close();
    }
}

#[tokio::test]
async fn the_gate_listens_where_libzmq_would() {
    let context = Context::new();
    let open = |endpoint: &str| {
        let spec = Spec::bind(Kind::Router, endpoint).taken(PATIENCE);
        open(&context, "server", vec![spec]).map(|opened| opened.endpoints[0][0].clone())
    };
    for (given, host) in [("*:*", "0.0.0.0"), ("*:0", "0.0.0.0"), ("127.0.0.1:*", "127.0.0.1")] {
        let endpoint = open(&format!("tcp://{given}")).expect("a free port");
        assert_eq!(endpoint.rsplit_once(':').unwrap().0, format!("tcp://{host}"));
        assert!(port_of(&endpoint).is_some_and(|port| port > 0));
    }
    let error = open("tcp://no such host:0").expect_err("there is none");
    assert!(matches!(&error, SocketError::Open { .. }), "{error}");
    assert!(error.to_string().contains("no such host"), "{error}");
}

#[tokio::test]
async fn a_peer_that_a_message_does_not_reach_is_named() {
    let context = Context::new();
    let spec = Spec::bind(Kind::Router, "tcp://127.0.0.1:0").limit(1 << 20);
    let mut server = open(&context, "server", vec![spec]).expect("a free port");
    server.sockets.send(0, vec![b"nobody".to_vec(), b"hello".to_vec()]);
    let named = timeout(PATIENCE, server.unreached.recv()).await.expect("it is told");
    assert_eq!(named, Some((0, b"nobody".to_vec())));
    server.sockets.close();
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_own_queue_alone() {
    const LIMIT: usize = 1 << 20;
    let context = Context::new();
    let spec = Spec::bind(Kind::Router, "tcp://127.0.0.1:0").limit(LIMIT);
    let mut server = open(&context, "server", vec![spec]).expect("a free port");
    let endpoint = server.endpoints[0][0].clone();
    let spec = |name: &str| vec![Spec::connect(Kind::Dealer, endpoint.clone()).identity(name)];
    let mut reader = open(&context, "reader", spec("reader")).expect("it connects");
    reader.sockets.send(0, vec![b"here".to_vec()]);
    // A bare connection that has shaken hands and then reads nothing.
    let mut still = std::net::TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
    let mut said = said_by(&[("Socket-Type", b"DEALER"), ("Identity", b"still")]);
    said.extend(b"\0\x04here");
    let (greeting, rest) = said.split_at(GREETING_BYTES);
    still.write_all(greeting).unwrap();
    still.read_exact(&mut [0; GREETING_BYTES]).unwrap();
    still.write_all(rest).unwrap();
    collect(&mut server.incoming, 2).await;
    for _ in 0..40 {
        server.sockets.send(0, vec![b"still".to_vec(), vec![0; LIMIT / 2]]);
    }
    server.sockets.send(0, vec![b"reader".to_vec(), b"hello".to_vec()]);
    assert_eq!(text(&collect(&mut reader.incoming, 1).await[0].1), "hello");
    let named = timeout(PATIENCE, server.unreached.recv()).await.expect("it is cut off");
    assert_eq!(named, Some((0, b"still".to_vec())));
    server.sockets.close();
}
