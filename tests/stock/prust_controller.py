"""A pytest plugin for ipyparallel's own tests: their controller is prust's, their engines and clients stay their own.

The run is held to `expected.txt`, the ids that pass on their own controller: each of them has to pass, and nothing else
may. `but.txt` names those that are left out, with the reason. With `--record` their own controller runs, and what
passes becomes `expected.txt`."""

from pathlib import Path

import pytest
from harness.home import binary
from ipyparallel.cluster import launcher

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected.txt"
LEFT_OUT = HERE / "but.txt"


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="run the stock controller and write down what passes")


def pytest_configure(config):
    recording = config.getoption("--record")
    if recording and config.getoption("keyword"):
        raise pytest.UsageError("--record writes down all that passes: leave -k out")
    if not recording:
        put_in_place([str(binary()), "controller"])
    config.pluginmanager.register(Verdict(recording), "verdict")


def put_in_place(command):
    """Every way of ipyparallel to start a controller starts `command` from now on."""
    launcher.ipcontroller_cmd_argv[:] = command
    # The launchers of its Cluster class made a copy of that list.
    launcher.ControllerLauncher.controller_cmd.default_args = (command,)
    assert launcher.LocalControllerLauncher().controller_cmd == command


def left_out():
    """Id -> reason."""
    lines = (line for line in LEFT_OUT.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split(maxsplit=1) for line in lines)


class Verdict:
    """Which ids passed, and whether these are the ones that should."""

    def __init__(self, recording):
        self.recording = recording
        self.collected, self.passed, self.failed = set(), set(), set()
        self.complaints = []

    def pytest_collection_modifyitems(self, config, items):
        dropped = [item for item in items if item.nodeid in left_out()]
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)

    def pytest_collection_finish(self, session):
        self.collected = {item.nodeid for item in session.items}

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed.add(report.nodeid)

    def pytest_sessionfinish(self, session, exitstatus):
        has_run = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if not has_run or session.config.option.collectonly:
            return
        passed = self.passed - self.failed
        if self.recording:
            EXPECTED.write_text("".join(f"{name}\n" for name in sorted(passed)))
            return
        expected = set(EXPECTED.read_text().split())
        if session.config.option.keyword:
            expected &= self.collected
        self.complaints += [f"does not pass, and does on their controller: {name}" for name in sorted(expected - passed)]
        self.complaints += [f"passes, and does not on their controller: {name}" for name in sorted(passed - expected)]
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if self.complaints else pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("prust's controller in the place of theirs" if not self.recording else "recorded")
        for complaint in self.complaints:
            terminalreporter.line(complaint, red=True)
        for name, reason in left_out().items():
            terminalreporter.line(f"left out: {name}: {reason}")
        terminalreporter.line(f"{len(self.passed - self.failed)} pass, {len(self.complaints)} not as on theirs")
