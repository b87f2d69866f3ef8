"""`make demo`: runs a notebook with nbclient, prints what its cells printed, and leaves an HTML page."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import nbformat
from nbclient.exceptions import CellExecutionError

from harness.notebook import execute, lines, page


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("notebook", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--kernel", default="prust")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"running {options.notebook} in the kernel {options.kernel!r} ...", flush=True)
    start = time.monotonic()
    try:
        notebook = execute(options.notebook, options.out, options.kernel)
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    took = time.monotonic() - start
    for cell in notebook.cells:
        if cell.cell_type == "code":
            show(cell)
    html = options.out / options.notebook.with_suffix(".html").name
    html.write_text(page(notebook), encoding="utf-8")
    nbformat.write(notebook, options.out / options.notebook.name)
    print(f"\nran in {took:.1f} s; read it at {html.resolve()}")
    return 0


def show(cell):
    first, *rest = cell.source.splitlines()
    print(f"\nIn [{cell.execution_count}]: {first}")
    for line in rest:
        print(f"        {line}")
    for line in lines(cell).splitlines():
        print(f"    | {line}")


sys.exit(main())
