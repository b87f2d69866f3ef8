"""`make chaos`: tasks over eight engines that are killed and stand still, and a connection that is cut, at random.

SEED=n plays the same faults again.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import scenes  # noqa: E402

from harness.home import Home, remove, short_folder  # noqa: E402


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=3600)
    options = options.parse_args()
    folder = short_folder()
    home = Home.make(folder)
    home.adopt()
    home.install()
    for name, play in (
        ("a controller and engines", lambda *rest: scenes.processes(*rest, folder, home.environ)),
        ("a kernel's own cluster", lambda *rest: scenes.pool(*rest, folder)),
        ("a cluster over a network", lambda *rest: scenes.attached(*rest, folder)),
    ):
        counts, seconds = play(options.tasks, options.seed, options.seconds)
        faults = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
        print(f"{name}: {options.tasks} tasks in {seconds:.0f} s, each ended once with its value; {faults}", flush=True)
    remove(folder)


if __name__ == "__main__":
    main()
