"""Messages that are not what they claim, on every socket of the kernel, of the controller and of an engine: they are
dropped and counted, and what is well made goes on being answered."""

import json
import re
import socket
import uuid

import ipyparallel
import pytest
import zmq

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import remove, short_folder
from harness.raw import MARK, Raw, bad_messages, request, sign

WAIT = 60
# What no ZeroMQ peer would send: a port scanner, a browser, a broken greeting.
NOISE = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03" + b"\x00" * 60]
COUNTS = r"messages were dropped.*truncated: (\d+), unsigned: (\d+), badly_signed: (\d+), replayed: (\d+), not_json: (\d+)"


def connections(ports):
    for port in ports:
        for noise in NOISE:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
                stream.sendall(noise)


def send_all_as(kind, raw, ports, messages):
    for port in ports:
        peer = raw.context.socket(kind)
        peer.linger = 10_000
        peer.connect(f"tcp://127.0.0.1:{port}")
        for frames in messages:
            peer.send_multipart(frames)
        peer.close()


def dropped(log):
    """How many messages a process says that it has dropped, by what was wrong with them."""
    found = re.search(COUNTS, re.sub(r"\x1b\[[0-9;]*m", "", log))
    assert found, log[-2000:]
    names = ("truncated", "unsigned", "badly signed", "replayed", "not JSON")
    return dict(zip(names, map(int, found.groups())))


# The kernel ----------------------------------------------------------------------------------------------------------


def raw_of(kernel):
    return Raw(json.loads(open(kernel.manager.connection_file).read()))


@pytest.mark.parametrize("channel", ["shell_port", "control_port", "stdin_port"])
def test_the_kernel_answers_the_well_made_message_alone(kernel, channel):
    raw = raw_of(kernel)
    for frames in bad_messages(raw.info["key"]).values():
        raw.dealer(channel).send_multipart(frames)
    if channel != "stdin_port":
        answer = raw.ask(channel, request(raw.info["key"], "kernel_info_request"))
        assert answer is not None and b"kernel_info_reply" in b"".join(answer)
        assert raw.receive(channel, seconds=0.2) is None, "one answer to one good message"
    assert kernel.ok("1 + 1").text == "2"
    raw.close()


@pytest.mark.parametrize("channel", ["shell_port", "control_port"])
def test_the_kernel_drops_a_replayed_message(kernel, channel):
    raw = raw_of(kernel)
    frames = request(raw.info["key"], "kernel_info_request")
    assert raw.ask(channel, frames) is not None
    assert raw.ask(channel, frames, seconds=0.5) is None
    assert raw.ask(channel, request(raw.info["key"], "kernel_info_request")) is not None
    raw.close()


def test_the_kernel_lives_through_noise_on_every_port(kernel):
    raw = raw_of(kernel)
    names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
    connections(raw.info[name] for name in names)
    messages = [*bad_messages(raw.info["key"]).values(), [b"\x07"], [b"\x01topic", b"more"]]
    send_all_as(zmq.XSUB, raw, [raw.info["iopub_port"]], messages)
    send_all_as(zmq.DEALER, raw, [raw.info["hb_port"]], messages)
    # All wrong socket types for the port: the handshakes fail.
    send_all_as(zmq.XSUB, raw, [raw.info["shell_port"], raw.info["hb_port"]], messages[:2])
    assert raw.ask("hb_port", [b"ping"]) is not None
    # The value comes over iopub: its subscribers are served as before.
    assert kernel.ok("6 * 7").text == "42"
    raw.close()


# The controller ------------------------------------------------------------------------------------------------------


def test_the_controller_and_its_engines_live_through_bad_messages_on_every_port(home):
    folder = short_folder()
    with Cluster(folder / "profile", home.environ, 2) as cluster:
        client = ipyparallel.Client(str(cluster.file("client")), timeout=20)
        client.wait_for_engines(2, timeout=WAIT, interactive=False)
        for_clients = json.loads(cluster.file("client").read_text())
        for_engines = json.loads(cluster.file("engine").read_text())
        key, raw = for_clients["key"], Raw(for_clients)
        leaves = for_engines["broadcast"]
        routers = [for_clients[name] for name in ("registration", "control", "mux", "task", "broadcast")]
        routers += [for_engines[name] for name in ("control", "mux", "task", "hb_pong")] + leaves
        readers = [for_clients[name] for name in ("iopub", "notification")] + [for_engines["hb_ping"]]
        messages = list(bad_messages(key).values())
        connections([*routers, *readers, for_engines["iopub"]])
        send_all_as(zmq.DEALER, raw, routers, messages)
        send_all_as(zmq.XSUB, raw, readers, [*messages, [b"\x07"]])
        send_all_as(zmq.PUB, raw, [for_engines["iopub"]], messages)
        # Queries and work are done once, however often the same message comes.
        once_only(raw, "registration", for_clients["registration"], request(key, "connection_request"))
        uuid_of_0 = client._engines[0].encode()
        count = {"code": "std::fs::OpenOptions::new().append(true).create(true).open(\"ran\")?.write_all(b\"x\")?;"}
        count["code"] = "use std::io::Write;\n" + count["code"]
        work = [uuid_of_0, *request(key, "execute_request", count)]
        once_only(raw, "mux", for_clients["mux"], work)
        once_only(raw, "task", for_clients["task"], request(key, "execute_request", count))
        result = client[:].execute("6 * 7", silent=False, block=False)
        replies = result.get(WAIT)
        # The values come by another socket.
        assert result.wait_for_output(WAIT)
        assert [reply.execute_result["data"]["text/plain"] for reply in replies] == ["42"] * 2
        assert client.ids == [0, 1] and all(process.poll() is None for process in cluster.processes)
        assert (cluster.folder / "ran").read_text() == "xx", "each of the two ran once"
        client.close()
        raw.close()
        controller = cluster.processes[0]
        controller.terminate()
        controller.wait(10)
        counts = dropped((cluster.folder / "controller.log").read_text())
        # The echoes of heartbeats are not signed. What is signed and no JSON is a replay on all ports but the first.
        n = len(routers) - 1
        assert counts["truncated"] >= 7 * n and counts["unsigned"] >= n and counts["badly signed"] >= 3 * n, counts
        assert counts["not JSON"] >= 3 and counts["not JSON"] + counts["replayed"] >= 3 * n + 6, counts
    remove(folder)


