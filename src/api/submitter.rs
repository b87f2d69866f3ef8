//! From a checked call to a submission: encodes arguments and items, asks the client. Generic only
//! where a value is encoded, so that cells compile little of it.

use crate::ask::ask;
use crate::call::{Place, Value};
use crate::codec::{self, CodecError};
use crate::error::{Error, Result};
use crate::items::{self, Items, Lengths};
use crate::mapped::{self, MAPPED_BYTES_MIN, Mapped};
use crate::request::{Answer, Call, Options, Request, Submit, Work};
use crate::submission::Submission;
use crate::targets::Targets;
use prust_runtime::call::Trampoline;
use std::path::Path;

/// Bytes that are in several places.
pub(crate) type Parts<'a> = &'a [&'a [u8]];

/// A function of this crate that engines call, its method, and the type that it gives.
pub(crate) type Helper<'a> = (Trampoline, &'a str, &'a str);

/// The type of what gives no value.
pub(crate) const NOTHING: &str = "()";

/// What all views do with a call once it has been checked.
pub(crate) struct Submitter<'a> {
    pub(crate) cluster: u32,
    pub(crate) targets: &'a Targets,
    pub(crate) balanced: bool,
    pub(crate) options: &'a Options,
}

impl Submitter<'_> {
    pub(crate) fn submit(&self, work: Result<(Work, Vec<u8>)>) -> Submission {
        self.submit_with(work.map(|(work, body)| (work, body, &[][..])))
    }

    /// Submits work with the prefix of its body and its items, which may be in several parts.
    fn submit_with(&self, work: Result<(Work, Vec<u8>, Parts<'_>)>) -> Submission {
        match work {
            Ok((work, mut body, items)) => {
                let (targets, options) = (self.targets.clone(), self.options.clone());
                let there: Vec<_> = self.share(items).into_iter().collect();
                if there.is_empty() {
                    items.iter().for_each(|part| body.extend_from_slice(part));
                }
                let submit = Submit { work, targets, balanced: self.balanced, options, there };
                Submission::submit(self.cluster, submit, &body)
            }
            Err(error) => Submission::refused(self.cluster, error),
        }
    }

    /// Puts large items where the engines can read them, if that is possible.
    fn share(&self, items: Parts<'_>) -> Option<Mapped> {
        if items.iter().map(|part| part.len()).sum::<usize>() < MAPPED_BYTES_MIN {
            return None;
        }
        match ask(self.cluster, Request::SharedFolder, &[]) {
            Ok((Answer::SharedFolder(folder), _)) => mapped::share(folder.as_deref(), items),
            // What is wrong is told by the submission itself.
            Ok(_) | Err(_) => None,
        }
    }

    pub(crate) fn apply(&self, place: Result<Place>, shared: Result<Vec<u8>>) -> Submission {
        self.submit(place.and_then(|place| {
            let body = place.prefix(shared?);
            let (prefix, lengths) = (body.len() as u64, NO_ITEMS);
            Ok((Work::Apply { call: named(place, "apply", false), prefix, lengths }, body))
        }))
    }

    pub(crate) fn map(
        &self,
        place: Result<Place>,
        shared: Result<Vec<u8>>,
        items: Result<Items>,
    ) -> Submission {
        let Items { lengths, bytes } = match items {
            Ok(items) => items,
            Err(error) => return Submission::refused(self.cluster, error),
        };
        let parts = [bytes.as_slice()];
        self.submit_with(place.and_then(|place| {
            let body = place.prefix(shared?);
            let prefix = body.len() as u64;
            let work = Work::Map { call: named(place, "map", false), prefix, lengths };
            Ok((work, body, &parts[..]))
        }))
    }

    /// A helper of this crate, given a variable's name, and items in the case of `scatter` and
    /// `push`.
    pub(crate) fn helper(
        &self,
        (trampoline, method, returns): Helper<'_>,
        name: &str,
        defines: Option<&str>,
        items: Result<(Lengths, Parts<'_>)>,
    ) -> Submission {
        let work = || {
            let mut place = Place::of_helper(trampoline, &format!("{method}({name:?})"))?;
            place.returns = returns.to_owned();
            let shared = codec::to_bytes(name)
                .map_err(|error| Error::not_serializable("the name", &error))?;
            let body = place.prefix(shared);
            let prefix = body.len() as u64;
            let mut call = named(place, method, true);
            call.defines = defines.map(|ty| (name.to_owned(), ty.to_owned())).into_iter().collect();
            let (lengths, parts) = items?;
            let work = match method {
                "scatter" => Work::Map { call, prefix, lengths },
                _ => Work::Apply { call, prefix, lengths },
            };
            Ok((work, body, parts))
        };
        self.submit_with(work())
    }
}

const NO_ITEMS: Lengths = Lengths::Fixed { n: 0, size: 0 };

pub(crate) fn no_items<'a>() -> Result<(Lengths, Parts<'a>)> {
    Ok((NO_ITEMS, &[]))
}

fn named(place: Place, method: &str, per_task: bool) -> Call {
    let Place { library, offset, name, returns, .. } = place;
    let (method, defines) = (method.to_owned(), Vec::new());
    Call { library, offset, name, method, defines, per_task, returns }
}

/// Drains and encodes the items of a map.
pub(crate) fn encoded<T: Value>(items: impl IntoIterator<Item = T>) -> Result<Items> {
    let mut values = Vec::new();
    values.extend(items);
    written(items::write_items(&values))
}

#[inline(never)]
pub(crate) fn written(items: Result<Items, (u64, CodecError)>) -> Result<Items> {
    items.map_err(|(idx, error)| Error::not_serializable(format!("item {idx}"), &error))
}

/// The table of the one value of a `push`.
#[inline(never)]
pub(crate) fn pushed(name: &str, parts: Parts<'_>) -> Result<Lengths> {
    let size = parts.iter().map(|part| part.len()).sum::<usize>();
    let size = u32::try_from(size).map_err(|_| Error::NotSerializable {
        what: format!("`{name}`"),
        reason: "it takes 4 GiB or more".to_owned(),
    })?;
    Ok(Lengths::Fixed { n: 1, size })
}

pub(crate) fn args<A: Value>(args: &A) -> Result<Vec<u8>> {
    items::write_value(args).map_err(|error| Error::not_serializable("the argument", &error))
}

pub(crate) fn read_cell(path: &Path) -> Result<(Work, Vec<u8>)> {
    let source = std::fs::read_to_string(path).map_err(|error| Error::NotSerializable {
        what: format!("the file {}", path.display()),
        reason: error.to_string(),
    })?;
    Ok((Work::Execute { source }, Vec::new()))
}
