//! The command line of `prust cluster`: text and environment to a [`Command`]. Touches nothing.
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use crate::wire::connection::{client_file_path, engine_file_path, tasks_file_path};
use crate::wire::profiles::Profiles;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Start(Options),
    List(Place),
    Status { place: Place, json: bool },
    Dump(Place),
    Stop(Place),
}

/// Which cluster is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) profile_dir: PathBuf,
    pub(super) cluster_id: String,
}

impl Place {
    pub(super) fn client_file(&self) -> PathBuf {
        client_file_path(&self.profile_dir, &self.cluster_id)
    }

    pub(super) fn engine_file(&self) -> PathBuf {
        engine_file_path(&self.profile_dir, &self.cluster_id)
    }

    /// Where its controller keeps records for the next one.
    pub(super) fn store_file(&self) -> PathBuf {
        tasks_file_path(&self.profile_dir.join("security"), &self.cluster_id)
    }

    /// What names this cluster on a command line.
    pub(super) fn options(&self) -> String {
        let dir = format!("--profile-dir={}", self.profile_dir.display());
        match self.cluster_id.as_str() {
            "" => dir,
            id => format!("{dir} --cluster-id={id}"),
        }
    }
}

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) place: Place,
    pub(super) n_engines: usize,
    pub(super) detach: bool,
    /// It goes on with the records of the cluster that ran there before.
    pub(super) restore: bool,
    /// This process was started to be the daemon.
    pub(super) daemon: bool,
    pub(super) ip: String,
    pub(super) location: Option<String>,
    pub(super) work_dir: PathBuf,
    /// The tools of the engines, if not those on the path.
    pub(super) rustc: Option<PathBuf>,
    pub(super) cargo: Option<PathBuf>,
    pub(super) level: LevelFilter,
    /// All arguments behind `prust cluster`, for the daemon.
    pub(super) args: Vec<String>,
}

#[derive(Debug)]
pub(super) enum ArgumentError {
    Syntax(lexopt::Error),
    Value { option: &'static str, value: String, wanted: &'static str },
    NoCommand { word: String },
    Misplaced { option: &'static str, command: String },
    NoHome,
    NoWorkDir(std::io::Error),
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "{error}"),
            Self::Value { option, value, wanted } => {
                write!(f, "failed to read {option}={value}: it has to be {wanted}")
            }
            Self::NoCommand { word } if word.is_empty() => {
                f.write_str("a command is missing: start, stop, list, status or dump")
            }
            Self::NoCommand { word } => {
                write!(f, "there is no command {word}: start, stop, list, status or dump")
            }
            Self::Misplaced { option, command } => {
                write!(f, "option {option} does not belong to {command}; see --help")
            }
            Self::NoHome => {
                f.write_str("failed to find the profile: give --profile-dir or set HOME")
            }
            Self::NoWorkDir(source) => write!(f, "failed to find the working directory: {source}"),
        }
    }
}

impl From<lexopt::Error> for ArgumentError {
    fn from(error: lexopt::Error) -> Self {
        Self::Syntax(error)
    }
}

/// Reads the command line; `None` if it asks for help.
pub(super) fn read(
    args: Vec<String>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Command>, ArgumentError> {
    use lexopt::Arg::{Long, Short, Value};
    let text = |value: OsString| value.to_string_lossy().into_owned();
    let profiles = Profiles::read(env);
    let tool = |name: &str| env(name).filter(|tool| !tool.is_empty()).map(PathBuf::from);
    let mut named = Named {
        cluster_id: env("IPP_CLUSTER_ID").map(text),
        rustc: tool("RUSTC"),
        cargo: tool("CARGO"),
        ..Named::default()
    };
    let mut command = None;
    let mut parser = lexopt::Parser::from_args(&args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("profile") => named.profile = Some(text(parser.value()?)),
            Long("profile-dir") => named.dir = Some(parser.value()?.into()),
            Long("ipython-dir") => named.ipython_dir = Some(parser.value()?.into()),
            Long("cluster-id") => named.cluster_id = Some(text(parser.value()?)),
            Short('n') | Long("n") => named.n = Some(read_n(&text(parser.value()?))?),
            Long("detach" | "daemonize") => named.detach = true,
            Long("restore") => named.restore = true,
            Long("daemon-of-prust") => named.daemon = true,
            Long("ip") => named.ip = Some(text(parser.value()?)),
            Long("location") => named.location = Some(text(parser.value()?)),
            Long("work-dir") => named.work_dir = Some(parser.value()?.into()),
            Long("log-level") => named.level = Some(read_level(&text(parser.value()?))?),
            Long("json") => named.json = true,
            Value(word) if command.is_none() => command = Some(text(word)),
            other => return Err(other.unexpected().into()),
        }
    }
    let command = command.unwrap_or_default();
    if let Some(option) = named.misplaced(&command) {
        return Err(ArgumentError::Misplaced { option, command });
    }
    let place = named.place(profiles)?;
    Ok(Some(match command.as_str() {
        "start" => Command::Start(named.options(place, args)?),
        "list" => Command::List(place),
        "status" => Command::Status { place, json: named.json },
        "dump" => Command::Dump(place),
        "stop" => Command::Stop(place),
        _ => return Err(ArgumentError::NoCommand { word: command }),
    }))
}

/// What was given, before its meaning is known.
#[derive(Default)]
struct Named {
    profile: Option<String>,
    dir: Option<PathBuf>,
    ipython_dir: Option<PathBuf>,
    cluster_id: Option<String>,
    n: Option<usize>,
    detach: bool,
    restore: bool,
    daemon: bool,
    ip: Option<String>,
    location: Option<String>,
    work_dir: Option<PathBuf>,
    rustc: Option<PathBuf>,
    cargo: Option<PathBuf>,
    level: Option<LevelFilter>,
    json: bool,
}

