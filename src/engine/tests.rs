//! Scripts for the engine: these events in, exactly these effects out.
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::event::{Channel, Effect, Event, Fault, Now, Prepared};
use super::state::{Engine, PINGS_MISSED_MAX, Settings};
use super::work::BUSY_AFTER;
use crate::compile::Found;
use crate::wire::{Header, Message};
use crate::worker::{Outcome, Status, Std, WorkerEvent};

mod ahead;
mod control;
mod flood;
mod libraries;
mod python;

/// An engine under a clock of its own.
struct Lab {
    engine: Engine,
    now: Now,
    n_sent: u32,
    /// Whether libraries are where clients say.
    is_same_host: bool,
}

impl Lab {
    fn starting() -> Self {
        let now = Now { instant: Instant::now(), date: SystemTime::UNIX_EPOCH };
        let timeout = Duration::from_secs(10);
        let settings = Settings { uuid: Arc::from("e-1"), id: None, timeout };
        Self { engine: Engine::new(settings, now), now, n_sent: 0, is_same_host: true }
    }

    /// Registered with id 3, idle.
    fn registered() -> Self {
        let mut lab = Self::starting();
        assert_eq!(lab.tell(ready()), ["register"]);
        let reply = json!({"status": "ok", "id": 3, "hb_period": 1000});
        assert_eq!(lab.tell(registration_reply(&reply)), ["join 3"]);
        lab
    }

    /// The effects of one event, in words.
    fn tell(&mut self, event: Event) -> Vec<String> {
        self.effects(event).iter().map(words).collect()
    }

    /// The effects of one event, and of what comes of looking for libraries.
    fn effects(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        for effect in self.engine.handle(event, self.now) {
            match effect {
                Effect::Find { run, library, .. } if self.is_same_host => {
                    effects.extend(self.effects(found(run, &library)));
                }
                effect => effects.push(effect),
            }
        }
        effects
    }

    fn request(&mut self, msg_type: &str, metadata: &Value, content: &Value) -> Event {
        self.n_sent += 1;
        self.request_on(Channel::Mux, &format!("m{}", self.n_sent), msg_type, metadata, content)
    }

    fn request_on(
        &self,
        channel: Channel,
        msg_id: &str,
        msg_type: &str,
        metadata: &Value,
        content: &Value,
    ) -> Event {
        let message = Message {
            ids: vec![b"client".to_vec()],
            header: Header {
                msg_id: msg_id.to_owned(),
                msg_type: msg_type.to_owned(),
                session: "c".to_owned(),
                ..Header::default()
            },
            raw_header: msg_id.as_bytes().to_vec(),
            raw_metadata: metadata.to_string().into_bytes(),
            raw_content: content.to_string().into_bytes(),
            buffers: vec![b"payload".to_vec()],
            ..Message::default()
        };
        Event::Request { channel, message }
    }

    /// A cell that its client has compiled against this engine's namespace.
    fn cell(&mut self, silent: bool) -> Event {
        let metadata = json!({"prust": {
            "library": "/l.so", "entry": "leaf", "namespace": self.engine.namespace_hash,
        }});
        self.request("execute_request", &metadata, &json!({"code": "1", "silent": silent}))
    }

    fn plain_cell(&mut self, code: &str) -> Event {
        let content = json!({"code": code, "silent": false});
        self.request("execute_request", &json!({}), &content)
    }

    fn call(&mut self) -> Event {
        let metadata = json!({"prust": {"library": "/l.so", "offset": 64, "items": 1}});
        self.request("apply_request", &metadata, &json!({}))
    }

    fn control(&mut self, msg_type: &str, content: &Value) -> Event {
        let msg_id = format!("k{}", self.n_sent);
        self.request_on(Channel::Control, &msg_id, msg_type, &json!({}), content)
    }
}

fn found(run: u64, place: &Path) -> Event {
    Event::Found { run, found: Ok(Found::Here(place.to_owned())) }
}

fn ready() -> Event {
    Event::Worker(WorkerEvent::Ready { pid: 7 })
}

fn registration_reply(content: &Value) -> Event {
    let raw_content = content.to_string().into_bytes();
    Event::RegistrationReply(Message { raw_content, ..Message::default() })
}

fn done(run: u64, outcome: Outcome) -> Event {
    Event::Worker(WorkerEvent::Done { run, outcome })
}

fn ok(run: u64) -> Event {
    done(run, Outcome::Ok { value: b"value".to_vec() })
}

