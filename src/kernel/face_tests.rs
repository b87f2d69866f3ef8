//! Tests of the face: events in, exactly these messages out.
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::wire::jupyter::Stdio;

/// A face with a clock that stands still until it is moved, and a transcript of what it sent.
struct Lab {
    face: Face,
    start: Instant,
    elapsed: Duration,
    n_sent: u32,
    waiting: VecDeque<Report>,
}

impl Lab {
    fn new() -> Self {
        let mut lab = Self {
            face: Face::new("session", "kernel", Object::new()),
            start: Instant::now(),
            elapsed: Duration::from_secs(10),
            n_sent: 0,
            waiting: VecDeque::new(),
        };
        assert_eq!(lab.event(Event::Subscribed(Vec::new())), ["iopub_welcome", "starting"]);
        lab
    }

    /// Handles an event; each effect as a word or two. Parents are told by the request's code.
    fn event(&mut self, event: Event) -> Vec<String> {
        let wall = UNIX_EPOCH + self.elapsed;
        let now = Moment { instant: self.start + self.elapsed, wall };
        let effects = self.face.handle(event, now);
        effects.into_iter().filter_map(|effect| self.words(effect)).collect()
    }

    fn words(&mut self, effect: Effect) -> Option<String> {
        let outgoing = match effect {
            Effect::Send(outgoing) => outgoing,
            Effect::Work(Work::Run(run)) => return Some(format!("RUN {} {}", run.run, run.label)),
            Effect::Work(work) => return Some(format!("{work:?}")),
            Effect::Exit => return Some("EXIT".to_owned()),
            Effect::Report(report) => {
                self.waiting.push_back(report);
                return None;
            }
        };
        let content: Value = serde_json::from_str(outgoing.content.get()).expect("it is JSON");
        let parent: Value = serde_json::from_slice(&outgoing.parent.0).unwrap_or_default();
        let parent = parent["msg_id"].as_str().unwrap_or_default().to_owned();
        let detail = match outgoing.msg_type.as_str() {
            "status" => {
                return Some(
                    format!("{} {parent}", text(&content["execution_state"])).trim().to_owned(),
                );
            }
            "iopub_welcome" => return Some("iopub_welcome".to_owned()),
            "stream" => format!("{}:{}", text(&content["name"]), text(&content["text"])),
            "execute_input" => content["execution_count"].to_string(),
            "execute_reply" => {
                format!("{} {}", text(&content["status"]), content["execution_count"])
            }
            "error" => text(&content["ename"]),
            "input_request" => text(&content["prompt"]),
            "comm_msg" => content["data"].to_string(),
            _ => String::new(),
        };
        Some(format!("{} {parent} {detail}", outgoing.msg_type).trim_end().to_owned())
    }

    fn message(&mut self, msg_type: &str, id: &str, content: Value) -> Message {
        self.n_sent += 1;
        let header = crate::wire::Header {
            msg_id: id.to_owned(),
            msg_type: msg_type.to_owned(),
            ..Default::default()
        };
        let raw = |value: &Value| serde_json::to_vec(value).expect("it is JSON");
        Message {
            ids: vec![b"client".to_vec()],
            raw_header: raw(&json!({ "msg_id": id, "msg_type": msg_type })),
            header,
            raw_parent: b"{}".to_vec(),
            raw_metadata: b"{}".to_vec(),
            raw_content: raw(&content),
            buffers: Vec::new(),
        }
    }

    fn shell(&mut self, msg_type: &str, id: &str, content: Value) -> Vec<String> {
        let message = self.message(msg_type, id, content);
        self.event(Event::Shell(message))
    }

    fn execute(&mut self, id: &str, code: &str) -> Vec<String> {
        self.shell("execute_request", id, json!({ "code": code, "allow_stdin": true }))
    }

    fn report(&mut self, report: Report) -> Vec<String> {
        self.event(Event::Report(report))
    }

    fn done(&mut self, run: RunId) -> Vec<String> {
        self.report(Report::Done { run, outcome: Outcome::ok() })
    }

    fn failed(&mut self, run: RunId) -> Vec<String> {
        let outcome = Outcome::Error {
            ename: "Panic".to_owned(),
            evalue: String::new(),
            traceback: Vec::new(),
        };
        self.report(Report::Done { run, outcome })
    }

