//! Variables for Python clients: `push`, `pull` and what is made of them (`scatter`, `gather`,
//! `view["x"]`) of a stock ipyparallel client, without Python. Part of [`Engine`]; like it, does no
//! I/O and reads no clock.
//!
//! The client calls a helper function by name ([`helper`]); what it sends is read as [`data`], gets
//! a Rust type ([`types`]) and that type's bytes ([`encode`]). The workshop compiles one trampoline
//! per type, and the worker is called with it and the bytes, one call for each variable. What it
//! gives back is written as Python expects it ([`answer`]).
mod answer;
mod data;
mod encode;
pub mod helper;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use prust::plain;

use super::event::{Effect, Fault, Now, Wanted};
use super::request::Work;
use super::state::Engine;
use super::work::{Running, Stage};
use crate::cell::namespace::{Delta, Variable};
use crate::cell::plan::trampoline::Way;
use crate::compile::Trampoline;
use crate::worker::Call;

pub use helper::Helper;
use types::Type;

/// How variables came from Python, by name: the type as text, to be compared with what the variable
/// is now, and as Python had it.
pub(super) type Made = BTreeMap<String, (String, Type)>;

/// What variables that Python has made are called by, where others are by their cell.
const LABEL: &str = "push";

/// One request of a Python client, and how far it is.
#[derive(Debug)]
pub struct Request {
    helper: Option<Helper>,
    /// Calls to come, the first one next.
    steps: VecDeque<Step>,
    /// The one that runs.
    step: Option<Step>,
    /// Values that were pulled, in plain data.
    pulled: Vec<(String, Vec<u8>)>,
    /// Whether they are asked for as a list.
    many: bool,
}

#[derive(Debug)]
struct Step {
    way: Way,
    name: String,
    type_text: String,
    /// Of what is pushed.
    ty: Option<Type>,
    payload: Vec<u8>,
    at: Option<Trampoline>,
}

impl Request {
    pub fn new(helper: Helper) -> Self {
        let (steps, step, pulled, many) = (VecDeque::new(), None, Vec::new(), false);
        Self { helper: Some(helper), steps, step, pulled, many }
    }
}

impl Engine {
    /// Asks for the trampolines of a request that begins.
    pub(super) fn start_python(&mut self, mut running: Running, now: Now) {
        let Work::Python(request) = &mut running.task.work else { return };
        let steps = match request.helper.take() {
            Some(Helper::Push(pushed)) => Ok(pushed.into_iter().map(Step::push).collect()),
            Some(Helper::Pull { names, many }) => {
                request.many = many;
                names.into_iter().map(|name| self.pull_step(name)).collect()
            }
            Some(Helper::Nothing) | None => Ok(VecDeque::new()),
        };
        match steps {
            Ok(steps) => request.steps = steps,
            Err(fault) => return self.finish_fault(running, &fault, now),
        }
        if let Some(fault) = request.steps.iter().find_map(|step| self.hidden(step)) {
            return self.finish_fault(running, &fault, now);
        }
        if request.steps.is_empty() {
            return self.finish_python(running, now);
        }
        let wanted = request.steps.iter().map(|step| Wanted {
            way: step.way,
            name: step.name.clone(),
            type_text: step.type_text.clone(),
        });
        let wanted = wanted.collect();
        let namespace = Box::new(self.namespace.clone());
        running.stage = Stage::Compiling;
        self.effects.push(Effect::Trampolines { run: running.run, wanted, namespace });
        self.running = Some(running);
    }

    /// A variable that an item of the same name would hide.
    fn hidden(&self, step: &Step) -> Option<Fault> {
        let name = step.name.as_str();
        let is_hidden = step.way == Way::Push && self.namespace.items.names().contains(name);
        is_hidden.then(|| {
            let text = format!("`{name}` is an item here, which hides variables: use another name");
            Fault::new("NameError", text)
        })
    }

    fn pull_step(&self, name: String) -> Result<Step, Fault> {
        let Some(variable) = self.namespace.variables.get(&name) else {
            let moved = self.namespace.moved.get(&name);
            let why = moved.map_or_else(String::new, |by| format!(": it was moved in {}", by.cell));
            return Err(Fault::new("NameError", format!("name '{name}' is not defined{why}")));
        };
        let payload = helper::payload(&name, None).map_err(|why| {
            Fault::new("EngineError", format!("the call for `{name}` cannot be written: {why}"))
        })?;
        let type_text = variable.type_text.clone();
        Ok(Step { way: Way::Pull, name, type_text, ty: None, payload, at: None })
    }

