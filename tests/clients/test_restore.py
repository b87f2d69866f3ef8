"""A controller that is killed and started again with --restore, under engines of both kinds and a stock Client."""

import sqlite3
import sys

import ipyparallel
import pytest

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import binary, remove, short_folder

WAIT = 60
RUST, OTHER_RUST, PYTHON = range(3)


def text_of(reply):
    return reply.execute_result["data"]["text/plain"]


def shown(result):
    """What one cell shows, which comes apart from its reply."""
    reply = result.get(timeout=WAIT)
    assert result.wait_for_output(WAIT)
    return text_of(reply)


class Run:
    """One cluster, the work that was done on it, and its controller killed and started again."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.store = cluster.file("client").with_name("tasks.db")
        self.controller = cluster.processes[0]
        self.engines = []
        self.before = self.connect()
        for command in [cluster.engine_command] * 2 + [[sys.executable, "-m", "ipyparallel.engine"]]:
            name = f"engine-{len(self.engines)}"
            files = [f"--file={cluster.file('engine')}", f"--profile-dir={cluster.folder}"]
            self.engines.append(cluster.start(name, [*command, *files]))
            self.before.wait_for_engines(len(self.engines), timeout=WAIT, interactive=False)
        self.uuids = dict(self.before._engines)
        self.work(self.before)
        eventually(self.is_saved, WAIT, "the work in the store")
        self.controller.kill()
        self.controller.wait()
        self.controller = cluster.start_controller()
        self.after = self.connect()
        self.after.wait_for_engines(len(self.engines), timeout=WAIT, interactive=False)

    def connect(self):
        return ipyparallel.Client(str(self.cluster.file("client")), timeout=WAIT)

    def work(self, client):
        client[RUST].execute("let kept = 99;", block=True)
        self.printed = client[RUST].execute('println!("printed"); kept - 9', silent=False)
        self.everywhere = client.broadcast_view().execute("6 * 7", silent=False)
        self.as_one = client.broadcast_view([PYTHON], is_coalescing=True).apply_async(abs, -3)
        self.task = client.load_balanced_view(targets=[PYTHON]).apply_async(abs, -5)
        with pytest.raises(ipyparallel.RemoteError):
            client[PYTHON].execute("1 / 0", block=True)
        for result in [self.printed, self.everywhere, self.as_one, self.task]:
            result.get(timeout=WAIT)
        self.failed = client.history[-1]
        self.open = client[OTHER_RUST].execute("std::thread::sleep(std::time::Duration::from_secs(600));")
        self.history = client.hub_history()
        self.records = client.db_query({"completed": {"$ne": None}}, keys=KEYS)

    def is_saved(self):
        cells = [*self.printed.msg_ids, *self.everywhere.msg_ids]
        finished = [*cells, *self.as_one.msg_ids, *self.task.msg_ids, self.failed]
        with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True) as store:
            saved = dict(store.execute("SELECT msg_id, reply_header IS NOT NULL FROM records"))
            shown = {id for (id,) in store.execute("SELECT msg_id FROM records WHERE execute_result IS NOT NULL")}
            (printed,) = store.execute("SELECT stdout FROM records WHERE msg_id = ?", self.printed.msg_ids).fetchone()
            (n_engines,) = store.execute("SELECT count(*) FROM engines").fetchone()
        is_there = all(saved.get(id) for id in finished) and saved.get(self.open.msg_ids[0]) == 0
        return is_there and shown.issuperset(cells) and printed == "printed\n" and n_engines == len(self.engines)

    def close(self):
        self.before.close()
        self.after.close()


KEYS = ["msg_id", "queue", "engine_uuid", "submitted", "completed", "header", "content", "result_content", "label"]


@pytest.fixture(scope="module")
def run(home):
    folder = short_folder()
    controller = [str(binary()), "controller", "--reuse", "--restore", "--sqlitedb", "--ping=1000"]
    with Cluster(folder / "profile", home.environ, 0, controller=controller) as cluster:
        run = Run(cluster)
        yield run
        run.close()
    remove(folder)


def test_the_engines_come_back_under_their_numbers(run):
    assert all(engine.poll() is None for engine in run.engines)
    assert run.after.ids == [RUST, OTHER_RUST, PYTHON]
    assert run.after._engines == run.uuids
    assert run.store.stat().st_mode & 0o777 == 0o600


def test_results_of_before_are_found_by_their_ids(run):
    client = run.after
    printed = client.get_result(run.printed.msg_ids)
    assert [text_of(reply) for reply in printed.get(timeout=WAIT)] == ["90"]
    assert printed.stdout == ["printed\n"]
    (child, *_) = run.everywhere.msg_ids
    assert child.endswith(tuple(run.uuids.values()))
    everywhere = client.get_result(run.everywhere.msg_ids).get(timeout=WAIT)
    assert [text_of(reply) for reply in everywhere] == ["42"] * len(run.engines)
    assert client.get_result(run.as_one.msg_ids[0]).get(timeout=WAIT) == 3
    assert client.get_result(run.task.msg_ids[0]).get(timeout=WAIT) == 5
    with pytest.raises(ipyparallel.RemoteError) as caught:
        client.get_result(run.failed).get(timeout=WAIT)
    assert caught.value.ename == "ZeroDivisionError"


def test_what_was_open_says_so(run):
    with pytest.raises(ipyparallel.RemoteError) as caught:
        run.after.get_result(run.open.msg_ids[0]).get(timeout=WAIT)
    assert caught.value.ename == "EngineError"
    assert "the controller was restarted" in caught.value.evalue


def test_queries_say_the_same_as_before(run):
    assert run.after.hub_history()[: len(run.history)] == run.history
    ids = [record["msg_id"] for record in run.records]
    assert run.after.db_query({"msg_id": {"$in": ids}}, keys=KEYS) == run.records
    broadcast = run.after.db_query({"queue": "broadcast", "engine_uuid": {"$ne": None}}, keys=["msg_id"])
    assert {record["msg_id"] for record in broadcast} == set(run.everywhere.msg_ids)


def test_new_work_runs_and_the_engines_have_what_they_had(run):
    for client in [run.after, run.before]:
        assert shown(client[RUST].execute("kept", silent=False)) == "99"
    # It was asked to drop what nobody waits for any more.
    assert shown(run.after[OTHER_RUST].execute("1 + 1", silent=False)) == "2"
    view = run.after.load_balanced_view()
    with view.temp_flags(follow=run.task.msg_ids):
        assert view.apply_async(abs, -7).get(timeout=WAIT) == 7
