//! Tasks that are tried more than once.

use serde_json::json;

use crate::lab::{Lab, failed, ok};
use crate::{Effect, Hwm};

/// Two engines, the first of which has a task that may be tried so often again.
fn tried(retries: u32) -> Lab {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.engine("e1");
    lab.taken();
    lab.task("t", json!({"retries": retries}));
    lab
}

#[test]
fn a_retry_goes_to_another_engine_and_never_repeats_frames() {
    let mut lab = tried(2);
    lab.expect(&["EngineTask [e0,client] apply_request t"]);
    lab.reply("e0", "t", failed());
    lab.expect(&["EngineTask [e1,client,2] apply_request t resigned"]);
    // Both have failed it; without a timeout it does not wait for a third engine for ever.
    lab.reply("e1", "t", failed());
    let last = lab.taken();
    assert!(matches!(&last[..], [Effect::Resign { metadata, .. }] if metadata.ends_with(b"  ")));
    lab.reply("e1", "t", failed());
    lab.reply("e0", "t", failed());
    assert_eq!(lab.lines().len(), 1);
}

#[test]
fn an_unmet_dependency_on_an_engine_costs_no_retry() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.task("t", json!({}));
    lab.taken();
    lab.engine("e1");
    lab.reply("e0", "t", json!({"status": "error", "dependencies_met": false}));
    lab.expect(&["EngineTask [e1,client,2] apply_request t resigned"]);
    lab.reply("e1", "t", ok());
    lab.expect(&["ClientTask [client,e1] apply_reply t-reply"]);
}

#[test]
fn an_attempt_is_dated_when_it_is_made() {
    let mut lab = tried(1);
    lab.taken();
    lab.wait(2500);
    lab.reply("e0", "t", failed());
    let last = lab.taken();
    let [Effect::Resign { header, .. }] = &last[..] else { panic!("{last:?}") };
    let header: serde_json::Value = serde_json::from_slice(header).expect("it is JSON");
    assert_eq!(header["msg_id"], "t");
    assert_eq!(header["date"], crate::iso(lab.now));
}

#[test]
fn what_a_lost_attempt_prints_late_is_no_output_of_the_next_one() {
    let mut lab = tried(1);
    lab.taken();
    lab.print("e0", 0, "t", "before ");
    lab.expect(&["ClientIopub [engine.0.stdout] stream m"]);
    lab.unregister(0, "killed");
    lab.taken();
    lab.print("e0", 0, "t", "late ");
    lab.expect(&[]);
    lab.print("e1", 1, "t", "now");
    assert_eq!(lab.lines().len(), 1);
    let key = lab.cluster.records.key_of("t").expect("it is known");
    assert_eq!(lab.cluster.records.get(key).expect("it is kept").stdout, "before now");
}

/// To a client, idle means that no more output comes.
#[test]
fn a_task_that_may_be_tried_again_is_idle_once_with_its_last_attempt() {
    let mut lab = tried(2);
    lab.task("once", json!({}));
    lab.taken();
    // Before the reply of its attempt, and after it.
    lab.status("e0", 0, "t", "busy");
    lab.status("e0", 0, "t", "idle");
    lab.reply("e0", "t", failed());
    lab.reply("e1", "once", ok());
    lab.status("e0", 0, "t", "idle");
    lab.status("e1", 1, "once", "idle");
    lab.expect(&[
        "ClientIopub [engine.0.status] status m",
        "ClientTask [client,e1] apply_reply once-reply",
        "EngineTask [e1,client,2] apply_request t resigned",
        "ClientIopub [engine.1.status] status m",
    ]);
    // An engine that has it twice is busy twice.
    lab.status("e1", 1, "t", "busy");
    lab.status("e1", 1, "t", "idle");
    lab.reply("e1", "t", failed());
    lab.status("e0", 0, "t", "busy");
    lab.expect(&[
        "ClientIopub [engine.1.status] status m",
        "EngineTask [e0,client,3] apply_request t resigned",
        "ClientIopub [engine.0.status] status m",
    ]);
    lab.status("e0", 0, "t", "idle");
    lab.expect(&[]);
    lab.reply("e0", "t", ok());
    lab.expect(&[
        "ClientTask [client,e0] apply_reply t-reply",
        "ClientIopub [engine.0.status] status m",
    ]);
}
