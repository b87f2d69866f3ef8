//! Records of broadcasts, what a store is told, and a controller that takes over from one before.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::lab::{Lab, line, message, settings};
use crate::{Channel, Effect, Hwm, Keeps, Millis, Settings};

fn ok() -> Value {
    json!({"status": "ok"})
}

fn ids(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect()
}

fn broadcast(lab: &mut Lab, msg_id: &str, uuids: &[&str], is_coalescing: bool) {
    let targets: Vec<_> = uuids.iter().map(|uuid| json!([uuid, 0])).collect();
    let metadata = json!({"targets": targets, "is_coalescing": is_coalescing, "label": "all"});
    let mut request = message(&["c"], msg_id, "apply_request", None, metadata, json!({}));
    request.buffers = vec![vec![7; 1000], b"f".to_vec()];
    lab.receive(Channel::ClientBroadcast, request);
}

fn answer(lab: &mut Lab, uuid: &str, original: &str) {
    let metadata = json!({"status": "ok", "original_msg_id": original, "is_broadcast": true});
    let child = format!("{original}_{uuid}");
    let mut reply = message(&[uuid, "c"], "r", "apply_reply", Some(&child), metadata, ok());
    reply.buffers = vec![uuid.as_bytes().to_vec()];
    lab.receive(Channel::EngineBroadcast, reply);
}

fn direct(lab: &mut Lab, uuid: &str, msg_id: &str) {
    let request = message(&["c", uuid], msg_id, "apply_request", None, json!({}), json!({}));
    lab.receive(Channel::ClientMux, request);
}

