//! The controller over real sockets: its files, its door, its end.
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use prust_cluster::{Channel, Hwm};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Controller, ControllerError, Settings, prepare, start};
use crate::wire::connection::EngineFile;
use crate::wire::{self, Draft, Frames, Kind, Link, Message, Opened, Reader, Spec, Writer};

const WITHIN: Duration = Duration::from_secs(10);

struct Peer {
    opened: Opened,
    reader: Reader,
    writer: Writer,
    waiting: Vec<(usize, Frames)>,
}

impl Peer {
    /// Connects to some endpoints; the position of each is its socket.
    fn connect(
        context: &wire::Context,
        key: &str,
        identity: &str,
        ends: &[(Kind, String)],
    ) -> Self {
        let spec = |(kind, end): &(Kind, String)| Spec::connect(*kind, end).identity(identity);
        let specs = ends.iter().map(spec).collect();
        Self {
            opened: wire::socket::open(context, "test-peer", specs).unwrap(),
            reader: Reader::new(key),
            writer: Writer::new(key, identity.to_owned(), "test"),
            waiting: Vec::new(),
        }
    }

    fn message(&self, ids: &[&str], msg_type: &str, parent: &[u8], content: &Value) -> Frames {
        let ids: Frames = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
        let metadata = json!({"status": "ok"});
        let draft = Draft::new(msg_type, content).to(&ids).answering(parent).metadata(&metadata);
        self.writer.write(draft).1
    }

    fn send(&self, socket: usize, ids: &[&str], msg_type: &str, content: &Value) {
        self.opened.sockets.send(socket, self.message(ids, msg_type, b"", content));
    }

    async fn receive(&mut self, socket: usize) -> Message {
        loop {
            if let Some(at) = self.waiting.iter().position(|(from, _)| *from == socket) {
                let (_, frames) = self.waiting.remove(at);
                return self.reader.read(frames).unwrap();
            }
            let batch = timeout(WITHIN, self.opened.incoming.recv()).await;
            self.waiting.extend(batch.expect("a message came in time").expect("sockets are open"));
        }
    }
}

fn new_dir() -> PathBuf {
    std::env::temp_dir().join(format!("prust-controller-test-{}", uuid::Uuid::new_v4()))
}

fn started(context: &wire::Context, dir: &std::path::Path) -> Controller {
    let mut settings = Settings::new(dir);
    settings.hwm = Hwm::Fixed(1);
    start(settings, context).unwrap()
}

/// One engine of ours: registration, task and heartbeat sockets, registered.
async fn engine(context: &wire::Context, controller: &Controller) -> Peer {
    let file = controller.engine_file();
    let dealers = [file.registration, file.task, file.hb_pong];
    let mut ends: Vec<_> = dealers.map(|port| (Kind::Dealer, file.endpoint(port))).into();
    ends.push((Kind::Sub, file.endpoint(file.hb_ping)));
    let mut engine = Peer::connect(context, &file.key, "engine-0", &ends);
    engine.send(0, &[], "registration_request", &json!({"uuid": "engine-0"}));
    let reply = engine.receive(0).await;
    let reply: Value = reply.content().unwrap();
    assert_eq!(reply["status"], "ok");
    assert_eq!(reply["connection_info"]["hb_ping"], json!(file.hb_ping));
    loop {
        let batch = tokio::select! {
            () = controller.changed(|status| status.n_engines == 1) => break,
            batch = timeout(WITHIN, engine.opened.incoming.recv()) => batch.unwrap().unwrap(),
        };
        for (socket, frames) in batch {
            assert_eq!(socket, 3, "only beats come before the engine is announced");
            engine.opened.sockets.send(2, frames);
        }
    }
    engine
}

#[tokio::test]
async fn a_task_goes_to_an_engine_and_its_reply_comes_back_unchanged() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let controller = started(&context, &dir);
    let mut engine = engine(&context, &controller).await;
    let file = controller.client_file();
    let ends = [(Kind::Dealer, file.endpoint(file.task))];
    let mut client = Peer::connect(&context, &file.key, "client", &ends);
    client.send(0, &[], "apply_request", &json!({"x": 1}));
    let (reply, signature) = answered(&mut engine).await;
    engine.opened.sockets.send(1, reply);
    let batch = timeout(WITHIN, client.opened.incoming.recv()).await.unwrap().unwrap();
    let [(0, frames)] = &batch[..] else { panic!("one reply: {batch:?}") };
    assert_eq!(frames[0], b"engine-0");
    assert_eq!(frames[2], signature, "the frames are the engine's own");
    client.opened.sockets.close();
    engine.opened.sockets.close();
    controller.stop();
    let _ = std::fs::remove_dir_all(&dir);
}

