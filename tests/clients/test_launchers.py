"""Our engines and our controller started by ipyparallel's own launchers: `ipcluster`, its Cluster class, MPI, Slurm."""

import shutil
import socket
import subprocess
import sys

import ipyparallel
import pytest
from traitlets.config import Config

from harness.deadline import eventually
from harness.home import binary, remove, short_folder
from harness.processes import commands, new_mark, none_left

N = 2
WAIT = 60
ENGINE = [str(binary()), "engine"]
CONTROLLER = [str(binary()), "controller"]
IPCLUSTER = [sys.executable, "-m", "ipyparallel.cluster"]


def slurm_is_here():
    """Whether jobs can be sent to a Slurm, and none of them lands on another machine, which sees no file of a test."""
    if shutil.which("sbatch") is None:
        return False
    asked = subprocess.run(["timeout", "5", "sinfo", "--noheader", "--format=%n"], text=True, capture_output=True)
    return asked.returncode == 0 and asked.stdout.split() == [socket.gethostname().split(".")[0]]


@pytest.fixture
def profile(home):
    """A profile's folder and the environment of what is started on it; nothing of that may be left."""
    folder = short_folder()
    mark = new_mark()
    yield Profile(folder / "profile", home.environ | mark)
    none_left(mark, 10)
    remove(folder)


class Profile:
    def __init__(self, path, environ):
        self.path, self.environ = path, environ
        path.mkdir()

    def configure(self, *lines):
        """Writes `ipcluster_config.py`, as a user does."""
        quick = 'c.ControllerLauncher.controller_args = ["--ping=250"]'
        (self.path / "ipcluster_config.py").write_text("\n".join([quick, *lines]))

    def ipcluster(self, verb, *options):
        command = [*IPCLUSTER, verb, f"--profile-dir={self.path}", *options]
        return subprocess.run(command, env=self.environ, cwd=self.path, text=True, capture_output=True, timeout=WAIT)

    def start(self, *options):
        """`ipcluster start` in the background; returns a client of what it started."""
        done = self.ipcluster("start", f"--n={N}", "--cluster-id=", "--daemonize", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        file = self.path / "security" / "ipcontroller-client.json"
        eventually(file.exists, WAIT, "the client's connection file")
        client = ipyparallel.Client(str(file), timeout=20)
        return joined(client)

    def stop(self):
        """`ipcluster stop`: everything ends, and both connection files go."""
        done = self.ipcluster("stop", "--cluster-id=")
        assert done.returncode == 0, done.stdout + done.stderr
        files = list((self.path / "security").glob("ipcontroller*.json"))
        assert not files, files


def joined(client):
    """The client, once it is there for all: engines are, and what they publish reaches it. A subscription
    travels beside the first calls, and what is published before it has arrived is heard by nobody (ZeroMQ's
    slow joiner); a cell that was compiled before is faster than that on a busy machine."""
    client.wait_for_engines(N, timeout=WAIT, interactive=False)

    def hears():
        result = client[:].execute("0", silent=False)
        result.wait(WAIT)
        return result.wait_for_output(1)

    eventually(hears, WAIT, "the client's subscription")
    return client


def shown(client, code="(prust::engine_id(), 6 * 7)"):
    """What a cell shows on each engine, by the engine's number."""
    result = client[:].execute(code, silent=False)
    result.wait(WAIT)
    assert result.wait_for_output(10)
    return [reply.execute_result["data"]["text/plain"] for reply in result.get()]


def running(profile, command):
    """How many processes of this profile run `command`, nannies left out."""
    found = commands(profile.environ)
    return sum(one[: len(command)] == command and "--nanny" not in one for one in found)


@pytest.mark.parametrize("controller", ["theirs", "ours"])
def test_ipcluster_starts_uses_and_stops_our_engines(profile, controller):
    lines = [f"c.EngineLauncher.engine_cmd = {ENGINE!r}"]
    if controller == "ours":
        lines.append(f"c.ControllerLauncher.controller_cmd = {CONTROLLER!r}")
    profile.configure(*lines)
    with profile.start() as client:
        assert shown(client) == ["(0, 42)", "(1, 42)"]
        assert running(profile, ENGINE) == N
        assert running(profile, CONTROLLER) == (1 if controller == "ours" else 0)
    profile.stop()


@pytest.mark.parametrize("controller", ["theirs", "ours"])
def test_the_cluster_class_starts_restarts_and_stops_our_engines(profile, monkeypatch, controller):
    for name, value in profile.environ.items():
        monkeypatch.setenv(name, value)
    config = Config()
    config.Cluster.controller_args = ["--ping=250"]
    config.EngineLauncher.engine_cmd = ENGINE
    if controller == "ours":
        config.ControllerLauncher.controller_cmd = CONTROLLER
    cluster = ipyparallel.Cluster(n=N, engines="local", profile_dir=str(profile.path), config=config, load_profile=False)
    with cluster as client:
        assert shown(joined(client)) == ["(0, 42)", "(1, 42)"]
        assert running(profile, ENGINE) == N
        assert running(profile, CONTROLLER) == (1 if controller == "ours" else 0)
        cluster.restart_engines_sync()
        eventually(lambda: client.ids == [N, N + 1], WAIT, "engines anew")
        assert shown(client) == ["(2, 42)", "(3, 42)"]
        assert "Completed registration with id 2" in cluster.engine_set.get_output()


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec is not installed")
def test_mpi_starts_engines_whose_ids_are_their_ranks(profile):
    profile.configure(f"c.EngineLauncher.engine_cmd = {ENGINE!r}")
    with profile.start("--engines=mpi") as client:
        rank = '["PMI_RANK", "OMPI_COMM_WORLD_RANK"].iter().find_map(|name| std::env::var(name).ok()).unwrap()'
        assert shown(client, f"(prust::engine_id(), {rank})") == ['(0, "0")', '(1, "1")']
        assert running(profile, ENGINE) == N
    profile.stop()


@pytest.mark.skipif(not slurm_is_here(), reason="there is no Slurm whose only node is this machine")
def test_slurm_runs_engines_as_a_job(profile):
    profile.configure(
        'c.Cluster.engine_launcher_class = "slurm"',
        'c.Cluster.controller_ip = "*"',
        f"c.EngineLauncher.engine_cmd = {ENGINE!r}",
    )
    with profile.start() as client:
        jobs = shown(client, '(prust::engine_id(), std::env::var("SLURM_JOB_ID").unwrap())')
        assert [job.split(", ")[0] for job in jobs] == ["(0", "(1"]
        assert len({job.split(", ")[1] for job in jobs}) == 1
        assert "srun" in (profile.path / "slurm_engine.sbatch").read_text()
    profile.stop()