fn result_buffers(lab: &mut Lab, msg_id: &str) -> Vec<Vec<u8>> {
    lab.taken();
    let content = json!({"msg_ids": [msg_id]});
    let query = message(&["c"], "q", "result_request", None, json!({}), content);
    lab.receive(Channel::Registration, query);
    match lab.taken().pop() {
        Some(Effect::Write { buffers, .. }) => buffers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broadcast_has_one_record_for_each_engine_and_they_share_what_was_asked() {
    let mut lab = Lab::new(Hwm::Auto);
    lab.engine("e0");
    lab.engine("e1");
    broadcast(&mut lab, "b", &["e0", "e1", "gone", "e1"], false);
    lab.expect(&[
        "EngineBroadcast [e0,c] apply_request b_e0 resigned",
        "EngineBroadcast [e1,c] apply_request b_e1 resigned",
        "ClientBroadcast [c] apply_reply to b_gone \"EngineError\"",
    ]);
    let body = |msg_id: &str| Arc::as_ptr(&lab.cluster.records.by_id(msg_id).unwrap().request.body);
    assert_eq!(body("b_e0"), body("b_e1"), "the buffers are there once");
    let status = lab.query("queue_request", json!({"targets": null, "verbose": true}));
    assert_eq!(ids(&status["0"]["queue"]), ["b_e0"]);
    lab.print("e0", 0, "b_e0", "early");
    answer(&mut lab, "e0", "b");
    lab.print("e0", 0, "b_e0", " and late");
    let result = lab.query("result_request", json!({"msg_ids": ["b_e0", "b_e1", "b_gone"]}));
    assert_eq!(ids(&result["pending"]), ["b_e1"]);
    assert_eq!(result["b_e0"]["io"]["stdout"], "early and late");
    assert_eq!(result["b_e0"]["header"]["msg_id"], "b_e0");
    assert_eq!(result["b_gone"]["result_content"]["ename"], "EngineError");
    let metadata = &result["b_gone"]["result_metadata"];
    assert_eq!(metadata["original_msg_id"], "b");
    assert_eq!(metadata["engine"], "gone");
    assert_eq!(result_buffers(&mut lab, "b_e0"), [b"e0"]);
    let query = json!({"query": {"queue": "broadcast", "completed": null}, "keys": ["label"]});
    let open = lab.query("db_request", query);
    assert_eq!(open["records"], json!([{"msg_id": "b_e1", "label": "all"}]));
    lab.unregister(1, "killed");
    lab.wait(100);
    let lines = lab.lines();
    assert!(
        lines.contains(&"ClientBroadcast [c] apply_reply to b_e1 \"EngineError\"".to_owned()),
        "{lines:?}"
    );
    let history = lab.query("history_request", json!({}));
    assert_eq!(ids(&history["history"]), ["b_e0", "b_e1", "b_gone"]);
}

#[test]
fn a_coalescing_broadcast_has_one_record_with_the_reply_of_all() {
    let mut lab = Lab::new(Hwm::Auto);
    lab.engine("e0");
    lab.engine("e1");
    broadcast(&mut lab, "b", &["e1", "e0"], true);
    lab.taken();
    let status = lab.query("queue_request", json!({"targets": [0], "verbose": true}));
    assert_eq!(ids(&status["0"]["queue"]), ["b"]);
    answer(&mut lab, "e0", "b");
    lab.print("e1", 1, "b_e1", "one");
    let pending = lab.query("result_request", json!({"msg_ids": ["b"]}));
    assert_eq!(ids(&pending["pending"]), ["b"]);
    answer(&mut lab, "e1", "b");
    lab.expect(&["ClientBroadcast [c] apply_reply r resigned"]);
    lab.print("e0", 0, "b_e0", ", zero");
    assert_eq!(result_buffers(&mut lab, "b"), [b"e1", b"e0"]);
    let result = lab.query("result_request", json!({"msg_ids": ["b"]}));
    let targets = &result["b"]["result_metadata"]["broadcast_targets"];
    assert_eq!(*targets, json!([["e1", 0], ["e0", 0]]));
    assert_eq!(result["b"]["io"]["stdout"], "one, zero");
    // A second one under the same name is none.
    broadcast(&mut lab, "b", &["e1", "e0"], true);
    lab.expect(&[]);
    assert_eq!(lab.cluster.counts().duplicate, 1);
}

#[test]
fn a_store_is_told_what_is_open_what_has_ended_and_what_is_gone() {
    let mut lab = Lab::with_store(Hwm::Fixed(1));
    lab.engine("e0");
    lab.task("t", json!({}));
    lab.task("u", json!({}));
    let engine_of = |lab: &Lab, key: u64| lab.store.rows[&key].engine.clone();
    assert_eq!((engine_of(&lab, 0), engine_of(&lab, 1)), (Some("e0".to_owned()), None));
    lab.reply("e0", "t", ok());
    assert_eq!(engine_of(&lab, 1), Some("e0".to_owned()), "it was sent");
    assert!(lab.store.rows[&0].reply.is_some() && lab.store.rows[&1].reply.is_none());
    // Late output is kept at once, and then once a second at most.
    let before = lab.store.n_kept;
    for n in 0..100 {
        lab.print("e0", 0, "t", &format!("{n} "));
        lab.wait(20);
    }
    let n_kept = lab.store.n_kept - before;
    assert!((2..=3).contains(&n_kept), "{n_kept}");
    lab.wait(1000);
    assert!(lab.store.rows[&0].stdout.ends_with("99 "));
    lab.reply("e0", "u", ok());
    lab.query("purge_request", json!({"msg_ids": ["t"]}));
    assert_eq!(lab.store.rows.keys().collect::<Vec<_>>(), [&1]);
    lab.engine("e1");
    lab.unregister(0, "killed");
    lab.wait(200);
    let known = &lab.store.engines;
    let uuids: Vec<_> = known.engines.iter().map(|engine| engine.uuid.as_str()).collect();
    assert_eq!((uuids, known.next_engine), (vec!["e1"], 2));
}

#[test]
fn what_was_to_be_kept_later_is_kept_at_the_end() {
    let mut lab = Lab::with_store(Hwm::Fixed(1));
    lab.engine("e0");
    lab.task("t", json!({}));
    lab.reply("e0", "t", ok());
    lab.print("e0", 0, "t", "late");
    let printed = |lab: &Lab| lab.store.rows.values().next().map(|row| row.stdout.clone());
    assert_eq!(printed(&lab).as_deref(), Some(""));
    lab.end();
    assert_eq!(printed(&lab).as_deref(), Some("late"));
}

#[test]
fn without_a_store_nothing_is_told() {
    for keeps in [Keeps::Memory, Keeps::Nothing] {
        let mut lab = Lab::with(Settings { hwm: Hwm::Fixed(1), keeps, ..settings() });
        lab.engine("e0");
        lab.task("t", json!({}));
        lab.reply("e0", "t", ok());
        lab.print("e0", 0, "t", "late");
        lab.wait(5000);
        assert_eq!(lab.store.n_kept, 0);
        let result = lab.query("result_request", json!({"msg_ids": ["t"]}));
        let is_known = keeps == Keeps::Memory;
        assert_eq!(result["ename"] == "KeyError", !is_known);
        let history = lab.query("history_request", json!({}));
        assert_eq!(ids(&history["history"]).len(), usize::from(is_known));
        lab.task("t", json!({}));
        assert_eq!(lab.cluster.counts().duplicate, 1, "that it has ended is known anyhow");
    }
}

#[test]
fn finished_work_is_the_same_after_a_restart() {
    let mut lab = Lab::with_store(Hwm::Fixed(2));
    lab.engine("e0");
    lab.engine("e1");
    lab.task("t", json!({"targets": ["e1"], "label": "kept"}));
    lab.reply("e1", "t", ok());
    lab.task("f", json!({}));
    lab.print("e0", 0, "f", "printed");
    lab.reply("e0", "f", json!({"status": "error"}));
    direct(&mut lab, "e0", "m");
    let reply = message(&["e0", "c"], "r", "apply_reply", Some("m"), ok(), ok());
    lab.receive(Channel::EngineMux, reply);
    broadcast(&mut lab, "b", &["e0", "e1"], false);
    answer(&mut lab, "e0", "b");
    answer(&mut lab, "e1", "b");
    broadcast(&mut lab, "all", &["e0", "e1"], true);
    answer(&mut lab, "e0", "all");
    answer(&mut lab, "e1", "all");
    lab.wait(1000);
    let everything = |lab: &mut Lab| {
        let msg_ids = json!({"msg_ids": ["t", "f", "m", "b_e0", "b_e1", "all"]});
        let results = lab.query("result_request", msg_ids);
        let history = lab.query("history_request", json!({}));
        let label = json!({"query": {"label": {"$glob": "k*"}, "completed": {"$ne": null}}});
        let found = lab.query("db_request", label);
        (results, history, found, lab.query("db_request", json!({"query": {}})))
    };
    let before = everything(&mut lab);
    assert_eq!(before.2["records"][0]["msg_id"], "t");
    lab.restart();
    assert_eq!(everything(&mut lab), before);
    assert_eq!(result_buffers(&mut lab, "all"), [b"e0", b"e1"]);
    let shared = |id: &str| Arc::as_ptr(&lab.cluster.records.by_id(id).unwrap().request.body);
    assert_eq!(shared("b_e0"), shared("b_e1"));
    // The engines come back under their numbers, and new ones have new numbers.
    lab.echo("e1");
    lab.echo("e0");
    lab.expect(&[
        "Notification [] registration_notification to  1",
        "Notification [] registration_notification to  0",
    ]);
    assert_eq!(lab.engine("e2"), 2);
    let status = lab.query("queue_request", json!({"targets": [0]}));
    assert_eq!(status["0"]["completed"], 3);
    // What depends on work of before is what it was.
    lab.task("after", json!({"after": ["t"], "follow": ["t"]}));
    lab.task("never", json!({"after": ["f"]}));
    lab.expect(&[
        "EngineTask [e1,client] apply_request after",
        "ClientTask [client] apply_reply to never \"ImpossibleDependency\"",
    ]);
    let again = lab.query("resubmit_request", json!({"msg_ids": ["m"]}));
    assert_eq!(again["resubmitted"]["m"], "hub-next_again_1");
}

#[test]
fn open_work_has_failed_after_a_restart_and_its_engine_drops_it() {
    let mut lab = Lab::with_store(Hwm::Fixed(1));
    lab.register(json!({"uuid": "e0", "implementation": {"name": "prust"}}));
    lab.echo("e0");
    lab.engine("python");
    lab.task("t", json!({"targets": ["e0"]}));
    lab.task("waits", json!({"targets": ["e0"]}));
    direct(&mut lab, "python", "m");
    broadcast(&mut lab, "b", &["e0"], false);
    broadcast(&mut lab, "all", &["e0", "python"], true);
    lab.wait(200);
    lab.taken();
    lab.restart();
    lab.expect(&[]);
    for msg_id in ["t", "waits", "m", "b_e0", "all"] {
        let result = lab.query("result_request", json!({"msg_ids": [msg_id]}));
        let content = &result[msg_id]["result_content"];
        assert_eq!(content["ename"], "EngineError", "{msg_id}");
        assert!(content["evalue"].as_str().unwrap().contains("restarted"), "{content}");
    }
    lab.taken();
    lab.echo("e0");
    let effects = lab.taken();
    let lines: Vec<_> = effects.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "EngineControl [e0,prust-controller] abort_request to  null",
            "EngineControl [e0,prust-controller] interrupt_request to  null",
            "Notification [] registration_notification to  0",
        ]
    );
    let Effect::Write { content, .. } = &effects[1] else { panic!("{effects:?}") };
    assert_eq!(*content, json!({"msg_ids": ["t", "b_e0", "all_e0"]}));
    // A stock engine is not interrupted: it may be at something new when that arrives.
    lab.echo("python");
    lab.expect(&[
        "EngineControl [python,prust-controller] abort_request to  null",
        "Notification [] registration_notification to  1",
    ]);
    // Their late answers change nothing.
    let late = message(&["e0", "c"], "r", "apply_reply", Some("t"), ok(), ok());
    lab.receive(Channel::EngineTask, late);
    answer(&mut lab, "e0", "b");
    answer(&mut lab, "python", "all");
    lab.expect(&[]);
    assert_eq!(lab.cluster.counts().late, 3);
    lab.task("new", json!({}));
    lab.expect(&["EngineTask [e0,client] apply_request new"]);
    // The store knows how it ended, so the next controller says the same.
    lab.restart();
    let result = lab.query("result_request", json!({"msg_ids": ["t"]}));
    assert_eq!(result["t"]["result_content"]["ename"], "EngineError");
}

