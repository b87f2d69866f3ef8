"""Encrypted clusters: stock and own peers work as ever, whoever lacks the key of the controller hears and says nothing."""

import json
import socket
import sys

import psutil
import pytest
import zmq

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import remove, short_folder

WAIT = 60
PORTS = ("registration", "control", "mux", "task", "broadcast", "iopub", "notification", "hb_ping", "hb_pong")
# The beginning of ZMTP 3.1, up to the version. Who says more, and another mechanism, may be cut off before he has read.
GREETING = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01"
STOCK = {
    "controller": [sys.executable, "-m", "ipyparallel.controller"],
    "engine": [sys.executable, "-m", "ipyparallel.engine"],
}


class Encrypted(Cluster):
    """A controller that encrypts; engines are added one by one."""

    def __init__(self, environ, controller=None, **more):
        self.top = short_folder()
        super().__init__(self.top / "profile", environ | more, 0, controller=controller)
        option = "--IPController.enable_curve=True" if controller else "--enable-curve"
        self.controller_command = [*self.controller_command, option]

    def start_stock_engine(self):
        command = [*STOCK["engine"], f"--file={self.file('engine')}", f"--profile-dir={self.folder}"]
        return self.start(f"stock-{len(self.processes)}", command)

    def info(self, role):
        return json.loads(self.file(role).read_text())

    def __exit__(self, *_):
        super().__exit__()
        remove(self.top)


def ports(cluster):
    for role in ("client", "engine"):
        info = cluster.info(role)
        for name in PORTS:
            port = info.get(name, [])
            yield from ((role, name, each) for each in (port if isinstance(port, list) else [port]))


@pytest.fixture(scope="module")
def mixed(home):
    """Our controller, an engine of ours and a stock one."""
    with Encrypted(home.environ) as cluster:
        cluster.start_engine()
        eventually(lambda: "Completed registration" in (cluster.folder / "engine-1.log").read_text(), WAIT, "our engine")
        cluster.start_stock_engine()
        yield cluster


def test_stock_clients_and_engines_of_both_kinds_work_encrypted(mixed):
    info = mixed.info("client")
    assert info["key"] == "" and len(info["curve_serverkey"]) == 40
    assert mixed.info("engine")["curve_serverkey"] == info["curve_serverkey"]
    client = mixed.client(2)
    for _ in range(2):
        result = client[:].execute("6 * 7", silent=False, block=False)
        replies = result.get(WAIT)
        assert result.wait_for_output(WAIT)
        assert [reply.execute_result["data"]["text/plain"] for reply in replies] == ["42"] * 2
    # Large messages and many of them.
    stock = client[[1]]
    stock.block = True
    assert stock.apply(len, b"x" * 20_000_000) == [20_000_000]
    assert client.load_balanced_view([1]).map_sync(abs, range(-300, 0)) == [*range(300, 0, -1)]
    client.close()


def test_every_port_asks_for_encryption(mixed):
    for role, name, port in ports(mixed):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
            stream.settimeout(10)
            stream.sendall(GREETING)
            said = b""
            while len(said) < 32:
                more = stream.recv(64)
                assert more, f"{role} {name} ends the connection after {said}"
                said += more
            assert said[12:32].rstrip(b"\0") == b"CURVE", (role, name)


@pytest.mark.parametrize("key", ["none", "another"])
def test_who_lacks_the_key_hears_nothing(mixed, key):
    """Not even who listens on every port, and takes the name of an engine."""
    context = zmq.Context()
    client = mixed.client(2)
    name = client._engines[0].encode()
    monitors, peers = [], []
    for role, channel, port in ports(mixed):
        reads = channel in ("iopub", "notification", "hb_ping") and not (role, channel) == ("engine", "iopub")
        peer = context.socket(zmq.SUB if reads else zmq.PUB if channel == "iopub" else zmq.DEALER)
        peer.linger = 0
        if reads:
            peer.subscribe(b"")
        elif peer.type == zmq.DEALER:
            peer.routing_id = name
        if key == "another":
            peer.curve_serverkey, _ = zmq.curve_keypair()
            peer.curve_publickey, peer.curve_secretkey = zmq.curve_keypair()
        monitors.append(peer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED))
        peer.connect(f"tcp://127.0.0.1:{port}")
        peers.append(peer)
    for _ in range(2):
        client[:].execute("6 * 7", silent=False, block=False).get(WAIT)
    assert not any(peer.poll(0) for peer in peers if peer.type != zmq.PUB), "something was heard"
    assert not any(monitor.poll(0) for monitor in monitors), "a handshake succeeded"
    client.close()
    context.destroy(linger=0)


def test_the_key_pair_can_be_given(home):
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with Encrypted(home.environ, IPP_CURVE_SECRETKEY=secret) as cluster:
        assert cluster.info("client")["curve_serverkey"] == public


def test_our_engine_joins_a_stock_controller_that_encrypts(home):
    with Encrypted(home.environ, controller=STOCK["controller"]) as cluster:
        cluster.start_engine()
        client = cluster.client(1)
        result = client[:].execute("6 * 7", silent=False, block=False)
        replies = result.get(WAIT)
        assert result.wait_for_output(WAIT)
        assert [reply.execute_result["data"]["text/plain"] for reply in replies] == ["42"]
        client.close()


def test_no_log_and_no_command_line_shows_the_key(mixed):
    key = mixed.info("client")["curve_serverkey"]
    assert all(key not in file.read_text() for file in mixed.folder.glob("*.log"))
    for process in mixed.processes:
        process = psutil.Process(process.pid)
        for each in (process, *process.children(recursive=True)):
            assert key not in " ".join(each.cmdline())
