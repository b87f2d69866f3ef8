//! Views: which engines, how, and the calls that submit work to them. Every submitting call returns
//! its result at once; whatever goes wrong is an error of that result.

use crate::call::{self, Place, Value, assert_callable};
use crate::cells::CellReply;
use crate::codec;
use crate::error::{Error, Result};
use crate::items::{self, Items, Lengths};
use crate::numbers;
use crate::request::{Options, Work};
use crate::results::{AsyncMapResult, AsyncResult};
use crate::submission::Submission;
use crate::submitter::{
    Helper, NOTHING, Parts, Submitter, args, encoded, no_items, pushed, read_cell, written,
};
use crate::targets::{IntoTargets, Targets};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Every engine of its targets does the work; a map is partitioned over them in order.
#[derive(Clone, Debug)]
pub struct DirectView {
    pub(crate) cluster: u32,
    pub(crate) targets: Targets,
    pub(crate) options: Options,
}

/// One engine.
#[derive(Clone, Debug)]
pub struct EngineView {
    pub(crate) direct: DirectView,
}

/// Any engine that has time does the work.
#[derive(Clone, Debug)]
pub struct LoadBalancedView {
    pub(crate) cluster: u32,
    pub(crate) targets: Targets,
    pub(crate) options: Options,
}

impl DirectView {
    fn submitter(&self) -> Submitter<'_> {
        Submitter {
            cluster: self.cluster,
            targets: &self.targets,
            balanced: false,
            options: &self.options,
        }
    }

    fn many<R: Value>(&self, submission: Submission) -> AsyncMapResult<R> {
        AsyncMapResult::new(submission, self.options.unordered)
    }

    /// Calls `f` on every engine.
    pub fn apply<F, R>(&self, f: F) -> AsyncMapResult<R>
    where
        F: Fn() -> R + Send + Copy + 'static,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn() -> R, R>(call::apply::<F, R>, &f);
        self.many(self.submitter().apply(place, Ok(Vec::new())))
    }

    /// Calls `f` with `argument` (a tuple for several) on every engine.
    pub fn apply_with<A, F, R>(&self, argument: A, f: F) -> AsyncMapResult<R>
    where
        F: Fn(A) -> R + Send + Copy + 'static,
        A: Value,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn(A) -> R, R>(call::apply_with::<F, A, R>, &f);
        self.many(self.submitter().apply(place, args(&argument)))
    }

    /// Calls `f` on every item, the items partitioned over the engines in order.
    pub fn map<T, F, R>(&self, f: F, items: impl IntoIterator<Item = T>) -> AsyncMapResult<R>
    where
        F: Fn(T) -> R + Send + Copy + 'static,
        T: Value,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn(T) -> R, R>(call::map::<F, T, R>, &f);
        self.many(self.submitter().map(place, Ok(Vec::new()), encoded(items)))
    }

    /// As [`Self::map`]; `shared` travels once per engine.
    pub fn map_with<S, T, F, R>(
        &self,
        shared: S,
        f: F,
        items: impl IntoIterator<Item = T>,
    ) -> AsyncMapResult<R>
    where
        F: Fn(&S, T) -> R + Send + Copy + 'static,
        S: Value,
        T: Value,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn(&S, T) -> R, R>(call::map_with::<F, S, T, R>, &f);
        self.many(self.submitter().map(place, args(&shared), encoded(items)))
    }

    /// Runs a cell from text on every engine.
    pub fn execute(&self, source: impl Into<String>) -> AsyncMapResult<CellReply> {
        let work = Work::Execute { source: source.into() };
        self.many(self.submitter().submit(Ok((work, Vec::new()))))
    }

    /// Runs a file as a cell on every engine.
    pub fn run(&self, path: impl AsRef<Path>) -> AsyncMapResult<CellReply> {
        self.many(self.submitter().submit(read_cell(path.as_ref())))
    }

    /// Makes `value` a variable of every engine. A slice or `str` becomes a `Vec` or `String`
    /// there.
    pub fn push<T>(&self, name: &str, value: &T) -> AsyncMapResult<()>
    where
        T: Serialize + ToOwned + ?Sized + 'static,
        T::Owned: Value,
    {
        let ty = crate::type_text::<T::Owned>();
        let trampoline: Helper<'_> = (call::push::<T::Owned>, "push", NOTHING);
        let push = |parts: Result<Parts<'_>>| {
            let items = parts.and_then(|parts| Ok((pushed(name, parts)?, parts)));
            self.many(self.submitter().helper(trampoline, name, Some(&ty), items))
        };
        if let Some((n, numbers)) = numbers::whole(value) {
            let mut length = Vec::new();
            codec::append_length(&mut length, n);
            return push(Ok(&[&length, numbers]));
        }
        match codec::to_bytes(value) {
            Ok(bytes) => push(Ok(&[&bytes])),
            Err(error) => push(Err(Error::not_serializable(format!("`{name}`"), &error))),
        }
    }

    /// Reads the variable `name` of every engine.
    pub fn pull<T: Value>(&self, name: &str) -> AsyncMapResult<T> {
        let returns = crate::type_text::<T>();
        let trampoline: Helper<'_> = (call::pull::<T>, "pull", &returns);
        self.many(self.submitter().helper(trampoline, name, None, no_items()))
    }

    /// Cuts `values` into one `Vec<T>` per engine, each the variable `name` there.
    pub fn scatter<T: Value + Clone>(&self, name: &str, values: &[T]) -> AsyncMapResult<()> {
        let ty = crate::type_text::<Vec<T>>();
        let trampoline: Helper<'_> = (call::scatter::<T>, "scatter", NOTHING);
        let scatter = |items: Result<(Lengths, Parts<'_>)>| {
            self.many(self.submitter().helper(trampoline, name, Some(&ty), items))
        };
        if let Some(numbers) = numbers::bytes_of(values) {
            return scatter(Ok((items::table_of::<T>(values.len()), &[numbers])));
        }
        match written(items::write_items(values)) {
            Ok(Items { lengths, bytes }) => scatter(Ok((lengths, &[&bytes]))),
            Err(error) => scatter(Err(error)),
        }
    }

    /// Reads the `Vec<T>` variables `name` of all engines as one, end to end.
    pub fn gather<T: Value>(&self, name: &str) -> AsyncResult<Vec<T>> {
        let returns = crate::type_text::<Vec<T>>();
        let trampoline: Helper<'_> = (call::pull::<Vec<T>>, "pull", &returns);
        AsyncResult::joined(self.submitter().helper(trampoline, name, None, no_items()))
    }

    /// A copy that names its submissions.
    pub fn label(&self, label: impl Into<String>) -> Self {
        Self {
            options: Options { label: Some(label.into()), ..self.options.clone() },
            ..self.clone()
        }
    }

    /// A copy for other engines.
    pub fn targets(&self, targets: impl IntoTargets) -> Self {
        Self { targets: targets.into_targets(), ..self.clone() }
    }

    /// A copy whose results iterate in the order in which they arrive.
    pub fn unordered(&self) -> Self {
        Self { options: Options { unordered: true, ..self.options.clone() }, ..self.clone() }
    }
}

