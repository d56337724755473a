"""A report: the tables and the figure of one part of the paper, ours beside the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from matplotlib.figure import Figure

from reproduce.report.tables import Table


@dataclass(frozen=True)
class Report:
    """What an item of the registry builds; see ``write.py``.

    Attributes:
        name: the folder's, as in ``python -m reproduce <name>``.
        place: where in the paper ("Table 2", "Figure D.8").
        caption: what it shows, in the paper's sense, and what was measured here.
        notes: paragraphs below the tables: conditions, differences and why.
        figure: drawn; None where there is only a table.
        sources: the runs it was made of (``reproduce.report.cells.sources``).
    """

    name: str
    place: str
    title: str
    caption: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    figure: Optional[Figure] = None
    sources: tuple[dict, ...] = field(default_factory=tuple)
