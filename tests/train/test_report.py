"""The page of a run and its model card say what its folder says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from common.files import read_json
from tests.train.written_run import change, write_run
from tests.web_page import Page
from train.report.mistakes import confused_pairs, confusion, matrix_figure
from train.report.page import write_report


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written / "report.html")


def test_the_page_says_what_the_files_say(page, written):
    for words in (
        "DigitNet on digits: act_norm_betti_train",
        "a processor; Linux on x86_64",
        "0123abcd",
        "tensorflow 2.15.1",
        "5 classes, 120 training and 60 test images",
        "1 min 15 s",
        "full training, estimated 8.0 MB",
        "45 of 60 test images right (75.00%)",
        "held 700 MB in selection",
    ):
        assert words in page.said, words
    for row in read_json(written / "selection.json")["layers"]:
        assert row["name"] in page.said


def test_the_control_is_the_smallest_layers(page, written):
    selection = read_json(written / "selection.json")
    rows = sorted(selection["layers"], key=lambda row: row["activation_size"])
    count = selection["num_selected"]
    smallest = {row["name"] for row in rows[:count]}
    named = re.search(r"Taking just the smallest would have selected: ([^.]*)\.", page.said)[1]
    assert set(named.split(", ")) == smallest
    both = sum(row["selected"] for row in rows[:count])
    assert f"{both} of the {count} selected layers" in page.said


def test_the_page_is_whole_by_itself(page):
    assert all(attributes["src"].startswith("data:") for attributes in page.all("img"))
    assert {one["href"][0] for one in page.all("a")} == {"#"}
    assert not page.all("link") and len(page.all("script")) == len(page.all("style")) == 1
    references = re.findall(r'url\(#([^)]*)\)|xlink:href="#([^"]*)"', page.text)
    identifiers = [one["id"] for _, one in page.tags if "id" in one]
    assert len(identifiers) == len(set(identifiers))
    targets = {one["href"][1:] for one in page.all("a")}
    assert {a or b for a, b in references} | targets == set(identifiers)
    assert "url(#" in page.text
    assert re.findall(r"url\((?!#)|@import", page.text) == []


def test_the_page_is_readable_without_seeing_it(page):
    assert all(one["alt"] for one in page.all("img"))
    assert all(one["role"] == "img" and one["aria-label"] for one in page.all("svg"))
    assert len(page.all("svg")) == 3
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(headings, headings[1:]))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))


def test_bars_are_as_long_as_the_figures(page):
    bars = re.findall(
        r'<span class="(\w+)" style="width:([\d.]+)%">.*?"number">([\d.]+)<', page.text
    )
    assert len(bars) == 10
    assert all(float(width) == pytest.approx(100 * float(mb) / 8.0) for _, width, mb in bars)


def test_a_budget_is_drawn_across(rewritten):
    change(rewritten / "config.json", memory_budget=16.0)
    budget = {"budget_mb": 16.0, "measured_peak_mb": 4.0, "phase": "training", "share": 0.25}
    change(rewritten / "result.json", budget=budget)
    write_report(rewritten)
    page = Page(rewritten / "report.html")
    assert page.text.count('class="limit" style="left:100.00%"') == 11
    assert "4.00 MB, in training: 25% of the budget of 16 MB" in page.said
    assert "--memory_budget 16.0" in page.said


def test_names_cannot_become_tags(rewritten):
    content = read_json(rewritten / "predictions.json")
    names = ["<script>alert(1)</script>", '"><b>', "a & b", "`c` | *d*", "é ü"]
    change(rewritten / "predictions.json", classes=names)
    selection = read_json(rewritten / "selection.json")
    selection["layers"][0]["name"] = "<i>layer</i>"
    change(rewritten / "selection.json", **selection)
    write_report(rewritten)
    page = Page(rewritten / "report.html")
    assert len(page.all("script")) == 1 and not page.all("b") and not page.all("i")
    assert all(name in page.said for name in (*names, "<i>layer</i>"))
    taken = {one["alt"].split(": ", 1)[1].split(", taken for")[0] for one in page.all("img")}
    assert taken == {names[content["labels"][one["image"]]] for one in content["mistakes"]}


UNKNOWN = "What the last evaluation predicted was not kept"


def test_predictions_of_another_evaluation_are_not_shown(rewritten):
    change(rewritten / "predictions.json", epoch=2)
    write_report(rewritten)
    assert UNKNOWN in Page(rewritten / "report.html").said
    (rewritten / "predictions.json").unlink()
    write_report(rewritten)
    assert UNKNOWN in Page(rewritten / "report.html").said
    change(rewritten / "result.json", same_training_as="another")
    write_report(rewritten)
    said = Page(rewritten / "report.html").said
    assert "is that of the run another" in said
    assert "The training is that of another run, which has not kept what it predicted" in said


def nothing_trained(run: Path, **config: bool) -> None:
    change(run / "config.json", **config)
    result = {"best_test_accuracy": None, "last_test_accuracy": None, "seconds_per_epoch": None}
    change(run / "result.json", **result, epochs=0, steps=0)
    for name in ("metrics.jsonl", "predictions.json"):
        (run / name).unlink()


def select_only(run: Path) -> None:
    nothing_trained(run, select_only=True)


def plan(run: Path) -> None:
    nothing_trained(run, plan=True)
    row = {"rho": None, "layers": 4, "trained_share": 0.5, "lean": 7.25, "stock": 9.0}
    row |= {"paper": 8.0, "time_ratio": 0.4}
    (run / "plan.json").write_text(json.dumps({"rows": [row]}))


def only_evaluated(run: Path) -> None:
    line = {"epoch": 0, "train_loss": None, "train_accuracy": None, "test_accuracy": 0.75}
    (run / "metrics.jsonl").write_text(json.dumps({**line, "seconds": 0.0}) + "\n")
    change(run / "predictions.json", epoch=0)
    change(run / "result.json", epochs=0, seconds_per_epoch=None, best_epoch=0)


def failed_early(run: Path) -> None:
    nothing_trained(run)
    (run / "selection.json").unlink()
    nothing = dict.fromkeys(("selection", "training", "evaluation"))
    memory = dict.fromkeys(read_json(run / "result.json")["memory"], nothing)
    error = "OSError: [Errno 28] No space left on device: '/home/somebody/cache/x.u8'"
    state = {"status": "failed", "error": error, "memory": memory, "full_training": None}
    change(run / "result.json", **state)


def chosen_often(run: Path) -> None:
    lines = [{"epoch": 1, "selected": [1]}, {"epoch": 3, "selected": [2]}]
    (run / "selections.jsonl").write_text("\n".join(map(json.dumps, lines)))


def in_part(run: Path) -> None:
    selection = read_json(run / "selection.json")
    next(row for row in selection["layers"] if row["selected"])["channels"] = [0, 3]
    change(run / "selection.json", **selection)


def everything(run: Path) -> None:
    selection = read_json(run / "selection.json")
    for row in selection["layers"]:
        row.update(selected=True, b1=None, score=None, rank=None)
    change(run / "selection.json", **{**selection, "num_selected": selection["num_layers"]})


def resumed(run: Path) -> None:
    environment = {"device": "another processor"}
    change(run / "config.json", resumed=[{"step": 7, "environment": environment}])


OTHERS = {
    select_only: ["--select_only was asked for", "Nothing was evaluated, so there is no"],
    plan: ["--plan was asked for", "What training would take", "7.25", "budget"],
    only_evaluated: ["No epoch of training", "The last evaluation (without training): 45 of 60"],
    failed_early: [
        *("The run has failed", "on device: 'x.u8'", "ended before any layers were selected"),
        "Nothing was measured or estimated",
    ],
    chosen_often: ["Layers were chosen 2 times, before epochs 1, 3."],
    in_part: ["2 channels"],
    everything: ["Size alone decides nothing here"],
    resumed: ["Gone on with from step 7, on another processor."],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_runs_have_their_page_too(kind, rewritten):
    kind(rewritten)
    write_report(rewritten)
    page, card = Page(rewritten / "report.html"), (rewritten / "model_card.md").read_text()
    for words in OTHERS[kind]:
        assert words in page.said
    assert "somebody" not in page.text + card
    assert "None" not in page.said and "nan" not in page.said.split()
    assert ("model-index" in card) == (rewritten / "predictions.json").exists()


def test_confusion_is_counted_as_elsewhere():
    draw = np.random.default_rng(0)
    labels, predicted = draw.integers(0, 7, (2, 500))
    names = [str(one) for one in range(7)]
    counts = confusion({"classes": names, "labels": labels, "predicted": predicted})
    assert (counts == confusion_matrix(labels, predicted)).all()
    pairs = confused_pairs(counts, 5)
    wrong = sorted(
        ((-counts[i, j], i, j) for i in range(7) for j in range(7) if i != j), key=lambda one: one
    )
    assert [(-pair.images, pair.true, pair.predicted) for pair in pairs] == wrong[:5]
    assert confused_pairs(np.diag([3, 4])) == []


def test_many_classes_are_drawn(tmp_path):
    write_run(tmp_path / "many", "--rho", "0.3", classes=200, images=1000)
    write_report(tmp_path / "many")
    page = Page(tmp_path / "many" / "report.html")
    assert len(page.all("svg")) == 4 and len(page.all("image")) == 1
    assert len(page.text) < 500_000
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    (image,) = matrix_figure(counts).axes[0].get_images()
    pixels = image.get_array()
    assert (pixels[..., 3] > 0).tolist() == (counts > 0).tolist()
    assert pixels[1, 1, 3] == 1 > pixels[0, 0, 3] > pixels[0, 1, 3] >= 0.3
    assert (pixels[0, 0, :3] == pixels[1, 1, :3]).all()
    assert (pixels[0, 0, :3] != pixels[0, 1, :3]).any()
