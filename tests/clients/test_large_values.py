"""Values that are too large for messages stay in memory that the cells and the engines of one machine share: they are
exact, and nothing is left of them."""

import stat
from pathlib import Path

import pytest
from harness.kernel import Kernel

MEMORY = Path("/dev/shm")


def folders():
    return set(MEMORY.glob("prust-of-*"))


@pytest.fixture
def engines(home, tmp_path):
    """A kernel with two engines and a million numbers; its folder in memory goes with it."""
    before = folders()
    with Kernel(cwd=tmp_path) as kernel:
        kernel.ok("%cluster start -n 2", seconds=180)
        kernel.ok("let rc = Client::connect()?; let dv = rc.direct_view(..); let lv = rc.load_balanced_view();")
        kernel.ok("let big: Vec<f64> = (0..1_000_000).map(|n| n as f64 * 0.5).collect();")
        yield kernel, lambda: [file for folder in folders() - before for file in folder.iterdir()]
    assert folders() <= before


def test_what_is_pushed_scattered_pulled_and_gathered_is_exact(engines):
    kernel, files = engines
    kernel.ok('dv.push("copy", &big).get()?;')
    assert files(), "a large value is in memory that is shared"
    assert {stat.S_IMODE(file.stat().st_mode) for file in files()} == {0o600}
    sums = kernel.ok("%px (copy.len(), copy.iter().sum::<f64>())").shown
    assert sums.count("(1000000, 249999750000.0)") == 2, sums
    assert kernel.ok('dv.pull::<Vec<f64>>("copy").get()?.iter().all(|copy| *copy == big)').shown == "true"
    kernel.ok('dv.scatter("part", &big).get()?;')
    assert kernel.ok("%px part.len()").shown.count("500000") == 2
    assert kernel.ok('dv.gather::<f64>("part").get()? == big').shown == "true"


def test_large_items_are_mapped_and_a_failed_one_is_tried_again(engines):
    kernel, _ = engines
    kernel.ok(
        "fn halves(all: Vec<f64>) -> Vec<f64> {\n"
        '    assert!(all[1] < 1.0 || std::env::var("TRY_AGAIN").is_ok(), "not yet");\n'
        "    all.iter().map(|n| n / 2.0).collect()\n"
        "}"
    )
    kernel.ok("let twice: Vec<f64> = big.iter().map(|n| n * 2.0).collect();")
    kernel.ok("let halved = lv.chunksize(2).map(halves, vec![big.clone(), twice.clone()]);")
    assert "not yet" in kernel.fails("halved.get()?;").error
    kernel.ok('%px unsafe { std::env::set_var("TRY_AGAIN", "1") }')
    kernel.ok("let again = halved.retry().get()?;")
    assert kernel.ok("again == vec![big.clone()]").shown == "true"


def test_large_values_that_cannot_be_shared_travel_in_messages(engines):
    kernel, files = engines
    kernel.ok('dv.push("copy", &big).get()?;')
    folder = files()[0].parent
    # Nothing new can be written there any more.
    moved = folder.rename(folder.with_name("prust-test-moved"))
    try:
        kernel.ok('dv.push("other", &big).get()?;')
        # Where that takes long, its progress is shown, too.
        assert kernel.ok('dv.pull::<Vec<f64>>("other").get()?.iter().all(|copy| *copy == big)').text == "true"
    finally:
        moved.rename(folder)
