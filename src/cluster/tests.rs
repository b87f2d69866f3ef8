//! Scripts: events in, exactly these effects out.

use serde_json::json;

use crate::lab::{Lab, message, ok};
use crate::{Channel, Counts, Effect, Event, Hwm, Message, Moment};

#[test]
fn an_engine_is_announced_after_its_first_echo() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.wait(1000);
    lab.register(json!({"uuid": "e0"}));
    lab.task("t", json!({}));
    lab.wait(200);
    lab.expect(&["Registration [registrar] registration_reply to  \"ok\""]);
    assert!(lab.cluster.next_deadline().0 <= lab.now.0 + 10, "extra beats come at once");
    lab.echo("e0");
    lab.expect(&[
        "Notification [] registration_notification to  0",
        "EngineTask [e0,client] apply_request t",
    ]);
    assert!(lab.cluster.next_deadline().0 > lab.now.0 + 1000, "extra beats have ended");
}

#[test]
fn a_client_that_subscribes_is_told_who_is_there() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.handle(Event::Subscribed);
    lab.expect(&[]);
    lab.engine("e0");
    lab.engine("e1");
    lab.register(json!({"uuid": "registered but not announced"}));
    lab.taken();
    lab.handle(Event::Subscribed);
    lab.expect(&[
        "Notification [] registration_notification to  0",
        "Notification [] registration_notification to  1",
    ]);
}

#[test]
fn numbers_are_given_once_and_uuids_are_unique() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.register(json!({"uuid": "e0"}));
    lab.expect(&["Registration [registrar] registration_reply to  \"KeyError\""]);
    for uuid in ["e1", "e2"] {
        lab.register(json!({"uuid": uuid, "id": 7}));
        lab.echo(uuid);
    }
    lab.unregister(0, "gone");
    lab.engine("e3");
    let engines = lab.cluster.engines();
    assert_eq!(engines, [(7, "e1".into()), (8, "e2".into()), (9, "e3".into())]);
}

#[test]
fn an_engine_that_misses_more_than_ten_beats_is_given_up() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.task("t", json!({}));
    lab.taken();
    lab.wait(10 * 3000);
    lab.expect(&[]);
    lab.wait(3 * 3000);
    lab.expect(&[
        "ClientTask [client] apply_reply to t \"EngineError\"",
        "Notification [] unregistration_notification to  0",
    ]);
    // An engine that still lives and answers late is not listened to.
    lab.reply("e0", "t", ok());
    lab.expect(&[]);
    assert_eq!(lab.cluster.counts(), Counts { late: 1, ..Counts::default() });
}

#[test]
fn direct_work_changes_nothing_but_identities() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    let mut request =
        message(&["client", "e0"], "m", "execute_request", None, json!({}), json!({"code": "1"}));
    request.buffers = vec![b"buffer".to_vec()];
    lab.receive(Channel::ClientMux, request.clone());
    request.ids.swap(0, 1);
    let frames = request.join();
    assert_eq!(lab.taken(), [Effect::Forward { channel: Channel::EngineMux, frames }]);
    for _ in 0..2 {
        let reply = message(&["e0", "client"], "r", "execute_reply", Some("m"), ok(), ok());
        lab.receive(Channel::EngineMux, reply);
    }
    lab.expect(&["ClientMux [client,e0] execute_reply r"]);
    assert_eq!(lab.cluster.counts().late, 1);
}

#[test]
fn a_lost_engine_fails_what_ran_and_the_rest_moves_on() {
    let mut lab = Lab::new(Hwm::Fixed(3));
    lab.engine("e0");
    for task in ["t1", "t2", "t3"] {
        lab.task(task, json!({}));
    }
    let direct = message(&["client", "e0"], "m", "execute_request", None, json!({}), json!({}));
    lab.receive(Channel::ClientMux, direct);
    lab.engine("e1");
    lab.taken();
    lab.unregister(0, "killed by SIGKILL");
    lab.wait(100);
    lab.expect(&[
        "ClientMux [client,e0] execute_reply to m \"EngineError\"",
        "ClientTask [client] apply_reply to t1 \"EngineError\"",
        "EngineTask [e1,client,2] apply_request t2 resigned",
        "EngineTask [e1,client,2] apply_request t3 resigned",
        "Notification [] unregistration_notification to  0",
    ]);
    let story = lab.cluster.story("t1").expect("it was submitted");
    assert!(story.iter().any(|(_, moment)| *moment == Moment::Lost(0, "killed by SIGKILL".into())));
}

