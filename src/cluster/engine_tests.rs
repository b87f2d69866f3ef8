//! Engines that fall silent, come back, and are told to stop.

use serde_json::json;

use crate::lab::{Lab, message, ok, settings};
use crate::{Channel, Counts, Effect, Hwm, Scheme, Settings};

/// Registers an engine of ours, which says so.
fn ours(lab: &mut Lab, uuid: &str) -> u64 {
    lab.register(json!({"uuid": uuid, "implementation": {"name": "prust"}}));
    lab.echo(uuid);
    lab.taken();
    let id = lab.query("connection_request", json!({}))["engines"].as_object().unwrap().clone();
    let id = id.iter().find(|(_, known)| *known == uuid).map(|(id, _)| id.parse().unwrap());
    id.expect("an engine that answers is announced")
}

fn beats(lab: &mut Lab, seconds: u64, uuids: &[&str]) {
    for _ in 0..seconds * 10 {
        lab.wait(100);
        uuids.iter().for_each(|uuid| lab.echo(uuid));
    }
}

#[test]
fn an_engine_of_ours_is_given_up_after_three_seconds_and_a_stock_one_after_ten_beats() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    ours(&mut lab, "b");
    lab.engine("python");
    lab.taken();
    beats(&mut lab, 2, &["b"]);
    assert_eq!(lab.cluster.n_engines(), 3);
    beats(&mut lab, 3, &["b"]);
    assert_eq!(lab.cluster.engines().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
    beats(&mut lab, 26, &["b"]);
    assert_eq!(lab.cluster.n_engines(), 2);
    beats(&mut lab, 6, &["b"]);
    assert_eq!(lab.cluster.engines(), [(1, "b".to_owned())]);
}

#[test]
fn a_controller_that_stood_still_does_not_take_that_for_silence() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    beats(&mut lab, 2, &["a"]);
    // Nobody called for ten seconds; then the timers are looked at before the echoes.
    lab.now = lab.now + crate::Millis(10_000);
    lab.handle(crate::Event::Tick);
    assert_eq!(lab.cluster.n_engines(), 1);
    beats(&mut lab, 4, &[]);
    assert_eq!(lab.cluster.n_engines(), 0);
}

#[test]
fn a_controller_that_has_much_to_read_does_not_take_that_for_silence() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    lab.engine("python");
    // For a minute messages come faster than they are handled; the echoes are among what waits.
    for n in 0..600 {
        lab.now = lab.now + crate::Millis(100);
        let asked = json!({"targets": null});
        let ask = message(&["c"], &format!("q{n}"), "queue_request", None, json!({}), asked);
        lab.receive(Channel::Registration, ask);
    }
    assert_eq!(lab.cluster.n_engines(), 2);
    ["a", "python"].iter().for_each(|uuid| lab.echo(uuid));
    beats(&mut lab, 5, &["python"]);
    assert_eq!(lab.cluster.engines(), [(1, "python".to_owned())]);
}

#[test]
fn a_silent_engine_comes_back_under_its_number_and_drops_what_it_had() {
    let mut lab = Lab::new(Hwm::Fixed(2));
    ours(&mut lab, "a");
    lab.task("t", json!({}));
    lab.task("again", json!({"retries": 1}));
    lab.status("s", 0, "t", "busy");
    lab.taken();
    beats(&mut lab, 5, &[]);
    lab.expect(&[
        "ClientTask [client] apply_reply to t \"EngineError\"",
        "Notification [] unregistration_notification to  0",
    ]);
    // What waits may be given to it again, and must not be dropped there.
    lab.echo("a");
    let effects = lab.taken();
    let lines: Vec<_> = effects.iter().map(crate::lab::line).collect();
    assert_eq!(
        lines,
        [
            "EngineControl [a,prust-controller] abort_request to  null",
            "EngineControl [a,prust-controller] interrupt_request to  null",
            "Notification [] registration_notification to  0",
            "EngineTask [a,client,2] apply_request again resigned",
        ]
    );
    let Effect::Write { content, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(*content, json!({"msg_ids": ["t"]}));
    // What it says to the first attempts changes nothing, nor do its answers to the controller.
    for task in ["t", "again"] {
        let late = message(&["a", "client"], task, "apply_reply", Some(task), ok(), ok());
        lab.receive(Channel::EngineTask, late);
    }
    let answer = message(&["a", "prust-controller"], "r", "abort_reply", Some("x"), ok(), ok());
    lab.receive(Channel::EngineControl, answer);
    lab.expect(&[]);
    assert_eq!(lab.cluster.counts(), Counts { late: 2, ..Counts::default() });
    lab.reply("a", "again", ok());
    lab.expect(&["ClientTask [client,a] apply_reply again-reply"]);
}

#[test]
fn an_engine_that_comes_back_is_followed_again() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    ours(&mut lab, "b");
    lab.task("first", json!({"targets": ["a"]}));
    lab.reply("a", "first", ok());
    lab.task("open", json!({"targets": ["b"]}));
    beats(&mut lab, 5, &["b"]);
    lab.taken();
    let either = json!({"dependencies": ["first", "open"], "all": false});
    lab.task("follower", json!({"follow": either}));
    lab.expect(&[]);
    lab.echo("a");
    lab.expect(&[
        "Notification [] registration_notification to  0",
        "EngineTask [a,client] apply_request follower",
    ]);
}

