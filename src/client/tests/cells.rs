//! Scripts about cells for engines.

use super::*;

pub(super) fn cell(engines: &[EngineId], submission: Option<u64>) -> Event {
    let runs = engines.iter().map(|id| CellRun { engine: *id, prust: json!({"entry": "e"}) });
    Event::Command(Command::Cell(CellWork {
        tag: 9,
        submission,
        runs: runs.collect(),
        code: "let x = 1;".to_owned(),
        silent: false,
        label: None,
    }))
}

#[test]
fn a_cell_ends_when_its_reply_and_all_its_output_are_here() {
    let mut lab = Lab::new(&[0]);
    lab.event(cell(&[0], None));
    lab.expect(&["CellSubmitted { tag: 9, submission: 1 }", "Mux uuid0 #2 execute_request"]);
    lab.reply(2, 0, Verdict::Ok(Vec::new()));
    lab.expect(&[]);
    lab.print(2, 0, "hi\n");
    let content = json!({"data": {"text/plain": "1"}});
    lab.publish(2, 0, Published::Output(Output::Result { content }));
    lab.told.clear();
    lab.publish(2, 0, Published::Idle);
    lab.expect(&["task of 1 ok hi\n {\"namespace\":\"n\"}", "finished 1: 0 of 1 failed"]);
    // Output that never comes is not waited for beyond a limit.
    lab.event(cell(&[0], None));
    lab.reply(3, 0, Verdict::Ok(Vec::new()));
    lab.told.clear();
    lab.wait(2000);
    lab.expect(&["task of 2 ok  {\"namespace\":\"n\"}", "finished 2: 0 of 1 failed"]);
}

#[test]
fn an_engine_that_prints_much_prints_on_when_its_output_is_handled() {
    let mut lab = Lab::new(&[0, 1]);
    lab.event(cell(&[0], None));
    lab.told.clear();
    lab.publish(2, 0, Published::Paused);
    lab.expect(&["Paused { engine: 0 }"]);
    lab.event(Event::Command(Command::ReadOn { engine: 0 }));
    lab.expect(&["Control uuid0 #3 read_on_request"]);
    // Also when the cell has ended meanwhile: the engine waits all the same.
    lab.reply(2, 0, Verdict::Ok(Vec::new()));
    lab.publish(2, 0, Published::Idle);
    lab.told.clear();
    lab.publish(2, 0, Published::Paused);
    lab.expect(&["Paused { engine: 0 }"]);
    // What nobody shows is on record at once.
    lab.publish(99, 1, Published::Paused);
    lab.expect(&["Control uuid1 #4 read_on_request"]);
}

#[test]
fn a_cell_asked_for_by_code_is_compiled_by_the_kernel() {
    let mut lab = Lab::new(&[0, 1]);
    let work = Work::Execute { source: "1+1".to_owned() };
    let options = Options::default();
    let submit =
        Submit { work, targets: Targets::All, balanced: false, options, there: Vec::new() };
    lab.ask(1, Request::Submit { name: NAMES, submit: Box::new(submit) });
    lab.expect(&[
        "CellRequested { submission: 1, engines: [0, 1], source: \"1+1\" }",
        "answer 1 submitted 1: 2 tasks 2 values",
    ]);
    lab.event(cell(&[1], Some(1)));
    lab.expect(&["Mux uuid1 #3 execute_request"]);
    // The engine's variables were others: back to the kernel, and out again as another message.
    lab.reply(3, 1, Verdict::Error(Failure::new("StaleNamespace", "other variables")));
    lab.told.clear();
    lab.event(cell(&[1], Some(1)));
    lab.expect(&["Mux uuid1 #4 execute_request"]);
    lab.event(Event::Command(Command::CellFailed {
        submission: 1,
        ename: "CompileError".to_owned(),
        evalue: "E0308".to_owned(),
        traceback: Vec::new(),
    }));
    lab.expect(&["task of 1 error  null"]);
    lab.reply(4, 1, Verdict::Ok(Vec::new()));
    lab.publish(4, 1, Published::Idle);
    lab.expect(&["task of 1 ok  {\"namespace\":\"n\"}", "finished 1: 1 of 2 failed"]);
}

#[test]
fn an_engine_lost_while_its_cell_is_compiled_fails_that_cell() {
    let mut lab = Lab::new(&[0]);
    let work = Work::Execute { source: "1+1".to_owned() };
    let options = Options::default();
    let submit =
        Submit { work, targets: Targets::All, balanced: false, options, there: Vec::new() };
    lab.ask(1, Request::Submit { name: NAMES, submit: Box::new(submit) });
    lab.told.clear();
    lab.event(Event::Command(Command::EngineGone {
        uuid: "uuid0".to_owned(),
        cause: "exit code 1".to_owned(),
    }));
    assert_eq!(lab.told[1], "task of 1 error  null");
    lab.told.clear();
    lab.event(cell(&[0], Some(1)));
    lab.expect(&[]);
}

#[test]
fn an_engine_on_another_host_is_brought_what_it_lacks() {
    let mut lab = Lab::new(&[0, 1]);
    lab.submit(Targets::All, true, "map", 1, Options::default());
    let number = lab.sent[0].number;
    lab.told.clear();
    let names = vec!["libleaf_1.so".to_owned()];
    lab.publish(number, 1, Published::Lacks { names: names.clone() });
    lab.expect(&["Lacks { engine: 1, names: [\"libleaf_1.so\"] }"]);
    let bring = || Command::Bring { engine: 1, names: names.clone(), folder: "/lib".into() };
    lab.event(Event::Command(bring()));
    lab.expect(&["bring uuid1 #3 [\"libleaf_1.so\"] of /lib"]);
    // It is on its way; after half a minute it is lost.
    for _ in 0..16 {
        lab.event(Event::Command(bring()));
        lab.wait(2000);
    }
    let brought = lab.told.iter().filter(|told| told.starts_with("bring uuid1"));
    assert_eq!(brought.count(), 1, "{:?}", lab.told);
    lab.told.clear();
    // Somebody else's task is none of ours.
    lab.publish(99, 1, Published::Lacks { names: Vec::new() });
    lab.expect(&[]);
}