    pub(super) fn trampolines(
        &mut self,
        run: u64,
        result: Result<Vec<Trampoline>, Fault>,
        now: Now,
    ) {
        let current =
            |running: &mut Running| running.run == run && running.stage == Stage::Compiling;
        let Some(mut running) = self.running.take_if(current) else { return };
        match (result, &mut running.task.work) {
            (Err(fault), _) => self.finish_fault(running, &fault, now),
            (Ok(found), Work::Python(request)) => {
                request.steps.iter_mut().zip(found).for_each(|(step, at)| step.at = Some(at));
                running.stage = Stage::Working;
                self.next_step(running, now);
            }
            (Ok(_), _) => unreachable!("only Python's requests ask for trampolines"),
        }
        self.start_next(now);
    }

    /// A call has ended well.
    pub(super) fn stepped(&mut self, mut running: Running, value: Vec<u8>, now: Now) {
        let Work::Python(request) = &mut running.task.work else { return };
        match request.step.take() {
            Some(Step { way: Way::Push, name, type_text, ty: Some(ty), .. }) => {
                // No more of them than there are variables.
                self.made.retain(|name, _| self.namespace.variables.contains_key(name));
                self.made.insert(name, (type_text, ty));
            }
            Some(step) => request.pulled.push((step.name, value)),
            None => (),
        }
        self.next_step(running, now);
    }

    fn next_step(&mut self, mut running: Running, now: Now) {
        let Work::Python(request) = &mut running.task.work else { return };
        let Some(mut step) = request.steps.pop_front() else {
            return self.finish_python(running, now);
        };
        let Some(Trampoline { library, offset }) = step.at.take() else {
            unreachable!("a trampoline was found for every step");
        };
        let mutates = step.way == Way::Push;
        let payload = std::mem::take(&mut step.payload);
        self.run_last += 1;
        running.run = self.run_last;
        running.delta = mutates.then(|| step.delta());
        request.step = Some(step);
        self.pristine = false;
        self.before = mutates.then(|| self.namespace.clone());
        let call = Call { library, offset, payload, mutates };
        self.effects.push(Effect::Call { run: running.run, call });
        self.running = Some(running);
    }

    fn finish_python(&mut self, mut running: Running, now: Now) {
        let Work::Python(request) = &mut running.task.work else { return };
        let pulled = std::mem::take(&mut request.pulled);
        let mut values = Vec::with_capacity(pulled.len());
        for (name, bytes) in &pulled {
            match plain::read(bytes) {
                Ok(value) => values.push((value, self.made_as(name))),
                Err(error) => {
                    let text = format!("the worker's answer for `{name}` is unreadable: {error}");
                    let fault = Fault::new("EngineError", text);
                    return self.finish_fault(running, &fault, now);
                }
            }
        }
        let buffers = match (request.many, values.pop()) {
            (false, None) => answer::nothing(),
            (false, Some((value, made))) => answer::one(value, made),
            (true, last) => {
                values.extend(last);
                answer::many(values)
            }
        };
        self.finish_ok(running, buffers);
    }

    /// As what Python made a variable, as long as it is of that type.
    fn made_as(&self, name: &str) -> Option<&Type> {
        let (type_text, ty) = self.made.get(name)?;
        let variable = self.namespace.variables.get(name)?;
        (variable.type_text == *type_text).then_some(ty)
    }
}

impl Step {
    fn push(pushed: helper::Pushed) -> Self {
        let helper::Pushed { name, ty, payload } = pushed;
        let type_text = ty.rust();
        Self { way: Way::Push, name, type_text, ty: Some(ty), payload, at: None }
    }

    fn delta(&self) -> Box<Delta> {
        let (type_text, cell) = (self.type_text.clone(), LABEL.to_owned());
        let put = vec![(self.name.clone(), Variable { type_text, mutable: true, cell })];
        Box::new(Delta { cell: LABEL.to_owned(), put, ..Delta::default() })
    }
}