fn panicked(run: u64) -> Event {
    let failure = crate::worker::Failure {
        ename: "panic".to_owned(),
        evalue: "boom".to_owned(),
        ..crate::worker::Failure::default()
    };
    done(
        run,
        Outcome::Error { failure, restored: false, lost: Vec::new(), threads_lost: Vec::new() },
    )
}

fn words(effect: &Effect) -> String {
    match effect {
        Effect::Register { .. } => "register".to_owned(),
        Effect::Join { id } => format!("join {id}"),
        Effect::Unregister { id, .. } => format!("unregister {id}"),
        Effect::Reply(reply) => {
            let parent = String::from_utf8_lossy(&reply.parent);
            let ename = reply.content.get("ename").and_then(Value::as_str).unwrap_or_default();
            let status = reply.content["status"].as_str().unwrap_or_default();
            format!("{parent}: {} {status} {ename}", reply.msg_type).trim_end().to_owned()
        }
        Effect::Publish(publication) => {
            let parent = String::from_utf8_lossy(&publication.parent);
            match publication.content.get("execution_state").and_then(Value::as_str) {
                Some(state) => format!("{parent}> {state}"),
                None => format!("{parent}> {}", publication.msg_type),
            }
        }
        Effect::Pong(_) => "pong".to_owned(),
        Effect::Compile { run, .. } => format!("compile {run}"),
        Effect::Trampolines { run, .. } => format!("trampolines {run}"),
        Effect::CancelCompile => "cancel compile".to_owned(),
        Effect::Find { run, library, .. } => format!("find {run} {}", library.display()),
        Effect::Keep { files, .. } => format!("keep {}", files.len()),
        Effect::Run { run, .. } => format!("run {run}"),
        Effect::Call { run, .. } => format!("call {run}"),
        Effect::Recall => "recall".to_owned(),
        Effect::Interrupt => "interrupt".to_owned(),
        Effect::ReadOn => "read on".to_owned(),
        Effect::ReplaceWorker => "replace worker".to_owned(),
        Effect::Answer { request, status, .. } => format!("answer {request} {status:?}"),
        Effect::Exit { code, .. } => format!("exit {code}"),
    }
}

#[test]
fn an_engine_registers_only_when_its_worker_is_ready() {
    let mut lab = Lab::starting();
    lab.now.instant += Duration::from_secs(10);
    assert_eq!(lab.tell(Event::Tick), ["exit 1"]);
    assert_eq!(lab.tell(ready()), [""; 0]);
    Lab::registered();
}

#[test]
fn a_refused_or_unanswered_registration_ends_the_engine() {
    let mut lab = Lab::starting();
    lab.tell(ready());
    let reply = json!({"status": "error", "ename": "KeyError", "evalue": "uuid in use"});
    let effects = lab.effects(registration_reply(&reply));
    let [Effect::Exit { code: 1, cause }] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(cause.contains("uuid in use"), "{cause}");

    let mut lab = Lab::starting();
    lab.tell(ready());
    lab.now.instant += Duration::from_secs(10);
    assert_eq!(lab.tell(Event::Tick), ["exit 1"]);
}

#[test]
fn a_silent_controller_ends_the_engine_and_a_ping_postpones_that() {
    let mut lab = Lab::registered();
    lab.now.instant += Duration::from_millis(1400) * PINGS_MISSED_MAX;
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    assert_eq!(lab.tell(Event::Ping(b"1".to_vec())), ["pong"]);
    lab.now.instant += Duration::from_millis(1400) * PINGS_MISSED_MAX;
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    lab.now.instant += Duration::from_millis(100) * PINGS_MISSED_MAX;
    assert_eq!(lab.tell(Event::Tick), ["unregister 3", "exit 1"]);
}

#[test]
fn a_cell_is_busy_input_run_output_reply_idle() {
    let mut lab = Lab::registered();
    let cell = lab.cell(false);
    assert_eq!(lab.tell(cell), ["m1> busy", "m1> execute_input", "run 1"]);
    let output = WorkerEvent::Output { stream: Std::Out, text: "hi\n".to_owned() };
    assert_eq!(lab.tell(Event::Worker(output)), ["m1> stream"]);
    assert_eq!(lab.tell(ok(1)), ["m1: execute_reply ok", "m1> idle"]);
    assert_eq!(lab.tell(ok(1)), [""; 0]);
}

