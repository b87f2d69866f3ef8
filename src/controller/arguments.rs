//! `prust controller`: the command line of ipyparallel's `ipcontroller`, as far as it has a meaning
//! here.
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::database::{Database, NothingToRestore};
use super::{ControllerError, Hwm, Scheme, Settings, start};
use crate::wire;
use crate::wire::connection::{client_file_path, engine_file_path, profile_dir};
use crate::wire::curve::ServerKey;

const HELP: &str = "\
Usage: prust controller [OPTIONS]

Starts a controller that speaks ipyparallel's protocol, and writes
ipcontroller[-ID]-client.json and ipcontroller[-ID]-engine.json into the profile's
security directory. Ends on SIGTERM and SIGINT, and removes them.

  --profile=NAME       the profile in the IPython directory (default: default)
  --profile-dir=DIR    the profile's directory
  --ipython-dir=DIR    the IPython directory (default: $IPYTHONDIR or ~/.ipython)
  --cluster-id=ID      names the two files
  --ip=IP              the address to listen on (default: 127.0.0.1; * for all)
  --location=HOST      where others find this machine
  --ping=MS            the time between heartbeats (default: 3000)
  --lost-after=MS      how long an engine of prust may be silent (default: 3000)
  --hwm=N              tasks in flight per engine: auto (default), 0 for no limit, or N
  --scheme=NAME        how an engine is chosen for a task: leastload (default), lru,
                       plainrandom, twobin or weighted
  --peer-mib=N         MiB that may wait for one client or engine that does not read
                       (default: 256); beyond it is cut off, or misses output
  --enable-curve       encrypt everything with CURVE; only who can read the connection
                       files can connect (also IPP_ENABLE_CURVE=1; the key pair is new
                       unless IPP_CURVE_SECRETKEY gives it)
  --reuse              take ports and key from existing files, and leave them
  --restore            --reuse, and go on with the records and the engines of the
                       controller before, which kept them in a file with --restore
                       or --sqlitedb
  --sqlitedb           keep records and engines in the file security/tasks[-ID].db
  --SQLiteDB.filename=FILE, --SQLiteDB.location=DIR
                       keep them in that one
  --dictdb             keep records in memory only (default)
  --nodb               keep no records of work that has finished
  --log-level=LEVEL    debug, info, warn, error, or Python's 10 to 50 (default: info)

Other options of ipcontroller are ignored, with a line in the log.
";

/// Runs a controller until it is told to end; returns the exit code.
pub fn run(args: Vec<String>) -> i32 {
    let arguments = match read(args, |name| std::env::var(name).ok()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return say(&HELP, 0),
        Err(error) => return say(&format_args!("prust controller: {error}\n"), 2),
    };
    // A second subscriber is refused, and the first one is as good.
    let _ = tracing_subscriber::fmt()
        .with_max_level(arguments.level)
        .with_writer(std::io::stderr)
        .try_init();
    for option in &arguments.ignored {
        tracing::warn!(option, "ignored an option that means nothing here");
    }
    match serve(arguments.settings) {
        Ok(()) => 0,
        Err(error) => say(&format_args!("prust controller: {error}\n"), 1),
    }
}

fn serve(settings: Settings) -> Result<(), ControllerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControllerError::Thread)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(ControllerError::Thread)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ControllerError::Thread)?;
        let client_file = settings.client_file.clone();
        let exposed = exposure(&settings);
        let context = wire::Context::new();
        let controller = start(settings, &context)?;
        tracing::info!(file = %client_file.display(), "controller started");
        if let Some(notice) = exposed {
            say(&notice, 0);
        }
        tokio::select! {
            _ = terminate.recv() => tracing::info!("terminated"),
            _ = interrupt.recv() => tracing::info!("interrupted"),
            () = controller.ended() => tracing::info!("shut down by a client"),
        }
        controller.stop();
        Ok(())
    })
}

