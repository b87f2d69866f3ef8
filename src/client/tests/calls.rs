//! Scripts about calls: submitting, waiting, losing engines, stopping, trying again, keeping.

use super::*;

#[test]
fn a_direct_map_is_one_chunk_per_engine_in_order() {
    let mut lab = Lab::new(&[0, 3]);
    lab.submit(Targets::All, false, "map", 5, Options::default());
    lab.expect(&[
        "Mux uuid0 #2 apply_request",
        "Mux uuid3 #3 apply_request",
        "answer 1 submitted 1: 2 tasks 5 values",
    ]);
    let metadata: Value = serde_json::from_str(lab.sent[0].metadata.get()).unwrap();
    let call = json!({"library": "/lib.so", "offset": 64, "items": 3, "returns": "u64"});
    assert_eq!(metadata["prust"], call);
    lab.ask(2, all(1, 0));
    lab.value(3, 3, &[30, 40]);
    lab.expect(&[]);
    lab.value(2, 0, &[0, 10, 20]);
    lab.expect(&["answer 2 [0+3 3+2] next 2 complete true 94", "finished 1: 0 of 5 failed"]);
    lab.value(2, 0, &[9, 9, 9]);
    lab.expect(&[]);
}

#[test]
fn large_items_and_values_stay_in_files_until_nobody_needs_them() {
    let mut lab = Lab::new(&[0, 1]);
    lab.state.settings.results_bytes_max = 1000;
    lab.state.settings.shared_folder = Some("/shared".into());
    let lengths = Lengths::Fixed { n: 4, size: 8 };
    let call = |path: &str| {
        let work = Work::Map { call: call_by("map"), prefix: 0, lengths: lengths.clone() };
        let there = vec![Mapped { path: path.to_owned(), start: 100, end: 132 }];
        let (targets, options) = (Targets::All, Options::default());
        Submit { work, targets, balanced: false, options, there }
    };
    lab.ask(1, Request::Submit { name: NAMES, submit: Box::new(call("/shared/1")) });
    let tables: Vec<Vec<Mapped>> = lab.sent.iter().map(|sent| items_of(&sent.buffers[0])).collect();
    let part = |start, end| vec![Mapped { path: "/shared/1".to_owned(), start, end }];
    assert_eq!(tables, [part(100, 116), part(116, 132)]);
    // One item fails; what is tried again names the item's own bytes.
    let failed = vec![(1, Failure::new("panic", "boom"))];
    let values = write_items(&[1u64]).unwrap();
    lab.reply(2, 0, Verdict::Ok(outcome::write_outcomes(2, failed, values, None)));
    lab.value(3, 1, &[3, 4]);
    lab.sent.clear();
    lab.ask(2, Request::Retry { submission: 1 });
    assert_eq!(items_of(&lab.sent[0].buffers[0]), part(108, 116));
    lab.value(4, 0, &[2]);
    // Both need the file. They go when there is no room for them, and the file with the last.
    lab.told.clear();
    lab.state.settings.results_bytes_max = 0;
    lab.ask(3, Request::Submit { name: NAMES, submit: Box::new(call("/shared/2")) });
    let removed = |lab: &Lab| lab.told.iter().filter(|told| told.starts_with("remove")).count();
    assert_eq!(removed(&lab), 1, "{:?}", lab.told);
    assert!(lab.told.contains(&"remove /shared/1".to_owned()));
}

/// Where a payload says that its items are.
fn items_of(payload: &[u8]) -> Vec<Mapped> {
    let part = |bytes: &[u8]| {
        let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        (part.to_vec(), rest.to_vec())
    };
    let (_prefix, rest) = part(payload);
    codec::from_bytes::<outcome::Table>(&part(&rest).0).unwrap().items
}

#[test]
fn a_lost_engine_fails_its_direct_work_at_once_and_names_the_cause() {
    let mut lab = Lab::new(&[0, 1]);
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.ask(2, all(1, 0));
    lab.value(2, 0, &[5]);
    lab.told.clear();
    let cause = Some("killed by SIGKILL".to_owned());
    lab.event(Event::Unregistered { id: 1, uuid: "uuid1".to_owned(), cause });
    assert_eq!(lab.told.len(), 3, "{:?}", lab.told);
    assert_eq!(lab.told[0], "answer 2 [0+1 EngineError] next 2 complete true 35");
    assert!(lab.told[1].contains("lost: [(1, \"killed by SIGKILL\")]"), "{}", lab.told[1]);
    assert_eq!(lab.told[2], "finished 1: 1 of 2 failed");
    let ClientEvent::Finished { failed, .. } = lab.last() else { panic!("not finished") };
    assert_eq!(
        failed[0].evalue,
        "engine 1 (uuid1) was lost while it ran task s_1_3: killed by SIGKILL"
    );
}