#[test]
fn a_restart_beats_faster_until_the_engines_are_back() {
    let mut lab = Lab::with_store(Hwm::Fixed(1));
    lab.engine("e0");
    lab.wait(200);
    lab.restart();
    let restarted = lab.now;
    lab.wait(1000);
    assert!((8..=12).contains(&lab.cluster.n_beats()), "{}", lab.cluster.n_beats());
    lab.echo("e0");
    assert_eq!(lab.cluster.engines(), [(0, "e0".to_owned())]);
    let n_beats = lab.cluster.n_beats();
    lab.wait(1000);
    assert!(lab.cluster.n_beats() <= n_beats + 2, "nobody is waited for any more");
    // Nor for ever.
    lab.restart();
    while lab.now < restarted + Millis(60_000) {
        lab.wait(1000);
    }
    let n_beats = lab.cluster.n_beats();
    lab.wait(3000);
    assert!(lab.cluster.n_beats() <= n_beats + 2);
}

#[test]
fn the_newest_records_are_restored_within_the_limits() {
    let mut lab = Lab::with_store(Hwm::Unlimited);
    lab.engine("e0");
    direct(&mut lab, "e0", "first");
    let mut reply = message(&["e0", "c"], "r", "apply_reply", Some("first"), ok(), ok());
    reply.buffers = vec![vec![0; crate::RECORD_BYTES_MAX / 2]];
    lab.receive(Channel::EngineMux, reply);
    let reply_of = |row: &crate::Row| row.reply.clone().unwrap();
    let mut second = lab.store.rows[&0].clone();
    (second.key, second.msg_id) = (1, "second".to_owned());
    let header = message(&[], "second", "apply_request", None, json!({}), json!({})).header;
    second.header = header;
    second.received = second.received.map(|at| at + Millis(1));
    assert_eq!(reply_of(&second).buffers[0].len(), crate::RECORD_BYTES_MAX / 2);
    lab.store.rows.insert(1, second);
    // What is no record is passed over.
    let mut broken = lab.store.rows[&0].clone();
    (broken.key, broken.header) = (2, b"no header".to_vec());
    lab.store.rows.insert(2, broken);
    lab.wait(200);
    lab.restart();
    let history = lab.query("history_request", json!({}));
    assert_eq!(ids(&history["history"]), ["second"]);
    assert_eq!(lab.store.rows.keys().collect::<Vec<_>>(), [&1], "the store is told");
    direct(&mut lab, "e0", "next");
    assert!(lab.cluster.records.key_of("next").is_none(), "the engine is not back");
    lab.echo("e0");
    direct(&mut lab, "e0", "next");
    assert_eq!(lab.cluster.records.key_of("next"), Some(3), "no key is used twice");
}

/// What two broadcasts of one id share would be taken for the same.
#[test]
fn a_broadcast_of_a_known_id_is_a_duplicate_whichever_engines_it_is_for() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("e0");
    lab.engine("e1");
    broadcast(&mut lab, "b", &["e0"], false);
    answer(&mut lab, "e0", "b");
    lab.taken();
    let mut other =
        message(&["c"], "b", "apply_request", None, json!({"targets": [["e1", 1]]}), json!({}));
    other.buffers = vec![b"another body".to_vec()];
    lab.receive(Channel::ClientBroadcast, other);
    lab.expect(&[]);
    assert_eq!(lab.cluster.counts().duplicate, 1);
    // Once nothing of the first is left, it is an id like any other.
    lab.query("purge_request", json!({"msg_ids": ["b_e0"]}));
    broadcast(&mut lab, "b", &["e1"], false);
    assert_eq!(lab.lines().len(), 1);
}
