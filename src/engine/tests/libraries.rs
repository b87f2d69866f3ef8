//! Tasks whose libraries are on another host.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::engine::libraries::{ASK_EVERY, ASK_MAX};

impl Lab {
    fn elsewhere() -> Self {
        Self { is_same_host: false, ..Self::registered() }
    }

    fn bring(&self, names: &[&str], absent: &[&str]) -> Event {
        let content = json!({"names": names, "absent": absent});
        self.request_on(Channel::Control, "k", "library_request", &json!({}), &content)
    }
}

fn lacks(run: u64, names: &[&str]) -> Event {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Event::Found { run, found: Ok(Found::Lacks(names)) }
}

#[test]
fn the_client_is_asked_for_what_is_not_here_and_the_queue_waits() {
    let mut lab = Lab::elsewhere();
    let (first, second) = (lab.call(), lab.call());
    assert_eq!(lab.tell(first), ["find 1 /l.so"]);
    assert_eq!(lab.tell(second), [""; 0]);
    assert_eq!(lab.tell(lacks(1, &["libl.so"])), ["m1> prust_library_missing"]);
    let brought = lab.bring(&["libl.so"], &[]);
    assert_eq!(lab.tell(brought), ["k: library_reply ok", "keep 1", "find 1 /l.so"]);
    assert_eq!(lab.tell(lacks(1, &["libunit.so", "libc.so.6"])), ["m1> prust_library_missing"]);
    let brought = lab.bring(&["libunit.so"], &["libc.so.6"]);
    let effects = lab.effects(brought);
    let [.., Effect::Find { absent, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*absent, HashSet::from(["libc.so.6".to_owned()]));
    // It runs from where it is here.
    let effects = lab.effects(found(1, Path::new("/here/libl.so")));
    let [Effect::Call { run: 1, call }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(call.library, PathBuf::from("/here/libl.so"));
    // The next one need not look.
    assert_eq!(lab.tell(ok(1)), ["m1: apply_reply ok", "call 2"]);
}

#[test]
fn nothing_is_sent_ahead_of_a_library_that_is_looked_for() {
    let mut lab = Lab::registered();
    let call = lab.call();
    lab.tell(call);
    lab.tell(ok(1));
    lab.is_same_host = false;
    let other = |lab: &mut Lab| {
        let metadata = json!({"prust": {"library": "/other.so", "offset": 64}});
        lab.request("apply_request", &metadata, &json!({}))
    };
    let (known, unknown, last) = (lab.call(), other(&mut lab), lab.call());
    assert_eq!(lab.tell(known), ["call 2"]);
    assert_eq!(lab.tell(unknown), [""; 0]);
    assert_eq!(lab.tell(last), [""; 0]);
    assert_eq!(lab.tell(ok(2)), ["m2: apply_reply ok", "find 3 /other.so"]);
    let told = lab.tell(found(3, Path::new("/here/other.so")));
    assert_eq!(told, ["call 3", "call 4"]);
}

#[test]
fn a_client_that_sends_nothing_is_asked_again_and_in_the_end_given_up() {
    let mut lab = Lab::elsewhere();
    let (cell, next) = (lab.cell(false), lab.call());
    assert_eq!(lab.tell(cell), ["m1> busy", "m1> execute_input", "find 1 /l.so"]);
    lab.tell(next);
    assert_eq!(lab.tell(lacks(1, &["libl.so"])), ["m1> prust_library_missing"]);
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    lab.now.instant += ASK_EVERY;
    assert_eq!(lab.tell(Event::Ping(Vec::new())), ["pong"]);
    assert_eq!(lab.tell(Event::Tick), ["m1> prust_library_missing"]);
    lab.now.instant += ASK_MAX;
    lab.tell(Event::Ping(Vec::new()));
    let told = lab.tell(Event::Tick);
    let reply = "m1: execute_reply error LibraryMissing";
    assert_eq!(told, ["m1> error", reply, "m1> idle", "find 2 /l.so"]);
    // What comes too late changes nothing.
    assert_eq!(lab.tell(found(1, Path::new("/l.so"))), [""; 0]);
    assert_eq!(lab.tell(found(2, Path::new("/l.so"))), ["call 2"]);
}

#[test]
fn a_task_that_waits_for_its_library_can_be_interrupted() {
    let mut lab = Lab::elsewhere();
    let call = lab.call();
    lab.tell(call);
    lab.tell(lacks(1, &["libl.so"]));
    let interrupt = lab.control("interrupt_request", &json!({"msg_ids": ["m1"]}));
    let told = lab.tell(interrupt);
    assert!(told.contains(&"m1: apply_reply error Interrupted".to_owned()), "{told:?}");
    assert_eq!(lab.tell(found(1, Path::new("/l.so"))), [""; 0]);
    let call = lab.call();
    assert_eq!(lab.tell(call), ["find 2 /l.so"]);
}

#[test]
fn what_cannot_be_sent_is_an_error_and_bad_requests_are_told() {
    let mut lab = Lab::elsewhere();
    let call = lab.call();
    lab.tell(call);
    let bad = lab.bring(&["liba.so", "libb.so"], &[]);
    assert_eq!(lab.tell(bad), ["k: library_reply error BadRequest"]);
    let other = Fault::new("LibraryMissing", "compiled by another rustc");
    let told = lab.tell(Event::Found { run: 1, found: Err(other) });
    assert_eq!(told, ["m1: apply_reply error LibraryMissing"]);
    // Nobody waits for it.
    let late = lab.bring(&["libl.so"], &[]);
    assert_eq!(lab.tell(late), ["k: library_reply ok"]);
}
