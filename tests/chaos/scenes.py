"""Clusters under faults: a kernel's own, one that a kernel is attached to over a network, and a controller with engines
for bare frames. Every task ends exactly once, with the right value; nothing is lost, nothing comes twice, nothing hangs."""

import json
import threading
import time
import uuid

import psutil
import zmq

from faults import Faults, children

from harness.cluster import Cluster
from harness.detached import Detached
from harness.kernel import Kernel
from harness.proxy import Proxy
from harness.raw import MARK, sign

N_ENGINES = 8
RETRIES = 100
# What the raw client has open at once.
WINDOW = 200
VARIANTS = 12


# A kernel's cluster --------------------------------------------------------------------------------------------------


def pool(n_tasks, seed, seconds, cwd):
    """One `map` over the engines of a notebook; the pool replaces those that die."""
    with Kernel(cwd=cwd) as kernel:
        kernel.ok(f"%cluster start -n {N_ENGINES}", seconds=240)
        return mapped(kernel, psutil.Process(kernel.pid), n_tasks, seed, seconds)


def attached(n_tasks, seed, seconds, cwd):
    """One `map` over the engines of a cluster of its own, to which the notebook's connection is cut again and again."""
    with Detached(cwd / "detached", N_ENGINES) as cluster, Proxy(cluster.file, cwd / "over.json") as network:
        with Kernel(cwd=cwd) as kernel:
            kernel.ok(f"%cluster attach {cwd / 'over.json'}")
            return mapped(kernel, cluster.supervisor, n_tasks, seed, seconds, network.cut)


def mapped(kernel, top, n_tasks, seed, seconds, cut=None):
    """Maps over a kernel's cluster while engines below `top` and their workers suffer; `cut` is one more fault."""
    kernel.ok("%px 1 + 1", seconds=240)
    kernel.ok(
        "let lv = Client::connect()?.load_balanced_view();\n"
        "fn work(x: u64) -> u64 { std::thread::sleep(std::time::Duration::from_millis(x % 40)); x * x + 1 }"
    )

    def choose(random):
        if cut and random.random() < 0.3:
            return cut, "connection cut"
        engines = children(top, ["engine"], but=["--nanny"])
        if random.random() < 0.5 and engines:
            return random.choice(engines), "engine"
        workers = [worker for engine in engines for worker in engine.children()]
        return (random.choice(workers), "worker") if workers else None

    # No more than a pool of this size replaces.
    faults = Faults(seed, choose, (0.8, 3.0))
    begin = time.monotonic()
    running = kernel.send(
        f"let values: Vec<u64> = lv.retries({RETRIES}).chunksize(1).map(work, 0..{n_tasks}u64).get()?;\n"
        f"(values.len(), values == (0..{n_tasks}u64).map(|x| x * x + 1).collect::<Vec<_>>())"
    )
    faults.start()
    try:
        cell = running.finish(seconds)
    finally:
        faults.end()
    assert cell.status == "ok", cell.reply["content"]
    assert cell.text == f"({n_tasks}, true)", cell.text
    return faults.counts, time.monotonic() - begin


# A controller and engines --------------------------------------------------------------------------------------------


