//! Functions that travel by place: the checks on `f`, and the trampolines that a worker calls,
//! which decode arguments, run the function item by item and encode every outcome. The user's
//! function has no size (a function item, a closure without captures) or is a function pointer,
//! located and sent as such.
#![expect(unsafe_code, reason = "makes a checked function value from its place in a library")]

use crate::codec::{self, CodecError};
use crate::error::Error;
use crate::items;
use crate::numbers;
use crate::outcome::{self, Failure, OutcomesWriter, Payload, Prefix};
use crate::plain;
use crate::reference;
use prust_runtime::call::{self, Trampoline};
use prust_runtime::{door, frame, panics, slots};
use serde::{Serialize, de::DeserializeOwned};
use std::any::{TypeId, type_name};

/// What may be sent: every argument and result type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to or from an engine",
    label = "this needs serde's `Serialize` and `Deserialize`",
    note = "derive both: `#[derive(serde::Serialize, serde::Deserialize)]`"
)]
pub trait Value: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Value for T {}

/// Refuses closures that capture something, when the user's cell is compiled and at the call
/// itself.
macro_rules! assert_callable {
    ($f:ty) => {
        const {
            assert!(
                size_of::<$f>() == 0
                    || (size_of::<$f>() == size_of::<fn()>()
                        && size_of::<Option<$f>>() == size_of::<$f>()),
                "this closure captures variables, so it cannot run on an engine: hand them over \
                 with map_with(shared, f, items) or apply_with(args, f), or name an engine's own \
                 variable with Reference::<T>::new(\"x\")"
            );
        }
    };
}
pub(crate) use assert_callable;

/// A trampoline and function, found in the libraries of this process.
pub(crate) struct Place {
    pub(crate) library: String,
    pub(crate) offset: u64,
    /// The user's own function when it is a pointer.
    function: Option<(String, u64)>,
    /// The last part of the function's name.
    pub(crate) name: String,
    /// The type of what it gives.
    pub(crate) returns: String,
}

impl Place {
    /// Finds the trampoline for `f`. `P` is the pointer type that `F` must be if it has a size.
    /// `R` is what `f` gives.
    pub(crate) fn of<F: Copy + 'static, P: 'static, R>(
        trampoline: Trampoline,
        f: &F,
    ) -> Result<Self, Error> {
        let address = if size_of::<F>() == 0 {
            Ok(None)
        } else if TypeId::of::<F>() == TypeId::of::<P>() {
            // SAFETY: `F` is the function pointer type `P` (the line above), which is one address.
            Ok(Some(unsafe { std::mem::transmute_copy::<F, *const ()>(f) }))
        } else {
            Err(())
        };
        Self::find(trampoline, address, type_name::<F>(), type_name::<R>())
    }

    #[inline(never)]
    fn find(
        trampoline: Trampoline,
        address: Result<Option<*const ()>, ()>,
        name: &'static str,
        returns: &'static str,
    ) -> Result<Self, Error> {
        let unlocated = |why: String| Error::NotCallable { what: format!("this function ({why})") };
        let Ok(address) = address else {
            let what = format!("a closure that captures something ({name})");
            return Err(Error::NotCallable { what });
        };
        let function = address.map(call::locate).transpose().map_err(unlocated)?;
        let (library, offset) = call::locate(trampoline as *const ()).map_err(unlocated)?;
        let returns = crate::public_paths(returns);
        Ok(Self { library, offset, function, name: short_name(name), returns })
    }

    /// A helper of this crate, which has no function of the user's.
    pub(crate) fn of_helper(trampoline: Trampoline, name: &str) -> Result<Self, Error> {
        let (library, offset) = call::locate(trampoline as *const ())
            .map_err(|why| Error::NotCallable { what: format!("{name} ({why})") })?;
        let (name, returns) = (name.to_owned(), String::new());
        Ok(Self { library, offset, function: None, name, returns })
    }

    /// The encoded prefix of every payload of this call.
    pub(crate) fn prefix(&self, shared: Vec<u8>) -> Vec<u8> {
        codec::to_bytes(&Prefix { function: self.function.clone(), shared })
            .expect("texts and bytes are always written")
    }
}