impl EngineView {
    fn one<R: Value>(many: &AsyncMapResult<R>) -> AsyncResult<R> {
        AsyncResult::one(many.submission().clone())
    }

    /// Calls `f` on the engine.
    pub fn apply<F, R>(&self, f: F) -> AsyncResult<R>
    where
        F: Fn() -> R + Send + Copy + 'static,
        R: Value,
    {
        assert_callable!(F);
        Self::one(&self.direct.apply(f))
    }

    /// Calls `f` with `argument` on the engine.
    pub fn apply_with<A, F, R>(&self, argument: A, f: F) -> AsyncResult<R>
    where
        F: Fn(A) -> R + Send + Copy + 'static,
        A: Value,
        R: Value,
    {
        assert_callable!(F);
        Self::one(&self.direct.apply_with(argument, f))
    }

    /// Calls `f` on every item, all on this engine.
    pub fn map<T, F, R>(&self, f: F, items: impl IntoIterator<Item = T>) -> AsyncMapResult<R>
    where
        F: Fn(T) -> R + Send + Copy + 'static,
        T: Value,
        R: Value,
    {
        assert_callable!(F);
        self.direct.map(f, items)
    }

    /// As [`Self::map`], with a value that travels once.
    pub fn map_with<S, T, F, R>(
        &self,
        shared: S,
        f: F,
        items: impl IntoIterator<Item = T>,
    ) -> AsyncMapResult<R>
    where
        F: Fn(&S, T) -> R + Send + Copy + 'static,
        S: Value,
        T: Value,
        R: Value,
    {
        assert_callable!(F);
        self.direct.map_with(shared, f, items)
    }

    /// Runs a cell from text on the engine.
    pub fn execute(&self, source: impl Into<String>) -> AsyncResult<CellReply> {
        Self::one(&self.direct.execute(source))
    }

    /// Makes `value` a variable of the engine.
    pub fn push<T>(&self, name: &str, value: &T) -> AsyncResult<()>
    where
        T: Serialize + ToOwned + ?Sized + 'static,
        T::Owned: Value,
    {
        Self::one(&self.direct.push(name, value))
    }

    /// Reads the variable `name` of the engine.
    pub fn pull<T: Value>(&self, name: &str) -> AsyncResult<T> {
        Self::one(&self.direct.pull(name))
    }

    /// A copy that names its submissions.
    pub fn label(&self, label: impl Into<String>) -> Self {
        Self { direct: self.direct.label(label) }
    }
}

