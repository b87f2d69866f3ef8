"""JupyterLab in headless Chromium: start a server, open a notebook, run it, watch what a reader would see."""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import nbformat

from harness.deadline import eventually
from harness.processes import new_mark, none_left

SHOTS = Path(__file__).parent / "shots"
STEP_MS = 60_000

CONFIG = """
c.ServerApp.port = {port}
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.ServerApp.root_dir = {root!r}
c.ServerApp.password = ""
c.ServerApp.disable_check_xsrf = True
c.IdentityProvider.token = ""
c.LabApp.expose_app_in_browser = True
c.LabApp.workspaces_dir = {workspaces!r}
c.LabApp.app_settings_dir = {settings!r}
"""

SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "recordTiming": False},
}

COMPLAINTS = re.compile(
    r"Could not instantiate widget|Error displaying widget|Canceling handling of old message"
    r"|Wrong widget protocol version|Could not process update msg|model not found|Error: Could not create a (view|model)"
    r"|Widget is not attached|Exception opening new comm|Failed to (load|create) (model|widget)",
    re.I,
)

# Writes down every change of a panel's bar and of the text around it, by the reader's clock. The bar's parts carry the
# number of items they stand for.
WATCH = r"""
() => {
  window.__seen = [];
  const last = {};
  const look = () => {
    document.querySelectorAll('.jp-CodeCell').forEach((cell, index) => {
      const panel = cell.querySelector('.prust-panel, .prust-vbox');
      if (!panel) { return; }
      const done = panel.querySelector('.prust-bar-done');
      const note = {
        cell: index,
        width: done ? parseFloat(done.style.width) : 0,
        items: done ? Number(done.dataset.items || done.title.replace(/\D/g, '')) : 0,
        state: (panel.querySelector('.prust-state') || {}).innerText,
        text: panel.innerText,
      };
      const key = JSON.stringify(note);
      if (last[index] !== key) { last[index] = key; window.__seen.push({ at: Date.now(), ...note }); }
    });
  };
  new MutationObserver(look).observe(document.body, {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
  look();
}
"""

# The notebook is loaded and, where asked for, its kernel has answered.
READY = """
async (kernel) => {
  const notebook = window.jupyterapp.shell.currentWidget;
  await notebook.context.ready;
  if (kernel) {
    await notebook.context.sessionContext.ready;
    await notebook.context.sessionContext.session.kernel.info;
  }
}
"""


class Lab:
    """A JupyterLab server of its own. A context manager."""

    def __init__(self, folder, environ):
        self.folder, self.mark = Path(folder), new_mark()
        self.root = self.folder / "files"
        settings, workspaces = self.folder / "settings", self.folder / "workspaces"
        for each in (self.root, settings, workspaces):
            each.mkdir(parents=True, exist_ok=True)
        (settings / "overrides.json").write_text(json.dumps(SETTINGS))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = self.folder / "lab_config.py"
        config.write_text(
            CONFIG.format(port=self.port, root=str(self.root), workspaces=str(workspaces), settings=str(settings))
        )
        self.log = []
        self.server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", f"--config={config}"],
            env=environ | self.mark, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.up = threading.Event()
        threading.Thread(target=self.read_log, daemon=True).start()
        if not self.up.wait(60):
            raise AssertionError("JupyterLab did not start:\n" + "".join(self.log))

    def read_log(self):
        for line in self.server.stdout:
            self.log.append(line)
            if f"127.0.0.1:{self.port}" in line or "is running at" in line:
                self.up.set()

    def put(self, notebook, name=None):
        """Copies a notebook, or a list of cells as text, into the server's files; returns its name there."""
        if isinstance(notebook, Path):
            shutil.copy(notebook, self.root / notebook.name)
            return notebook.name
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in notebook])
        made.metadata["kernelspec"] = {"name": "prust", "display_name": "Rust (prust)", "language": "rust"}
        nbformat.write(made, self.root / name)
        return name

    def saved(self, name):
        return nbformat.read(self.root / name, as_version=4)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.terminate()
        try:
            self.server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        none_left(self.mark, 10)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("no Chromium on PATH: tests/browser/chromium.sh gets one")


