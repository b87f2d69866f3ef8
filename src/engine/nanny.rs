//! The process that tells the controller when an engine is gone without a word. Engines of a pool
//! need none: the pool watches them. It holds the reading end of a pipe of its engine, waits for
//! the end of file, sends one message and ends. Never touches the worker or any work.
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::process;
use crate::wire::{Context, Draft, Kind, Spec, Writer};

/// What the nanny is told through its pipe. The key does not belong on a command line.
#[derive(Deserialize, Serialize)]
struct Charge {
    registration: String,
    key: String,
    uuid: String,
    id: u32,
}

/// Written when an engine ends in order: there is nothing to tell then.
const GOODBYE: &[u8] = b"\ngoodbye";

/// The engine's end of the pipe.
pub(super) struct Nanny {
    pipe: ChildStdin,
    _child: Child,
}

impl Nanny {
    /// Starts the nanny of the engine that has just registered.
    pub(super) fn start(registration: &str, key: &str, uuid: &str, id: u32) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["engine", "--nanny"]).stdin(Stdio::piped()).stdout(Stdio::null());
        process::in_own_group(&mut command);
        let mut child = process::spawn(&mut command)?;
        let mut pipe = child.stdin.take().expect("it was asked for");
        let charge = Charge {
            registration: registration.to_owned(),
            key: key.to_owned(),
            uuid: uuid.to_owned(),
            id,
        };
        serde_json::to_writer(&mut pipe, &charge)?;
        Ok(Self { pipe, _child: child })
    }

    /// The engine ends in order.
    pub(super) fn dismiss(mut self) {
        // One that is gone tells nobody either.
        let _ = self.pipe.write_all(GOODBYE);
    }
}

/// Runs the nanny: `prust engine --nanny`. Returns the exit code.
pub(super) fn run() -> i32 {
    let mut told = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut told);
    if read.is_err() || told.ends_with(GOODBYE) {
        return 0;
    }
    let Ok(charge) = serde_json::from_slice::<Charge>(&told) else { return 1 };
    let context = Context::new();
    let registrar = Spec::connect(Kind::Dealer, charge.registration);
    let Ok(opened) = crate::wire::socket::open(&context, "nanny", vec![registrar]) else {
        return 1;
    };
    let writer = Writer::new(&charge.key, uuid::Uuid::new_v4().to_string(), "prust-nanny");
    let cause = "its process was killed or crashed";
    let content = json!({"id": charge.id, "uuid": charge.uuid, "cause": cause});
    let (_, frames) = writer.write(Draft::new("unregistration_request", &content));
    opened.sockets.send(0, frames);
    opened.sockets.close();
    0
}
