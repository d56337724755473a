"""The train types by name. A new one is a function in ``strategies/`` and one entry here.

Importing this module does not import TensorFlow: ``main.py`` needs the names for its flags.
"""

from __future__ import annotations

from common.errors import UserError
from selection.train_type import TrainType

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
            keeps_budget=True,
        ),
        TrainType(
            name="traditional_tl_training",
            function="strategies.fixed:head_only",
            summary="transfer learning: the head alone",
            uses_rho=False,
            keeps_budget=True,
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
            keeps_budget=True,
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
            name="lora_training",
            function="strategies.factors:select",
            summary="LoRA: the head, and factors of rank --lora_rank of the last layers' kernels",
            keeps_budget=True,
            always_head=True,
            aliases=("lora",),
        ),
        TrainType(
            name="bias_training",
            function="strategies.biases:alone",
            summary="TinyTL-B: all biases and betas, and the head",
            uses_rho=False,
            keeps_budget=True,
            always_head=True,
        ),
        TrainType(
            name="bias_plus_betti_train",
            function="strategies.biases:beside_betti",
            summary="TinyTL-B's biases and head, and AdaBet's layers",
            cost="forward",
            keeps_budget=True,
            by_betti=True,
            always_head=True,
        ),
        TrainType(
            name="bias_plus_last_k_training",
            function="strategies.biases:beside_last",
            summary="TinyTL-B's biases and head, and the last floor(rho * L) layers",
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
