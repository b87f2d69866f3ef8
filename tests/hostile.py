"""Messages that are broken, forged, replayed, huge, or in somebody else's name, on every port of a controller and its
engines, while honest work goes on. `make hostile` sends a million; `make test` sends fewer (clients/test_hostile.py)."""

import argparse
import json
import random
import socket
import sys
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import ipyparallel  # noqa: E402
import psutil  # noqa: E402
import zmq  # noqa: E402

from harness.cluster import Cluster  # noqa: E402
from harness.home import Home, remove, short_folder  # noqa: E402
from harness.raw import MARK, bad_messages, request, sign  # noqa: E402

# What the controller may hold more at the end than after the first fifth.
GROWTH_BYTES_MAX = 96 << 20
HUGE_BYTES = 4 << 20
NOISE = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03" + b"\x00" * 60]
BATCH = 500


class Hostile:
    """Peers that mean no good: one without the key, and one that has it and says nonsense."""

    def __init__(self, cluster, seed):
        self.random = random.Random(seed)
        self.clients = json.loads(cluster.file("client").read_text())
        engines = json.loads(cluster.file("engine").read_text())
        self.key = self.clients["key"]
        names = ("registration", "control", "mux", "task", "broadcast")
        self.routers = [self.clients[name] for name in names]
        self.engine_routers = [engines[name] for name in ("control", "mux", "task", "hb_pong")] + engines["broadcast"]
        self.readers = [self.clients[name] for name in ("iopub", "notification")] + [engines["hb_ping"]]
        self.subscribed = engines["iopub"]
        self.context = zmq.Context()
        self.victims, self.overheard, self.counts = [], [], {}
        bad = bad_messages(self.key)
        self.bad = [(kind, frames) for kind, frames in bad.items() if kind != "a thousand frames"]
        self.rare = [("a thousand frames", bad["a thousand frames"])]

    def message(self):
        """A kind and its frames."""
        kind = self.random.randrange(10)
        if kind == 0:
            n = self.random.randrange(6)
            return "random bytes", [self.random.randbytes(self.random.randrange(40)) for _ in range(n + 1)]
        if kind == 1:
            good = request("not the key", self.random.choice(["apply_request", "shutdown_request", "connection_request"]))
            return "forged", good
        if kind == 2 and self.overheard:
            return "replayed", self.random.choice(self.overheard)
        if kind == 3:
            parts = [self.random.randbytes(20) for _ in range(4)]
            return "signed and no JSON", [MARK, sign(self.key, parts), *parts]
        if kind == 4:
            msg_type = self.random.choice(["apply_reply", "execute_reply", "nonsense", "stream", "registration_reply"])
            return "signed and out of place", [uuid.uuid4().bytes, *request(self.key, msg_type, {"id": -1, "uuid": 7})]
        if kind == 5 and self.random.random() < 0.001:
            return "huge", [b"x", MARK, b"0" * 64, *[b"{}"] * 4, b"h" * HUGE_BYTES]
        if kind == 5 and self.random.random() < 0.01:
            return self.rare[0]
        if kind == 6:
            good = request(self.key, "apply_request")
            return "truncated", good[: self.random.randrange(1, 6)]
        if kind == 7 and self.victims:
            beat = str(self.random.randrange(1000)).encode()
            return "in an engine's name", [self.random.choice(self.victims), MARK, beat]
        return self.random.choice(self.bad)

    def peer(self):
        """A socket to some port, perhaps under the name of an engine."""
        kind = self.random.randrange(4)
        if kind == 0:
            return self.connected(zmq.PUB, self.subscribed), False
        if kind == 1:
            return self.connected(zmq.XSUB, self.random.choice(self.readers)), False
        if kind == 2:
            name = self.random.choice(self.victims) if self.victims and self.random.random() < 0.5 else None
            return self.connected(zmq.DEALER, self.random.choice(self.engine_routers), name), bool(name)
        return self.connected(zmq.DEALER, self.random.choice(self.routers)), False

    def connected(self, kind, port, name=None):
        peer = self.context.socket(kind)
        peer.linger = 10_000
        peer.rcvhwm = 10
        if name:
            peer.routing_id = name
        peer.connect(f"tcp://127.0.0.1:{port}")
        return peer

    def send(self, n):
        """So many messages, over connections that come and go."""
        while n > 0:
            peer, in_others_name = self.peer()
            stuck = 0
            for _ in range(min(n, BATCH)):
                kind, frames = self.message()
                if peer.type == zmq.XSUB:
                    frames = [b"\x05" + frames[0], *frames[1:]]
                try:
                    # Who takes a name that is taken is not read from.
                    if not peer.poll(0 if in_others_name else 10_000, zmq.POLLOUT):
                        stuck += 1
                        break
                    peer.send_multipart(frames, zmq.DONTWAIT)
                except zmq.Again:
                    stuck += 1
                    break
                name = f"{kind} under another's name" if in_others_name else kind
                self.counts[name] = self.counts.get(name, 0) + 1
                n -= 1
            peer.close(linger=0 if stuck else 2_000 if in_others_name else None)
        self.connect_noise()

    def connect_noise(self):
        """Connections that are no ZeroMQ."""
        port = self.random.choice([*self.routers, *self.engine_routers, *self.readers, self.subscribed])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
            stream.sendall(self.random.choice(NOISE))
        self.counts["noise"] = self.counts.get("noise", 0) + 1

    def close(self):
        self.context.destroy(linger=0)


