//! The sockets of a controller and the two files that lead to them. Knows addresses, no messages.
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use prust_cluster::Channel;
use serde_json::{Map, json};

use super::{ControllerError, Scheme, Settings};
use crate::wire;
use crate::wire::connection::{ClientFile, EngineFile};
use crate::wire::curve::{ServerKey, address};
use crate::wire::socket::port_of;
use crate::wire::{Draft, Kind, OwnSockets, Spec};

/// How long a controller that may be alive is waited for. It answers in less than a millisecond.
const ALIVE_WITHIN: Duration = Duration::from_millis(500);

/// Beats after which a silent engine was given up, whoever made it.
const DEAD_AFTER_BEATS: u32 = 12;

pub(super) struct Bound {
    pub(super) sockets: OwnSockets,
    pub(super) client_file: ClientFile,
    pub(super) engine_file: EngineFile,
}

/// Binds one socket per channel, in the order of `Channel::ALL`, and says where they are.
pub(super) fn bind(settings: &Settings, context: &wire::Context) -> Result<Bound, ControllerError> {
    let previous = settings.reuse.then(|| {
        let client = ClientFile::read(&settings.client_file).ok()?;
        Some((client, EngineFile::read(&settings.engine_file).ok()?))
    });
    let previous = previous.flatten();
    let ip = if settings.ip == "0.0.0.0" { "*" } else { &settings.ip };
    let interface = match &settings.folder {
        Some(folder) => format!("ipc://{}/c", folder.display()),
        None => format!("tcp://{ip}"),
    };
    let mut number = 0;
    let specs = Channel::ALL.map(|channel| {
        // A socket in a folder has a number of our choice.
        number += u16::from(settings.folder.is_some());
        let known = previous.as_ref().filter(|_| settings.folder.is_none());
        let port = known.map_or(number, |(client, engine)| port(channel, client, engine));
        let spec =
            Spec::bind(kind(channel), format!("{interface}:{port}")).curve(settings.curve.clone());
        limited(spec, channel, settings)
    });
    let (mut sockets, endpoints) =
        OwnSockets::open(context, specs.into()).map_err(ControllerError::Socket)?;
    // What is to be encrypted is encrypted everywhere.
    let listens = settings.links && settings.curve.is_none();
    let listened = listens.then(|| sockets.listen_for_links()).transpose();
    let link = listened.unwrap_or_else(|error| {
        tracing::warn!(%error, "engines of this host come without links");
        None
    });
    let port = |channel: Channel| port_of(&endpoints[channel.place()][0]).unwrap_or_default();
    let new_key = || settings.key.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    // What is encrypted needs no signature.
    let key = match settings.curve {
        Some(_) => String::new(),
        // The file may be of a time when all was encrypted.
        None => {
            let before = previous.map(|(client, _)| client.key);
            before.filter(|key| !key.is_empty()).unwrap_or_else(new_key)
        }
    };
    let curve = settings.curve.as_ref().map(ServerKey::public);
    let location = settings.location.clone().unwrap_or_else(crate::process::hostname);
    let client_file = ClientFile {
        curve_serverkey: curve.clone(),
        ..client_file(&port, &interface, &key, &location, settings.scheme)
    };
    let mut engine_file =
        EngineFile { curve_serverkey: curve, ..engine_file(&port, &interface, &key, &location) };
    engine_file.set_link(link.as_deref());
    Ok(Bound { client_file, engine_file, sockets })
}

/// Writes the two files, readable by their owner only.
pub(super) fn write(
    settings: &Settings,
    client: &ClientFile,
    engine: &EngineFile,
) -> Result<(), ControllerError> {
    for path in [&settings.client_file, &settings.engine_file] {
        if let Some(path) = path.parent() {
            let failed = |source| ControllerError::Directory { path: path.to_owned(), source };
            make_private_dir(path).map_err(failed)?;
        }
    }
    engine.write(&settings.engine_file).map_err(ControllerError::File)?;
    client.write(&settings.client_file).map_err(ControllerError::File)
}

/// Removes the two files, unless another controller has written its own in the meantime.
pub(super) fn remove(settings: &Settings, ours: &ClientFile) {
    if ClientFile::read(&settings.client_file).is_ok_and(|file| file == *ours) {
        for path in [&settings.client_file, &settings.engine_file] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "connection file not removed");
            }
        }
    }
}

/// Refuses to go on if the controller that wrote the file answers. A file whose controller is gone
/// is in nobody's way.
pub(super) fn refuse_if_alive(path: &Path) -> Result<(), ControllerError> {
    let Ok(file) = ClientFile::read(path) else { return Ok(()) };
    let endpoint = file.endpoint(file.registration);
    let host = address(&endpoint).trim_start_matches("tcp://").to_owned();
    let reachable = host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let reachable = reachable.and_then(|at| TcpStream::connect_timeout(&at, ALIVE_WITHIN).ok());
    // A thread of its own, because the caller may be inside a runtime.
    let ask = move || answers(&endpoint, &file.key).unwrap_or(false);
    let asked = reachable.map(|_| std::thread::spawn(ask).join());
    if matches!(asked, Some(Ok(true))) {
        return Err(ControllerError::Alive { file: path.to_owned() });
    }
    Ok(())
}

