"""A cluster of `prust cluster start --detach`, in a profile of its own, and the commands that look at it."""

import json
import os
import subprocess
from pathlib import Path

import psutil

from harness.home import binary
from harness.processes import marked, new_mark, none_left


class Detached:
    """A context manager: the cluster runs inside of it, and nothing of it is left afterwards."""

    def __init__(self, folder, n, cluster_id=None, start=True):
        self.profile_dir = Path(folder) / "profile"
        self.n, self.cluster_id, self.starts = n, cluster_id, start
        self.mark = new_mark()

    @property
    def security(self):
        return self.profile_dir / "security"

    @property
    def file(self):
        infix = f"-{self.cluster_id}" if self.cluster_id else ""
        return self.security / f"ipcontroller{infix}-client.json"

    def place(self):
        place = [f"--profile-dir={self.profile_dir}"]
        return place + ([f"--cluster-id={self.cluster_id}"] if self.cluster_id else [])

    def command(self, command, *options):
        return [str(binary()), "cluster", command, *self.place(), *options]

    def run(self, command, *options, seconds=120):
        """Runs a command to its end and returns the completed process, its output as text."""
        return subprocess.run(
            self.command(command, *options), env=os.environ | self.mark, text=True, capture_output=True, timeout=seconds
        )

    def ok(self, command, *options):
        done = self.run(command, *options)
        assert done.returncode == 0, f"prust cluster {command}:\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def start(self):
        return self.ok("start", "-n", str(self.n), "--detach")

    def status(self):
        return json.loads(self.ok("status", "--json"))

    def log(self):
        return "\n".join(path.read_text() for path in (self.profile_dir / "log").glob("*.log"))

    @property
    def supervisor(self):
        return psutil.Process(self.status()["supervisor"]["pid"])

    def engines(self):
        """The processes of the engines, by their number."""
        return {engine["id"]: psutil.Process(engine["pid"]) for engine in self.status()["engines"]}

    def __enter__(self):
        if self.starts:
            self.start()
        return self

    def __exit__(self, *_):
        self.run("stop")
        try:
            none_left(self.mark, 10)
        finally:
            for process in marked(self.mark):
                process.kill()
