//! What an engine is told on its command line and in its environment, as ipyparallel's launchers
//! tell it: reads text into [`Flags`], touches nothing.
use std::path::PathBuf;
use std::time::Duration;

use crate::compile::TOOLCHAIN;
use crate::wire::connection::ENGINE_UUID;

/// How long the connection file, the worker and the controller may each take to appear.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq)]
pub struct Flags {
    /// `--file`: the connection file itself.
    pub file: Option<PathBuf>,
    pub profile: String,
    pub profile_dir: Option<PathBuf>,
    /// Where profiles live: `$IPYTHONDIR`, else `~/.ipython`.
    pub ipython_dir: PathBuf,
    pub cluster_id: String,
    pub work_dir: Option<PathBuf>,
    pub timeout: Duration,
    /// The address to use for a controller that listens on every interface.
    pub location: Option<String>,
    /// The id to ask the controller for.
    pub id: Option<u32>,
    /// Names this engine; made up if absent. Two engines of one name cannot live together.
    pub uuid: Option<String>,
    /// Whether standard input is a pipe whose end of file means that the owner is gone.
    pub owner_stdin: bool,
    /// Run the engine's nanny and no engine.
    pub nanny: bool,
    pub log_level: LogLevel,
    pub help: bool,
    /// `IPP_CONNECTION_INFO`: the text that takes the place of the file.
    pub connection_info: Option<String>,
    pub tools: Tools,
    /// Arguments that mean nothing to a Rust engine, for the log.
    pub ignored: Vec<String>,
}

/// Where the compiler finds its tools and keeps what it builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tools {
    pub cache: PathBuf,
    pub rustc: Option<PathBuf>,
    pub cargo: Option<PathBuf>,
    /// What the engine's owner knows of them.
    pub toolchain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Debug, PartialEq, Eq)]
pub enum FlagError {
    Value { flag: String, value: String },
    Missing { flag: String },
    Ssh { server: String },
}

impl std::fmt::Display for FlagError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value { flag, value } => {
                write!(f, "read {flag}: {value:?} is not a value for it")
            }
            Self::Missing { flag } => write!(f, "read {flag}: its value is missing"),
            Self::Ssh { server } => write!(
                f,
                "reach the controller through ssh server {server}: this engine makes no tunnels; \
                 start `ssh -L` first and point --file at a copy with the tunnel's address"
            ),
        }
    }
}

impl std::error::Error for FlagError {}

impl Flags {
    /// Reads arguments (without the program's name); `env` looks up an environment variable.
    ///
    /// # Errors
    /// For a known flag without its value or with one that cannot be it. Unknown flags are no
    /// error: ipyparallel's launchers pass settings of Python classes.
    pub fn read(args: &[String], env: &dyn Fn(&str) -> Option<String>) -> Result<Self, FlagError> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(set("HOME").unwrap_or_default());
        let mut flags = Self {
            file: None,
            profile: "default".to_owned(),
            profile_dir: set("IPP_PROFILE_DIR").map(PathBuf::from),
            ipython_dir: set("IPYTHONDIR").map_or_else(|| home.join(".ipython"), PathBuf::from),
            cluster_id: set("IPP_CLUSTER_ID").unwrap_or_default(),
            work_dir: None,
            timeout: TIMEOUT_DEFAULT,
            location: None,
            id: None,
            uuid: set(ENGINE_UUID),
            owner_stdin: false,
            nanny: false,
            log_level: LogLevel::Info,
            help: false,
            connection_info: set("IPP_CONNECTION_INFO"),
            tools: Tools {
                cache: set("XDG_CACHE_HOME")
                    .map_or_else(|| home.join(".cache"), PathBuf::from)
                    .join("prust"),
                rustc: set("RUSTC").map(PathBuf::from),
                cargo: set("CARGO").map(PathBuf::from),
                toolchain: set(TOOLCHAIN),
            },
            ignored: Vec::new(),
        };
        let mut rest = args.iter().map(String::as_str).peekable();
        while let Some(arg) = rest.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg, None),
            };
            let name = name.trim_start_matches('-');
            match name {
                "mpi" | "IPEngine.use_mpi" => flags.id = flags.id.or(mpi_rank(&set)),
                "debug" => flags.log_level = LogLevel::Debug,
                "quiet" => flags.log_level = LogLevel::Error,
                "owner-stdin" => flags.owner_stdin = true,
                "nanny" => flags.nanny = true,
                "help" | "h" | "help-all" => flags.help = true,
                _ if TAKES_VALUE.contains(&name) => {
                    let value = match value {
                        Some(value) => value,
                        None => rest
                            .next_if(|next| !next.starts_with("--"))
                            .ok_or_else(|| FlagError::Missing { flag: arg.to_owned() })?,
                    };
                    flags.set(name, value)?;
                }
                _ => flags.ignored.push(arg.to_owned()),
            }
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), FlagError> {
        let bad = || FlagError::Value { flag: format!("--{name}"), value: value.to_owned() };
        match name {
            "file" | "f" | "IPEngine.url_file" => self.file = Some(value.into()),
            "profile" => self.profile = value.to_owned(),
            "profile-dir" | "ProfileDir.location" => self.profile_dir = Some(value.into()),
            "cluster-id" | "BaseParallelApplication.cluster_id" | "IPEngine.cluster_id" => {
                self.cluster_id = value.to_owned();
            }
            "work-dir" | "BaseParallelApplication.work_dir" | "IPEngine.work_dir" => {
                self.work_dir = Some(value.into());
            }
            "timeout" | "IPEngine.timeout" => {
                let seconds = value.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
                let timeout = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
                self.timeout = timeout.ok_or_else(bad)?;
            }
            "location" | "IPEngine.location" => self.location = Some(value.to_owned()),
            "id" | "IPEngine.id" => self.id = Some(value.parse().map_err(|_| bad())?),
            "uuid" if value.is_ascii() && !value.is_empty() => self.uuid = Some(value.to_owned()),
            "log-level" | "Application.log_level" | "IPEngine.log_level" => {
                self.log_level = log_level(value).ok_or_else(bad)?;
            }
            "ssh" | "IPEngine.sshserver" if value.is_empty() => (),
            "ssh" | "IPEngine.sshserver" => {
                return Err(FlagError::Ssh { server: value.to_owned() });
            }
            _ => return Err(bad()),
        }
        Ok(())
    }
}