/// `a::b::is_prime` is `is_prime`; a closure is named after the function it stands in, if that has
/// a name.
fn short_name(path: &str) -> String {
    let plain = path.split('<').next().unwrap_or(path);
    if plain.contains("{{closure}}") {
        return "closure".to_owned();
    }
    let name = plain.rsplit("::").next().unwrap_or(plain).trim_matches(['(', ')', ' ']);
    if name.is_empty() || name.starts_with("fn") && path.contains("->") {
        "function".to_owned()
    } else {
        name.to_owned()
    }
}

/// The function that [`Place::of`] named.
fn function<F: Copy + 'static>(prefix: &Prefix) -> Result<F, Failure> {
    if size_of::<F>() == 0 {
        // SAFETY: `F` has no bytes, so a dangling aligned pointer may be read, and it has a value:
        // the submitting side held one, and copied it (`F: Copy`).
        return Ok(unsafe { std::ptr::NonNull::<F>::dangling().read() });
    }
    let address = address(prefix)?;
    // SAFETY: `Place::of` refused every `F` with a size that is not a function pointer, and located
    // the pointer by content-addressed library and offset, so `address` is that same function here.
    Ok(unsafe { std::mem::transmute_copy::<*const (), F>(&address) })
}

#[inline(never)]
fn address(prefix: &Prefix) -> Result<*const (), Failure> {
    let lost =
        |why: String| Failure::new("EngineError", format!("the function is not here: {why}"));
    let (library, offset) =
        prefix.function.as_ref().ok_or_else(|| lost("no address came with the call".to_owned()))?;
    call::at(library, *offset).map_err(lost)
}

/// Runs a call: failures of its frame (not of items) come back as the worker's own failure type.
/// Takes the work as `dyn`, so that nothing of this is compiled again in cells.
#[inline(never)]
fn run(
    payload: &[u8],
    work: &mut dyn FnMut(Payload<'_>) -> Result<Vec<u8>, Failure>,
) -> Result<Vec<u8>, frame::Failure> {
    let _call = reference::enter();
    let outcome = match outcome::read_payload(payload) {
        Ok(payload) => work(payload),
        Err(error) => Err(malformed(&error)),
    };
    outcome.map_err(|Failure { ename, evalue, traceback }| frame::Failure {
        ename,
        evalue,
        backtrace: traceback,
        ..frame::Failure::default()
    })
}

fn checked<T>(read: Result<T, CodecError>) -> Result<T, Failure> {
    match read {
        Ok(value) => Ok(value),
        Err(error) => Err(malformed(&error)),
    }
}

#[inline(never)]
fn malformed(error: &CodecError) -> Failure {
    // A Reference that found nothing says more than the decoder that met it.
    reference::failure().unwrap_or_else(|| {
        Failure::new("NotDeserializable", format!("the arguments cannot be read: {error}"))
    })
}

/// One item: a panic is its outcome, an interrupt ends the call.
fn guarded<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    match panics::catch(work) {
        Ok(value) => Ok(value),
        Err(failure) => Err(panicked(failure)),
    }
}

#[inline(never)]
fn panicked(failure: frame::Failure) -> Failure {
    if failure.ename == "Interrupted" {
        door::interrupted();
    }
    failure.into()
}

/// Runs one item and notes what became of it.
fn note<R: Value>(outcomes: &mut OutcomesWriter, work: impl FnOnce() -> R) {
    match guarded(work) {
        Ok(value) => outcomes.value(&value),
        Err(failure) => outcomes.fail(failure),
    }
}

/// The value of a call that has one result and cannot fail any more.
fn unit() -> Vec<u8> {
    let mut outcomes = OutcomesWriter::default();
    outcomes.value(&());
    outcomes.finish(None)
}

pub(crate) fn apply<F, R>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure>
where
    F: Fn() -> R + Copy + 'static,
    R: Value,
{
    run(payload, &mut |payload| {
        let f = function::<F>(&payload.prefix)?;
        let mut outcomes = OutcomesWriter::default();
        note(&mut outcomes, f);
        Ok(outcomes.finish(payload.folder.as_deref()))
    })
}

pub(crate) fn apply_with<F, A, R>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Value,
    R: Value,
{
    run(payload, &mut |payload| {
        let f = function::<F>(&payload.prefix)?;
        let args: A =
            items::read_value(&payload.prefix.shared).map_err(|error| malformed(&error))?;
        let mut outcomes = OutcomesWriter::default();
        note(&mut outcomes, || f(args));
        Ok(outcomes.finish(payload.folder.as_deref()))
    })
}