/// What it means to listen where other machines can connect; `None` on loopback.
fn exposure(settings: &Settings) -> Option<String> {
    let ip = settings.ip.as_str();
    let is_local = ip == "localhost"
        || ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_local {
        return None;
    }
    let (client, engine) = (settings.client_file.display(), settings.engine_file.display());
    let rights = if settings.curve.is_some() {
        "\
  Everything is encrypted, and only who has the key from one of these files can speak or listen:"
    } else {
        "\
  The key protects what is done: without it nobody can run code, or answer for an engine. It does
  not protect what is said: whoever connects, or listens on the network in between, reads code,
  values and output. --enable-curve encrypts everything; or leave --ip away, and let others come
  through ssh (Client(sshserver=..), or ssh -L for each port). The key is in these files:"
    };
    Some(format!(
        "\nThis controller listens on {ip}: whoever reaches this machine can connect.\n{rights}\n  \
         {client}\n  {engine}\n  Only you can read them (mode 0600): copy them to nobody whom you \
         would not let run programs as you.\n\n"
    ))
}

#[derive(Debug)]
struct Arguments {
    settings: Settings,
    level: LevelFilter,
    ignored: Vec<String>,
}

#[derive(Debug)]
enum ArgumentError {
    Syntax(lexopt::Error),
    Value { option: &'static str, value: String, wanted: &'static str },
    NoHome,
    NoCurve,
    CurveKey,
    Restore(NothingToRestore),
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "{error}"),
            Self::Value { option, value, wanted } => {
                write!(f, "failed to read {option}={value}: it has to be {wanted}")
            }
            Self::NoCurve => f.write_str(
                "failed to enable CURVE: this build of prust lacks it; build it in its own folder, \
                 where .cargo/config.toml asks for it",
            ),
            Self::CurveKey => f.write_str(
                "failed to read IPP_CURVE_SECRETKEY: it has to be a key of 40 characters (Z85)",
            ),
            Self::NoHome => {
                f.write_str("failed to find the profile: give --profile-dir or set HOME")
            }
            Self::Restore(NothingToRestore { option }) => write!(
                f,
                "failed to restore: with {option} records are in no file; leave {option} out"
            ),
        }
    }
}

impl From<NothingToRestore> for ArgumentError {
    fn from(error: NothingToRestore) -> Self {
        Self::Restore(error)
    }
}

impl From<lexopt::Error> for ArgumentError {
    fn from(error: lexopt::Error) -> Self {
        Self::Syntax(error)
    }
}

/// Reads the command line; `None` if it asks for help.
fn read(
    args: Vec<String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<Arguments>, ArgumentError> {
    use lexopt::Arg::{Long, Short, Value};
    let text = |value: OsString| value.to_string_lossy().into_owned();
    let mut profile = "default".to_owned();
    let mut dir = env("IPP_PROFILE_DIR").map(PathBuf::from);
    let mut ipython_dir = env("IPYTHONDIR").map(PathBuf::from);
    let mut settings = Settings::new(&PathBuf::new());
    settings.cluster_id = env("IPP_CLUSTER_ID").unwrap_or_default();
    settings.key = env("IPP_SESSION_KEY").filter(|key| !key.is_empty());
    let mut enable_curve = env("IPP_ENABLE_CURVE").is_some_and(|value| value == "1");
    let mut level = LevelFilter::INFO;
    let mut ignored = Vec::new();
    let mut database = Database::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help" | "help-all") | Short('h') => return Ok(None),
            Long("profile") => profile = text(parser.value()?),
            Long("profile-dir") => dir = Some(parser.value()?.into()),
            Long("ipython-dir") => ipython_dir = Some(parser.value()?.into()),
            Long("cluster-id" | "IPController.cluster_id") => {
                settings.cluster_id = text(parser.value()?);
            }
            Long("ip" | "IPController.ip") => settings.ip = text(parser.value()?),
            Long("location" | "IPController.location") => {
                settings.location = Some(text(parser.value()?));
            }
            Long("ping" | "HeartMonitor.period") => {
                settings.ping = read_millis("--ping", &text(parser.value()?))?;
            }
            Long("lost-after") => {
                let value = text(parser.value()?);
                settings.lost_after = read_millis("--lost-after", &value)?;
            }
            Long("hwm" | "TaskScheduler.hwm") => settings.hwm = read_hwm(&text(parser.value()?))?,
            Long("peer-mib") => settings.peer_bytes = read_mib(&text(parser.value()?))?,
            Long("scheme" | "TaskScheduler.scheme_name") => {
                settings.scheme = read_scheme(&text(parser.value()?))?;
            }
            Long("reuse") => settings.reuse = true,
            Long("enable-curve") => enable_curve = parser.optional_value().is_none_or(is_yes),
            Long("IPController.enable_curve") => enable_curve = is_yes(parser.value()?),
            Long("log-level") => level = read_level(&text(parser.value()?))?,
            Long("debug") => level = LevelFilter::DEBUG,
            Long("quiet") => level = LevelFilter::ERROR,
            Long(name) if Database::takes(name) => {
                let name = name.to_owned();
                database.read(&name, &mut parser)?;
            }
            Long(name) => {
                let name = format!("--{name}");
                let value = parser.optional_value().map(text);
                ignored.push(value.map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            }
            Short(name) => ignored.push(format!("-{name}")),
            Value(value) => ignored.push(text(value)),
        }
    }
    if enable_curve {
        settings.curve = Some(curve_key(env("IPP_CURVE_SECRETKEY"))?);
    }
    let home = || env("HOME").map(|home| PathBuf::from(home).join(".ipython"));
    let in_home = || Some(profile_dir(&ipython_dir.or_else(home)?, &profile));
    let dir = dir.or_else(in_home).ok_or(ArgumentError::NoHome)?;
    settings.client_file = client_file_path(&dir, &settings.cluster_id);
    settings.engine_file = engine_file_path(&dir, &settings.cluster_id);
    database.choose(&dir.join("security"), &mut settings)?;
    Ok(Some(Arguments { settings, level, ignored }))
}

