"""Our controller between a stock ipyparallel Client and stock Python engines."""

import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time

import ipyparallel as ipp
import pytest

from harness.deadline import eventually
from harness.home import binary

HERE = pathlib.Path(__file__).resolve().parent
WITHIN_SECONDS = 30


def wait_until(condition, what):
    eventually(condition, WITHIN_SECONDS, what)


class StockCluster:
    def __init__(self, path):
        self.profile_dir = path / "profile_test"
        self.client_file = self.profile_dir / "security" / "ipcontroller-client.json"
        # Functions travel by the name of this module, so the engines have to find it.
        self.env = dict(os.environ, IPYTHONDIR=str(path), PYTHONPATH=f"{HERE}:{HERE.parent}")
        self.engines = []
        args = [f"--profile-dir={self.profile_dir}", "--ping=250", "--dictdb", "--log-level=20"]
        self.controller_args = [str(binary()), "controller", *args]
        self.controller = subprocess.Popen(self.controller_args, env=self.env)
        wait_until(self.client_file.exists, "the connection files")

    def start_engine(self):
        engine_file = self.client_file.with_name("ipcontroller-engine.json")
        args = [sys.executable, "-m", "ipyparallel.engine", f"--file={engine_file}"]
        args += [f"--profile-dir={self.profile_dir}", "--log-level=40"]
        self.engines.append(subprocess.Popen(args, env=self.env))

    def stop(self):
        for process in [*self.engines, self.controller]:
            process.terminate()
        for process in [*self.engines, self.controller]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = StockCluster(tmp_path_factory.mktemp("stock"))
    try:
        for _ in range(2):
            cluster.start_engine()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def client(cluster):
    client = ipp.Client(str(cluster.client_file), timeout=10)
    client.wait_for_engines(2, timeout=WITHIN_SECONDS, interactive=False)
    yield client
    client.close()


def test_the_files_have_every_field_and_are_private(cluster):
    engine_file = cluster.client_file.with_name("ipcontroller-engine.json")
    both = {"ssh", "interface", "registration", "control", "mux", "task", "iopub", "broadcast"}
    both |= {"key", "curve_serverkey", "location", "pack", "unpack", "signature_scheme"}
    for path, fields in [
        (cluster.client_file, {"task_scheme", "notification"}),
        (engine_file, {"hb_ping", "hb_pong"}),
    ]:
        assert set(json.loads(path.read_text())) == both | fields
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_controller_on_the_same_files_is_refused(cluster):
    second = subprocess.run(
        cluster.controller_args, env=cluster.env, capture_output=True, text=True, timeout=10
    )
    assert second.returncode == 1
    assert "is alive" in second.stderr


def test_direct_calls_reach_their_engines(client):
    assert client.ids == sorted(client.ids)
    pids = client[:].apply_sync(os.getpid)
    assert len(set(pids)) == len(client.ids)
    client[:].push({"a": 5}, block=True)
    assert client[:]["a"] == [5] * len(client.ids)
    assert client[client.ids[0]].apply_sync(lambda x: x * 2, 21) == 42


def test_a_remote_error_comes_back_as_itself(client):
    with pytest.raises(ipp.RemoteError) as error:
        client[client.ids[0]].apply_sync(lambda: 1 / 0)
    assert error.value.ename == "ZeroDivisionError"
    with pytest.raises(ipp.CompositeError):
        client[:].execute("nonsense", block=True)


def test_execute_prints_live(client):
    result = client[:].execute("print('hello')", silent=False)
    result.get(timeout=WITHIN_SECONDS)
    assert result.wait_for_output(WITHIN_SECONDS)
    assert result.stdout == ["hello\n"] * len(client.ids)


def test_a_load_balanced_map_uses_every_engine(client):
    view = client.load_balanced_view()
    assert view.map_sync(lambda x: x * x, range(200)) == [x * x for x in range(200)]
    result = view.map_async(time.sleep, [0.02] * 20)
    result.get(timeout=WITHIN_SECONDS)
    assert set(result.engine_id) == set(client.ids)


