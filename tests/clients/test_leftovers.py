"""What is left behind when processes are killed: no process, no zombie, no directory."""

import os
import signal
from pathlib import Path

import psutil

from harness.deadline import eventually
from harness.home import remove, short_folder
from harness.kernel import Kernel
from harness.processes import commands, marked, none_left


def names(kernel):
    return [Path(command[0]).name for command in commands(kernel.mark)]


def kill(kernel):
    """Kills the kernel itself, and sees everything that it started end at once."""
    os.kill(kernel.pid, signal.SIGKILL)
    none_left(kernel.mark, 2)


def test_the_worker_of_a_killed_engine_is_collected(fresh):
    kernel = fresh()
    kernel.ok("%cluster start -n 2")
    kernel.ok("%px let kept = 1;")
    children = psutil.Process(kernel.pid).children()
    engine = next(child for child in children if "engine" in child.cmdline())
    family = engine.children(recursive=True)
    assert family, "an engine has a worker"
    engine.send_signal(signal.SIGKILL)
    for process in [engine, *family]:
        # A zombie is still a process of this id.
        eventually(lambda: not process.is_running(), 10, f"{process} collected")


def test_what_a_crashed_worker_left_running_is_collected_when_it_ends(fresh):
    kernel = fresh()
    left = int(kernel.ok('std::process::Command::new("sleep").arg("600").spawn()?.id()').text)
    kernel.fails("std::process::abort()", "SIGABRT")
    # An earlier cell started it: the crash has not taken it along.
    os.kill(left, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(left), 10, f"{left} collected")


def test_programs_started_by_a_killed_kernel_end_with_all_their_children(home, tmp_path):
    kernel = Kernel(cwd=tmp_path)
    kernel.send("!sleep 600 | sleep 600")
    eventually(lambda: names(kernel).count("sleep") == 2, 30, "two programs run")
    kill(kernel)
    kernel.close()


def test_an_interrupt_ends_everything_a_shell_line_has_started(fresh):
    kernel = fresh()
    running = kernel.send("!sleep 600 | sleep 600")
    eventually(lambda: names(kernel).count("sleep") == 2, 30, "two programs run")
    kernel.interrupt()
    assert running.finish(seconds=10).status == "error"
    eventually(lambda: "sleep" not in names(kernel), 10, "both have ended")


def test_the_build_of_a_killed_kernel_ends(home, tmp_path):
    kernel = Kernel(cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    kernel.send("1")
    eventually(lambda: {"cargo", "rustc"} <= set(names(kernel)), 60, "cargo has started a compiler")
    kill(kernel)
    kernel.close()


def test_directories_of_a_killed_kernel_are_removed_by_the_next_one(home, tmp_path):
    folder = short_folder()
    killed = Kernel(cwd=tmp_path, TMPDIR=str(folder))
    killed.ok("%cluster start -n 2")
    mine = folder / "prust-of-a-user"
    mine.mkdir()
    kill(killed)
    killed.close()
    left = set(folder.iterdir()) - {mine}
    assert len(left) >= 2, "one of its worker, one of its cluster"
    with Kernel(cwd=tmp_path, TMPDIR=str(folder)) as first:
        first.ok("1")
        of_first = set(folder.iterdir()) - {mine}
        assert of_first and not of_first & left
        with Kernel(cwd=tmp_path, TMPDIR=str(folder)) as second:
            second.ok("1")
            assert of_first < set(folder.iterdir()), "what a living kernel uses stays"
        first.ok("2")
    assert list(folder.iterdir()) == [mine]
    remove(folder)
