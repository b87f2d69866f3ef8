//! What stops work and engines: aborts, interrupts, clears, shutdowns.

use serde_json::json;

use super::*;

#[test]
fn an_abort_removes_what_waits_and_what_is_still_on_its_way() {
    let mut lab = Lab::registered();
    for event in [lab.call(), lab.call()] {
        lab.tell(event);
    }
    let abort = lab.control("abort_request", &json!({"msg_ids": ["m1", "m2", "m3"]}));
    let told = lab.tell(abort);
    assert_eq!(told, ["m2: apply_reply aborted", "k2: abort_reply ok"]);
    let late = lab.call();
    assert_eq!(lab.tell(late), ["m3: apply_reply aborted"]);
    assert_eq!(lab.tell(ok(1)), ["m1: apply_reply ok"]);
}

#[test]
fn an_interrupt_meets_only_the_work_it_was_meant_for() {
    let mut lab = Lab::registered();
    let call = lab.call();
    lab.tell(call);
    let other = lab.control("interrupt_request", &json!({"msg_ids": ["m9"]}));
    assert_eq!(lab.tell(other), ["k1: interrupt_reply ok"]);
    let this = lab.control("interrupt_request", &json!({}));
    assert_eq!(lab.tell(this), ["interrupt", "k1: interrupt_reply ok"]);
    let outcome = Outcome::Interrupted { restored: true, threads_lost: Vec::new() };
    assert_eq!(lab.tell(done(1, outcome)), ["m1: apply_reply error Interrupted"]);
    let idle = lab.control("signal_request", &json!({"sig": "SIGINT"}));
    assert_eq!(lab.tell(idle), ["k1: signal_reply ok"]);
}

#[test]
fn a_clear_waits_for_running_work_and_precedes_queued_work() {
    let mut lab = Lab::registered();
    let clear = lab.control("clear_request", &json!({}));
    assert_eq!(lab.tell(clear), ["k0: clear_reply ok"]);
    for event in [lab.call(), lab.call()] {
        lab.tell(event);
    }
    let clear = lab.control("clear_request", &json!({}));
    assert_eq!(lab.tell(clear), [""; 0]);
    assert_eq!(lab.tell(ok(1)), ["m1: apply_reply ok", "replace worker"]);
    assert_eq!(lab.tell(ready()), ["k2: clear_reply ok", "call 2"]);
}

#[test]
fn a_shutdown_is_told_to_everybody_and_a_restart_keeps_the_engine() {
    let mut lab = Lab::registered();
    let call = lab.call();
    lab.tell(call);
    let restart = lab.control("shutdown_request", &json!({"restart": true}));
    assert_eq!(lab.tell(restart), ["m1: apply_reply error EngineError", "replace worker"]);
    assert_eq!(lab.tell(ready()), ["k1: shutdown_reply ok"]);
    let shutdown = lab.control("shutdown_request", &json!({"restart": false}));
    let expected = ["k1> shutdown_reply", "k1: shutdown_reply ok", "unregister 3", "exit 0"];
    assert_eq!(lab.tell(shutdown), expected);
    let late = lab.call();
    assert_eq!(lab.tell(late), [""; 0]);
}
