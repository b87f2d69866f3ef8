//! Arbitrary bytes as Python's pickles, as a Python client's calls with their frames, and as the
//! plain data that a worker answers with. Nothing panics, hangs, or takes memory for lengths that
//! the bytes only claim; what is read is written and read again, and must be the same.

use prust::plain;
use prust_kernel::engine::python::helper;
use prust_kernel::wire::pickle;

/// Between the frames of a call: no operation of a pickle's.
const NEXT_FRAME: u8 = 0xFF;

/// One input. The first byte says what the rest is read as.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => read_pickle(rest),
        1 => read_call(rest.split(|byte| *byte == NEXT_FRAME).map(<[u8]>::to_vec).collect()),
        2 => push_one(rest),
        _ => read_plain(rest),
    }
}

fn read_pickle(bytes: &[u8]) {
    match pickle::read(bytes) {
        Ok(value) => {
            let written = pickle::write(&value);
            let again = pickle::read(&written).expect("what was written is read");
            assert!(written == pickle::write(&again), "another value came back");
        }
        Err(error) => assert!(error.at <= bytes.len() && !error.what.is_empty()),
    }
}

fn read_call(frames: Vec<Vec<u8>>) {
    if let Err(fault) = helper::read(frames) {
        assert!(!fault.ename.is_empty() && !fault.evalue.is_empty());
    }
}

/// A call that is well-formed but for the value.
fn push_one(bytes: &[u8]) {
    let text = |text: &str| pickle::Value::Text(text.to_owned());
    let function = pickle::Value::Global(pickle::Global::new("ipyparallel.util", "_push"));
    let names = pickle::Value::List(vec![text("a")]);
    let info = vec![(text("nargs"), pickle::Value::Int(0)), (text("kw_keys"), names)];
    let head = [pickle::write(&function), pickle::write(&pickle::Value::Dict(info))];
    let value = bytes.split(|byte| *byte == NEXT_FRAME).map(<[u8]>::to_vec);
    read_call(head.into_iter().chain(value).collect());
}

fn read_plain(bytes: &[u8]) {
    let _ = plain::read(bytes);
}