def once_only(raw, name, port, frames):
    """Sends the same message three times: one answer comes."""
    socket = raw.dealer(name, f"tcp://127.0.0.1:{port}")
    for _ in range(3):
        socket.send_multipart(frames)
    assert raw.receive(name, WAIT) is not None
    assert raw.receive(name, 0.5) is None, "it was answered twice"


# An engine -----------------------------------------------------------------------------------------------------------


class FakeController:
    """The sockets of a controller, under a test's control: what an engine gets comes from here."""

    ROUTERS = ("registration", "control", "mux", "task", "hb_pong", "broadcast")

    def __init__(self, folder):
        self.context, self.key, self.sockets = zmq.Context(), uuid.uuid4().hex, {}
        for name in (*self.ROUTERS, "hb_ping", "iopub"):
            kind = {"hb_ping": zmq.PUB, "iopub": zmq.SUB}.get(name, zmq.ROUTER)
            self.sockets[name] = self.context.socket(kind)
            self.sockets[name].linger = 0
        self.sockets["iopub"].subscribe(b"")
        ports = {name: socket.bind_to_random_port("tcp://127.0.0.1") for name, socket in self.sockets.items()}
        info = {**ports, "broadcast": [ports["broadcast"]], "interface": "tcp://127.0.0.1", "location": "127.0.0.1"}
        self.info = info | {"key": self.key, "signature_scheme": "hmac-sha256", "pack": "json", "unpack": "json"}
        self.file = folder / "ipcontroller-engine.json"
        self.file.write_text(json.dumps(self.info))
        self.file.chmod(0o600)

    def register(self):
        engine, *frames = self.receive("registration")
        header, content = frames[2], json.loads(frames[5])
        reply = {"status": "ok", "id": 0, "hb_period": 60_000, "connection_info": self.info}
        parts = [self.header("registration_reply"), header, b"{}", json.dumps(reply).encode()]
        self.sockets["registration"].send_multipart([engine, MARK, sign(self.key, parts), *parts])
        return content["uuid"].encode()

    def header(self, msg_type):
        return request(self.key, msg_type)[2]

    def receive(self, name, seconds=WAIT):
        assert self.sockets[name].poll(seconds * 1000), f"nothing came to {name}"
        return self.sockets[name].recv_multipart()

    def beats(self, engine):
        """Until the engine has joined: what is sent before is lost."""

        def beaten():
            self.sockets["hb_ping"].send(b"beat")
            return self.sockets["hb_pong"].poll(50)

        eventually(beaten, WAIT, "the engine's echo")
        while self.sockets["hb_pong"].poll(0):
            assert self.sockets["hb_pong"].recv_multipart() == [engine, b"beat"]

    def close(self):
        self.context.destroy(linger=0)


def test_an_engine_lives_through_bad_messages_on_every_socket(home):
    folder = short_folder()
    controller = FakeController(folder)
    cluster = Cluster(folder / "profile", home.environ, 0)
    engine = cluster.start("engine", [*cluster.engine_command, f"--file={controller.file}"])
    name = controller.register()
    controller.beats(name)
    for channel in ("mux", "task", "control", "broadcast"):
        for frames in bad_messages(controller.key).values():
            controller.sockets[channel].send_multipart([name, *frames])
        # Run once, however often the same message comes.
        frames = request(controller.key, "execute_request", {"code": "6 * 7", "silent": False})
        for _ in range(3):
            controller.sockets[channel].send_multipart([name, b"client", *frames])
        reply = controller.receive(channel)
        assert b'"execute_reply"' in reply[4] and b'"ok"' in reply[7], reply
        assert not controller.sockets[channel].poll(300), "it was answered twice"
    for frames in bad_messages(controller.key).values():
        controller.sockets["hb_ping"].send_multipart(frames)
    controller.sockets["hb_ping"].send(b"last")
    eventually(lambda: controller.receive("hb_pong") == [name, b"last"], WAIT, "the echo of the last beat")
    assert engine.poll() is None
    engine.terminate()
    assert engine.wait(10) == 0
    counts = dropped((cluster.folder / "engine.log").read_text())
    # What is signed and no JSON is a replay on all sockets but the first.
    assert counts["truncated"] == 28 and counts["unsigned"] == 4 and counts["badly signed"] == 12, counts
    assert counts["not JSON"] == 3 and counts["replayed"] == 9 + 8, counts
    cluster.__exit__()
    controller.close()
    remove(folder)
