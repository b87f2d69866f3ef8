"""The panel in JupyterLab: it moves, it tells the truth, Cancel works, and what is saved can be read."""

import re

import pytest

from harness.home import NOTEBOOKS
from harness.notebook import WIDGET_VIEW, page as offline_page
from lab import SHOTS, Page

NAP = """
fn nap(n: u64) -> u64 {
    std::thread::sleep(std::time::Duration::from_millis(200));
    n
}
let rc = Client::connect()?;
let naps = rc.load_balanced_view().chunksize(1).label("naps").map(nap, 0..60u64);
naps
"""
RECORDS = """
naps.wait();
for task in naps.metadata() {
    println!("{}", task.received.unwrap().duration_since(std::time::UNIX_EPOCH)?.as_millis());
}
"""
ENGINES = "%cluster start -n 4"
# How far a panel may lag behind the records: the pause between two updates, the way to the page, and a busy machine.
LAG_MS = 1500
BROKEN = ("Loading widget", "Error displaying widget", "model not found")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def quickstart(lab, browser):
    """The quickstart, run and saved in JupyterLab: the tab, the position of each cell by its id, the saved notebook."""
    tab = Page(browser, lab)
    name = lab.put(NOTEBOOKS / "quickstart.ipynb")
    index = {cell.id: position for position, cell in enumerate(code_cells(lab.saved(name)))}
    tab.open(name)
    tab.watch()
    tab.run_all()
    tab.save(name)
    yield tab, index, lab.saved(name)
    tab.shut_down_kernels()
    tab.close()


def test_the_panel_of_the_quickstart_moves(quickstart):
    tab, index, _ = quickstart
    notes = tab.seen(index["find-primes"])
    widths = [note["width"] for note in notes]
    assert len(set(widths)) >= 3, widths
    assert widths == sorted(widths), "done never shrinks"
    assert widths[-1] == 100
    assert notes[-1]["state"].lower() == "done"
    tab.shoot(index["find-primes"], "quickstart-panel")


def test_the_quickstart_shows_its_results(quickstart):
    tab, index, _ = quickstart
    assert "148933" in tab.text(index["count-primes"])
    assert "[stdout:3] engine 3 is ready" in tab.text(index["px"])
    assert "speed-up" in tab.text(index["pi-engines"])
    assert "SIGABRT" in tab.text(index["crash-cell"])
    assert "the engines are still 4" in tab.text(index["still-there"])
    for name in ("px", "task-error", "crash-cell"):
        tab.shoot(index[name], f"quickstart-{name}")


def test_nothing_complains_in_the_console(quickstart):
    tab, _, _ = quickstart
    assert tab.complaints() == []


def test_the_saved_notebook_has_no_live_widget_left(quickstart):
    _, _, saved = quickstart
    bundles = [output.data for cell in code_cells(saved) for output in cell.outputs if "data" in output]
    assert not [bundle for bundle in bundles if WIDGET_VIEW in bundle]


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_the_saved_notebook_reads_well_without_a_kernel(quickstart, lab, browser, trusted):
    _, index, saved = quickstart
    name = "quickstart.ipynb"
    if not trusted:
        name = "copied.ipynb"
        text = (lab.root / "quickstart.ipynb").read_text().replace("148933", "148934")
        (lab.root / name).write_text(text)
    tab = Page(browser, lab)
    tab.open(name, kernel=False)
    shown = tab.text(index["find-primes"])
    assert re.search(r"1[ ,_\u202f\u2019']?999[ ,_\u202f\u2019']?999", shown), shown
    everything = "\n".join(tab.text(position) for position in index.values())
    assert not [words for words in BROKEN if words in everything]
    tab.shoot(index["find-primes"], f"reopened-{'trusted' if trusted else 'untrusted'}")
    tab.close()


def test_the_page_of_the_notebook_reads_well_offline(quickstart, browser, tmp_path):
    _, _, saved = quickstart
    (tmp_path / "quickstart.html").write_text(offline_page(saved), encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 1400})
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{tmp_path}/quickstart.html")
    text = page.inner_text("body")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    for words in ("Rust cells on many engines", "148933", "speed-up", "SIGABRT"):
        assert words in text
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / "offline-page.png", full_page=True)
    context.close()


def test_the_widths_agree_with_the_records(tab, lab):
    name = lab.put([ENGINES, NAP, RECORDS], "naps.ipynb")
    tab.open(name)
    tab.watch()
    tab.run_all()
    received = [int(line) for line in re.findall(r"^\d{13}$", tab.text(2), re.M)]
    assert len(received) == 60, tab.text(2)
    notes = tab.seen(1)
    assert len({note["width"] for note in notes}) >= 3
    for note in notes:
        assert note["width"] == pytest.approx(100 * note["items"] / 60, abs=0.2)
        by_then = sum(at <= note["at"] for at in received)
        well_before = sum(at <= note["at"] - LAG_MS for at in received)
        assert well_before <= note["items"] <= by_then, f"{note} against {by_then} received"
    assert notes[-1]["items"] == 60
    tab.shoot(1, "naps")
    assert tab.complaints() == []


def test_cancel_in_the_middle_stops_the_engines(tab, lab):
    ticks = lab.root / "ticks"
    prepare = f"""
fn tick(n: u64) -> u64 {{
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open("{ticks}").unwrap();
    for _ in 0..1200 {{
        file.write_all(b".").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }}
    n
}}
fn breath() {{
    std::thread::sleep(std::time::Duration::from_millis(400));
}}
let rc = Client::connect()?;
"""
    name = lab.put(
        [
            ENGINES,
            "%%px\nlet kept = prust::engine_id();",
            prepare,
            "rc.load_balanced_view().chunksize(1).map(tick, 0..8u64).get()?",
            f'let before = std::fs::metadata("{ticks}")?.len();\n'
            "rc.direct_view(..).apply(breath).get()?;\n"
            f'println!("ticks then {{before}}, now {{}}", std::fs::metadata("{ticks}")?.len());',
            "%px kept",
        ],
        "cancel.ipynb",
    )
    tab.open(name)
    for position in (0, 1, 2):
        tab.run_cell(position)
    tab.run_cell(3, wait=False)
    button = tab.output(3).get_by_role("button", name="Cancel").first
    button.wait_for()
    tab.page.wait_for_function("() => (document.querySelector('.prust-state') || {}).innerText.match(/running/i)")
    tab.shoot(3, "cancel-running")
    button.click()
    tab.wait_ran(20)
    assert "ancel" in tab.text(3), tab.text(3)
    tab.shoot(3, "cancel-cancelled")
    tab.run_cell(4)
    then, now = re.search(r"ticks then (\d+), now (\d+)", tab.text(4)).groups()
    assert int(then) == int(now) > 0, "the engines have stopped working"
    tab.run_cell(5)
    for engine in range(4):
        assert re.search(rf"Out\[{engine}:\d+\]: {engine}", tab.text(5)), "the engines' variables are kept"
    assert tab.complaints() == []
