"""The train types by name. A new one is a function in one file of this folder and one entry here.

Importing this module does not import TensorFlow: ``main.py`` needs the names for its flags.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from common.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from models.network import Network
    from selection.selection import Selection, Trained


@dataclass(frozen=True, eq=False)
class MemoryBudget:
    """A limit on what training may take (``--memory_budget``).

    Attributes:
        limit: MB of 1e6 bytes.
        needs: what is trained -> the estimated peak of a training step on it, MB.
    """

    limit: float
    needs: Callable[[Sequence[Trained]], float]

    def fits(self, trained: Sequence[Trained]) -> bool:
        """Whether training that stays within the limit."""
        return self.needs(trained) <= self.limit


@dataclass(frozen=True, eq=False)
class SelectionRequest:
    """What a train type gets to choose layers from.

    Attributes:
        network: the built network; its weights must be as they were on return.
        rho: share of the layers to select, in [0, 1]; None with a ``budget``.
        always_head: train the head in addition (``--head always``).
        batch_size: samples per mini-batch of the selection.
        num_batches: mini-batches to pool.
        sample_images: ``count`` -> the first images of the training set (or a draw of them),
            raw pixels ``[count, size, size, 3]``, uint8; no labels.
        labelled_images: ``count`` -> such images and their labels, int64 ``[count]``.
        seed: for train types that draw at random.
        learning_rate, weight_decay: of the training to come.
        settings: the flags that concern one train type only, by name (``fisher``...).
        budget: takes the place of ``rho``, for train types with an ``order``.
    """

    network: Network
    rho: Optional[float]
    always_head: bool
    batch_size: int
    num_batches: int
    sample_images: Callable[[int], np.ndarray]
    labelled_images: Callable[[int], tuple[np.ndarray, np.ndarray]]
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: Optional[MemoryBudget] = None


@dataclass(frozen=True)
class TrainType:
    """One entry.

    Attributes:
        function: ``module:function`` in this package; called with a :class:`SelectionRequest`
            and keyword ``options``, it returns a :class:`Selection`.
        cost: what selecting takes: ``none`` (a fixed rule), ``forward`` passes, or a backward
            pass through the whole network for ``activation_gradients`` or ``variable_gradients``.
        uses_rho: whether ``--rho`` matters.
        order: how layers are taken one after another until rho, or a memory budget, ends it: by
            ``score``, from the ``last`` one back, or empty for those that choose otherwise.
        by_betti: whether it ranks by Betti numbers (and so can rank channels, ``--rho_ch``).
        plan: ``once``, or ``elastic`` and ``prune``, which change during training.
    """

    name: str
    function: str
    summary: str
    cost: str = "none"
    uses_rho: bool = True
    order: str = ""
    by_betti: bool = False
    plan: str = "once"
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
            function="strategies.adabet:select",
            summary="AdaBet: top rho of the layers by b1 / activation size",
            order="score",
            cost="forward",
            by_betti=True,
            aliases=("bettitrain",),
            options=(("normalise_by", "activations"),),
        ),
        TrainType(
            name="no_norm_betti_train",
            function="strategies.adabet:select",
            summary="ablation: by b1 alone",
            order="score",
            cost="forward",
            by_betti=True,
            options=(("normalise_by", "nothing"),),
        ),
        TrainType(
            name="weight_norm_betti_train",
            function="strategies.adabet:select",
            summary="ablation: by b1 / number of weights",
            order="score",
            cost="forward",
            by_betti=True,
            options=(("normalise_by", "weights"),),
        ),
        TrainType(
            name="full_training",
            function="strategies.fixed:everything",
            summary="every layer",
            uses_rho=False,
        ),
        TrainType(
            name="traditional_tl_training",
            function="strategies.fixed:head_only",
            summary="transfer learning: the head alone",
            uses_rho=False,
        ),
        TrainType(
            name="last_k_training",
            function="strategies.fixed:last_layers",
            summary="the last floor(rho * L) layers, head included",
            order="last",
        ),
        TrainType(
            name="bn_plus_bias_training",
            function="strategies.fixed:norms_and_biases",
            summary="gamma and beta of norms, all biases, and the head",
            uses_rho=False,
        ),
        TrainType(
            name="random_k_training",
            function="strategies.fixed:random_layers",
            summary="control: floor(rho * L) layers drawn by --seed",
            order="score",
        ),
        TrainType(
            name="smallest_k_training",
            function="strategies.fixed:smallest_layers",
            summary="control: the floor(rho * L) layers with the smallest activations",
            order="score",
        ),
        TrainType(
            name="fisher_training",
            function="strategies.fisher:select",
            summary="top rho of the layers by Fisher information on one labelled batch",
            order="score",
            cost="activation_gradients",
            aliases=("fisher",),
        ),
        TrainType(
            name="elastic_training",
            function="elastic.selector:select",
            summary="ElasticTrainer: tensors by knapsack, anew every --interval epochs",
            cost="variable_gradients",
            plan="elastic",
        ),
        TrainType(
            name="prune_training",
            function="strategies.fixed:everything",
            summary="PruneTrain: every layer, pruned every --interval epochs",
            uses_rho=False,
            plan="prune",
            aliases=("prunetrain",),
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
