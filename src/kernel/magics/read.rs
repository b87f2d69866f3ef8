//! From a cell's text to its magics and its Rust, typed. An unknown magic or option is a problem
//! that names the nearest one.
use std::time::Duration;

use super::super::seam::Outcome;
use super::outline::{
    Line, front_matter, has_raw_body, is_shebang, keep, lines, name_of, without_first,
};
use super::table::{MAGICS, Spec, find};
use super::words::{self, Words, nearest};
use super::{Cell, CellMagic, Cluster, Env, GroupBy, Magic, Part, PxOptions, TimeitOptions};
use crate::worker::Snapshots;

/// Why a cell's magics could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl Problem {
    /// The error a frontend shows.
    pub fn outcome(self, label: &str) -> Outcome {
        let Self { line, message } = self;
        let ename = "UsageError".to_owned();
        let traceback = vec![format!("\u{1b}[31m{ename}\u{1b}[0m: {message}\n --> {label}:{line}")];
        Outcome::Error { ename, evalue: message, traceback }
    }
}

/// Takes a cell apart. `is_name`: whether the cell could mean a variable or an item by a word.
pub fn read(text: &str, is_name: &dyn Fn(&str) -> bool) -> Result<Cell, Problem> {
    let mut cell = Cell::default();
    let n_wraps = read_wraps(text, &mut cell)?;
    let Some(n_wraps) = n_wraps else { return Ok(cell) };
    let mut text = without_first(text, n_wraps);
    let mut directives = Vec::new();
    let n_front = front_matter(&text).ok_or_else(|| Problem {
        line: 1,
        message: "the front matter that begins with --- has no closing ---".to_owned(),
    })?;
    if n_front > 0 {
        let fenced =
            |line: &&str| !line.starts_with("---") && !line.is_empty() && !is_shebang(line);
        let table: Vec<&str> = text.lines().take(n_front).filter(fenced).collect();
        if !table.is_empty() {
            let magic = Magic::Dep { text: table.join("\n"), manifest: true };
            directives.push(Part::Magic { line: n_wraps + 1, magic });
        }
        text = without_first(&text, n_front);
    }
    let mut parts = read_lines(&text, is_name, &mut directives)?;
    cell.parts.append(&mut directives);
    cell.parts.append(&mut parts);
    Ok(cell)
}

/// Reads the `%%` lines at the top; how many lines they take, or `None` if the rest is theirs.
fn read_wraps(text: &str, cell: &mut Cell) -> Result<Option<usize>, Problem> {
    let mut n_lines = 0;
    for (n, line) in text.lines().enumerate() {
        let line_text = line.trim();
        if line_text.is_empty() {
            continue;
        }
        let Some(magic) = line_text.strip_prefix("%%") else { break };
        let problem = |message: String| Problem { line: n + 1, message };
        let name = name_of(magic);
        let spec = find(name).filter(|spec| spec.is_cell());
        let spec = spec.ok_or_else(|| problem(unknown("%%", name)))?;
        let body = || text.lines().skip(n + 1).map(|line| format!("{line}\n")).collect::<String>();
        let wrap = cell_magic(spec, magic[name.len()..].trim(), &body).map_err(problem)?;
        n_lines = n + 1;
        match wrap {
            Wrap::Cell(wrap) => cell.wraps.push(wrap),
            Wrap::Line(magic) => cell.parts.push(Part::Magic { line: n + 1, magic }),
        }
        if has_raw_body(name) {
            return Ok(None);
        }
    }
    Ok(Some(n_lines))
}

fn read_lines(
    text: &str,
    is_name: &dyn Fn(&str) -> bool,
    directives: &mut Vec<Part>,
) -> Result<Vec<Part>, Problem> {
    let kinds = lines(text, is_name);
    let mut parts = Vec::new();
    let mut from = 0;
    for (n, kind) in kinds.iter().enumerate() {
        let line = n + 1;
        let problem = |message: String| Problem { line, message };
        let magic = match kind {
            Line::Rust | Line::Continued => continue,
            Line::Bang(command) => Magic::Shell { command: command.trim().to_owned() },
            Line::Percent(magic) | Line::Colon(magic) => {
                let colon = matches!(kind, Line::Colon(_));
                let continued = kinds[n + 1..].iter().take_while(|kind| **kind == Line::Continued);
                let more: Vec<&str> = text.lines().skip(line).take(continued.count()).collect();
                let mut magic = (*magic).to_owned();
                for line in more {
                    magic.push('\n');
                    magic.push_str(line);
                }
                let read = line_magic(&magic, colon).map_err(problem)?;
                in_place(read, n, text.lines().nth(n).unwrap_or_default())
            }
        };
        let part = Part::Magic { line, magic };
        if matches!(&part, Part::Magic { magic, .. } if magic.is_directive()) {
            directives.push(part);
            continue;
        }
        push_code(text, &kinds, from, n, &mut parts);
        from = n + 1;
        parts.push(part);
    }
    push_code(text, &kinds, from, kinds.len(), &mut parts);
    Ok(parts)
}

