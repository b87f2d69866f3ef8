//! What the controller pays for one task, from its request to its reply, among 10 to 10,000
//! engines that all have work: its state machine alone, without sockets and signatures. Prints one
//! JSON object, engines -> microseconds per task.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Instant;

use prust_cluster::{
    Channel, Cluster, Effect, Event, Hwm, Keeps, Message, Millis, Scheme, Settings,
};
use serde_json::{Value, json};

const TASKS: usize = 100_000;

fn main() -> std::io::Result<()> {
    let costs = [10, 100, 1000, 10_000].map(|n| (n.to_string(), json!(micros_per_task(n))));
    writeln!(std::io::stdout(), "{}", Value::Object(costs.into_iter().collect()))
}

struct Lab {
    cluster: Cluster,
    now: Millis,
    /// Tasks on engines, in the order in which they will be answered.
    sent: VecDeque<(Vec<Vec<u8>>, Vec<u8>)>,
}

impl Lab {
    fn handle(&mut self, event: Event) {
        for effect in self.cluster.handle(event, self.now) {
            if let Effect::Forward { channel: Channel::EngineTask, frames } = effect {
                let message = Message::split(frames).expect("a task is a message");
                self.sent.push_back((message.ids, message.header));
            }
        }
    }

    fn receive(&mut self, channel: Channel, message: Message) {
        let head = message.head().expect("it was written here");
        self.handle(Event::Received { channel, head, message });
    }

    fn submit(&mut self, number: usize) {
        let header = json!({"msg_id": format!("t{number}"), "msg_type": "apply_request"});
        self.receive(Channel::ClientTask, message(&["client"], &header, b"{}", &json!({})));
    }

    fn answer(&mut self, number: usize) {
        let (ids, parent) = self.sent.pop_front().expect("every engine has work");
        let header = json!({"msg_id": format!("r{number}"), "msg_type": "apply_reply"});
        let mut reply = message(&[], &header, &parent, &json!({"status": "ok"}));
        reply.ids = ids;
        self.receive(Channel::EngineTask, reply);
    }
}

fn message(ids: &[&str], header: &Value, parent: &[u8], metadata: &Value) -> Message {
    Message {
        ids: ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
        signature: b"signature".to_vec(),
        header: header.to_string().into_bytes(),
        parent: parent.to_vec(),
        metadata: metadata.to_string().into_bytes(),
        content: b"{}".to_vec(),
        buffers: Vec::new(),
    }
}

fn micros_per_task(n_engines: usize) -> f64 {
    let settings = Settings {
        period: Millis(3000),
        lost_after: Millis(3000),
        hwm: Hwm::Fixed(2),
        scheme: Scheme::LeastLoad,
        seed: 1,
        keeps: Keeps::Memory,
        session: "bench".to_owned(),
        connection_info: json!({}),
    };
    let now = Millis(1_000_000);
    let mut lab = Lab { cluster: Cluster::new(settings, now), now, sent: VecDeque::new() };
    for n in 0..n_engines {
        let uuid = format!("engine-{n}");
        let header = json!({"msg_id": "r", "msg_type": "registration_request"});
        let mut request = message(&["registrar"], &header, b"{}", &json!({}));
        request.content = json!({"uuid": uuid}).to_string().into_bytes();
        lab.receive(Channel::Registration, request);
    }
    lab.handle(Event::Tick);
    for n in 0..n_engines {
        let frames = vec![format!("engine-{n}").into_bytes(), b"0".to_vec()];
        lab.handle(Event::Echo { frames });
    }
    assert_eq!(lab.cluster.n_engines(), n_engines, "every engine is announced");
    // Every engine has two tasks, and a few wait.
    let n_waiting = 2 * n_engines + 100;
    (0..n_waiting).for_each(|number| lab.submit(number));
    let start = Instant::now();
    for number in n_waiting..n_waiting + TASKS {
        lab.answer(number);
        lab.submit(number);
    }
    start.elapsed().as_secs_f64() * 1e6 / TASKS as f64
}
