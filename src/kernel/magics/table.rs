//! Every magic with its options, as data: parsing, completion, `%help` and the nearest-name hint
//! all read this one table.

/// How a magic may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `%name ...` on a line.
    Line,
    /// `%%name ...` above a body.
    Cell,
    Both,
}

#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub short: &'static str,
    pub long: &'static str,
    /// What its value is called; empty for a flag.
    pub value: &'static str,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub name: &'static str,
    pub form: Form,
    /// Also written `:name`, as in evcxr.
    pub colon: bool,
    pub options: &'static [Choice],
    /// What follows the options.
    pub arguments: &'static str,
    /// Words that the first argument may be.
    pub words: &'static [&'static str],
    pub summary: &'static str,
}

const fn flag(short: &'static str, long: &'static str, help: &'static str) -> Choice {
    Choice { short, long, value: "", help }
}

const fn value(
    short: &'static str,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> Choice {
    Choice { short, long, value, help }
}

const TARGETS: Choice =
    value("t", "targets", "TARGETS", "engines: all, 0, 0:3, ::2, 0,2, -1 (the last)");
const BLOCK: Choice = flag("b", "block", "wait for the result");
const NOBLOCK: Choice = flag("a", "noblock", "give an AsyncResult at once");
const PROGRESS_AFTER: Choice =
    value("", "progress-after", "SECONDS", "show progress of work that takes longer");
const SIGNAL: Choice =
    value("", "signal-on-interrupt", "SIGNAL", "what an interrupt sends to the engines");
const OUT: Choice = value("o", "out", "NAME", "store the AsyncResult in a variable");
const VERBOSE: Choice = flag("", "verbose", "say where the work goes");
const STREAM: Choice = flag("", "stream", "show output while it comes");
const NO_STREAM: Choice = flag("", "no-stream", "show output at the end");
const GROUP: Choice =
    value("", "group-outputs", "engine|order|type", "how output is grouped at the end");
const BY_ENGINE: Choice = flag("e", "group-by-engine", "short for --group-outputs engine");
const BY_ORDER: Choice = flag("r", "group-by-order", "short for --group-outputs order");
const LOCAL: Choice = flag("", "local", "run in the notebook's own worker, too");

/// Options of `%px` and `%%px`.
const PX: &[Choice] = &[
    TARGETS,
    BLOCK,
    NOBLOCK,
    LOCAL,
    OUT,
    VERBOSE,
    STREAM,
    NO_STREAM,
    GROUP,
    BY_ENGINE,
    BY_ORDER,
    PROGRESS_AFTER,
    SIGNAL,
];
const PXRESULT: &[Choice] = &[OUT, STREAM, NO_STREAM, GROUP, BY_ENGINE, BY_ORDER];
const PXCONFIG: &[Choice] =
    &[TARGETS, BLOCK, NOBLOCK, VERBOSE, STREAM, NO_STREAM, GROUP, PROGRESS_AFTER, SIGNAL];

const fn spec(name: &'static str, form: Form, summary: &'static str) -> Spec {
    Spec { name, form, colon: false, options: &[], arguments: "", words: &[], summary }
}

impl Spec {
    const fn options(self, options: &'static [Choice]) -> Self {
        Self { options, ..self }
    }