#[test]
fn what_a_lost_engine_was_busy_with_fails_and_not_what_waited_behind_it() {
    let mut lab = Lab::new(Hwm::Fixed(3));
    lab.engine("e0");
    let direct = message(&["client", "e0"], "m", "execute_request", None, json!({}), json!({}));
    lab.receive(Channel::ClientMux, direct);
    lab.wait(5);
    for task in ["t1", "t2", "t3"] {
        lab.task(task, json!({}));
    }
    lab.engine("e1");
    lab.taken();
    lab.unregister(0, "killed by signal 9");
    lab.expect(&[
        "ClientMux [client,e0] execute_reply to m \"EngineError\"",
        "EngineTask [e1,client,2] apply_request t1 resigned",
        "EngineTask [e1,client,2] apply_request t2 resigned",
        "EngineTask [e1,client,2] apply_request t3 resigned",
    ]);
    // An engine that says what it works on is believed.
    let busy = json!({"execution_state": "busy"});
    let status = message(&["engine.1.status"], "s", "status", Some("t2"), json!({}), busy);
    lab.receive(Channel::EngineIopub, status);
    lab.engine("e2");
    lab.taken();
    lab.unregister(1, "killed by signal 9");
    let lines = lab.lines();
    assert!(lines.contains(&"ClientTask [client] apply_reply to t2 \"EngineError\"".to_owned()));
    assert_eq!(lines.iter().filter(|line| line.contains("[e2,client,")).count(), 2, "{lines:?}");
}

#[test]
fn a_task_that_every_engine_has_refused_does_not_wait_for_ever() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.engine("e1");
    lab.task("t", json!({"retries": 3}));
    let unmet = || json!({"status": "error", "dependencies_met": false});
    lab.taken();
    lab.reply("e0", "t", unmet());
    lab.expect(&["EngineTask [e1,client,2] apply_request t resigned"]);
    lab.reply("e1", "t", unmet());
    lab.expect(&["ClientTask [client] apply_reply to t \"ImpossibleDependency\""]);
    // With a timeout, an engine may still come that can.
    lab.task("u", json!({"timeout": 5.0}));
    lab.taken();
    lab.reply("e0", "u", unmet());
    lab.taken();
    lab.reply("e1", "u", unmet());
    lab.expect(&[]);
    lab.wait(5001);
    lab.expect(&["ClientTask [client] apply_reply to u \"TaskTimeout\""]);
}

#[test]
fn tasks_wait_for_the_tasks_they_name() {
    let mut lab = Lab::new(Hwm::Fixed(2));
    lab.engine("e0");
    lab.engine("e1");
    lab.task("a", json!({}));
    lab.task("b", json!({"after": ["a"]}));
    lab.task("c", json!({"follow": {"dependencies": ["a"], "all": true}}));
    lab.task("d", json!({"after": ["b", "nobody"]}));
    lab.task("e", json!({"after": {"dependencies": ["a"], "success": false, "failure": true}}));
    lab.expect(&[
        "EngineTask [e0,client] apply_request a",
        "ClientTask [client] apply_reply to d \"InvalidDependency\"",
    ]);
    lab.reply("e0", "a", ok());
    let lines = lab.lines();
    assert!(lines.contains(&"EngineTask [e0,client] apply_request c".to_owned()), "{lines:?}");
    assert!(lines.contains(&"EngineTask [e1,client] apply_request b".to_owned()), "{lines:?}");
    let impossible = "ClientTask [client] apply_reply to e \"ImpossibleDependency\"".to_owned();
    assert!(lines.contains(&impossible), "{lines:?}");
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_task_without_an_engine_times_out_or_is_aborted() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.task("t", json!({"timeout": 0.5}));
    lab.task("u", json!({"timeout": 0}));
    lab.wait(499);
    lab.expect(&[]);
    lab.wait(1);
    lab.expect(&["ClientTask [client] apply_reply to t \"TaskTimeout\""]);
    let content = json!({"msg_ids": ["u", "unknown"]});
    let abort = message(&["client", "gone"], "x", "abort_request", None, json!({}), content);
    lab.receive(Channel::ClientControl, abort);
    lab.expect(&[
        "ClientTask [client] apply_reply to u \"aborted\"",
        "ClientControl [client,gone] abort_reply to x \"EngineError\"",
    ]);
}