    fn print(&mut self, stream: Stdio, text: &str) -> Vec<String> {
        self.report(Report::Output { run: None, stream, text: text.to_owned() })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_cell_is_busy_input_outputs_reply_idle() {
    let mut lab = Lab::new();
    assert_eq!(lab.execute("a", "1"), ["busy a", "execute_input a 1", "RUN 1 In[1]"]);
    assert_eq!(lab.print(Stdio::Stdout, "x"), ["stream a stdout:x"]);
    let data = Object::new();
    let result = Report::Result { run: 1, data: data.clone(), metadata: data };
    assert_eq!(lab.report(result), ["execute_result a"]);
    assert_eq!(lab.done(1), ["execute_reply a ok 1", "idle a"]);
    assert_eq!(lab.done(1), [""; 0]);
}

#[test]
fn the_next_cell_waits_for_the_one_before() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    assert_eq!(lab.execute("b", "2"), [""; 0]);
    assert_eq!(
        lab.done(1),
        ["execute_reply a ok 1", "idle a", "busy b", "execute_input b 2", "RUN 2 In[2]"]
    );
}

#[test]
fn an_error_aborts_what_waits_and_nothing_else() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    lab.execute("b", "2");
    lab.shell("history_request", "h", json!({ "hist_access_type": "tail" }));
    assert_eq!(
        lab.failed(1),
        [
            "error a Panic",
            "execute_reply a error 1",
            "idle a",
            "busy b",
            "execute_reply b aborted 1",
            "idle b",
            "busy h",
            "history_reply h",
            "idle h",
        ]
    );
    assert_eq!(lab.execute("c", "3"), ["busy c", "execute_input c 2", "RUN 2 In[2]"]);
}

#[test]
fn an_error_that_must_not_stop_lets_the_queue_go_on() {
    let mut lab = Lab::new();
    lab.shell("execute_request", "a", json!({ "code": "1", "stop_on_error": false }));
    lab.execute("b", "2");
    let out = lab.failed(1);
    assert_eq!(out[3..], ["busy b", "execute_input b 2", "RUN 2 In[2]"]);
}

#[test]
fn a_silent_cell_shows_and_counts_nothing() {
    let mut lab = Lab::new();
    let content = json!({ "code": "1", "silent": true, "store_history": true });
    assert_eq!(lab.shell("execute_request", "a", content), ["busy a", "RUN 1 In[*]"]);
    assert_eq!(lab.print(Stdio::Stdout, "x"), [""; 0]);
    assert_eq!(lab.failed(1), ["execute_reply a error 0", "idle a"]);
    let content = json!({ "code": "1", "store_history": false });
    let out = lab.shell("execute_request", "b", content);
    assert_eq!(out, ["busy b", "execute_input b 0", "RUN 2 In[*]"]);
}

#[test]
fn a_request_during_a_cell_is_answered_and_busy_comes_back() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    let out = lab.shell("kernel_info_request", "k", json!({}));
    assert_eq!(out, ["busy k", "kernel_info_reply k", "idle k", "busy a"]);
    let message = lab.message("interrupt_request", "i", json!({}));
    let out = lab.event(Event::Control(message));
    assert_eq!(out, ["busy i", "Interrupt", "interrupt_reply i", "idle i", "busy a"]);
}

#[test]
fn an_interrupt_of_nothing_is_answered() {
    let mut lab = Lab::new();
    let message = lab.message("interrupt_request", "i", json!({}));
    let out = lab.event(Event::Control(message));
    assert_eq!(out, ["busy i", "interrupt_reply i", "idle i"]);
    assert_eq!(lab.event(Event::Interrupt), [""; 0]);
}

#[test]
fn text_is_put_together_and_never_late() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    assert_eq!(lab.print(Stdio::Stdout, "1"), ["stream a stdout:1"]);
    assert_eq!(lab.print(Stdio::Stdout, "2"), [""; 0]);
    assert_eq!(lab.print(Stdio::Stderr, "e"), [""; 0]);
    assert_eq!(lab.print(Stdio::Stdout, "3"), [""; 0]);
    assert_eq!(lab.event(Event::Tick), [""; 0]);
    lab.elapsed += Duration::from_millis(50);
    assert!(lab.face.deadline().is_some());
    let out = lab.event(Event::Tick);
    assert_eq!(out, ["stream a stdout:2", "stream a stderr:e", "stream a stdout:3"]);
    assert_eq!(lab.face.deadline(), None);
    lab.print(Stdio::Stdout, "4");
    let out = lab.done(1);
    assert_eq!(out, ["stream a stdout:4", "execute_reply a ok 1", "idle a"]);
}

#[test]
fn alternating_streams_cannot_flood() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    lab.print(Stdio::Stdout, "first");
    for _ in 0..10_000 {
        assert_eq!(lab.print(Stdio::Stdout, "o"), [""; 0]);
        assert_eq!(lab.print(Stdio::Stderr, "e"), [""; 0]);
    }
    lab.elapsed += Duration::from_millis(50);
    let out = lab.event(Event::Tick);
    assert!(out.len() <= 8, "{}", out.len());
    assert_eq!(out.concat().matches('o').count(), 10_000 + 4);
}

