//! The tables as scripts: these events in, exactly these effects out. No socket, no clock. Here is
//! the vocabulary; the scripts are beside it.

mod calls;
mod cells;
mod missing;
mod names;
mod others;
mod queries;
mod window;

use super::command::{CellRun, CellWork, ClientEvent, Command, Output};
use super::event::{Channel, Effect, Event, Now, Number, Outgoing, Published, Reply, Verdict};
use super::state::{Settings, State};
use prust::items::{Items, Lengths, write_items};
use prust::mapped::Mapped;
use prust::outcome::{self, Failure};
use prust::request::{
    Answer, Asked, Call, NAMES, Options, Request, Status, Stopped, Submit, TaskEnd, Until, Want,
    Work,
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
                Effect::Bring { to, number, names, folder } => {
                    let folder = folder.display();
                    self.told.push(format!("bring {to} #{number} {names:?} of {folder}"));
                }
                Effect::Remove { path } => self.told.push(format!("remove {path}")),
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
        let call = call_by(work);
        let work = match work {
            "map" => Work::Map { call, prefix: 0, lengths },
            _ => Work::Apply { call, prefix: 0, lengths },
        };
        let submit = Submit { work, targets, balanced, options, there: Vec::new() };
        self.ask_with(1, Request::Submit { name: NAMES, submit: Box::new(submit) }, bytes);
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
        let items = write_items(values).unwrap();
        let value = outcome::write_outcomes(values.len() as u64, Vec::new(), items, None);
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

    fn before_last(&self) -> &ClientEvent {
        &self.events[self.events.len() - 2]
    }

    fn last(&self) -> &ClientEvent {
        self.events.last().expect("something was told")
    }
}

/// A call of a function on numbers.
fn call_by(method: &str) -> Call {
    Call {
        library: "/lib.so".to_owned(),
        offset: 64,
        name: "f".to_owned(),
        method: method.to_owned(),
        defines: Vec::new(),
        per_task: false,
        returns: "u64".to_owned(),
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
