"""A controller and an engine on two hosts: a network namespace stands for the other one. Runs where this is allowed."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import ipyparallel
import pytest
import zmq

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import remove, short_folder
from harness.raw import MARK, sign

WAIT = 60
HERE, THERE = "10.213.77.1", "10.213.77.2"


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


class Namespace:
    """Another host, at the end of a cable."""

    def __init__(self):
        tag = uuid.uuid4().hex[:6]
        self.name, self.here, self.there = f"prust-{tag}", f"pa-{tag}", f"pb-{tag}"

    def __enter__(self):
        inside = ["-n", self.name]
        steps = [
            ["netns", "add", self.name],
            ["link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name],
            ["addr", "add", f"{HERE}/30", "dev", self.here],
            ["link", "set", self.here, "up"],
            [*inside, "addr", "add", f"{THERE}/30", "dev", self.there],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "link", "set", self.there, "up"],
        ]
        self.failures = [done.stderr for done in (ip(*step) for step in steps) if done.returncode]
        return self

    def cut(self):
        assert ip("-n", self.name, "link", "set", self.there, "down").returncode == 0

    def mend(self):
        assert ip("-n", self.name, "link", "set", self.there, "up").returncode == 0

    def __exit__(self, *_):
        ip("netns", "del", self.name)


def is_allowed():
    if os.geteuid() != 0:
        return False
    try:
        with Namespace() as namespace:
            return not namespace.failures
    except FileNotFoundError:
        return False


# None where namespaces cannot be made: the tests then have no case.
CASES = ["namespaces"] if is_allowed() else []


class TwoHosts(Cluster):
    """The controller here, engines there."""

    def __init__(self, environ, namespace, address):
        self.top = short_folder()
        super().__init__(self.top / "profile", environ, 0)
        self.controller_command = [*self.controller_command, f"--location={HERE}"]
        self.address = address
        self.engine_command = ["ip", "netns", "exec", namespace.name, *self.engine_command]

    def start(self, name, command):
        return super().start(name, [self.address if word == "--ip=127.0.0.1" else word for word in command])

    def __exit__(self, *_):
        super().__exit__()
        remove(self.top)


def forty_two(client):
    result = client[:].execute("6 * 7", silent=False, block=False)
    replies = result.get(WAIT)
    assert result.wait_for_output(WAIT)
    return [reply.execute_result["data"]["text/plain"] for reply in replies]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("address", [f"--ip={HERE}", "--ip=*"])
def test_an_engine_on_another_host_is_lost_with_its_link_and_comes_back(home, case, address):
    with Namespace() as namespace, TwoHosts(home.environ, namespace, address) as cluster:
        cluster.start_engine()
        client = cluster.client(1)
        assert forty_two(client) == ["42"]
        log = cluster.folder / "controller.log"
        assert "whoever reaches this machine can connect" in log.read_text()
        name = client._engines[0]
        work = client[:].execute("std::thread::sleep(std::time::Duration::from_secs(600))", block=False)
        namespace.cut()
        with pytest.raises(ipyparallel.error.RemoteError, match="EngineError"):
            work.get(WAIT)
        eventually(lambda: client.ids == [], WAIT, "the engine is given up")
        namespace.mend()
        eventually(lambda: client.ids == [0], WAIT, "it is back under its number")
        assert client._engines[0] == name
        assert forty_two(client) == ["42"]
        client.close()


# What prust needs itself has been built on the other host, too.
CELLS = shutil.ignore_patterns("*leaf_*", "*unit_*", "*prust_set_*", "src", "deps", "target", "projects", "seen-here-only")


class OtherFiles(TwoHosts):
    """Engines that do not share the notebook's files: where its cache is, they have one that no cell was compiled in."""

    def __init__(self, environ, namespace, address):
        super().__init__(environ, namespace, address)
        cache, other = environ["XDG_CACHE_HOME"], self.top / "cache"
        shutil.copytree(cache, other, ignore=CELLS)
        at = self.engine_command.index(namespace.name) + 1
        self.engine_command[at:at] = ["sh", "-c", f'mount --bind {other} {cache} && exec "$@"', "sh"]


