"""What a pool of four engines costs: ours from cells of a notebook, and ipyparallel's from its own client."""

import multiprocessing
import re
import statistics
import time

from harness.kernel import Kernel
from harness.processes import marked, resident_bytes

N = 4
CALLS, TASKS, ITEMS = 200, 20_000, 1_000_000
PEER_TASKS, PEER_ITEMS = 2_000, 100_000
NUMBERS = 12_500_000


def median(function, n):
    seconds = []
    for _ in range(n):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def prust(cwd):
    """Row -> figure, from the cells of one kernel."""
    rows = {}
    with Kernel(cwd=cwd) as kernel:
        kernel.ok("0 + 0")
        begin = time.perf_counter()
        kernel.ok(f"%cluster start -n {N}")
        kernel.ok("%px 0 + 0")
        rows["start of 4 engines"] = time.perf_counter() - begin
        numbers = iter(range(1000, 2000))
        local = median(lambda: kernel.ok(f"1 + {next(numbers)}"), 15)
        everywhere = median(lambda: kernel.ok(f"%%px\n1 + {next(numbers)}"), 15)
        rows["%%px 1+1 on 4 engines"] = everywhere
        rows["... over the same cell here"] = everywhere - local
        again = lambda: kernel.ok("%%px\n1 + 1")
        again()
        rows["... compiled before"] = median(again, 30)
        kernel.ok(
            "let rc = Client::connect()?; let lv = rc.load_balanced_view();\n"
            "fn same(n: u64) -> u64 { n }\n"
            "lv.apply_with(1u64, same).get()?;"
        )
        for row, call in (
            ("one load-balanced call", "lv.apply_with(n, same).get()?"),
            ("one direct call", "one.apply_with(n, same).get()?"),
        ):
            rows[row] = seconds_of(
                kernel,
                f"""
                let one = rc.direct_view(0);
                let mut seconds = Vec::new();
                for n in 0..{CALLS}u64 {{
                    let begin = std::time::Instant::now();
                    {call};
                    seconds.push(begin.elapsed().as_secs_f64());
                }}
                seconds.sort_by(f64::total_cmp);
                println!("took {{}}", seconds[seconds.len() / 2]);
                """,
            )
        took = seconds_of(kernel, timed(f"lv.chunksize(1).map(same, 0..{TASKS}u64).get()?.len()"))
        rows["tasks/s, one item each"] = TASKS / took
        took = seconds_of(kernel, timed(f"lv.map(same, 0..{ITEMS}u64).get()?.len()"))
        rows["items/s, in bundles"] = ITEMS / took
        engines = [process for process in marked(kernel.mark) if "engine" in process.cmdline()[1:2]]
        rows["memory of an engine, idle"] = statistics.median(
            sum(resident_bytes(process) for process in (engine, *engine.children(recursive=True)))
            for engine in engines
        )
        rows.update(moved(kernel))
    return rows


# What a push must do at least: the numbers once to where all see them, and from there to four places.
BARE_COPIES = """{
    let copy = || numbers.clone();
    let mut copies = vec![copy()];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(copy)).collect();
        copies.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    });
    copies.len()
}"""


def moved(kernel):
    """100 MB of numbers to four engines, in parts, and back; each the median of five."""
    kernel.ok(
        f"let numbers: Vec<f64> = (0..{NUMBERS}).map(|n| n as f64).collect();\n"
        "let everyone = rc.direct_view(..);"
    )
    rows = {}
    for row, expression in (
        ("push 100 MB to all", 'everyone.push("whole", &numbers).get()?;'),
        ("scatter 100 MB", 'everyone.scatter("part", &numbers).get()?;'),
        ("gather 100 MB", 'assert!(everyone.gather::<f64>("part").get()?.len() == numbers.len());'),
    ):
        once = lambda: seconds_of(kernel, timed(f"{{ {expression} 1 }}"))
        rows[row] = statistics.median(once() for _ in range(5))
        if row.startswith("push"):
            rows["... its bare copies"] = statistics.median(
                seconds_of(kernel, timed(BARE_COPIES)) for _ in range(5)
            )
    return rows


def timed(expression):
    return (
        "let begin = std::time::Instant::now();\n"
        f"let n = {expression};\n"
        'println!("took {} for {n}", begin.elapsed().as_secs_f64());'
    )


def seconds_of(kernel, code):
    return float(re.search(r"took ([\d.e-]+)", kernel.ok(code, seconds=300).stdout)[1])


def ipyparallel():
    """The same rows from ipyparallel with its own controller and engines."""
    import ipyparallel

    rows = {}
    begin = time.perf_counter()
    cluster = ipyparallel.Cluster(n=N, log_level=40)
    client = cluster.start_and_connect_sync()
    try:
        everyone, balanced = client[:], client.load_balanced_view()
        everyone.execute("0 + 0", block=True)
        rows["start of 4 engines"] = time.perf_counter() - begin
        rows["%%px 1+1 on 4 engines"] = median(lambda: everyone.execute("1 + 1", block=True), 30)
        same = ipyparallel.interactive(lambda n: n)
        balanced.apply_sync(same, 1)
        rows["one load-balanced call"] = median(lambda: balanced.apply_sync(same, 1), CALLS)
        one = client[0]
        rows["one direct call"] = median(lambda: one.apply_sync(same, 1), CALLS)
        begin = time.perf_counter()
        balanced.map_sync(same, range(PEER_TASKS))
        rows["tasks/s, one item each"] = PEER_TASKS / (time.perf_counter() - begin)
        begin = time.perf_counter()
        balanced.map_sync(same, range(PEER_ITEMS), chunksize=1000)
        rows["items/s, in bundles"] = PEER_ITEMS / (time.perf_counter() - begin)
        import numpy

        numbers = numpy.arange(NUMBERS, dtype=float)
        rows["push 100 MB to all"] = median(lambda: everyone.push({"whole": numbers}, block=True), 3)
        rows["scatter 100 MB"] = median(lambda: everyone.scatter("part", numbers, block=True), 3)
        rows["gather 100 MB"] = median(lambda: everyone.gather("part", block=True), 3)
        rows["memory of an engine, idle"] = statistics.median(everyone.apply_sync(ipyparallel.interactive(own_memory)))
    finally:
        cluster.stop_cluster_sync()
    return rows


def processes():
    """One-item tasks and single calls through multiprocessing.Pool, which leaves neither machine nor trace."""
    with multiprocessing.Pool(N) as pool:
        pool.map(itself, range(10))
        begin = time.perf_counter()
        pool.map(itself, range(TASKS), chunksize=1)
        tasks = TASKS / (time.perf_counter() - begin)
        call = median(lambda: pool.apply(itself, (1,)), CALLS)
    return {"tasks/s, one item each, again": tasks, "one load-balanced call, again": call}


def itself(n):
    return n


def own_memory():
    """Runs on a Python engine: the memory of its process and of the nanny that it starts."""
    import psutil

    engine = psutil.Process()
    return sum(process.memory_full_info().pss for process in (engine, *engine.children(recursive=True)))
