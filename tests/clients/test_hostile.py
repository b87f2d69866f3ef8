"""Hostile peers on every port, for a short while: see `hostile.py`."""

import hostile


def test_honest_work_goes_on_among_hostile_peers(home):
    said = []
    counts, n_rounds, sizes, _, log = hostile.play(home.environ, 40_000, seed=7, say=said.append)
    assert sum(counts.values()) >= 40_000 and len(counts) > 15, counts
    assert n_rounds >= 1, (said, sizes)
    assert "messages were dropped" in log
