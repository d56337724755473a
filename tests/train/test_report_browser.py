"""The page of a run in a real browser."""

from __future__ import annotations

import json

import pytest

from common.files import read_json
from tests.browser import look
from train.report.page import write_report


def test_the_page_asks_for_nothing_and_complains_of_nothing(written, tmp_path):
    seen = look(written / "report.html", tmp_path)
    assert not seen.asked_for and not seen.said
    assert seen.dom.count("<button") > 10, "the page's own script did not run"


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(width, written, tmp_path):
    probe = """
        const scrolls = (one) => one.closest(".scroll, nav, pre, .unseen");
        const wide = [...document.body.querySelectorAll("*")].filter((one) =>
            !scrolls(one) && one.getBoundingClientRect().right > innerWidth + 1);
        return {inner: innerWidth, page: document.documentElement.scrollWidth,
                wide: wide.map((one) => one.outerHTML.slice(0, 80))};
    """
    found = look(written / "report.html", tmp_path, probe, width).found
    assert found["inner"] == width
    assert found["page"] <= width and not found["wide"]


SORT = """
    const sorted = (caption, ...columns) => {
        const table = [...document.querySelectorAll("table")].find((one) =>
            one.caption.textContent.startsWith(caption));
        const heads = [...table.tHead.rows[0].cells];
        return columns.map((column) => {
            heads[column].querySelector("button").click();
            return [[...table.tBodies[0].rows].map((row) => row.cells[column].textContent),
                    heads.map((one) => one.getAttribute("aria-sort"))];
        });
    };
    return {layers: sorted("All layers", 1, 4, 4), epochs: sorted("Every epoch", 3, 3)};
"""


def test_a_table_is_sorted_by_a_click_on_its_head(rewritten, tmp_path):
    lines = [json.loads(line) for line in (rewritten / "metrics.jsonl").read_text().splitlines()]
    lines[1]["test_accuracy"] = None
    (rewritten / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_report(rewritten)
    found = look(rewritten / "report.html", tmp_path, SORT).found
    rows = read_json(rewritten / "selection.json")["layers"]
    (names, by_name), (sizes, _), (turned, by_size) = found["layers"]
    assert names == sorted((row["name"] for row in rows), key=str.lower)
    assert by_name == [None, "ascending", *[None] * 9]
    assert sizes == [f"{size:,}" for size in sorted(row["activation_size"] for row in rows)]
    assert turned == sizes[::-1] and by_size[4] == "descending"
    assert [values for values, _ in found["epochs"]] == [
        ["37.50%", "75.00%", "-"],
        ["75.00%", "37.50%", "-"],
    ]


# Of every text its own colour against what lies behind it (WCAG 2.2, 1.4.3).
CONTRAST = """
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((one) => one / 255).map((one) =>
        one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
    const over = (top, below) => {
        const alpha = top.length > 3 ? top[3] : 1;
        return [0, 1, 2].map((place) => alpha * top[place] + (1 - alpha) * below[place]);
    };
    const behind = (one) => {
        if (!one) return [255, 255, 255];
        const own = parse(getComputedStyle(one).backgroundColor);
        return over(own, behind(one.parentElement));
    };
    const bad = [], page = behind(document.body);
    document.querySelectorAll("details").forEach((one) => one.open = true);
    let seen = 0;
    for (const one of document.body.querySelectorAll("*")) {
        const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || one.closest("script, .unseen")) continue;
        const style = getComputedStyle(one);
        const ink = parse(one.closest("svg") ? style.fill : style.color);
        const [a, b] = [light(over(ink, behind(one))), light(behind(one))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        seen += 1;
        if (ratio < 4.5) bad.push([ratio.toFixed(2), one.textContent.trim().slice(0, 30)]);
    }
    return {bad, seen, page};
"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out(dark, written, tmp_path):
    found = look(written / "report.html", tmp_path, CONTRAST, dark=dark).found
    assert (max(found["page"]) < 60) == dark
    assert found["seen"] > 200 and not found["bad"]
