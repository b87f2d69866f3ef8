"""Parallel magics and calls in a notebook, on four engines: options, outputs, one rustc run, lost engines."""

import re
import time
import signal

import psutil
import pytest

from harness.deadline import eventually
from harness.kernel import Kernel
from harness.processes import marked, resident_bytes
from harness.toolchain import Toolchain

N = 4


@pytest.fixture(scope="module")
def toolchain(home, tmp_path_factory):
    """The installed toolchain behind a rustc that writes down each of its calls."""
    return Toolchain(tmp_path_factory.mktemp("toolchain") / "copy", environ=home.environ)


@pytest.fixture(scope="module")
def kernel(home, toolchain, tmp_path_factory):
    with Kernel(cwd=tmp_path_factory.mktemp("notebook"), **toolchain.environ) as kernel:
        kernel.ok(f"%cluster start -n {N}", seconds=180)
        kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view(); let dv = rc.direct_view(..);")
        yield kernel


@pytest.fixture(autouse=True)
def default_options(request):
    """Leaves %pxconfig as it was found."""
    yield
    if "kernel" in request.fixturenames:
        request.getfixturevalue("kernel").ok("%pxconfig --block --targets all")


def results(text):
    """Engine id -> value, as `Out[engine:count]: value` lines give them."""
    return {int(engine): value for engine, value in re.findall(r"Out\[(\d+):\d+\]: (.*)", text)}


def prints(text):
    return {int(engine): line for engine, line in re.findall(r"\[stdout:(\d+)\] ?(.*)", text)}


# Magics --------------------------------------------------------------------------------------------------------------


def test_px_runs_a_line_on_every_engine(kernel):
    cell = kernel.ok("%px prust::engine_id() * 2")
    assert results(cell.shown) == {engine: str(engine * 2) for engine in range(N)}


def test_a_parallel_cell_prints_live_with_its_engine(kernel):
    cell = kernel.ok('%%px\nprintln!("out of {}", prust::engine_id());\neprintln!("err of {}", prust::engine_id());')
    assert prints(cell.shown) == {engine: f"out of {engine}" for engine in range(N)}
    for engine in range(N):
        assert re.search(rf"\[stderr:{engine}\] ?err of {engine}", cell.shown)


@pytest.mark.parametrize(
    ("targets", "engines"),
    [("0", {0}), ("[0, 2]", {0, 2}), ("::2", {0, 2}), ("1:3", {1, 2}), ("-1", {3}), ("all", {0, 1, 2, 3})],
)
def test_targets_choose_engines(kernel, targets, engines):
    quoted = f"'{targets}'" if " " in targets else targets
    assert set(results(kernel.ok(f"%%px --targets {quoted}\nprust::engine_id()").shown)) == engines
    assert set(results(kernel.ok(f"%%px -t {quoted}\nprust::engine_id()").shown)) == engines


def test_a_target_that_does_not_exist_names_those_that_do(kernel):
    kernel.fails("%%px --targets 9\n1", "9", "0", "3")
    kernel.fails("rc.direct_view(9).apply(prust::engine_id).get()?", "9", "0", "3")


def test_an_unknown_option_or_magic_names_the_nearest(kernel):
    kernel.fails("%%px --targts 1\n1", "--targets")
    kernel.fails("%clustr status", "%cluster")


def test_noblock_returns_at_once_and_pxresult_waits(kernel):
    code = "%%px --noblock\nstd::thread::sleep(std::time::Duration::from_millis(700)); prust::engine_id() + 100"
    cell = kernel.ok(code)
    assert results(cell.shown) == {}
    assert results(kernel.ok("%pxresult").shown) == {engine: str(engine + 100) for engine in range(N)}


def test_out_stores_a_handle(kernel):
    kernel.ok("%%px --noblock --out handle\nprust::engine_id() + 7")
    assert kernel.ok("handle.wait(); handle.len()").text == str(N)
    assert kernel.ok("handle.successful()?").text == "true"


