//! Magics about the notebook itself: its variables, how values are shown, how long things take,
//! optimisation, environment, versions.

use super::Executor;
use super::job::{Performed, Stage, Step};
use super::tell::Fault;
use crate::cell::Namespace;
use crate::cell::diagnostic::short;
use crate::kernel::magics::Env;

impl Executor {
    /// Has the job take these steps next, in this order.
    pub(super) fn then<const N: usize>(&mut self, steps: [Step; N]) {
        if let Some(job) = &mut self.job {
            steps.into_iter().rev().for_each(|step| job.steps.push_front(step));
        }
    }

    /// `%vars`: of this notebook, or of the engines named.
    pub(super) fn vars(&mut self, targets: Option<&str>) -> Performed {
        let Some(targets) = targets else {
            return self.show(self.table(&self.namespace));
        };
        let mut texts = Vec::new();
        for (engine, namespace) in self.known_namespaces(targets)? {
            texts.push(format!("engine {engine}:\n{}", self.table(&namespace)));
        }
        self.show(texts.join("\n\n"))
    }

    fn table(&self, namespace: &Namespace) -> String {
        if namespace.variables.is_empty() {
            return "no variables".to_owned();
        }
        let head = ["name", "type", "bytes", "cell"].map(str::to_owned);
        let rows = namespace.variables.iter().map(|(name, variable)| {
            let name = if variable.mutable { format!("mut {name}") } else { name.clone() };
            let bytes = self.sizes.get(&variable.type_text).map(ToString::to_string);
            let bytes = bytes.unwrap_or_default();
            [name, short(&variable.type_text), bytes, variable.cell.clone()]
        });
        let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let [first, second, third] = [0, 1, 2].map(|column| width(column).unwrap_or(0));
        let line = |[name, type_text, bytes, cell]: &[String; 4]| {
            format!("{name:first$}  {type_text:second$}  {bytes:>third$}  {cell}")
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What a run of the worker says about its variables: a line `BYTES NAME` for each.
    pub(super) fn learn_sizes(&mut self, said: &[u8]) {
        for line in String::from_utf8_lossy(said).lines() {
            let Some((bytes, name)) = line.split_once(' ') else { continue };
            let variable = self.namespace.variables.get(name);
            if let (Some(variable), Ok(bytes)) = (variable, bytes.parse()) {
                self.sizes.insert(variable.type_text.clone(), bytes);
            }
        }
    }

    pub(super) fn show_type(&self, name: &str) -> Performed {
        match self.namespace.variables.get(name.trim()) {
            Some(variable) => self.show(short(&variable.type_text)),
            None => Err(Fault::new("NameError", format!("there is no variable `{name}`"))),
        }
    }

    pub(super) fn set_format(&mut self, format: &str) {
        let code = format!("::prust_runtime::show::set_format({format:?});");
        self.tell_worker("%fmt", code);
    }

    pub(super) fn toggle_types(&mut self) -> Performed {
        self.types = !self.types;
        self.tell_worker("%types", format!("::prust_runtime::show::set_types({});", self.types));
        let state = if self.types { "on: values are shown with their types" } else { "off" };
        self.show(format!("types are {state}"))
    }

    /// Runs code of ours, now and in every later worker.
    fn tell_worker(&mut self, what: &str, code: String) {
        self.told.insert(what.to_owned(), code.clone());
        self.then([Step::Local(code)]);
    }

    /// A fresh worker is told what the one before was.
    pub(super) fn tell_again(&mut self) {
        let all: Vec<String> = self.told.values().cloned().collect();
        if !all.is_empty() {
            self.then([Step::Local(all.join("\n"))]);
        }
    }

    pub(super) fn toggle_timing(&mut self) -> Performed {
        self.timing = !self.timing;
        if let Some(job) = &mut self.job {
            job.steps.retain(|step| !matches!(step, Step::Time));
        }
        self.show(match self.timing {
            true => "timing is on: every cell is followed by how long it took",
            false => "timing is off",
        })
    }

    pub(super) fn say_time(&self) -> Performed {
        if let Some(job) = &self.job {
            let (compiling, running) = (job.times.compiling, job.times.running);
            let text = format!("compile {compiling:.3?}, run {running:.3?}\n");
            self.print(None, false, text);
        }
        Ok(())
    }

    pub(super) fn set_opt(&mut self, level: Option<Option<u8>>) -> Performed {
        let Some(compiler) = &self.compiler else { return Ok(()) };
        if let Some(level) = level {
            compiler.set_opt_level(level);
            return Ok(());
        }
        match compiler.opt_level() {
            Some(chosen) => self.show(format!("optimisation level {chosen} for everything")),
            None => self.show(
                "optimisation level 2 for items, 1 for statements with a loop or a closure, else 0",
            ),
        }
    }

    pub(super) fn env(&mut self, env: Env) -> Performed {
        // The cells' environment is the worker's, not this process's.
        let code = match env {
            Env::Set { name, value } => {
                let code = format!("unsafe {{ ::std::env::set_var({name:?}, {value:?}) }};");
                self.tell_worker(&format!("%env {name}"), code);
                return Ok(());
            }
            Env::Show { name } => format!(
                "match ::std::env::var_os({name:?}) {{ \
                 ::std::option::Option::Some(value) => ::std::println!(\"{{}}\", value.display()), \
                 ::std::option::Option::None => ::std::println!(\"{{}} is not set\", {name:?}) }};"
            ),
            Env::All => "for (__name, __value) in ::std::env::vars_os() { \
                         ::std::println!(\"{}={}\", __name.display(), __value.display()); }"
                .to_owned(),
        };
        self.then([Step::Local(code)]);
        Ok(())
    }

    pub(super) fn show_version(&self) -> Performed {
        let Some(compiler) = &self.compiler else { return Ok(()) };
        let rustc = compiler.version().lines().next().unwrap_or_default();
        self.show(format!("prust {}, {rustc}", env!("CARGO_PKG_VERSION")))
    }

    pub(super) fn show_dependencies(&self) -> Performed {
        let Some(compiler) = &self.compiler else { return Ok(()) };
        let wanted = compiler
            .dependencies(self.namespace.set.as_ref())
            .map_err(|error| Fault::new("ToolchainError", error.to_string()))?;
        match wanted.trim().is_empty() {
            true => self.show("no crates are in use; :dep NAME = \"VERSION\" adds one"),
            false => self.show(wanted.trim()),
        }
    }

    pub(super) fn restart_worker(&mut self) -> Performed {
        self.goes_on_since(0).iter().for_each(|work| self.remark(work));
        self.namespace.variables.clear();
        self.history.forget();
        self.tell_again();
        self.set_stage(Stage::Worker);
        if let Some(worker) = &self.worker {
            worker.restart();
        }
        Ok(())
    }
}