pub(crate) fn map<F, T, R>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure>
where
    F: Fn(T) -> R + Copy + 'static,
    T: Value,
    R: Value,
{
    run(payload, &mut |payload| {
        let f = function::<F>(&payload.prefix)?;
        let mut items = Vec::<T>::new();
        checked(items::read_items(&mut items, &payload.lengths, &payload.bytes))?;
        let mut outcomes = OutcomesWriter::default();
        for item in items {
            note(&mut outcomes, || f(item));
        }
        Ok(outcomes.finish(payload.folder.as_deref()))
    })
}

pub(crate) fn map_with<F, S, T, R>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure>
where
    F: Fn(&S, T) -> R + Copy + 'static,
    S: Value,
    T: Value,
    R: Value,
{
    run(payload, &mut |payload| {
        let f = function::<F>(&payload.prefix)?;
        let shared: S = checked(items::read_value(&payload.prefix.shared))?;
        let mut items = Vec::<T>::new();
        checked(items::read_items(&mut items, &payload.lengths, &payload.bytes))?;
        let mut outcomes = OutcomesWriter::default();
        for item in items {
            note(&mut outcomes, || f(&shared, item));
        }
        Ok(outcomes.finish(payload.folder.as_deref()))
    })
}

/// `push`: the shared bytes are the name, the one item is the value.
///
/// # Errors
/// The value is not one of the type.
pub fn push<T: Value>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure> {
    run(payload, &mut |payload| {
        let value: T = checked(items::read_value(&payload.bytes))?;
        slots::put_dynamic(&name(&payload.prefix)?, value);
        Ok(unit())
    })
}

/// `scatter`: the items become one vector.
pub(crate) fn scatter<T: Value>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure> {
    run(payload, &mut |payload| {
        let mut values = Vec::<T>::new();
        checked(items::read_items(&mut values, &payload.lengths, &payload.bytes))?;
        slots::put_dynamic(&name(&payload.prefix)?, values);
        Ok(unit())
    })
}

/// `pull`: the value of a variable, encoded where it lies.
pub(crate) fn pull<T: Value>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure> {
    run(payload, &mut |payload| {
        let name = name(&payload.prefix)?;
        let folder = payload.folder.as_deref();
        let written = slots::with::<T, _>(&name, |value| match numbers::whole(value) {
            // Written from where they are: they may be many.
            Some((n, numbers)) => {
                let mut length = Vec::new();
                codec::append_length(&mut length, n);
                Ok(pulled(&name, &[&length, numbers], folder))
            }
            None => codec::to_bytes(value).map(|bytes| pulled(&name, &[&bytes], folder)),
        });
        written_by(&name, type_name::<T>(), written)?
    })
}

#[inline(never)]
fn pulled(name: &str, parts: &[&[u8]], folder: Option<&str>) -> Result<Vec<u8>, Failure> {
    let size = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>())
        .map_err(|_| Failure::new("NotSerializable", format!("`{name}` takes 4 GiB or more")))?;
    let lengths = items::Lengths::Fixed { n: 1, size };
    Ok(outcome::write_outcomes_of(1, Vec::new(), lengths, parts, folder))
}

#[inline(never)]
fn written_by<B>(
    name: &str,
    ty: &str,
    written: Result<Result<B, CodecError>, slots::SlotError>,
) -> Result<B, Failure> {
    written.map_err(|error| reference::slot_failure(&error))?.map_err(|error| {
        Failure::new("NotSerializable", format!("`{name}`, a {ty}, cannot be sent: {error}"))
    })
}

/// As [`pull`], for a reader that does not know the type: the value in [`plain`] bytes.
///
/// # Errors
/// There is no such variable, or it cannot be written.
pub fn pull_plain<T: Serialize + 'static>(payload: &[u8]) -> Result<Vec<u8>, frame::Failure> {
    run(payload, &mut |payload| {
        let name = name(&payload.prefix)?;
        let written = slots::with::<T, _>(&name, plain::write);
        written_by(&name, type_name::<T>(), written)
    })
}

