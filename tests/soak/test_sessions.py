"""Random sessions, held to a model that shares no code with the planner. `make soak` plays many more of them."""

import pytest
from play import play

from harness.kernel import Kernel

SEEDS = range(30)


@pytest.fixture(scope="module")
def desk(home, tmp_path_factory):
    """One kernel for all sessions, until one goes wrong."""
    kernels = []

    def kernel():
        if not kernels:
            kernels.append(Kernel(cwd=tmp_path_factory.mktemp("soak")))
        return kernels[0]

    kernel.leave = lambda: kernels.pop().close()
    yield kernel
    while kernels:
        kernel.leave()


@pytest.mark.parametrize("seed", SEEDS)
def test_session(seed, desk):
    try:
        play(desk(), seed)
    except AssertionError:
        desk.leave()
        raise
