"""Every report of an empty store, and the page of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from reproduce.item import Options
from reproduce.measure.embedding_clusters import clusters
from reproduce.registry import all_items
from reproduce.report import html, render
from reproduce.report.tables import read_tables
from reproduce.report.write import write_report
from reproduce.store.runs import Store
from tests.browser import look
from tests.reproduce.report_helpers import META, PROJECT, a_report

pytestmark = pytest.mark.slow

NEED_PROCESSES = ("table3", "table4", "figure1")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Every report of an empty store, and the page of them."""
    folder = tmp_path_factory.mktemp("reports")
    nothing = Store(tmp_path_factory.mktemp("nothing"))
    for name, item in all_items().items():
        if name not in NEED_PROCESSES:
            options = Options(item.models, item.datasets, item.methods, item.tasks, item.seeds)
            write_report(item.build(nothing, options), str(folder), META)
    write_report(a_report(name="x"), str(folder), META)
    return html.write_index(folder, list(all_items()))


def test_nothing_run_is_marked_everywhere(page):
    for path in page.parent.glob("*/report.json"):
        content = json.loads(path.read_text())
        tables = read_tables(content)
        if path.parent.name != "x":
            assert not any(c.ours for t in tables for _, row in t.rows for c in row if not c.text)
            assert render.reasons_of(tables), path
        assert content["caption"]
    assert (page.parent / "figure3" / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_page_needs_nothing_else(page):
    text = page.read_text()
    assert set(re.findall(r'href="(.)', text)) == {"#"}
    sources = re.findall(r'src="([^"]{0,22})', text)
    assert sources
    assert set(sources) == {"data:image/png;base64,"}
    assert "url(" not in text
    assert "no &lt;weights&gt;" in text
    assert "<weights>" not in text
    places = [text.index(f'<section id="{name}"') for name in ("table2", "figure3", "d8", "e16")]
    assert places == sorted(places)


def test_clusters_of_an_embedding():
    pytest.importorskip("umap", reason="needs requirements-umap.txt")
    for groups in (3, 4):
        noise = np.random.default_rng(0).normal(size=(groups, 40, 5))
        points = (noise + 1000 * np.arange(groups)[:, None, None]).reshape(-1, 5)
        assert clusters(cdist(points, points)) == groups


def test_page_opens_in_a_browser(page, tmp_path):
    probe = """
        const images = [...document.images];
        const loaded = images.filter(one => one.complete && one.naturalWidth > 100).length;
        const wide = document.documentElement.scrollWidth > innerWidth;
        return [images.length, loaded, wide, document.querySelectorAll("section").length];
    """
    seen = look(page, tmp_path, probe)
    images, loaded, wide, sections = seen.found
    assert images == loaded == len(list(page.parent.glob("*/figure.png")))
    assert not wide and not seen.said and not seen.asked_for
    assert sections == len(list(page.parent.glob("*/report.json")))


def test_listing_does_not_wait_for_tensorflow():
    code = "import sys; from reproduce.registry import all_items; all_items(); "
    code += "sys.exit('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert done.returncode == 0
