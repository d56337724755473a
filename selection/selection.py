"""The Selection: which layers are retrained, and the scores that say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Optional

from common.errors import UserError
from common.files import read_json
from models.layers import Layer
from models.trained import Trained


@dataclass(frozen=True)
class LayerChoice:
    """One layer's row of ``selection.json``.

    Attributes:
        b1: first Betti number; None where the train type does not compute it.
        activation_size: elements of one sample's activation, |a|.
        params: trainable parameters of the layer.
        score: what the ranking sorts by, higher first; None without a ranking.
        rank: 1 for the highest score; None without a ranking.
        size_rank: 1 for the smallest activation (the ranking by 1/|a| alone).
        selected: whether any of the layer's variables is trained.
        variables: positions, among the layer's variables, of those that are trained.
        channels: output channels that are trained; None for all of them.
    """

    index: int
    name: str
    type: str
    b1: Optional[int]
    activation_size: int
    params: int
    score: Optional[float]
    rank: Optional[int]
    size_rank: int
    selected: bool
    variables: tuple[int, ...]
    channels: Optional[tuple[int, ...]] = None


@dataclass(frozen=True)
class Selection:
    """What ``selection.json`` holds, layers in execution order.

    Attributes:
        rho: the share of layers asked for; None where the train type has no such parameter.
        samples: images looked at to select (0 for a fixed rule).
        seconds: wall time of the selection, compilation included.
        ties_at_cut: layers that have the score of the last selected one, itself included; 0
            without a ranking.
        overlap_with_smallest: selected layers that are also among the as many layers with the
            smallest activations.
        figures: what else the train type has to report, by name (ElasticTrainer's predicted time
            ratio...).
    """

    train_type: str
    rho: Optional[float]
    num_layers: int
    num_selected: int
    samples: int
    seconds: float
    ties_at_cut: int
    overlap_with_smallest: int
    layers: tuple[LayerChoice, ...]
    figures: dict = field(default_factory=dict)

    @property
    def selected(self) -> tuple[LayerChoice, ...]:
        """The rows of the selected layers."""
        return tuple(row for row in self.layers if row.selected)

    @property
    def has_scores(self) -> bool:
        """Whether a ranking decided (and not a fixed rule)."""
        return any(row.score is not None for row in self.layers)

    def trained(self, layers: Sequence[Layer]) -> list[Trained]:
        """What to train, given the ``layers`` of the network it was made for."""
        return [
            Trained(layers[row.index].variables[position], row.channels, layers[row.index])
            for row in self.selected
            for position in row.variables
        ]

    def timed(self, seconds: float) -> Selection:
        """The same with its wall time."""
        return replace(self, seconds=seconds)

    def to_json(self) -> dict:
        """A dictionary of plain JSON types."""
        return asdict(self)


def load_selection(path: str, layers: Sequence[Layer]) -> Selection:
    """A Selection written to ``selection.json`` by an earlier run, for the same network.

    Raises:
        UserError: unreadable, not a selection, or made for another network; the message names
            the first layer that differs.
    """
    where = f"--selection_file {path}"
    try:
        content = read_json(Path(path))
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from error
    rows = _checked_rows(content, where)
    if len(rows) != len(layers):
        raise UserError(
            f"{where} is for a network of {len(rows)} layers, this one has {len(layers)}"
        )
    for row, layer in zip(rows, layers):
        if (row.index, row.type, row.params) != (layer.index, layer.type, layer.params):
            raise UserError(
                f"{where} is for another network: its layer {row.index} is {row.type} {row.name} "
                f"({row.params} parameters), here it is {layer.type} {layer.name} ({layer.params})"
            )
    return Selection(**{**content, "layers": tuple(rows)})


def _checked_rows(content: object, where: str) -> list[LayerChoice]:
    """The rows of a parsed ``selection.json``, whose fields are all there."""
    wanted = {field.name for field in fields(Selection)}
    if not isinstance(content, dict) or set(content) != wanted:
        raise UserError(f"{where} is not a selection: it must hold {', '.join(sorted(wanted))}")
    columns = {field.name for field in fields(LayerChoice)}
    rows = []
    for number, row in enumerate(content["layers"]):
        if not isinstance(row, dict) or set(row) != columns:
            raise UserError(f"{where}: layer {number} must hold {', '.join(sorted(columns))}")
        lists = {
            key: None if row[key] is None else tuple(row[key]) for key in ("variables", "channels")
        }
        rows.append(LayerChoice(**{**row, **lists}))
    return rows
