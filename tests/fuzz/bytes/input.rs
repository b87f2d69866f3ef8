//! Arbitrary bytes as what comes from outside: greetings and messages on the wire and by links,
//! connection files, frames between host and worker, encoded values, Jupyter's requests. Nothing
//! panics, hangs, or takes memory for lengths that the bytes only claim.
//!
//! The first byte says what the rest is read as. What is read is written and read again, and must
//! be the same.

use std::collections::BTreeMap;
use std::io::Write as _;

use prust::codec;
use prust::outcome::{Part, read_outcomes, read_payload};
use prust::request::{Answer, Asked, Request};
use prust_kernel::wire::connection::{ClientFile, EngineFile, KernelFile};
use prust_kernel::wire::envelope::{DELIMITER, Reader};
use prust_kernel::wire::greeting;
use prust_kernel::wire::jupyter::{
    CompleteRequest, ExecuteRequest, HistoryRequest, InspectRequest, IsCompleteRequest,
};
use prust_kernel::wire::link::message::{self, Inbound};
use prust_runtime::frame::{self, FromWorker, ToWorker};
use serde::{Deserialize, Serialize};

/// One input.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 8 {
        0 => read_message(rest),
        1 => read_files(rest),
        2 => read_frames(rest),
        3 => read_values(rest),
        4 => read_calls(rest),
        5 => read_text(rest),
        6 => read_greeting(rest),
        _ => read_link(rest),
    }
}

/// Frames are separated by a byte that JSON has no use for.
fn read_message(bytes: &[u8]) {
    let mut frames: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0xFF).map(<[u8]>::to_vec).collect();
    let _ = Reader::new("key").read(frames.clone());
    // A signature is never guessed: what comes behind it is reached without a key.
    if frames.len() > 1 {
        frames[1] = DELIMITER.to_vec();
    }
    let Ok(message) = Reader::new("").read(frames) else { return };
    let _ = message.metadata_value();
    let _ = message.parent();
    if let Ok(request) = message.content::<ExecuteRequest>() {
        let _ = (request.expressions(), request.store_history(), request.stop_on_error());
    }
    let _ = message.content::<CompleteRequest>();
    let _ = message.content::<InspectRequest>();
    let _ = message.content::<IsCompleteRequest>();
    let _ = message.content::<HistoryRequest>();
}

/// Connection files, as files.
fn read_files(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("prust-fuzz-{}.json", std::process::id()));
    let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes));
    written.expect("a temporary file can be written");
    if let Ok(mut file) = KernelFile::read(&path) {
        file.choose_ipc_ports();
    }
    if let Ok(file) = ClientFile::read(&path) {
        let _ = file.endpoint(1);
    }
    if let Ok(file) = EngineFile::read(&path) {
        let _ = file.endpoint(1);
    }
    std::fs::remove_file(&path).expect("it was written above");
}

/// Between host and worker.
fn read_frames(bytes: &[u8]) {
    let _ = frame::receive(bytes);
    if let Ok(read) = ToWorker::read(bytes) {
        let written = read.write();
        let body = frame::receive(&*written).expect("what was written is a frame");
        assert_eq!(
            format!("{read:?}"),
            format!("{:?}", ToWorker::read(&body).expect("it is read"))
        );
    }
    if let Ok(read) = FromWorker::read(bytes) {
        let written = read.write();
        let body = frame::receive(&*written).expect("what was written is a frame");
        let again = FromWorker::read(&body).expect("it is read");
        assert_eq!(format!("{read:?}"), format!("{again:?}"));
    }
}

#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf(u8),
    Pair(Box<(Self, Self)>),
    List(Vec<Self>),
    Named { name: String, of: Option<Box<Self>> },
}

/// Encoded values of many types.
fn read_values(bytes: &[u8]) {
    again::<Vec<u64>>(bytes);
    again::<(bool, char, i8, i128, String)>(bytes);
    again::<Vec<(String, Option<f64>)>>(bytes);
    again::<BTreeMap<String, Vec<u8>>>(bytes);
    again::<Vec<()>>(bytes);
    again::<Result<String, [u16; 3]>>(bytes);
    again::<Tree>(bytes);
    again::<Request>(bytes);
    again::<Answer>(bytes);
    again::<Asked>(bytes);
}

fn again<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) {
    let Ok(value) = codec::from_bytes::<T>(bytes) else { return };
    let written = codec::to_bytes(&value).expect("what was read can be written");
    let read = codec::from_bytes::<T>(&written).expect("what was written can be read");
    assert_eq!(codec::to_bytes(&read).ok(), Some(written));
}

/// What a task is called with, and what became of it.
fn read_calls(bytes: &[u8]) {
    let _ = read_payload(bytes);
    if let Ok((outcomes, values)) = read_outcomes(bytes)
        && outcomes.values.is_none()
    {
        let mut n_bytes = 0;
        let mut count = |part: Part<'_>| {
            if let Part::Values { bytes, .. } = part {
                n_bytes += bytes.len();
            }
            Ok::<(), codec::CodecError>(())
        };
        let _ = outcomes.parts(values, &mut count);
        assert!(n_bytes <= values.len(), "more values than there are bytes");
    }
}

/// Text that names engines, or is a connection file in the environment.
fn read_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = prust::targets::Targets::read(&text);
    let _ = EngineFile::from_text(&text);
}

/// How a peer begins: what is said of the beginning is said of the whole.
fn read_greeting(bytes: &[u8]) {
    let whole = greeting::read(bytes);
    for n_bytes in 0..bytes.len() {
        match greeting::read(&bytes[..n_bytes]) {
            Ok(None) => (),
            known => assert_eq!(known, whole, "after {n_bytes} bytes"),
        }
    }
}

/// What comes by a link, at once and in pieces.
fn read_link(bytes: &[u8]) {
    let whole = taken(bytes, bytes.len());
    assert_eq!(taken(bytes, 7), whole);
    let mut written = Vec::new();
    for (lane, frames) in &whole {
        message::write(*lane, frames, &mut written);
    }
    assert_eq!(written, bytes[..written.len()], "a message has one form");
}

/// The messages before the first that is none.
fn taken(bytes: &[u8], step: usize) -> Vec<(u8, Vec<Vec<u8>>)> {
    let (mut inbound, mut taken) = (Inbound::default(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        inbound.room()[..piece.len()].copy_from_slice(piece);
        inbound.filled(piece.len());
        while let Ok(Some(message)) = inbound.take(&[]) {
            taken.push(message);
        }
    }
    taken
}
