"""The train types by name. A new one is a function in ``strategies/`` and one entry here.

Importing this module does not import TensorFlow: ``main.py`` needs the names for its flags.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from common.errors import UserError

if TYPE_CHECKING:
    from selection.request import SelectionRequest
    from selection.selection import Selection


@runtime_checkable
class KeepsState(Protocol):
    """A strategy that keeps something between selections, which a checkpoint has to have."""

    def state(self) -> list[dict]:
        """What is kept, as plain JSON types."""

    def restore(self, state: list[dict]) -> None:
        """Go on with what :meth:`state` gave."""


@dataclass(frozen=True)
class TrainType:
    """One entry.

    Attributes:
        function: ``module:function`` in this package, or a class whose instances keep something
            between selections (:class:`KeepsState`); called with a :class:`SelectionRequest`, the
            name as ``train_type`` and keyword ``options``, it returns a :class:`Selection`.
        cost: what selecting takes: ``none`` (a fixed rule), ``forward`` passes, or a backward
            pass through the whole network for ``activation_gradients`` or ``variable_gradients``.
        uses_rho: whether ``--rho`` matters.
        order: how layers are taken one after another until rho, or a memory budget, ends it: by
            ``score``, from the ``last`` one back, or empty for those that choose otherwise.
        keeps_budget: whether one without such an order can keep to a memory budget all the same.
        by_betti: whether it counts Betti numbers of the pooled activations.
        by_distances: whether it looks at something else in the distances between them.
        by_channels: whether it can take some of the channels of a layer (``--rho_ch``).
        always_head: whether the head is trained whatever ``--head`` says.
        schedule: ``once``, or what changes during training: ``elastic``, ``prune``, and ``redraw``
            (anew in every epoch).
    """

    name: str
    function: str
    summary: str
    cost: str = "none"
    uses_rho: bool = True
    order: str = ""
    keeps_budget: bool = False
    by_betti: bool = False
    by_distances: bool = False
    by_channels: bool = False
    always_head: bool = False
    schedule: str = "once"
    aliases: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def needs_labels(self) -> bool:
        """Whether a selection takes gradients of the loss."""
        return self.cost in ("activation_gradients", "variable_gradients")

    @property
    def pools(self) -> bool:
        """Whether it makes one point cloud a layer of the pooled images (``--selection_mode``)."""
        return self.by_betti or self.by_distances

    @property
    def takes_budget(self) -> bool:
        """Whether it goes with ``--memory_budget``."""
        return bool(self.order) or self.keeps_budget

    def strategy(self) -> functools.partial[Selection]:
        """What chooses the layers of a :class:`SelectionRequest`; imports TensorFlow.

        To be kept as long as the run: its ``func`` may keep something from one selection to the
        next.
        """
        module, name = self.function.split(":")
        found = getattr(importlib.import_module(f"selection.{module}"), name)
        chooses = found() if isinstance(found, type) else found
        return functools.partial(chooses, train_type=self.name, **dict(self.options))

    def select(self, request: SelectionRequest) -> Selection:
        """One selection; imports TensorFlow."""
        return self.strategy()(request)


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
            by_channels=True,
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
            by_channels=True,
            options=(("normalise_by", "nothing"),),
        ),
        TrainType(
            name="weight_norm_betti_train",
            function="strategies.adabet:select",
            summary="ablation: by b1 / number of weights",
            order="score",
            cost="forward",
            by_betti=True,
            by_channels=True,
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
            function="elastic.selector:ElasticStrategy",
            summary="ElasticTrainer: tensors by knapsack, anew every --interval epochs",
            cost="variable_gradients",
            schedule="elastic",
        ),
        TrainType(
            name="prune_training",
            function="strategies.fixed:everything",
            summary="PruneTrain: every layer, pruned every --interval epochs",
            uses_rho=False,
            schedule="prune",
            aliases=("prunetrain",),
        ),
        TrainType(
            name="betti_unit_train",
            function="strategies.units:select",
            summary="by b1, a convolution and its batch norm as one, and the head always",
            cost="forward",
            keeps_budget=True,
            by_betti=True,
            always_head=True,
        ),
        TrainType(
            name="betti_knapsack_train",
            function="strategies.betti_knapsack:select",
            summary="tensors by ElasticTrainer's knapsack, b1 being their importance (--knapsack)",
            cost="forward",
            keeps_budget=True,
            by_betti=True,
        ),
        TrainType(
            name="effective_rank_train",
            function="strategies.cloud:select",
            summary="by the effective rank of the activations",
            order="score",
            cost="forward",
            by_distances=True,
            options=(("measure", "effective_rank"),),
        ),
        TrainType(
            name="participation_ratio_train",
            function="strategies.cloud:select",
            summary="by the participation ratio of the activations",
            order="score",
            cost="forward",
            by_distances=True,
            options=(("measure", "participation_ratio"),),
        ),
        TrainType(
            name="two_nn_train",
            function="strategies.cloud:select",
            summary="by the TwoNN intrinsic dimension of the activations",
            order="score",
            cost="forward",
            by_distances=True,
            options=(("measure", "two_nn_dimension"),),
        ),
        TrainType(
            name="persistence_entropy_train",
            function="strategies.cloud:select",
            summary="by the persistence entropy of the activations' loops",
            order="score",
            cost="forward",
            by_distances=True,
            options=(("measure", "persistence_entropy"),),
        ),
        TrainType(
            name="cka_change_train",
            function="strategies.change:by_cka",
            summary="by how far a layer changes the activations, 1 - linear CKA",
            order="score",
            cost="forward",
            by_distances=True,
        ),
        TrainType(
            name="block_influence_train",
            function="strategies.change:by_blocks",
            summary="by how far a residual block changes what goes through it",
            order="score",
            cost="forward",
        ),
        TrainType(
            name="fps_training",
            function="strategies.feedforward:select",
            summary="FPS: by the mean of |weight| x |input|",
            order="score",
            cost="forward",
        ),
        TrainType(
            name="autorgn_training",
            function="strategies.autorgn:select",
            summary="AutoRGN: by |gradient| / |weights| on one labelled batch",
            order="score",
            cost="variable_gradients",
            aliases=("autorgn",),
        ),
        TrainType(
            name="trady_training",
            function="strategies.redrawn:RandomChannels",
            summary="TraDy: the head, and channels of random layers, drawn anew in every epoch",
            order="score",
            by_channels=True,
            always_head=True,
            schedule="redraw",
            aliases=("trady",),
        ),
        TrainType(
            name="lisa_training",
            function="strategies.redrawn:RandomLayers",
            summary="LISA: the head, and random layers, drawn anew in every epoch",
            order="score",
            always_head=True,
            schedule="redraw",
            aliases=("lisa",),
        ),
        TrainType(
            name="bias_training",
            function="strategies.biases:alone",
            summary="TinyTL-B: all biases and betas, and the head",
            uses_rho=False,
            always_head=True,
        ),
        TrainType(
            name="bias_plus_betti_train",
            function="strategies.biases:beside_betti",
            summary="these, and AdaBet's layers",
            cost="forward",
            keeps_budget=True,
            by_betti=True,
            always_head=True,
        ),
        TrainType(
            name="bias_plus_last_k_training",
            function="strategies.biases:beside_last",
            summary="these, and the last floor(rho * L) layers",
            keeps_budget=True,
            always_head=True,
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
