//! A strict Jupyter frontend: a kernel's face in this process, reached over real sockets, and the
//! executor's end of its channels in the test's hands. Every message has to be read in its order;
//! `end` fails if one was left.
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use prust_kernel::kernel::{Report, Run, Settings, Work, bind, serve};
use prust_kernel::wire::connection::{Channel, KernelFile};
use prust_kernel::wire::{
    Batch, Context, Draft, Frames, Kind, Message, Reader, Sockets, Spec, Writer, socket,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a message may take before its absence is a failure.
const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "a-key-for-tests";

pub struct Frontend {
    runtime: Runtime,
    pub directory: PathBuf,
    writer: Writer,
    reader: Reader,
    sockets: Sockets,
    incoming: Receiver<Batch>,
    waiting: [VecDeque<Frames>; 5],
    headers: HashMap<String, Vec<u8>>,
    sessions: HashSet<String>,
    kernel: JoinHandle<()>,
    work: UnboundedReceiver<Work>,
    reports: Option<UnboundedSender<Report>>,
}

impl Frontend {
    /// Starts a kernel over tcp on free ports, and reads its welcome.
    pub fn start(name: &str) -> Self {
        Self::start_on(name, json!({ "transport": "tcp" }))
    }

    pub fn start_on(name: &str, entries: Value) -> Self {
        let directory =
            std::env::temp_dir().join(format!("prust-it-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let connection_file = directory.join("kernel.json");
        let mut text = entries;
        text["key"] = KEY.into();
        if text["transport"] == "ipc" {
            text["ip"] = directory.join("ipc").display().to_string().into();
        }
        std::fs::write(&connection_file, text.to_string()).expect("the directory is ours");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads are left");
        let (work_sender, work) = unbounded_channel();
        let (reports, report_receiver) = unbounded_channel();
        let settings = Settings {
            connection_file: connection_file.clone(),
            parent_pid: None,
            username: "tester".to_owned(),
        };
        let bound = runtime.block_on(async { bind(settings) }).expect("the ports are free");
        let file = KernelFile::read(&connection_file).expect("the kernel wrote it back");
        let (sockets, incoming) = runtime.block_on(async { connect(&file) });
        let kernel = runtime.spawn(serve(bound, work_sender, report_receiver));
        let mut frontend = Self {
            runtime,
            directory,
            writer: Writer::new(KEY, "frontend".to_owned(), "tester"),
            reader: Reader::new(KEY),
            sockets,
            incoming,
            waiting: Default::default(),
            headers: HashMap::new(),
            sessions: HashSet::new(),
            kernel,
            work,
            reports: Some(reports),
        };
        let welcome = frontend.recv(Channel::IoPub);
        assert_eq!(welcome.header.msg_type, "iopub_welcome");
        assert_eq!(frontend.recv_status("starting"), "");
        frontend
    }

    /// Sends a request; gives its message id.
    pub fn send(&mut self, channel: Channel, msg_type: &str, content: Value) -> String {
        let (id, frames) = self.message(msg_type, content);
        self.send_frames(channel, frames);
        id
    }

    /// The frames of a request that is not sent yet.
    pub fn message(&mut self, msg_type: &str, content: Value) -> (String, Frames) {
        let (id, frames) = self.writer.write(Draft::new(msg_type, &content));
        self.headers.insert(id.clone(), frames[2].clone());
        (id, frames)
    }

    pub fn send_frames(&mut self, channel: Channel, frames: Frames) {
        self.sockets.send(position(channel), frames);
    }

    pub fn execute(&mut self, code: &str) -> String {
        let content = json!({ "code": code, "allow_stdin": true });
        self.send(Channel::Shell, "execute_request", content)
    }

    /// The next message of a channel, as bare frames.
    pub fn recv_frames(&mut self, channel: Channel) -> Frames {
        loop {
            if let Some(frames) = self.waiting[position(channel)].pop_front() {
                return frames;
            }
            let incoming = &mut self.incoming;
            let batch = self.runtime.block_on(async { timeout(PATIENCE, incoming.recv()).await });
            let batch = batch.unwrap_or_else(|_| panic!("nothing came on {channel:?}"));
            for (position, frames) in batch.expect("the sockets are open") {
                self.waiting[position].push_back(frames);
            }
        }
    }

    /// The next message of a channel; its parent is checked byte for byte.
    pub fn recv(&mut self, channel: Channel) -> Message {
        let frames = self.recv_frames(channel);
        let message = self.reader.read(frames).expect("the kernel signs what it sends");
        if let Some(parent) = message.parent() {
            assert_eq!(Some(&message.raw_parent), self.headers.get(&parent.msg_id));
        }
        self.sessions.insert(message.header.session.clone());
        assert_eq!(self.sessions.len(), 1, "one session for everything");
        message
    }

    /// The next broadcast, which has to be of this type and caused by this request.
    pub fn recv_iopub(&mut self, msg_type: &str, parent: &str) -> Value {
        let message = self.recv(Channel::IoPub);
        let content = String::from_utf8_lossy(&message.raw_content).into_owned();
        let caused = message.parent().map(|parent| parent.msg_id).unwrap_or_default();
        let found = (message.header.msg_type.as_str(), caused.as_str());
        assert_eq!(found, (msg_type, parent), "{content}");
        serde_json::from_str(&content).expect("contents are JSON")
    }

    /// The next broadcast, which has to be a status; gives its parent.
    fn recv_status(&mut self, state: &str) -> String {
        let message = self.recv(Channel::IoPub);
        let content: Value = message.content().expect("contents are JSON");
        let found = (message.header.msg_type.as_str(), &content["execution_state"]);
        assert_eq!(found, ("status", &json!(state)), "{content}");
        message.parent().map(|parent| parent.msg_id).unwrap_or_default()
    }

    pub fn recv_iopub_busy(&mut self, parent: &str) {
        assert_eq!(self.recv_status("busy"), parent);
    }

    pub fn recv_iopub_idle(&mut self, parent: &str) {
        assert_eq!(self.recv_status("idle"), parent);
    }

    pub fn recv_execute_input(&mut self, parent: &str, count: u32) {
        let content = self.recv_iopub("execute_input", parent);
        assert_eq!(content["execution_count"], count);
    }

    pub fn recv_stream(&mut self, parent: &str, name: &str, text: &str) {
        let content = self.recv_iopub("stream", parent);
        assert_eq!(content, json!({ "name": name, "text": text }));
    }

    pub fn recv_reply(&mut self, channel: Channel, msg_type: &str, parent: &str) -> Value {
        let message = self.recv(channel);
        let caused = message.parent().map(|parent| parent.msg_id).unwrap_or_default();
        let found = (message.header.msg_type.as_str(), caused.as_str());
        assert_eq!(found, (msg_type, parent));
        message.content().expect("contents are JSON")
    }

    /// What the face asks of the executor next.
    pub fn recv_work(&mut self) -> Work {
        let work = &mut self.work;
        let next = self.runtime.block_on(async { timeout(PATIENCE, work.recv()).await });
        next.expect("the face asked for nothing").expect("the kernel runs")
    }

    pub fn recv_run(&mut self) -> Run {
        match self.recv_work() {
            Work::Run(run) => run,
            other => panic!("expected a run: {other:?}"),
        }
    }

    /// Says something as the executor.
    pub fn report(&mut self, report: Report) {
        let reports = self.reports.as_ref().expect("the executor has not ended");
        reports.send(report).expect("the kernel runs");
    }

    /// Fails if anything is left that nobody read: what is there must come before a new answer.
    pub fn assert_quiet(&mut self) {
        let id = self.send(Channel::Control, "kernel_info_request", json!({}));
        self.recv_iopub_busy(&id);
        self.recv_reply(Channel::Control, "kernel_info_reply", &id);
        self.recv_iopub_idle(&id);
        assert!(self.waiting.iter().all(VecDeque::is_empty), "{:?}", self.waiting);
        assert!(self.work.try_recv().is_err());
    }

    /// Shuts the kernel down and checks that it ends.
    pub fn end(mut self) {
        self.assert_quiet();
        let id = self.send(Channel::Control, "shutdown_request", json!({ "restart": false }));
        assert_eq!(self.recv_work(), Work::Shutdown { restart: false });
        self.reports = None;
        self.recv_iopub_busy(&id);
        let reply = self.recv_reply(Channel::Control, "shutdown_reply", &id);
        assert_eq!(reply, json!({ "status": "ok", "restart": false }));
        self.recv_iopub("shutdown_reply", &id);
        self.recv_iopub_idle(&id);
        let kernel = &mut self.kernel;
        let ended = self.runtime.block_on(async { timeout(PATIENCE, kernel).await });
        ended.expect("the kernel ends").expect("the kernel does not panic");
        self.sockets.close();
        std::fs::remove_dir_all(&self.directory).expect("the directory is ours");
    }
}

fn connect(file: &KernelFile) -> (Sockets, Receiver<Batch>) {
    let spec = |channel| match channel {
        Channel::IoPub => Spec::connect(Kind::Sub, file.endpoint(channel)),
        // As with Jupyter's server, one identity for all channels routes questions back.
        _ => Spec::connect(Kind::Dealer, file.endpoint(channel)).identity("frontend"),
    };
    let specs = Channel::ALL.into_iter().map(spec).collect();
    let opened = socket::open(&Context::new(), "frontend", specs).expect("sockets are left");
    (opened.sockets, opened.incoming)
}

fn position(channel: Channel) -> usize {
    Channel::ALL.iter().position(|other| *other == channel).expect("ALL holds every channel")
}
