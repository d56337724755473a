"""What a run prints: the selection and why, the epochs, and the result."""

from __future__ import annotations

from pathlib import Path

from common.wording import percent
from models.network import Network
from selection.selection import LayerChoice, Selection
from train.data.datasets import DataBundle
from train.run.budget import budget_lines
from train.run.judged import validation_line
from train.run.prepare import Setting
from train.run.result import RunResult
from train.run.selecting import pool_notes

FROZEN_HEAD_WARNING = """\
*** WARNING: the freshly initialised classifier head was not selected and stays random.
*** Accuracy will be poor; --head always trains the head in addition."""
_COLUMNS = "{:>5}  {:<28} {:<15} {:>4}  {:>10}  {:>10}  {:>10}  {:>4}  {:>9}  {}"


def opening(network: Network, setting: Setting, path: Path) -> str:
    """What is run, what of the data it leaves out, and where it is written."""
    data = setting.data
    lines = (
        f"{network.backbone.title} ({len(network.layers)} layers, "
        f"{network.params:,} parameters) on {data.name}: {_images(data)}",
        *network.notes,
        *data.notes,
        *pool_notes(setting.config, data),
        f"writing to {path}",
    )
    return "\n".join(lines)


def _images(data: DataBundle) -> str:
    if data.test is None:
        return f"{len(data.train)} images without labels, {data.num_classes} outputs of the head"
    return (
        f"{len(data.train)} training and {len(data.test)} test images, {data.num_classes} classes"
    )


def selection_summary(selection: Selection) -> str:
    """A few lines: what was selected, ties, and how much of it size alone would have given."""
    names = ", ".join(_short(row) for row in selection.selected) or "none"
    if selection.num_selected == selection.num_layers:
        names = "all"
    lines = [
        f"selected {selection.num_selected} of {selection.num_layers} layers "
        f"in {selection.seconds:.1f} s: {names}"
    ]
    lines += [f"{name}: {value:.4g}" for name, value in selection.figures.items()]
    if selection.ties_at_cut:
        lines.append(
            f"{selection.ties_at_cut} layer(s) have the score at the cut; "
            f"{selection.overlap_with_smallest} of the {selection.num_selected} selected are "
            f"also the {selection.num_selected} with the smallest activations"
        )
    return "\n".join(lines)


def _short(row: LayerChoice) -> str:
    in_part = row.channels is not None or row.factor_rank is not None
    return f"{row.name} ({_trained(row)})" if in_part else row.name


def stability_lines(overlaps: dict[str, float]) -> str:
    """How far selections from different draws of images agree, by train type."""
    return "\n".join(
        f"mean Jaccard overlap of the selections over draws of images, {name}: {overlap:.3f}"
        for name, overlap in overlaps.items()
    )


def selection_table(selection: Selection) -> str:
    """Why each layer was selected or not: one line per layer, in execution order."""
    header = _COLUMNS.format(
        "index", "layer", "type", "b1", "|a|", "params", "score", "rank", "size rank", "trained"
    ).rstrip()
    return "\n".join([header, *(_table_line(row) for row in selection.layers)])


def _table_line(row: LayerChoice) -> str:
    return _COLUMNS.format(
        row.index,
        row.name,
        row.type,
        "-" if row.b1 is None else row.b1,
        row.activation_size,
        row.params,
        "-" if row.score is None else f"{row.score:.3e}",
        "-" if row.rank is None else row.rank,
        row.size_rank,
        _trained(row),
    ).rstrip()


def _trained(row: LayerChoice) -> str:
    if row.channels is not None:
        return f"{len(row.channels)} channels"
    if row.factor_rank is not None:
        return f"rank {row.factor_rank}"
    return "selected" if row.selected else ""


def epoch_line(line: dict, num_epochs: int) -> str:
    """One line of ``metrics.jsonl`` for people."""
    tested = percent(line["test_accuracy"])
    if line.get("validation_accuracy") is not None:
        tested += f"  validation {percent(line['validation_accuracy'])}"
    if line["train_loss"] is None:
        return f"without training: test {tested}"
    return (
        f"epoch {line['epoch']:>3}/{num_epochs}  loss {line['train_loss']:.4f}  "
        f"train {percent(line['train_accuracy'])}  test {tested}  {line['seconds']:.1f} s"
    )


def result_summary(result: RunResult, accounting: str) -> str:
    """The last lines of a run; the memory figure ``accounting`` comes first."""
    lines = []
    if result.best_test_accuracy is not None:
        lines.append(
            f"test accuracy: best {percent(result.best_test_accuracy)} "
            f"(epoch {result.best_epoch}), last {percent(result.last_test_accuracy)}"
        )
    if result.validation is not None:
        lines.append(validation_line(result.validation))
    lines += [f"*** WARNING: {warning}" for warning in result.warnings]
    per_epoch = result.seconds_per_epoch
    lines.append(
        f"time: selection {result.selection_seconds:.1f} s, "
        f"epoch {'-' if per_epoch is None else f'{per_epoch:.1f} s'} (median), "
        f"whole run {result.wall_seconds:.1f} s"
    )
    lines.append(
        f"trained parameters: {result.trained_parameters:,} of {result.total_parameters:,} "
        f"({percent(result.trained_share)})"
    )
    # Of a run that only selects, it would say next to nothing.
    if result.budget is not None and result.best_test_accuracy is not None:
        lines.append(budget_lines(result.budget))
    lines.append(memory_table(result.memory, accounting))
    lines.append(
        "(paper: Table 3's accounting as printed, which counts the batch twice, frozen weights as "
        "4-bit,\n and gradients, momentum and ViT's encoder as zero; estimate: what it should "
        "take; measured:\n what it took here)"
    )
    return "\n".join(lines)


def memory_table(memory: dict, first: str) -> str:
    """The memory figures side by side, in MB of 1e6 bytes, ``first`` leading."""
    order = sorted(memory, key=lambda figure: figure != first)
    phases = ("selection", "training", "evaluation")
    lines = [f"{'peak memory, MB':<20}" + "".join(f"{phase:>12}" for phase in phases)]
    for figure in order:
        cells = (memory[figure].get(phase) for phase in phases)
        text = "".join(f"{'-' if cell is None else f'{cell:.2f}':>12}" for cell in cells)
        lines.append(f"{figure:<20}{text}")
    return "\n".join(lines)
