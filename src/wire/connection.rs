//! Connection files: Jupyter's for a kernel, ipyparallel's for clients and engines, and where they
//! live. Files with a key in them are written for their owner only (0600), whole or not at all.
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::curve;
use super::socket::port_of;

/// The only signature scheme anybody uses.
pub const SIGNATURE_SCHEME: &str = "hmac-sha256";

/// The environment variable that says under which name an engine registers. Unlike a command line,
/// the environment is seen by its owner alone.
pub const ENGINE_UUID: &str = "PRUST_ENGINE_UUID";

/// The member of ipyparallel's file for engines that says where our links are.
const LINK: &str = "prust_link";

/// Why a connection file could not be used.
#[derive(Debug)]
pub enum FileError {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    Write {
        path: PathBuf,
        source: io::Error,
    },
    Scheme {
        path: PathBuf,
        scheme: String,
    },
    Packer {
        path: PathBuf,
        pack: String,
    },
    /// CURVE is asked for, and cannot be had.
    Curve {
        path: PathBuf,
    },
    /// The key of the server is none.
    CurveKey {
        path: PathBuf,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                write!(f, "read connection file {}: {source}", path.display())
            }
            Self::Parse { path, source } => {
                write!(f, "understand connection file {}: {source}", path.display())
            }
            Self::Write { path, source } => {
                write!(f, "write connection file {}: {source}", path.display())
            }
            Self::Scheme { path, scheme } => write!(
                f,
                "use connection file {}: it asks for signatures by {scheme}, only \
                 {SIGNATURE_SCHEME} is known",
                path.display()
            ),
            Self::Packer { path, pack } => write!(
                f,
                "use connection file {}: it asks for messages packed by {pack}, only json is known",
                path.display()
            ),
            Self::Curve { path } => write!(
                f,
                "use connection file {}: it asks for CURVE encryption, which this build of prust \
                 lacks; build it in its own folder, where .cargo/config.toml asks for CURVE",
                path.display()
            ),
            Self::CurveKey { path } => write!(
                f,
                "use connection file {}: its curve_serverkey is not a key of 40 characters (Z85)",
                path.display()
            ),
        }
    }
}

impl std::error::Error for FileError {}

/// The five channels of a kernel, in the order in which its ports are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Shell,
    IoPub,
    Stdin,
    Control,
    Heartbeat,
}

impl Channel {
    pub const ALL: [Self; 5] =
        [Self::Shell, Self::IoPub, Self::Stdin, Self::Control, Self::Heartbeat];
}

/// Jupyter's connection file. Fields we do not know are kept and written back.
/// <https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFile {
    #[serde(default = "tcp")]
    pub transport: String,
    #[serde(default = "loopback")]
    pub ip: String,
    #[serde(default)]
    pub shell_port: u16,
    #[serde(default)]
    pub iopub_port: u16,
    #[serde(default)]
    pub stdin_port: u16,
    #[serde(default)]
    pub control_port: u16,
    #[serde(default)]
    pub hb_port: u16,
    #[serde(default)]
    pub key: String,
    #[serde(default = "signature_scheme")]
    pub signature_scheme: String,
    #[serde(flatten)]
    pub others: serde_json::Map<String, serde_json::Value>,
}