fn is_yes(value: OsString) -> bool {
    value.eq_ignore_ascii_case("true") || value == "1"
}

/// The key of the controller: the one given, or a new one.
fn curve_key(given: Option<String>) -> Result<ServerKey, ArgumentError> {
    if !crate::wire::curve::is_available() {
        return Err(ArgumentError::NoCurve);
    }
    match given.filter(|text| !text.is_empty()) {
        Some(text) => ServerKey::read(&text).ok_or(ArgumentError::CurveKey),
        None => Ok(ServerKey::random()),
    }
}

fn read_millis(option: &'static str, value: &str) -> Result<Duration, ArgumentError> {
    let millis = value.parse::<u64>().ok().filter(|millis| *millis > 0);
    millis.map(Duration::from_millis).ok_or_else(|| ArgumentError::Value {
        option,
        value: value.to_owned(),
        wanted: "a number of milliseconds",
    })
}

fn read_mib(value: &str) -> Result<usize, ArgumentError> {
    let mib = value.parse::<usize>().ok().filter(|mib| *mib > 0);
    let bytes = mib.and_then(|mib| mib.checked_mul(1 << 20));
    bytes.ok_or_else(|| ArgumentError::Value {
        option: "--peer-mib",
        value: value.to_owned(),
        wanted: "a number of MiB",
    })
}

fn read_hwm(value: &str) -> Result<Hwm, ArgumentError> {
    if value == "auto" {
        return Ok(Hwm::Auto);
    }
    let limit = value.parse::<u32>().map_err(|_| ArgumentError::Value {
        option: "--hwm",
        value: value.to_owned(),
        wanted: "auto, or a number of tasks",
    })?;
    Ok(if limit == 0 { Hwm::Unlimited } else { Hwm::Fixed(limit) })
}

fn read_scheme(value: &str) -> Result<Scheme, ArgumentError> {
    let named = Scheme::NAMES.iter().find(|(_, name)| *name == value);
    named.map(|(scheme, _)| *scheme).ok_or_else(|| ArgumentError::Value {
        option: "--scheme",
        value: value.to_owned(),
        wanted: "leastload, lru, plainrandom, twobin or weighted",
    })
}

