"""Every row of the transcripts, played to a real kernel."""

from pathlib import Path

import pytest

from harness.deadline import Late
from harness.home import ROOT
from harness.kernel import Kernel
from harness.transcript import Player, rows

FOLDER = Path(__file__).parent
ROWS = [row for path in sorted(FOLDER.glob("[0-9]*.txt")) for row in rows(path)]
NOT_YET = dict(line.split(maxsplit=1) for line in (FOLDER / "not_yet.txt").read_text().splitlines() if line.strip())
PROMISED = range(1, 90)


class Desk:
    """The kernel of the file being played; another one after a row that went wrong."""

    def __init__(self, folder):
        self.folder, self.kernel = folder, None

    def cleared(self):
        if self.kernel is None:
            self.kernel = Kernel(cwd=self.folder)
        self.kernel.ok("%clear", store_history=False)
        return self.kernel

    def leave(self):
        if self.kernel is not None:
            self.kernel.close()
        self.kernel = None


@pytest.fixture(scope="module")
def desks(home, tmp_path_factory):
    desks = {}

    def of(path):
        for other, desk in desks.items():
            if other != path:
                desk.leave()
        return desks.setdefault(path, Desk(tmp_path_factory.mktemp(path.stem)))

    yield of
    for desk in desks.values():
        desk.leave()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{'not-yet-' * (row.number in NOT_YET)}{row.name}")
def test_row(row, desks):
    desk = desks(row.path)
    try:
        Player(row, desk.cleared(), ROOT).play()
    except (AssertionError, Late):
        desk.leave()
        if row.number not in NOT_YET:
            raise
    else:
        assert row.number not in NOT_YET, "the row holds now: take it off not_yet.txt"


def test_every_promise_has_a_row():
    numbers = {int(row.number.rstrip("abcdefghijklmnopqrstuvwxyz")) for row in ROWS if row.number[0].isdigit()}
    assert numbers == set(PROMISED)
    names = [row.number for row in ROWS]
    assert len(names) == len(set(names)), "two rows have one number"
    assert not set(NOT_YET) - set(names), "the list of what does not hold yet names a row that is not there"