#[test]
fn more_is_read_once_what_was_printed_is_handled() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    assert_eq!(lab.print(Stdio::Stdout, "x"), ["stream a stdout:x"]);
    assert_eq!(lab.report(Report::Paused), ["ReadOn"]);
    // The next time not at once: frontends would have to keep up.
    assert_eq!(lab.report(Report::Paused), [""; 0]);
    let due = lab.face.deadline().expect("it is waited for");
    lab.elapsed = due - lab.start;
    assert_eq!(lab.event(Event::Tick), ["ReadOn"]);
    assert_eq!(lab.face.deadline(), None);
}

#[test]
fn user_expressions_are_answered_one_by_one() {
    let mut lab = Lab::new();
    let content = json!({ "code": "1", "user_expressions": { "a": "1 + 1", "b": "2" } });
    let message = lab.message("execute_request", "x", content);
    let now = Moment { instant: lab.start, wall: UNIX_EPOCH };
    let effects = lab.face.handle(Event::Shell(message), now);
    let Some(Effect::Work(Work::Run(run))) = effects.into_iter().last() else {
        panic!("the cell is run");
    };
    assert_eq!(run.expressions[0], ("a".to_owned(), "1 + 1".to_owned()));
    let value = json!({ "status": "ok", "data": { "text/plain": "2" }, "metadata": {} });
    lab.report(Report::Expression { run: 1, name: "a".to_owned(), value: value.clone() });
    let done = Event::Report(Report::Done { run: 1, outcome: Outcome::ok() });
    let effects = lab.face.handle(done, now);
    let Effect::Send(reply) = &effects[0] else { panic!("the reply comes first") };
    let reply: Value = serde_json::from_str(reply.content.get()).expect("it is JSON");
    assert_eq!(reply["user_expressions"]["a"], value);
    assert_eq!(reply["user_expressions"]["b"]["status"], "error");
}

#[test]
fn late_output_goes_to_the_cell_that_ran_last() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    lab.done(1);
    assert_eq!(lab.print(Stdio::Stdout, "late"), ["stream a stdout:late"]);
    lab.execute("b", "2");
    let named = Report::Output { run: Some(1), stream: Stdio::Stdout, text: "x".to_owned() };
    lab.elapsed += Duration::from_secs(1);
    assert_eq!(lab.report(named), ["stream a stdout:x"]);
}

#[test]
fn a_question_goes_to_the_client_that_asked_for_the_cell() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    let ask = |request, prompt: &str| Report::Input {
        request,
        prompt: prompt.to_owned(),
        password: false,
    };
    assert_eq!(lab.report(ask(7, "name?")), ["input_request a name?"]);
    assert_eq!(lab.report(ask(8, "age?")), [""; 0]);
    let reply = lab.message("input_reply", "r", json!({ "value": "me" }));
    let out = lab.event(Event::Stdin(reply.clone()));
    assert_eq!(out, ["Input { request: 7, answer: Line(\"me\") }", "input_request a age?"]);
    assert_eq!(lab.event(Event::Interrupt), ["Interrupt"]);
    assert_eq!(lab.event(Event::Stdin(reply)), [""; 0]);
}

#[test]
fn a_question_to_nobody_is_refused() {
    let mut lab = Lab::new();
    lab.shell("execute_request", "a", json!({ "code": "1" }));
    let ask = Report::Input { request: 7, prompt: String::new(), password: false };
    assert_eq!(lab.report(ask), ["Input { request: 7, answer: Refused }"]);
}

#[test]
fn blank_and_wrong_cells_never_reach_the_executor() {
    let mut lab = Lab::new();
    assert_eq!(lab.execute("a", " \n"), ["busy a", "execute_input a 0"]);
    let settled = lab.waiting.pop_front().expect("it is settled at once");
    assert_eq!(lab.report(settled), ["execute_reply a ok 0", "idle a"]);
    assert_eq!(lab.execute("b", "%vras"), ["busy b", "execute_input b 1"]);
    assert_eq!(lab.execute("c", "1"), [""; 0]);
    let settled = lab.waiting.pop_front().expect("it is settled at once");
    let out = lab.report(settled);
    assert_eq!(out[..2], ["error b UsageError", "execute_reply b error 1"]);
    assert_eq!(out[3..], ["busy c", "execute_reply c aborted 1", "idle c"]);
}