class Submitter:
    """A client of bare frames at the task port: each task is a cell whose value is known."""

    def __init__(self, file):
        info = json.loads(file.read_text())
        self.key, self.session = info["key"], uuid.uuid4().hex
        self.context = zmq.Context()
        address = info["interface"] + ":{}"
        self.tasks = self.context.socket(zmq.DEALER)
        self.output = self.context.socket(zmq.SUB)
        self.output.rcvhwm = 0
        self.output.subscribe(b"")
        self.tasks.connect(address.format(info["task"]))
        self.output.connect(address.format(info["iopub"]))
        self.expected, self.replies, self.values, self.engines = {}, {}, {}, set()

    def submit(self, number):
        variant = number % VARIANTS
        msg_id = f"{self.session}_{number}"
        self.expected[msg_id] = str(variant * 7 + 1)
        date = "2026-01-02T03:04:05.678901Z"
        header = {"msg_id": msg_id, "session": self.session, "username": "t", "date": date, "version": "5.4"}
        header["msg_type"] = "execute_request"
        code = f"std::thread::sleep(std::time::Duration::from_millis({variant * 3})); {variant} * 7 + 1"
        content = {"code": code, "silent": False, "user_expressions": {}}
        parts = [json.dumps(part).encode() for part in (header, {}, {"retries": RETRIES}, content)]
        self.tasks.send_multipart([MARK, sign(self.key, parts), *parts])

    def read(self, seconds):
        """What has come; returns how many tasks have ended by it."""
        n_ended = 0
        zmq.select([self.tasks, self.output], [], [], seconds)
        while self.output.poll(0):
            frames = self.output.recv_multipart()
            at = frames.index(MARK)
            header, parent = json.loads(frames[at + 2]), json.loads(frames[at + 3])
            if header["msg_type"] == "execute_result" and parent.get("msg_id") in self.expected:
                text = json.loads(frames[at + 5])["data"]["text/plain"]
                self.values.setdefault(parent["msg_id"], []).append(text)
        while self.tasks.poll(0):
            frames = self.tasks.recv_multipart()
            at = frames.index(MARK)
            parent, content = json.loads(frames[at + 3]), json.loads(frames[at + 5])
            self.replies.setdefault(parent["msg_id"], []).append(content)
            self.engines.update(frames[:at])
            n_ended += 1
        return n_ended

    def close(self):
        self.context.destroy(linger=0)


def processes(n_tasks, seed, seconds, folder, environ):
    """Tasks for engines that are processes of their own; each that is killed is replaced."""
    with Cluster(folder / "profile", environ, N_ENGINES) as cluster:
        ours = {process.pid: psutil.Process(process.pid) for process in cluster.processes[1:]}
        lock = threading.Lock()

        def choose(random):
            with lock:
                engines = [engine for engine in ours.values() if engine.is_running()]
            if random.random() < 0.6:
                return random.choice(engines), "engine"
            workers = children(random.choice(engines), ["worker"], but=["--nanny"])
            return (random.choice(workers), "worker") if workers else None

        def killed(process):
            with lock:
                if ours.pop(process.pid, None):
                    new = cluster.start_engine()
                    ours[new.pid] = psutil.Process(new.pid)

        client = Submitter(cluster.file("client"))
        faults = Faults(seed, choose, (0.3, 1.5), killed)
        begin, n_sent, n_ended = time.monotonic(), 0, 0
        faults.start()
        try:
            while n_ended < n_tasks:
                while n_sent < n_tasks and n_sent - n_ended < WINDOW:
                    client.submit(n_sent)
                    n_sent += 1
                n_ended += client.read(1.0)
                late = time.monotonic() - begin > seconds
                assert not late, f"{n_ended} of {n_tasks} tasks ended within {seconds} s; faults {faults.counts}"
        finally:
            faults.end()
        took = time.monotonic() - begin
        # A second reply to anything would come now, and the last output.
        until = time.monotonic() + 8
        while time.monotonic() < until:
            client.read(0.5)
        judge(client, n_tasks)
        client.close()
        assert cluster.processes[0].poll() is None, "the controller ended"
        return faults.counts, took


def judge(client, n_tasks):
    assert len(client.replies) == n_tasks, f"{len(client.replies)} tasks were answered"
    for msg_id, wanted in client.expected.items():
        replies = client.replies[msg_id]
        assert len(replies) == 1, f"{msg_id} was answered {len(replies)} times: {replies}"
        assert replies[0]["status"] == "ok", replies[0]
        values = client.values.get(msg_id, [])
        assert values and set(values) == {wanted}, f"{msg_id}: {values} instead of {wanted}"
