//! Short calls that follow one another.
use super::*;

/// A call runs that follows on a quick one, and three wait for it, with the worker.
fn quick() -> Lab {
    let mut lab = Lab::registered();
    for run in 1..=2 {
        let call = lab.call();
        lab.tell(call);
        if run == 1 {
            lab.tell(ok(1));
        }
    }
    for run in 3..=5 {
        let call = lab.call();
        assert_eq!(lab.tell(call), [format!("call {run}")]);
    }
    lab
}

fn recalled(runs: &[u64]) -> Event {
    Event::Worker(WorkerEvent::Recalled { runs: runs.to_vec() })
}

#[test]
fn quick_calls_are_with_the_worker_before_they_are_due() {
    let mut lab = quick();
    assert!(lab.engine.is_quick());
    for run in 2..=5 {
        assert_eq!(lab.tell(ok(run)), [format!("m{run}: apply_reply ok")]);
    }
    assert!(!lab.engine.is_quick());
}

#[test]
fn nothing_is_sent_ahead_of_what_takes_its_time_or_is_no_plain_call() {
    let mut lab = Lab::registered();
    let (first, second) = (lab.call(), lab.call());
    assert_eq!(lab.tell(first), ["call 1"]);
    assert_eq!(lab.tell(second), [""; 0]);
    lab.now.instant += Duration::from_millis(3);
    assert_eq!(lab.tell(ok(1)), ["m1: apply_reply ok", "call 2"]);
    assert_eq!(lab.tell(ok(2)), ["m2: apply_reply ok"]);
    let mut lab = quick();
    let cell = lab.cell(true);
    let behind = lab.call();
    assert_eq!(lab.tell(cell), [""; 0]);
    assert_eq!(lab.tell(behind), [""; 0]);
}

#[test]
fn a_call_sent_ahead_is_aborted_when_the_worker_has_given_it_back() {
    let mut lab = quick();
    let abort = lab.control("abort_request", &json!({"msg_ids": ["m4"]}));
    assert_eq!(lab.tell(abort), ["recall"]);
    // The worker begins with the next one before it hears of it.
    assert_eq!(lab.tell(ok(2)), ["m2: apply_reply ok"]);
    let told = lab.tell(recalled(&[4, 5]));
    assert_eq!(told, ["m4: apply_reply aborted", "k5: abort_reply ok"]);
    assert_eq!(lab.tell(ok(3)), ["m3: apply_reply ok", "call 6"]);
    assert_eq!(lab.tell(ok(6)), ["m5: apply_reply ok"]);
}

#[test]
fn what_has_begun_by_then_is_not_aborted() {
    let mut lab = quick();
    let abort = lab.control("abort_request", &json!({"msg_ids": ["m3"]}));
    assert_eq!(lab.tell(abort), ["recall"]);
    assert_eq!(lab.tell(ok(2)), ["m2: apply_reply ok"]);
    assert_eq!(lab.tell(recalled(&[4, 5])), ["k5: abort_reply ok"]);
    assert_eq!(lab.tell(ok(3)), ["m3: apply_reply ok", "call 6", "call 7"]);
}

#[test]
fn an_interrupt_that_comes_too_early_is_kept_for_the_call_it_is_meant_for() {
    let mut lab = quick();
    let interrupt = lab.control("interrupt_request", &json!({"msg_ids": ["m3"]}));
    assert_eq!(lab.tell(interrupt), ["k5: interrupt_reply ok"]);
    assert_eq!(lab.tell(ok(2)), ["m2: apply_reply ok", "interrupt"]);
}

#[test]
fn a_crash_costs_the_call_in_hand_and_the_next_ones_are_sent_again() {
    let mut lab = quick();
    assert_eq!(lab.tell(recalled(&[3, 4, 5])), [""; 0]);
    let why = crate::worker::Failure { ename: "SIGSEGV".to_owned(), ..Default::default() };
    let cause = "SIGSEGV".to_owned();
    let crash = Outcome::Crashed { cause, why, restored: true, threads_lost: Vec::new() };
    let told = lab.tell(done(2, crash));
    assert_eq!(told, ["m2: apply_reply error SIGSEGV", "call 6", "call 7", "call 8"]);
    assert_eq!(lab.tell(ok(6)), ["m3: apply_reply ok"]);
}

#[test]
fn a_restart_aborts_what_the_worker_has() {
    let mut lab = quick();
    let restart = lab.control("shutdown_request", &json!({"restart": true}));
    let told = lab.tell(restart);
    assert_eq!(
        told[..3],
        ["m3: apply_reply aborted", "m4: apply_reply aborted", "m5: apply_reply aborted"]
    );
    assert!(told.contains(&"replace worker".to_owned()), "{told:?}");
}
