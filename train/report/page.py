"""``report.html`` and ``model_card.md``: what a run was asked, did and found."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from matplotlib.figure import Figure

from common.files import write_text
from common.published import published
from common.web_page import document, text
from common.wording import percent
from train.report import asked, choice, memory, mistakes, training
from train.report.model_card import model_card
from train.report.record import RunRecord, read_record

PAGE, CARD = "report.html", "model_card.md"
_HERE = Path(__file__).parent


def write_report(folder: Path, figure: Optional[Figure] = None) -> Path:
    """Write both files into the folder of a run that has ended; the page's path.

    Args:
        figure: of the run's latest selection, if it is drawn already.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file of the run is no JSON.
    """
    record = read_record(folder)
    if figure is None and record.selection is not None:
        figure = _drawn(record)
    card = model_card(record)
    write_text(folder / CARD, card)
    write_text(folder / PAGE, report(record, card, figure))
    return folder / PAGE


def _drawn(record: RunRecord) -> Figure:
    # What a selection is takes TensorFlow to know: not before it is asked for.
    from selection.selection import Selection
    from train.report.selection_figure import selection_figure

    assert record.selection is not None
    return selection_figure(Selection.of_json(record.selection), record.title)


def report(record: RunRecord, card: str, figure: Optional[Figure]) -> str:
    """The whole page.

    Args:
        card: the model card, which it shows, too.
        figure: of the latest selection; None without one.
    """
    sections = {
        "What was asked": asked.section(record),
        "Why these layers": choice.section(record, figure),
        "Training": training.section(record),
        "Memory": memory.section(record),
        "Right and wrong": mistakes.section(record),
        "To repeat it": asked.to_repeat(record),
        "Model card": _card(card),
    }
    return page(record.title, f"{_status(record)}{_tiles(record)}", sections)


def page(title: str, head: str, sections: dict[str, str]) -> str:
    """A page in the look of all of them.

    Args:
        head: HTML below its title.
        sections: HTML by title.
    """
    names = {section: section.lower().replace(" ", "-") for section in sections}
    links = " ".join(f'<a href="#{name}">{section}</a>' for section, name in names.items())
    body = "\n".join(
        f'<section id="{names[section]}"><h2>{section}</h2>\n{content}\n</section>'
        for section, content in sections.items()
    )
    style, script = ((_HERE / name).read_text("utf-8") for name in ("page.css", "sort.js"))
    header = f"<header><h1>{text(title)}</h1>{head}</header>\n<nav>{links}</nav>"
    return document(f"{title} - AdaBet", style, f"{header}\n<main>\n{body}\n</main>", script)


def _status(record: RunRecord) -> str:
    result = record.result
    lines = [f"<p>Run {text(record.name)}</p>"]
    if not record.completed:
        error = published(result["error"]) if result["error"] else ""
        line = f"The run was {result['status']}: this is what there was by then. {error}"
        if result["status"] == "failed":
            line = f"The run has failed: this is what there was by then. {error}"
        lines.append(f'<p class="warning">{text(line)}</p>')
    if result.get("same_training_as"):
        line = (
            f"Its training, with the times and memory of it, is that of the run "
            f"{result['same_training_as']}, which trained the same."
        )
        lines.append(f"<p>{text(line)}</p>")
    return "".join(lines)


def _tiles(record: RunRecord) -> str:
    """The figures to see first."""
    result = record.result
    tiles = {}
    if result["best_test_accuracy"] is not None:
        tiles[f"best test accuracy (epoch {result['best_epoch']})"] = percent(
            result["best_test_accuracy"]
        )
        tiles["last test accuracy"] = percent(result["last_test_accuracy"])
    tiles["layers selected"] = f"{result['num_selected']} of {result['num_layers']}"
    tiles["of all parameters"] = percent(result["trained_share"])
    tiles["whole run"] = training.duration(result["wall_seconds"])
    measured = result["memory"]["measured_allocator"]["training"]
    if measured is not None:
        tiles["training, measured"] = f"{measured:,.1f} MB"
    full = (result.get("full_training") or {}).get("estimate")
    if full is not None:
        tiles["full training, estimated"] = f"{full:,.1f} MB"
    shown = "".join(
        f"<div><dt>{text(title)}</dt><dd>{text(value)}</dd></div>" for title, value in tiles.items()
    )
    return f'<dl class="tiles">{shown}</dl>'


def _card(card: str) -> str:
    return (
        f"<p>{CARD} in the run's folder, with the metadata that the Hugging Face Hub reads:</p>"
        f'<details><summary>Show it</summary><pre tabindex="0"><code>{text(card)}</code></pre>'
        "</details>"
    )