#[test]
fn an_engine_that_was_silent_comes_back_as_who_it_was() {
    let mut lab = Lab::new(&[0, 1]);
    lab.event(Event::Unregistered { id: 1, uuid: "uuid1".to_owned(), cause: None });
    // A list that is older than the loss does not bring it back; the controller's word does.
    let both = || vec![(0, "uuid0".to_owned()), (1, "uuid1".to_owned())];
    lab.event(Event::EngineList(0, both()));
    assert_eq!(lab.state.live(), [0]);
    lab.event(Event::Registered { id: 1, uuid: "uuid1".to_owned() });
    lab.event(Event::EngineList(0, both()));
    assert_eq!(lab.state.live(), [0, 1]);
    lab.told.clear();
    lab.submit(Targets::Ids(vec![1]), false, "apply", 0, Options::default());
    lab.expect(&["Mux uuid1 #2 apply_request", "answer 1 submitted 1: 1 tasks 1 values"]);
}

#[test]
fn an_unknown_target_is_refused_with_the_live_ids() {
    let mut lab = Lab::new(&[0, 1]);
    lab.submit(Targets::Ids(vec![7]), false, "apply", 0, Options::default());
    lab.expect(&["refuse 1 InvalidTarget: no engine 7; live engines: 0, 1"]);
    let mut lab = Lab::new(&[]);
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    assert!(lab.told[0].starts_with("refuse 1 NoEnginesRegistered"), "{:?}", lab.told);
}

#[test]
fn balanced_work_waits_for_engines_and_says_so() {
    let mut lab = Lab::new(&[]);
    lab.progress = true;
    let options = Options { chunksize: Some(2), ..Options::default() };
    lab.submit(Targets::All, true, "map", 3, options);
    lab.expect(&[
        "Task any #2 apply_request",
        "Task any #3 apply_request",
        // Before the cell goes on, so that the kernel can name the work should the cell fail.
        "progress Waiting 0/3",
        "answer 1 submitted 1: 2 tasks 3 values",
    ]);
    let ClientEvent::Progress { summary } = lab.before_last() else { panic!("no progress") };
    assert_eq!(summary.hint.as_deref(), Some("no engine is connected"));
    lab.event(Event::Registered { id: 4, uuid: "uuid4".to_owned() });
    lab.at += Duration::from_millis(100);
    lab.value(2, 4, &[1, 2]);
    let ClientEvent::Progress { summary } = lab.last() else { panic!("no progress") };
    assert_eq!((summary.hint.as_deref(), summary.counts.running), (None, 1));
    assert_eq!(summary.lanes[0].engine, 4);
}

#[test]
fn values_can_be_had_one_by_one_in_order_or_as_they_arrive() {
    let mut lab = Lab::new(&[0, 1]);
    let options = Options { chunksize: Some(1), ..Options::default() };
    lab.submit(Targets::All, true, "map", 3, options);
    lab.told.clear();
    let next = |want, from| Request::Results { submission: 1, from, want, timeout: None };
    lab.ask(2, next(Want::Next, 0));
    lab.ask(3, next(Want::NextFinished, 0));
    lab.value(4, 1, &[2]);
    lab.expect(&["answer 3 [2+1] next 1 complete false 35"]);
    lab.value(2, 0, &[0]);
    lab.expect(&["answer 2 [0+1] next 1 complete false 35"]);
    lab.ask(4, next(Want::NextFinished, 1));
    lab.expect(&["answer 4 [0+1] next 2 complete false 35"]);
    lab.value(3, 0, &[1]);
    lab.ask(5, next(Want::Next, 1));
    lab.expect(&["finished 1: 0 of 3 failed", "answer 5 [1+1 2+1] next 3 complete true 70"]);
}

