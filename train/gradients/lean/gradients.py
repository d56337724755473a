"""The lean step's gradients: the network unit by unit, forward and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from models.forward import call_layer
from train.gradients.lean.layer_rules import layer_with_vjp
from train.gradients.lean.order import after
from train.gradients.lean.units import LinearUnit, RecomputedBranch, Unit, units_of
from train.gradients.lean.vjp import LayerCall, OutputAndVjp, Vjp, WeightGradients
from train.gradients.leaves import Leaves
from train.gradients.merged import merged_layers

Values = dict[int, tf.Tensor]  # id(symbolic tensor) -> its value, or the loss' gradient by it


class TapeEntry(NamedTuple):
    """A unit that was computed, for the backward pass."""

    unit: Unit
    vjp: Vjp
    needs_input_grad: Sequence[bool]


class LeanGradients:
    """Gradients of the mean cross-entropy, equal to TensorFlow's own up to rounding.

    What a unit saves for the backward pass is what its gradients take: nothing before the first
    trained layer, one bit per element for ReLU, the input of a trained kernel. The backward pass
    goes from unit to unit, because TensorFlow, left alone, starts whatever it can and keeps the
    results. How a unit is differentiated: see the docstring of ``train/gradients/lean``.
    """

    def __init__(self, model: tf.keras.Model, leaves: Leaves) -> None:
        """``model`` is flat, and ``leaves`` what is trained of it.

        Raises:
            ValueError: a slice is to be trained of a kind of layer that knows none.
        """
        self._model = model
        self._leaves = leaves
        self._units = units_of(model)
        self._overrides = merged_layers(leaves)

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[Optional[tf.Tensor]]]:
        """Mean loss, logits and gradients; see ``LossGradients``."""
        pixels, output = id(self._model.inputs[0]), id(self._model.outputs[0])
        values = {pixels: images}
        tape = self._forward_with_tape(self._units, values, {pixels: False})
        logits = values.pop(output)
        losses, gradient = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=labels
        )
        gradient /= tf.cast(tf.shape(logits)[0], tf.float32)
        found: WeightGradients = {}
        _backward(tape, {output: gradient}, found)
        gradients = [found.get(variable.ref()) for variable in self._leaves.variables]
        return tf.reduce_mean(losses), logits, gradients

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Logits ``[batch, classes]`` with dropout off, nothing saved."""
        values = {id(self._model.inputs[0]): images}
        self._forward(self._units, values, training=False)
        return values[id(self._model.outputs[0])]

    def _forward(self, units: Sequence[Unit], values: Values, *, training: bool) -> None:
        """Compute ``units`` from ``values``, into ``values``; nothing is saved."""
        for unit in units:
            if isinstance(unit, RecomputedBranch):
                self._forward(unit.units, values, training=training)
            elif isinstance(unit, LinearUnit):
                (x,) = unit.inputs
                values[id(unit.output)] = unit.linear.forward(values[id(x)])
            else:
                (layer,) = unit.layers
                output = call_layer(layer, values, self._overrides, training=training)
                values[id(unit.output)] = output

    def _forward_with_tape(
        self, units: Sequence[Unit], values: Values, needs_grad: dict[int, bool]
    ) -> list[TapeEntry]:
        """The same in training, and the tape of the units that a gradient goes back through.

        Args:
            needs_grad: ``id(symbolic tensor)`` -> whether its gradient is needed, of what
                ``units`` read from outside; the others are added.
        """
        # The order of branches is left to TensorFlow: it fuses a convolution with the addition of
        # a residual branch, and does not see that this closes a circle where we put them in order.
        tape = []
        saved = self._inputs_saved_by(units)
        for unit in units:
            needs_input_grad = [needs_grad[id(tensor)] for tensor in unit.inputs]
            trained = any(self._leaves.of(layer) for layer in unit.layers)
            needs_grad[id(unit.output)] = trained or any(needs_input_grad)
            if not needs_grad[id(unit.output)]:
                self._forward([unit], values, training=True)
                continue
            inputs = [values[id(tensor)] for tensor in unit.inputs]
            output_is_saved = id(unit.output) in saved
            output, vjp = self._unit_with_vjp(unit, inputs, needs_input_grad, output_is_saved)
            tape.append(TapeEntry(unit, vjp, needs_input_grad))
            values[id(unit.output)] = output
        return tape

    def _inputs_saved_by(self, units: Sequence[Unit]) -> set[int]:
        """The ``id(symbolic tensor)`` of what is saved whole for the gradient of a kernel."""
        saved = set()
        for unit in units:
            if isinstance(unit, LinearUnit):
                kernel = self._leaves.find(unit.linear.product.kernel)
                if kernel is not None and not (kernel.is_slice and unit.linear.product.depthwise):
                    saved.add(id(unit.inputs[0]))
        return saved

    def _unit_with_vjp(
        self,
        unit: Unit,
        inputs: Sequence[tf.Tensor],
        needs_input_grad: Sequence[bool],
        output_is_saved: bool,
    ) -> OutputAndVjp:
        if isinstance(unit, LinearUnit):
            (x,), (needs_grad,) = inputs, needs_input_grad
            return unit.linear.with_vjp(
                x, needs_grad, self._leaves, output_is_saved=output_is_saved
            )
        if isinstance(unit, RecomputedBranch):
            return self._branch_with_vjp(unit, inputs, needs_input_grad)
        (layer,) = unit.layers

        def compute(*arguments: tf.Tensor) -> tf.Tensor:
            values = _by_id(unit.inputs, arguments)
            return call_layer(layer, values, self._overrides, training=True)

        return layer_with_vjp(LayerCall(layer, inputs, needs_input_grad, self._leaves, compute))

    def _branch_with_vjp(
        self,
        branch: RecomputedBranch,
        inputs: Sequence[tf.Tensor],
        needs_input_grad: Sequence[bool],
    ) -> OutputAndVjp:
        def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
            values = _by_id(branch.inputs, [after(dy, value) for value in inputs])
            needs_grad = _by_id(branch.inputs, needs_input_grad)
            # What is computed again only up to where somebody needs it: TensorFlow drops the rest.
            tape = self._forward_with_tape(branch.units, values, needs_grad)
            cotangents = {id(branch.output): dy}
            _backward(tape, cotangents, gradients)
            return [cotangents.get(id(tensor)) for tensor in branch.inputs]

        values = _by_id(branch.inputs, inputs)
        self._forward(branch.units, values, training=True)
        return values[id(branch.output)], vjp


def _backward(
    tape: Sequence[TapeEntry], cotangents: Values, weight_gradients: WeightGradients
) -> None:
    """Carry ``cotangents``, the loss' gradients by the outputs, back to the beginning of ``tape``.

    Those of the tensors that no unit of it makes are left in them.
    """
    previous = None
    for unit, vjp, needs_input_grad in reversed(tape):
        dy = cotangents.pop(id(unit.output))
        if previous is not None and dy is not previous:
            dy = after(previous, dy)
        for tensor, needed, dx in zip(unit.inputs, needs_input_grad, vjp(dy, weight_gradients)):
            if needed:
                known = cotangents.get(id(tensor))
                cotangents[id(tensor)] = previous = dx if known is None else known + dx


def _by_id(tensors: Sequence, values: Sequence) -> dict:
    return {id(tensor): value for tensor, value in zip(tensors, values)}
