"""Notebooks on a cluster that is not theirs: attach, work, detach, come back."""

import json
import os
import re
import signal
import sys
import time

import ipyparallel as ipp
import psutil
import pytest

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.detached import Detached
from harness.kernel import Kernel
from harness.processes import marked, none_left

N = 2


def results(text):
    """Engine id -> value, as `Out[engine:count]: value` lines give them."""
    return {int(engine): value for engine, value in re.findall(r"Out\[(\d+):\d+\]: (.*)", text)}


def strings(text):
    """The texts of a `Vec<String>` as a cell shows it."""
    return json.loads(text)


@pytest.fixture(scope="module")
def cluster(home, tmp_path_factory):
    with Detached(tmp_path_factory.mktemp("detached"), N) as cluster:
        yield cluster


@pytest.fixture
def attached(cluster, fresh):
    """Starts kernels that are attached to the cluster."""

    def start():
        kernel = fresh()
        shown = kernel.ok(f"%cluster attach {cluster.file}").shown
        assert f"attached to {cluster.file}" in shown and "2 engines" in shown
        return kernel

    return start


def own_engines(kernel):
    """Engines that the kernel has started itself."""
    found = []
    for process in marked(kernel.mark):
        try:
            found += [process] if "engine" in process.cmdline()[1:2] else []
        except psutil.Error:
            continue
    return found


# Work ----------------------------------------------------------------------------------------------------------------


def test_everything_works_there_and_nothing_is_started_here(cluster, attached):
    kernel = attached()
    pids = {engine: str(process.pid) for engine, process in cluster.engines().items()}
    assert results(kernel.ok("%px std::process::id()").shown).keys() == pids.keys()
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view(); let dv = rc.direct_view(..);")
    assert kernel.ok("lv.map(|n: u64| n * n, 0..5u64).get()?").text == "[0, 1, 4, 9, 16]"
    assert kernel.ok("dv.apply(prust::engine_id).get()?").text == str(sorted(pids))
    kernel.ok('dv.push("shared_list", &vec![1u8, 2, 3]).get()?;')
    assert results(kernel.ok("%px shared_list.len()").shown) == dict.fromkeys(pids, "3")
    assert kernel.ok('dv.pull::<Vec<u8>>("shared_list").get()?.len()').text == str(N)
    shown = kernel.ok("%cluster status").shown
    assert str(cluster.file) in shown and "records kept" in shown
    kernel.fails("%px panic!(\"no\")", "CompositeError")
    assert not own_engines(kernel)


def test_two_notebooks_use_the_same_engines_at_once(attached):
    one, other = attached(), attached()
    one.ok("%px let from_one = 11u32;")
    assert set(results(other.ok("%px from_one + 1").shown).values()) == {"12"}
    other.ok("%%px\nlet from_other = vec![1u8, 2];\nfn twice(n: u32) -> u32 { n * 2 }")
    assert set(results(one.ok("%px twice(from_one) + from_other.len() as u32").shown).values()) == {"24"}
    code = "%%px\nlet mut sum = 0u64; for n in 0..2_000_000u64 {{ sum = sum.wrapping_add(n ^ {}); }} sum > 0"
    running = [kernel.send(code.format(n)) for n, kernel in enumerate((one, other), 1)]
    for cell in [run.finish() for run in running]:
        assert cell.status == "ok" and set(results(cell.shown).values()) == {"true"}


def test_a_failure_of_one_notebook_does_not_abort_what_the_other_has_queued(attached):
    one, other = attached(), attached()
    for kernel in (one, other):
        kernel.ok("%px 1")
    first = one.send('%%px\nstd::thread::sleep(std::time::Duration::from_millis(1500)); panic!("mine")')
    first.until(lambda message: message["msg_type"] == "execute_input")
    second = other.send("%px 40 + 2")
    assert "mine" in first.finish().error
    assert set(results(second.finish().shown).values()) == {"42"}


def test_an_interrupt_ends_this_notebooks_work_only(cluster, attached):
    one, other = attached(), attached()
    one.ok("%px let stays = 5;")
    running = one.send('%%px\nprintln!("started"); loop { std::hint::spin_loop(); }')
    running.until_text("started")
    waiting = other.send("%px stays + 1")
    one.interrupt()
    cell = running.finish(seconds=20)
    assert cell.status == "error" and "nterrupt" in cell.error
    assert set(results(waiting.finish().shown).values()) == {"6"}
    assert len(cluster.engines()) == N


def test_cancel_ends_a_map_there(attached):
    kernel = attached()
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view();")
    kernel.ok(
        "let slow = lv.chunksize(1).map("
        "|_: u64| loop { std::thread::sleep(std::time::Duration::from_millis(5)) }, 0..20u64);\n"
        "let slow: AsyncMapResult<()> = slow;"
    )
    assert kernel.ok("let stopped = slow.cancel()?; slow.wait(); slow.successful()?", seconds=60).text == "false"
    assert set(results(kernel.ok("%px 1").shown)) != set()


