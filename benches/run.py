"""`make bench`: prust beside its peers, taken in one run on one machine. A row whose peer is missing is an error, not a
figure. Seconds are medians. Exit status 1 when a row is an error or misses its goal."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests")]
import cells
import pools
import scale
import sessions

from harness.home import ROOT, Home, remove, short_folder

EVCXR = "evcxr_jupyter"
EVCXR_HINT = f"{EVCXR} is not on PATH: `cargo install --locked {EVCXR}` (about 9 minutes)"

# Row -> (goal as text, test of ours and the peer's figure).
GOALS = {
    "kernel start": ("<= 0.5 s", lambda ours, _: ours <= 0.5),
    "1+1": ("<= 0.5 of the peer", lambda ours, peer: ours <= 0.5 * peer),
    "let": ("<= 0.65 of the peer", lambda ours, peer: ours <= 0.65 * peer),
    "expression over a variable": ("<= 0.5 of the peer", lambda ours, peer: ours <= 0.5 * peer),
    "fn": ("<= 1.1 of the peer", lambda ours, peer: ours <= 1.1 * peer),
    "type error": ("<= 0.25 of the peer", lambda ours, peer: ours <= 0.25 * peer),
    "redefine: 10 callers": ("<= 1 s", lambda ours, _: ours <= 1.0),
    "redefine: chain of 10": ("<= 2 s", lambda ours, _: ours <= 2.0),
    "impl: 10 users": ("<= 1 s", lambda ours, _: ours <= 1.0),
    "... at unit 100": ("<= 1 s", lambda ours, _: ours <= 1.0),
    "... chain at unit 100": ("<= 2 s", lambda ours, _: ours <= 2.0),
    "... impl at unit 100": ("<= 1 s", lambda ours, _: ours <= 1.0),
    ":dep of a built set": ("<= 0.5 s", lambda ours, _: ours <= 0.5),
    "last over first": ("<= 1.15", lambda ours, _: ours <= 1.15),
    "... by the snapshot, read": ("<= 20 ms", lambda ours, _: ours <= 0.020),
    "start of 4 engines": ("<= 0.3 s", lambda ours, _: ours <= 0.3),
    "... over the same cell here": ("<= 15 ms", lambda ours, _: ours <= 0.015),
    "one load-balanced call": ("<= 0.4 ms", lambda ours, _: ours <= 0.0004),
    "one direct call": ("<= 0.3 ms", lambda ours, _: ours <= 0.0003),
    "tasks/s, one item each": (">= 100 of the peer", lambda ours, peer: ours >= 100 * peer),
    "tasks/s, one item each, again": (">= 0.8 of the peer", lambda ours, peer: ours >= 0.8 * peer),
    "push 100 MB to all": ("<= 0.3 s", lambda ours, _: ours <= 0.3),
    "scatter 100 MB": ("<= 0.15 s", lambda ours, _: ours <= 0.15),
    "gather 100 MB": ("<= 0.15 s", lambda ours, _: ours <= 0.15),
    "... among 10,000": ("<= 2 of the first", lambda ours, _: ours <= 2.0),
    "memory of an engine, idle": ("<= 25 MB", lambda ours, _: ours <= 25e6),
    "start of 64 engines": ("<= 3 s", lambda ours, _: ours <= 3.0),
    "controller of 64, idle": ("<= 1 % of a core", lambda ours, _: ours <= 0.01),
}
NO_PEER = {"... over the same cell here", "... compiled before", "... its bare copies"}


def main():
    os.environ["PRUST_BIN"] = os.environ.get("PRUST_BIN", str(ROOT / "target" / "release" / "prust"))
    folder = short_folder()
    try:
        # A cache of its own: what an earlier run has compiled would be found, and not measured.
        home = Home.make(folder, cache=Path(folder) / "cache")
        home.adopt()
        home.install()
        fine = first_start(folder)
        fine = kernels(folder) and fine
        fine = long_sessions(folder) and fine
        fine = engines(folder) and fine
        fine = large_pools(folder) and fine
        fine = decisions() and fine
    finally:
        remove(folder)
    return 0 if fine else 1


def kernels(folder):
    names, missing = ["prust"], None
    if path := evcxr():
        subprocess.run([path, "--install"], check=True, capture_output=True)
        names.append("rust")
    else:
        missing = EVCXR_HINT
    table = cells.measure(names, folder)
    return report("cells, sent to idle", "evcxr", table["prust"], table.get("rust", {None: missing}))


def first_start(folder):
    """A cache of its own: the worker, the runtime and the `prust` crate are built first."""
    cache = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cold")
    try:
        seconds = sessions.first_start(folder)
    finally:
        if cache is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = cache
    print(f"first start on this machine, with its first cell: {seconds:.1f} s")
    return True


def long_sessions(folder):
    """No peer to stand beside: evcxr compiles all items again for each cell, and is measured by its cells above."""
    table = sessions.sessions(folder)
    table[":dep of a built set"] = sessions.built_set(folder)
    table["last over first"] = table["item cell, 90th to 100th"] / table["item cell, first ten"]
    NO_PEER.update(table)
    fine = report("long sessions", "", table, {})
    table = sessions.snapshots(folder)
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    huge = pages.read_text().strip() if pages.exists() else "none"
    NO_PEER.update(table)
    fine = report(f"large heaps (huge pages: {huge})", "", table, {}) and fine
    table = sessions.levels(folder)
    NO_PEER.update(table)
    return report("optimisation", "", table, {}) and fine


def evcxr():
    """The peer kernel's program, on PATH or where cargo installs."""
    return shutil.which(EVCXR) or shutil.which(EVCXR, path=f"{os.environ['CARGO_HOME']}/bin")