#[test]
fn a_reply_carries_what_schedulers_and_clients_read() {
    let mut lab = Lab::registered();
    let metadata = json!({"label": "l", "is_broadcast": true, "original_msg_id": "o"});
    let content = json!({"code": " ", "silent": false});
    let request = lab.request("execute_request", &metadata, &content);
    let effects = lab.effects(request);
    let Some(Effect::Reply(reply)) = effects.iter().find(|e| matches!(e, Effect::Reply(_))) else {
        panic!("{effects:?}")
    };
    let mut metadata = serde_json::to_value(&reply.metadata).expect("plain");
    assert!(metadata["prust"]["namespace"].is_string());
    metadata["prust"] = Value::Null;
    assert_eq!(
        metadata,
        json!({
            "started": "1970-01-01T00:00:00.000000Z", "dependencies_met": true, "engine": "e-1",
            "is_broadcast": true, "is_coalescing": false, "original_msg_id": "o", "label": "l",
            "status": "ok", "prust": null,
        })
    );
    assert_eq!(
        reply.content,
        json!({"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []})
    );
    assert_eq!((reply.channel, reply.ids.as_slice()), (Channel::Mux, &[b"client".to_vec()][..]));
}

#[test]
fn calls_run_one_at_a_time_and_publish_nothing_without_output() {
    let mut lab = Lab::registered();
    let (first, second) = (lab.call(), lab.call());
    assert_eq!(lab.tell(first), ["call 1"]);
    assert_eq!(lab.tell(second), [""; 0]);
    let effects = lab.effects(ok(1));
    let [Effect::Reply(reply), Effect::Call { run: 2, call }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(reply.buffers, [b"value".to_vec()]);
    assert_eq!((call.offset, call.payload.as_slice()), (64, &b"payload"[..]));
    let output = WorkerEvent::Output { stream: Std::Err, text: "hi\n".to_owned() };
    assert_eq!(lab.tell(Event::Worker(output)), ["m2> stream"]);
    assert_eq!(lab.tell(panicked(2)), ["m2: apply_reply error panic", "m2> idle"]);
}

#[test]
fn short_calls_in_a_row_are_told_from_long_and_from_last_ones() {
    let mut lab = Lab::registered();
    for event in [lab.call(), lab.call(), lab.call(), lab.call()] {
        lab.tell(event);
    }
    assert!(!lab.engine.is_quick(), "nothing is known yet");
    lab.tell(ok(1));
    assert!(lab.engine.is_quick());
    lab.now.instant += BUSY_AFTER / 2;
    lab.tell(ok(2));
    assert!(!lab.engine.is_quick(), "the last one was long");
    lab.tell(ok(3));
    assert!(!lab.engine.is_quick(), "nothing waits");
}

#[test]
fn a_call_is_busy_and_idle_only_when_it_is_long() {
    let mut lab = Lab::registered();
    let call = lab.call();
    lab.tell(call);
    lab.now.instant += BUSY_AFTER;
    assert_eq!(lab.engine.next_deadline(), Some(lab.now.instant));
    assert_eq!(lab.tell(Event::Tick), ["m1> busy"]);
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    let effects = lab.effects(ok(1));
    let [Effect::Reply(reply), Effect::Publish(_)] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    // Nothing that a client would have to wait for was published.
    let metadata = serde_json::to_value(&reply.metadata).expect("plain");
    assert_eq!(metadata.get("prust"), None);
    let call = lab.call();
    lab.tell(call);
    lab.now.instant += BUSY_AFTER / 2;
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    assert_eq!(lab.tell(ok(2)), ["m2: apply_reply ok"]);
}

#[test]
fn pickled_python_is_refused_with_a_reason() {
    let mut lab = Lab::registered();
    let request = lab.request("apply_request", &json!({}), &json!({}));
    let effects = lab.effects(request);
    let told: Vec<String> = effects.iter().map(words).collect();
    let reply = "m1: apply_reply error UnsupportedOperation";
    assert_eq!(told, ["m1> busy", "m1> error", reply, "m1> idle"]);
    let Effect::Reply(reply) = &effects[2] else { panic!("{effects:?}") };
    let info = json!({"engine_uuid": "e-1", "engine_id": 3, "method": "apply"});
    assert_eq!(reply.content["engine_info"], info);
}

#[test]
fn a_failed_cell_aborts_the_cells_queued_behind_it_but_not_calls() {
    let mut lab = Lab::registered();
    for event in [lab.cell(false), lab.cell(false), lab.call()] {
        lab.tell(event);
    }
    let told = lab.tell(panicked(1));
    let expected = [
        "m1> error",
        "m1: execute_reply error panic",
        "m1> idle",
        "m2: execute_reply aborted",
        "m2> idle",
        "call 2",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_silent_failure_aborts_nothing() {
    let mut lab = Lab::registered();
    for event in [lab.cell(true), lab.cell(true)] {
        lab.tell(event);
    }
    let told = lab.tell(panicked(1));
    let reply = "m1: execute_reply error panic";
    assert_eq!(told, ["m1> error", reply, "m1> idle", "m2> busy", "run 2"]);
}

#[test]
fn a_cell_compiled_against_another_namespace_is_not_run() {
    let mut lab = Lab::registered();
    let metadata = json!({"prust": {"library": "/l", "entry": "f", "namespace": "other"}});
    let request = lab.request("execute_request", &metadata, &json!({"code": "1"}));
    let effects = lab.effects(request);
    let Some(Effect::Reply(reply)) = effects.iter().find(|e| matches!(e, Effect::Reply(_))) else {
        panic!("{effects:?}")
    };
    assert_eq!(reply.content["ename"], "StaleNamespace");
    let metadata = serde_json::to_value(&reply.metadata).expect("plain");
    assert!(metadata["prust"]["full"].is_object(), "{metadata}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Run { .. })));
}

#[test]
fn plain_code_is_compiled_here_and_an_interrupt_ends_that_too() {
    let mut lab = Lab::registered();
    let cell = lab.plain_cell("1");
    assert_eq!(lab.tell(cell), ["m1> busy", "m1> execute_input", "compile 1"]);
    let interrupt = lab.control("interrupt_request", &json!({}));
    let told = lab.tell(interrupt);
    let reply = "m1: execute_reply error Interrupted";
    let expected = ["cancel compile", "m1> error", reply, "m1> idle", "k1: interrupt_reply ok"];
    assert_eq!(told, expected);
    assert_eq!(lab.tell(Event::Compiled { run: 1, result: Err(Fault::default()) }), [""; 0]);

    let cell = lab.plain_cell("2");
    lab.tell(cell);
    let prepared = Prepared {
        library: Some("/l.so".into()),
        entry: "leaf".to_owned(),
        delta: None,
        warnings: "warning: unused\n".to_owned(),
    };
    let told = lab.tell(Event::Compiled { run: 2, result: Ok(prepared) });
    assert_eq!(told, ["m2> stream", "run 2"]);
}

#[test]
fn a_crash_is_an_error_of_its_task_and_the_next_task_runs() {
    let mut lab = Lab::registered();
    for event in [lab.call(), lab.call()] {
        lab.tell(event);
    }
    let cause = "SIGSEGV".to_owned();
    let why = crate::worker::Failure { ename: cause.clone(), ..Default::default() };
    let outcome = Outcome::Crashed { cause, why, restored: true, threads_lost: Vec::new() };
    assert_eq!(lab.tell(done(1, outcome)), ["m1: apply_reply error SIGSEGV", "call 2"]);
}

#[test]
fn what_nobody_here_understands_is_answered_with_an_error() {
    let mut lab = Lab::registered();
    let request = lab.request("complete_request", &json!({}), &json!({}));
    assert_eq!(lab.tell(request), ["m1: complete_reply error UnsupportedOperation"]);
    let request = lab.request("execute_request", &json!({}), &json!({"code": 5}));
    let told = lab.tell(request);
    assert_eq!(told, ["m2> busy", "m2> error", "m2: execute_reply error BadRequest", "m2> idle"]);
    let comm = lab.request("comm_msg", &json!({}), &json!({}));
    assert_eq!(lab.tell(comm), [""; 0]);
}

#[test]
fn user_code_learns_its_engines_id_and_is_refused_a_keyboard() {
    let mut lab = Lab::registered();
    let call = lab.call();
    lab.tell(call);
    let ask = |request, topic: &str| {
        let topic = topic.to_owned();
        Event::Worker(WorkerEvent::Request { request, topic, head: Vec::new(), body: Vec::new() })
    };
    let effects = lab.effects(ask(5, "engine"));
    let [Effect::Answer { request: 5, status: Status::Ok, body, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(body, b"3");
    assert_eq!(lab.tell(ask(6, "input")), ["answer 6 Error"]);
    assert_eq!(lab.tell(ask(0, "publish")), ["m1> prust_data"]);
    assert_eq!(lab.tell(ok(1)), ["m1: apply_reply ok", "m1> idle"]);
}

#[test]
fn the_owners_end_is_the_engines_end() {
    let mut lab = Lab::registered();
    let told = lab.tell(Event::Stop { cause: "its owner is gone".to_owned() });
    assert_eq!(told, ["unregister 3", "exit 0"]);
    assert_eq!(lab.engine.next_deadline(), None);
}