@pytest.mark.parametrize("case", CASES)
def test_what_a_notebook_compiles_runs_on_hosts_that_do_not_share_its_files(home, case, fresh, tmp_path):
    with Namespace() as namespace, OtherFiles(home.environ, namespace, f"--ip={HERE}") as cluster:
        for _ in range(2):
            cluster.start_engine()
        kernel = fresh()
        kernel.ok(f"%cluster attach {cluster.file('client')}")
        seen = Path(home.environ["XDG_CACHE_HOME"]) / "seen-here-only"
        seen.touch()
        kernel.ok(
            "let rc = Client::connect()?; rc.wait_for_engines(2, std::time::Duration::from_secs(60))?;\n"
            "let dv = rc.direct_view(..); let lv = rc.load_balanced_view();\n"
            "fn square(n: u64) -> u64 { n * n }"
        )
        exists = f"std::path::Path::new({json.dumps(str(seen))}).exists()"
        assert kernel.ok(exists).text == "true"
        assert kernel.ok(f"dv.apply(|| {exists}).get()?").text == "[false, false]"
        seen.unlink()
        kernel.ok(
            "%%px\n"
            "#[derive(Debug)] struct Point { x: u64 }\n"
            "impl Point { fn twice(&self) -> u64 { if self.x > 50 { panic!(\"too far\") } self.x * 2 } }\n"
            "let mut point = Point { x: 20 + u64::from(prust::engine_id()) };"
        )
        assert kernel.ok("%%px\npoint.twice()").shown.split("\n") == ["Out[0:2]: 40", "Out[1:2]: 42"]
        assert kernel.ok("lv.chunksize(1).map(square, 0..100u64).get()?.iter().sum::<u64>()").text == "328350"
        kernel.ok("dv.push(\"shared\", &7u8).get()?;")
        assert kernel.ok("dv.pull::<u8>(\"shared\").get()?").text == "[7, 7]"
        failed = kernel.run("%%px\npoint.x = 99;\npoint.twice()")
        assert failed.status == "error" and "too far" in failed.shown
        # The line that called is found in the library on this host.
        assert "In[5]:3:" in failed.shown, failed.shown
        crate = tmp_path / "far"
        (crate / "src").mkdir(parents=True)
        (crate / "Cargo.toml").write_text('[package]\nname = "far"\nversion = "0.1.0"\nedition = "2024"\n')
        (crate / "src" / "lib.rs").write_text("pub fn away() -> u64 { 384_400 }\n")
        kernel.ok(f":dep far = {{ path = {json.dumps(str(crate))} }}", seconds=240)
        assert kernel.ok("dv.apply(far::away).get()?").text == "[384400, 384400]"
        namespace.cut()
        namespace.mend()
        assert kernel.ok("dv.apply_with(9u64, square).get()?").text == "[81, 81]"


@pytest.mark.parametrize("case", CASES)
def test_a_library_that_nobody_has_is_named(home, case):
    with Namespace() as namespace, TwoHosts(home.environ, namespace, f"--ip={HERE}") as cluster:
        cluster.start_engine()
        client = cluster.client(1)
        info = json.loads(cluster.file("client").read_text())
        tasks = zmq.Context.instance().socket(zmq.DEALER)
        tasks.linger = 0
        tasks.connect(f"tcp://{HERE}:{info['task']}")
        library = "/nowhere/libcell.so"
        header = {"msg_id": "m", "session": "s", "username": "t", "date": "2026-01-02T03:04:05Z", "version": "5.4"}
        header["msg_type"] = "apply_request"
        metadata = {"prust": {"library": library, "offset": 64}}
        parts = [json.dumps(part).encode() for part in (header, {}, metadata, {})]
        tasks.send_multipart([MARK, sign(info["key"], parts), *parts, b""])
        assert tasks.poll(WAIT * 1000)
        frames = tasks.recv_multipart()
        content = json.loads(frames[frames.index(MARK) + 5])
        assert content["status"] == "error" and library in content["evalue"], content
        assert "another rustc" in content["evalue"], content
        tasks.close()
        client.close()