def engines(folder):
    ours = attempt(pools.prust, folder)
    peer = attempt(pools.ipyparallel)
    fine = report("four engines", "ipyparallel", ours, peer)
    peer = attempt(pools.processes)
    ours = {row: ours[row.removesuffix(", again")] for row in peer if row and row.removesuffix(", again") in ours}
    return report("four engines, four processes", "multiprocessing", ours, peer) and fine


def large_pools(folder):
    table = scale.many_engines(folder) | scale.many_tasks(folder)
    NO_PEER.update(table)
    return report("many engines, many tasks", "", table, {})


def decisions():
    """The controller's state machine alone: what a task costs it, among ever more engines."""
    command = ["cargo", "bench", "--quiet", "--locked", "--package", "prust-cluster", "--bench", "decisions"]
    micros = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    table = {f"a task among {int(n):,}": cost / 1e6 for n, cost in micros.items()}
    NO_PEER.update(table)
    table["... among 10,000"] = micros["10000"] / micros["10"]
    NO_PEER.add("... among 10,000")
    return report("the controller's decisions", "", table, {})


def attempt(measure, *arguments):
    try:
        return measure(*arguments)
    except Exception as error:
        return {None: f"{type(error).__name__}: {error}"}


def report(title, peer_name, ours, peer):
    """Prints one table and returns whether all of it is well."""
    print(f"\n{title:<30} {'prust':>12} {peer_name:>12} {'prust/peer':>11}  goal")
    fine = True
    for reason, who in ((ours.get(None), "prust"), (peer.get(None), peer_name)):
        if reason:
            print(f"error: {who}: {reason}")
            fine = False
    for row in list(ours) or list(peer):
        if row is None:
            continue
        if row not in peer and row not in NO_PEER:
            print(f"{row:<30} error: no figure of {peer_name} to stand beside")
            fine = False
            continue
        fine = line(row, ours[row], peer.get(row)) and fine
    return fine


def line(row, ours, peer):
    goal, reached = GOALS.get(row, ("", None))
    met = reached is None or reached(ours, peer)
    ratio = f"{ours / peer:.3g}" if peer else ""
    verdict = f"{goal}: {'met' if met else 'MISSED'}" if goal else ""
    print(f"{row:<30} {figure(row, ours):>12} {figure(row, peer):>12} {ratio:>11}  {verdict}")
    return met


def figure(row, value):
    if value is None:
        return ""
    if row in ("last over first", "... among 10,000"):
        return f"{value:.2f}"
    if row.endswith("of 64, idle"):
        return f"{value * 100:.2f} %"
    if "/s" in row:
        return f"{value:,.0f}"
    if "memory" in row:
        return f"{value / 1e6:.1f} MB"
    if value < 1e-4:
        return f"{value * 1e6:.2f} us"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.2f} ms"


sys.exit(main())