#[test]
fn targets_are_kept_and_their_end_is_an_error() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    let id = lab.engine("e1");
    lab.task("t", json!({"targets": ["e1"]}));
    lab.task("u", json!({"targets": ["e1"]}));
    lab.task("v", json!({"targets": "e1"}));
    lab.expect(&[
        "EngineTask [e1,client] apply_request t",
        "ClientTask [client] apply_reply to v \"ValueError\"",
    ]);
    lab.unregister(id, "gone");
    lab.expect(&[
        "ClientTask [client] apply_reply to t \"EngineError\"",
        "ClientTask [client] apply_reply to u \"ImpossibleDependency\"",
        "Notification [] unregistration_notification to  1",
    ]);
}

#[test]
fn short_tasks_are_queued_on_an_engine_and_long_ones_are_not() {
    let mut lab = Lab::new(Hwm::Auto);
    lab.engine("e0");
    let n_in_flight = |lab: &mut Lab| {
        let status = lab.query("queue_request", json!({"targets": null}));
        status["0"]["tasks"].as_u64().unwrap()
    };
    for task in 0..200 {
        lab.task(&format!("t{task}"), json!({}));
    }
    assert_eq!(n_in_flight(&mut lab), 1);
    for task in 0..100 {
        lab.reply("e0", &format!("t{task}"), ok());
    }
    assert_eq!(n_in_flight(&mut lab), 64);
    for task in 100..160 {
        lab.wait(25);
        lab.reply("e0", &format!("t{task}"), ok());
    }
    assert!(n_in_flight(&mut lab) <= 40, "no more are sent than can be given back");
}

#[test]
fn a_broadcast_is_copied_and_coalesced() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    let id = lab.engine("e1");
    let metadata = json!({"targets": [["e0", 0], ["e1", 1]], "is_coalescing": true});
    let request = message(&["client"], "b", "apply_request", None, metadata.clone(), json!({}));
    lab.receive(Channel::ClientBroadcast, request);
    lab.expect(&[
        "EngineBroadcast [e0,client] apply_request b_e0 resigned",
        "EngineBroadcast [e1,client] apply_request b_e1 resigned",
    ]);
    let answer = |uuid: &str| {
        let metadata = json!({"status": "ok", "original_msg_id": "b", "is_coalescing": true});
        let id = format!("r-{uuid}");
        let parent = format!("b_{uuid}");
        let mut reply =
            message(&[uuid, "client"], &id, "apply_reply", Some(&parent), metadata, ok());
        reply.buffers = vec![uuid.as_bytes().to_vec()];
        reply
    };
    lab.receive(Channel::EngineBroadcast, answer("e1"));
    lab.expect(&[]);
    lab.receive(Channel::EngineBroadcast, answer("e0"));
    let effects = lab.taken();
    let [Effect::Resign { ids, metadata, buffers, .. }] = &effects[..] else {
        panic!("one reply: {effects:?}")
    };
    assert_eq!(ids, &[b"client".to_vec()]);
    assert_eq!(buffers, &[b"e0".to_vec(), b"e1".to_vec()]);
    let metadata: serde_json::Value = serde_json::from_slice(metadata).unwrap();
    assert_eq!(metadata["broadcast_targets"], json!([["e0", 0], ["e1", 1]]));
    // A lost engine turns the one reply into its error.
    let request = message(
        &["client"],
        "c",
        "apply_request",
        None,
        json!({
        "targets": [["e0", 0], ["e1", 1]], "is_coalescing": false}),
        json!({}),
    );
    lab.receive(Channel::ClientBroadcast, request);
    lab.taken();
    lab.unregister(id, "gone");
    assert_eq!(lab.lines()[0], "ClientBroadcast [client] apply_reply to c_e1 \"EngineError\"");
}

