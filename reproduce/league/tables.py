"""The league's tables."""

from __future__ import annotations

from typing import Optional

from reproduce.league.protocol import BUDGETS, LAST_K, Entry
from reproduce.league.standings import EQUAL, WORTH, Standing, Standings
from reproduce.league.tasks import Task
from reproduce.report.cells import method_title, why_missing
from reproduce.report.ranks import half_interval
from reproduce.report.tables import Cell, Table, number


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
        return Cell(missing="does not fit, or was not run")
    standing = standings.of(task, entry)
    if not standing.accuracy:
        return Cell(missing=why_missing(standings.store, standings.runs(task, entry)))
    half = half_interval(standing.accuracy)
    text = "" if half is None else f"95%: \N{PLUS-MINUS SIGN} {number(half, 1)}"
    return Cell(standing.accuracy, text=text)


def memory_table(standings: Standings) -> Table:
    """Measured peaks, and how far they lie from the middle of their budget."""
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
        unit="MB, of TensorFlow's allocator",
        digits=1,
    )


def _megabytes(standings: Standings, method: str, budget: float, task: Task) -> Cell:
    entry = standings.in_budget(method, budget, task)
    megabytes = standings.of(task, entry).megabytes if entry is not None else None
    if entry is None or megabytes is None:
        return Cell(missing="does not fit, or was not run")
    middle = standings.middle(budget, task)
    apart = middle is not None and abs(megabytes / middle - 1) > EQUAL
    return Cell((megabytes,), text="not equal" if apart else "")


def rate_table(standings: Standings) -> Table:
    """Learning rates that did best on the validation split, and what training took."""
    rows = []
    for method, entry in standings.all_entries():
        cells = []
        for task in standings.tasks:
            standing = standings.of(task, entry)
            cells += [_rates(standing), _one(standing.seconds)]
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


def _rates(standing: Standing) -> Cell:
    return Cell(text=", ".join(f"{rate:g}" for rate in standing.rates), missing="")


def _one(value: Optional[float]) -> Cell:
    return Cell(missing="not run") if value is None else Cell((value,))


def against_last_k_table(standings: Standings) -> Table:
    """Points by which each criterion beats the last layers, and whether the task counts."""
    columns = [(task, budget) for task in standings.tasks for budget in sorted(BUDGETS)]
    rows = []
    for method in standings.criteria():
        cells = []
        for task, budget in columns:
            found = standings.against_last_k(method, budget, task)
            if found is None:
                cells.append(Cell(missing="not run"))
                continue
            mean, spread = found
            known = spread < float("inf")
            text = f"spread {number(spread, 1)}" if known else "one seed"
            cells.append(Cell((mean,), text=text))
        if any(cell.ours for cell in cells):
            rows.append((method_title(method), tuple(cells)))
    return Table(
        title=f"Beyond {method_title(LAST_K)}",
        corner="criterion",
        columns=tuple(f"{task.name}, {budget:g} MB" for task, budget in columns),
        rows=tuple(rows),
        unit="points of test accuracy",
        digits=1,
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
