//! Scripts about messages that a cut connection has lost.

use super::*;

/// A client of somebody else's controller, with an engine, that has submitted three tasks.
fn attached() -> (Lab, [Number; 3]) {
    let mut lab = Lab::new(&[0]);
    lab.state.settings.foreign = true;
    let each = Options { chunksize: Some(1), ..Options::default() };
    lab.submit(Targets::All, true, "map", 3, each);
    let first = lab.sent[0].number;
    lab.sent.clear();
    (lab, [first, first + 1, first + 2])
}

fn id(number: Number) -> String {
    format!("s_1_{number}")
}

impl Lab {
    /// The questions asked since the last call: what is asked, its number, and the ids it is about.
    fn questions(&mut self) -> Vec<(&'static str, Number, Vec<String>)> {
        let mut questions = Vec::new();
        for sent in std::mem::take(&mut self.sent) {
            let content: Value = serde_json::from_str(sent.content.get()).unwrap();
            let (what, ids) = match &*sent.msg_type {
                "db_request" => ("records", &content["query"]["msg_id"]["$in"]),
                "result_request" if content["status_only"] == true => ("seen", &content["msg_ids"]),
                "result_request" => ("result", &content["msg_ids"]),
                "apply_request" => {
                    assert_eq!(sent.channel, Channel::Task);
                    questions.push(("again", sent.number, Vec::new()));
                    continue;
                }
                _ => continue,
            };
            questions.push((what, sent.number, serde_json::from_value(ids.clone()).unwrap()));
        }
        questions
    }

    fn tell(&mut self, number: Number, content: Value) {
        self.tell_with(number, content, Vec::new());
    }

    fn tell_with(&mut self, number: Number, content: Value, buffers: Vec<Vec<u8>>) {
        let msg_type = "result_reply".to_owned();
        self.event(Event::Answered { number, msg_type, content, buffers });
    }

    /// Tells that these tasks are there, with whether they have ended.
    fn tell_records(&mut self, number: Number, records: &[(Number, bool)]) {
        let row = |(task, has_ended): &(Number, bool)| {
            let completed = has_ended.then_some("2026-01-01T00:00:00Z");
            json!({"msg_id": id(*task), "completed": completed})
        };
        let rows: Vec<Value> = records.iter().map(row).collect();
        self.tell(number, json!({"status": "ok", "records": rows}));
    }

    /// A second in which the controller answers what else it is asked.
    fn second(&mut self) {
        self.wait(1000);
        let number = self.state.n_numbers;
        self.event(Event::EngineList(number, vec![(0, "uuid0".to_owned())]));
    }

    /// Lets time pass until something is asked.
    fn until_asked(&mut self) -> (Number, Vec<String>) {
        for _ in 0..100 {
            self.second();
            if let Some((what, number, ids)) = self.questions().pop() {
                assert_eq!(what, "records");
                return (number, ids);
            }
        }
        panic!("nothing is asked")
    }
}

#[test]
fn what_has_ended_without_our_hearing_of_it_is_fetched() {
    let (mut lab, [a, b, c]) = attached();
    lab.value(a, 0, &[7]);
    let (query, ids) = lab.until_asked();
    assert_eq!(ids, [id(b), id(c)]);
    lab.tell_records(query, &[(b, true), (c, false)]);
    let questions = lab.questions();
    let [("result", query, ids)] = &questions[..] else { panic!("{questions:?}") };
    assert_eq!(*ids, [id(b)]);
    let value = outcome::write_outcomes(1, Vec::new(), write_items(&[8u64]).unwrap(), None);
    let record =
        json!({"result_content": {"status": "ok"}, "result_metadata": {"engine": "uuid0"}});
    let content = json!({"status": "ok", "pending": [], "completed": [id(b)], id(b): record});
    lab.tell_with(*query, content, vec![value]);
    lab.told.clear();
    // A late reply changes nothing; the last one comes as ever.
    lab.value(b, 0, &[8]);
    lab.value(c, 0, &[9]);
    lab.ask(2, all(1, 0));
    assert_eq!(lab.told[0], "finished 1: 0 of 3 failed");
    assert!(
        lab.told[1].starts_with("answer 2 [0+1 1+1 2+1] next 3 complete true"),
        "{:?}",
        lab.told
    );
}

