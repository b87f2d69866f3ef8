"""Plots, tables, images and displays in JupyterLab: what the page really has, and pictures of it in both themes."""

import pytest

from clients.test_gallery import CURVE, IMAGE, PICTURE, PLOTTERS, TABLES

CELLS = {
    "crates": "\n".join([PLOTTERS, TABLES, IMAGE]),
    "curve": CURVE,
    "figure": "curve(3)",
    "image": PICTURE + "prust::png(png_of(&picture)?)",
    "table": 'use prettytable::{evcxr::EvcxrDisplay, row, table};\ntable!(["name", "born"], ["Ada", 1815], ["Grace", 1906])',
    "two": 'println!("before");\nprust::display(&curve(1));\nprintln!("between");\nprust::display(&curve(2));\nprintln!("after");',
    "updated": 'prust::display_as("plot", &curve(1));\nprust::display_as("note", &prust::html("<i>drawing</i>"));',
    "update": 'prust::update_display("plot", &curve(5));\nprust::update_display("note", &prust::html("<b>drawn</b>"));',
    "cleared": 'println!("gone");\nprust::display(&curve(1));\nprust::clear_output();\nprust::display(&prust::html("<b>left</b>"));',
    "opaque": "struct Secret(u8);\nSecret(3)",
    "long": "(0..100_000).collect::<Vec<_>>()",
    "bar": 'use std::io::Write;\nfor n in 0..=4 {\n    print!("\\r{:3} %", 25 * n);\n    std::io::stdout().flush()?;\n}',
}
NAMES = list(CELLS)


@pytest.fixture(scope="module")
def gallery(lab, browser):
    """The notebook, run."""
    from lab import Page

    tab = Page(browser, lab, height=1400)
    tab.open(lab.put(list(CELLS.values()), "gallery.ipynb"))
    tab.run_all(wait=False)
    tab.wait_ran(600)
    yield tab
    tab.shut_down_kernels()
    tab.close()


def output(tab, name):
    return tab.output(NAMES.index(name))


def captions(tab, name):
    """The words over the figures of a cell, from elements of the page and not from its text."""
    figures = output(tab, name).locator("svg:has(polyline)")
    return [figures.nth(n).locator("text").first.text_content().strip() for n in range(figures.count())]


def test_a_figure_is_drawn_in_the_page(gallery):
    assert captions(gallery, "figure") == ["x to the 3"]
    box = output(gallery, "figure").locator("svg:has(polyline)").bounding_box()
    assert (box["width"], box["height"]) == (320, 240)
    assert "polyline" not in output(gallery, "figure").inner_text() and "EVCXR" not in output(gallery, "figure").inner_text()
    gallery.shoot(NAMES.index("figure"), "gallery-figure")


def test_an_image_is_loaded(gallery):
    image = output(gallery, "image").locator("img")
    assert image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [32, 16]
    gallery.shoot(NAMES.index("image"), "gallery-image")


def test_a_table_is_shown_once(gallery):
    cells = output(gallery, "table").locator("td")
    assert [text.strip() for text in cells.all_inner_texts()] == ["name", "born", "Ada", "1815", "Grace", "1906"]
    assert output(gallery, "table").inner_text().count("Ada") == 1
    gallery.shoot(NAMES.index("table"), "gallery-table")


def test_two_figures_stand_between_their_lines(gallery):
    assert captions(gallery, "two") == ["x to the 1", "x to the 2"]
    places = [output(gallery, "two").get_by_text(word, exact=True).bounding_box()["y"] for word in ("before", "between", "after")]
    figures = output(gallery, "two").locator("svg:has(polyline)")
    first, second = (figures.nth(n).bounding_box()["y"] for n in (0, 1))
    assert places[0] < first < places[1] < second < places[2]
    gallery.shoot(NAMES.index("two"), "gallery-two")


def test_an_update_takes_the_place_of_what_was_shown(gallery):
    assert captions(gallery, "updated") == ["x to the 5"]
    assert "drawn" in output(gallery, "updated").inner_text() and "drawing" not in output(gallery, "updated").inner_text()
    assert output(gallery, "update").inner_text().strip() == ""
    gallery.shoot(NAMES.index("updated"), "gallery-updated")


def test_what_was_cleared_is_gone(gallery):
    assert output(gallery, "cleared").inner_text().strip() == "left"
    assert captions(gallery, "cleared") == []


def test_text_is_readable(gallery):
    assert "#[derive(Debug)]" in output(gallery, "opaque").inner_text()
    assert output(gallery, "bar").inner_text().strip() == "100 %", "the bar has moved on one line"
    assert "99999" in output(gallery, "long").inner_text()
    for name in ("opaque", "bar"):
        gallery.shoot(NAMES.index(name), f"gallery-{name}")


def test_nothing_complains(gallery):
    assert gallery.complaints() == []
