"""A little of `make chaos`."""

import scenes


def test_a_controller_and_engines_under_faults(home, tmp_path):
    counts, _ = scenes.processes(800, 11, 240, tmp_path, home.environ)
    assert sum(counts.values()) >= 3, counts


def test_the_cluster_of_a_kernel_under_faults(home, tmp_path):
    counts, _ = scenes.pool(4000, 12, 240, tmp_path)
    assert sum(counts.values()) >= 2, counts


def test_a_cluster_over_a_network_that_is_cut(home, tmp_path):
    counts, _ = scenes.attached(4000, 13, 240, tmp_path)
    assert counts.get("connection cut", 0) >= 1, counts
