//! Scripts about what is somebody else's: engines of other languages, results by message id, a
//! controller that ends without a word.

use super::*;

/// Attached to a cluster whose controller knows these engines.
fn foreign(engines: &[EngineId]) -> Lab {
    let mut lab = Lab::new(&[]);
    let settings = Settings { foreign: true, ..Settings::default() };
    lab.state = State::new("s_1_".to_owned(), settings);
    lab.event(Event::Tick);
    lab.list(engines);
    lab
}

impl Lab {
    fn list(&mut self, engines: &[EngineId]) {
        let engines = engines.iter().map(|id| (*id, format!("uuid{id}"))).collect();
        self.event(Event::EngineList(1, engines));
    }

    fn said(&mut self, number: Number, implementation: Option<&str>) {
        let implementation = implementation.map(str::to_owned);
        self.event(Event::EngineSaid { number, implementation });
    }

    fn answer(&mut self, number: Number, content: Value, buffers: Vec<Vec<u8>>) {
        let msg_type = String::new();
        self.event(Event::Answered { number, msg_type, content, buffers });
    }

    /// The content of the message that was sent last.
    fn asked(&self) -> Value {
        serde_json::from_str(self.sent.last().expect("one was sent").content.get()).unwrap()
    }

    fn fetch(&mut self, ids: &[&str], returns: &str) {
        let msg_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        self.ask(7, Request::Fetch { msg_ids, returns: returns.to_owned() });
    }
}

fn outcomes(values: &[u64]) -> Vec<u8> {
    let items = write_items(values).unwrap();
    outcome::write_outcomes(values.len() as u64, Vec::new(), items, None)
}

fn row(id: &str, items: u64, returns: &str) -> Value {
    json!({
        "msg_id": id, "header": {"msg_type": "apply_request"}, "engine_uuid": "uuid0",
        "metadata": {"label": "f", "prust": {"items": items, "returns": returns}},
        "submitted": "1970-01-01T00:00:00Z",
    })
}

fn record() -> Value {
    json!({
        "result_content": {"status": "ok"}, "result_metadata": {"engine": "uuid0"},
        "result_header": {}, "io": {"stdout": "printed"},
    })
}

#[test]
fn an_engine_gets_work_when_it_has_said_that_it_is_ours() {
    let mut lab = foreign(&[0, 1]);
    lab.expect(&[
        "Connected",
        "Mux uuid0 #2 kernel_info_request",
        "Mux uuid1 #3 kernel_info_request",
    ]);
    lab.said(2, Some("prust"));
    lab.said(3, Some("ipython"));
    assert!(lab.told.iter().any(|told| told.starts_with("Engines { live: [EngineInfo { id: 0")));
    let others = "Others { engines: [OtherEngine { id: 1, uuid: \"uuid1\", \
                  implementation: Some(\"ipython\") }] }";
    assert_eq!(lab.told.last().map(String::as_str), Some(others));
    lab.told.clear();
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.expect(&["Mux uuid0 #4 apply_request", "answer 1 submitted 1: 1 tasks 1 values"]);
    lab.submit(Targets::Ids(vec![1]), false, "apply", 0, Options::default());
    assert!(lab.told[0].contains("UnsupportedOperation: engine 1 is ipython"), "{:?}", lab.told);
    // A stock scheduler would give it to any engine.
    lab.submit(Targets::All, true, "apply", 0, Options::default());
    let metadata: Value = serde_json::from_str(lab.sent.last().unwrap().metadata.get()).unwrap();
    assert_eq!(metadata["targets"], json!(["uuid0"]));
}

#[test]
fn an_engine_that_does_not_answer_is_asked_again_less_and_less_often() {
    let mut lab = foreign(&[0]);
    let mut asked = 0;
    for second in 1..=20 {
        lab.at = Duration::from_secs(second);
        lab.told.clear();
        lab.list(&[0]);
        asked += lab.told.iter().filter(|told| told.contains("kernel_info")).count();
    }
    assert_eq!(asked, 4, "after 1, 3, 7 and 15 seconds");
    // An error is no answer.
    lab.said(2, None);
    assert!(lab.state.live().is_empty());
    lab.list(&[]);
    lab.submit(Targets::All, true, "apply", 0, Options::default());
    let metadata: Value = serde_json::from_str(lab.sent.last().unwrap().metadata.get()).unwrap();
    assert_eq!(metadata["targets"], json!([]), "it is not waited for when it is gone");
}

#[test]
fn a_controller_that_says_nothing_for_long_ends_what_waits_and_may_come_back() {
    let mut lab = foreign(&[0]);
    lab.said(2, Some("prust"));
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.wait(29_000);
    lab.list(&[0]);
    lab.told.clear();
    lab.wait(29_000);
    lab.expect(&["Query any #7 db_request"]);
    lab.wait(2_000);
    assert!(lab.told[0].contains("the controller has not answered for 30 s"), "{:?}", lab.told);
    let ClientEvent::Finished { failed, .. } = lab.last() else { panic!("not finished") };
    assert_eq!(failed[0].ename, "EngineError");
    lab.told.clear();
    lab.list(&[0]);
    assert!(lab.told[0].contains("kernel_info_request"), "{:?}", lab.told);
}