/// Asks for the engines; whoever knows the key and answers is a controller.
fn answers(endpoint: &str, key: &str) -> io::Result<bool> {
    let context = wire::Context::new();
    let specs = vec![Spec::connect(Kind::Dealer, endpoint)];
    let Ok(mut opened) = wire::socket::open(&context, "prust-alive", specs) else {
        return Ok(false);
    };
    let writer = wire::Writer::new(key, uuid::Uuid::new_v4().to_string(), "prust");
    let (_, frames) = writer.write(Draft::new("connection_request", &json!({})));
    opened.sockets.send(0, frames);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let reply = runtime.block_on(async {
        tokio::time::timeout(ALIVE_WITHIN, opened.incoming.recv()).await.ok().flatten()
    });
    opened.sockets.close();
    let mut reader = wire::Reader::new(key);
    let mut replies = reply.unwrap_or_default().into_iter();
    Ok(replies.any(|(_, frames)| reader.read(frames).is_ok()))
}

/// What may wait for a peer, and who may have the identity of an engine: whoever has it, until his
/// connection has ended or is dead. Stock engines are given up after more than ten beats; nobody's
/// connection is closed before he is.
fn limited(spec: Spec, channel: Channel, settings: &Settings) -> Spec {
    let mut spec = spec.limit(settings.peer_bytes);
    spec.linked = channel.is_of_engines();
    spec.hosts = channel.is_of_clients();
    match channel {
        Channel::EngineMux
        | Channel::EngineTask
        | Channel::EngineControl
        | Channel::EngineBroadcast
        | Channel::Pong => spec.taken(settings.ping * DEAD_AFTER_BEATS + settings.lost_after),
        _ => spec,
    }
}

fn kind(channel: Channel) -> Kind {
    match channel {
        Channel::Notification => Kind::XPub,
        Channel::ClientIopub | Channel::Ping => Kind::Pub,
        Channel::EngineIopub => Kind::Sub,
        Channel::Registration
        | Channel::ClientMux
        | Channel::EngineMux
        | Channel::ClientTask
        | Channel::EngineTask
        | Channel::ClientControl
        | Channel::EngineControl
        | Channel::ClientBroadcast
        | Channel::EngineBroadcast
        | Channel::Pong => Kind::Router,
    }
}

fn port(channel: Channel, client: &ClientFile, engine: &EngineFile) -> u16 {
    match channel {
        Channel::Registration => client.registration,
        Channel::Notification => client.notification,
        Channel::ClientMux => client.mux,
        Channel::EngineMux => engine.mux,
        Channel::ClientTask => client.task,
        Channel::EngineTask => engine.task,
        Channel::ClientControl => client.control,
        Channel::EngineControl => engine.control,
        Channel::ClientBroadcast => client.broadcast,
        Channel::EngineBroadcast => engine.broadcast.first().copied().unwrap_or(0),
        Channel::EngineIopub => engine.iopub,
        Channel::ClientIopub => client.iopub,
        Channel::Ping => engine.hb_ping,
        Channel::Pong => engine.hb_pong,
    }
}

fn client_file(
    port: &impl Fn(Channel) -> u16,
    interface: &str,
    key: &str,
    location: &str,
    scheme: Scheme,
) -> ClientFile {
    ClientFile {
        ssh: String::new(),
        interface: interface.to_owned(),
        registration: port(Channel::Registration),
        control: port(Channel::ClientControl),
        mux: port(Channel::ClientMux),
        task: port(Channel::ClientTask),
        task_scheme: scheme.name().to_owned(),
        iopub: port(Channel::ClientIopub),
        notification: port(Channel::Notification),
        broadcast: port(Channel::ClientBroadcast),
        key: key.to_owned(),
        curve_serverkey: None,
        location: location.to_owned(),
        pack: "json".to_owned(),
        unpack: "json".to_owned(),
        signature_scheme: "hmac-sha256".to_owned(),
        others: Map::new(),
    }
}

fn engine_file(
    port: &impl Fn(Channel) -> u16,
    interface: &str,
    key: &str,
    location: &str,
) -> EngineFile {
    EngineFile {
        ssh: String::new(),
        interface: interface.to_owned(),
        registration: port(Channel::Registration),
        control: port(Channel::EngineControl),
        mux: port(Channel::EngineMux),
        task: port(Channel::EngineTask),
        iopub: port(Channel::EngineIopub),
        broadcast: vec![port(Channel::EngineBroadcast)],
        hb_ping: port(Channel::Ping),
        hb_pong: port(Channel::Pong),
        key: key.to_owned(),
        curve_serverkey: None,
        location: location.to_owned(),
        pack: "json".to_owned(),
        unpack: "json".to_owned(),
        signature_scheme: "hmac-sha256".to_owned(),
        others: Map::new(),
    }
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
