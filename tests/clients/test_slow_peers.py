"""Peers that stand still: a client that never reads, an engine that takes nothing. The controller's memory stays within
what `--peer-mib` says, and everybody else is served."""

import json
import os
import signal
import subprocess
import sys

import ipyparallel
import psutil
import pytest
import zmq

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import remove, short_folder
from harness.raw import request

WAIT = 60
LIMIT_MIB = 24
MIB = 1 << 20
# Beside the limit: what is being passed on, records of results, and what an allocator keeps.
GROWTH_MIB_MAX = 8 * LIMIT_MIB

# Connects to everything, as a client does that asks and then reads no answer.
STILL = """
import sys, zmq
context = zmq.Context()
sockets = []
for kind, port in zip(sys.argv[1::2], sys.argv[2::2]):
    socket = context.socket(zmq.SUB if kind == "SUB" else zmq.DEALER)
    socket.rcvhwm = 1
    socket.rcvbuf = 4096
    if kind == "SUB":
        socket.subscribe(b"")
    else:
        socket.routing_id = b"still"
    socket.connect("tcp://127.0.0.1:" + port)
    sockets.append(socket)
sys.stdout.write("connected\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture
def cluster(home):
    folder = short_folder()
    cluster = Cluster(folder / "profile", home.environ, 2)
    cluster.controller_command = [*cluster.controller_command, f"--peer-mib={LIMIT_MIB}"]
    with cluster:
        client = ipyparallel.Client(str(cluster.file("client")), timeout=20)
        client.wait_for_engines(2, timeout=WAIT, interactive=False)
        client[:].execute("1 + 1", block=True)
        cluster.client = client
        yield cluster
        client.close()
    remove(folder)


def resident(cluster):
    return psutil.Process(cluster.processes[0].pid).memory_info().rss


def log(cluster):
    return (cluster.folder / "controller.log").read_text()


def still(cluster, *kinds):
    """A process with sockets to some ports of the controller, which then stands still."""
    info = json.loads(cluster.file("client").read_text())
    words = [word for kind, name in kinds for word in (kind, str(info[name]))]
    command = [sys.executable, "-c", STILL, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | cluster.mark)
    assert process.stdout.readline() == b"connected\n"
    return process


def test_a_subscriber_that_stands_still_misses_output_and_costs_little(cluster):
    peer = still(cluster, ("SUB", "iopub"), ("SUB", "notification"))
    # It has subscribed when something has come through.
    cluster.client[:].execute("1 + 1", silent=False, block=True)
    peer.send_signal(signal.SIGSTOP)
    before = largest = resident(cluster)
    code = 'let line = "x".repeat(9999); for _ in 0..100 { println!("{line}"); }'
    n_printed = 0
    while n_printed < 12 * LIMIT_MIB * MIB:
        result = cluster.client[:].execute(code, silent=False, block=False)
        result.get(WAIT)
        assert result.wait_for_output(WAIT), "who reads gets all"
        assert [len(text) for text in result.stdout] == [1_000_000] * 2
        n_printed += 2_000_000
        largest = max(largest, resident(cluster))
        cluster.client.purge_everything()
    growth = (largest - before) // MIB
    assert growth < GROWTH_MIB_MAX, f"grew by {growth} MiB over {n_printed // MIB} MiB of output"
    peer.kill()
    peer.wait()


def test_a_client_that_reads_no_answers_is_cut_off(cluster):
    info = json.loads(cluster.file("client").read_text())
    context = zmq.Context()

    def dealer(name):
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{info[name]}")
        return socket

    # A task with something large, which can be asked for again and again.
    tasks = dealer("task")
    task = request(info["key"], "execute_request", {"code": "1", "silent": True})
    tasks.send_multipart([*task, b"b" * MIB])
    assert tasks.poll(WAIT * 1000)
    query = {"query": {"msg_id": json.loads(task[2])["msg_id"]}, "keys": ["buffers"]}
    asker = context.socket(zmq.DEALER)
    asker.rcvhwm, asker.rcvbuf, asker.linger = 1, 4096, 0
    asker.connect(f"tcp://127.0.0.1:{info['registration']}")
    before = largest = resident(cluster)
    asked = 0
    while "it is cut off" not in log(cluster):
        for _ in range(10):
            asker.send_multipart(request(info["key"], "db_request", query))
            asked += 1
        # Everybody else is served all the while.
        assert cluster.client.queue_status()["unassigned"] == 0
        largest = max(largest, resident(cluster))
        assert asked < 40 * LIMIT_MIB, "it is never cut off"
    growth = (largest - before) // MIB
    assert growth < GROWTH_MIB_MAX, f"grew by {growth} MiB over {asked} MiB of answers"
    # It reads again, and is served again.
    while asker.poll(1000):
        asker.recv_multipart()
    asker.send_multipart(request(info["key"], "connection_request"))
    assert asker.poll(WAIT * 1000)
    context.destroy(linger=0)


def test_an_engine_that_stands_still_keeps_nobody_waiting(cluster):
    client = cluster.client
    engine = cluster.processes[1]
    stopped = psutil.Process(engine.pid)
    stopped.send_signal(signal.SIGSTOP)
    before = largest = resident(cluster)
    info = json.loads(cluster.file("client").read_text())
    context = zmq.Context()
    direct = context.socket(zmq.DEALER)
    direct.linger = 0
    direct.connect(f"tcp://127.0.0.1:{info['mux']}")
    names = [name.encode() for name in client._engines.values()]
    n_sent = 0
    while n_sent < 12 * LIMIT_MIB:
        for name in names:
            frames = request(info["key"], "execute_request", {"code": "1", "silent": True})
            direct.send_multipart([name, *frames, b"b" * (MIB // 2)])
            n_sent += 1
        while direct.poll(0):
            direct.recv_multipart()
        largest = max(largest, resident(cluster))
    # The one that works has answered all; the other has been given up, and its requests with it.
    eventually(lambda: len(client.ids) == 1, WAIT, "the engine that stands still is given up")
    result = client[:].execute("6 * 7", silent=False, block=False)
    assert len(result.get(WAIT)) == 1
    growth = (largest - before) // MIB
    assert growth < GROWTH_MIB_MAX + n_sent, f"grew by {growth} MiB"
    stopped.send_signal(signal.SIGCONT)
    eventually(lambda: client.ids == [0, 1], WAIT, "it comes back under its number")
    result = client[:].execute("6 * 7", silent=False, block=False)
    assert len(result.get(WAIT)) == 2
    context.destroy(linger=0)
