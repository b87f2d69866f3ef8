//! What peers with the key may say to do harm, or by accident; and engines that nothing reaches.

use serde_json::json;

use crate::lab::{Lab, message};
use crate::record::{Queue, Record, append_bounded};
use crate::records::{RECORD_BYTES_MAX, Records};
use crate::{Channel, Event, Hwm, Keeps, Millis, Moment};

#[test]
fn an_engine_that_asks_for_the_last_number_takes_it_from_nobody() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.register(json!({"uuid": "greedy", "id": u32::MAX - 1}));
    lab.echo("greedy");
    let ids: Vec<_> = (0..3).map(|n| lab.engine(&format!("e{n}"))).collect();
    assert_eq!(lab.cluster.engines().len(), 4);
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
}

#[test]
fn a_task_that_is_named_like_a_resubmitted_one_is_in_nobodys_way() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.task("hub_again_1", json!({}));
    lab.task("t", json!({}));
    let again = lab.query("resubmit_request", json!({"msg_ids": ["t"]}));
    assert_eq!(again["resubmitted"]["t"], "hub_again_2");
}

#[test]
fn a_broadcast_whose_metadata_is_a_list_is_dropped() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    let list = json!([[["e0", 0]], true]);
    lab.receive(
        Channel::ClientBroadcast,
        message(&["client"], "b", "apply_request", None, list, json!({})),
    );
    assert_eq!(lab.cluster.counts().malformed, 1);
    lab.expect(&[]);
}

#[test]
fn an_engine_that_a_message_does_not_reach_is_given_up_and_comes_back() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.engine("e1");
    lab.task("t", json!({"targets": ["e0", "e1"], "retries": 1}));
    lab.expect(&["EngineTask [e0,client] apply_request t"]);
    lab.handle(Event::Unreached { engine: b"nobody".to_vec() });
    lab.expect(&[]);
    lab.handle(Event::Unreached { engine: b"e0".to_vec() });
    lab.expect(&[
        "EngineTask [e1,client,2] apply_request t resigned",
        "Notification [] unregistration_notification to  0",
    ]);
    lab.handle(Event::Unreached { engine: b"e0".to_vec() });
    lab.expect(&[]);
    lab.wait(1000);
    lab.echo("e0");
    assert!(lab.lines().contains(&"Notification [] registration_notification to  0".to_owned()));
    assert_eq!(lab.cluster.n_engines(), 2);
}

#[test]
fn what_is_printed_after_the_end_counts_for_the_limit_of_the_records() {
    const STREAM: usize = 1 << 20;
    let mut records = Records::new(Keeps::Memory);
    let text = "x".repeat(STREAM);
    let n_records = RECORD_BYTES_MAX / STREAM + 4;
    for n in 0..n_records {
        let request = message(&["c"], &format!("t{n}"), "r", None, json!({}), json!({}));
        let head = request.head().expect("tests write JSON headers");
        let key = records.add(Record::new(head, Queue::Task, request.clone()));
        records.finish(key, request, Moment::Replied(0), Millis(0));
        records.change(key, Millis(0), |record| append_bounded(&mut record.stdout, &text));
    }
    records.check();
    assert!(records.by_id("t0").is_none(), "the oldest made room");
    assert!(records.by_id(&format!("t{}", n_records - 1)).is_some());
}
