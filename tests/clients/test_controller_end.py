"""How `prust controller` ends when it is told to by a signal, and what it leaves."""

import json
import os
import signal

import ipyparallel
import pytest

from harness.cluster import Cluster
from harness.home import binary, remove, short_folder
from harness.processes import none_left

ROLES = ("client", "engine")
END_SECONDS = 5


@pytest.fixture
def folder():
    folder = short_folder()
    yield folder
    remove(folder)


def without_engines(home, folder, *options, ip="127.0.0.1"):
    return Cluster(folder / "profile", home.environ, 0, controller=[str(binary()), "controller", *options], ip=ip)


def address_of_its_own():
    """A loopback address that nothing else uses: nobody takes its ports while no controller has them."""
    high, mid, low = os.getpid().to_bytes(3, "big")
    return f"127.{128 | high}.{mid}.{low}"


def files(cluster):
    return [json.loads(cluster.file(role).read_text()) for role in ROLES]


def answers(cluster):
    """Whether a client that connects is told about the engines (none)."""
    with ipyparallel.Client(str(cluster.file("client")), timeout=10) as client:
        return client.queue_status() == {"unassigned": 0}


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_removes_its_files(home, folder, sent):
    with without_engines(home, folder) as cluster:
        assert answers(cluster)
        (controller,) = cluster.processes
        controller.send_signal(sent)
        assert controller.wait(END_SECONDS) == 0
        assert not any(cluster.file(role).exists() for role in ROLES)
        none_left(cluster.mark, END_SECONDS)


def test_reused_files_stay_and_bring_the_same_ports_and_key_back(home, folder):
    with without_engines(home, folder, "--reuse", ip=address_of_its_own()) as cluster:
        assert answers(cluster)
        before = files(cluster)
        for _ in range(2):
            controller = cluster.processes.pop()
            controller.terminate()
            assert controller.wait(END_SECONDS) == 0
            assert files(cluster) == before
            cluster.start_controller()
            assert answers(cluster)
            assert files(cluster) == before


def test_it_ends_while_engines_are_at_work(home, folder):
    with Cluster(folder / "profile", home.environ, 1) as cluster:
        with ipyparallel.Client(str(cluster.file("client")), timeout=10) as client:
            client.wait_for_engines(1, timeout=60, interactive=False)
            client[0].execute("loop { std::hint::spin_loop() }")
            cluster.processes[0].terminate()
            assert cluster.processes[0].wait(END_SECONDS) == 0
        assert not any(cluster.file(role).exists() for role in ROLES)


def test_the_scheme_stands_in_the_clients_file(home, folder):
    with without_engines(home, folder, "--scheme=twobin", "--nodb") as cluster:
        client, _ = files(cluster)
        assert client["task_scheme"] == "twobin"
        assert "ignored" not in (cluster.folder / "controller.log").read_text()
    refused = home.prust("controller", "--scheme=pure", f"--profile-dir={folder}/other", seconds=30)
    assert refused.returncode == 2 and "--scheme=pure" in refused.stderr and "twobin" in refused.stderr
