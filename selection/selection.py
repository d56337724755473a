"""The Selection: which layers are retrained, and the scores that say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from common.errors import UserError
from common.outside_json import read_outside_json, schema_of
from models.kinds import takes_factors
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
        factor_rank: the rank of the factors by which its kernels are trained
            (``train/gradients/factors.py``); None where they are trained themselves.
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
    factor_rank: Optional[int] = None


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
        found = []
        for row in self.selected:
            layer = layers[row.index]
            for at in row.variables:
                rank = row.factor_rank if at in layer.kernel_places else None
                found.append(Trained(layer.variables[at], row.channels, layer, rank))
        return found

    def timed(self, seconds: float) -> Selection:
        """The same with its wall time."""
        return replace(self, seconds=seconds)

    def to_json(self) -> dict:
        """A dictionary of plain JSON types.

        Of layers without factors nothing is said about them, as before there were any.
        """
        content = asdict(self)
        for row in content["layers"]:
            if row["factor_rank"] is None:
                del row["factor_rank"]
        return content

    @classmethod
    def of_json(cls, content: dict) -> Selection:
        """From what :meth:`to_json` gave, which nobody has changed."""
        rows = []
        for row in content["layers"]:
            channels = row["channels"]
            places = {
                "variables": tuple(row["variables"]),
                "channels": None if channels is None else tuple(channels),
            }
            rows.append(LayerChoice(**{**row, **places}))
        return cls(**{**content, "layers": tuple(rows)})


def load_selection(path: str, layers: Sequence[Layer]) -> Selection:
    """A Selection written to ``selection.json`` by an earlier run, for the same network.

    Which layers are ``selected`` decides, so that a file can be changed by hand: what is counted,
    and the variables of a layer that had none, follow from it.

    Raises:
        UserError: unreadable, not a selection, or made for another network; the message names
            the line, or the first layer that differs.
    """
    where = f"--selection_file {path}"
    rows_schema: Any = tuple[schema_of(LayerChoice), ...]  # type: ignore[misc]
    content = read_outside_json(Path(path), schema_of(Selection, layers=rows_schema), where)
    given = content["layers"]
    if len(given) != len(layers):
        raise UserError(
            f"{where} is for a network of {len(given)} layers, this one has {len(layers)}"
        )
    rows = tuple(_row(row, layer, where) for row, layer in zip(given, layers))
    count = sum(row.selected for row in rows)
    counted = {
        "num_layers": len(rows),
        "num_selected": count,
        "overlap_with_smallest": sum(row.selected and row.size_rank <= count for row in rows),
    }
    return Selection(**{**content, **counted, "layers": rows})


def _row(row: dict, layer: Layer, where: str) -> LayerChoice:
    """One row of a parsed ``selection.json``, checked against the layer that it is about."""
    if (row["index"], row["type"], row["params"]) != (layer.index, layer.type, layer.params):
        raise UserError(
            f"{where} is for another network: its layer {row['index']} is {row['type']} "
            f"{row['name']} ({row['params']} parameters), here it is {layer.type} {layer.name} "
            f"({layer.params})"
        )
    what = f"{where}: layer {layer.index} ({row['name']})"
    variables = _places(row["variables"], len(layer.variables), f"{what}: variables")
    channels = row["channels"]
    if channels is not None:
        number = layer.activation.shape[-1]
        channels = _places(channels, number, f"{what}: channels")
        if not channels:
            raise UserError(f"{what}: channels: an empty list trains nothing; null trains all")
    rank = row["factor_rank"]
    if rank is not None and (
        rank < 1 or channels is not None or not takes_factors(layer.keras_layer)
    ):
        raise UserError(
            f"{what}: factor_rank {rank}: it must be at least 1, and goes with convolutions, dense "
            "layers and attention, of which no channels are named"
        )
    if not row["selected"]:
        variables, channels, rank = (), None, None
    elif not variables:
        variables = tuple(range(len(layer.variables)))
    decided = {"variables": variables, "channels": channels, "factor_rank": rank}
    return LayerChoice(**{**row, **decided})


def _places(given: Sequence[int], number: int, what: str) -> tuple[int, ...]:
    """Positions from 0 to ``number - 1``, each once, in ascending order."""
    wrong = [place for place in given if not 0 <= place < number]
    if wrong:
        raise UserError(f"{what}: {wrong[0]} is out of range: there are {number}, from 0")
    if len(set(given)) < len(given):
        raise UserError(f"{what}: every one can be there only once")
    return tuple(sorted(given))