# Ends ----------------------------------------------------------------------------------------------------------------


def test_detach_leaves_it_running_and_the_notebook_starts_its_own(cluster, attached):
    kernel = attached()
    kernel.ok("%px let kept_over_there = 7;")
    assert "which goes on" in kernel.ok("%cluster detach").shown
    assert "no cluster runs" in kernel.ok("%cluster status").shown
    kernel.fails("%cluster detach", "not attached")
    kernel.ok("%cluster start -n 1")
    assert len(results(kernel.ok("%px 1").shown)) == 1
    assert len(own_engines(kernel)) == 1
    assert len(cluster.engines()) == N
    # Its own is ended when it attaches again; the variables there have stayed.
    kernel.ok(f"%cluster attach {cluster.file}")
    eventually(lambda: not own_engines(kernel), 10, "its own engines ended")
    assert set(results(kernel.ok("%px kept_over_there").shown).values()) == {"7"}


@pytest.mark.parametrize("how", ["shutdown", "restart", "kill"])
def test_the_end_of_a_kernel_ends_nothing_there(cluster, attached, how):
    before = {engine: process.pid for engine, process in cluster.engines().items()}
    kernel = attached()
    kernel.ok("%px 1")
    if how == "restart":
        kernel.restart()
        assert "no cluster runs" in kernel.ok("%cluster status").shown
    elif how == "kill":
        os.kill(kernel.pid, signal.SIGKILL)
        none_left(kernel.mark, 5)
    else:
        kernel.close()
        none_left(kernel.mark, 5)
    assert {engine: process.pid for engine, process in cluster.engines().items()} == before


@pytest.mark.parametrize("command", ["stop", "restart", "start -n 3"])
def test_what_is_about_the_own_cluster_is_refused_and_says_what_to_do(cluster, attached, command):
    kernel = attached()
    kernel.fails(f"%cluster {command}", "%cluster detach", str(cluster.file), "prust cluster stop")
    assert set(results(kernel.ok("%px 1").shown)) == set(cluster.engines())


# What cannot be attached ---------------------------------------------------------------------------------------------


def test_what_leads_nowhere_is_said_in_seconds_and_changes_nothing(cluster, fresh, tmp_path):
    kernel = fresh()
    kernel.ok("%cluster start -n 1")
    kernel.ok("%px let mine = 3;")
    own = re.search(r"connection file (\S+)", kernel.ok("%cluster status").shown)[1]
    kernel.fails(f"%cluster attach {own}", "ClusterError", "the notebook uses")
    kernel.fails('Client::connect_to("default")?', "%cluster attach default")
    good = json.loads(cluster.file.read_text())
    files = {
        "broken": "{",
        "not-one": "{}",
        "wrong-key": json.dumps(good | {"key": "another"}),
        "dead": json.dumps(good | {"registration": 1}),
        "packed": json.dumps(good | {"pack": "pickle"}),
    }
    for name, text in files.items():
        (tmp_path / f"{name}.json").write_text(text)
    expected = {
        "broken.json": "understand connection file",
        "not-one.json": "missing field",
        "wrong-key.json": "did not answer within",
        "dead.json": "no controller listens at",
        "packed.json": "packed by pickle",
        "nowhere.json": "there is no connection file",
        "no-such-profile": "no cluster or profile is called no-such-profile",
    }
    for name, words in expected.items():
        start = time.monotonic()
        kernel.fails(f"%cluster attach {name}", "ClusterError", words)
        assert time.monotonic() - start < 30
        assert set(results(kernel.ok("%px mine").shown).values()) == {"3"}


def test_a_controller_that_ends_fails_what_waits_for_it(home, fresh, tmp_path):
    with Detached(tmp_path, 1) as cluster:
        kernel = fresh()
        kernel.ok(f"%cluster attach {cluster.file}")
        running = kernel.send('%%px\nprintln!("started"); loop { std::hint::spin_loop(); }')
        running.until_text("started")
        cluster.ok("stop")
        cell = running.finish(seconds=60)
        assert cell.status == "error" and "EngineError" in cell.error
        kernel.ok("%cluster detach")
        assert kernel.ok("1 + 1").text == "2"


# A cluster that the notebook starts ----------------------------------------------------------------------------------