def test_dependencies_timeouts_and_retries(client):
    view = client.load_balanced_view()
    first = view.apply_async(os.getpid)
    with view.temp_flags(follow=[first]):
        assert view.apply_sync(os.getpid) == first.get(timeout=WITHIN_SECONDS)
    failing = view.apply_async(lambda: 1 / 0)
    with view.temp_flags(after=[failing]), pytest.raises(ipp.RemoteError) as error:
        view.apply_sync(os.getpid)
    assert error.value.ename == "ImpossibleDependency"
    with view.temp_flags(after=["nobody"]), pytest.raises(ipp.RemoteError) as error:
        view.apply_sync(os.getpid)
    assert error.value.ename == "InvalidDependency"
    with view.temp_flags(retries=5, timeout=0.2), pytest.raises(ipp.RemoteError) as error:
        view.apply_sync(lambda: 1 / 0)
    assert error.value.ename == "TaskTimeout"
    with view.temp_flags(retries=1), pytest.raises(ipp.RemoteError) as error:
        view.apply_sync(lambda: 1 / 0)
    assert error.value.ename == "ZeroDivisionError"
    target = client.ids[1]
    with view.temp_flags(targets=[target]):
        result = view.map_async(abs, range(10))
        result.get(timeout=WITHIN_SECONDS)
        assert set(result.engine_id) == {target}


@pytest.mark.parametrize("is_coalescing", [False, True])
def test_a_broadcast_reaches_every_engine(client, is_coalescing):
    view = client.broadcast_view(is_coalescing=is_coalescing)
    pids = view.apply_sync(os.getpid)
    assert sorted(pids) == sorted(client[:].apply_sync(os.getpid))


def test_abort_ends_what_has_not_started(client):
    view = client[client.ids[0]]
    running = view.apply_async(time.sleep, 1)
    waiting = view.apply_async(time.sleep, 0)
    client.abort(waiting, block=True)
    with pytest.raises(ipp.error.TaskAborted):
        waiting.get(timeout=WITHIN_SECONDS)
    running.get(timeout=WITHIN_SECONDS)
    balanced = client.load_balanced_view()
    many = [balanced.apply_async(time.sleep, 0.3) for _ in range(8)]
    client.abort(many[4:], block=True)
    started = time.monotonic()
    for result in many[4:]:
        with pytest.raises(ipp.error.TaskAborted):
            result.get(timeout=WITHIN_SECONDS)
    assert time.monotonic() - started < 0.2, "tasks that wait in the controller end at once"
    for result in many[:4]:
        result.get(timeout=WITHIN_SECONDS)


def test_queue_status_counts(client):
    before = client.queue_status()
    assert before["unassigned"] == 0
    view = client[client.ids[0]]
    running = [view.apply_async(time.sleep, 0.3) for _ in range(2)]
    wait_until(lambda: client.queue_status()[client.ids[0]]["queue"] == 2, "two queued")
    for result in running:
        result.get(timeout=WITHIN_SECONDS)
    after = client.queue_status(verbose=True)
    assert running[0].msg_ids[0] in after[client.ids[0]]["completed"]


def test_the_hub_keeps_records(client, cluster):
    view = client.load_balanced_view()
    with view.temp_flags(label="kept"):
        result = view.apply_async(lambda x: x + 1, 41)
    assert result.get(timeout=WITHIN_SECONDS) == 42
    (msg_id,) = result.msg_ids
    assert client.hub_history()[-1] == msg_id
    other = ipp.Client(str(cluster.client_file), timeout=10)
    try:
        assert other.get_result(msg_id).get(timeout=WITHIN_SECONDS) == 42
    finally:
        other.close()
    query = {"msg_id": {"$in": [msg_id]}, "completed": {"$ne": None}}
    (record,) = client.db_query(query, ["engine_uuid", "label", "started", "submitted"])
    assert record["label"] == "kept"
    assert record["submitted"] <= record["started"]
    again = client.resubmit(msg_id)
    assert again.get(timeout=WITHIN_SECONDS) == [42]
    client.purge_hub_results("all")
    assert client.hub_history() == []


