//! `prust doctor`: looks at everything a notebook needs and says what is missing and what to do.
//! Changes nothing but the cache.
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use super::arguments::{compile_settings, say};
use crate::compile::Compiler;

const HELP: &str = "\
prust doctor: check that cells can be compiled and that Jupyter finds the kernel
";

/// Runs `prust doctor`. Returns 0 if cells can be compiled and run here.
pub fn run(args: Vec<OsString>) -> i32 {
    if let Some(argument) = args.first() {
        let asks = argument == "-h" || argument == "--help";
        return match asks {
            true => say(HELP, 0),
            false => {
                let argument = argument.to_string_lossy();
                say(&format!("prust doctor: it takes no argument {argument}\n"), 2)
            }
        };
    }
    let mut report = Report::default();
    report.row(true, "prust", env!("CARGO_PKG_VERSION"));
    let platform = cfg!(all(target_os = "linux", target_env = "gnu"));
    let system = format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
    report.row(platform, "platform", &system);
    if !platform {
        report.advice("prust runs on Linux with glibc only");
    }
    compiler(&mut report);
    kernelspec(&mut report);
    // Problems belong to the report; it is read as a whole.
    say(&report.text, 0);
    i32::from(report.failed)
}

#[derive(Default)]
struct Report {
    text: String,
    failed: bool,
}

impl Report {
    fn row(&mut self, good: bool, what: &str, found: &str) {
        let mark = if good { "ok  " } else { "FAIL" };
        self.failed |= !good;
        let _ = writeln!(self.text, "{mark}  {what:<10} {found}");
    }

    fn advice(&mut self, text: &str) {
        for line in text.lines() {
            let _ = writeln!(self.text, "                 {line}");
        }
    }
}

/// Opens the compiler as a kernel does: toolchain, shared library of the standard library, cache,
/// worker, base library.
fn compiler(report: &mut Report) {
    let settings = match compile_settings(&|name| std::env::var_os(name)) {
        Ok(settings) => settings,
        Err(problem) => return report.row(false, "cells", &problem),
    };
    let cache = settings.cache.clone();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report.row(false, "cells", &format!("no event loop: {error}")),
    };
    let start = Instant::now();
    match runtime.block_on(Compiler::open(settings)) {
        Ok(compiler) => {
            let version = compiler.version().lines().next().unwrap_or_default().to_owned();
            report.row(true, "rustc", &version);
            report.row(true, "cache", &cache.display().to_string());
            let seconds = start.elapsed().as_secs_f64();
            let worker = compiler.worker().display();
            report.row(true, "worker", &format!("{worker} (ready in {seconds:.1} s)"));
        }
        Err(error) => {
            report.row(false, "cells", "cannot be compiled here");
            report.advice(&error.to_string());
        }
    }
}

/// Where Jupyter would find the kernel. Not finding it is a remark: somebody may start it by path.
fn kernelspec(report: &mut Report) {
    let found = kernel_directories().into_iter().find(|directory| directory.is_dir());
    match found {
        Some(directory) => report.row(true, "jupyter", &directory.display().to_string()),
        None => {
            report.row(true, "jupyter", "does not know the kernel yet");
            report.advice("run `prust install --user`, or --sys-prefix in an environment");
        }
    }
}

/// Where `kernels/prust` may be, in Jupyter's order.
fn kernel_directories() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut data: Vec<PathBuf> = Vec::new();
    if let Some(paths) = set("JUPYTER_PATH") {
        data.extend(std::env::split_paths(&paths));
    }
    data.extend(set("JUPYTER_DATA_DIR").map(PathBuf::from));
    data.extend(set("XDG_DATA_HOME").map(|home| PathBuf::from(home).join("jupyter")));
    data.extend(set("HOME").map(|home| PathBuf::from(home).join(".local/share/jupyter")));
    for environment in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        data.extend(set(environment).map(|prefix| PathBuf::from(prefix).join("share/jupyter")));
    }
    data.push("/usr/local/share/jupyter".into());
    data.push("/usr/share/jupyter".into());
    data.into_iter().map(|data| data.join("kernels").join("prust")).collect()
}