def test_start_detach_outlives_its_notebook(home, fresh, tmp_path):
    cluster = Detached(tmp_path, 1, cluster_id="big", start=False)
    with cluster:
        environ = {"IPP_PROFILE_DIR": str(cluster.profile_dir)}
        kernel = fresh(**environ)
        shown = kernel.ok("%cluster start -n 1 --detach --cluster-id big", seconds=120).shown
        assert f"attached to {cluster.file}" in shown and "1 engine" in shown
        kernel.ok("%px let outlives = 9;")
        kernel.fails("%cluster start --detach --cluster-id big", "a cluster runs there already")
        kernel.close()
        assert len(cluster.engines()) == 1
        later = fresh(**environ)
        later.ok("%cluster attach big")
        assert set(results(later.ok("%px outlives").shown).values()) == {"9"}
        cluster.ok("stop")
        none_left(kernel.mark, 10)


# Results by id -------------------------------------------------------------------------------------------------------


def test_a_notebook_that_comes_back_gets_its_results_by_id(attached):
    kernel = attached()
    kernel.ok("fn cube(n: u64) -> u64 { n * n * n }")
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view(); let dv = rc.direct_view(..);")
    kernel.ok("let done = lv.chunksize(3).map(cube, 0..10u64); done.wait();")
    kernel.ok('let texts = dv.apply(|| format!("of {}", prust::engine_id())); texts.wait();')
    slow = "|n: u64| { std::thread::sleep(std::time::Duration::from_millis(1500)); n + 1 }"
    kernel.ok(f"let open = lv.chunksize(1).map({slow}, 0..4u64);")
    kernel.ok('let bad = lv.chunksize(2).map(|n: u64| 100 / n, 0..4u64); bad.wait();')
    kernel.ok("%%px --noblock --out cells\nprintln!(\"printed\"); prust::engine_id() + 50")
    kernel.ok("cells.wait();")
    ids = {name: strings(kernel.ok(f"{name}.msg_ids()").text) for name in ("done", "texts", "open", "bad", "cells")}
    assert [len(ids[name]) for name in ("done", "texts", "open", "bad", "cells")] == [4, N, 4, 2, N]
    os.kill(kernel.pid, signal.SIGKILL)

    back = attached()
    back.ok("let rc = Client::connect()?;")

    def rust(names):
        return json.dumps([identity for name in names for identity in ids[name]])

    assert back.ok(f"rc.get_result::<u64>(&{rust(['done'])}).get()?").text == str([n**3 for n in range(10)])
    assert strings(back.ok(f"rc.get_result::<String>(&{rust(['texts'])}).get()?").text) == ["of 0", "of 1"]
    # Not in the order in which they were submitted, and of several calls.
    mixed = json.dumps([ids["done"][3], ids["done"][0]])
    assert back.ok(f"rc.get_result::<u64>(&{mixed}).get()?").text == "[729, 0, 1, 8]"
    back.ok(f"let open = rc.get_result::<u64>(&{rust(['open'])});")
    assert back.ok("open.get()?").text == "[1, 2, 3, 4]"
    assert back.ok("open.msg_ids().len()").text == "4"
    back.ok(f"let bad = rc.get_result::<u64>(&{rust(['bad'])});")
    assert back.ok("bad.results().iter().filter(|value| value.is_ok()).count()").text == "3"
    back.fails("bad.get()?", "divide by zero")
    back.ok(f"let cells = rc.get_result::<prust::CellReply>(&{rust(['cells'])});")
    assert back.ok('cells.get()?.iter().filter_map(|cell| cell.text()).collect::<Vec<_>>()').text == '["50", "51"]'
    assert back.ok("cells.stdout()").text == '["printed\\n", "printed\\n"]'
    back.ok(f"let status = rc.result_status(&{rust(['done', 'open'])})?;")
    assert back.ok("(status.pending.len(), status.completed.len())").text == "(0, 8)"


def test_a_type_that_was_not_submitted_is_refused(attached):
    kernel = attached()
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view();")
    kernel.ok("let numbers = lv.map(|n: u64| n, 0..3u64); numbers.wait();")
    kernel.fails("rc.get_result::<f64>(&numbers.msg_ids()).get()?", "NotDeserializable", "gives u64, asked for was f64")
    kernel.ok("%%px --out shown\n1")
    kernel.fails("rc.get_result::<u64>(&shown.msg_ids()).get()?", "CellReply")


def test_ids_that_nobody_knows_are_named(attached):
    kernel = attached()
    kernel.ok("let rc = Client::connect()?;")
    kernel.fails('rc.get_result::<u64>(&["made-up"]).get()?', "HubError", "no such message: made-up")
    kernel.fails('rc.result_status(&["made-up"])?', "made-up")


