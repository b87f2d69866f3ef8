"""`:dep` as a notebook meets it: live progress, an interrupt, engines, the user's own cargo settings, no network."""

import os

import pytest

from harness.deadline import eventually
from harness.processes import commands, marked

LIBRARY = "pub fn answer() -> i32 { 42 }\npub struct S(pub u8);\n"


def package(folder, name="local", library=LIBRARY, manifest="", script=None):
    """A package on this disk. cargo has never seen it: its folder is new."""
    (folder / name / "src").mkdir(parents=True)
    head = f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2024"\n'
    (folder / name / "Cargo.toml").write_text(head + manifest)
    (folder / name / "src" / "lib.rs").write_text(library)
    if script:
        (folder / name / "build.rs").write_text(script)
    return folder / name


def shown(cell):
    """text/plain of the displays, first to last."""
    return [message["content"]["data"]["text/plain"] for message in cell.of("display_data", "update_display_data")]


def test_a_build_shows_its_progress_in_one_display(fresh, tmp_path):
    package(tmp_path)
    kernel = fresh()
    cell = kernel.ok(':dep local = { path = "local" }\nlocal::answer()')
    assert cell.text == "42"
    # Another cargo on this machine may be waited for first.
    *before, last = shown(cell)
    assert any(text.startswith("Compiling local v0.1.0") for text in before), before
    assert last.startswith("1 crate: built after"), last
    ids = {message["content"]["transient"]["display_id"] for message in cell.of("display_data", "update_display_data")}
    assert len(ids) == 1
    assert shown(kernel.ok(':dep local = { path = "local" }')) == [], "it is there already"


def test_an_interrupt_ends_cargo_and_changes_nothing(fresh, tmp_path):
    seconds = "std::time::Duration::from_secs(3600)"
    package(tmp_path, script=f"fn main() {{ std::thread::sleep({seconds}) }}")
    kernel = fresh()
    kernel.ok("let kept = 5;")
    before = pids(kernel)
    running = kernel.send(':dep local = { path = "local" }')
    running.until(lambda message: message["msg_type"] == "display_data")
    eventually(lambda: is_running(kernel, "build-script-build"), 60, "the build script runs")
    kernel.interrupt()
    cell = running.finish()
    assert cell.reply["content"]["ename"] == "Interrupted", cell.reply
    assert shown(cell)[-1].startswith("1 crate: interrupted after")
    eventually(lambda: pids(kernel) <= before, 10, "cargo and its children are gone")
    kernel.fails("local::answer()", "local")
    assert kernel.ok("kept").text == "5"
    (tmp_path / "local" / "build.rs").unlink()
    assert kernel.ok(':dep local = { path = "local" }\nlocal::answer() + kept').text == "47"


def pids(kernel):
    return {process.pid for process in marked(kernel.mark)}


def is_running(kernel, program):
    return any(program in " ".join(command) for command in commands(kernel.mark))


def test_front_matter_and_several_lines_are_one_wish(fresh, tmp_path):
    package(tmp_path)
    package(tmp_path, "other-one", "pub fn one() -> i32 { 1 }")
    kernel = fresh()
    front = '---\n[dependencies]\nlocal = { path = "local" }\nother-one = { path = "other-one" }\n---\n'
    assert kernel.ok(front + "local::answer() + other_one::one()").text == "43"
    cell = kernel.ok(':dep log = "0.4"\n:dep fastrand\nlog::max_level()')
    assert cell.text == "Off"


def test_a_bad_dependency_is_named_and_the_notebook_goes_on(fresh, tmp_path):
    kernel = fresh()
    kernel.ok("let kept = 5;")
    cell = kernel.fails(":dep prust-no-such-crate-0", "DependencyError", "no crate `prust-no-such-crate-0`")
    assert "prust-notebook" not in cell.error
    kernel.fails(":dep log = {", "dependency")
    package(tmp_path, library="pub fn answer() -> i32 { true }")
    kernel.fails(':dep local = { path = "local" }', "`local` does not compile", "mismatched types")
    kernel.fails("local::answer()", ":dep local")
    assert kernel.ok("kept").text == "5"


