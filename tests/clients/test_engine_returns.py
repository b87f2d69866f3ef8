"""An engine of ours that falls silent is lost after seconds, and is itself again when it is heard again."""

import os
import signal

import ipyparallel
import pytest

from harness.cluster import Cluster
from harness.deadline import eventually
from harness.home import binary, remove, short_folder

WAIT = 60


@pytest.fixture
def served(home):
    """A controller with two engines whose silence is noticed after a second, and a client."""
    folder = short_folder()
    controller = [str(binary()), "controller", "--lost-after=1000"]
    with Cluster(folder / "profile", home.environ, 2, controller=controller) as cluster:
        with ipyparallel.Client(str(cluster.file("client")), timeout=20) as client:
            client.wait_for_engines(2, timeout=WAIT, interactive=False)
            yield cluster, client
    remove(folder)


def test_a_stopped_engine_is_lost_and_comes_back_under_its_number(served):
    cluster, client = served
    client[:].execute("let mut kept = 7;", block=True)
    begun = client[:].execute('println!("go"); std::thread::sleep(std::time::Duration::from_secs(600));')
    eventually(lambda: begun.stdout == ["go\n"] * 2, WAIT, "work on both engines")
    _, engine, _ = cluster.processes
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        eventually(lambda: len(client.ids) == 1, WAIT, "the loss of a silent engine")
        lost = ({0, 1} - set(client.ids)).pop()
        with pytest.raises(ipyparallel.CompositeError) as error:
            client.send_signal(signal.SIGINT, targets=client.ids, block=True)
            begun.get(timeout=WAIT)
        assert "was silent for more than 1 s" in str(error.value)
    finally:
        os.kill(engine.pid, signal.SIGCONT)
    eventually(lambda: sorted(client.ids) == [0, 1], WAIT, "the engine's return")
    # What it ran is interrupted, since nobody waits for it any more; its variables are there.
    result = client[lost].execute("kept + 1", silent=False)
    result.get(timeout=WAIT)
    assert result.wait_for_output(WAIT)
    assert result.metadata["execute_result"]["data"]["text/plain"] == "8"