def test_local_also_runs_here(kernel):
    kernel.ok("%%px --local\nlet both = 3 + 4;")
    assert kernel.ok("both").text == "7"
    assert results(kernel.ok("%px both").shown) == dict.fromkeys(range(N), "7")


def test_pxconfig_sets_what_cells_do_not_say(kernel):
    kernel.ok("%pxconfig --targets 1 --noblock")
    assert results(kernel.ok("%px 5").shown) == {}
    assert set(results(kernel.ok("%pxresult").shown)) == {1}
    assert set(results(kernel.ok("%%px --block\n5").shown)) == {1}


def test_autopx_sends_every_cell_to_the_engines_until_it_is_said_again(kernel):
    kernel.ok("%autopx")
    try:
        assert set(results(kernel.ok("prust::engine_id()").shown)) == set(range(N))
    finally:
        kernel.ok("%autopx")
    assert kernel.ok("1 + 1").text == "2"


def test_what_each_of_many_short_calls_prints_is_its_own(kernel):
    kernel.ok(
        'fn speak(n: u64) -> u64 { println!("this is {n}"); if n % 3 == 0 { eprint!("{n}!"); } n }\n'
        "let spoken = rc.load_balanced_view().chunksize(1).map(speak, 0..2000u64);\n"
        "spoken.wait();"
    )
    wrong = (
        "spoken.metadata().iter().zip(0u64..).filter(|(of, n)| of.stdout != format!(\"this is {n}\\n\")"
        ' || of.stderr != if n % 3 == 0 { format!("{n}!") } else { String::new() }).count()'
    )
    assert kernel.ok(wrong).text == "0"


def test_cluster_status_says_what_runs(kernel):
    shown = kernel.ok("%cluster status").shown
    assert str(N) in shown and all(re.search(rf"\b{engine}\b", shown) for engine in range(N))


def test_cluster_stop_and_start(fresh):
    kernel = fresh()
    before = {process.pid for process in marked(kernel.mark)}
    kernel.ok("%cluster start -n 2")
    assert set(results(kernel.ok("%px 1").shown)) == {0, 1}
    kernel.ok("%cluster stop")
    eventually(lambda: {process.pid for process in marked(kernel.mark)} <= before, 5, "the engines' processes ended")
    kernel.ok("%cluster start -n 3")
    assert len(results(kernel.ok("%px 1").shown)) == 3


def test_errors_of_engines_are_one_composite_error(kernel):
    cell = kernel.fails('%%px\npanic!("engine {} says no", prust::engine_id())', "CompositeError")
    assert cell.error.count("says no") >= N
    assert "0" in cell.error and "3" in cell.error
    cell = kernel.fails('%%px\nlet wrong: i32 = "a";', "E0308", ":2:18")


def test_a_panic_on_engines_tells_the_calls_that_led_to_it(kernel):
    cell = kernel.fails("%%px\nfn inner(v: &[u8]) -> u8 { v[9] }\nfn outer(v: &[u8]) -> u8 {\n    inner(v) + 1\n}\nouter(&[1])")
    here = f"In[{cell.count}]"
    trail = f"  at {here}:2:28\n  called at {here}:4:5, in `outer`\n  called at {here}:6:1\n"
    assert (cell.error + "\n").count(trail) == 4, cell.error


def test_an_interrupt_stops_the_engines_and_keeps_their_variables(kernel):
    kernel.ok("%px let kept_there = prust::engine_id() + 1;")
    running = kernel.send('%%px\nprintln!("started"); loop { std::hint::spin_loop(); }')
    running.until(lambda _: text_of(running).count("started") == N)
    kernel.interrupt()
    cell = running.finish(seconds=10)
    assert cell.status == "error" and "nterrupt" in cell.error
    assert results(kernel.ok("%px kept_there").shown) == {engine: str(engine + 1) for engine in range(N)}


def text_of(running):
    return "".join(
        message["content"].get("text", "") for message in running.messages if message["msg_type"] == "stream"
    )


# One rustc run -------------------------------------------------------------------------------------------------------


