"""Notebooks as batch tools run them: nbclient, papermill, nbconvert."""

import json
import re
import subprocess
import sys

import nbformat
import pytest

from harness.home import NOTEBOOKS
from harness.notebook import WIDGET_VIEW, cell, execute, lines, page

QUICKSTART = NOTEBOOKS / "quickstart.ipynb"


@pytest.fixture(scope="module")
def quickstart(home, tmp_path_factory):
    return execute(QUICKSTART, tmp_path_factory.mktemp("quickstart"))


PRIMES_BELOW_60 = "[2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59]"


def test_the_quickstart_says_what_it_promises(quickstart):
    assert lines(cell(quickstart, "is-prime")) == PRIMES_BELOW_60
    assert "4" in lines(cell(quickstart, "start"))
    assert lines(cell(quickstart, "count-primes")).splitlines()[-1] == "148933"
    printed = lines(cell(quickstart, "px"))
    for engine in range(4):
        assert f"[stdout:{engine}] engine {engine} is ready" in printed
    values = lines(cell(quickstart, "px-value"))
    for engine in range(4):
        assert re.search(rf"Out\[{engine}:\d+\]: {engine * 10}$", values, re.M), values
    assert lines(cell(quickstart, "pids")) == "4"
    assert lines(cell(quickstart, "pids-check")).count("true") == 4
    pi = lines(cell(quickstart, "pi-engines"))
    assert "π is about 3.14" in pi
    # How much it is, the benchmarks tell: other work on the machine takes part in it.
    assert float(re.search(r"speed-up: ([\d.]+)", pi)[1]) > 0
    squares = lines(cell(quickstart, "task-error"))
    assert squares.count("Ok(") == 4 and squares.count("Err(") == 1 and "I will not take 3" in squares
    assert "SIGABRT" in lines(cell(quickstart, "crash-cell"))
    assert "64 seeds, π about 3.14" in lines(cell(quickstart, "still-there"))
    assert "the engines are still 4" in lines(cell(quickstart, "still-there"))


def test_panels_are_frozen_when_the_notebook_has_run(quickstart):
    shown = [output for one in quickstart.cells for output in one.get("outputs", []) if "data" in output]
    assert not [output for output in shown if WIDGET_VIEW in output.data], "no live widget is left behind"
    panel = [output.data for output in cell(quickstart, "find-primes").outputs if "data" in output][-1]
    for form in ("text/plain", "text/html"):
        assert re.search(r"1[ ,_’']?999[ ,_’']?999", panel[form]), f"the final count in {form}: {panel[form][:500]}"
    assert "\x1b" not in panel["text/plain"]
    for forbidden in ("<script", "<svg", "<style", "<iframe"):
        assert forbidden not in panel["text/html"], "the sanitiser of untrusted notebooks takes this away"


def test_every_cell_has_its_times(quickstart):
    for one in quickstart.cells:
        if one.cell_type == "code":
            times = one.metadata["execution"]
            assert times["iopub.status.busy"] <= times["shell.execute_reply"] <= times["iopub.status.idle"]


def test_the_page_of_the_notebook_needs_no_network(quickstart):
    text = page(quickstart)
    fetched = re.findall(r'(?:src|href)\s*=\s*["\'](?:https?:)?//[^"\']+', text)
    assert [link for link in fetched if "<a" not in link and link.startswith("src")] == []
    assert "148933" in text and "speed-up" in text


def small_notebook(path, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"name": "prust", "display_name": "Rust (prust)", "language": "rust"}
    nbformat.write(notebook, path)
    return path


def run_tool(home, cwd, module, *arguments):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=home.environ, cwd=cwd, text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_papermill_runs_a_notebook(home, tmp_path):
    source = small_notebook(tmp_path / "in.ipynb", "let a = 20;", "%cluster start -n 2", "%px prust::engine_id()", "a + 3")
    run_tool(home, tmp_path, "papermill", "--kernel", "prust", source, tmp_path / "out.ipynb")
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert lines(notebook.cells[-1]) == "23"
    assert notebook.metadata["papermill"]["exception"] is None


def test_nbconvert_executes_background_work_and_tagged_errors(home, tmp_path):
    background = "%%px --noblock\nstd::thread::sleep(std::time::Duration::from_millis(300)); println!(\"from behind\");"
    source = small_notebook(tmp_path / "in.ipynb", "%cluster start -n 2", background, "%pxresult", 'panic!("wanted")')
    notebook = json.loads(source.read_text())
    notebook["cells"][-1]["metadata"]["tags"] = ["raises-exception"]
    source.write_text(json.dumps(notebook))
    run_tool(home, tmp_path, "jupyter", "nbconvert", "--execute", "--to", "html", source)
    text = (tmp_path / "in.html").read_text()
    assert text.count("from behind") >= 2 and "wanted" in text


def test_jupyter_lists_the_kernel_with_its_logos(home):
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"],
        env=home.environ, text=True, capture_output=True, check=True,
    )
    spec = json.loads(done.stdout)["kernelspecs"]["prust"]
    assert spec["spec"]["display_name"] == "Rust (prust)" and spec["spec"]["language"] == "rust"
    present = {path.name for path in (home.path / "prefix/share/jupyter/kernels/prust").iterdir()}
    assert present == {"kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}
