"""The signatures of a bundle: what it can be called for, as functions of builtin operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from export.lowering.graph import built_in
from export.training.dropout import GivenMasks, dropout_inputs
from export.training.scores import betti_numbers, layer_distances
from models.batch_part import BatchPart
from models.network import Network
from models.recompute import Recompute
from models.trained import Trained
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves

Results = dict[str, tf.Tensor]


@dataclass(frozen=True)
class BundleSizes:
    """How many images a bundle's signatures take.

    Attributes:
        step: of ``train``.
        pooled: that the scores are of.
        pair: of ``distances`` at a time: two blocks of half as many.
    """

    step: int
    pooled: int
    pair: int


class Signatures:
    """Those of a network of which ``trained`` is trained.

    Attributes:
        leaves: what the optimizer updates; ``value_N`` and ``momentum_N`` are of its variables, in
            their order.
        momenta: one for each of them.
        dropout: the masks that a training step is given.
        state: every variable that the functions read or assign.
    """

    def __init__(
        self, network: Network, trained: Sequence[Trained], sizes: BundleSizes, weight_decay: float
    ) -> None:
        """``weight_decay`` is times the learning rate, as everywhere."""
        self._network = network
        self._sizes = sizes
        self._weight_decay = weight_decay
        self.leaves = Leaves(trained)
        variables = self.leaves.variables
        self.momenta = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]
        self.dropout = dropout_inputs(network.model, sizes.step)
        own = {variable.ref() for variable in network.model.weights}
        slices = [variable for variable in variables if variable.ref() not in own]
        self.state = [*network.model.weights, *slices, *self.momenta]

    def functions(self) -> dict[str, Any]:
        """Concrete functions by the names of the signatures."""
        pixels = self._network.model.input_shape[1:]
        sizes, layers = self._sizes, len(self._network.layers)
        # Not without an axis: where LiteRT 2.1 to 2.3 is given such an input on ARM, it ends.
        number = tf.TensorSpec([1], tf.float32)
        batch = {
            "images": tf.TensorSpec([sizes.step, *pixels], tf.float32),
            "labels": tf.TensorSpec([sizes.step], tf.int32),
            "shares": tf.TensorSpec([sizes.step], tf.float32),
            "learning_rate": number,
            "momentum": number,
            "last": number,
        }
        masks = {one.name: tf.TensorSpec(one.shape, tf.float32) for one in self.dropout}
        pooled = [layers, sizes.pooled, sizes.pooled]
        return {
            "infer": built_in(self._infer, {"images": tf.TensorSpec([1, *pixels], tf.float32)}),
            "train": built_in(self.train, {**batch, **masks}),
            "get": built_in(self._get, {}),
            "set": built_in(self._set, self._state_specs()),
            "distances": built_in(
                self._distances, {"images": tf.TensorSpec([sizes.pair, *pixels], tf.float32)}
            ),
            "scores": built_in(betti_numbers, {"distances": tf.TensorSpec(pooled, tf.float32)}),
        }

    def _lean(self, masks: Sequence[tf.Tensor] = ()) -> LeanGradients:
        given = {id(one.layer): mask for one, mask in zip(self.dropout, masks)}

        def draw(_: tf.keras.Model, step: tf.Tensor, part: BatchPart) -> GivenMasks:
            return GivenMasks({}, step, part, given)

        # What is computed once more would not be: without control dependencies, the converter
        # takes the first result again.
        return LeanGradients(self._network.model, self.leaves, recompute=Recompute.NONE, draw=draw)

    def _infer(self, images: tf.Tensor) -> Results:
        return {"logits": self._lean().logits(images)}

    def train(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        shares: tf.Tensor,
        rate: tf.Tensor,
        factor: tf.Tensor,
        last: tf.Tensor,
        *masks: tf.Tensor,
    ) -> Results:
        """A step of SGDW, or a part of one: v <- factor v - rate g, w <- w - last (decay w - v).

        A mini-batch that is too large for one call is taken in several: ``factor`` is the
        momentum's in the first of them and 1 in the others, ``last`` 1 in the last one and 0 in the
        others. One function does for both, because XNNPACK packs the weights of each signature
        anew.

        Args:
            images: raw pixels, as many as a call takes.
            labels: int32.
            shares: of each image in the mean loss of its mini-batch: 1 / images, 0 for one that
                only fills up.
            rate, factor, last: float32 ``[1]``.
            masks: dropout's.
        """
        part = BatchPart(tf.constant(0), tf.constant(self._sizes.step), shares)
        step = tf.constant(0, tf.int64)  # of masks that are given
        loss, logits, gradients = self._lean(masks)(images, tf.cast(labels, tf.int64), step, part)
        for momentum, gradient in zip(self.momenta, gradients):
            value = factor * momentum.read_value()
            momentum.assign(value if gradient is None else value - rate * gradient)
        decay = rate * self._weight_decay
        for variable, momentum in zip(self.leaves.variables, self.momenta):
            value = variable.read_value()
            variable.assign(value - last * (decay * value - momentum.read_value()))
        self.leaves.write_back()
        return {"loss": loss, "logits": logits}

    def _get(self) -> Results:
        named = zip(self._state_specs(), self._states())
        return {name: variable.read_value() for name, variable in named}

    def _set(self, *values: tf.Tensor) -> Results:
        for variable, value in zip(self._states(), values):
            variable.assign(value)
        self.leaves.write_back()
        return {"variables": tf.constant(len(self.momenta))}

    def _states(self) -> list[tf.Variable]:
        return [*self.leaves.variables, *self.momenta]

    def _state_specs(self) -> dict[str, tf.TensorSpec]:
        count = len(self.momenta)
        names = [f"{kind}_{number}" for kind in ("value", "momentum") for number in range(count)]
        return {
            name: tf.TensorSpec(variable.shape, tf.float32)
            for name, variable in zip(names, self._states())
        }

    def _distances(self, images: tf.Tensor) -> Results:
        return {"distances": layer_distances(self._network, images)}
