"""A little of `make chaos`."""

import scenes


def test_a_controller_and_engines_under_faults(home, tmp_path):
    counts, _ = scenes.processes(800, 11, 240, tmp_path, home.environ)
    assert sum(counts.values()) >= 3, counts


def test_the_cluster_of_a_kernel_under_faults(home, tmp_path):
    counts, _ = scenes.pool(4000, 12, 240, tmp_path)
    assert sum(counts.values()) >= 2, counts