/// Puts the code of a line's magic where it stands in the cell, so that errors point at it.
fn in_place(mut magic: Magic, n_lines_above: usize, line: &str) -> Magic {
    if let Magic::Time { code } | Magic::Timeit { code, .. } = &mut magic {
        let before = line.trim_end().strip_suffix(code.as_str()).unwrap_or_default();
        let blank: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
        *code = format!("{}{blank}{code}", "\n".repeat(n_lines_above));
    }
    magic
}

/// The Rust between two magics, if there is any.
fn push_code(text: &str, kinds: &[Line<'_>], from: usize, to: usize, parts: &mut Vec<Part>) {
    let code = keep(text, kinds, |n| (from..to).contains(&n));
    if !code.trim().is_empty() {
        parts.push(Part::Code(code));
    }
}

enum Wrap {
    Cell(CellMagic),
    Line(Magic),
}

fn cell_magic(spec: &Spec, text: &str, body: &dyn Fn() -> String) -> Result<Wrap, String> {
    let code_below = matches!(spec.name, "px" | "time" | "timeit" | "bash");
    let words = words::read(spec, text, code_below)?;
    if code_below && !words.rest.is_empty() {
        return Err(misplaced(spec, &words.rest));
    }
    let magic = match spec.name {
        "px" => CellMagic::Px(px_options(&words)?),
        "time" => CellMagic::Time,
        "timeit" => CellMagic::Timeit(timeit_options(&words)?),
        "opt" => match opt_level(&words)? {
            Some(level) => CellMagic::Opt(level),
            None => return Err("%%opt needs a level: 0, 1, 2, 3 or auto".to_owned()),
        },
        "writefile" => {
            let path = one_argument(spec, &words)?;
            CellMagic::WriteFile { path, append: words.has("append"), body: body() }
        }
        "bash" => CellMagic::Bash { body: body() },
        "dep" => {
            let text = format!("{}\n{}", words.rest, body()).trim().to_owned();
            return Ok(Wrap::Line(Magic::Dep { text, manifest: false }));
        }
        other => return Err(format!("%%{other} is not known as a cell magic")),
    };
    Ok(Wrap::Cell(magic))
}

/// Code behind a `%%` magic would be neither the cell's nor the line's.
fn misplaced(spec: &Spec, code: &str) -> String {
    let name = spec.name;
    let or = if spec.is_line() { format!(", or write %{name} {code}") } else { String::new() };
    format!("%%{name} takes no argument {code}; put code on the lines below{or}")
}

fn line_magic(text: &str, colon: bool) -> Result<Magic, String> {
    let sign = if colon { ":" } else { "%" };
    if let Some(text) = text.strip_prefix('%') {
        let name = name_of(text);
        return Err(match find(name) {
            Some(spec) if spec.is_cell() => format!("%%{name} has to be the cell's first line"),
            Some(_) => format!("{name} is written with one %: %{name}"),
            None => unknown("%%", name),
        });
    }
    let name = name_of(text);
    let known = |spec: &&Spec| spec.is_line() && (!colon || spec.colon);
    let spec = find(name).filter(known).ok_or_else(|| unknown(sign, name))?;
    let rest = text[name.len()..].trim();
    if name == "dep" {
        return match rest.is_empty() {
            true => Err(format!("{sign}dep needs a crate, for example {sign}dep rand = \"0.9\"")),
            false => Ok(Magic::Dep { text: rest.to_owned(), manifest: false }),
        };
    }
    let takes_code = matches!(name, "px" | "time" | "timeit");
    let words = words::read(spec, rest, takes_code)?;
    typed(spec, &words)
}

fn typed(spec: &Spec, words: &Words) -> Result<Magic, String> {
    let none = |magic: Magic| no_arguments(spec, words).map(|()| magic);
    let code = || match words.rest.is_empty() {
        true => Err(format!("%{} needs code behind it on the line", spec.name)),
        false => Ok(words.rest.clone()),
    };
    match spec.name {
        "px" => Ok(Magic::Px { options: px_options(words)?, code: code()? }),
        "pxresult" | "result" => none(Magic::PxResult(px_options(words)?)),
        "pxconfig" => none(Magic::PxConfig(px_options(words)?)),
        "autopx" => none(Magic::AutoPx),
        "px_cancel" => Ok(Magic::PxCancel { submission: submission(spec, words)? }),
        "px_retry" => Ok(Magic::PxRetry { submission: submission(spec, words)? }),
        "cluster" => cluster(spec, words).map(Magic::Cluster),
        "vars" => none(Magic::Vars { targets: words.value("targets").map(str::to_owned) }),
        "type" => Ok(Magic::Type { name: one_argument(spec, words)? }),
        "undo" => none(Magic::Undo),
        "snapshot" => match words.rest.as_str() {
            "" => Ok(Magic::Snapshot(None)),
            "on" => Ok(Magic::Snapshot(Some(Snapshots::Always))),
            "off" => Ok(Magic::Snapshot(Some(Snapshots::Never))),
            "auto" => Ok(Magic::Snapshot(Some(Snapshots::Sized))),
            other => Err(format!("%snapshot is on, off or auto, not {other}")),
        },
        "restart" => none(Magic::Restart),
        "clear" => none(Magic::Clear),
        "time" => Ok(Magic::Time { code: code()? }),
        "timeit" => Ok(Magic::Timeit { options: timeit_options(words)?, code: code()? }),
        "opt" => opt_level(words).map(Magic::Opt),
        "fmt" => match prust_runtime::show::is_format(&words.rest) {
            true => Ok(Magic::Fmt { format: words.rest.clone() }),
            false => Err("%fmt takes a format of Debug: {:?}, {:#?}, {:x?}, {:.3?}".to_owned()),
        },
        "types" => none(Magic::Types),
        "timing" => none(Magic::Timing),
        "show_deps" => none(Magic::ShowDeps),
        "version" => none(Magic::Version),
        "env" => env(words).map(Magic::Env),
        "lsmagic" => none(Magic::LsMagic),
        "help" => Ok(Magic::Help { topic: words.arguments.first().cloned() }),
        "quickref" => none(Magic::QuickRef),
        other => Err(format!("%{other} is not known as a line magic")),
    }
}

fn px_options(words: &Words) -> Result<PxOptions, String> {
    let text = |name: &str| words.value(name).map(str::to_owned);
    let either = |yes: &str, no: &str| match (words.has(yes), words.has(no)) {
        (true, true) => Err(format!("--{yes} and --{no} contradict each other")),
        (false, false) => Ok(None),
        (is_yes, _) => Ok(Some(is_yes)),
    };
    let group = match words.value("group-outputs") {
        None if words.has("group-by-engine") => Some(GroupBy::Engine),
        None if words.has("group-by-order") => Some(GroupBy::Order),
        None => None,
        Some("engine") => Some(GroupBy::Engine),
        Some("order") => Some(GroupBy::Order),
        Some("type") => Some(GroupBy::Type),
        Some(other) => {
            return Err(format!("--group-outputs is engine, order or type, not {other}"));
        }
    };
    let progress_after = match words.value("progress-after") {
        None => None,
        Some(seconds) => {
            let seconds = seconds.parse().ok().filter(|seconds: &f64| *seconds >= 0.0);
            let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Some(duration.ok_or("--progress-after takes seconds, for example 0.5")?)
        }
    };
    if let Some(name) =
        words.value("out").filter(|name| syn::parse_str::<syn::Ident>(name).is_err())
    {
        return Err(format!("--out takes the name of a variable, not {name}"));
    }
    Ok(PxOptions {
        targets: text("targets"),
        block: either("block", "noblock")?,
        local: words.has("local"),
        out: text("out"),
        verbose: words.has("verbose").then_some(true),
        stream: either("stream", "no-stream")?,
        group,
        progress_after,
        signal_on_interrupt: text("signal-on-interrupt"),
    })
}

fn cluster(spec: &Spec, words: &Words) -> Result<Cluster, String> {
    let n = match words.value("n") {
        None => None,
        Some(text) => match text.parse::<u32>() {
            Ok(n) if n > 0 => Some(n),
            _ => return Err(format!("-n takes how many engines to start, not {text}")),
        },
    };
    let detach = words.has("detach");
    let command = words.arguments.first().map_or("status", String::as_str);
    let n_arguments = if command == "attach" { 2 } else { 1 };
    if let Some(extra) = words.arguments.get(n_arguments) {
        return Err(format!("%cluster {command} takes no {extra}"));
    }
    let cluster_id = words.value("cluster-id").map(str::to_owned);
    if cluster_id.is_some() && !detach {
        return Err("option --cluster-id belongs to start --detach".to_owned());
    }
    if command != "start" && (n.is_some() || detach) {
        return Err(format!("options -n and --detach belong to start, not to {command}"));
    }
    match command {
        "status" => Ok(Cluster::Status),
        "start" => Ok(Cluster::Start { n, detach, cluster_id }),
        "stop" => Ok(Cluster::Stop),
        "restart" => Ok(Cluster::Restart),
        "attach" => {
            match words.arguments.get(1) {
                Some(to) => Ok(Cluster::Attach { to: to.clone() }),
                None => Err("%cluster attach needs a connection file, a profile or a cluster's id"
                    .to_owned()),
            }
        }
        "detach" => Ok(Cluster::Detach),
        other => Err(match nearest(other, spec.words.iter().copied()) {
            Some(near) => format!("%cluster knows no {other}; did you mean {near}?"),
            None => format!("%cluster knows no {other}; it has {}", spec.words.join(", ")),
        }),
    }
}

fn env(words: &Words) -> Result<Env, String> {
    let rest = words.rest.as_str();
    let (name, value) = match rest.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => match rest.split_once(char::is_whitespace) {
            Some((name, value)) => (name, Some(value.trim())),
            None => (rest, None),
        },
    };
    if name.contains('\0') || (name.is_empty() && value.is_some()) {
        return Err("%env takes NAME or NAME=VALUE".to_owned());
    }
    let name = name.to_owned();
    Ok(match value {
        Some(value) => Env::Set { name, value: value.trim_matches('"').to_owned() },
        None if name.is_empty() => Env::All,
        None => Env::Show { name },
    })
}

