//! Arguments to one `run()` to an exit code; nothing else.
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use prust_kernel::{controller, engine, kernel, supervisor};

/// A task costs some hundred small pieces of memory, most of them freed by another thread than made
/// them, which costs the C library's allocator a third of the task.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
prust: a Jupyter kernel that computes Rust cells on many engines at once

  prust kernel -f CONNECTION_FILE   a kernel; started by Jupyter
  prust cluster start|stop|list|status|dump
                                    a controller with its engines, which outlives notebooks
  prust controller [options]        a controller, as ipcontroller; --help lists the options
  prust engine [options]            an engine, as ipengine; --help lists the options
  prust install --user | --prefix DIR | --sys-prefix
                                    make the kernel known to Jupyter
  prust doctor                      check that everything it needs is here
  prust --version
";

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.is_empty() {
        return say(&mut std::io::stderr(), HELP, 2);
    }
    let command = args.remove(0);
    let code = match command.to_str() {
        Some("kernel") => kernel::run(args),
        Some("cluster") => supervisor::run(texts(args)),
        Some("controller") => controller::run(texts(args)),
        Some("engine") => engine::run(texts(args)),
        Some("install") => kernel::install::run(args),
        Some("doctor") => kernel::doctor::run(args),
        Some("--version" | "-V" | "version") => {
            let version = concat!("prust ", env!("CARGO_PKG_VERSION"), "\n");
            return say(&mut std::io::stdout(), version, 0);
        }
        Some("--help" | "-h" | "help") => return say(&mut std::io::stdout(), HELP, 0),
        _ => {
            let command = command.to_string_lossy();
            let text = format!("prust: there is no command {command}\n\n{HELP}");
            return say(&mut std::io::stderr(), &text, 2);
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn texts(args: Vec<OsString>) -> Vec<String> {
    args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

fn say(to: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    // A closed pipe is the reader's choice.
    let _ = to.write_all(text.as_bytes());
    ExitCode::from(code)
}