impl LoadBalancedView {
    fn submitter(&self) -> Submitter<'_> {
        Submitter {
            cluster: self.cluster,
            targets: &self.targets,
            balanced: true,
            options: &self.options,
        }
    }

    fn many<R: Value>(&self, submission: Submission) -> AsyncMapResult<R> {
        AsyncMapResult::new(submission, self.options.unordered)
    }

    fn with(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut copy = self.clone();
        change(&mut copy.options);
        copy
    }

    /// Calls `f` on one engine.
    pub fn apply<F, R>(&self, f: F) -> AsyncResult<R>
    where
        F: Fn() -> R + Send + Copy + 'static,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn() -> R, R>(call::apply::<F, R>, &f);
        AsyncResult::one(self.submitter().apply(place, Ok(Vec::new())))
    }

    /// Calls `f` with `argument` (a tuple for several) on one engine.
    pub fn apply_with<A, F, R>(&self, argument: A, f: F) -> AsyncResult<R>
    where
        F: Fn(A) -> R + Send + Copy + 'static,
        A: Value,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn(A) -> R, R>(call::apply_with::<F, A, R>, &f);
        AsyncResult::one(self.submitter().apply(place, args(&argument)))
    }

    /// Calls `f` on every item, wherever there is time. Chunks are large first and small last, or
    /// as [`Self::chunksize`] says.
    pub fn map<T, F, R>(&self, f: F, items: impl IntoIterator<Item = T>) -> AsyncMapResult<R>
    where
        F: Fn(T) -> R + Send + Copy + 'static,
        T: Value,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn(T) -> R, R>(call::map::<F, T, R>, &f);
        self.many(self.submitter().map(place, Ok(Vec::new()), encoded(items)))
    }

    /// As [`Self::map`], with a value shared by all calls.
    pub fn map_with<S, T, F, R>(
        &self,
        shared: S,
        f: F,
        items: impl IntoIterator<Item = T>,
    ) -> AsyncMapResult<R>
    where
        F: Fn(&S, T) -> R + Send + Copy + 'static,
        S: Value,
        T: Value,
        R: Value,
    {
        assert_callable!(F);
        let place = Place::of::<F, fn(&S, T) -> R, R>(call::map_with::<F, S, T, R>, &f);
        self.many(self.submitter().map(place, args(&shared), encoded(items)))
    }

    /// Runs a cell from text on one engine.
    pub fn execute(&self, source: impl Into<String>) -> AsyncResult<CellReply> {
        let work = Work::Execute { source: source.into() };
        AsyncResult::one(self.submitter().submit(Ok((work, Vec::new()))))
    }

    /// Runs a file as a cell on one engine.
    pub fn run(&self, path: impl AsRef<Path>) -> AsyncResult<CellReply> {
        AsyncResult::one(self.submitter().submit(read_cell(path.as_ref())))
    }

    /// A copy with that many items per task.
    pub fn chunksize(&self, items: u64) -> Self {
        self.with(|options| options.chunksize = Some(items.max(1)))
    }

    /// A copy whose results iterate in the order in which they arrive.
    pub fn unordered(&self) -> Self {
        self.with(|options| options.unordered = true)
    }

    /// A copy that names its submissions.
    pub fn label(&self, label: impl Into<String>) -> Self {
        let label = label.into();
        self.with(|options| options.label = Some(label))
    }

    /// A copy that uses these engines only.
    pub fn targets(&self, targets: impl IntoTargets) -> Self {
        Self { targets: targets.into_targets(), ..self.clone() }
    }

    /// A copy whose failed tasks are tried again elsewhere, that many times.
    pub fn retries(&self, n: u32) -> Self {
        self.with(|options| options.retries = n)
    }

    /// A copy whose tasks wait for their dependencies no longer than that.
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = Some(timeout))
    }

    /// A copy whose tasks may each run for so long: one that takes longer is interrupted, and ends
    /// as [`crate::Error::TaskTimeout`]. The engine's variables stay. A stock controller has no
    /// such limit, and does not heed it.
    pub fn time_limit(&self, limit: Duration) -> Self {
        self.with(|options| options.time_limit = Some(limit))
    }

    /// A copy whose tasks start after that work has succeeded.
    pub fn after(&self, work: &impl Submitted) -> Self {
        let ids = work.submission_ids();
        self.with(|options| options.after.extend(ids))
    }

    /// A copy whose tasks run where that work ran, after it.
    pub fn follow(&self, work: &impl Submitted) -> Self {
        let ids = work.submission_ids();
        self.with(|options| options.follow.extend(ids))
    }
}

/// Results that other work can wait for.
pub trait Submitted {
    #[doc(hidden)]
    fn submission_ids(&self) -> Vec<u64>;
}

impl<T> Submitted for AsyncResult<T> {
    fn submission_ids(&self) -> Vec<u64> {
        self.submission().handle().into_iter().collect()
    }
}

impl<R> Submitted for AsyncMapResult<R> {
    fn submission_ids(&self) -> Vec<u64> {
        self.submission().handle().into_iter().collect()
    }
}
