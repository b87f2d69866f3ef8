"""A machine that lacks something: each time one clear error, in the cell and from `prust doctor`."""

import os

import pytest

from harness.home import Home
from harness.kernel import Kernel
from harness.toolchain import Toolchain, empty_path


def says(home, tmp_path, words, **changes):
    """The first cell and `prust doctor` both fail with each of `words`, and neither panics."""
    with Kernel(cwd=tmp_path, **changes) as kernel:
        cell = kernel.fails("1 + 1", *words, seconds=120)
        assert "panicked" not in cell.error
        kernel.fails("2 + 2", *words)
        reply, _ = kernel.control("kernel_info_request")
        assert reply["content"]["status"] == "ok", "the kernel itself lives"
    doctor = home.prust("doctor", seconds=120, **changes)
    said = doctor.stdout + doctor.stderr
    assert doctor.returncode != 0 and "panicked" not in said
    for word in words:
        assert word in said, said


def test_no_rustc(home, tmp_path):
    path = empty_path(tmp_path / "bin")
    says(home, tmp_path, ["rustc", "rustup.rs"], PATH=path, CARGO_HOME=str(tmp_path), RUSTUP_HOME=str(tmp_path))


def test_a_rustc_that_does_not_exist(home, tmp_path):
    says(home, tmp_path, ["/nowhere/rustc"], RUSTC="/nowhere/rustc")


def test_a_toolchain_without_the_standard_library(home, tmp_path):
    toolchain = Toolchain(tmp_path / "toolchain", without=["libstd-*.so"], environ=home.environ)
    says(home, tmp_path, ["libstd"], **toolchain.environ)


def test_a_cache_directory_that_cannot_be_made(home, tmp_path):
    (tmp_path / "file").write_text("in the way")
    says(home, tmp_path, [str(tmp_path / "file")], XDG_CACHE_HOME=str(tmp_path / "file"))


def test_a_cache_directory_that_cannot_be_written(home, tmp_path):
    if os.geteuid() == 0:
        folder = "/proc/self"  # for root, permission bits do not count; this file system refuses everybody
    else:
        folder = str(tmp_path / "cache")
        os.mkdir(folder, mode=0o500)
    says(home, tmp_path, ["cache"], XDG_CACHE_HOME=folder)


def test_doctor_is_content_with_this_machine(home):
    doctor = home.prust("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "rustc" in doctor.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["kernel"], ["install"], ["kernel", "-f", "/nowhere/file.json"]])
def test_a_wrong_command_line_is_explained(home, arguments):
    done = home.prust(*arguments, seconds=20)
    assert done.returncode != 0 and done.stderr and "panicked" not in done.stderr


def test_the_version_is_said(home):
    assert home.prust("--version").stdout.startswith("prust 0.")


def test_a_cold_cache_is_filled_by_the_first_cell(tmp_path, home):
    cold = Home.make(tmp_path / "cold", cache=tmp_path / "cache")
    with Kernel(cwd=tmp_path, XDG_CACHE_HOME=cold.environ["XDG_CACHE_HOME"]) as kernel:
        cell = kernel.ok("1 + 1", seconds=240)
        assert cell.text == "2"
        assert "Preparing prust for this Rust toolchain, once: Compiling serde" in cell.shown
        assert "Prepared for this Rust toolchain after" in cell.shown
