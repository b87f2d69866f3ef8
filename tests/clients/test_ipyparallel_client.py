"""A Python ipyparallel.Client on our controller and our engines."""

import os
import signal

import ipyparallel
import pytest

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import short_folder, remove

N = 3
WAIT = 60


@pytest.fixture(scope="module")
def cluster(home):
    folder = short_folder()
    with Cluster(folder / "profile", home.environ, N) as cluster:
        yield cluster
    remove(folder)


@pytest.fixture(scope="module")
def client(cluster):
    client = cluster.client(N)
    yield client
    client.close()


def done(result, seconds=WAIT):
    """Waits for a result and its output, whatever the outcome."""
    result.wait(seconds)
    assert result.done(), "not done in time"
    result.wait_for_output(10)
    return result


def test_ids_count_the_engines(client):
    assert client.ids == list(range(N))
    assert len(client) == N and client[:].targets == list(range(N))


def test_rust_cells_run_on_the_engines_and_print(client):
    view = client[:]
    done(view.execute("let base = 40;", silent=False)).get()
    result = done(view.execute('println!("base is {base}"); base + 2', silent=False))
    assert [reply.execute_result["data"]["text/plain"] for reply in result.get()] == ["42"] * N
    assert result.stdout == ["base is 40\n"] * N
    for metadata in result.metadata:
        assert metadata["status"] == "ok"
        assert metadata["submitted"] <= metadata["started"] <= metadata["completed"] <= metadata["received"]
    assert result.serial_time > 0 and result.wall_time > 0


def test_every_engine_has_a_namespace_of_its_own(client):
    done(client[0].execute("let only_here = 7;", silent=False)).get()
    assert done(client[0].execute("only_here", silent=False)).get().execute_result["data"]["text/plain"] == "7"
    with pytest.raises(ipyparallel.RemoteError) as caught:
        client[1].execute("only_here", block=True)
    assert "E0425" in "\n".join([caught.value.evalue, caught.value.traceback])


def test_an_error_is_a_remote_error_with_the_line(client):
    with pytest.raises(ipyparallel.RemoteError) as caught:
        client[0].execute('let n = 3;\npanic!("no {n}")', block=True)
    error = caught.value
    assert "no 3" in error.evalue and error.engine_info["engine_id"] == 0
    assert ":2:" in error.traceback
    with pytest.raises(ipyparallel.CompositeError) as caught:
        client[:].execute('panic!("everywhere")', block=True)
    assert len(caught.value.elist) == N


def test_a_python_function_is_refused_clearly(client):
    with pytest.raises(ipyparallel.RemoteError) as caught:
        client[0].apply_sync(os.getpid)
    assert caught.value.ename == "UnsupportedOperation"
    assert caught.value.engine_info["method"] == "apply"


def test_waiting_work_is_aborted_and_running_work_is_left(client):
    engine = client[0]
    first = engine.execute("std::thread::sleep(std::time::Duration::from_millis(1500)); 1", silent=False)
    waiting = engine.execute("2", silent=False)
    engine.abort(waiting, block=True)
    with pytest.raises(ipyparallel.TaskAborted):
        waiting.get(WAIT)
    assert done(first).get().execute_result["data"]["text/plain"] == "1"


def test_queue_status_counts_what_waits_and_what_is_done(client):
    before = client.queue_status(targets=0)
    running = client[0].execute("std::thread::sleep(std::time::Duration::from_millis(800));")
    queued = client[0].execute("1")
    eventually(lambda: client.queue_status(targets=0)["queue"] >= 1, 5, "work in the queue")
    done(running), done(queued)
    eventually(lambda: client.queue_status(targets=0)["queue"] == 0, 5, "an empty queue")
    assert client.queue_status(targets=0)["completed"] == before["completed"] + 2
    assert set(client.queue_status()) == {*range(N), "unassigned"}


def test_the_hub_keeps_records(client):
    result = done(client[1].execute("11 * 11", silent=False, label="eleven"))
    (msg_id,) = result.msg_ids
    assert msg_id in client.hub_history()
    (record,) = client.db_query({"msg_id": msg_id}, keys=["msg_id", "engine_uuid", "completed", "label"])
    assert record["completed"] is not None
    status = client.result_status([msg_id])
    assert status["completed"] == [msg_id] and status["pending"] == []


def test_a_cell_that_kills_its_worker_is_an_error_and_the_engine_stays(client):
    done(client[2].execute("let kept = 9;", silent=False)).get()
    with pytest.raises(ipyparallel.RemoteError) as caught:
        client[2].execute("std::process::abort()", block=True)
    assert "SIGABRT" in caught.value.evalue + caught.value.traceback
    assert done(client[2].execute("kept", silent=False)).get().execute_result["data"]["text/plain"] == "9"
    assert client.ids == list(range(N))


def test_an_engine_that_is_killed_fails_its_work_at_once(home):
    folder = short_folder()
    with Cluster(folder / "profile", home.environ, 2) as cluster:
        client = cluster.client(2)
        pids = [process.pid for process in cluster.processes[1:]]
        result = client[:].execute('println!("started"); loop {}', silent=False)
        eventually(lambda: all("started" in text for text in result.stdout), WAIT, "both engines at work")
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: len(client.ids) == 1, 5, "the dead engine gone from the list")
        client.send_signal(signal.SIGINT, targets=client.ids, block=True)
        with pytest.raises(ipyparallel.CompositeError) as caught:
            result.get(WAIT)
        names = {entry[0] for entry in caught.value.elist}
        assert "EngineError" in names
        client.close()
    remove(folder)


def test_a_second_controller_on_one_profile_says_so(home, cluster):
    done = home.prust("controller", f"--profile-dir={cluster.folder}", "--ip=127.0.0.1", seconds=30)
    assert done.returncode != 0
    assert "alive" in done.stderr and "panicked" not in done.stderr


def test_a_second_engine_of_one_name_says_so_and_ends(home, cluster, client):
    """An engine file is for any number of engines, so what cannot start twice on it is one engine: its name."""
    command = ["engine", f"--file={cluster.file('engine')}", "--uuid=the-only-one"]
    first = cluster.start("the-only-one", [*cluster.engine_command, *command[1:]])
    client.wait_for_engines(N + 1, timeout=WAIT, interactive=False)
    second = home.prust(*command, seconds=30)
    assert second.returncode == 1 and "panicked" not in second.stderr
    for words in ('"the-only-one"', "in use", "--uuid"):
        assert words in second.stderr, second.stderr
    newest = client[max(client.ids)]
    assert done(newest.execute("6 * 7", silent=False)).get().execute_result["data"]["text/plain"] == "42"
    first.terminate()
    assert first.wait(10) == 0
    eventually(lambda: client.ids == list(range(N)), WAIT, "the first one gone")


def test_connection_files_are_for_the_owner_only(cluster):
    for role in ("client", "engine"):
        assert cluster.file(role).stat().st_mode & 0o777 == 0o600


def test_an_engine_without_a_controller_is_a_clear_error(home, tmp_path):
    done = home.prust("engine", f"--file={tmp_path}/none.json", "--timeout=1", seconds=30)
    assert done.returncode != 0 and "none.json" in done.stderr and "panicked" not in done.stderr