def test_one_rustc_run_serves_all_engines_and_a_differing_namespace_takes_a_second(kernel, toolchain):
    # A name that no earlier run of the tests has compiled: the cache is kept between runs.
    name = f"counted_{time.time_ns()}"
    before = len(toolchain.compilations())
    kernel.ok(f"%px let {name} = 1_000_001u32;")
    assert len(toolchain.compilations()) == before + 1
    kernel.ok(f"%%px --targets 2\nlet {name} = 1_000_002u64;")
    before = len(toolchain.compilations())
    cell = kernel.ok(f"%px {name} + 3")
    assert results(cell.shown) == {0: "1000004", 1: "1000004", 2: "1000005", 3: "1000004"}
    assert len(toolchain.compilations()) == before + 2


def test_a_cell_that_was_compiled_before_costs_no_rustc_run(kernel, toolchain):
    kernel.ok("%px 77_000 + 1")
    before = len(toolchain.compilations())
    kernel.ok("%px 77_000 + 1")
    assert len(toolchain.compilations()) == before


# Calls ---------------------------------------------------------------------------------------------------------------


def test_map_apply_push_and_pull(kernel):
    kernel.ok("fn square(n: u64) -> u64 { n * n }")
    assert kernel.ok("lv.map(square, 0..5u64).get()?").text == "[0, 1, 4, 9, 16]"
    assert kernel.ok("lv.map(|n: u64| n + 1, vec![10, 20]).get()?").text == "[11, 21]"
    assert kernel.ok("dv.map(square, 0..5u64).get()?").text == "[0, 1, 4, 9, 16]"
    assert kernel.ok("dv.apply(prust::engine_id).get()?").text == "[0, 1, 2, 3]"
    assert kernel.ok("dv.apply_with(5u64, square).get()?").text == "[25, 25, 25, 25]"
    assert kernel.ok("rc.engine(2).apply(prust::engine_id).get()?").text == "2"
    kernel.ok('dv.push("words", &vec!["a".to_string(), "b".to_string()]).get()?;')
    assert results(kernel.ok("%px words.len()").shown) == dict.fromkeys(range(N), "2")
    kernel.ok("%px let mine = prust::engine_id() as u64 * 11;")
    assert kernel.ok('dv.pull::<u64>("mine").get()?').text == "[0, 11, 22, 33]"
    assert kernel.ok('dv.apply_with(Reference::<u64>::new("mine"), |n: Reference<u64>| *n + 1).get()?').text == "[1, 12, 23, 34]"


def test_a_handle_knows_its_times_and_its_tasks(kernel):
    code = "let naps = lv.chunksize(1).map(|_: u32| std::thread::sleep(std::time::Duration::from_millis(50)), 0..8u32);"
    kernel.ok(code)
    assert kernel.ok("naps.wait(); (naps.ready(), naps.progress(), naps.len())").text == "(true, 8, 8)"
    assert kernel.ok("naps.serial_time()? >= std::time::Duration::from_millis(400)").text == "true"
    assert kernel.ok("naps.speedup()? > 1.0 && naps.wall_time()? <= naps.elapsed()").text == "true"
    assert kernel.ok("naps.metadata().iter().all(|t| t.started <= t.completed && t.engine_id.is_some())").text == "true"


def test_a_failed_item_leaves_the_others(kernel):
    kernel.ok('fn picky(n: i32) -> i32 { if n == 3 { panic!("not {n}") } n * 10 }')
    assert kernel.ok("lv.map(picky, 1..=4).results().iter().filter(|r| r.is_ok()).count()").text == "3"
    kernel.fails("lv.map(picky, 1..=4).get()?", "not 3")


CLEAR_ERRORS = {
    "a closure that captures": (
        "let captured = 5u64;\nlv.map(|n: u64| n + captured, 0..3u64).get()?", ["map_with", ":2:"]
    ),
    "a reference to nothing": (
        'dv.apply_with(Reference::<u64>::new("never_made"), |n: Reference<u64>| *n).get()?',
        ["NameError", "`never_made`"],
    ),
    "a reference of another type": (
        'dv.push("a_word", &"x".to_string()).get()?;\n'
        'dv.apply_with(Reference::<u64>::new("a_word"), |n: Reference<u64>| *n).get()?',
        ["`a_word`", "String", "u64"],
    ),
    "a result that cannot be sent": (
        "struct Bare;\nlv.map(|_: u32| Bare, 0..3u32).get()?", ["Bare", "Serialize"]
    ),
    "a pull of nothing": ('dv.pull::<u64>("never_made").get()?', ["`never_made`"]),
}