#[test]
fn results_come_by_id_in_the_order_asked_for_one_question_each() {
    let mut lab = Lab::new(&[0]);
    lab.fetch(&["b", "a"], "u64");
    lab.expect(&["Query any #2 db_request"]);
    assert_eq!(lab.asked()["query"], json!({"msg_id": {"$in": ["b", "a"]}}));
    let rows = [row("a", 2, "u64"), row("b", 1, "u64")];
    lab.answer(2, json!({"status": "ok", "records": rows}), Vec::new());
    lab.expect(&[
        "answer 7 submitted 1: 2 tasks 3 values",
        "Query any #5 result_request",
        "Query any #6 result_request",
    ]);
    lab.ask(8, all(1, 0));
    lab.answer(6, json!({"status": "ok", "a": record()}), vec![outcomes(&[1, 2])]);
    lab.expect(&[]);
    lab.answer(5, json!({"status": "ok", "b": record()}), vec![outcomes(&[3])]);
    assert!(lab.told[0].starts_with("answer 8 [0+1 1+2] next 2 complete true"), "{:?}", lab.told);
    lab.ask(9, Request::Metadata { submission: 1, settled: true });
    assert!(lab.told.last().unwrap().contains("msg_id: \"b\""), "{:?}", lab.told);
    assert!(lab.told.last().unwrap().contains("stdout: \"printed\""), "{:?}", lab.told);
}

#[test]
fn what_has_not_ended_is_asked_for_at_a_bounded_pace() {
    let mut lab = Lab::new(&[0]);
    lab.fetch(&["a"], "u64");
    lab.answer(2, json!({"status": "ok", "records": [row("a", 1, "u64")]}), Vec::new());
    lab.answer(4, json!({"status": "ok", "pending": ["a"]}), Vec::new());
    let mut polls = 0;
    for _ in 0..200 {
        lab.told.clear();
        lab.wait(50);
        if lab.told.iter().any(|told| told.contains("result_request")) {
            polls += 1;
            assert_eq!(lab.asked(), json!({"msg_ids": ["a"], "status_only": true}));
            let number = lab.sent.last().unwrap().number;
            lab.answer(number, json!({"status": "ok", "pending": ["a"], "completed": []}), vec![]);
        }
    }
    assert!((8..=10).contains(&polls), "{polls} questions in ten seconds");
    lab.told.clear();
    lab.wait(2000);
    let number = lab.sent.last().unwrap().number;
    lab.answer(number, json!({"status": "ok", "pending": [], "completed": ["a"]}), Vec::new());
    let number = lab.sent.last().unwrap().number;
    lab.answer(number, json!({"status": "ok", "a": record()}), vec![outcomes(&[5])]);
    assert_eq!(lab.told.last().map(String::as_str), Some("finished 1: 0 of 1 failed"));
}

#[test]
fn unknown_ids_and_other_types_are_refused_by_name() {
    let mut lab = Lab::new(&[0]);
    lab.fetch(&["a", "made-up"], "u64");
    lab.answer(2, json!({"status": "ok", "records": [row("a", 1, "u64")]}), Vec::new());
    assert!(lab.told[1].contains("no such message: made-up"), "{:?}", lab.told);
    lab.told.clear();
    lab.fetch(&["a"], "f64");
    lab.answer(3, json!({"status": "ok", "records": [row("a", 1, "u64")]}), Vec::new());
    assert!(lab.told[1].contains("message a gives u64, asked for was f64"), "{:?}", lab.told);
    lab.told.clear();
    let python = json!({"msg_id": "p", "header": {"msg_type": "apply_request"}, "metadata": {}});
    lab.fetch(&["p"], "u64");
    lab.answer(4, json!({"status": "ok", "records": [python]}), Vec::new());
    assert!(lab.told[1].contains("not a call of prust"), "{:?}", lab.told);
}

#[test]
fn work_of_others_is_stopped_by_the_id_that_they_gave_it() {
    let mut lab = Lab::new(&[0, 1]);
    lab.fetch(&["theirs"], "u64");
    let mut waiting = row("theirs", 1, "u64");
    waiting["engine_uuid"] = Value::Null;
    lab.answer(2, json!({"status": "ok", "records": [waiting]}), Vec::new());
    lab.sent.clear();
    lab.ask(8, Request::Stop { submission: 1, running: true });
    let told: Vec<(String, Value)> = lab
        .sent
        .iter()
        .map(|sent| (sent.msg_type.to_string(), serde_json::from_str(sent.content.get()).unwrap()))
        .collect();
    let about = json!({"msg_ids": ["theirs"]});
    let expected = ["abort_request", "interrupt_request", "abort_request", "interrupt_request"];
    assert_eq!(told, expected.map(|msg_type| (msg_type.to_owned(), about.clone())));
}