fn read_level(value: &str) -> Result<LevelFilter, ArgumentError> {
    Ok(match value.to_ascii_lowercase().as_str() {
        "trace" | "0" => LevelFilter::TRACE,
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

/// Says something to the person at the terminal and hands the exit code on.
fn say(text: &dyn fmt::Display, code: i32) -> i32 {
    use std::io::Write;
    // Nobody is left to be told that the terminal is gone.
    let _ = write!(std::io::stderr(), "{text}");
    code
}

#[cfg(test)]
mod tests {
    use super::super::PING;
    use super::*;

    fn read_line(line: &str) -> Arguments {
        let args = line.split_whitespace().map(str::to_owned).collect();
        let env = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
        read(args, env).unwrap().unwrap()
    }

    #[test]
    fn the_command_line_of_the_stock_tests_is_understood() {
        let arguments = read_line("--profile=iptest --log-level=10 --ping=250 --dictdb");
        let settings = &arguments.settings;
        let security = "/home/ada/.ipython/profile_iptest/security";
        assert_eq!(settings.client_file, PathBuf::from(security).join("ipcontroller-client.json"));
        assert_eq!(settings.ping, Duration::from_millis(250));
        assert_eq!(arguments.level, LevelFilter::DEBUG);
        assert!(arguments.ignored.is_empty());
    }

    #[test]
    fn a_launcher_may_separate_values_and_add_traits() {
        let line = "--profile-dir /tmp/p --cluster-id 7 --IPController.use_threads=True --port=9";
        let arguments = read_line(line);
        let expected = PathBuf::from("/tmp/p/security/ipcontroller-7-engine.json");
        assert_eq!(arguments.settings.engine_file, expected);
        assert_eq!(arguments.ignored, ["--IPController.use_threads=True", "--port=9"]);
        assert_eq!(arguments.settings.ping, PING);
    }

    #[test]
    fn a_scheme_and_a_limit_are_read_as_aliases_and_as_traits() {
        let aliases = read_line("--scheme=twobin --hwm=0 --restore");
        let traits = read_line("--TaskScheduler.scheme_name=twobin --TaskScheduler.hwm=0 --reuse");
        for Arguments { settings, ignored, .. } in [aliases, traits] {
            assert_eq!((settings.scheme, settings.hwm), (Scheme::TwoBin, Hwm::Unlimited));
            assert!(settings.reuse && ignored.is_empty(), "{ignored:?}");
        }
        assert_eq!(read_line("").settings.scheme.name(), "leastload");
    }

    #[test]
    fn the_database_is_chosen_as_for_ipcontroller() {
        let store = |line: &str| {
            let Settings { store, restore, reuse, keeps_finished, .. } =
                read_line(&format!("--profile-dir=/p {line}")).settings;
            (store.map(|path| path.display().to_string()), restore, reuse, keeps_finished)
        };
        let at = |path: &str| Some(path.to_owned());
        assert_eq!(store(""), (None, false, false, true));
        assert_eq!(store("--reuse --dictdb"), (None, false, true, true));
        assert_eq!(store("--nodb"), (None, false, false, false));
        assert_eq!(store("--sqlitedb"), (at("/p/security/tasks.db"), false, false, true));
        let restored = store("--restore --cluster-id=7");
        assert_eq!(restored, (at("/p/security/tasks-7.db"), true, true, true));
        let named = store("--sqlitedb --SQLiteDB.location /q --SQLiteDB.filename=r.db");
        assert_eq!(named, (at("/q/r.db"), false, false, true));
        let lost = ["--profile-dir=/p", "--restore", "--dictdb"].map(str::to_owned).to_vec();
        let error = read(lost, |_| None).unwrap_err().to_string();
        assert!(error.contains("leave --dictdb out"), "{error}");
    }

    #[test]
    fn who_listens_to_other_machines_is_told_what_that_means() {
        for line in ["", "--ip=127.0.0.1", "--ip=localhost", "--ip=::1"] {
            assert_eq!(exposure(&read_line(line).settings), None, "{line}");
        }
        for ip in ["*", "0.0.0.0", "10.0.0.7", "node7"] {
            let said = exposure(&read_line(&format!("--ip={ip}")).settings).unwrap();
            assert!(said.contains(ip) && said.contains("--enable-curve"), "{said}");
        }
        let said = exposure(&read_line("--ip=* --enable-curve").settings).unwrap();
        assert!(said.contains("encrypted"), "{said}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named() {
        let lines =
            ["--ping=0", "--lost-after=soon", "--hwm=many", "--scheme=pure", "--log-level=loud"];
        for line in lines {
            let error = read(vec![line.to_owned()], |_| None).unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
    }
}