#[test]
fn the_number_of_a_silent_engine_is_kept_for_it() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    beats(&mut lab, 5, &[]);
    lab.register(json!({"uuid": "b", "id": 0}));
    lab.echo("b");
    assert_eq!(lab.cluster.engines(), [(1, "b".to_owned())]);
    // It may also register anew, for example after its process was started again.
    lab.register(json!({"uuid": "a"}));
    lab.echo("a");
    assert_eq!(lab.cluster.engines(), [(0, "a".to_owned()), (1, "b".to_owned())]);
}

#[test]
fn an_engine_that_left_does_not_come_back_by_an_echo() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    lab.unregister(0, "terminated");
    lab.echo("a");
    assert_eq!(lab.cluster.n_engines(), 0);
    assert_eq!(lab.cluster.counts().malformed, 1);
}

#[test]
fn a_task_that_runs_too_long_is_interrupted_and_its_engine_is_busy_until_it_says_otherwise() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    ours(&mut lab, "a");
    lab.task("t", json!({"time_limit": 0.25}));
    lab.task("u", json!({}));
    lab.wait(1000);
    lab.taken();
    // Its time begins when it runs.
    lab.status("s", 0, "t", "busy");
    lab.wait(249);
    lab.expect(&["ClientIopub [engine.0.status] status m"]);
    lab.wait(2);
    lab.expect(&[
        "EngineControl [a,prust-controller] abort_request to  null",
        "EngineControl [a,prust-controller] interrupt_request to  null",
        "ClientTask [client] apply_reply to t \"TaskTimeout\"",
    ]);
    lab.reply("a", "t", json!({"status": "error"}));
    lab.expect(&["EngineTask [a,client] apply_request u"]);
}

#[test]
fn a_client_cancels_what_waits_and_what_runs() {
    let mut lab = Lab::new(Hwm::Fixed(1));
    lab.engine("python");
    lab.task("t", json!({}));
    lab.task("u", json!({}));
    let content = json!({"msg_ids": ["u", "t", "nobody"]});
    let cancel = message(&["client"], "q", "cancel_request", None, json!({}), content);
    lab.taken();
    lab.receive(Channel::Registration, cancel);
    let effects = lab.taken();
    let Some(Effect::Write { content, .. }) = effects.last() else { panic!("{effects:?}") };
    let told = json!({
        "status": "ok", "aborted": ["u"], "interrupted": ["t"], "unknown": ["nobody"]
    });
    assert_eq!(*content, told);
    let lines: Vec<_> = effects.iter().map(crate::lab::line).collect();
    assert_eq!(
        lines[..3],
        [
            "ClientTask [client] apply_reply to u \"aborted\"",
            "EngineControl [python,prust-controller] abort_request to  null",
            "EngineControl [python,prust-controller] signal_request to  null",
        ]
    );
    lab.reply("python", "t", json!({"status": "error"}));
    lab.expect(&["ClientTask [client,python] apply_reply t-reply"]);
}

#[test]
fn schemes_choose_as_their_names_say() {
    let places = |scheme: Scheme| {
        let hwm = Hwm::Unlimited;
        let mut lab = Lab::with(Settings { hwm, scheme, ..settings() });
        for n in 0..3 {
            lab.engine(&format!("e{n}"));
        }
        lab.task("t0", json!({"targets": ["e1"]}));
        lab.task("t1", json!({"targets": ["e1"]}));
        lab.taken();
        (0..30).for_each(|n| lab.task(&format!("u{n}"), json!({})));
        let status = lab.query("queue_request", json!({"targets": null}));
        [0, 1, 2].map(|id| status[id.to_string()]["tasks"].as_u64().unwrap())
    };
    // The least loaded first evens out what was there, by turns does not.
    assert_eq!(places(Scheme::LeastLoad), [11, 11, 10]);
    assert_eq!(places(Scheme::Lru), [10, 12, 10]);
    for random in [Scheme::PlainRandom, Scheme::TwoBin, Scheme::Weighted] {
        let counts = places(random);
        assert_eq!(counts.iter().sum::<u64>(), 32, "{random:?}: {counts:?}");
        assert!(counts.iter().all(|n| *n > 2), "{random:?}: {counts:?}");
        assert_eq!(counts, places(random), "the same seed, the same choice");
    }
}