impl Named {
    /// An option of another command.
    fn misplaced(&self, command: &str) -> Option<&'static str> {
        let of_start = [
            ("-n", self.n.is_some()),
            ("--detach", self.detach),
            ("--restore", self.restore),
            ("--ip", self.ip.is_some()),
            ("--location", self.location.is_some()),
            ("--work-dir", self.work_dir.is_some()),
            ("--log-level", self.level.is_some()),
        ];
        let mut of_start = of_start.into_iter().filter(|(_, given)| *given);
        match command {
            "start" => self.json.then_some("--json"),
            "status" => of_start.next().map(|(option, _)| option),
            _ if self.json => Some("--json"),
            _ => of_start.next().map(|(option, _)| option),
        }
    }

    fn place(&self, profiles: Option<Profiles>) -> Result<Place, ArgumentError> {
        let given = self.ipython_dir.clone().map(|ipython_dir| {
            let usual = crate::wire::connection::profile_dir(&ipython_dir, "default");
            Profiles { ipython_dir, usual, home: PathBuf::new() }
        });
        let profiles = given.or(profiles);
        let profile_dir = match (&self.dir, &self.profile, profiles) {
            (Some(dir), ..) => dir.clone(),
            (None, Some(profile), Some(profiles)) => profiles.dir(profile),
            (None, None, Some(profiles)) => profiles.usual,
            (None, _, None) => return Err(ArgumentError::NoHome),
        };
        // The daemon and others may run elsewhere.
        let profile_dir = std::path::absolute(&profile_dir).unwrap_or(profile_dir);
        let cluster_id = self.cluster_id.clone().unwrap_or_default();
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !cluster_id.chars().all(is_plain) {
            let (option, wanted) = ("--cluster-id", "letters, digits, - _ and . only");
            return Err(ArgumentError::Value { option, value: cluster_id, wanted });
        }
        Ok(Place { profile_dir, cluster_id })
    }

    fn options(self, place: Place, args: Vec<String>) -> Result<Options, ArgumentError> {
        let n_cores = std::thread::available_parallelism().map_or(2, usize::from);
        let work_dir = match self.work_dir {
            Some(dir) => dir,
            None => std::env::current_dir().map_err(ArgumentError::NoWorkDir)?,
        };
        Ok(Options {
            place,
            n_engines: self.n.unwrap_or_else(|| n_cores.max(2)),
            detach: self.detach && !self.daemon,
            restore: self.restore,
            daemon: self.daemon,
            ip: self.ip.unwrap_or_else(|| "127.0.0.1".to_owned()),
            location: self.location,
            work_dir,
            rustc: self.rustc,
            cargo: self.cargo,
            level: self.level.unwrap_or(LevelFilter::WARN),
            args,
        })
    }
}

fn read_n(value: &str) -> Result<usize, ArgumentError> {
    let n = value.parse::<usize>().ok().filter(|n| (1..=ENGINES_MAX).contains(n));
    n.ok_or_else(|| ArgumentError::Value {
        option: "-n",
        value: value.to_owned(),
        wanted: "a number of engines from 1 to 4096",
    })
}

/// More engines than any machine runs: a slip of the hand.
const ENGINES_MAX: usize = 4096;

fn read_level(value: &str) -> Result<LevelFilter, ArgumentError> {
    Ok(match value.to_ascii_lowercase().as_str() {
        "debug" | "10" => LevelFilter::DEBUG,
        "info" | "20" => LevelFilter::INFO,
        "warn" | "warning" | "30" => LevelFilter::WARN,
        "error" | "critical" | "40" | "50" => LevelFilter::ERROR,
        _ => {
            let (option, wanted) = ("--log-level", "debug, info, warn, error, or 10 to 50");
            return Err(ArgumentError::Value { option, value: value.to_owned(), wanted });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &str) -> Result<Option<Command>, ArgumentError> {
        let env = |name: &str| (name == "HOME").then(|| OsString::from("/home/ada"));
        read(line.split_whitespace().map(str::to_owned).collect(), &env)
    }

    fn refusal(text: &str) -> String {
        line(text).expect_err("it is refused").to_string()
    }

    #[test]
    fn start_takes_a_place_and_a_number() {
        let Ok(Some(Command::Start(options))) = line("start -n 8 --detach --profile=x --ip=*")
        else {
            panic!("it is a start");
        };
        assert_eq!((options.n_engines, options.detach, options.ip.as_str()), (8, true, "*"));
        let file = "/home/ada/.ipython/profile_x/security/ipcontroller-client.json";
        assert_eq!(options.place.client_file(), PathBuf::from(file));
        assert_eq!(options.args.join(" "), "start -n 8 --detach --profile=x --ip=*");
    }

    #[test]
    fn the_daemon_does_not_detach_again() {
        let Ok(Some(Command::Start(options))) = line("start --detach --daemon-of-prust") else {
            panic!("it is a start");
        };
        assert!(options.daemon && !options.detach && !options.restore);
        let store = "/home/ada/.ipython/profile_default/security/tasks.db";
        assert_eq!(options.place.store_file(), PathBuf::from(store));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(refusal("start -n 0").contains("-n=0: it has to be"));
        assert!(refusal("begin").contains("there is no command begin"));
        assert!(refusal("").contains("a command is missing"));
        assert!(refusal("stop -n 3").contains("option -n does not belong to stop"));
        assert!(refusal("status --restore").contains("--restore does not belong to status"));
        assert!(refusal("list --json").contains("option --json does not belong to list"));
        assert!(refusal("start --cluster-id=../x").contains("letters, digits"));
    }
}
