//! The api's one way to the kernel's cluster client: encodes a request, waits at the runtime's
//! door, decodes the answer. An interrupt unwinds the cell from here.

use crate::codec;
use crate::request::{Answer, Asked, Fault, Request, TOPIC};
use crate::{CompositeError, Error, RemoteError};
use prust_runtime::door::{self, Refusal};
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So much may be told before the kernel is waited for, in bytes; a message counts as so many at
/// least.
const TOLD_BYTES_MAX: usize = 1 << 20;
const MESSAGE_BYTES: usize = TOLD_BYTES_MAX / 32;

/// What was told since the last answer.
static N_TOLD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Asks and waits; the answer's head and body.
pub(crate) fn ask(cluster: u32, request: Request, body: &[u8]) -> Result<(Answer, Vec<u8>), Error> {
    prust_runtime::cell::describe_by(describe);
    let head = codec::to_bytes(&Asked { cluster, request })
        .map_err(|error| Error::not_serializable("the request", &error))?;
    N_TOLD_BYTES.store(0, Ordering::Relaxed);
    match door::request(TOPIC, &head, body) {
        Ok((head, body)) => match codec::from_bytes(&head) {
            Ok(answer) => Ok((answer, body)),
            Err(error) => Err(Error::NotDeserializable { reason: error.to_string() }),
        },
        Err(Refusal::Error(head)) => Err(fault(&head)),
        Err(Refusal::Interrupted) => door::interrupted(),
    }
}

/// Our errors by ipyparallel's names when `?` ends a cell with one.
fn describe(error: &dyn Any) -> Option<(String, String)> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some((error.ename().to_owned(), error.to_string()));
    }
    if let Some(error) = error.downcast_ref::<RemoteError>() {
        return Some(("RemoteError".to_owned(), error.to_string()));
    }
    let error = error.downcast_ref::<CompositeError>()?;
    Some(("CompositeError".to_owned(), error.to_string()))
}

/// Tells what the kernel is to do, without waiting; at the end of the cell at the latest, and
/// whenever much was told, the kernel is waited for.
///
/// # Errors
/// The request cannot be written, or the kernel cannot be waited for.
pub(crate) fn tell_work(cluster: u32, request: Request, body: &[u8]) -> Result<(), Error> {
    prust_runtime::cell::end_by(await_heard);
    let head = codec::to_bytes(&Asked { cluster, request })
        .map_err(|error| Error::not_serializable("the request", &error))?;
    door::notify(TOPIC, &head, body);
    let n_bytes = (head.len() + body.len()).max(MESSAGE_BYTES);
    if N_TOLD_BYTES.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes >= TOLD_BYTES_MAX {
        ask(cluster, Request::Heard, &[])?;
    }
    Ok(())
}

/// Waits until the kernel has heard of all work: should the cell have failed, its error tells what
/// it leaves running.
fn await_heard() {
    if N_TOLD_BYTES.load(Ordering::Relaxed) > 0 {
        // What became of the work, its results tell.
        let _ = ask(0, Request::Heard, &[]);
    }
}

/// Tells without waiting; for what matters little when nobody listens.
pub(crate) fn tell(cluster: u32, request: Request) {
    if let Ok(head) = codec::to_bytes(&Asked { cluster, request }) {
        door::notify(TOPIC, &head, &[]);
    }
}

/// Tells with the next question, or what else the kernel is told: a short call would take longer
/// for a message that nobody waits for.
pub(crate) fn tell_soon(cluster: u32, request: Request) {
    if let Ok(head) = codec::to_bytes(&Asked { cluster, request }) {
        door::notify_soon(TOPIC, &head, &[]);
    }
}

/// An answer of the wrong kind: a fault of ours, told as an error rather than a panic in the user's
/// cell.
pub(crate) fn unexpected(answer: &Answer) -> Error {
    Error::Disconnected { reason: format!("an answer that does not fit the question: {answer:?}") }
}

fn fault(head: &[u8]) -> Error {
    codec::from_bytes::<Fault>(head).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(head);
        let reason = match text.trim() {
            "" => "an engine cannot use a cluster itself".to_owned(),
            text => text.to_owned(),
        };
        Error::Disconnected { reason }
    })
}
