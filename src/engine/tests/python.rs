//! A Python client's push and pull as an engine's steps: compile, call, reply.
use std::path::PathBuf;

use super::*;
use crate::compile::Trampoline;
use crate::wire::pickle::{self, Global, Value as Pickled};

fn text(text: &str) -> Pickled {
    Pickled::Text(text.to_owned())
}

impl Lab {
    fn helper(&mut self, name: &str, info: Vec<(Pickled, Pickled)>, values: &[Pickled]) -> Event {
        let mut event = self.request("apply_request", &json!({}), &json!({}));
        let Event::Request { message, .. } = &mut event else { unreachable!("it is a request") };
        let function = Pickled::Global(Global::new("ipyparallel.util", name));
        let head = [function, Pickled::Dict(info)];
        message.buffers = head.iter().chain(values).map(pickle::write).collect();
        event
    }

    fn push(&mut self, names: &[&str]) -> Event {
        let names: Vec<_> = names.iter().map(|name| text(name)).collect();
        let values = vec![Pickled::Int(5); names.len()];
        let info = vec![(text("nargs"), Pickled::Int(0)), (text("kw_keys"), Pickled::List(names))];
        self.helper("_push", info, &values)
    }

    fn pull(&mut self, name: &str) -> Event {
        self.helper("_pull", vec![(text("nargs"), Pickled::Int(1))], &[text(name)])
    }
}

fn found(run: u64, n: usize) -> Event {
    let trampoline = Trampoline { library: PathBuf::from("/t.so"), offset: 8 };
    Event::Trampolines { run, result: Ok(vec![trampoline; n]) }
}

fn gave(run: u64, value: &[u8]) -> Event {
    done(run, Outcome::Ok { value: value.to_vec() })
}

#[test]
fn a_push_is_compiled_called_for_each_name_and_answered_once() {
    let mut lab = Lab::registered();
    let push = lab.push(&["a", "b"]);
    assert_eq!(lab.tell(push), ["m1> busy", "trampolines 1"]);
    assert_eq!(lab.tell(found(1, 2)), ["call 2"]);
    assert_eq!(lab.tell(gave(2, b"")), ["call 3"]);
    assert_eq!(lab.tell(gave(3, b"")), ["m1: apply_reply ok", "m1> idle"]);
    let variables = &lab.engine.namespace.variables;
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(variables["a"].type_text, "i64");
    assert_eq!(lab.engine.namespace_hash, lab.engine.namespace.hash());
}

#[test]
fn a_pull_answers_with_the_value() {
    let mut lab = Lab::registered();
    let push = lab.push(&["a"]);
    lab.tell(push);
    lab.tell(found(1, 1));
    lab.tell(gave(2, b""));
    let pull = lab.pull("a");
    assert_eq!(lab.tell(pull), ["m2> busy", "trampolines 3"]);
    assert_eq!(lab.tell(found(3, 1)), ["call 4"]);
    let value = prust::plain::write(&5i64).expect("a number is written");
    let effects = lab.effects(gave(4, &value));
    let Effect::Reply(reply) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(reply.buffers, [pickle::write(&Pickled::Int(5))]);
}

#[test]
fn a_name_that_is_not_there_is_pythons_name_error() {
    let mut lab = Lab::registered();
    let pull = lab.pull("gone");
    let effects = lab.effects(pull);
    let Some(Effect::Reply(reply)) =
        effects.iter().find(|effect| matches!(effect, Effect::Reply(_)))
    else {
        panic!("{effects:?}")
    };
    assert_eq!(reply.content["ename"], "NameError");
    assert_eq!(reply.content["evalue"], "name 'gone' is not defined");
    assert_eq!(reply.content["engine_info"]["method"], "apply");
}

#[test]
fn what_cannot_be_compiled_or_crashes_is_the_requests_error() {
    let mut lab = Lab::registered();
    let push = lab.push(&["a"]);
    lab.tell(push);
    let fault = Fault::new("NotSerializable", "no");
    let refused = Event::Trampolines { run: 1, result: Err(fault) };
    let replies = ["m1> error", "m1: apply_reply error NotSerializable", "m1> idle"];
    assert_eq!(lab.tell(refused), replies);
    let push = lab.push(&["a", "b"]);
    lab.tell(push);
    lab.tell(found(2, 2));
    lab.tell(gave(3, b""));
    let replies = ["m2> error", "m2: apply_reply error panic", "m2> idle"];
    assert_eq!(lab.tell(panicked(4)), replies);
    // What was made before that is there.
    assert_eq!(lab.engine.namespace.variables.keys().collect::<Vec<_>>(), ["a"]);
    // An interrupt while rustc works ends the request; what comes late is nobody's.
    let push = lab.push(&["c"]);
    lab.tell(push);
    let effects = lab.tell(Event::Interrupt);
    assert_eq!(effects[0], "cancel compile");
    assert_eq!(lab.tell(found(5, 1)), [""; 0]);
}