fn timeit_options(words: &Words) -> Result<TimeitOptions, String> {
    let number = |name: &str| match words.value(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(n) if n > 0 => Ok(Some(n)),
            _ => Err(format!("--{name} takes a number from 1, not {text}")),
        },
    };
    Ok(TimeitOptions { loops: number("loops")?, repeat: number("repeat")? })
}

fn opt_level(words: &Words) -> Result<Option<Option<u8>>, String> {
    match words.rest.as_str() {
        "" => Ok(None),
        "auto" => Ok(Some(None)),
        "0" => Ok(Some(Some(0))),
        "1" => Ok(Some(Some(1))),
        "2" => Ok(Some(Some(2))),
        "3" => Ok(Some(Some(3))),
        other => Err(format!("%opt takes 0, 1, 2, 3 or auto, not {other}")),
    }
}

fn submission(spec: &Spec, words: &Words) -> Result<Option<u64>, String> {
    match words.rest.as_str() {
        "" => Ok(None),
        text => match text.parse() {
            Ok(submission) => Ok(Some(submission)),
            Err(_) => Err(format!("%{} takes the number of the work, not {text}", spec.name)),
        },
    }
}

fn one_argument(spec: &Spec, words: &Words) -> Result<String, String> {
    match words.arguments.as_slice() {
        [argument] => Ok(argument.clone()),
        _ => Err(format!("write it as {}", spec.usage())),
    }
}

fn no_arguments(spec: &Spec, words: &Words) -> Result<(), String> {
    match words.arguments.first() {
        None => Ok(()),
        Some(argument) => Err(format!("%{} takes no argument {argument}", spec.name)),
    }
}

fn unknown(sign: &str, name: &str) -> String {
    let known = MAGICS.iter().filter(|spec| match sign {
        "%%" => spec.is_cell(),
        ":" => spec.colon,
        _ => spec.is_line(),
    });
    match (name, nearest(name, known.map(|spec| spec.name))) {
        ("", _) => format!("{sign} needs the name of a magic; %lsmagic lists them"),
        (_, Some(near)) => format!("there is no {sign}{name}; did you mean {sign}{near}?"),
        (_, None) => format!("there is no {sign}{name}; %lsmagic lists what there is"),
    }
}