#[test]
fn a_shutdown_reply_among_the_output_ends_the_engine() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("s");
    let reply = message(&["topic"], "x", "shutdown_reply", None, json!({}), ok());
    lab.receive(Channel::EngineIopub, reply);
    lab.expect(&[
        "ClientIopub [topic] shutdown_reply x",
        "Notification [] unregistration_notification to  0",
    ]);
}

#[test]
fn records_tell_what_was_asked_answered_and_printed() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.task("t", json!({"label": "mine"}));
    let printed = json!({"name": "stdout", "text": "hello\n"});
    let stream = message(&["engine.0.stdout"], "o", "stream", Some("t"), json!({}), printed);
    lab.receive(Channel::EngineIopub, stream);
    let pending = lab.query("result_request", json!({"msg_ids": ["t"], "status_only": true}));
    assert_eq!(pending, json!({"status": "ok", "pending": ["t"], "completed": []}));
    lab.reply("e0", "t", ok());
    let result = lab.query("result_request", json!({"msg_ids": ["t"]}));
    assert_eq!(result["t"]["io"]["stdout"], "hello\n");
    assert_eq!(result["t"]["result_content"]["status"], "ok");
    let query =
        json!({"query": {"label": "mine"}, "keys": ["engine_uuid", "completed", "buffers"]});
    let rows = lab.query("db_request", query);
    assert_eq!(rows["records"][0]["engine_uuid"], "e0");
    assert_eq!(rows["buffer_lens"], json!([0]));
    assert_eq!(lab.query("db_request", json!({"query": {"x": {"$no": 1}}}))["ename"], "KeyError");
    assert_eq!(lab.query("history_request", json!({}))["history"], json!(["t"]));
    let again = lab.query("resubmit_request", json!({"msg_ids": ["t"]}));
    assert_eq!(again["resubmitted"]["t"], "hub_again_1");
    assert_eq!(
        lab.query("purge_request", json!({"msg_ids": ["hub_again_1"]}))["ename"],
        "IndexError"
    );
    lab.reply("e0", "hub_again_1", ok());
    lab.expect(&[]);
    assert_eq!(lab.query("purge_request", json!({"msg_ids": "all"})), ok());
    assert_eq!(lab.query("history_request", json!({}))["history"], json!([]));
    let missing = lab.query("result_request", json!({"msg_ids": ["t"]}));
    assert_eq!(missing["ename"], "KeyError");
}

#[test]
fn finished_records_are_bounded() {
    let mut lab = Lab::new(Hwm::Unlimited);
    lab.engine("e0");
    for task in 0..crate::RECORDS_MAX + 10 {
        let id = format!("t{task}");
        let task = message(&["c"], &id, "apply_request", None, json!({}), json!({}));
        let head = task.head().unwrap();
        lab.cluster
            .handle(Event::Received { channel: Channel::ClientTask, head, message: task }, lab.now);
        let reply = message(&["e0", "c"], "r", "apply_reply", Some(&id), ok(), ok());
        let head = reply.head().unwrap();
        lab.cluster.handle(
            Event::Received { channel: Channel::EngineTask, head, message: reply },
            lab.now,
        );
    }
    lab.cluster.check();
    assert!(lab.cluster.story("t9").is_none() && lab.cluster.story("t10").is_some());
}

#[test]
fn a_client_can_end_the_controller() {
    let mut lab = Lab::new(Hwm::Auto);
    lab.query("shutdown_request", json!({}));
    lab.wait(1000);
    lab.expect(&["stop"]);
}

#[test]
fn frames_that_are_no_message_are_told_apart() {
    let frames = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    assert!(Message::split(frames(&["a", "b"])).is_none());
    assert!(Message::split(frames(&["a", "<IDS|MSG>", "s", "{}", "{}", "{}"])).is_none());
    let whole: Vec<Vec<u8>> = frames(&["a", "<IDS|MSG>", "s", "{}", "{}", "{}", "{}", "buffer"]);
    assert_eq!(Message::split(whole.clone()).unwrap().join(), whole);
}
