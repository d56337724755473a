"""``--compare``: several runs side by side, printed and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Optional

from common.errors import UserError, in_one_line
from common.files import write_text
from common.wording import percent, shown
from train.report.asked import facts
from train.report.memory import ACCOUNTS, PHASES
from train.report.record import RunRecord, read_record


@dataclass(frozen=True, eq=False)
class Compared:
    """One of the runs.

    Attributes:
        label: what it is called among them.
        data: what two runs on the same images have in common.
        network: what two runs of the same network have in common: name and type of each layer.
        trained: by layer index, the number of trained channels, or None for all of them.
    """

    label: str
    record: RunRecord
    data: str
    network: tuple[tuple[str, str], ...]
    trained: dict[int, Optional[int]]

    def memory(self, account: str, phase: str) -> Optional[float]:
        """MB."""
        return self.record.result["memory"][account][phase]


def compare(folders: Sequence[Path], output_dir: Path) -> Path:
    """Print a table of finished runs, and write ``compare.html`` in ``output_dir``; its path.

    Where there is one already, the new one gets a number.

    Raises:
        UserError: a folder is not that of a finished run, or ``output_dir`` cannot be written.
    """
    from train.report.compare_page import compare_page  # draws, which takes a while to import

    runs = read_runs(folders)
    said = notes(runs)
    print(table_of(runs), *said, sep="\n", flush=True)
    content = compare_page(runs, said)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        path = _write_new(output_dir, content)
    except OSError as error:
        raise UserError(
            f"--output_dir {shown(output_dir)} cannot be written: {error.strerror}"
        ) from error
    print(f"to look at: {path}", flush=True)
    return path


def _write_new(folder: Path, content: str) -> Path:
    """Write a file that was not there before; its path."""
    names = (f"compare-{number}.html" if number > 1 else "compare.html" for number in count(1))
    path = next(filter(_is_mine, (folder / name for name in names)))
    try:
        write_text(path, content)
    except OSError:
        path.unlink()
        raise
    return path


def _is_mine(path: Path) -> bool:
    """Make an empty file there; whether there was none."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def read_runs(folders: Sequence[Path]) -> list[Compared]:
    """What is compared, as it was given.

    Raises:
        UserError: a folder is not that of a finished run, or is given twice.
    """
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places):
        if places.count(place) > 1:
            raise UserError(f"--compare {shown(folder)} is given twice")
    names = [place.name for place in places]
    labels = [
        name if names.count(name) == 1 else f"{place.parent.name}/{name}"
        for name, place in zip(names, places)
    ]
    return [_read(folder, label) for folder, label in zip(folders, labels)]


def _read(folder: Path, label: str) -> Compared:
    where = f"--compare {shown(folder)}"
    if not (folder / "config.json").is_file():
        raise UserError(f"{where}: that is no folder of a run, which has a config.json")
    if not (folder / "result.json").is_file():
        raise UserError(
            f"{where}: the run has not come to its end: go on with it (--resume), or leave it out"
        )
    try:
        record = read_record(folder)
        found = _compared(record, label)
        _ask_for_everything(found)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{where} is damaged, or of another version ({in_one_line(error)}): leave it out"
        ) from error
    if not record.completed:
        raise UserError(
            f"{where}: the run was {record.result['status']}: go on with it (--resume), or leave "
            "it out"
        )
    return found


def _ask_for_everything(run: Compared) -> None:
    """What is shown of it later; LookupError or TypeError where something is not there."""
    _line(run)
    facts(run.record)
    for account in ACCOUNTS:
        for phase in PHASES:
            run.memory(account, phase)
    for name in ("test_accuracy", "train_loss"):
        run.record.series(name)


def _compared(record: RunRecord, label: str) -> Compared:
    rows = record.selection["layers"] if record.selection else []
    return Compared(
        label=label,
        record=record,
        data=record.config["inputs"]["data"]["digest"],
        network=tuple((row["name"], row["type"]) for row in rows),
        trained={
            row["index"]: None if row["channels"] is None else len(row["channels"])
            for row in rows
            if row["selected"]
        },
    )


def groups_of(runs: Sequence[Compared], what: str) -> list[list[Compared]]:
    """Those with the same attribute ``what`` together, in the order in which they were given."""
    found: dict[Any, list[Compared]] = {}
    for run in runs:
        found.setdefault(getattr(run, what), []).append(run)
    return list(found.values())


def notes(runs: Sequence[Compared]) -> list[str]:
    """What of these runs does not compare, a line each."""
    found = []
    groups = groups_of(runs, "data")
    if len(groups) > 1:
        sets = "; ".join(f"{_names(group)} on {_about(group[0])}" for group in groups)
        found.append(f"*** Not the same images, so accuracies do not compare: {sets}.")
    groups = groups_of(runs, "network")
    if len(groups) > 1:
        networks = "; ".join(f"{_names(group)}: {group[0].record.model}" for group in groups)
        found.append(f"Not the same layers, so they stand apart: {networks}.")
    devices = dict.fromkeys(run.record.config["environment"]["device"] for run in runs)
    if len(devices) > 1:
        found.append(f"Times and measured memory are of several machines: {', '.join(devices)}.")
    return found


def _names(runs: Sequence[Compared]) -> str:
    return ", ".join(run.label for run in runs)


def _about(run: Compared) -> str:
    data = run.record.config["inputs"]["data"]
    return f"{run.record.dataset} ({data['test_images']} test images, {data['classes']} classes)"


def table_of(runs: Sequence[Compared]) -> str:
    """A line per run, for a terminal."""
    heads = (
        *("run", "best", "last", "selection s", "epoch s", "run s", "layers", "trained"),
        *(f"{phase} MB" for phase in PHASES),
    )
    lines = [heads, *map(_line, runs)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    texts = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    return "\n".join([*texts, "(best, last: test accuracy; MB: measured peaks)"])


def _line(run: Compared) -> tuple[str, ...]:
    result = run.record.result
    return (
        run.label,
        percent(result["best_test_accuracy"]),
        percent(result["last_test_accuracy"]),
        f"{result['selection_seconds']:.1f}",
        _number(result["seconds_per_epoch"], ".1f"),
        f"{result['wall_seconds']:.1f}",
        f"{result['num_selected']}/{result['num_layers']}",
        percent(result["trained_share"]),
        *(_number(run.memory("measured_allocator", phase), ".2f") for phase in PHASES),
    )


def _number(value: Optional[float], form: str) -> str:
    return "-" if value is None else format(value, form)
