"""What long sessions cost: many item cells, redefinitions with much built on them, hot loops by optimisation level."""

import statistics
import time

from cells import ITEMS, start, took

UNITS = 100
SAMPLES = 10
DEPENDENTS = 10
HOT_ROUNDS = 60_000_000
GIGABYTE_SAMPLES = 9

# A loop that no optimiser can fold: the same text as a cell and as a function.
HOT = "let mut x = {seed}u64; for i in 0..{rounds}u64 {{ x = x.wrapping_mul(6364136223846793005).wrapping_add(i ^ (x >> 33)); }} x"


def item_cells(kernel, folder):
    """Medians of the first ten cells of a new session and of the last ten of `UNITS` in this one, each with a type, an
    impl and a function. The two sessions take turns, so that both meet the same machine."""
    for n in range(UNITS - SAMPLES):
        took(kernel, ITEMS.format(n=1000 + n), True)
    new, _ = start("prust", folder)
    first, last = [], []
    try:
        took(new, "0 + 0", True)
        for n in range(SAMPLES):
            first.append(took(new, ITEMS.format(n=2000 + n), True))
            last.append(took(kernel, ITEMS.format(n=3000 + n), True))
    finally:
        new.close()
    return statistics.median(first), statistics.median(last)


def redefinitions(kernel, name):
    """Seconds until a redefined function with ten direct callers, one with a chain of ten above it, and a type that is
    added to while ten functions use it, are in force: the cell that does it and the first that calls."""
    define = [f"fn {name}_base() -> u64 {{ 1 }}", f"struct {name}T {{ x: u64 }}"]
    define += [f"fn {name}_wide{n}() -> u64 {{ {name}_base() + {n} }}" for n in range(DEPENDENTS)]
    define += [f"fn {name}_deep0() -> u64 {{ 1 }}"]
    define += [f"fn {name}_deep{n + 1}() -> u64 {{ {name}_deep{n}() + 1 }}" for n in range(DEPENDENTS)]
    define += [f"fn {name}_use{n}(t: &{name}T) -> u64 {{ t.x + {n} }}" for n in range(DEPENDENTS)]
    for cell in define:
        took(kernel, cell, True)
    wide = "(" + ", ".join(f"{name}_wide{n}()" for n in range(DEPENDENTS)) + ")"
    uses = "{ let t = " + f"{name}T {{ x: 1 }}; " + " + ".join(f"{name}_use{n}(&t)" for n in range(DEPENDENTS)) + " + t.twice() }"
    return (
        took(kernel, f"fn {name}_base() -> u64 {{ 100 }}", True) + took(kernel, wide, True),
        took(kernel, f"fn {name}_deep0() -> u64 {{ 100 }}", True) + took(kernel, f"{name}_deep{DEPENDENTS}()", True),
        took(kernel, f"impl {name}T {{ fn twice(&self) -> u64 {{ self.x * 2 }} }}", True) + took(kernel, uses, True),
    )


def sessions(folder):
    """Row -> seconds, in one kernel that grows."""
    kernel, _ = start("prust", folder)
    rows = {}
    try:
        took(kernel, "0 + 0", True)
        for row, seconds in zip(("redefine: 10 callers", "redefine: chain of 10", "impl: 10 users"), redefinitions(kernel, "early")):
            rows[row] = seconds
        rows["item cell, first ten"], rows["item cell, 90th to 100th"] = item_cells(kernel, folder)
        for row, seconds in zip(("... at unit 100", "... chain at unit 100", "... impl at unit 100"), redefinitions(kernel, "late")):
            rows[row] = seconds
    finally:
        kernel.close()
    return rows


def levels(folder):
    """Row -> seconds: what each optimisation level costs a cell, and what it makes of a hot loop in a cell and in a
    function of an earlier cell."""
    rows = {}
    kernel, _ = start("prust", folder)
    try:
        took(kernel, "0 + 0", True)
        for level in (None, 0, 1, 2, 3):
            if level is not None:
                took(kernel, f"%opt {level}", True)
            word = "as it comes" if level is None else f"%opt {level}"
            seed = 10 if level is None else level
            samples = [took(kernel, f"let v{seed}{n} = vec![{n}, {seed}]; v{seed}{n}.len()", True) for n in range(5)]
            rows[f"{word}: a small cell"] = statistics.median(samples)
            hot = HOT.format(seed=seed, rounds=HOT_ROUNDS)
            rows[f"{word}: hot loop in a cell"] = took(kernel, hot, True)
            took(kernel, f"fn hot{seed}() -> u64 {{ {hot} }}", True)
            rows[f"{word}: hot loop in a function"] = took(kernel, f"hot{seed}()", True)
    finally:
        kernel.close()
    return rows


def first_start(folder):
    """Seconds until a cell has run where nothing is cached."""
    begin = time.perf_counter()
    kernel, _ = start("prust", folder)
    try:
        took(kernel, "1 + 1", True)
        return time.perf_counter() - begin
    finally:
        kernel.close()


def snapshots(folder):
    """Row -> seconds: what the snapshot before a cell adds to one that reads a gigabyte, and to one that writes it. The
    same cell with and without takes turns; the compiler has seen both before."""
    rows = {}
    kernel, _ = start("prust", folder)
    try:
        took(kernel, "let mut large = vec![1u8; 1 << 30];", True)
        cells = {
            "read": "large.iter().step_by(4096).map(|b| *b as u64).sum::<u64>()",
            "written": "large.iter_mut().step_by(4096).for_each(|b| *b = b.wrapping_add(1));",
        }
        for row, cell in cells.items():
            took(kernel, cell, True)
            without, more = [], []
            for _ in range(GIGABYTE_SAMPLES):
                took(kernel, "%snapshot off", True)
                without.append(took(kernel, cell, True))
                took(kernel, "%snapshot on", True)
                more.append(took(kernel, cell, True) - without[-1])
            rows[f"1 GiB {row}"] = statistics.median(without)
            rows[f"... by the snapshot, {row}"] = statistics.median(more)
    finally:
        kernel.close()
    return rows


def built_set(folder):
    """Seconds that a second notebook waits for crates that a first one has had built."""
    for _ in range(2):
        kernel, _ = start("prust", folder)
        try:
            seconds = took(kernel, ':dep fastrand = "2"', True)
            took(kernel, "fastrand::u8(..) as u32", True)
        finally:
            kernel.close()
    return seconds
