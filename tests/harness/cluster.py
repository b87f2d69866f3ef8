"""A controller and engines as separate processes on connection files, to be met by a Python ipyparallel client."""

import subprocess
from pathlib import Path

import ipyparallel

from harness.deadline import eventually
from harness.home import binary
from harness.processes import new_mark, none_left


class Cluster:
    """Starts a controller and `n` engines below `folder`. The commands default to ours; the stock ones fit too."""

    def __init__(self, folder, environ, n, controller=None, engine=None, ip="127.0.0.1"):
        self.folder, self.n, self.ip = Path(folder), n, ip
        self.mark = new_mark()
        self.environ = environ | self.mark
        self.controller_command = controller or [str(binary()), "controller"]
        self.engine_command = engine or [str(binary()), "engine"]
        self.processes = []
        (self.folder / "security").mkdir(parents=True)

    def file(self, role):
        return self.folder / "security" / f"ipcontroller-{role}.json"

    def start(self, name, command):
        log = open(self.folder / f"{name}.log", "w")
        process = subprocess.Popen(command, env=self.environ, cwd=self.folder, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_controller(self):
        command = [*self.controller_command, f"--profile-dir={self.folder}", f"--ip={self.ip}"]
        controller = self.start("controller", command)

        def written():
            assert controller.poll() is None, (self.folder / "controller.log").read_text()
            return self.file("client").exists() and self.file("engine").exists()

        eventually(written, 20, "the controller's connection files")
        return controller

    def start_engine(self):
        command = [*self.engine_command, f"--file={self.file('engine')}"]
        return self.start(f"engine-{len(self.processes)}", command)

    def client(self, n):
        """A stock Python client that sees `n` engines."""
        client = ipyparallel.Client(str(self.file("client")), timeout=20)
        client.wait_for_engines(n, timeout=60, interactive=False)
        return client

    def __enter__(self):
        self.start_controller()
        for _ in range(self.n):
            self.start_engine()
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        none_left(self.mark, 5)
