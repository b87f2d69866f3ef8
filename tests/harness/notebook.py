"""Executing notebooks and making pages of them, for the tests and for `make demo`."""

import re

import nbformat
from jupyter_client import jsonutil, session
from nbclient import NotebookClient
from nbconvert import HTMLExporter

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def execute(source, cwd, kernel="prust", seconds=300):
    """Runs a notebook to its end, as nbclient does for everybody, and returns it with its outputs."""
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook, kernel_name=kernel, timeout=seconds, resources={"metadata": {"path": str(cwd)}}
    )
    # ipyparallel, once another test has imported it, turns off the reading of dates for the whole process.
    before, session.extract_dates = session.extract_dates, jsonutil.extract_dates
    try:
        client.execute()
    finally:
        session.extract_dates = before
    return notebook


def page(notebook):
    """One HTML page that needs no network: styles inside, nothing fetched."""
    exporter = HTMLExporter(template_name="lab", require_js_url="", mathjax_url="")
    notebook = nbformat.from_dict(notebook)
    notebook.metadata.pop("widgets", None)
    text, _ = exporter.from_notebook_node(notebook)
    text = re.sub(r"<script\b[^>]*\bsrc=[^>]*>\s*</script>", "", text)
    return re.sub(r"<script\b[^>]*>(?:(?!</script>).)*https?://(?:(?!</script>).)*</script>", "", text, flags=re.S)


def lines(cell):
    """What a reader sees below a code cell, as text."""
    shown = []
    for output in cell.outputs:
        if output.output_type == "stream":
            shown.append(output.text)
        elif output.output_type == "error":
            shown.append("\n".join(output.traceback))
        else:
            shown.append(output.data.get("text/plain", ""))
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(text.rstrip("\n") for text in shown))


def cell(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)
