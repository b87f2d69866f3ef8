"""The connection between a notebook and the controller it is attached to is cut while it works: nothing is lost, nothing comes twice."""

import json
import re

import pytest

from harness.deadline import eventually
from harness.detached import Detached
from harness.proxy import Proxy

N_TASKS = 10_000
# A task and its reply are a little more than this together.
TASK_BYTES = 1500


def results(text):
    """Engine id -> value, as `Out[engine:count]: value` lines give them."""
    return {int(engine): value for engine, value in re.findall(r"Out\[(\d+):\d+\]: (.*)", text)}


@pytest.fixture(scope="module")
def cluster(home, tmp_path_factory):
    with Detached(tmp_path_factory.mktemp("cut"), 2) as cluster:
        yield cluster


@pytest.fixture
def network(cluster, tmp_path):
    with Proxy(cluster.file, tmp_path / "client.json") as proxy:
        proxy.file = tmp_path / "client.json"
        yield proxy


def test_every_task_ends_once_with_its_value_though_the_connection_is_cut(network, fresh):
    kernel = fresh()
    kernel.ok(f"%cluster attach {network.file}")
    kernel.ok(
        "let rc = Client::connect()?; let lv = rc.load_balanced_view();\n"
        "fn square(n: u64) -> u64 { n * n }\n"
        "lv.apply_with(1u64, square).get()?;"
    )
    begin = network.n_bytes
    running = kernel.send(f"let squares = lv.chunksize(1).map(square, 0..{N_TASKS}u64).get()?; squares.len()")
    for part in (1, 2, 3):
        enough = begin + part * N_TASKS * TASK_BYTES // 4
        eventually(lambda: network.n_bytes > enough, 60, "work over the network")
        network.cut()
    cell = running.finish(300)
    assert cell.status == "ok", cell.error
    assert cell.text == str(N_TASKS)
    right = "squares.iter().enumerate().all(|(at, square)| *square == (at * at) as u64)"
    assert kernel.ok(right).text == "true"


def test_a_call_and_a_cell_go_on_after_a_cut(network, fresh):
    kernel = fresh()
    kernel.ok(f"%cluster attach {network.file}")
    kernel.ok("let rc = Client::connect()?; let dv = rc.direct_view(..);")
    assert kernel.ok("dv.apply(|| 1 + 1).get()?").text == "[2, 2]"
    for _ in range(3):
        network.cut()
        assert kernel.ok("dv.apply(|| 20 + 1).get()?").text == "[21, 21]"
        assert json.loads(kernel.ok("dv.apply(|| 30u8).get()?").text) == [30, 30]


def test_a_cell_that_was_lost_on_the_way_runs_once(network, fresh):
    kernel = fresh()
    kernel.ok(f"%cluster attach {network.file}")
    kernel.ok("%%px\nlet mut n = 1; n")
    network.lose()
    running = kernel.send("%%px\nn += 1; n")
    eventually(lambda: network.lost.count(b"execute_request") >= 2, 60, "the cell on its way to both engines")
    network.cut()
    cell = running.finish(120)
    assert cell.status == "ok", cell.error
    assert results(cell.shown) == {0: "2", 1: "2"}
    assert results(kernel.ok("%%px\nn").shown) == {0: "2", 1: "2"}
