"""Our engines under a stock ipcontroller, driven by a stock Python Client: what ipyparallel's own tests ask of an engine,
with Rust in the place of Python."""

import os
import signal
import sys

import ipyparallel
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from ipyparallel.error import AlreadyDisplayedError, CompositeError, RemoteError, TaskAborted
from traitlets.config import Config

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import remove, short_folder

N = 3
WAIT = 60
STOCK = [sys.executable, "-m", "ipyparallel.controller"]
SLEEP = "std::thread::sleep(std::time::Duration::from_millis({}));"


class Served:
    """A stock controller with our engines, and a client of it."""

    def __init__(self, home, n, *controller_options):
        self.folder = short_folder()
        self.cluster = Cluster(self.folder / "profile", home.environ, n, controller=[*STOCK, *controller_options])

    def __enter__(self):
        self.cluster.__enter__()
        self.client = self.connect()
        self.client.wait_for_engines(self.cluster.n, timeout=WAIT, interactive=False)
        return self

    def connect(self):
        return ipyparallel.Client(str(self.cluster.file("client")), timeout=20)

    def __exit__(self, *_):
        self.client.close()
        self.cluster.__exit__()
        remove(self.folder)


@pytest.fixture(scope="module")
def served(home):
    with Served(home, N, "--ping=250") as served:
        yield served


@pytest.fixture
def client(served):
    """The module's client; every test finds the engines without variables."""
    served.client.clear(block=True)
    return served.client


@pytest.fixture
def few(home):
    """Two engines that a test may do away with."""
    with Served(home, 2, "--ping=250") as served:
        yield served


def done(result, seconds=WAIT):
    """Waits for a result and for its output, whatever the outcome: they come by different sockets."""
    result.wait(seconds)
    assert result.done(), "not done in time"
    assert result.wait_for_output(10), "its output did not end in time"
    return result


def run(view, code):
    return done(view.execute(code, silent=False))


def texts(result):
    """What the targets' cells show as their values."""
    replies = result.get()
    replies = replies if isinstance(replies, list) else [replies]
    return [reply.execute_result["data"]["text/plain"] for reply in replies]


def uuids(client, *ids):
    return [client._engines[engine] for engine in ids]


def task(client, code, **metadata):
    """A cell sent to the task port, where the scheduler finds an engine for it: our client does that for Rust."""
    future = client.send_execute_request(client._task_stream, code, silent=False, metadata=metadata)
    return ipyparallel.AsyncResult(client, future, fname="task", owner=True)


# registration and heartbeats


def test_engines_register_and_say_so(served, client):
    assert client.ids == list(range(N)) and len(client) == N
    logs = [(served.cluster.folder / f"engine-{n}.log").read_text() for n in range(1, N + 1)]
    assert sorted(log.count("Completed registration with id") for log in logs) == [1] * N
    assert [view.targets for view in client] == list(range(N))