impl KernelFile {
    /// Reads the file and refuses what we cannot speak.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let file: Self = read_json(path)?;
        let scheme = file.signature_scheme.as_str();
        if scheme != SIGNATURE_SCHEME && !(scheme.is_empty() && file.key.is_empty()) {
            let scheme = file.signature_scheme;
            return Err(FileError::Scheme { path: path.to_owned(), scheme });
        }
        Ok(file)
    }

    pub fn port(&self, channel: Channel) -> u16 {
        match channel {
            Channel::Shell => self.shell_port,
            Channel::IoPub => self.iopub_port,
            Channel::Stdin => self.stdin_port,
            Channel::Control => self.control_port,
            Channel::Heartbeat => self.hb_port,
        }
    }

    fn port_mut(&mut self, channel: Channel) -> &mut u16 {
        match channel {
            Channel::Shell => &mut self.shell_port,
            Channel::IoPub => &mut self.iopub_port,
            Channel::Stdin => &mut self.stdin_port,
            Channel::Control => &mut self.control_port,
            Channel::Heartbeat => &mut self.hb_port,
        }
    }

    /// Gives every ipc channel with port 0 a number whose socket file does not exist. (A tcp port
    /// of 0 is chosen by the operating system when it is bound.)
    pub fn choose_ipc_ports(&mut self) {
        if self.transport != "ipc" {
            return;
        }
        let mut next = 1;
        for channel in Channel::ALL {
            if self.port(channel) != 0 {
                continue;
            }
            while Channel::ALL.iter().any(|other| self.port(*other) == next)
                || Path::new(&format!("{}-{next}", self.ip)).exists()
            {
                next += 1;
            }
            *self.port_mut(channel) = next;
        }
    }

    /// The address to bind (or to connect to).
    pub fn endpoint(&self, channel: Channel) -> String {
        let port = self.port(channel);
        match (self.transport.as_str(), self.ip.as_str()) {
            ("ipc", ip) => format!("ipc://{ip}-{port}"),
            (transport, "*" | "") => format!("{transport}://0.0.0.0:{port}"),
            (transport, ip) if ip.contains(':') && !ip.starts_with('[') => {
                format!("{transport}://[{ip}]:{port}")
            }
            (transport, ip) => format!("{transport}://{ip}:{port}"),
        }
    }

    /// Takes over the ports that were bound, in the order of `Channel::ALL`, and writes the file
    /// back if that changed anything.
    pub fn fill_ports(&mut self, path: &Path, bound: &[Vec<String>]) -> Result<(), FileError> {
        let before = self.clone();
        for (channel, endpoints) in Channel::ALL.into_iter().zip(bound) {
            if self.port(channel) == 0
                && let Some(port) = endpoints.first().and_then(|endpoint| port_of(endpoint))
            {
                *self.port_mut(channel) = port;
            }
        }
        let on_disk: Result<Self, _> = read_json(path);
        if *self == before && on_disk.is_ok_and(|on_disk| on_disk == *self) {
            return Ok(());
        }
        write_json(path, self)
    }
}

/// ipyparallel's `ipcontroller-client.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFile {
    #[serde(default)]
    pub ssh: String,
    /// `tcp://ip`.
    pub interface: String,
    pub registration: u16,
    pub control: u16,
    pub mux: u16,
    pub task: u16,
    #[serde(default = "leastload")]
    pub task_scheme: String,
    pub iopub: u16,
    pub notification: u16,
    pub broadcast: u16,
    pub key: String,
    #[serde(default)]
    pub curve_serverkey: Option<String>,
    #[serde(default)]
    pub location: String,
    #[serde(default = "packer")]
    pub pack: String,
    #[serde(default = "packer")]
    pub unpack: String,
    #[serde(default = "signature_scheme")]
    pub signature_scheme: String,
    #[serde(flatten)]
    pub others: serde_json::Map<String, serde_json::Value>,
}

/// ipyparallel's `ipcontroller-engine.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFile {
    #[serde(default)]
    pub ssh: String,
    /// `tcp://ip`.
    pub interface: String,
    pub registration: u16,
    pub control: u16,
    pub mux: u16,
    pub task: u16,
    pub iopub: u16,
    /// One port per leaf of the broadcast tree; an engine takes the leaf `id % n_leaves`.
    #[serde(default)]
    pub broadcast: Vec<u16>,
    pub hb_ping: u16,
    pub hb_pong: u16,
    pub key: String,
    #[serde(default)]
    pub curve_serverkey: Option<String>,
    #[serde(default)]
    pub location: String,
    #[serde(default = "packer")]
    pub pack: String,
    #[serde(default = "packer")]
    pub unpack: String,
    #[serde(default = "signature_scheme")]
    pub signature_scheme: String,
    #[serde(flatten)]
    pub others: serde_json::Map<String, serde_json::Value>,
}

impl ClientFile {
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let file: Self = read_json(path)?;
        file.check(path)?;
        Ok(file)
    }

    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_json(path, self)
    }

    /// The address of one of the ports.
    pub fn endpoint(&self, port: u16) -> String {
        controller_endpoint(&self.interface, &self.location, port, self.curve_serverkey.as_deref())
    }

    fn check(&self, path: &Path) -> Result<(), FileError> {
        check_controller_file(
            path,
            &self.key,
            &self.signature_scheme,
            [&self.pack, &self.unpack],
            self.curve_serverkey.as_deref(),
        )
    }
}

impl EngineFile {
    /// Where an engine of the controller's own host may come by a link.
    pub fn link(&self) -> Option<&Path> {
        self.others.get(LINK).and_then(|path| path.as_str()).map(Path::new)
    }

    pub fn set_link(&mut self, path: Option<&Path>) {
        if let Some(path) = path.and_then(Path::to_str) {
            self.others.insert(LINK.to_owned(), path.into());
        }
    }

