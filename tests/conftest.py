"""Fixtures of all Python tests: one private Jupyter home for the session, and kernels in it."""

import os

import pytest

from harness.home import Home, short_folder, remove
from harness.kernel import Kernel


@pytest.fixture(scope="session")
def home():
    """The session's home with the prust kernelspec installed; this process lives in it too."""
    before = dict(os.environ)
    folder = short_folder()
    home = Home.make(folder)
    home.adopt()
    home.install()
    yield home
    os.environ.clear()
    os.environ.update(before)
    remove(folder)


@pytest.fixture(scope="module")
def kernel(home, tmp_path_factory):
    """A kernel that the tests of one module share."""
    with Kernel(cwd=tmp_path_factory.mktemp("notebook")) as kernel:
        yield kernel


@pytest.fixture
def fresh(home, tmp_path):
    """Starts kernels that only one test uses; all are gone after it."""
    kernels = []

    def start(**options):
        options.setdefault("cwd", tmp_path)
        kernels.append(Kernel(**options))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.close()