class Honest(threading.Thread):
    """A client whose work goes on all the while."""

    def __init__(self, file):
        super().__init__(daemon=True)
        self.client = ipyparallel.Client(str(file), timeout=60)
        self.client.wait_for_engines(2, timeout=60, interactive=False)
        self.n_done, self.is_over, self.failure = 0, threading.Event(), None

    def run(self):
        try:
            while not self.is_over.is_set():
                result = self.client[:].execute(f"6 * 7 + {self.n_done}", silent=False, block=False)
                replies = result.get(120)
                assert result.wait_for_output(120)
                values = [reply.execute_result["data"]["text/plain"] for reply in replies]
                assert values == [str(42 + self.n_done)] * 2, values
                self.n_done += 1
        except BaseException as failure:  # noqa: BLE001 - it is raised again where somebody looks
            self.failure = failure

    def end(self):
        self.is_over.set()
        self.join(180)
        assert not self.is_alive(), "honest work hangs"
        if self.failure:
            raise self.failure


def overhear(hostile):
    """What a client with the key has said already."""
    for msg_type in ("connection_request", "queue_request", "history_request"):
        frames = request(hostile.key, msg_type, {"targets": None})
        peer = hostile.connected(zmq.DEALER, hostile.clients["registration"])
        peer.send_multipart(frames)
        assert peer.poll(10_000), f"{msg_type} is answered"
        peer.close()
        hostile.overheard.append(frames)


def play(environ, n_messages, seed=1, say=print):
    """Sends `n_messages` and returns how many of which kind, and how many rounds of honest work were done meanwhile."""
    folder = short_folder()
    with Cluster(folder / "profile", environ, 2) as cluster:
        honest = Honest(cluster.file("client"))
        hostile = Hostile(cluster, seed)
        hostile.victims = [name.encode() for name in honest.client._engines.values()]
        overhear(hostile)
        honest.start()
        controller = psutil.Process(cluster.processes[0].pid)
        start, sizes, n_steps = time.monotonic(), [], 20
        for step in range(n_steps):
            hostile.send(n_messages // n_steps)
            sizes.append(controller.memory_info().rss)
            if step % 5 == 4:
                say(f"{sum(hostile.counts.values())} messages, {sizes[-1] >> 20} MiB, {honest.n_done} rounds of work")
        honest.end()
        assert all(process.poll() is None for process in cluster.processes), "a process ended"
        assert honest.client.ids == [0, 1], "an engine was lost"
        result = honest.client[:].execute("1 + 1", silent=False, block=False)
        replies = result.get(120)
        assert result.wait_for_output(120)
        assert [reply.execute_result["data"]["text/plain"] for reply in replies] == ["2"] * 2
        growth = max(sizes) - sizes[n_steps // 5]
        assert growth < GROWTH_BYTES_MAX, f"the controller grew by {growth >> 20} MiB: {[size >> 20 for size in sizes]}"
        seconds = time.monotonic() - start
        honest.client.close()
        hostile.close()
        controller = cluster.processes[0]
        controller.terminate()
        controller.wait(20)
        log = (cluster.folder / "controller.log").read_text()
    remove(folder)
    return hostile.counts, honest.n_done, sizes, seconds, log


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--messages", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    folder = short_folder()
    home = Home.make(folder)
    home.adopt()
    home.install()
    counts, n_rounds, sizes, seconds, log = play(home.environ, options.messages, options.seed)
    for kind, n in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{n:9}  {kind}")
    print(f"{sum(counts.values())} hostile messages in {seconds:.0f} s; {n_rounds} rounds of honest work done meanwhile")
    print(f"the controller held {min(sizes) >> 20} to {max(sizes) >> 20} MiB")
    print("\n".join(line for line in log.splitlines() if "dropped" in line))
    remove(folder)


if __name__ == "__main__":
    main()