#[test]
fn requests_without_what_they_need_get_an_error_and_strange_ones_none() {
    let mut lab = Lab::new();
    let out = lab.shell("execute_request", "a", json!({}));
    assert_eq!(out, ["busy a", "execute_reply a error null", "idle a"]);
    let out = lab.shell("complete_request", "b", json!({ "code": 1 }));
    assert_eq!(out, ["busy b", "complete_reply b", "idle b"]);
    assert_eq!(lab.shell("strange_request", "c", json!({})), ["busy c", "idle c"]);
}

#[test]
fn a_shutdown_ends_everything_once() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    lab.execute("b", "2");
    let message = lab.message("shutdown_request", "s", json!({ "restart": true }));
    assert_eq!(
        lab.event(Event::Control(message.clone())),
        [
            "busy s",
            "Shutdown { restart: true }",
            "error a Interrupted",
            "execute_reply a error 1",
            "idle a",
            "busy b",
            "execute_reply b aborted 1",
            "idle b",
            "shutdown_reply s",
            "shutdown_reply s",
            "idle s",
            "EXIT",
        ]
    );
    let again = lab.event(Event::Control(message));
    assert_eq!(again, ["busy s", "shutdown_reply s", "shutdown_reply s", "idle s", "EXIT"]);
}

fn widget(id: &str) -> Report {
    let data = json!({ "state": { "_model_name": "M", "value": 1 }, "buffer_paths": [] });
    let Value::Object(data) = data else { unreachable!("it is an object") };
    Report::CommOpen {
        run: None,
        comm_id: id.to_owned(),
        target: "jupyter.widget".to_owned(),
        data,
        metadata: Object::new(),
    }
}

#[test]
fn a_page_that_comes_back_gets_all_widgets_while_a_cell_runs() {
    let mut lab = Lab::new();
    lab.execute("a", "1");
    assert_eq!(lab.report(widget("w")), ["comm_open a"]);
    let Value::Object(data) = json!({ "method": "update", "state": { "value": 2 } }) else {
        unreachable!("it is an object")
    };
    let update = Report::CommMsg { run: None, comm_id: "w".to_owned(), data, buffers: vec![] };
    lab.report(update);
    let open = json!({ "comm_id": "c", "target_name": "jupyter.widget.control" });
    assert_eq!(lab.shell("comm_open", "o", open), ["busy o", "idle o", "busy a"]);
    let ask = json!({ "comm_id": "c", "data": { "method": "request_states" } });
    let out = lab.shell("comm_msg", "q", ask);
    assert_eq!([&out[0], &out[2], &out[3], &out[4]], ["busy q", "PageLoaded", "idle q", "busy a"]);
    let data: Value = serde_json::from_str(out[1].trim_start_matches("comm_msg q ")).expect("JSON");
    assert_eq!(data["states"]["w"]["state"], json!({ "_model_name": "M", "value": 2 }));
    assert_eq!(data["states"]["w"]["model_name"], "M");
}

#[test]
fn what_a_page_does_to_a_widget_is_echoed_and_handed_on() {
    let mut lab = Lab::new();
    lab.report(widget("w"));
    let click = json!({ "comm_id": "w", "data": { "method": "custom", "content": {} } });
    let out = lab.shell("comm_msg", "q", click);
    assert!(out[1].starts_with("Comm { comm_id: \"w\""), "{out:?}");
    let data = json!({ "method": "update", "state": { "value": 5 } });
    let out = lab.shell("comm_msg", "u", json!({ "comm_id": "w", "data": data }));
    assert!(out[1].contains("echo_update") && out[2].starts_with("Comm"), "{out:?}");
    let out = lab.shell("comm_close", "x", json!({ "comm_id": "w" }));
    assert_eq!(out[1], "CommClosed { comm_id: \"w\" }");
}

#[test]
fn a_comm_nobody_knows_is_closed() {
    let mut lab = Lab::new();
    let open = json!({ "comm_id": "c", "target_name": "other" });
    assert_eq!(lab.shell("comm_open", "o", open), ["busy o", "comm_close o", "idle o"]);
    let used = json!({ "comm_id": "c", "data": {} });
    assert_eq!(lab.shell("comm_msg", "m", used), ["busy m", "idle m"]);
}

#[test]
fn the_start_is_held_for_the_first_subscriber() {
    let mut face = Face::new("session", "kernel", Object::new());
    let now = Moment { instant: Instant::now(), wall: UNIX_EPOCH };
    assert!(face.outbox.take().is_empty());
    let effects = face.handle(Event::HoldOver, now);
    assert_eq!(effects.len(), 1);
}
