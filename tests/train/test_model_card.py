"""The model card: what the Hugging Face Hub reads, and nothing that is not known."""

from __future__ import annotations

import html

import pytest

from tests.train.written_run import change
from tests.web_page import Page
from train.report.page import write_report


def test_the_card_has_metadata_for_the_hub(rewritten):
    yaml = pytest.importorskip("yaml", reason="no YAML here to read it with")
    change(rewritten / "config.json", dataset_name="folder", data_dir="/a/b/my: [pets] #1")
    write_report(rewritten)
    card = (rewritten / "model_card.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["library_name"] == "tf-keras"
    assert found["pipeline_tag"] == "image-classification"
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert model["name"] == "copy"
    assert result["dataset"] == {
        "type": "imagefolder",
        "name": "my: [pets] #1",
        "split": "test",
    }
    assert result["metrics"] == [{"type": "accuracy", "value": 0.75, "name": "Accuracy"}]
    assert "/a/b" not in card
    assert "| training | measured | 2.50 |" in text
    assert text.strip() in html.unescape(Page(rewritten / "report.html").text)


def test_a_card_without_an_evaluation_claims_none(rewritten):
    change(rewritten / "result.json", best_test_accuracy=None, last_test_accuracy=None)
    write_report(rewritten)
    card = (rewritten / "model_card.md").read_text(encoding="utf-8")
    assert "model-index" not in card and "Nothing was evaluated." in card
