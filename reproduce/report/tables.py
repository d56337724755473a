"""Tables of cells that hold the paper's number and ours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        ours: one value per seed (or the only one), in the table's unit.
        paper: what the paper prints there; None where it prints nothing.
        missing: why there is nothing of ours; empty otherwise.
        text: said in place of numbers ("N/A"), or beside them.
        comparable: False for a value of other conditions than the table's: never the best,
            and without a difference.
    """

    ours: tuple[float, ...] = ()
    paper: Optional[float] = None
    missing: str = ""
    text: str = ""
    comparable: bool = True

    @property
    def mean(self) -> Optional[float]:
        """Mean over seeds; None without a value."""
        return statistics.fmean(self.ours) if self.ours else None

    @property
    def spread(self) -> Optional[float]:
        """Sample standard deviation over seeds; None with fewer than two."""
        return statistics.stdev(self.ours) if len(self.ours) > 1 else None

    @property
    def difference(self) -> Optional[float]:
        """Ours less the paper's; None unless there are both, and they compare."""
        if self.mean is None or self.paper is None or not self.comparable:
            return None
        return self.mean - self.paper


@dataclass(frozen=True)
class Table:
    """Rows of cells, in the paper's layout.

    Attributes:
        corner: heads the column of the row labels.
        rows: ``(label, cells)``; as many cells as columns.
        digits: decimals of every number.
        best: ``"highest"``, ``"lowest"`` or empty: which cell of each row is marked as the best.
        head_groups: ``(title, number of columns)`` of a line above the columns; may be empty.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    unit: str = ""
    digits: int = 2
    best: str = ""
    head_groups: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for label, cells in self.rows:
            if len(cells) != len(self.columns):
                raise ValueError(f"{self.title}: row {label} has {len(cells)} cells")


def best_columns(cells: Sequence[Cell], best: str, of_paper: bool = False) -> set[int]:
    """The columns with the best mean (or the paper's best), all that tie; empty for ``best=""``."""
    if not best:
        return set()
    values = {
        column: value
        for column, cell in enumerate(cells)
        if (value := cell.paper if of_paper else cell.mean) is not None
        and (of_paper or cell.comparable)
    }
    if len(values) < 2:
        return set()  # the best of one says nothing
    winner = (max if best == "highest" else min)(values.values())
    return {column for column, value in values.items() if value == winner}


def number(value: Optional[float], digits: int, signed: bool = False) -> str:
    """``value`` with ``digits`` decimals and a real minus sign; ``-`` for None."""
    if value is None:
        return "-"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0.0:
        text = f"{0.0:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def ours_text(cell: Cell, digits: int) -> str:
    """``60.12 \N{PLUS-MINUS SIGN} 0.30 (n=3)``, or ``-``."""
    text = number(cell.mean, digits)
    if cell.spread is not None:
        text += f" \N{PLUS-MINUS SIGN} {number(cell.spread, digits)} (n={len(cell.ours)})"
    return text


def read_tables(content: dict) -> tuple[Table, ...]:
    """The tables of a parsed ``report.json``."""
    return tuple(
        Table(
            **{
                **entry,
                "columns": tuple(entry["columns"]),
                "head_groups": tuple((title, span) for title, span in entry["head_groups"]),
                "rows": tuple(
                    (label, tuple(Cell(**{**c, "ours": tuple(c["ours"])}) for c in cells))
                    for label, cells in entry["rows"]
                ),
            }
        )
        for entry in content["tables"]
    )
