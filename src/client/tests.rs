//! The tables as scripts: these events in, exactly these effects out. No socket, no clock.

use super::command::{CellRun, CellWork, ClientEvent, Command, Output};
use super::event::{Effect, Event, Now, Number, Outgoing, Published, Reply, Verdict};
use super::state::{Settings, State};
use prust::items::{Items, write_items};
use prust::outcome::{self, Failure};
use prust::request::{
    Answer, Asked, Call, Options, Request, Status, Stopped, Submit, TaskEnd, Until, Want, Work,
};
use prust::{EngineId, Error, Targets, codec};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// A client with a clock of its own, whose effects are read as texts.
struct Lab {
    state: State,
    at: Duration,
    told: Vec<String>,
    sent: Vec<Outgoing>,
    events: Vec<ClientEvent>,
    /// `Progress` is left out of `told` unless a script is about it.
    progress: bool,
}

impl Lab {
    /// Connected, with these engines.
    fn new(engines: &[EngineId]) -> Self {
        let mut lab = Self {
            state: State::new("s_1_".to_owned(), Settings::default()),
            at: Duration::ZERO,
            told: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            progress: false,
        };
        lab.event(Event::Tick);
        let engines = engines.iter().map(|id| (*id, format!("uuid{id}"))).collect();
        lab.event(Event::EngineList(1, engines));
        lab.told.clear();
        lab.sent.clear();
        lab.events.clear();
        lab
    }

    fn event(&mut self, event: Event) {
        let now = Now { at: self.at, date: SystemTime::UNIX_EPOCH + self.at };
        for effect in self.state.handle(event, now) {
            match effect {
                Effect::Send(outgoing) => {
                    let to = outgoing.to.as_deref().unwrap_or("any");
                    let (number, msg_type) = (outgoing.number, &outgoing.msg_type);
                    if &**msg_type != "connection_request" {
                        self.told.push(format!("{:?} {to} #{number} {msg_type}", outgoing.channel));
                    }
                    self.sent.push(outgoing);
                }
                Effect::Emit(event) => {
                    if self.progress || !matches!(event, ClientEvent::Progress { .. }) {
                        self.told.push(tell(&event));
                    }
                    self.events.push(event);
                }
                Effect::Close => self.told.push("close".to_owned()),
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        self.at += Duration::from_millis(ms);
        self.event(Event::Tick);
    }

    fn ask(&mut self, from: u64, request: Request) {
        self.ask_with(from, request, Vec::new());
    }

    fn ask_with(&mut self, from: u64, request: Request, body: Vec<u8>) {
        let head = codec::to_bytes(&Asked { cluster: 0, request }).unwrap();
        let cell = "In[1]".to_owned();
        self.event(Event::Command(Command::Request { from, cell, head, body }));
    }

    /// Submits a call on numbers and gives no thought to its answer.
    fn submit(&mut self, targets: Targets, balanced: bool, work: &str, n: u64, options: Options) {
        let Items { lengths, bytes } = write_items(&(0..n).collect::<Vec<u64>>()).unwrap();
        let call = Call {
            library: "/lib.so".to_owned(),
            offset: 64,
            name: "f".to_owned(),
            method: work.to_owned(),
            defines: Vec::new(),
            per_task: false,
        };
        let work = match work {
            "map" => Work::Map { call, prefix: 0, lengths },
            _ => Work::Apply { call, prefix: 0, lengths },
        };
        let submit = Submit { work, targets, balanced, options };
        self.ask_with(1, Request::Submit(submit), bytes);
    }

    fn reply(&mut self, number: Number, engine: EngineId, verdict: Verdict) {
        let at = SystemTime::UNIX_EPOCH + self.at;
        self.event(Event::Reply(Box::new(Reply {
            number,
            uuid: Some(format!("uuid{engine}")),
            started: at.checked_sub(Duration::from_millis(5)),
            completed: Some(at),
            verdict,
            execution_count: 7,
            prust: json!({"namespace": "n"}),
            has_engine_info: true,
        })));
    }

    fn value(&mut self, number: Number, engine: EngineId, values: &[u64]) {
        let items = write_items(&values.to_vec()).unwrap();
        let value = outcome::write_outcomes(values.len() as u64, Vec::new(), items);
        self.reply(number, engine, Verdict::Ok(value));
    }

    fn publish(&mut self, number: Number, engine: EngineId, what: Published) {
        self.event(Event::Published { number, engine: Some(engine), what });
    }

    fn print(&mut self, number: Number, engine: EngineId, text: &str) {
        let output = Output::Stream { stderr: false, text: text.to_owned() };
        self.publish(number, engine, Published::Output(output));
    }

    /// What has been told since, and nothing else.
    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.told), expected);
    }

    fn last(&self) -> &ClientEvent {
        self.events.last().expect("something was told")
    }
}

