"""What many engines and very many tasks cost: no peer stands beside, ipyparallel was not made for it."""

import re
import time
from pathlib import Path

import psutil
from harness.kernel import Kernel
from harness.processes import marked

from pools import seconds_of, timed

ENGINES, TASKS = 64, 1_000_000
IDLE_SECONDS = 10


def many_engines(cwd):
    """64 engines of one notebook, with their hearts beating, until a cell has run on each; and what they cost when idle."""
    with Kernel(cwd=cwd) as kernel:
        kernel.ok("0 + 0")
        begin = time.perf_counter()
        kernel.ok(f"%cluster start -n {ENGINES}")
        assert kernel.ok("%px 0 + 0").status == "ok"
        took = time.perf_counter() - begin
        engines = [process for process in marked(kernel.mark) if "engine" in process.cmdline()[1:2]]
        assert len(engines) == ENGINES
        # The controller is a thread of the kernel; what the kernel does beside it counts, too.
        wait = f"std::thread::sleep(std::time::Duration::from_secs({IDLE_SECONDS}));"
        kernel.ok(wait)
        before = [processor_seconds(process) for process in (psutil.Process(kernel.pid), *engines)]
        begin = time.perf_counter()
        kernel.ok(wait)
        span = time.perf_counter() - begin
        after = [processor_seconds(process) for process in (psutil.Process(kernel.pid), *engines)]
    controller, *each = (late - early for early, late in zip(before, after))
    return {
        "start of 64 engines": took,
        "controller of 64, idle": controller / span,
        "an engine of 64, idle": sum(each) / ENGINES / span,
    }


def many_tasks(cwd):
    """A million tasks of one item submitted at once, each with its id, record, times and signatures; every value comes back."""
    with Kernel(cwd=cwd) as kernel:
        kernel.ok("%cluster start -n 4")
        kernel.ok("let rc = Client::connect()?; let lv = rc.load_balanced_view();\nfn same(n: u64) -> u64 { n }")
        expression = f"lv.chunksize(1).map(same, 0..{TASKS}u64).get()?.into_iter().enumerate().all(|(at, n)| at as u64 == n)"
        took = seconds_of(kernel, timed(f"{{ assert!({expression}); {TASKS} }}"))
        engines = [process for process in marked(kernel.mark) if "engine" in process.cmdline()[1:2]]
        return {
            "1,000,000 tasks": took,
            "... memory of the kernel": peak_bytes(kernel.pid),
            "... memory of an engine": max(peak_bytes(engine.pid) for engine in engines),
        }


def processor_seconds(process):
    times = process.cpu_times()
    return times.user + times.system


def peak_bytes(pid):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
