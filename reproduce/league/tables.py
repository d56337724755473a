"""The league's tables."""

from __future__ import annotations

import statistics
from typing import Optional

from reproduce.league.protocol import BUDGETS, LAST_K, SMALLEST, WORTH, Entry
from reproduce.league.standings import EQUAL, Beyond, Standings
from reproduce.league.tasks import Task
from reproduce.report.cells import method_title, why_missing
from reproduce.report.ranks import half_interval
from reproduce.report.tables import Cell, Table, number

NOT_HERE = "does not fit, or was not run"


def accuracy_table(standings: Standings, budget: float) -> Table:
    """Methods by mean rank, tasks in columns."""
    found = standings.ranks(budget)
    order = sorted(standings.methods, key=lambda one: (found.mean.get(one, float("inf")), one))
    rows = []
    for method in order:
        rank = found.mean.get(method)
        cells = [_accuracy(standings, method, budget, task) for task in standings.tasks]
        first = Cell((rank,)) if rank is not None else Cell(missing="not on every task")
        if any(cell.ours for cell in cells):
            rows.append((method_title(method), (first, *cells)))
    return Table(
        title=f"Test accuracy at {budget:g} MB",
        corner="trained",
        columns=("mean rank", *(task.name for task in standings.tasks)),
        rows=tuple(rows),
        unit="percent",
        digits=1,
    )


def _accuracy(standings: Standings, method: str, budget: float, task: Task) -> Cell:
    entry = standings.in_budget(method, budget, task)
    if entry is None:
        return Cell(missing=NOT_HERE)
    accuracy = tuple(standings.of(task, entry).accuracy.values())
    if not accuracy:
        return Cell(missing=why_missing(standings.store, standings.runs(task, entry)))
    half = half_interval(accuracy)
    return Cell(
        accuracy, text="" if half is None else f"95%: \N{PLUS-MINUS SIGN} {number(half, 1)}"
    )


def memory_table(standings: Standings) -> Table:
    """Measured peaks, and which are not the last layers' of the same budget."""
    rows = []
    for budget in sorted(BUDGETS):
        for method in standings.methods:
            cells = [_megabytes(standings, method, budget, task) for task in standings.tasks]
            if any(cell.ours for cell in cells):
                rows.append((f"{budget:g} MB, {method_title(method)}", tuple(cells)))
    return Table(
        title="Peak of training, measured",
        corner="budget, trained",
        columns=tuple(task.name for task in standings.tasks),
        rows=tuple(rows),
        unit=f"MB, of TensorFlow's allocator; more or less than {method_title(LAST_K)} by more "
        f"than {EQUAL:.0%} is marked",
        digits=1,
    )


def _megabytes(standings: Standings, method: str, budget: float, task: Task) -> Cell:
    ours, theirs = (standings.standing(one, budget, task) for one in (method, LAST_K))
    if ours is None or ours.megabytes is None:
        return Cell(missing=NOT_HERE)
    mark = ""
    if theirs is not None and theirs.megabytes is not None:
        ratio = ours.megabytes / theirs.megabytes
        mark = "more" if ratio > 1 + EQUAL else "less" if ratio < 1 - EQUAL else ""
    return Cell((ours.megabytes,), text=mark)


def rate_table(standings: Standings) -> Table:
    """Learning rates that did best on the validation split, and what training took."""
    rows = []
    for method, entry in standings.all_entries():
        cells = []
        for task in standings.tasks:
            standing = standings.of(task, entry)
            cells += [
                Cell(text="" if standing.rate is None else f"{standing.rate:g}"),
                _one(standing.seconds),
            ]
        if any(cell.ours or cell.text for cell in cells):
            rows.append((entry_title(method, entry), tuple(cells)))
    return Table(
        title="Learning rate taken, and seconds of training",
        corner="trained",
        columns=tuple(
            f"{task.name}, {what}" for task in standings.tasks for what in ("rate", "seconds")
        ),
        rows=tuple(rows),
        digits=0,
    )


def _one(value: Optional[float]) -> Cell:
    return Cell(missing="not run") if value is None else Cell((value,))


def against_last_k_table(standings: Standings) -> Table:
    """Points by which each criterion beats the last layers, and what that is worth."""
    columns = [(task, budget) for task in standings.tasks for budget in sorted(BUDGETS)]
    rows = []
    for method in standings.criteria():
        cells = tuple(
            _beyond(standings.beyond_last_k(method, budget, task)) for task, budget in columns
        )
        if any(cell.ours for cell in cells):
            rows.append((method_title(method), cells))
    return Table(
        title=f"Beyond {method_title(LAST_K)}",
        corner="criterion",
        columns=tuple(f"{task.name}, {budget:g} MB" for task, budget in columns),
        rows=tuple(rows),
        unit="points of test accuracy",
        digits=1,
    )


def _beyond(found: Optional[Beyond]) -> Cell:
    if found is None:
        return Cell(missing="not run")
    known = found.spread < float("inf")
    words = [f"spread {number(found.spread, 1)}" if known else "one seed"]
    return Cell((found.points,), text=", ".join([*words, *["more memory"] * found.takes_more]))


def choice_table(standings: Standings, budget: float) -> Table:
    """How many layers each method trains, and how far they are those of the plainest two rules."""
    rows = []
    for method in standings.methods:
        counts = [
            float(len(layers))
            for task in standings.tasks
            if (standing := standings.standing(method, budget, task)) is not None
            for layers in standing.selected.values()
        ]
        cells = [Cell((statistics.fmean(counts),)) if counts else Cell(missing=NOT_HERE)]
        for other in (LAST_K, SMALLEST):
            found = [standings.overlap(method, other, budget, task) for task in standings.tasks]
            known = [one for one in found if one is not None]
            cells.append(Cell((statistics.fmean(known),)) if known else Cell(missing=NOT_HERE))
        if counts:
            rows.append((method_title(method), tuple(cells)))
    return Table(
        title=f"What is trained at {budget:g} MB",
        corner="trained",
        columns=(
            "layers",
            *(f"overlap with {method_title(other)}" for other in (LAST_K, SMALLEST)),
        ),
        rows=tuple(rows),
        unit="layers, and Jaccard's overlap from 0 to 1; means over tasks and seeds",
        digits=2,
    )


def gain_table(standings: Standings) -> Table:
    """Which tasks can tell layers apart at all."""
    gains = [(task, standings.gain_of_training(task)) for task in standings.tasks]
    cells = tuple(
        Cell(missing="not run")
        if gain is None
        else Cell((gain,), text="counts" if gain >= WORTH else "does not count")
        for _, gain in gains
    )
    return Table(
        title="Full training beyond the trained head",
        corner="",
        columns=tuple(task.name for task, _ in gains),
        rows=(("points", cells),),
        unit=f"points of test accuracy; from {WORTH:g} on, which layers are trained can matter",
        digits=1,
    )


def entry_title(method: str, entry: Entry) -> str:
    """A method with its budget or size."""
    if entry.budget is not None:
        return f"{method_title(method)}, {entry.budget:g} MB"
    if entry.micro_batch is not None:
        return f"{method_title(method)}, {entry.micro_batch} at a time"
    return method_title(method)