#[test]
fn what_the_controller_has_never_seen_is_sent_again_and_in_the_end_given_up() {
    let (mut lab, [a, b, c]) = attached();
    let mut n_sent = Vec::new();
    lab.ask(2, Request::Results { submission: 1, from: 1, want: Want::Next, timeout: None });
    lab.questions();
    while !lab.told.iter().any(|told| told.starts_with("answer 2")) {
        let (query, ids) = lab.until_asked();
        assert_eq!(ids, [id(a), id(b), id(c)]);
        lab.tell_records(query, &[(a, false), (c, false)]);
        for (what, query, ids) in lab.questions() {
            assert_eq!((what, ids), ("seen", vec![id(b)]));
            let error = format!("No such message: {}", id(b));
            lab.tell(query, json!({"status": "error", "ename": "KeyError", "evalue": error}));
        }
        let again = lab.questions();
        assert!(again.iter().all(|(what, number, _)| (*what, *number) == ("again", b)));
        n_sent.push(again.len());
    }
    // The first time it may be on its way.
    assert_eq!(n_sent, [0, 1, 0, 1, 0, 1, 0, 0]);
    assert!(lab.told.join("; ").contains("TaskLost"), "{:?}", lab.told);
}

#[test]
fn a_cell_that_the_controller_has_never_seen_is_sent_again_as_it_was() {
    let mut lab = Lab::new(&[0]);
    lab.state.settings.foreign = true;
    lab.event(super::cells::cell(&[0], None));
    let sent = lab.sent.iter().find(|sent| &*sent.msg_type == "execute_request");
    let first = sent.expect("it is sent").clone();
    let (query, ids) = lab.until_asked();
    assert_eq!(ids, [id(first.number)]);
    // The first time it may be on its way.
    lab.tell_records(query, &[]);
    let (query, _) = lab.until_asked();
    lab.tell_records(query, &[]);
    let questions = lab.questions();
    let [("seen", query, _)] = &questions[..] else { panic!("{questions:?}") };
    let query = *query;
    lab.tell(query, json!({"status": "error", "ename": "KeyError", "evalue": "No such message"}));
    let [again] = &lab.sent[..] else { panic!("{:?}", lab.sent) };
    assert_eq!(format!("{again:?}"), format!("{first:?}"));
    // What has ended is not kept.
    lab.reply(first.number, 0, Verdict::Ok(Vec::new()));
    lab.publish(first.number, 0, Published::Idle);
    assert_eq!(lab.state.missing.n_cells(), 0);
}

#[test]
fn what_has_ended_and_left_no_record_is_not_run_again() {
    let (mut lab, [a, b, c]) = attached();
    for _ in 0..2 {
        let (query, _) = lab.until_asked();
        lab.tell_records(query, &[(a, false), (c, false)]);
    }
    let questions = lab.questions();
    let [("seen", query, _)] = &questions[..] else { panic!("{questions:?}") };
    lab.tell(*query, json!({"status": "ok", "pending": [], "completed": [id(b)]}));
    assert_eq!(lab.questions(), []);
    lab.ask(2, Request::Results { submission: 1, from: 1, want: Want::Next, timeout: None });
    assert!(lab.told.join("; ").contains("ResultPurged"), "{:?}", lab.told);
}

#[test]
fn a_cluster_of_our_own_loses_nothing_and_is_not_asked() {
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, true, "apply", 1, Options::default());
    lab.questions();
    for _ in 0..100 {
        lab.second();
    }
    assert_eq!(lab.questions(), []);
}

#[test]
fn work_that_takes_long_is_asked_about_less_and_less_often() {
    let (mut lab, [a, b, c]) = attached();
    lab.questions();
    let mut n_asked = 0;
    for _ in 0..600 {
        lab.second();
        for (_, query, _) in lab.questions() {
            n_asked += 1;
            lab.tell_records(query, &[(a, false), (b, false), (c, false)]);
        }
    }
    assert!((8..16).contains(&n_asked), "{n_asked} questions in ten minutes");
    for number in [a, b, c] {
        lab.value(number, 0, &[1]);
    }
    assert_eq!(lab.told.last().unwrap(), "finished 1: 0 of 3 failed");
}
