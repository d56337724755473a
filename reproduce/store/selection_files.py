"""Selection files made here: of equal layers an equal file, so that equal trainings are one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Optional

from common.files import write_json
from reproduce.store.runs import Store, hash_of

_UNKNOWN = {"b1": None, "score": None, "rank": None}


def selection_file(
    store: Store, selection: Mapping, layers: Optional[Collection[int]] = None
) -> Path:
    """The path of a ``--selection_file`` that trains what ``selection`` does, and says no more.

    Scores and seconds are left out: two selections of the same layers and channels give the same
    file, and runs with it the same key.

    Args:
        selection: a parsed ``selection.json``.
        layers: of the layers it trains, keep those with these indices only.
    """
    rows = []
    for row in selection["layers"]:
        row = {**row, **_UNKNOWN}
        if layers is not None and row["index"] not in layers:
            row.update(selected=False, variables=[], channels=None)
            row.pop("factor_rank", None)
        rows.append(row)
    count = sum(row["selected"] for row in rows)
    content = {
        **selection,
        "num_selected": count,
        "samples": 0,
        "seconds": 0.0,
        "ties_at_cut": 0,
        "overlap_with_smallest": sum(row["selected"] and row["size_rank"] <= count for row in rows),
        "layers": rows,
        "figures": {},
    }
    path = store.root / "chosen" / f"{hash_of(content)}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content, indent=1)
    return path