#[test]
fn a_wait_ends_by_time_or_by_interrupt_and_the_work_goes_on() {
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.told.clear();
    let timeout = Some(Duration::from_millis(200));
    lab.ask(2, Request::Results { submission: 1, from: 0, want: Want::All, timeout });
    lab.ask(3, Request::Wait { submissions: vec![1], until: Until::Finished, timeout });
    lab.ask(4, all(1, 0));
    lab.wait(199);
    lab.expect(&[]);
    lab.wait(1);
    lab.expect(&[
        "refuse 2 TimeoutError: 0 of 1 done in time; the work is still running",
        "answer 3 Waited(false)",
    ]);
    lab.wait(100);
    lab.expect(&["Blocked { from: 4, submission: 1 }"]);
    lab.event(Event::Command(Command::Interrupt));
    lab.expect(&["Interrupted 4"]);
    lab.ask(5, Request::Status { submission: 1 });
    lab.expect(&["answer 5 0 0 0 1 false"]);
}

#[test]
fn a_cancel_aborts_what_waits_and_interrupts_what_runs() {
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.told.clear();
    lab.ask(2, Request::Stop { submission: 2, running: true });
    lab.expect(&[
        "Control uuid0 #4 abort_request",
        "Control uuid0 #5 interrupt_request",
        "answer 2 stopped 1 0 0 0",
    ]);
    assert_eq!(lab.sent.last().unwrap().content.get(), r#"{"msg_ids":["s_1_3"]}"#);
    lab.reply(3, 0, Verdict::Aborted);
    lab.expect(&["finished 2: 1 of 1 failed"]);
    lab.ask(3, Request::Stop { submission: 1, running: true });
    lab.told.clear();
    lab.reply(2, 0, Verdict::Error(Failure::new("Interrupted", "interrupted")));
    lab.ask(4, Request::Status { submission: 1 });
    lab.expect(&["finished 1: 1 of 1 failed", "answer 4 0 0 1 0 true"]);
}

#[test]
fn a_call_that_printed_is_over_for_its_caller_before_its_output_is_complete() {
    let mut lab = Lab::new(&[0]);
    for (first, ms) in [(2, 0), (3, 2000)] {
        lab.submit(Targets::All, false, "apply", 0, Options::default());
        lab.print(first, 0, "hi");
        lab.told.clear();
        let items = write_items(&[1u64]).unwrap();
        lab.event(Event::Reply(Box::new(Reply {
            number: first,
            uuid: Some("uuid0".to_owned()),
            started: None,
            completed: None,
            verdict: Verdict::Ok(outcome::write_outcomes(1, Vec::new(), items, None)),
            execution_count: 0,
            prust: json!({"published": 1}),
            has_engine_info: false,
        })));
        let submission = first - 1;
        lab.ask(
            2,
            Request::Wait { submissions: vec![submission], until: Until::Finished, timeout: None },
        );
        lab.ask(3, Request::Metadata { submission, settled: true });
        lab.expect(&["answer 2 Waited(true)"]);
        match ms {
            0 => lab.publish(first, 0, Published::Idle),
            ms => lab.wait(ms),
        }
        assert_eq!(lab.told.len(), 2, "{:?}", lab.told);
        assert!(lab.told[0].starts_with("answer 3 Metadata"), "{:?}", lab.told);
        assert!(lab.told[0].contains("stdout: \"hi\""), "{:?}", lab.told);
        assert_eq!(lab.told[1], format!("finished {submission}: 0 of 1 failed"));
    }
}

#[test]
fn only_the_failed_items_are_tried_again() {
    let mut lab = Lab::new(&[0]);
    let options = Options { chunksize: Some(3), ..Options::default() };
    lab.submit(Targets::All, true, "map", 6, options);
    let failed = vec![(1, Failure::new("panic", "no"))];
    let values = write_items(&[0u64, 2]).unwrap();
    lab.reply(2, 0, Verdict::Ok(outcome::write_outcomes(3, failed, values, None)));
    lab.reply(3, 0, Verdict::Error(Failure::new("EngineError", "lost")));
    lab.told.clear();
    lab.ask(2, Request::Retry { submission: 1 });
    lab.expect(&[
        "Task any #4 apply_request",
        "Task any #5 apply_request",
        "answer 2 submitted 2: 2 tasks 4 values",
    ]);
    let payload = &lab.sent.last().unwrap().buffers[0];
    // Three numbers of eight bytes behind the two tables.
    assert_eq!(payload.len() - payload_head(payload), 24);
}

/// Bytes before the items of a payload with an empty prefix.
fn payload_head(payload: &[u8]) -> usize {
    let table = u32::from_le_bytes(payload[4..8].try_into().unwrap());
    8 + table as usize
}

#[test]
fn progress_is_told_ten_times_a_second_and_always_at_the_end() {
    let mut lab = Lab::new(&[0]);
    lab.progress = true;
    let options = Options { chunksize: Some(1), ..Options::default() };
    lab.submit(Targets::All, true, "map", 1000, options);
    for number in 2..1002 {
        lab.at += Duration::from_millis(1);
        lab.value(number, 0, &[1]);
    }
    let told = lab.told.iter().filter(|line| line.starts_with("progress")).count();
    assert!((10..=12).contains(&told), "told {told} times in a second");
    assert_eq!(
        lab.told[lab.told.len() - 2..],
        ["progress Done 1000/1000", "finished 1: 0 of 1000 failed"]
    );
    assert!(lab.state.next_deadline() > Some(lab.at), "nothing is due any more");
}

#[test]
fn a_stale_list_neither_drops_nor_revives_engines() {
    let mut lab = Lab::new(&[0]);
    lab.wait(100);
    lab.event(Event::Registered { id: 1, uuid: "uuid1".to_owned() });
    lab.event(Event::Unregistered { id: 0, uuid: "uuid0".to_owned(), cause: None });
    lab.told.clear();
    lab.event(Event::EngineList(2, vec![(0, "uuid0".to_owned())]));
    lab.expect(&[]);
    assert_eq!(lab.state.live(), [1]);
    lab.wait(1000);
    lab.event(Event::EngineList(3, Vec::new()));
    assert!(lab.state.live().is_empty());
}

#[test]
fn unreferenced_results_go_first_when_memory_is_short() {
    let mut lab = Lab::new(&[0]);
    lab.state.settings.results_bytes_max = 20_000;
    for n in 1..=3u64 {
        lab.submit(
            Targets::All,
            true,
            "map",
            1000,
            Options { chunksize: Some(1000), ..Options::default() },
        );
        lab.value(n + 1, 0, &vec![0; 1000]);
        if n == 2 {
            lab.ask(0, Request::Forget { submission: 2 });
        }
    }
    lab.told.clear();
    lab.ask(9, all(2, 0));
    assert!(lab.told[0].starts_with("refuse 9 ResultPurged"), "{:?}", lab.told);
    lab.told.clear();
    lab.ask(9, all(3, 0));
    assert!(lab.told[0].starts_with("answer 9 [0+1000]"), "{:?}", lab.told);
}

#[test]
fn what_nobody_asked_for_is_ignored() {
    let mut lab = Lab::new(&[0]);
    lab.value(77, 0, &[1]);
    lab.print(78, 0, "x");
    lab.event(Event::Answered {
        number: 5,
        msg_type: "x".to_owned(),
        content: json!({}),
        buffers: Vec::new(),
    });
    lab.event(Event::Command(Command::Stop { submission: 9, running: true }));
    lab.expect(&[]);
    lab.event(Event::Command(Command::Request {
        from: 3,
        cell: String::new(),
        head: vec![0xff; 9],
        body: Vec::new(),
    }));
    assert!(lab.told[0].starts_with("refuse 3 Disconnected"), "{:?}", lab.told);
}

#[test]
fn work_whose_handle_an_interrupt_takes_away_is_cancelled() {
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.submit(Targets::All, false, "apply", 0, Options::default());
    lab.ask(2, all(1, 0));
    lab.told.clear();
    lab.event(Event::Command(Command::Interrupt));
    lab.ask(0, Request::Forget { submission: 2 });
    lab.expect(&["Interrupted 2"]);
    lab.ask(0, Request::Forget { submission: 1 });
    lab.expect(&["Control uuid0 #4 abort_request", "Control uuid0 #5 interrupt_request"]);
}

#[test]
fn the_controller_hears_at_once_of_an_engine_that_its_owner_saw_die() {
    let mut lab = Lab::new(&[0]);
    let (uuid, cause) = ("uuid0".to_owned(), "killed by signal 9".to_owned());
    lab.event(Event::Command(Command::EngineGone { uuid, cause }));
    assert_eq!(lab.told[0], "Query any #2 unregistration_request");
    let content = lab.sent[0].content.get();
    assert_eq!(content, r#"{"cause":"killed by signal 9","id":0}"#);
    lab.event(Event::Unregistered { id: 0, uuid: "uuid0".to_owned(), cause: None });
    assert_eq!(lab.told.len(), 2, "{:?}", lab.told);
}
