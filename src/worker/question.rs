//! What the kernel asks a worker between runs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use prust_runtime::frame::ToWorker;

#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// What a snapshot costs.
    Costs,
    Surroundings,
}

impl Question {
    pub(super) fn frame(self) -> ToWorker {
        match self {
            Self::Costs => ToWorker::Measure,
            Self::Surroundings => ToWorker::Surroundings,
        }
    }
}

/// Where processes that a cell starts begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub folder: PathBuf,
    pub variables: Vec<(OsString, OsString)>,
}

impl Surroundings {
    /// `variables` as `NAME=VALUE`.
    pub(super) fn read(folder: Vec<u8>, variables: Vec<Vec<u8>>) -> Self {
        let variable = |mut text: Vec<u8>| {
            // A name may begin with the sign, and has at least one byte.
            let at = text.get(1..)?.iter().position(|byte| *byte == b'=')? + 1;
            let value = text.split_off(at + 1);
            text.pop();
            Some((OsString::from_vec(text), OsString::from_vec(value)))
        };
        let variables = variables.into_iter().filter_map(variable).collect();
        Self { folder: OsString::from_vec(folder).into(), variables }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_cut_at_their_first_sign() {
        let texts = ["A=1=2", "B=", "=C:=x", "nothing", ""];
        let read = Surroundings::read(b"/tmp".to_vec(), texts.map(|text| text.into()).to_vec());
        let expected = [("A", "1=2"), ("B", ""), ("=C:", "x")]
            .map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read, Surroundings { folder: "/tmp".into(), variables: expected.to_vec() });
    }
}
