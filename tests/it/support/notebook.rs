//! A notebook without a kernel: cells through compiler and worker.

use std::path::PathBuf;
use std::time::Duration;

use prust_kernel::cell::plan::leaf::ENTRY;
use prust_kernel::cell::{Delta, Diagnostic, Namespace};
use prust_kernel::compile::{Cell, Compiler, Failed, Settings};
use prust_kernel::worker::{self, DisplayKind, Outcome, Std, Worker, WorkerEvent};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// No event of a worker takes longer, even on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a cell showed.
#[derive(Debug, Default)]
pub struct Shown {
    pub value: Option<String>,
    pub stdout: String,
    pub stderr: String,
    pub warnings: Vec<Diagnostic>,
}

/// How a cell failed.
#[derive(Debug)]
pub enum Fault {
    Compile(Vec<Diagnostic>),
    Run(Outcome),
}

pub struct Notebook {
    pub compiler: Compiler,
    pub worker: Worker,
    pub events: UnboundedReceiver<WorkerEvent>,
    pub namespace: Namespace,
    pub n_cells: u64,
    /// The frontend's id of the cell that is run next.
    pub key: String,
}

impl Notebook {
    pub async fn open() -> Self {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
        let settings = Settings {
            cache: target.join("test-cache/prust"),
            rustc: None,
            cargo: None,
            cwd: std::env::temp_dir(),
            toolchain: None,
        };
        let compiler = Compiler::open(settings).await.expect("this machine can build cells");
        let config = worker::Config {
            exe: compiler.worker().to_owned(),
            cwd: std::env::temp_dir(),
            env: Vec::new(),
            snapshot_bytes_max: 1 << 30,
            ahead_bytes_max: worker::AHEAD_BYTES_MAX,
        };
        let (worker, events) = worker::start(config).expect("a worker can be started");
        Self {
            compiler,
            worker,
            events,
            namespace: Namespace::default(),
            n_cells: 0,
            key: String::new(),
        }
    }

    /// Compiles and starts a cell; `None` when it runs nothing.
    pub async fn start(&mut self, text: &str) -> Result<(Option<Delta>, Shown), Fault> {
        self.n_cells += 1;
        let label = format!("In[{}]", self.n_cells);
        let compiled = match self
            .compiler
            .cell(&self.namespace, Cell { text, label: &label, key: &self.key })
            .await
        {
            Ok(compiled) => compiled,
            Err(Failed::Errors(errors)) => return Err(Fault::Compile(errors)),
            Err(Failed::World(error)) => panic!("{error}"),
        };
        let shown = Shown { warnings: compiled.warnings, ..Shown::default() };
        let Some(library) = compiled.library else {
            self.namespace.apply(&compiled.delta);
            return Ok((None, shown));
        };
        self.worker.run(self.n_cells, &library, ENTRY);
        Ok((Some(compiled.delta), shown))
    }

    pub async fn run(&mut self, text: &str) -> Result<Shown, Fault> {
        let (delta, mut shown) = self.start(text).await?;
        let Some(delta) = delta else { return Ok(shown) };
        loop {
            let event =
                timeout(DEADLINE, self.events.recv()).await.expect("the worker says something");
            match event.expect("the worker's host lives") {
                WorkerEvent::Output { stream: Std::Out, text } => shown.stdout += &text,
                WorkerEvent::Output { stream: Std::Err, text } => shown.stderr += &text,
                WorkerEvent::Display { kind: DisplayKind::Result, data, .. } => {
                    shown.value = data.into_iter().next().map(|(_, text)| text);
                }
                WorkerEvent::Done { run, outcome } => {
                    assert_eq!(run, self.n_cells);
                    return match outcome {
                        Outcome::Ok { .. } => {
                            self.namespace.apply(&delta);
                            Ok(shown)
                        }
                        failed => Err(Fault::Run(failed)),
                    };
                }
                _ => (),
            }
        }
    }

    #[track_caller]
    pub fn value(shown: Result<Shown, Fault>) -> String {
        shown.expect("the cell succeeds").value.expect("it shows a value")
    }
}
