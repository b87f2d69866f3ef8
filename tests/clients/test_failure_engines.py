"""A failed cell never costs a variable on an engine either, and no running work is left without a name."""

import re

import pytest

ENDS = {
    "a panic": ('panic!("boom")', "panic: boom", "8"),
    "an abort": ("std::process::abort()", "SIGABRT", "7"),
    "a segfault": ("unsafe { *(8 as *mut u32) = 1; }", "SIGSEGV", "7"),
    "an exit": ("std::process::exit(3)", "exit code 3", "7"),
    "a panic across C": ('extern "C" fn back() { panic!("across") }\nback()', "panic: across", "7"),
}


@pytest.fixture(scope="module")
def engines(kernel):
    """A kernel with two engines, two variables on each and views of them."""
    kernel.ok("%cluster start -n 2", seconds=180)
    kernel.ok("%%px\nlet kept = vec![1, 2, 3]; let mut n = 7;")
    kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view();")
    kernel.ok("fn slow(x: u64) -> u64 { std::thread::sleep(std::time::Duration::from_secs(600)); x }")
    return kernel


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def values(kernel):
    """What each engine has: (length, n)."""
    return re.findall(r"Out\[\d+:\d+\]: (\(.*\))", kernel.ok("%px (kept.len(), n)").shown)


@pytest.mark.parametrize("end", ENDS)
def test_what_ends_a_cell_on_engines_is_said_and_costs_no_variable(engines, end):
    code, words, n = ENDS[end]
    cell = engines.fails(f'%%px\nn = 8; println!("line"); print!("half"); {code}')
    assert plain(cell.error).count(words) >= 2, cell.error
    assert cell.stdout.count("half") == 2
    assert values(engines) == [f"(3, {n})"] * 2
    engines.ok("%px n = 7;")


@pytest.mark.parametrize("code", ["loop { std::hint::spin_loop() }", "std::thread::sleep(std::time::Duration::from_secs(600));"])
def test_an_interrupt_ends_a_cell_on_engines(engines, code):
    running = engines.send(f'%%px\nn = 9; println!("go"); {code}')
    printed = lambda: "".join(m["content"]["text"] for m in running.messages if m["content"].get("name") == "stdout")
    running.until(lambda _: printed().count("go") == 2)
    engines.interrupt()
    assert running.finish(10).reply["content"]["ename"] == "Interrupted"
    assert values(engines) == ["(3, 7)"] * 2


def test_a_task_that_runs_for_too_long_is_ended_and_costs_no_variable(engines):
    limited = "lv.time_limit(std::time::Duration::from_millis(300))"
    cell = engines.fails(f"{limited}.apply_with(1u64, slow).get()?;")
    assert cell.reply["content"]["ename"] == "TaskTimeout"
    assert "ran for more than 0.3 s, its limit" in plain(cell.error)
    assert engines.ok(f"{limited}.apply_with(5u64, |n: u64| n + 1).get()?").shown == "6"
    assert values(engines) == ["(3, 7)"] * 2


def cancel(kernel, text):
    """Cancels the work that `text` names, as it says."""
    numbers = re.findall(r"`slow` goes on; %px_cancel (\d+) ends it", text)
    assert numbers, text
    for number in numbers:
        kernel.ok(f"%px_cancel {number}")
    kernel.ok("%px 1")


def test_work_whose_handle_is_lost_is_named(engines):
    for end in ("panic!()", "std::process::abort()"):
        cell = engines.run(f"let handle = lv.map(slow, 0..2u64); {end}")
        cancel(engines, cell.error)
    engines.ok("let handle = lv.map(slow, 0..2u64);")
    cancel(engines, engines.ok("%undo").stderr)


def test_an_interrupted_wait_names_the_work_it_waited_for(engines):
    running = engines.send('println!("go"); lv.map(slow, 0..2u64).get()?;')
    running.until(lambda message: message["msg_type"] == "display_data")
    engines.interrupt()
    cell = running.finish(10)
    assert cell.reply["content"]["ename"] == "Interrupted"
    cancel(engines, cell.error)
    assert values(engines) == ["(3, 7)"] * 2
