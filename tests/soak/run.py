"""`make soak`: plays many random sessions to kernels, one after another. One that goes wrong is shown with the line that
plays it again, and the next one begins. The exit status says whether all held."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from play import Differs, play  # noqa: E402

from harness.deadline import Late  # noqa: E402
from harness.home import Home, remove, short_folder  # noqa: E402
from harness.kernel import Kernel  # noqa: E402


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sequences", type=int, default=1000)
    arguments.add_argument("--seed", type=int, help="plays this one alone")
    arguments.add_argument("--first", type=int, default=0, help="the seed of the first session")
    options = arguments.parse_args()
    seeds = range(options.first, options.first + options.sequences) if options.seed is None else [options.seed]
    folder = short_folder()
    try:
        home = Home.make(folder)
        home.adopt()
        home.install()
        failed = play_all(seeds, folder)
    finally:
        remove(folder)
    sys.exit(1 if failed else 0)


def play_all(seeds, folder):
    start, failed, kernel = time.monotonic(), [], None
    for number, seed in enumerate(seeds, 1):
        kernel = kernel or Kernel(cwd=folder)
        try:
            play(kernel, seed)
        except (Differs, Late) as why:
            print(f"\n{why}\n\nreplay: make soak SEED={seed}\n", flush=True)
            failed.append(seed)
            kernel.close()
            kernel = None
        if number % 25 == 0:
            print(f"{number} sessions, {len(failed)} failed, {time.monotonic() - start:.0f} s", flush=True)
    if kernel:
        kernel.close()
    print(f"soak: {len(seeds)} sessions in {time.monotonic() - start:.0f} s, {len(failed)} failed: {failed}")
    return failed


if __name__ == "__main__":
    main()