    pub fn read(path: &Path) -> Result<Self, FileError> {
        let file: Self = read_json(path)?;
        file.check(path)?;
        Ok(file)
    }

    /// Reads the text of the environment variable `IPP_CONNECTION_INFO`.
    pub fn from_text(text: &str) -> Result<Self, FileError> {
        let path = PathBuf::from("IPP_CONNECTION_INFO");
        let file: Self = serde_json::from_str(text)
            .map_err(|source| FileError::Parse { path: path.clone(), source })?;
        file.check(&path)?;
        Ok(file)
    }

    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_json(path, self)
    }

    pub fn endpoint(&self, port: u16) -> String {
        controller_endpoint(&self.interface, &self.location, port, self.curve_serverkey.as_deref())
    }

    fn check(&self, path: &Path) -> Result<(), FileError> {
        check_controller_file(
            path,
            &self.key,
            &self.signature_scheme,
            [&self.pack, &self.unpack],
            self.curve_serverkey.as_deref(),
        )
    }
}

/// `profile_<name>` below IPython's directory (`$IPYTHONDIR`, else `~/.ipython`).
pub fn profile_dir(ipython_dir: &Path, profile: &str) -> PathBuf {
    ipython_dir.join(format!("profile_{profile}"))
}

/// The client's connection file of a profile's cluster; `cluster_id` may be empty.
pub fn client_file_path(profile_dir: &Path, cluster_id: &str) -> PathBuf {
    security_path(profile_dir, cluster_id, "client")
}

/// Where a controller keeps its records, if nothing else is said.
pub fn tasks_file_path(security_dir: &Path, cluster_id: &str) -> PathBuf {
    security_dir.join(match cluster_id {
        "" => "tasks.db".to_owned(),
        id => format!("tasks-{id}.db"),
    })
}

/// The engines' connection file of a profile's cluster; `cluster_id` may be empty.
pub fn engine_file_path(profile_dir: &Path, cluster_id: &str) -> PathBuf {
    security_path(profile_dir, cluster_id, "engine")
}

/// Writes bytes that only their owner may read: a new file beside it, then a rename.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || {
        // A file left over from a crash would keep its old mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

fn security_path(profile_dir: &Path, cluster_id: &str, role: &str) -> PathBuf {
    let infix = if cluster_id.is_empty() { String::new() } else { format!("-{cluster_id}") };
    profile_dir.join("security").join(format!("ipcontroller{infix}-{role}.json"))
}

/// A controller that listens on every interface is reached at its `location`, or on this machine.
/// One that speaks encrypted is reached with its key.
fn controller_endpoint(
    interface: &str,
    location: &str,
    port: u16,
    serverkey: Option<&str>,
) -> String {
    let (transport, ip) = interface.split_once("://").unwrap_or(("tcp", interface));
    let host = match ip {
        "*" | "0.0.0.0" | "" => {
            let here = location.is_empty() || location == crate::process::hostname();
            if here { "127.0.0.1" } else { location }
        }
        ip => ip,
    };
    let address = format!("{transport}://{host}:{port}");
    match serverkey.filter(|key| !key.is_empty()) {
        Some(key) => curve::with_key(&address, key),
        None => address,
    }
}

fn check_controller_file(
    path: &Path,
    key: &str,
    scheme: &str,
    packers: [&str; 2],
    curve: Option<&str>,
) -> Result<(), FileError> {
    let path = path.to_owned();
    if !key.is_empty() && scheme != SIGNATURE_SCHEME {
        return Err(FileError::Scheme { path, scheme: scheme.to_owned() });
    }
    // orjson is JSON on the wire, written by another library.
    if let Some(pack) = packers.into_iter().find(|pack| !matches!(*pack, "json" | "orjson")) {
        return Err(FileError::Packer { path, pack: pack.to_owned() });
    }
    match curve.filter(|key| !key.is_empty()) {
        Some(key) if !curve::is_key(key) => Err(FileError::CurveKey { path }),
        Some(_) if !curve::is_available() => Err(FileError::Curve { path }),
        _ => Ok(()),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let bytes =
        fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|source| FileError::Parse { path: path.to_owned(), source })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let bytes = serde_json::to_vec_pretty(value).expect("plain fields are JSON");
    write_private(path, &bytes).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn tcp() -> String {
    "tcp".to_owned()
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

fn signature_scheme() -> String {
    SIGNATURE_SCHEME.to_owned()
}

fn packer() -> String {
    "json".to_owned()
}

fn leastload() -> String {
    "leastload".to_owned()
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
