"""Plots, tables and images from the crates that people draw with, as a notebook shows them: as the value of a cell, in
the middle of a cell, several from one cell."""

import base64
import json
import re
import struct
import xml.etree.ElementTree as ElementTree

import pytest

# With few features: a cold cache has to build all of it.
PLOTTERS = """:dep plotters = { version = "0.3", default-features = false, features = ["evcxr", "svg_backend", "line_series"] }"""
TABLES = """:dep prettytable-rs = { version = "0.10", default-features = false, features = ["evcxr"] }"""
IMAGE = """:dep image = { version = "0.25", default-features = false, features = ["png"] }"""
SHOWATA = """:dep showata = "0.3\""""
PLOTLY = """:dep plotly = "0.14\""""

CURVE = """
use plotters::{evcxr::SVGWrapper, prelude::*};

fn curve(power: i32) -> SVGWrapper {
    evcxr_figure((320, 240), |root| {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(format!("x to the {power}"), ("sans-serif", 20))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(36)
            .build_cartesian_2d(-1.0..1.0, -1.0..1.0)?;
        chart.configure_mesh().draw()?;
        let points = (-50..=50).map(|n| f64::from(n) / 50.0).map(|x| (x, x.powi(power)));
        chart.draw_series(LineSeries::new(points, &RED))?;
        Ok(())
    })
}
"""
PICTURE = """
use image::{Rgb, RgbImage};

fn png_of(picture: &RgbImage) -> Result<Vec<u8>, image::ImageError> {
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png)?;
    Ok(png.into_inner())
}

let picture = RgbImage::from_fn(32, 16, |x, y| Rgb([8 * x as u8, 16 * y as u8, 128]));
"""
# What is written for an image by hand where the crate that did it, evcxr_image, knows only old versions.
SHOWS_ITSELF = """
struct Picture(RgbImage);

impl Picture {
    fn evcxr_display(&self) {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in png_of(&self.0).unwrap().chunks(3) {
            let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
            let word = at(0) << 16 | at(1) << 8 | at(2);
            for n in 0..4 {
                let digit = digits[(word >> (18 - 6 * n)) as usize & 63];
                text.push(if n <= three.len() { char::from(digit) } else { '=' });
            }
        }
        println!("EVCXR_BEGIN_CONTENT image/png\\n{text}\\nEVCXR_END_CONTENT");
    }
}
"""


@pytest.fixture(scope="module")
def gallery(kernel):
    """A kernel with what every test here draws with. The build is the longest part."""
    kernel.ok("\n".join([PLOTTERS, TABLES, IMAGE]), seconds=600)
    kernel.ok(CURVE)
    kernel.ok(PICTURE)
    return kernel


def seen(cell):
    """What a person sees of a cell, in order: text as it is, a display as its bundle."""
    found = []
    for message in cell.of("stream", "display_data", "execute_result"):
        content = message["content"]
        if message["msg_type"] != "stream":
            found.append(content["data"])
        elif found and isinstance(found[-1], str):
            found[-1] += content["text"]
        else:
            found.append(content["text"])
    return found