def test_values_of_the_notebooks_own_types_come_back_where_the_type_is_the_same(attached):
    define = (
        "#[derive(Debug, serde::Serialize, serde::Deserialize)]\n"
        "struct Spot { x: i32, name: String }\n"
        "fn spot(x: i32) -> Spot { Spot { x, name: format!(\"s{x}\") } }"
    )
    kernel = attached()
    kernel.ok(define)
    kernel.ok("let rc = Client::connect()?; let spots = rc.load_balanced_view().map(spot, 1..3); spots.wait();")
    ids = kernel.ok("spots.msg_ids()").text
    kernel.close()
    back = attached()
    back.ok("let rc = Client::connect()?;")
    back.ok(define)
    shown = back.ok(f"rc.get_result::<Spot>(&{ids}).get()?").text
    assert 'x: 1' in shown and '"s2"' in shown
    back.ok(define.replace("x: i32, name: String", "name: String, x: i32"))
    back.fails(f"rc.get_result::<Spot>(&{ids}).get()?", "NotDeserializable")


def test_tasks_are_resubmitted_and_forgotten(attached):
    kernel = attached()
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view();")
    kernel.ok("let first = lv.map(|n: u64| n * 10, 0..2u64); first.wait();")
    kernel.ok("let again = rc.resubmit(&first.msg_ids())?;")
    assert kernel.ok("again.len() == first.msg_ids().len() && again != first.msg_ids()").text == "true"
    assert kernel.ok("rc.get_result::<u64>(&again).get()?").text == "[0, 10]"
    kernel.ok("rc.purge_results(&again)?;")
    kernel.fails("rc.get_result::<u64>(&again).get()?", "no such message")


def test_work_of_an_earlier_session_can_be_cancelled(cluster, attached):
    kernel = attached()
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view();")
    forever = "|_: u64| -> u64 { loop { std::thread::sleep(std::time::Duration::from_millis(5)) } }"
    kernel.ok(f"let left = lv.chunksize(1).map({forever}, 0..4u64);")
    ids = kernel.ok("left.msg_ids()").text
    os.kill(kernel.pid, signal.SIGKILL)
    back = attached()
    back.ok("let rc = Client::connect()?;")
    back.ok(f"let left = rc.get_result::<u64>(&{ids}); left.cancel()?;")
    assert back.ok("left.wait(); left.progress()", seconds=60).text == "4"
    assert set(results(back.ok("%px 1").shown)) == set(cluster.engines())


# A stock controller --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(home, tmp_path_factory):
    """A stock ipcontroller with two of our engines and one of Python's."""
    controller = [sys.executable, "-m", "ipyparallel.controller", "--ping=250"]
    with Cluster(tmp_path_factory.mktemp("stock") / "profile", dict(os.environ), 2, controller=controller) as cluster:
        command = [sys.executable, "-m", "ipyparallel.engine", f"--file={cluster.file('engine')}"]
        cluster.start("python-engine", [*command, f"--profile-dir={cluster.folder}"])
        with ipp.Client(str(cluster.file("client")), timeout=20) as client:
            client.wait_for_engines(3, timeout=60, interactive=False)
        yield cluster


def test_our_engines_work_under_a_stock_controller_and_pythons_are_left_alone(stock, fresh):
    kernel = fresh()
    shown = kernel.ok(f"%cluster attach {stock.file('client')}", seconds=60).shown
    assert "This is a stock controller" in shown and "ipython: views take Rust engines only" in shown
    python = int(re.search(r"^ *(\d+) .*ipython", shown, re.MULTILINE)[1])
    rust = {0, 1, 2} - {python}
    assert set(results(kernel.ok("%px prust::engine_id()").shown)) == rust
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view(); let dv = rc.direct_view(..);")
    assert kernel.ok("rc.ids()").text == str(sorted(rust))
    assert kernel.ok("lv.chunksize(1).map(|n: u64| n + 1, 0..20u64).get()?").text == str(list(range(1, 21)))
    assert kernel.ok("dv.map(|n: u64| n + 1, 0..5u64).get()?").text == "[1, 2, 3, 4, 5]"
    kernel.fails(f"%px -t {python} 1", "Rust engines only", "ipython")
    kernel.fails(f"rc.direct_view({python}).apply(prust::engine_id).get()?", "ipython")
    ids = kernel.ok("let kept = lv.chunksize(2).map(|n: u64| n * 2, 0..5u64); kept.wait(); kept.msg_ids()").text
    kernel.close()
    back = fresh()
    back.ok(f"%cluster attach {stock.file('client')}", seconds=60)
    back.ok("let rc = Client::connect()?;")
    assert back.ok(f"rc.get_result::<u64>(&{ids}).get()?").text == "[0, 2, 4, 6, 8]"
    assert back.ok(f"rc.result_status(&{ids})?.completed.len()").text == "3"


def test_a_stock_controller_goes_on_when_its_notebook_ends(stock, home, tmp_path):
    with Kernel(cwd=tmp_path) as kernel:
        kernel.ok(f"%cluster attach {stock.file('client')}", seconds=60)
        kernel.ok("%px 1")
    with ipp.Client(str(stock.file("client")), timeout=20) as client:
        assert len(client.ids) == 3