def test_an_edited_package_is_built_before_the_next_cell(fresh, tmp_path):
    folder = package(tmp_path)
    kernel = fresh()
    kernel.ok(':dep local = { path = "local" }\nfn twice() -> i32 { 2 * local::answer() }')
    kernel.ok("let s = local::S(1); let n = 3;")
    (folder / "src" / "lib.rs").write_text(LIBRARY.replace("42", "50"))
    cell = kernel.ok("twice() + n")
    assert cell.text == "103"
    assert "`s` can no longer be used" in cell.stderr


def test_what_another_feature_costs_is_said_before_the_build(fresh, tmp_path):
    library = "pub struct S(pub u8);\n#[cfg(feature = \"more\")] pub fn more() -> u8 { 7 }\n"
    package(tmp_path, library=library, manifest="[features]\nmore = []\n")
    kernel = fresh()
    kernel.ok(':dep local = { path = "local" }')
    kernel.ok("let s = local::S(1); let n = 3u8; fn take(s: &local::S) -> u8 { s.0 }")
    cell = kernel.ok(':dep local = { path = "local", features = ["more"] }')
    order = [message["msg_type"] for message in cell.of("stream", "display_data")]
    assert order[0] == "stream", "before anything is compiled"
    assert "`local`: `s` will be lost" in cell.stderr and "`take` will be made anew" in cell.stderr, cell.stderr
    assert "`s` can no longer be used" in cell.stderr
    assert kernel.ok("n + take(&local::S(1)) + local::more()").text == "11"
    kernel.fails("s.0", "`s`")


def test_engines_have_the_notebooks_crates(fresh, tmp_path):
    folder = package(tmp_path)
    kernel = fresh()
    kernel.ok("%cluster start -n 2")
    kernel.ok("let rc = Client::connect()?; rc.wait_for_engines(2, std::time::Duration::from_secs(60))?;")
    kernel.ok("let ar = rc.direct_view(..).apply(|| 7u8);")
    kernel.ok('%%px\n:dep local = { path = "local" }\nlet mine = local::S(9);')
    assert kernel.ok("ar.get()?").text == "[7, 7]", "it is of the same prust crate"
    cell = kernel.ok("%%px\nlocal::answer() + i32::from(mine.0)")
    assert cell.shown.count("51") == 2, cell.shown
    assert kernel.ok("rc.direct_view(..).apply(local::answer).get()?").text == "[42, 42]"
    (folder / "src" / "lib.rs").write_text(LIBRARY.replace("42", "500"))
    assert kernel.ok("%%px\nlocal::answer()").shown.count("500") == 2


# What a config.toml of the user's says, as cargo reads it from the environment, too.
SETTINGS = {
    "RUSTFLAGS": "--not-a-flag",
    "CARGO_BUILD_RUSTFLAGS": "--not-a-flag",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS": "--not-a-flag",
    "RUSTC_WRAPPER": "/nowhere/wrapper",
    "CARGO_BUILD_RUSTC_WRAPPER": "/nowhere/wrapper",
    "RUSTC_WORKSPACE_WRAPPER": "/nowhere/wrapper",
    "CARGO_PROFILE_RELEASE_DEBUG": "true",
    "CARGO_PROFILE_RELEASE_PANIC": "abort",
    "CARGO_TERM_QUIET": "true",
}


def test_the_users_cargo_settings_stay_out(fresh, tmp_path):
    package(tmp_path)
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["local"]\n')
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo" / "config.toml").write_text('[build]\nrustflags = ["--not-a-flag"]\n')
    elsewhere = {name: str(tmp_path / "elsewhere") for name in ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR")}
    kernel = fresh(**SETTINGS, **elsewhere)
    assert kernel.ok(':dep local = { path = "local" }\nlocal::answer()').text == "42"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "changes, remark",
    [
        ({"CARGO_NET_OFFLINE": "true"}, ""),
        ({"https_proxy": "http://127.0.0.1:9", "CARGO_NET_RETRY": "0"}, "the network cannot be reached"),
    ],
)
def test_without_a_network_cargos_own_cache_serves(fresh, tmp_path, changes, remark):
    fresh().ok(':dep log = "0.4"')  # into the cache, if it is not there
    package(tmp_path, manifest='[dependencies]\nlog = "0.4"\n')
    cell = fresh(**changes).ok(':dep local = { path = "local" }\nlocal::answer()')
    assert cell.text == "42"
    assert remark in cell.stderr and bool(remark) == bool(cell.stderr), cell.stderr
