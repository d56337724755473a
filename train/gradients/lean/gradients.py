"""The lean step's gradients: the network unit by unit, forward and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Optional, Union

import tensorflow as tf

from models.batch_part import BatchPart, gradient_of_mean, mean_or_share
from models.dropout import DropoutMasks
from models.forward import call_layer
from models.graph.front import Front
from models.recompute import Recompute
from train.gradients.lean.attention import projected
from train.gradients.lean.cut import FeatureCut
from train.gradients.lean.front import in_slices, tensors_read, units_in_front
from train.gradients.lean.layer_rules import LayerCall, layer_with_vjp
from train.gradients.lean.order import after
from train.gradients.lean.units import (
    LinearUnit,
    RecomputedBranch,
    Unit,
    tensors_needing_grad,
    tensors_saved_whole,
    units_of,
)
from train.gradients.lean.vjp import OutputAndVjp, Vjp, WeightGradients
from train.gradients.leaves import Leaves
from train.gradients.merged import merged_layers

# id(symbolic tensor) -> its value, or the gradient of the loss with respect to it
Values = dict[int, tf.Tensor]
Given = Union[tf.Tensor, tuple[tf.Tensor, ...]]  # images, or features of a cut
Tape = list[tuple[Unit, Vjp]]  # in the order in which they were computed


class LeanGradients:
    """Gradients of the mean cross-entropy, equal to TensorFlow's own up to rounding.

    What a unit saves for the backward pass is what its gradients take: nothing before the first
    trained layer, one bit per element for ReLU, the input of a trained kernel. The backward pass
    goes from unit to unit, because TensorFlow, left alone, starts whatever it can and keeps the
    results. How a unit is differentiated: see the docstring of ``train/gradients/lean``.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        leaves: Leaves,
        front: Optional[Front] = None,
        cut: Optional[FeatureCut] = None,
        recompute: Recompute = Recompute.ALL,
        draw: Callable[..., DropoutMasks] = DropoutMasks.of,
    ) -> None:
        """``model`` is flat, and ``leaves`` what is trained of it.

        Args:
            front: what goes in slices of a few images, as far as it comes before everything
                that has a gradient; None for nothing.
            cut: behind which to begin: in place of images come the values of its tensors.
            recompute: what of a transformer's branches is computed once more on the way back.
            draw: dropout's masks of a step, for the arguments of ``DropoutMasks.of``.

        Raises:
            ValueError: a slice is to be trained of a kind of layer that knows none.
        """
        self._model = model
        self._pixels, self._output = id(model.inputs[0]), id(model.outputs[0])
        self._leaves = leaves
        self._units = units_of(model, leaves, recompute)
        self._keeps_products = recompute is Recompute.CHEAP
        self._needs_grad = tensors_needing_grad(self._units, leaves)
        self._saved_whole = tensors_saved_whole(self._units)
        self._overrides = merged_layers(leaves)
        self._slices = front
        self._cut = cut
        self._draw = draw
        self._front: tuple[Unit, ...] = ()
        if cut is not None:
            self._front = self._units[: cut.units]
        elif front is not None:
            self._front = units_in_front(self._units, self._needs_grad, front)
        self._rest = self._units[len(self._front) :]

    def __call__(
        self,
        images: Given,
        labels: tf.Tensor,
        step: tf.Tensor,
        part: Optional[BatchPart] = None,
    ) -> tuple[tf.Tensor, tf.Tensor, list[Optional[tf.Tensor]]]:
        """Mean loss, logits and gradients; see ``LossGradients``."""
        dropout = self._draw(self._model, step, part)
        values = self._values_behind_front(images, dropout)
        tape = self._forward_with_tape(self._rest, values, dropout)
        logits = values.pop(self._output)
        losses, gradient = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=labels
        )
        found: WeightGradients = {}
        self._backward(tape, {self._output: gradient_of_mean(gradient, part)}, found)
        gradients = [found.get(variable.ref()) for variable in self._leaves.variables]
        return mean_or_share(losses, part), logits, gradients

    def features(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The values of the cut's tensors, ``[batch, ...]`` each."""
        assert self._cut is not None, "there is no cut"
        values = {self._pixels: images}
        self._forward(self._front, values)
        return tuple(values[id(tensor)] for tensor in self._cut.tensors)

    def logits(self, images: Given) -> tf.Tensor:
        """Logits ``[batch, classes]`` with dropout off, nothing saved."""
        values = self._values_behind_front(images)
        self._forward(self._rest, values)
        return values[self._output]

    def _values_behind_front(self, images: Given, dropout: Optional[DropoutMasks] = None) -> Values:
        """The images, and what is made of them in front of everything that has a gradient."""
        if self._cut is not None:
            return {id(tensor): value for tensor, value in zip(self._cut.tensors, images)}
        assert isinstance(images, tf.Tensor), "features are of a cut"
        if not self._front:
            return {self._pixels: images}

        def compute(some: tf.Tensor, start: tf.Tensor) -> Values:
            values = {self._pixels: some}
            masks = None if dropout is None else dropout.of_some(start, tf.shape(images)[0])
            self._forward(self._front, values, masks)
            return values

        read = tensors_read(self._rest, self._output)
        made = [unit.output for unit in self._front if id(unit.output) in read]
        assert self._slices is not None
        return {self._pixels: images, **in_slices(compute, images, made, self._slices.images)}

    def _forward(
        self, units: Sequence[Unit], values: Values, dropout: Optional[DropoutMasks] = None
    ) -> None:
        """Compute ``units`` from ``values``, into ``values``; nothing is saved."""
        for unit in units:
            if isinstance(unit, RecomputedBranch):
                self._forward(unit.units, values, dropout)
            elif isinstance(unit, LinearUnit):
                (x,) = unit.inputs
                values[id(unit.output)] = unit.linear.forward(values[id(x)])
            else:
                (layer,) = unit.layers
                output = call_layer(layer, values, self._overrides, dropout)
                values[id(unit.output)] = output

    def _forward_with_tape(
        self,
        units: Sequence[Unit],
        values: Values,
        dropout: DropoutMasks,
        kept: Mapping[int, Sequence[tf.Tensor]] = MappingProxyType({}),
    ) -> Tape:
        """The same in training, and the tape of the units that a gradient goes back through.

        Args:
            kept: by ``id`` of a unit, its products, which need not be computed.
        """
        # The order of branches is left to TensorFlow: it fuses a convolution with the addition of
        # a residual branch, and does not see that this closes a circle where we put them in order.
        tape = []
        for unit in units:
            if id(unit.output) in self._needs_grad:
                inputs = [values[id(tensor)] for tensor in unit.inputs]
                products = kept.get(id(unit))
                y, vjp = self._unit_with_vjp(unit, inputs, dropout, products)
                values[id(unit.output)] = y
                tape.append((unit, vjp))
            else:
                self._forward([unit], values, dropout)
        return tape

    def _unit_with_vjp(
        self,
        unit: Unit,
        inputs: Sequence[tf.Tensor],
        dropout: DropoutMasks,
        kept: Optional[Sequence[tf.Tensor]] = None,
    ) -> OutputAndVjp:
        needs_input_grad = [id(tensor) in self._needs_grad for tensor in unit.inputs]
        if isinstance(unit, LinearUnit):
            (x,), (needs_x_grad,) = inputs, needs_input_grad
            output_is_saved = id(unit.output) in self._saved_whole
            y, vjp = unit.linear.with_vjp(x, needs_x_grad, output_is_saved=output_is_saved)
            # Nobody reads y then, so that TensorFlow does not compute it.
            return (y if kept is None else kept[0]), vjp
        if isinstance(unit, RecomputedBranch):
            return self._branch_with_vjp(unit, inputs, dropout)
        (layer,) = unit.layers
        return layer_with_vjp(
            LayerCall(
                layer,
                unit.inputs,
                inputs,
                needs_input_grad,
                self._leaves,
                self._overrides,
                dropout,
                kept,
            )
        )

    def _branch_with_vjp(
        self, branch: RecomputedBranch, inputs: Sequence[tf.Tensor], dropout: DropoutMasks
    ) -> OutputAndVjp:
        ids = [id(tensor) for tensor in branch.inputs]
        kept: dict[int, tuple[tf.Tensor, ...]] = {}

        def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
            # What is computed again only up to where somebody needs it: TensorFlow drops the rest.
            tape = self._forward_with_tape(
                branch.units,
                dict(zip(ids, [after(dy, value) for value in inputs])),
                dropout.at(after(dy, dropout.step)),
                {unit: [after(dy, one) for one in products] for unit, products in kept.items()},
            )
            cotangents = {id(branch.output): dy}
            self._backward(tape, cotangents, gradients)
            return [cotangents.get(one) for one in ids]

        values = dict(zip(ids, inputs))
        if not self._keeps_products:
            self._forward(branch.units, values, dropout)
            return values[id(branch.output)], vjp
        products = set(map(id, branch.products))
        for unit in branch.units:
            made = self._products(unit, values) if id(unit) in products else None
            if made is None:
                self._forward([unit], values, dropout)
            else:
                kept[id(unit)] = made
                inputs_of_unit = [values[id(tensor)] for tensor in unit.inputs]
                values[id(unit.output)], _ = self._unit_with_vjp(
                    unit, inputs_of_unit, dropout, made
                )
        return values[id(branch.output)], vjp

    def _products(self, unit: Unit, values: Values) -> Optional[tuple[tf.Tensor, ...]]:
        """What ``unit`` makes of its input and its kernels; None where it is trained in slices."""
        (x,) = (values[id(tensor)] for tensor in unit.inputs)
        if isinstance(unit, LinearUnit):
            return (unit.linear.forward(x),)
        (layer,) = unit.layers
        return None if id(layer) in self._overrides else projected(layer, x, self._leaves)

    def _backward(self, tape: Tape, cotangents: Values, gradients: WeightGradients) -> None:
        """Carry ``cotangents`` back to the beginning of ``tape``.

        They are the loss' gradients with respect to the outputs of units; those of the tensors
        that no unit on the tape makes are left in them.
        """
        previous = None
        for unit, vjp in reversed(tape):
            dy = cotangents.pop(id(unit.output))
            if previous is not None and dy is not previous:
                dy = after(previous, dy)
            for tensor, dx in zip(unit.inputs, vjp(dy, gradients)):
                if id(tensor) in self._needs_grad:
                    known = cotangents.get(id(tensor))
                    cotangents[id(tensor)] = previous = dx if known is None else known + dx