def caption(bundle):
    """What is written over a figure of plotters. The figure is well-formed, and has a curve of 101 points."""
    assert set(bundle) == {"text/html"}
    figure = ElementTree.fromstring(bundle["text/html"])
    svg = figure.find("{http://www.w3.org/2000/svg}svg")
    points = [line.get("points").split() for line in svg.iter("{http://www.w3.org/2000/svg}polyline")]
    assert max(map(len, points)) == 101
    texts = [text.text.strip() for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    return next(text for text in texts if text.startswith("x to the"))


def png_size(bundle):
    """Width and height of a PNG, from its header."""
    png = base64.b64decode(bundle["image/png"], validate=True)
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", png[16:24])


def test_a_figure_of_plotters_is_the_value(gallery):
    [figure] = seen(gallery.ok("curve(2)"))
    assert caption(figure) == "x to the 2"


def test_a_figure_is_kept_and_shown_later_and_with_a_style(gallery):
    [figure] = seen(gallery.ok("let kept = curve(4);\nkept"))
    assert caption(figure) == "x to the 4"
    assert seen(gallery.ok("kept")) == [figure]
    [styled] = seen(gallery.ok('kept.style("width: 50%")'))
    assert styled["text/html"].startswith('<div style="width: 50%"><svg')


def test_figures_and_text_of_one_cell_keep_their_order(gallery):
    cell = gallery.ok(
        'println!("first");\ncurve(1).evcxr_display();\nprint!("second, ");\nprust::display(&curve(2));\n'
        'println!("third");\nprust::display(&curve(3));\ncurve(4)'
    )
    first, one, second, two, third, three, four = seen(cell)
    assert (first, second, third) == ("first\n", "second, ", "third\n")
    assert [caption(each) for each in (one, two, three, four)] == [f"x to the {power}" for power in (1, 2, 3, 4)]


def test_a_figure_is_seen_while_the_cell_runs(gallery):
    running = gallery.send('curve(2).evcxr_display();\nprust::input("more? ")', allow_stdin=True)
    running.until(lambda message: message["msg_type"] == "display_data")
    gallery.client.get_stdin_msg(timeout=30)
    gallery.client.input("no")
    assert running.finish().text == '"no"'


def test_a_figure_takes_the_place_of_another(gallery):
    cell = gallery.ok('prust::display_as("figure", &curve(2));\nprust::update_display("figure", &curve(3));')
    shown = [(message["msg_type"], message["content"]) for message in cell.of("display_data", "update_display_data")]
    assert [kind for kind, _ in shown] == ["display_data", "update_display_data"]
    assert [content["transient"]["display_id"] for _, content in shown] == ["figure", "figure"]
    assert [caption(content["data"]) for _, content in shown] == ["x to the 2", "x to the 3"]


def test_a_drawing_that_fails_is_an_error_at_its_line(gallery):
    cell = gallery.fails('evcxr_figure((32, 24), |root| Err("no ink".into()))', "Drawing failure", "no ink")
    assert cell.of("display_data", "execute_result") == []


def test_a_table_has_one_display_with_its_text_and_its_html(gallery):
    cell = gallery.ok('use prettytable::{evcxr::EvcxrDisplay, row, table};\nlet t = table!(["name", "n"], ["Ada", 1]);\nt')
    [table] = seen(cell)
    assert set(table) == {"text/plain", "text/html"}
    assert "| Ada  | 1 |" in table["text/plain"]
    assert re.sub(r"\s+style=\"[^\"]*\"", "", table["text/html"]).count("<td>") == 4


def test_two_tables_of_one_cell_are_both_shown(gallery):
    cell = gallery.ok(
        'use prettytable::{evcxr::EvcxrDisplay, row, table};\n'
        'table!(["a"]).evcxr_display();\nprust::display(&table!(["b"]));\ntable!(["c"])'
    )
    tables = seen(cell)
    assert [re.search(r"\| (\w) \|", table["text/plain"])[1] for table in tables] == ["a", "b", "c"]
    assert all("<table>" in table["text/html"] for table in tables)


def test_an_image_is_shown_by_prust_and_by_a_display_of_its_own(gallery):
    [picture] = seen(gallery.ok("prust::png(png_of(&picture)?)"))
    assert png_size(picture) == (32, 16)
    gallery.ok(SHOWS_ITSELF)
    [again] = seen(gallery.ok("Picture(picture.clone())"))
    assert again["image/png"] == picture["image/png"]
    cell = gallery.ok("prust::display(&prust::png(png_of(&picture)?));\nPicture(RgbImage::new(7, 5))")
    assert [png_size(each) for each in seen(cell)] == [(32, 16), (7, 5)]


def test_showata_shows_a_sequence_as_a_table(gallery):
    gallery.ok(SHOWATA, seconds=600)
    gallery.ok("use showata::Showable;")
    [table] = seen(gallery.ok("vec![3, 1, 2]"))
    assert len(re.findall(r"<td>", table["text/html"])) >= 3, table
    [again] = seen(gallery.ok("vec![3, 1, 2].show()?;"))
    assert again == table, "it knows that it is in a notebook"


def test_a_plot_of_plotly_is_json_for_lab_and_html_for_the_rest(gallery):
    gallery.ok(PLOTLY, seconds=600)
    gallery.ok("use plotly::{Plot, Scatter};")
    plot = "let mut plot = Plot::new();\nplot.add_trace(Scatter::new(vec![0, 1, 2], vec![4, 1, 0]));\n"
    [bundle] = seen(gallery.ok(plot + "plot"))
    [trace] = bundle["application/vnd.plotly.v1+json"]["data"]
    assert (trace["x"], trace["y"]) == ([0, 1, 2], [4, 1, 0])
    lab, html = seen(gallery.ok("prust::display(&plot);\nplot.notebook_display();"))
    assert json.dumps(lab) == json.dumps(bundle)
    assert "Plotly.newPlot" in html["text/html"]
    assert caption(seen(gallery.ok("curve(2)"))[0]) == "x to the 2", "what was there before still draws"