/// The next task of an engine: what it replies, and the signature of that.
async fn answered(engine: &mut Peer) -> (Frames, Vec<u8>) {
    let request = engine.receive(1).await;
    assert_eq!(request.content::<Value>().unwrap(), json!({"x": 1}));
    let ids = [std::str::from_utf8(&request.ids[0]).unwrap()];
    let reply = engine.message(&ids, "apply_reply", &request.raw_header, &json!({"y": 2}));
    let signature = reply[2].clone();
    (reply, signature)
}

#[tokio::test]
async fn a_guest_is_a_client_without_a_socket() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let (controller, mut guest) = prepare(Settings::new(&dir), &context).unwrap().serve_guest();
    let mut engine = engine(&context, &controller).await;
    let file = controller.client_file();
    let (mut reader, writer) =
        (Reader::new(&file.key), Writer::new(&file.key, "g".to_owned(), "test"));
    let batch = timeout(WITHIN, guest.recv()).await.expect("it hears who is there");
    let [(place, notice)] = &batch[..] else { panic!("one notice: {batch:?}") };
    assert_eq!(*place, Channel::Notification.place());
    let notice = reader.read(notice.clone()).unwrap();
    assert_eq!(notice.header.msg_type, "registration_notification");
    let (_, task) = writer.write(Draft::new("apply_request", &json!({"x": 1})));
    guest.send_batch(vec![(Channel::ClientTask.place(), task)]);
    let (reply, signature) = timeout(WITHIN, answered(&mut engine)).await.expect("a task comes");
    engine.opened.sockets.send(1, reply);
    let batch = timeout(WITHIN, guest.recv()).await.expect("the reply comes");
    let [(place, frames)] = &batch[..] else { panic!("one reply: {batch:?}") };
    assert_eq!(*place, Channel::ClientTask.place());
    assert_eq!(frames[0], b"engine-0");
    assert_eq!(frames[2], signature, "the frames are the engine's own");
    engine.opened.sockets.close();
    timeout(WITHIN, controller.end()).await.expect("its task ends");
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test]
async fn an_engine_of_this_host_does_all_by_its_link() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let mut settings = Settings::new(&dir);
    settings.links = true;
    let controller = start(settings, &context).unwrap();
    let written = EngineFile::read(&dir.join("ipcontroller-engine.json")).unwrap();
    let mut link = Link::open(written.link().unwrap(), b"engine-0").await.unwrap();
    let (mut reader, writer) =
        (Reader::new(&written.key), Writer::new(&written.key, "e".to_owned(), "test"));
    let uuid = json!({"uuid": "engine-0"});
    let (_, asks) = writer.write(Draft::new("registration_request", &uuid));
    link.send_batch(vec![(Channel::Registration.place(), asks)]);
    let file = controller.client_file();
    let ends = [(Kind::Dealer, file.endpoint(file.task))];
    let mut client = Peer::connect(&context, &file.key, "client", &ends);
    let mut is_asked = false;
    let answered = async {
        loop {
            let batch = tokio::select! {
                () = controller.changed(|status| status.n_engines == 1), if !is_asked => {
                    is_asked = true;
                    client.send(0, &[], "apply_request", &json!({"x": 1}));
                    continue;
                }
                batch = link.recv() => batch,
                message = client.receive(0) => return message,
            };
            for (lane, frames) in batch {
                if lane == Channel::Ping.place() {
                    link.send_batch(vec![(Channel::Pong.place(), frames)]);
                    continue;
                }
                let message = reader.read(frames).unwrap();
                let of_task = lane == Channel::EngineTask.place();
                let expected = if of_task { "apply_request" } else { "registration_reply" };
                assert_eq!(message.header.msg_type, expected);
                if of_task {
                    let content = json!({"y": 2});
                    let reply = Draft::new("apply_reply", &content).to(&message.ids);
                    let (_, reply) = writer.write(reply.answering(&message.raw_header));
                    link.send_batch(vec![(lane, reply)]);
                }
            }
        }
    };
    let reply = timeout(WITHIN, answered).await.expect("the reply comes");
    assert_eq!(reply.content::<Value>().unwrap(), json!({"y": 2}));
    client.opened.sockets.close();
    controller.stop();
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test]
async fn a_client_that_listens_late_hears_of_the_engines_that_are_there() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let controller = started(&context, &dir);
    let engine = engine(&context, &controller).await;
    let file = controller.client_file();
    let ends = [(Kind::Sub, file.endpoint(file.notification))];
    let mut client = Peer::connect(&context, &file.key, "client", &ends);
    let notice = client.receive(0).await;
    assert_eq!(notice.header.msg_type, "registration_notification");
    let content: Value = notice.content().unwrap();
    assert_eq!(content, json!({"id": 0, "uuid": "engine-0"}));
    client.opened.sockets.close();
    engine.opened.sockets.close();
    controller.stop();
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test]
async fn bad_messages_on_every_socket_are_dropped_and_counted() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let controller = started(&context, &dir);
    let (client, engine) = (controller.client_file(), controller.engine_file());
    let ends = [client.registration, client.mux, client.task, client.control, client.broadcast];
    let mut ends: Vec<_> = ends.map(|port| (Kind::Dealer, client.endpoint(port))).into();
    let engine_ends =
        [engine.mux, engine.task, engine.control, engine.broadcast[0], engine.hb_pong];
    ends.extend(engine_ends.map(|port| (Kind::Dealer, engine.endpoint(port))));
    ends.push((Kind::Pub, engine.endpoint(engine.iopub)));
    let mut peer = Peer::connect(&context, &client.key, "peer", &ends);
    let forger = Writer::new("another key", "forger".to_owned(), "test");
    let none = json!({});
    for socket in 0..ends.len() {
        let ids = [b"x".to_vec()];
        let forged = forger.write(Draft::new("apply_request", &none).to(&ids)).1;
        let mut unsigned = forged.clone();
        unsigned[2].clear();
        let mut truncated = forged.clone();
        truncated.truncate(4);
        let mut no_json = peer.message(&["x"], "apply_request", b"", &none);
        no_json[6] = b"\xff{".to_vec();
        let signed = [b"no json".to_vec(), b"{}".to_vec(), b"{}".to_vec(), b"{}".to_vec()];
        let well_signed = peer.writer.frames(&ids, signed, vec![]);
        for frames in [forged, unsigned, truncated, no_json, well_signed, vec![vec![]]] {
            peer.opened.sockets.send(socket, frames);
        }
    }
    let query = peer.message(&[], "connection_request", b"", &none);
    peer.opened.sockets.send(0, query.clone());
    peer.opened.sockets.send(0, query);
    peer.receive(0).await;
    // Nine DEALERs bring six each; what the PUB sends before it is heard is lost, so it is not
    // counted.
    let is_counted = |status: &super::Status| {
        let dropped = status.dropped;
        // The raw heartbeat socket counts as well, by itself.
        dropped.total() > 9 * 6 && dropped.replayed >= 1 && status.unused.malformed >= 1
    };
    let all = timeout(WITHIN, controller.changed(is_counted)).await;
    assert!(all.is_ok(), "{:?}", controller.status());
    peer.opened.sockets.close();
    controller.stop();
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test]
async fn a_second_controller_is_refused_while_the_first_is_alive() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let first = started(&context, &dir);
    let path = dir.join("ipcontroller-client.json");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = start(Settings::new(&dir), &context);
    assert!(matches!(second, Err(ControllerError::Alive { .. })), "{second:?}");
    let left_over = std::fs::read(&path).unwrap();
    first.stop();
    assert!(!path.exists());
    // The file of a controller that crashed is in nobody's way.
    std::fs::write(&path, left_over).unwrap();
    start(Settings::new(&dir), &context).unwrap().stop();
    let _ = std::fs::remove_dir_all(&dir);
}

