"""Tables of a page. Those that are ``sortable`` are so once the page's script has run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from common.web_page import text


class Cell(NamedTuple):
    """One cell.

    Attributes:
        shown: HTML.
        value: what it is sorted by, if that is a number.
        numeric: whether it stands to the right.
        css: classes.
    """

    shown: str
    value: Optional[float] = None
    numeric: bool = False
    css: str = ""


class Row(NamedTuple):
    """A row; the first cell is its head."""

    cells: Sequence[Cell]
    css: str = ""


def words(value: object, css: str = "") -> Cell:
    """A cell of text."""
    return Cell(text(value), css=css)


def number(value: Optional[float], form: str = ",", css: str = "") -> Cell:
    """A cell of a number, formatted by ``form``; ``-`` for None."""
    shown = "-" if value is None else format(value, form)
    return Cell(shown, value, True, css)


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    sortable: bool = False,
    wraps: bool = False,
) -> str:
    """HTML, in a box that scrolls where the table is wider than the page.

    Args:
        columns: HTML of their heads; empty for a table without.
        rows: at least one.
        wraps: break words rather than be wider than the page.
    """
    heads = "".join(
        f'<th scope="col"{_css("number" if cell.numeric else "")}>{column}</th>'
        for column, cell in zip(columns, rows[0].cells)
    )
    head = f"<thead><tr>{heads}</tr></thead>\n" if heads else ""
    body = "\n".join(map(_row, rows))
    kind = _css("sortable" if sortable else "wraps" if wraps else "")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">'
        f"<table{kind}><caption>{text(caption)}</caption>"
        f"{head}<tbody>{body}</tbody></table></div>"
    )


def _row(row: Row) -> str:
    head, *others = row.cells
    cells = "".join(_cell("td", cell) for cell in others)
    return f"<tr{_css(row.css)}>{_cell('th', head)}{cells}</tr>"


def _cell(tag: str, cell: Cell) -> str:
    scope = ' scope="row"' if tag == "th" else ""
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    css = " ".join(filter(None, ["number" if cell.numeric else "", cell.css]))
    return f"<{tag}{scope}{_css(css)}{value}>{cell.shown}</{tag}>"


def _css(names: str) -> str:
    return f' class="{names}"' if names else ""