fn tell(event: &ClientEvent) -> String {
    match event {
        ClientEvent::Answer { to, status: prust_runtime::frame::Status::Ok, head, body } => {
            match codec::from_bytes::<Answer>(head).unwrap() {
                Answer::Results { tasks, next, complete } => {
                    let ends = tasks.iter().map(|task| match &task.end {
                        TaskEnd::Value { .. } => format!("{}+{}", task.first_item, task.n),
                        TaskEnd::Failed(failure) => failure.ename.clone(),
                    });
                    let ends = ends.collect::<Vec<_>>().join(" ");
                    format!("answer {to} [{ends}] next {next} complete {complete} {}", body.len())
                }
                Answer::Submitted { submission, n_tasks, n_values } => {
                    format!("answer {to} submitted {submission}: {n_tasks} tasks {n_values} values")
                }
                Answer::Status(Status { done, failed, cancelled, running, finished, .. }) => {
                    format!("answer {to} {done} {failed} {cancelled} {running} {finished}")
                }
                Answer::Stopped(Stopped { aborted, interrupted, left_running, finished }) => {
                    format!("answer {to} stopped {aborted} {interrupted} {left_running} {finished}")
                }
                answer => format!("answer {to} {answer:?}"),
            }
        }
        ClientEvent::Answer { to, status: prust_runtime::frame::Status::Error, head, .. } => {
            let error: Error = codec::from_bytes(head).unwrap();
            format!("refuse {to} {error:?}")
        }
        ClientEvent::Answer { to, status, .. } => format!("{status:?} {to}"),
        ClientEvent::Progress { summary } => {
            let counts = summary.counts;
            assert_eq!(
                counts.done + counts.failed + counts.cancelled + counts.running + counts.waiting,
                counts.total
            );
            format!("progress {:?} {}/{}", summary.state, counts.done, counts.total)
        }
        ClientEvent::TaskFinished { submission, task, prust } => {
            format!("task of {submission} {} {} {prust}", task.status, task.stdout)
        }
        ClientEvent::Finished { submission, n_values, n_failed, .. } => {
            format!("finished {submission}: {n_failed} of {n_values} failed")
        }
        event => format!("{event:?}"),
    }
}

fn all(n: u64, from: u64) -> Request {
    Request::Results { submission: n, from, want: Want::All, timeout: None }
}

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
    assert_eq!(metadata["prust"], json!({"library": "/lib.so", "offset": 64, "items": 3}));
    lab.ask(2, all(1, 0));
    lab.value(3, 3, &[30, 40]);
    lab.expect(&[]);
    lab.value(2, 0, &[0, 10, 20]);
    lab.expect(&["answer 2 [0+3 3+2] next 2 complete true 92", "finished 1: 0 of 5 failed"]);
    lab.value(2, 0, &[9, 9, 9]);
    lab.expect(&[]);
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
    assert_eq!(lab.told[0], "answer 2 [0+1 EngineError] next 2 complete true 34");
    assert!(lab.told[1].contains("lost: [(1, \"killed by SIGKILL\")]"), "{}", lab.told[1]);
    assert_eq!(lab.told[2], "finished 1: 1 of 2 failed");
    let ClientEvent::Finished { failed, .. } = lab.last() else { panic!("not finished") };
    assert_eq!(
        failed[0].evalue,
        "engine 1 (uuid1) was lost while it ran task s_1_3: killed by SIGKILL"
    );
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
        "answer 1 submitted 1: 2 tasks 3 values",
        "progress Waiting 0/3",
    ]);
    let ClientEvent::Progress { summary } = lab.last() else { panic!("no progress") };
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
    lab.expect(&["answer 3 [2+1] next 1 complete false 34"]);
    lab.value(2, 0, &[0]);
    lab.expect(&["answer 2 [0+1] next 1 complete false 34"]);
    lab.ask(4, next(Want::NextFinished, 1));
    lab.expect(&["answer 4 [0+1] next 2 complete false 34"]);
    lab.value(3, 0, &[1]);
    lab.ask(5, next(Want::Next, 1));
    lab.expect(&["finished 1: 0 of 3 failed", "answer 5 [1+1 2+1] next 3 complete true 68"]);
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

fn cell(engines: &[EngineId], submission: Option<u64>) -> Event {
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
fn a_cell_asked_for_by_code_is_compiled_by_the_kernel() {
    let mut lab = Lab::new(&[0, 1]);
    let work = Work::Execute { source: "1+1".to_owned() };
    let options = Options::default();
    let submit = Submit { work, targets: Targets::All, balanced: false, options };
    lab.ask(1, Request::Submit(submit));
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
    let submit = Submit { work, targets: Targets::All, balanced: false, options };
    lab.ask(1, Request::Submit(submit));
    lab.told.clear();
    lab.event(Event::Command(Command::EngineGone {
        uuid: "uuid0".to_owned(),
        cause: "exit code 1".to_owned(),
    }));
    assert_eq!(lab.told[0], "task of 1 error  null");
    lab.told.clear();
    lab.event(cell(&[0], Some(1)));
    lab.expect(&[]);
}

#[test]
fn only_the_failed_items_are_tried_again() {
    let mut lab = Lab::new(&[0]);
    let options = Options { chunksize: Some(3), ..Options::default() };
    lab.submit(Targets::All, true, "map", 6, options);
    let failed = vec![(1, Failure::new("panic", "no"))];
    let values = write_items(&vec![0u64, 2]).unwrap();
    lab.reply(2, 0, Verdict::Ok(outcome::write_outcomes(3, failed, values)));
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
    lab.event(Event::Answered { number: 5, msg_type: "x".to_owned(), content: json!({}) });
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