fn name(prefix: &Prefix) -> Result<String, Failure> {
    codec::from_bytes(&prefix.shared).map_err(|error| malformed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Part, Table, read_outcomes, write_payload};

    fn double(n: u64) -> u64 {
        n.checked_mul(2).expect("too large")
    }

    fn outcomes<R: Value>(value: &[u8]) -> Vec<Result<R, Failure>> {
        let (outcomes, bytes) = read_outcomes(value).unwrap();
        let mut out = Vec::new();
        let mut each = |part: Part<'_>| {
            match part {
                Part::Values { lengths, bytes } => {
                    let mut values = Vec::<R>::new();
                    items::read_items(&mut values, &lengths, bytes)?;
                    out.extend(values.into_iter().map(Ok));
                }
                Part::Failed { failure, .. } => out.push(Err(failure)),
            }
            Ok::<(), CodecError>(())
        };
        outcomes.parts(bytes, &mut each).unwrap();
        out
    }

    fn map_on<F: Fn(u64) -> u64 + Copy + 'static>(
        f: F,
        items: Vec<u64>,
    ) -> Vec<Result<u64, Failure>> {
        let place = Place::of::<F, fn(u64) -> u64, u64>(map::<F, u64, u64>, &f).unwrap();
        let items = items::write_items(&items).unwrap();
        let table = Table { lengths: items.lengths, ..Table::default() };
        let payload = write_payload(&place.prefix(Vec::new()), &table, &items.bytes);
        outcomes(&map::<F, u64, u64>(&payload).unwrap())
    }

    #[test]
    fn functions_closures_and_pointers_run_from_their_bytes() {
        let values = |out: Vec<Result<u64, Failure>>| out.into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(values(map_on(double, vec![1, 2])), [2, 4]);
        assert_eq!(values(map_on(|n| n + 1, vec![1, 2])), [2, 3]);
    }

    #[test]
    fn a_function_pointer_is_sent_as_its_own_place() {
        type Pointer = fn(u64) -> u64;
        let place =
            |f: Pointer| Place::of::<Pointer, Pointer, u64>(map::<Pointer, u64, u64>, &f).unwrap();
        let (one, other) = (place(double), place(u64::reverse_bits));
        let (library, offset) = one.function.unwrap();
        assert_eq!(library, one.library);
        assert_ne!(offset, other.function.unwrap().1);
        assert_eq!(one.offset, other.offset);
    }

    #[test]
    fn one_panic_costs_one_item() {
        let out = map_on(double, vec![1, u64::MAX, 3]);
        assert_eq!((out[0].clone(), out[2].clone()), (Ok(2), Ok(6)));
        let failure = out[1].clone().unwrap_err();
        assert_eq!(failure.ename, "panic");
    }

    #[test]
    fn a_reference_that_is_a_pointer_sized_capture_is_refused_at_the_call() {
        static NUMBER: u64 = 3;
        let captured: &'static u64 = &NUMBER;
        let f = move |n: u64| n + *captured;
        fn place<F: Fn(u64) -> u64 + Copy + 'static>(f: &F) -> Result<Place, Error> {
            Place::of::<F, fn(u64) -> u64, u64>(map::<F, u64, u64>, f)
        }
        let error = place(&f).err().unwrap();
        assert!(error.to_string().contains("map_with"), "{error}");
    }

    #[test]
    fn variables_are_put_and_read_by_name() {
        let items = items::Items {
            lengths: items::Lengths::Fixed { n: 1, size: 8 + 1 },
            bytes: items::write_value(&vec![2.5f64]).unwrap(),
        };
        let prefix = Prefix { function: None, shared: codec::to_bytes("pushed").unwrap() };
        let prefix = codec::to_bytes(&prefix).unwrap();
        let table = Table { lengths: items.lengths, ..Table::default() };
        let payload = write_payload(&prefix, &table, &items.bytes);
        assert_eq!(outcomes::<()>(&push::<Vec<f64>>(&payload).unwrap()), [Ok(())]);
        let payload = write_payload(&prefix, &Table::default(), &[]);
        assert_eq!(outcomes::<Vec<f64>>(&pull::<Vec<f64>>(&payload).unwrap()), [Ok(vec![2.5])]);
        let error = pull::<String>(&payload).unwrap_err();
        assert_eq!(error.ename, "TypeError");
        assert!(error.evalue.contains("pushed"), "{error:?}");
    }

    #[test]
    fn malformed_payloads_are_failures() {
        for end in 0..40 {
            let noise: Vec<u8> = (0..end).collect();
            assert!(map::<fn(u64) -> u64, u64, u64>(&noise).is_err());
        }
    }
}