def test_a_killed_engine_fails_its_work_and_the_rest_moves_on(client, cluster):
    victim, other = client.ids[:2]
    pid = client[victim].apply_sync(os.getpid)
    direct = client[victim].apply_async(time.sleep, 60)
    view = client.load_balanced_view()
    wait_until(lambda: client.queue_status(victim)["queue"] == 1, "the direct call at work")
    tasks = [view.apply_async(lambda x: x, item) for item in range(50)]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ipp.RemoteError) as error:
        direct.get(timeout=10)
    assert error.value.ename == "EngineError"
    assert f"engine {victim} " in error.value.evalue
    results = [task.get(timeout=10, return_exceptions=True) for task in tasks]
    lost = [result for result in results if isinstance(result, Exception)]
    assert len(lost) <= 1
    assert all(f"engine {victim} " in str(error) for error in lost)
    assert [result for result in results if result not in lost] == [
        item for item, result in enumerate(results) if result not in lost
    ]
    wait_until(lambda: client.ids == [other], "the notice")
    cluster.start_engine()
    wait_until(lambda: len(client.ids) == 2, "a new engine")
    assert client.ids[-1] == 2


def test_a_bridge_to_dask_is_refused_clearly(client):
    request = {"scheduler_args": {}}
    reply = client._send_recv(client._query_stream, "become_dask_request", content=request)
    assert reply["header"]["msg_type"] == "hub_error"
    content = reply["content"]
    assert content["status"] == "error" and content["ename"] == "UnsupportedOperation"
    assert "dask" in content["evalue"] and content["traceback"]
    assert client[:].apply_sync(abs, -1) == [1] * len(client.ids)


def long_sleep():
    import threading

    threading.Event().wait(600)


def test_a_running_task_is_cancelled_by_its_id(client):
    ar = client.load_balanced_view().apply_async(long_sleep)
    wait_until(lambda: sum(client.queue_status(targets=[id])[id]["tasks"] for id in client.ids), "the task on an engine")
    reply = client._send_recv(client._query_stream, "cancel_request", {"msg_ids": ar.msg_ids})
    assert reply["content"]["interrupted"] == ar.msg_ids
    with pytest.raises(ipp.RemoteError) as error:
        # The signal may come before the function: then it is sent once more.
        for _ in range(WITHIN_SECONDS):
            try:
                ar.get(timeout=1)
            except TimeoutError:
                client._send_recv(client._query_stream, "cancel_request", {"msg_ids": ar.msg_ids})
    assert error.value.ename == "KeyboardInterrupt"
    assert client[:].apply_sync(lambda: 1) == [1] * len(client.ids)


def test_a_task_runs_no_longer_than_its_limit(client):
    future = client.send_apply_request(client._task_stream, long_sleep, metadata={"time_limit": 0.5})
    ar = ipp.AsyncResult(client, future, fname="long_sleep")
    with pytest.raises(ipp.RemoteError) as error:
        ar.get(timeout=WITHIN_SECONDS)
    assert error.value.ename == "TaskTimeout" and "ran for more than 0.5 s, its limit" in error.value.evalue
    assert client[:].apply_sync(lambda: 1) == [1] * len(client.ids)


def test_z_shutdown_removes_the_files(cluster):
    client = ipp.Client(str(cluster.client_file), timeout=10)
    client.shutdown(hub=True, block=True)
    client.close()
    cluster.controller.wait(10)
    assert cluster.controller.returncode == 0
    assert not cluster.client_file.exists()