class Page:
    """One browser tab with one notebook open."""

    def __init__(self, browser, lab, width=1280, height=1000):
        self.lab = lab
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(STEP_MS)
        self.said = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"pageerror: {error}\n{error.stack}"))

    def open(self, name, kernel=True):
        """Opens a notebook. Without a kernel, nothing is started for it."""
        self.page.goto(f"{self.lab.url}/lab/{f'tree/{name}' if kernel else ''}?reset")
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate("() => window.jupyterapp.restored")
        self.page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")
        if not kernel:
            self.command("docmanager:open", path=name, kernelPreference={"shouldStart": False, "canStart": False})
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.evaluate(READY, kernel)
        return self

    def command(self, name, **arguments):
        return self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments]
        )

    def cell(self, index):
        """The code cell at a position, counted from 0 among code cells."""
        return self.page.locator(".jp-CodeCell").nth(index)

    def output(self, index):
        return self.cell(index).locator(".jp-Cell-outputArea")

    def text(self, index):
        return self.output(index).inner_text()

    def run_all(self, wait=True):
        """Starts all cells; by default waits until the last has ended."""
        start = "() => { window.__ran = false; window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.evaluate(start + ".finally(() => { window.__ran = true; }); }")
        if wait:
            self.wait_ran()

    def run_cell(self, index, wait=True):
        """Runs one cell, counted among code cells."""
        self.page.evaluate("() => { window.__ran = false; }")
        self.cell(index).locator(".jp-InputArea-editor").click()
        self.page.evaluate(
            "() => { window.jupyterapp.commands.execute('notebook:run-cell').finally(() => { window.__ran = true; }); }"
        )
        if wait:
            self.wait_ran()

    def wait_ran(self, seconds=240):
        self.page.wait_for_function("() => window.__ran", timeout=seconds * 1000)

    def watch(self):
        """From now on, notes every look of every panel."""
        self.page.evaluate(WATCH)

    def seen(self, index):
        """What `watch` noted of a code cell's panel: `at` in ms of the wall clock, `width` of the done part in percent,
        the `items` it stands for, the `state` as a word, the `text` of the panel."""
        return [note for note in self.page.evaluate("() => window.__seen") if note["cell"] == index]

    def theme(self, name):
        """Changes the theme, and waits until JupyterLab has taken its splash screen away again: of two changes while it
        still fades out, the second removes it twice, which throws."""
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_function(
            "(name) => document.body.dataset.jpThemeName === name && !document.querySelector('#jupyterlab-splash')",
            arg=name,
        )

    def shoot(self, index, name):
        """Pictures of a cell in the light and in the dark theme."""
        SHOTS.mkdir(exist_ok=True)
        for theme, suffix in (("JupyterLab Light", "light"), ("JupyterLab Dark", "dark")):
            self.theme(theme)
            self.cell(index).scroll_into_view_if_needed()
            self.cell(index).screenshot(path=SHOTS / f"{name}-{suffix}.png")
        self.theme("JupyterLab Light")

    def save(self, name):
        """Saves, and waits until the file on disk is the saved one."""
        before = (self.lab.root / name).stat().st_mtime_ns
        self.command("docmanager:save")
        eventually(lambda: (self.lab.root / name).stat().st_mtime_ns != before, 10, "the notebook saved")

    def complaints(self):
        """Lines of the browser's console that speak of widgets or messages gone wrong."""
        return [line for line in self.said if COMPLAINTS.search(line) or line.startswith("pageerror")]

    def shut_down_kernels(self):
        self.page.evaluate("() => window.jupyterapp && window.jupyterapp.serviceManager.sessions.shutdownAll()")

    def close(self):
        self.page.close()