    const fn arguments(self, arguments: &'static str) -> Self {
        Self { arguments, ..self }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    const fn colon(self) -> Self {
        Self { colon: true, ..self }
    }

    /// Whether `%%name` is one.
    pub fn is_cell(&self) -> bool {
        self.form != Form::Line
    }

    /// Whether `%name` is one.
    pub fn is_line(&self) -> bool {
        self.form != Form::Cell
    }

    /// One line: how it is written.
    pub fn usage(&self) -> String {
        let sign = if self.form == Form::Cell { "%%" } else { "%" };
        let mut text = format!("{sign}{}", self.name);
        if !self.options.is_empty() {
            text.push_str(" [options]");
        }
        if !self.arguments.is_empty() {
            text.push(' ');
            text.push_str(self.arguments);
        }
        text
    }
}

/// All magics, in the order in which `%lsmagic` shows them.
pub const MAGICS: &[Spec] = &[
    spec("px", Form::Both, "run code on the engines").options(PX).arguments("CODE"),
    spec("pxresult", Form::Line, "show the result of the last parallel cell again")
        .options(PXRESULT),
    spec("result", Form::Line, "the same as %pxresult").options(PXRESULT),
    spec("pxconfig", Form::Line, "set what %px does without options").options(PXCONFIG),
    spec("autopx", Form::Line, "run every following cell on the engines, until %autopx again"),
    spec("px_cancel", Form::Line, "cancel parallel work: the last, or the one named")
        .arguments("[ID]"),
    spec("px_retry", Form::Line, "run failed tasks again: of the last work, or the one named")
        .arguments("[ID]"),
    spec("cluster", Form::Line, "show, start or stop the engines, or use those of another cluster")
        .options(&[
            value("n", "n", "N", "how many engines"),
            flag("", "detach", "with start: a cluster that outlives the kernel"),
            value("", "cluster-id", "ID", "with start --detach: tells several apart"),
        ])
        .arguments("status | start | stop | restart | attach FILE-or-PROFILE-or-ID | detach")
        .words(&["status", "start", "stop", "restart", "attach", "detach"]),
    spec("dep", Form::Both, "use a crate: rand = \"0.9\", or { version, features, path, git }")
        .arguments("NAME = SPECIFICATION")
        .colon(),
    spec("show_deps", Form::Line, "list the crates in use").colon(),
    spec("vars", Form::Line, "list the variables: name, type, bytes, defining cell")
        .options(&[TARGETS])
        .colon(),
    spec("type", Form::Line, "show the type of a variable").arguments("NAME").colon(),
    spec("types", Form::Line, "show values with their types, or no longer").colon(),
    spec("undo", Form::Line, "go back to before the last cell, and say which"),
    spec("snapshot", Form::Line, "whether the worker is copied before each cell, and the cost")
        .arguments("on | off | auto")
        .words(&["on", "off", "auto"]),
    spec("restart", Form::Line, "start over with a fresh worker").colon(),
    spec("clear", Form::Line, "forget all variables and items").colon(),
    spec("time", Form::Both, "run code and say how long it took").arguments("CODE"),
    spec("timing", Form::Line, "say after every cell how long it took, or no longer").colon(),
    spec("timeit", Form::Both, "run code many times and give the typical and best time")
        .options(&[
            value("n", "loops", "N", "runs per measurement"),
            value("r", "repeat", "N", "measurements"),
        ])
        .arguments("CODE"),
    spec("opt", Form::Both, "the optimisation level of this cell (%%opt) or all that follow")
        .arguments("0 | 1 | 2 | 3 | auto")
        .words(&["0", "1", "2", "3", "auto"])
        .colon(),
    spec("fmt", Form::Line, "how values without a display are shown: {:?}, {:#?}, {:x?}, {:.3?}")
        .arguments("FORMAT")
        .colon(),
    spec("env", Form::Line, "show or set environment variables of the cells")
        .arguments("[NAME[=VALUE]]")
        .colon(),
    spec("writefile", Form::Cell, "write the cell's text into a file")
        .options(&[flag("a", "append", "add to the file")])
        .arguments("PATH"),
    spec("bash", Form::Cell, "run the cell's text with bash"),
    spec("lsmagic", Form::Line, "list the magics"),
    spec("help", Form::Line, "what a cell can say besides Rust").arguments("[MAGIC]").colon(),
    spec("quickref", Form::Line, "one page to remember"),
    spec("version", Form::Line, "the versions of prust and of the compiler").colon(),
];

/// Short names of evcxr's.
const ALIASES: &[(&str, &str)] = &[("t", "type")];

/// The magic of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    MAGICS.iter().find(|spec| spec.name == name)
}