def test_an_engine_that_beats_no_more_is_given_up_and_the_others_stay(few):
    (stopped, other) = few.client.ids
    pid = int(texts(run(few.client[stopped], "std::os::unix::process::parent_id()"))[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: few.client.ids == [other], WAIT, "the notice of the engine that does not beat")
    finally:
        os.kill(pid, signal.SIGKILL)
    assert texts(run(few.client[other], "1 + 1")) == ["2"]


# cells on several engines


def test_a_cell_runs_on_every_engine_in_a_namespace_of_its_own(client):
    run(client[:], "let base = 40 + prust::engine_id();").get()
    assert texts(run(client[:], "base + 2")) == ["42", "43", "44"]
    assert texts(run(client[::2], "base")) == ["40", "42"]
    run(client[0], "let only_here = 1;").get()
    with pytest.raises(RemoteError) as caught:
        run(client[1], "only_here").get()
    assert caught.value.ename == "CompileError(E0425)"


def test_a_reply_is_as_views_show_it(client):
    (reply,) = run(client[:1], "5").get()
    assert reply.status == "ok" and reply.execution_count >= 1
    assert repr(reply) == f"<ExecuteReply[{reply.execution_count}]: 5>"
    silent = done(client[0].execute("5", silent=True))
    assert silent.get().execute_result is None and silent.outputs == []


def test_output_arrives_by_its_stream_and_in_order(client):
    result = run(client[:], 'for n in 0..3 { println!("out {n}"); eprintln!("err {n}"); }')
    result.get()
    assert result.stdout == ["out 0\nout 1\nout 2\n"] * N
    assert result.stderr == ["err 0\nerr 1\nerr 2\n"] * N


def test_displays_are_mime_bundles(client):
    result = run(client[:], 'prust::display(&prust::html("<b>bold</b>")); prust::display(&prust::html("<i>it</i>"));')
    for outputs in result.outputs:
        assert [output["data"]["text/html"] for output in outputs] == ["<b>bold</b>", "<i>it</i>"]
    (reply,) = run(client[:1], 'prust::svg("<svg/>")').get()
    assert reply.execute_result["data"]["image/svg+xml"] == "<svg/>"


def test_text_of_any_language_survives(client):
    result = run(client[0], 'let grüße = "čćž ✓"; println!("{grüße}"); grüße')
    assert texts(result) == ['"čćž ✓"'] and result.stdout == "čćž ✓\n"


def test_times_and_labels_are_kept(client):
    result = done(client[:].execute(SLEEP.format(50), silent=False, label="nap"))
    for metadata in result.metadata:
        assert metadata["status"] == "ok" and metadata["label"] == "nap"
        assert metadata["submitted"] <= metadata["started"] <= metadata["completed"] <= metadata["received"]
        assert metadata["engine_uuid"] == client._engines[metadata["engine_id"]]
    assert result.serial_time >= 0.05 * N and result.wall_time >= 0.05
    assert result.progress == len(result) == N and result.elapsed >= result.wall_time
    assert [part.engine_id for part in result.split()] == client.ids


def test_a_file_of_rust_runs(client, tmp_path):
    (tmp_path / "square.rs").write_text("fn square(n: u64) -> u64 { n * n }\nlet nine = square(3);")
    done(client[:].run(str(tmp_path / "square.rs"))).get()
    assert texts(run(client[:], "nine")) == ["9"] * N


@pytest.mark.parametrize("is_coalescing", [False, True])
def test_a_broadcast_runs_everywhere(client, is_coalescing):
    view = client.broadcast_view(is_coalescing=is_coalescing)
    done(view.execute("let cast = prust::engine_id();", silent=False)).get()
    assert sorted(texts(run(client[:], "cast"))) == ["0", "1", "2"]
    with pytest.raises(RemoteError) as caught:
        done(view.execute('panic!("everywhere")')).get()
    assert "everywhere" in str(caught.value)


# errors


def test_a_cell_that_does_not_compile_is_a_remote_error_with_rustcs_words(client):
    with pytest.raises(RemoteError) as caught:
        run(client[0], "let known = 1;\nunknown").get()
    error = caught.value
    assert error.ename == "CompileError(E0425)" and "unknown" in error.evalue
    assert error.engine_info["engine_id"] == 0 and error.engine_info["method"] == "execute"
    shown = "\n".join(error.render_traceback())
    assert "2" in shown and "unknown" in shown and "E0425" in shown
    assert str(error).startswith("[0:execute]")


def test_a_panic_is_a_remote_error_with_its_place(client):
    with pytest.raises(RemoteError) as caught:
        run(client[1], 'let n = 3;\npanic!("no {n}")').get()
    assert caught.value.evalue == "no 3" and str(caught.value).startswith("[1:execute] ")
    assert ":2:" in "\n".join(caught.value.render_traceback())


def test_errors_of_several_engines_are_one_that_shows_some(client, monkeypatch):
    with pytest.raises(CompositeError) as caught:
        run(client[:], 'if prust::engine_id() > 0 { panic!("on {}", prust::engine_id()) }').get()
    assert [evalue for _, evalue, _, _ in caught.value.elist] == ["on 1", "on 2"]
    monkeypatch.setattr(CompositeError, "tb_limit", 1)
    assert "[1:execute]" in str(caught.value) and "1 more exceptions" in str(caught.value)
    shown = "\n".join(caught.value.render_traceback())
    assert "on 1" in shown and "on 2" not in shown and "... 1 more exceptions ..." in shown
    with pytest.raises(RemoteError) as one:
        caught.value.raise_exception(1)
    assert one.value.evalue == "on 2"


def test_a_python_function_is_refused_clearly(client):
    with pytest.raises(RemoteError) as caught:
        client[0].apply_sync(os.getpid)
    assert caught.value.ename == "UnsupportedOperation" and "Rust" in caught.value.evalue
    assert caught.value.engine_info["method"] == "apply"
    assert texts(run(client[0], "1")) == ["1"]


# the task port


def test_cells_are_spread_over_the_engines(client):
    results = [task(client, SLEEP.format(200) + " prust::engine_id()") for _ in range(2 * N)]
    ran_on = [int(*texts(done(result))) for result in results]
    assert set(ran_on) == set(range(N))
    assert [result.engine_id for result in results] == ran_on


def test_a_task_runs_where_and_when_it_was_told_to(client):
    here = done(task(client, "prust::engine_id()", targets=uuids(client, 2)))
    assert texts(here) == ["2"]
    first = task(client, SLEEP.format(300) + " prust::engine_id()", targets=uuids(client, 1))
    after = task(client, "1", after=first.msg_ids)
    follow = task(client, "prust::engine_id()", follow=first.msg_ids)
    assert texts(done(follow)) == ["1"]
    assert done(after).metadata["started"] >= done(first).metadata["completed"]


def test_dependencies_that_cannot_be_met_are_errors(client):
    failed = done(task(client, 'panic!("first")'))
    for metadata, ename in [
        ({"after": failed.msg_ids}, "ImpossibleDependency"),
        ({"after": ["nobody"]}, "InvalidDependency"),
    ]:
        with pytest.raises(RemoteError) as caught:
            task(client, "1", **metadata).get(WAIT)
        assert caught.value.ename == ename
    dependency = {"dependencies": failed.msg_ids, "all": True, "success": False, "failure": True}
    assert texts(done(task(client, "1", after=dependency))) == ["1"]


def test_a_failed_task_is_tried_on_other_engines(client):
    code = 'if prust::engine_id() != 2 { panic!("not here") } let tried_at = prust::engine_id(); println!("{tried_at}");'
    result = done(task(client, code, retries=N))
    (reply,) = result.get() if isinstance(result.get(), list) else [result.get()]
    # Not what it shows: a stock controller passes on what each attempt publishes, the end of a failed attempt's output is to
    # a stock client the end of the task's, and with the reply it lets go of what comes after that.
    assert reply.status == "ok" and reply.metadata["engine_id"] == 2
    assert texts(run(client[2], "tried_at")) == ["2"]
    with pytest.raises(RemoteError) as caught:
        task(client, 'panic!("nowhere")', retries=1).get(WAIT)
    assert caught.value.evalue == "nowhere"


def test_a_task_that_waits_too_long_is_given_up(client):
    first = task(client, SLEEP.format(1500), targets=uuids(client, 0))
    with pytest.raises(RemoteError) as caught:
        task(client, "1", after=first.msg_ids, timeout=0.2).get(WAIT)
    assert caught.value.ename == "TaskTimeout"
    done(first).get()


# control: abort, clear, signals, shutdown


def test_what_has_not_started_is_aborted_and_what_runs_is_left(client):
    running = client[0].execute(SLEEP.format(1000) + " 1", silent=False)
    waiting = [client[0].execute(f"let gone_{n} = {n};", silent=False) for n in range(3)]
    client.abort(waiting[:2], block=True)
    for result in waiting[:2]:
        with pytest.raises(TaskAborted):
            result.get(WAIT)
    assert texts(done(running)) == ["1"]
    assert done(waiting[2]).get().status == "ok"
    assert texts(run(client[0], "gone_2")) == ["2"]


def test_all_that_waits_can_be_aborted(client):
    view = client[:]
    running = view.execute('println!("at it"); ' + SLEEP.format(1000), silent=False)
    waiting = [view.execute("1", silent=False) for _ in range(3)]
    eventually(lambda: running.stdout == ["at it\n"] * N, WAIT, "all engines at work")
    view.abort(block=True)
    for result in waiting:
        # A client raises the abortion of one message only; of several it returns what became of each.
        assert [type(one) for one in result.get(WAIT)] == [TaskAborted] * N
    done(running).get()


def test_cleared_engines_know_no_names(client):
    run(client[:], "let kept = 1; fn f() -> i32 { 1 }").get()
    client.clear(targets=[0], block=True)
    with pytest.raises(RemoteError) as caught:
        run(client[0], "kept").get()
    assert "E0425" in caught.value.ename
    assert texts(run(client[1:], "kept + f()")) == ["2"] * (N - 1)


def test_a_signal_interrupts_what_runs_and_costs_no_variable(client):
    run(client[:], "let kept = 7;").get()
    result = client[:].execute('println!("at it"); loop { std::hint::spin_loop() }', silent=False)
    eventually(lambda: result.stdout == ["at it\n"] * N, WAIT, "all engines at work")
    client.send_signal("SIGINT", block=True)
    with pytest.raises(CompositeError) as caught:
        done(result).get()
    assert [ename for ename, _, _, _ in caught.value.elist] == ["Interrupted"] * N
    assert texts(run(client[:], "kept")) == ["7"] * N


def test_an_engine_that_is_shut_down_ends_in_order(few):
    (first, second) = few.client.ids
    few.client.shutdown(targets=[first], block=True)
    eventually(lambda: few.client.ids == [second], WAIT, "the notice")
    engines = few.cluster.processes[1:]
    eventually(lambda: 0 in [engine.poll() for engine in engines], WAIT, "the engine's end")
    assert texts(run(few.client[second], "1")) == ["1"]
    (left,) = [engine for engine in engines if engine.poll() is None]
    left.terminate()
    eventually(lambda: few.client.ids == [], WAIT, "the notice of the one that was terminated")
    assert left.wait(10) == 0


# crashes


def test_a_cell_that_takes_its_process_along_is_its_own_error(client):
    run(client[0], "let kept = 9;").get()
    with pytest.raises(RemoteError) as caught:
        run(client[0], "std::process::abort()").get()
    assert caught.value.ename == "SIGABRT"
    assert texts(run(client[0], "kept")) == ["9"]
    with pytest.raises(RemoteError) as caught:
        task(client, "std::process::exit(3)").get(WAIT)
    assert caught.value.ename == "Exit"
    assert client.ids == list(range(N))


def test_a_killed_engine_is_noticed_before_its_heart_is_missed(home):
    with Served(home, 2) as served:
        client = served.client
        victim, other = client.ids
        pid = int(texts(run(client[victim], "std::os::unix::process::parent_id()"))[0])
        code = 'println!("at it"); loop { std::hint::spin_loop() }'
        direct = client[victim].execute(code, silent=False)
        eventually(lambda: direct.stdout == "at it\n", WAIT, "the engine at work")
        os.kill(pid, signal.SIGKILL)
        # Their heart monitor needs ten missed beats of three seconds; the nanny tells at once.
        with pytest.raises(RemoteError) as caught:
            direct.get(timeout=15)
        assert caught.value.ename == "EngineError"
        eventually(lambda: client.ids == [other], 15, "the notice")
        with pytest.raises(IndexError):
            client[victim]
        served.cluster.start_engine()
        client.wait_for_engines(2, timeout=WAIT, interactive=False)
        assert texts(run(client[:], "6 * 7")) == ["42", "42"]


# what the hub knows


def test_the_queues_are_counted(client):
    before = client.queue_status(targets=0)
    running = client[0].execute('println!("at it"); ' + SLEEP.format(1000), silent=False)
    queued = client[0].execute("1", silent=False)
    eventually(lambda: client.queue_status(targets=0)["queue"] == 2, WAIT, "two in the queue")
    done(running).get(), done(queued).get()
    eventually(lambda: client.queue_status(targets=0)["queue"] == 0, WAIT, "an empty queue")
    after = client.queue_status(targets=0, verbose=True)
    assert len(after["completed"]) == before["completed"] + 2
    assert set(client.queue_status()) == {*range(N), "unassigned"}


def test_records_are_kept_asked_for_and_purged(served, client):
    result = run(client[1], 'println!("said"); 11 * 11')
    (msg_id,) = result.msg_ids
    eventually(lambda: client.result_status([msg_id])["completed"] == [msg_id], WAIT, "its record")
    keys = ["msg_id", "engine_uuid", "started", "completed", "stdout", "execute_result", "result_content"]
    (record,) = client.db_query({"msg_id": msg_id}, keys=keys)
    assert record["engine_uuid"] == client._engines[1] and record["started"] <= record["completed"]
    assert record["stdout"] == "said\n" and record["result_content"]["status"] == "ok"
    assert record["execute_result"]["data"]["text/plain"] == "121"
    assert msg_id in client.hub_history()
    other = served.connect()
    try:
        (again,) = other.get_result([msg_id]).get(WAIT)
        assert again.execute_result["data"]["text/plain"] == "121"
    finally:
        other.close()
    client.purge_hub_results("all")
    assert client.hub_history() == []


def test_a_task_is_resubmitted_from_its_record(client):
    first = done(task(client, "6 * 7"))
    eventually(lambda: client.result_status(first.msg_ids)["completed"], WAIT, "its record")
    again = client.resubmit(first.msg_ids)
    again.get(WAIT)
    (msg_id,) = again.msg_ids
    assert msg_id not in first.msg_ids

    def shown():
        (record,) = client.db_query({"msg_id": msg_id}, keys=["execute_result"])
        return record["execute_result"]

    assert eventually(shown, WAIT, "what it showed")["data"]["text/plain"] == "42"


def test_an_errors_record_says_what_happened(client):
    failed = run(client[0], 'panic!("for the record")')
    (msg_id,) = failed.msg_ids

    def recorded():
        (record,) = client.db_query({"msg_id": msg_id}, keys=["error", "result_content"])
        return record["error"] and record["result_content"] and record

    record = eventually(recorded, WAIT, "the record of the error")
    assert record["error"]["evalue"] == record["result_content"]["evalue"] == "for the record"


# the magics of IPython


@pytest.fixture
def shell(client):
    """An IPython shell whose `%px` means every engine."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    view = client[:]
    view.block = True
    view.activate()
    with shell.builtin_trap:
        yield shell
    InteractiveShell.clear_instance()


def test_px_prints_and_shows_what_every_engine_does(shell, client):
    with capture_output() as shown:
        shell.run_line_magic("px", "let a = 20 + prust::engine_id();")
        shell.run_cell_magic("px", "", 'println!("a is {a}");\na + 1')
    for engine in range(N):
        assert f"[stdout:{engine}]" in shown.stdout and f"a is {20 + engine}" in shown.stdout
        outputs = [output.data["text/plain"] for output in shown.outputs]
        assert any(f"Out[{engine}:" in text and text.endswith(str(21 + engine)) for text in outputs), outputs
    assert texts(run(client[:], "a")) == ["20", "21", "22"]


@pytest.mark.parametrize("order", ["type", "engine", "order"])
def test_px_groups_what_it_shows(shell, order):
    with capture_output() as shown:
        shell.run_cell_magic("px", f"--group-outputs={order} --no-stream", 'println!("one"); eprintln!("two"); 3')
    for engine in range(N):
        assert f"[stdout:{engine}]" in shown.stdout and f"[stderr:{engine}]" in shown.stderr
    assert shown.stdout.count("one") == N and shown.stderr.count("two") == N


def test_px_hands_its_result_over_and_recalls_it(shell):
    shell.run_cell_magic("px", "--noblock -o later", 'println!("later"); 5')
    assert texts(done(shell.user_ns["later"])) == ["5"] * N
    with capture_output() as shown:
        shell.run_line_magic("pxresult", "")
    assert shown.stdout.count("later") == N
    shell.run_cell_magic("px", "--targets 1 -o one", "prust::engine_id()")
    assert texts(done(shell.user_ns["one"])) == ["1"]


def test_px_raises_what_the_engines_raise(shell):
    with capture_output(), pytest.raises(AlreadyDisplayedError) as caught:
        shell.run_cell_magic("px", "", 'panic!("not here")')
    assert [evalue for _, evalue, _, _ in caught.value.original_error.elist] == ["not here"] * N
    with pytest.raises(CompositeError):
        shell.run_cell_magic("px", "--no-stream", 'panic!("not here")')


def test_autopx_sends_every_cell_to_the_engines(shell, client):
    # IPython parses a cell before it gives it away, so it has to be Python, too.
    counter = "static SUM: AtomicU32 = AtomicU32::new(0); fn add(n: u32) { SUM.fetch_add(n, Ordering::SeqCst); }"
    run(client[:], f"use std::sync::atomic::{{AtomicU32, Ordering}}; {counter}").get()
    with capture_output():
        shell.run_line_magic("autopx", "")
        shell.run_cell("add(8)")
        shell.run_cell("%autopx")
        shell.run_cell("here = 3")
    assert texts(run(client[:], "SUM.load(Ordering::SeqCst)")) == ["8"] * N
    assert shell.user_ns["here"] == 3
