"""`prust cluster`: a controller and its engines that outlive whoever started them."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys

import ipyparallel as ipp
import pytest

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.detached import Detached
from harness.processes import marked, none_left


@pytest.fixture(scope="module")
def cluster(home, tmp_path_factory):
    with Detached(tmp_path_factory.mktemp("detached"), 2) as cluster:
        yield cluster


def test_it_says_how_to_use_it_and_a_python_client_does(cluster):
    with ipp.Client(str(cluster.file), timeout=10) as client:
        client.wait_for_engines(2, timeout=10, interactive=False)
        reply = client[:].execute("std::process::id()", silent=False)
        reply.get(timeout=30)
    assert str(cluster.file) in cluster.ok("list")


def test_it_has_a_session_of_its_own_and_private_files(cluster):
    supervisor = cluster.supervisor
    assert os.getsid(supervisor.pid) == supervisor.pid != os.getsid(0)
    assert supervisor.terminal() is None
    names = {path.name for path in cluster.security.iterdir()}
    assert names - {"tasks.db-shm", "tasks.db-wal"} == {
        "ipcontroller-client.json",
        "ipcontroller-engine.json",
        "prust-cluster.json",
        "prust-cluster.lock",
        "tasks.db",
        "tasks.db.lock",
    }
    for path in [*cluster.security.iterdir(), *(cluster.profile_dir / "log").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_the_next_one_has_its_results_if_it_is_asked_to(home, tmp_path, end):
    with Detached(tmp_path, 1) as cluster:
        with ipp.Client(str(cluster.file), timeout=10) as client:
            client.wait_for_engines(1, timeout=30, interactive=False)
            result = client[:].execute("6 * 7", silent=False)
            assert [reply.status for reply in result.get(timeout=60)] == ["ok"]
            assert result.wait_for_output(60)
        if end == "stopped":
            cluster.ok("stop")
        else:
            saved = lambda: rows(cluster.security / "tasks.db", result.msg_ids[0])
            eventually(lambda: saved() == [(True, True)], 20, "the result in the file")
            cluster.supervisor.kill()
            none_left(cluster.mark, 20)
        cluster.ok("start", "-n", "1", "--detach", "--restore")
        with ipp.Client(str(cluster.file), timeout=10) as client:
            client.wait_for_engines(1, timeout=30, interactive=False)
            [reply] = client.get_result(result.msg_ids).get(timeout=30)
            assert reply.execute_result["data"]["text/plain"] == "42"
        cluster.ok("stop")
        cluster.start()
        with ipp.Client(str(cluster.file), timeout=10) as client:
            assert client.hub_history() == []


def connections(cluster):
    """What is left in the security folder beside the records."""
    return [path for path in cluster.security.iterdir() if not path.name.startswith("tasks")]


def rows(store, msg_id):
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as store:
        columns = "reply_header IS NOT NULL, execute_result IS NOT NULL"
        found = store.execute(f"SELECT {columns} FROM records WHERE msg_id = ?", [msg_id]).fetchall()
        return [tuple(map(bool, row)) for row in found]


def test_a_second_one_at_the_same_place_is_refused_and_says_what_to_do(cluster):
    for options in (["--detach"], []):
        second = cluster.run("start", "-n", "1", *options)
        assert second.returncode == 1
        assert "a cluster runs there already" in second.stderr
        assert str(cluster.supervisor.pid) in second.stderr
        assert f"prust cluster stop --profile-dir={cluster.profile_dir}" in second.stderr
    assert len(cluster.status()["engines"]) == 2


def test_status_is_a_table_for_people_and_json_for_programs(cluster):
    text = cluster.ok("status")
    status = cluster.status()
    assert status["controller"] == "prust"
    assert [engine["id"] for engine in status["engines"]] == [0, 1]
    for engine in status["engines"]:
        assert "engine" in cluster.engines()[engine["id"]].cmdline()
        assert engine["uuid"] in text and str(engine["pid"]) in text and engine["host"]
    for key in ("queue", "tasks", "completed"):
        assert all(isinstance(engine[key], int) for engine in status["engines"])
    assert status["uptime_seconds"] > 0 and status["messages"]["refused"] == 0
    assert "2 engines" in text and "per second" in text and "records kept" in text


def test_status_counts_work_and_messages_that_were_refused(cluster):
    before = cluster.status()
    with ipp.Client(str(cluster.file), timeout=10) as client:
        client.wait_for_engines(2, timeout=10, interactive=False)
        for _ in range(3):
            client[:].execute("1 + 1", silent=False).get(timeout=30)
    after = cluster.status()
    done = [status["tasks"]["ended"] for status in (before, after)]
    assert done[1] - done[0] == 6
    assert after["tasks"]["ended_per_second"] > 0
    forged = json.loads(cluster.file.read_text()) | {"key": "another"}
    path = cluster.profile_dir / "forged.json"
    path.write_text(json.dumps(forged))
    with pytest.raises(TimeoutError):
        ipp.Client(str(path), timeout=1)
    assert cluster.status()["messages"]["refused"] > after["messages"]["refused"]


def test_a_dump_tells_tasks_by_their_size(cluster):
    with ipp.Client(str(cluster.file), timeout=10) as client:
        client.wait_for_engines(2, timeout=10, interactive=False)
        result = client[0].execute('let not_in_the_dump = "abc";', silent=False)
        result.get(timeout=30)
    dump = cluster.ok("dump")
    records = {record["msg_id"]: record for record in json.loads(dump)["records"]}
    record = records[result.msg_ids[0]]
    assert record["request"]["content"] > 0 and record["story"][0][1] == "Submitted"
    assert "not_in_the_dump" not in dump


def test_an_engine_that_was_killed_is_replaced_and_missed_at_once(cluster):
    before = cluster.engines()
    victim = before[max(before)]
    with ipp.Client(str(cluster.file), timeout=10) as client:
        client.wait_for_engines(2, timeout=10, interactive=False)
        running = client[max(before)].execute("loop { std::hint::spin_loop() }", silent=False)
        eventually(lambda: cluster.status()["engines"][-1]["queue"] == 1, 10, "the loop was sent")
        victim.kill()
        with pytest.raises(ipp.RemoteError, match="killed by signal 9"):
            running.get(timeout=10)

    def replaced():
        now = cluster.engines()
        return len(now) == 2 and victim.pid not in {process.pid for process in now.values()}

    eventually(replaced, 30, "another engine in its place", every=0.2)


def test_list_tells_the_living_from_the_dead_and_from_those_of_others(home, tmp_path):
    with Detached(tmp_path, 1, cluster_id="killed") as killed:
        os.kill(killed.supervisor.pid, signal.SIGKILL)
        none_left(killed.mark, 5)
        foreign = Cluster(tmp_path / "other", dict(os.environ), 0)
        with foreign:
            for role in ("client", "engine"):
                os.rename(foreign.file(role), killed.security / foreign.file(role).name)
            states = {row.split()[0]: row.split()[1] for row in killed.ok("list").splitlines()[1:]}
            assert states == {"(default)": "foreign", "killed": "stale"}
            text = Detached(tmp_path, 1, start=False).run("stop").stderr
            assert "was not started by prust cluster" in text
            for role in ("client", "engine"):
                os.rename(killed.security / foreign.file(role).name, foreign.file(role))
        assert "has ended before" in killed.ok("stop")
        assert not connections(killed)
        # And its place is free.
        assert "a cluster of 1 engine " in killed.start()


def test_nothing_outlives_a_supervisor_that_is_killed(home, tmp_path):
    with Detached(tmp_path, 2) as cluster:
        with ipp.Client(str(cluster.file), timeout=10) as client:
            client.wait_for_engines(2, timeout=10, interactive=False)
            client[:].execute("loop { std::hint::spin_loop() }", silent=False)
            eventually(lambda: cluster.status()["engines"][-1]["queue"] == 1, 10, "the loops were sent")
            assert len(marked(cluster.mark)) > 4
            os.kill(cluster.supervisor.pid, signal.SIGKILL)
            none_left(cluster.mark, 5)


def test_stop_leaves_no_process_and_no_file(home, tmp_path):
    with Detached(tmp_path, 2) as cluster:
        assert "has ended" in cluster.ok("stop")
        none_left(cluster.mark, 0)
        assert not connections(cluster)
        again = cluster.run("stop")
        assert again.returncode == 1 and "no cluster runs here" in again.stderr
        status = cluster.run("status")
        assert status.returncode == 1 and "no cluster runs here" in status.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_ends_by_a_signal(home, tmp_path, number):
    cluster = Detached(tmp_path, 1, start=False)
    with cluster:
        process = subprocess.Popen(
            cluster.command("start", "-n", "1"), env=os.environ | cluster.mark, stdout=subprocess.PIPE, text=True
        )
        assert "a cluster of 1 engine runs until Ctrl-C" in process.stdout.readline()
        assert str(cluster.file) in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(10) == 0
        process.stdout.close()
        none_left(cluster.mark, 2)
        assert not connections(cluster)


def test_a_client_may_shut_it_down(home, tmp_path):
    with Detached(tmp_path, 1) as cluster:
        with ipp.Client(str(cluster.file), timeout=10) as client:
            client.wait_for_engines(1, timeout=10, interactive=False)
            client.shutdown(hub=True, block=True)
        none_left(cluster.mark, 10)


def test_engines_that_cannot_start_are_said_with_their_log(home, tmp_path):
    with Detached(tmp_path, 1, start=False) as cluster:
        done = subprocess.run(
            cluster.command("start", "-n", "1", "--detach"),
            env=os.environ | cluster.mark | {"RUSTC": "/nowhere/rustc"},
            text=True,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert "no engine could be started" in done.stderr and "prust-cluster.log" in done.stderr
        none_left(cluster.mark, 5)
        assert not connections(cluster)


def test_its_engines_are_told_the_toolchain_and_ask_nobody(home, tmp_path, monkeypatch):
    asked, rustc = tmp_path / "asked", tmp_path / "rustc"
    rustc.write_text(f'#!/bin/sh\necho "$*" >> {asked}\nexec {shutil.which("rustc")} "$@"\n')
    rustc.chmod(0o755)
    monkeypatch.setenv("RUSTC", str(rustc))
    with Detached(tmp_path, 3) as cluster:
        with ipp.Client(str(cluster.file), timeout=10) as client:
            client.wait_for_engines(3, timeout=10, interactive=False)
            shows = client[:].execute('std::env::var("PRUST_TOOLCHAIN").is_ok_and(|told| !told.is_empty())', silent=False)
            replies = shows.get(timeout=60)
            assert shows.wait_for_output(60)
            assert [reply.execute_result["data"]["text/plain"] for reply in replies] == ["false"] * 3
    questions = [line for line in asked.read_text().splitlines() if line.startswith(("-vV", "--print"))]
    assert questions == ["-vV", "--print sysroot --print target-libdir"]


def test_status_of_a_stock_controller_is_told_as_far_as_it_goes(home, tmp_path):
    stock = [sys.executable, "-m", "ipyparallel.controller", "--ping=250"]
    with Cluster(tmp_path / "profile", dict(os.environ), 1, controller=stock):
        place = Detached(tmp_path, 1, start=False)

        def one_engine():
            status = place.status()
            return status if len(status["engines"]) == 1 else None

        status = eventually(one_engine, 30, "the engine is registered", every=0.2)
        assert status["controller"] == "stock" and status["engines"][0]["uuid"]
        assert "This is a stock controller" in place.ok("status")
        assert place.run("dump").returncode == 1