@pytest.mark.parametrize("what", CLEAR_ERRORS)
def test_a_mistake_is_a_clear_error(kernel, what):
    code, words = CLEAR_ERRORS[what]
    cell = kernel.fails(code, *words)
    assert "__prust" not in cell.error and "/src/api/" not in cell.error


def test_a_timeout_leaves_the_work_running(kernel):
    kernel.ok("let slow = lv.map(|_: u8| std::thread::sleep(std::time::Duration::from_millis(900)), 0..2u8);")
    kernel.fails("slow.get_timeout(std::time::Duration::from_millis(50))?", "imeout")
    assert kernel.ok("slow.get()?.len()").text == "2"


def test_cancel_ends_running_calls(kernel):
    kernel.ok("let endless = lv.chunksize(1).map(|_: u8| -> u8 { loop { std::hint::spin_loop() } }, 0..8u8);")
    kernel.ok("endless.cancel(); endless.wait();", seconds=20)
    assert kernel.ok("endless.results().iter().all(|r| r.is_err())").text == "true"
    assert results(kernel.ok("%px prust::engine_id()").shown) == {engine: str(engine) for engine in range(N)}


# Lost engines --------------------------------------------------------------------------------------------------------


def engine_processes(kernel):
    """The engine processes of a kernel: `prust engine ...`, by pid."""
    found = []
    for process in marked(kernel.mark):
        try:
            if "engine" in process.cmdline()[1:2]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_an_idle_engine_with_its_worker_is_small(kernel):
    engine = engine_processes(kernel)[0]
    family = [engine, *engine.children(recursive=True)]
    assert sum(resident_bytes(process) for process in family) < 25_000_000


def test_a_killed_engine_is_an_engine_error_and_the_pool_is_refilled(fresh):
    kernel = fresh()
    kernel.ok("%cluster start -n 2")
    kernel.ok("let rc = Client::connect()?;")
    running = kernel.send('%%px\nprintln!("started"); loop { std::hint::spin_loop(); }')
    running.until(lambda _: text_of(running).count("started") == 2)
    victim = engine_processes(kernel)[0]
    victim.send_signal(signal.SIGKILL)
    # The other engine's loop goes on: the notebook says at once what was lost.
    running.until(lambda _: "was lost: killed by signal 9" in Shown(running), seconds=10)
    kernel.interrupt()
    cell = running.finish(seconds=10)
    assert cell.status == "error" and "EngineError" in cell.error and "killed by signal 9" in cell.error
    kernel.ok("rc.wait_for_engines(2, std::time::Duration::from_secs(10))?;")
    assert len(results(kernel.ok("%px 1").shown)) == 2


def test_waiting_work_of_a_killed_engine_moves_on(fresh):
    kernel = fresh()
    kernel.ok("%cluster start -n 2")
    kernel.ok(
        "let rc = Client::connect()?;\n"
        "let many = rc.load_balanced_view().chunksize(1)\n"
        "    .map(|n: u64| { std::thread::sleep(std::time::Duration::from_millis(60)); n }, 0..60u64);"
    )
    kernel.ok("while many.progress() < 4 { std::thread::yield_now(); }")
    engine_processes(kernel)[0].send_signal(signal.SIGKILL)
    kernel.ok("many.wait();", seconds=30)
    failed = int(kernel.ok("many.results().iter().filter(|r| r.is_err()).count()").text)
    assert failed <= 2, "only what ran on the killed engine is lost"
    if failed:
        kernel.fails("many.get()?", "EngineError")


class Shown:
    """`in` on everything that a running cell has shown so far."""

    def __init__(self, running):
        self.running = running

    def __contains__(self, words):
        return any(words in str(message["content"]) for message in self.running.messages)
