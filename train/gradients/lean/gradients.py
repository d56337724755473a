"""The lean step's gradients: the network unit by unit, forward and back, without a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

import tensorflow as tf

from models.backbones.vit_layers import SelfAttention
from models.forward import call_layer
from train.gradients.lean.attention import record_attention
from train.gradients.lean.layer_rules import record_layer
from train.gradients.lean.linear import Gradients, Pullback
from train.gradients.lean.order import after
from train.gradients.lean.units import LinearUnit, Segment, Unit, units_of
from train.gradients.leaves import Leaves
from train.gradients.merged import merged_layers

Step = tuple[Unit, Pullback, list[bool]]


class LeanGradients:
    """Gradients of the mean cross-entropy, equal to TensorFlow's own up to rounding.

    What a unit keeps for the backward pass is what its gradients take: nothing before the first
    trained layer, one bit per element for ReLU, the input of a trained kernel. The backward pass
    goes from unit to unit, because TensorFlow, left alone, starts whatever it can and keeps the
    results.
    """

    def __init__(self, model: tf.keras.Model, leaves: Leaves) -> None:
        self._model = model
        self._leaves = leaves
        self._units = units_of(model)
        self._overrides = merged_layers(leaves)

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[Optional[tf.Tensor]]]:
        """Mean loss, logits ``[batch, classes]``, and the gradient of each of ``leaves.variables``.

        Args:
            images: raw pixels ``[batch, size, size, 3]``, float32.
            labels: int64 ``[batch]``.
        """
        values = {id(self._model.inputs[0]): images}
        steps = self._run(self._units, values, {id(self._model.inputs[0]): False})
        logits = values.pop(id(self._model.outputs[0]))
        losses, gradient = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=labels
        )
        gradient /= tf.cast(tf.shape(logits)[0], tf.float32)
        found: Gradients = {}
        _pull_back(steps, {id(self._model.outputs[0]): gradient}, found)
        return (
            tf.reduce_mean(losses),
            logits,
            [found.get(leaf.ref()) for leaf in self._leaves.variables],
        )

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Logits ``[batch, classes]`` with dropout off, nothing kept."""
        values = {id(self._model.inputs[0]): images}
        for unit in self._units:
            inputs = [values[id(tensor)] for tensor in unit.inputs]
            values[id(unit.output)] = self._compute(unit, inputs, training=False)
        return values[id(self._model.outputs[0])]

    def _run(
        self, units: Sequence[Unit], values: dict[int, tf.Tensor], crossed: dict[int, bool]
    ) -> list[Step]:
        """Compute ``units``: from ``id(symbolic tensor)`` to values, and the way back.

        Args:
            crossed: ``id(symbolic tensor)`` -> whether its gradient is wanted.
        """
        # The order of branches is left to TensorFlow: it fuses a convolution with the addition of
        # a residual branch, and does not see that this closes a circle where we put them in order.
        steps = []
        staying = self._staying(units)
        for unit in units:
            inputs = [values[id(tensor)] for tensor in unit.inputs]
            crossings = [crossed[id(tensor)] for tensor in unit.inputs]
            trained = any(self._leaves.of(layer) for layer in unit.layers)
            crossed[id(unit.output)] = trained or any(crossings)
            if crossed[id(unit.output)]:
                stays = id(unit.output) in staying
                output, pullback = self._record(unit, inputs, crossings, stays)
                steps.append((unit, pullback, crossings))
            else:
                output = self._compute(unit, inputs)
            values[id(unit.output)] = output
        return steps

    def _staying(self, units: Sequence[Unit]) -> set[int]:
        """The ``id(symbolic tensor)`` that are kept because a kernel that reads them is trained."""
        staying = set()
        for unit in units:
            if isinstance(unit, LinearUnit):
                leaf = self._leaves.find(unit.linear.product.kernel)
                if leaf is not None and not (leaf.is_slice and unit.linear.product.by_channel):
                    staying.add(id(unit.inputs[0]))
        return staying

    def _compute(self, unit: Unit, inputs: Sequence[tf.Tensor], training: bool = True) -> tf.Tensor:
        """The output of a unit that nothing has to be carried back through, now or ever."""
        if isinstance(unit, LinearUnit):
            return unit.linear.plain(*inputs)
        values = {id(tensor): value for tensor, value in zip(unit.inputs, inputs)}
        if isinstance(unit, Segment):
            previous = None
            for one in unit.units:
                again = [values[id(tensor)] for tensor in one.inputs]
                values[id(one.output)] = previous = self._compute(one, again, training)
            return previous
        return self._call(unit, training)(*inputs)

    def _call(self, unit: Unit, training: bool = True) -> Callable[..., tf.Tensor]:
        (layer,) = unit.layers

        def call(*inputs: tf.Tensor) -> tf.Tensor:
            values = {id(tensor): value for tensor, value in zip(unit.inputs, inputs)}
            return call_layer(layer, values, self._overrides, training=training)

        return call

    def _record(
        self, unit: Unit, inputs: list[tf.Tensor], crossings: list[bool], stays: bool
    ) -> tuple[tf.Tensor, Pullback]:
        if isinstance(unit, LinearUnit):
            return unit.linear.record(*inputs, *crossings, self._leaves, output_stays=stays)
        if isinstance(unit, Segment):
            return self._record_segment(unit, inputs, crossings)
        (layer,) = unit.layers
        if isinstance(layer, SelfAttention):
            return record_attention(layer, *inputs, *crossings, self._leaves)
        return record_layer(layer, self._call(unit), inputs, crossings, self._leaves)

    def _record_segment(
        self, unit: Segment, inputs: list[tf.Tensor], crossings: list[bool]
    ) -> tuple[tf.Tensor, Pullback]:
        def pullback(dy: tf.Tensor, found: Gradients) -> list[Optional[tf.Tensor]]:
            values = {id(t): after(dy, value) for t, value in zip(unit.inputs, inputs)}
            crossed = {id(t): crossing for t, crossing in zip(unit.inputs, crossings)}
            # What is computed again only up to where somebody needs it: TensorFlow drops the rest.
            cotangents = {id(unit.output): dy}
            _pull_back(self._run(unit.units, values, crossed), cotangents, found)
            return [cotangents.get(id(tensor)) for tensor in unit.inputs]

        return self._compute(unit, inputs), pullback


def _pull_back(steps: Sequence[Step], cotangents: dict[int, tf.Tensor], found: Gradients) -> None:
    """Carry ``cotangents`` (``id(symbolic tensor)`` -> gradient) back through ``steps``.

    Those of the tensors that no step makes are left in it.
    """
    previous = None
    for unit, pullback, crossings in reversed(steps):
        dy = cotangents.pop(id(unit.output))
        if previous is not None and dy is not previous:
            dy = after(previous, dy)
        for tensor, crossing, dx in zip(unit.inputs, crossings, pullback(dy, found)):
            if crossing:
                known = cotangents.get(id(tensor))
                cotangents[id(tensor)] = previous = dx if known is None else known + dx