/// A loopback address that no other test run listens on: nobody takes its ports in between.
fn address_of_its_own() -> String {
    let [_, high, mid, low] = std::process::id().to_be_bytes();
    format!("127.{}.{mid}.{low}", 128 | high)
}

#[tokio::test]
async fn a_controller_with_reuse_keeps_its_addresses_and_key() {
    let dir = new_dir();
    let mut settings = Settings::new(&dir);
    settings.reuse = true;
    settings.ip = address_of_its_own();
    let mut files = Vec::new();
    // Each has a context of its own, as in its own process. Dropped, that waits until the ports
    // are free: closing a socket only asks libzmq's threads to let go of them.
    for _ in 0..2 {
        let context = wire::Context::new();
        let controller = start(settings.clone(), &context).unwrap();
        files.push(controller.client_file().clone());
        controller.stop();
    }
    assert_eq!(files[0], files[1]);
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test]
async fn a_client_can_shut_the_controller_down() {
    let (context, dir) = (wire::Context::new(), new_dir());
    let controller = started(&context, &dir);
    let file = controller.client_file();
    let ends = [(Kind::Dealer, file.endpoint(file.registration))];
    let mut client = Peer::connect(&context, &file.key, "client", &ends);
    client.send(0, &[], "shutdown_request", &json!({}));
    assert_eq!(client.receive(0).await.header.msg_type, "shutdown_reply");
    assert!(timeout(WITHIN, controller.ended()).await.is_ok());
    client.opened.sockets.close();
    controller.stop();
    let _ = std::fs::remove_dir_all(&dir);
}
