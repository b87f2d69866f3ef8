//! Names that cells give their submissions, because they do not wait for the number: what each
//! stands for, which may be an error.

use super::command::SubmissionId;
use super::state::State;
use prust::Error;
use prust::request::{NAMES, Request};
use std::collections::HashMap;

/// Above this, those whose submission is not kept are forgotten: a worker that dies takes none
/// back.
const NAMES_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<u64, Result<SubmissionId, Error>>,
}

impl Names {
    /// Puts numbers in the place of names.
    ///
    /// # Errors
    /// What became of the submission, or that the name stands for nothing.
    pub(super) fn resolve(&mut self, request: &mut Request) -> Result<(), Error> {
        let is_last = matches!(request, Request::Forget { .. });
        for submission in request.submissions() {
            if *submission < NAMES {
                continue;
            }
            let known = match is_last {
                true => self.known.remove(submission),
                false => self.known.get(submission).cloned(),
            };
            *submission = known.unwrap_or(Err(Error::ResultPurged { submission: *submission }))?;
        }
        Ok(())
    }
}

impl State {
    /// The submission is called so from now on.
    pub(super) fn name(&mut self, name: u64, submitted: Result<SubmissionId, Error>) {
        let Self { names, submissions, .. } = self;
        if names.known.len() >= NAMES_MAX {
            let is_kept = |id: &SubmissionId| submissions.contains_key(id);
            names.known.retain(|_, known| known.as_ref().is_ok_and(is_kept));
        }
        names.known.insert(name, submitted);
    }
}