/// Flags whose value may also be the next argument.
const TAKES_VALUE: [&str; 24] = [
    "file",
    "f",
    "IPEngine.url_file",
    "profile",
    "profile-dir",
    "ProfileDir.location",
    "cluster-id",
    "BaseParallelApplication.cluster_id",
    "IPEngine.cluster_id",
    "work-dir",
    "BaseParallelApplication.work_dir",
    "IPEngine.work_dir",
    "timeout",
    "IPEngine.timeout",
    "location",
    "IPEngine.location",
    "id",
    "IPEngine.id",
    "uuid",
    "log-level",
    "Application.log_level",
    "IPEngine.log_level",
    "ssh",
    "IPEngine.sshserver",
];

/// The rank of this process as the common launchers tell it.
fn mpi_rank(env: &dyn Fn(&str) -> Option<String>) -> Option<u32> {
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]
        .iter()
        .find_map(|name| env(name)?.parse().ok())
}

/// Python's numbers and names.
fn log_level(text: &str) -> Option<LogLevel> {
    let number = match text.to_ascii_uppercase().as_str() {
        "DEBUG" => 10,
        "INFO" => 20,
        "WARN" | "WARNING" => 30,
        "ERROR" | "CRITICAL" => 40,
        text => text.parse().ok()?,
    };
    Some(match number {
        ..=10 => LogLevel::Debug,
        11..=20 => LogLevel::Info,
        21..=30 => LogLevel::Warn,
        _ => LogLevel::Error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Flags, FlagError> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Flags::read(&args, &env)
    }

    #[test]
    fn what_ipyparallels_launchers_pass_is_understood() {
        let args = [
            "--profile-dir",
            "/p",
            "--cluster-id",
            "c-1",
            "--log-level=10",
            "--timeout=60",
            "--InteractiveShell.colors=nocolor",
            "--log-to-file",
        ];
        let flags = read(&args, &[]).expect("all of it is valid");
        assert_eq!(flags.profile_dir, Some("/p".into()));
        assert_eq!(flags.cluster_id, "c-1");
        assert_eq!(flags.timeout, Duration::from_secs(60));
        assert_eq!(flags.log_level, LogLevel::Debug);
        assert_eq!(flags.ignored, ["--InteractiveShell.colors=nocolor", "--log-to-file"]);
    }

    #[test]
    fn mpi_takes_the_rank_as_the_id() {
        let flags = read(&["--mpi"], &[("PMI_RANK", "3")]).expect("valid");
        assert_eq!(flags.id, Some(3));
        let flags = read(&["--id=7", "--mpi"], &[("PMI_RANK", "3")]).expect("valid");
        assert_eq!(flags.id, Some(7));
    }

    #[test]
    fn the_environment_is_weaker_than_a_flag() {
        let env = [("IPP_CLUSTER_ID", "e"), ("IPP_PROFILE_DIR", "/e")];
        let flags = read(&["--cluster-id="], &env).expect("valid");
        assert_eq!((flags.cluster_id.as_str(), flags.profile_dir), ("", Some("/e".into())));
    }

    #[test]
    fn a_value_that_cannot_be_is_an_error_that_names_it() {
        let error = read(&["--timeout=soon"], &[]).expect_err("soon is no number");
        assert_eq!(error.to_string(), "read --timeout: \"soon\" is not a value for it");
        let error = read(&["--file", "--mpi"], &[]).expect_err("the value is missing");
        assert_eq!(error, FlagError::Missing { flag: "--file".to_owned() });
        assert!(read(&["--ssh=host"], &[]).is_err());
        assert!(read(&["--ssh="], &[]).is_ok());
    }
}
