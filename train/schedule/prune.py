"""PruneTrain: the group lasso empties channels while everything trains, and they are cut out.

Lym et al., "PruneTrain: Fast Neural Network Training by Dynamic Sparse Model Reconfiguration",
SC 2019. ``--prune l1`` is what the published ElasticTrainer repository runs under that name:
another penalty, and no pruning.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator

import tensorflow as tf

from models.graph.macs import network_macs
from models.kinds import LayerKind, kernels
from models.network import Network
from models.pruning.channel_groups import ChannelSet, channel_map
from models.pruning.record import from_record, to_record
from models.pruning.shrink import find_pruning, shrink
from selection.ranking import make_selection
from train.config.paper_constants import LASSO_RATIO
from train.data.batches import Batch, training_batches
from train.penalty import Penalty
from train.schedule.base import Job, Stage, TrainingSchedule

ALIVE_THRESHOLD = 1e-4  # largest weight of a group that counts as zero; PruneTrain, SC 2019
LASSO_SMOOTHING = 1e-8  # under the square root, whose derivative at 0 would be infinite
L1_STRENGTH = 1e-4  # of the published ElasticTrainer repository's baseline
STRENGTH_BATCHES = 8  # to average the loss over


class PruneSchedule(TrainingSchedule):
    """Everything is trained under a penalty; with ``--prune structured`` it becomes ever less.

    Every ``config.interval`` epochs the dead channels are cut out, and a smaller network goes on
    from where the larger one was: its weights, momentum and optimizer step. The larger one is
    not referred to any more from here; whoever else holds it must let go of it, and collect
    garbage (Keras models are reference cycles), for memory to fall.

    Attributes:
        strength: what the penalty is multiplied by; 0 before :meth:`first_stage`.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.strength = 0.0
        self._prunings: list[dict] = []  # of each network in turn, from the one that was built

    def note(self, network: Network) -> str:
        """What can be pruned of it."""
        return pruning_note(network, self.job.config.prune)

    def first_stage(self, network: Network, first_step: int = 0) -> Stage:
        """The whole network, and the strength that the penalty will keep."""
        job = self.job
        selection = job.select(network)
        if job.config.prune == "l1":
            self.strength = L1_STRENGTH
        else:
            self.strength = lasso_strength(network, _few_batches(job), job.config.prune_ratio)
        return self.stage_of(network, selection, first_step)

    def next_stage(self, stage: Stage, epoch: int) -> Stage:
        """Before epochs 1 + interval, 1 + 2 * interval...: without the dead channels."""
        config = self.job.config
        if config.prune == "l1" or (epoch - 1) % config.interval:
            return stage
        pruning = find_pruning(stage.network.model, ALIVE_THRESHOLD)
        if pruning.is_empty:
            return stage
        self._prunings.append(to_record(stage.network.model, pruning))
        shrunk = shrink(stage.network, pruning)
        network, layers = shrunk.network, shrunk.network.layers
        selection = make_selection(
            layers, [True] * len(layers), train_type=stage.selection.train_type
        )
        former = stage.trainer
        momentum = shrunk.carry(former.momentum())
        del pruning, shrunk
        smaller = self.stage_of(network, selection, former.steps_taken, momentum)
        gc.collect()
        return smaller

    def figures_of(self, network: Network) -> dict:
        """What is left to train and to compute, and what weighs on it."""
        return {
            "parameters": network.params,
            "macs": network_macs(network.layers),
            "penalty_strength": self.strength,
        }

    def state(self) -> dict:
        """The strength, and what was taken out each time."""
        return {"strength": self.strength, "prunings": self._prunings}

    def restore(self, state: dict, network: Network) -> Network:
        """The network that is left after the same prunings."""
        self.strength = state["strength"]
        for record in state["prunings"]:
            network = shrink(network, from_record(network.model, record)).network
            self._prunings.append(record)
            gc.collect()
        return network

    @property
    def rebuilt(self) -> bool:
        """Whether anything was taken out."""
        return bool(self._prunings)

    def penalty_of(self, network: Network) -> Penalty:
        """The group lasso, or the L1 norm, times the strength."""
        amount = l1_norm if self.job.config.prune == "l1" else group_lasso
        unscaled, strength = amount(network), self.strength
        return lambda: strength * unscaled()


def group_lasso(network: Network) -> Penalty:
    """The sum of sqrt(sum w^2 + 1e-8) over all groups, a scalar function of the weights.

    A group is what one output channel, or one input channel, of a convolution or dense kernel is
    made of. Groups that can never be pruned are left out: the first convolution's inputs, the
    classifier's outputs, and in a vision transformer everything but the hidden units of its MLPs;
    likewise depthwise kernels, whose channels are those of their neighbours.
    """
    sets = channel_map(network.model).sets
    return lambda: tf.add_n([_norms(kernel, axis) for one in sets for kernel, axis in one.kernels])


def _norms(kernel: tf.Variable, axis: int) -> tf.Tensor:
    others = [other for other in range(kernel.shape.rank) if other != axis]
    return tf.reduce_sum(tf.sqrt(tf.reduce_sum(tf.square(kernel), others) + LASSO_SMOOTHING))


def l1_norm(network: Network) -> Penalty:
    """The sum of |w| over all kernels: no biases, vectors of normalisations or embeddings."""
    every = [kernel for layer in network.layers for kernel in kernels(layer.keras_layer)]
    return lambda: tf.add_n([tf.reduce_sum(tf.abs(kernel)) for kernel in every])


def lasso_strength(network: Network, batches: Iterable[Batch], ratio: float = LASSO_RATIO) -> float:
    """lambda = r L / ((1 - r) P), which makes the lasso the share ``ratio`` of the whole loss.

    L is the mean cross-entropy of ``batches`` (dropout off, so that training draws the numbers
    that it would draw without this) and P the penalty, both of the network as it is.
    """
    total, samples = 0.0, 0
    for images, labels in batches:
        logits = network.model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        total += float(tf.reduce_sum(losses))
        samples += int(labels.shape[0])
    loss = total / samples
    return float(ratio * loss / ((1 - ratio) * float(group_lasso(network)())))


def pruning_note(network: Network, prune: str) -> str:
    """What can be pruned of ``network``, one sentence for people."""
    if prune == "l1":
        return "--prune l1: an L1 penalty on all kernels; nothing is ever pruned"
    sets: tuple[ChannelSet, ...] = channel_map(network.model).sets
    channels = sum(one.channels for one in sets)
    if any(layer.kind is LayerKind.SELF_ATTENTION for layer in network.layers):
        what = "hidden units of the MLPs and nothing else of a vision transformer"
    else:
        what = "channels of convolutions"
    return f"--prune structured: prunes {what} ({channels:,} in {len(sets)} sets)"


def _few_batches(job: Job) -> Iterator[Batch]:
    """Some training batches, augmented as in training, of an epoch that training does not see."""
    batches = training_batches(job.config, job.data, epoch=0)
    return itertools.islice(batches, STRENGTH_BATCHES)
