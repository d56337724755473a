"""The train types by name. A new one is a function in one file of this folder and one entry here.

Importing this module does not import TensorFlow: ``main.py`` needs the names for its flags.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from models.network import Network
    from selection.record import Selection



@dataclass(frozen=True, eq=False)
class SelectionRequest:
    """What a train type gets to choose layers from.

    Attributes:
        network: the built network; its weights must be as they were on return.
        rho: share of the layers to select, in [0, 1].
        always_head: train the head in addition (``--head always``).
        batch_size: samples per mini-batch of the selection.
        num_batches: mini-batches to pool.
        sample_images: ``count`` -> the first images of the training set, raw pixels
            ``[count, size, size, 3]``, uint8, in data set order; no labels.
        seed: for train types that draw at random.
    """

    network: Network
    rho: float
    always_head: bool
    batch_size: int
    num_batches: int
    sample_images: Callable[[int], np.ndarray]
    seed: int


@dataclass(frozen=True)
class TrainType:
    """One entry.

    Attributes:
        function: ``module:function`` in this package; called with a :class:`SelectionRequest`
            and keyword ``options``, it returns a :class:`Selection`.
        cost: what selecting takes: ``none`` (a fixed rule), ``forward`` passes, or a
            ``backward`` pass through the whole network.
        uses_rho: whether ``--rho`` matters.
    """

    name: str
    function: str
    summary: str
    cost: str = "none"
    uses_rho: bool = True
    aliases: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def select(self, request: SelectionRequest) -> Selection:
        """Choose the layers; imports TensorFlow."""
        module, function = self.function.split(":")
        strategy = getattr(importlib.import_module(f"selection.{module}"), function)
        return strategy(request, train_type=self.name, **dict(self.options))


TRAIN_TYPES = {
    entry.name: entry
    for entry in (
        TrainType(
            name="act_norm_betti_train",
            function="adabet:select",
            summary="AdaBet: top rho of the layers by b1 / activation size",
            cost="forward",
            aliases=("bettitrain",),
        ),
        TrainType(
            name="full_training",
            function="fixed:everything",
            summary="every layer",
            uses_rho=False,
        ),
        TrainType(
            name="traditional_tl_training",
            function="fixed:head_only",
            summary="transfer learning: the head alone",
            uses_rho=False,
        ),
        TrainType(
            name="last_k_training",
            function="fixed:last_layers",
            summary="the last floor(rho * L) layers, head included",
        ),
    )
}


def train_type_named(name: str) -> TrainType:
    """The entry of ``name`` or of the alias ``name``.

    Raises:
        UserError: there is none; the message lists the valid names.
    """
    for entry in TRAIN_TYPES.values():
        if name == entry.name or name in entry.aliases:
            return entry
    raise UserError(f"unknown --train_type {name!r}; choose one of {', '.join(TRAIN_TYPES)}")
