"""One Keras layer at a time: rules for the kinds that need little saved, and one for all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.batch_norm import is_scale_and_shift
from models.dropout import DropoutMasks
from models.forward import Override, call_layer
from models.graph.fusion import by_windows, rectifier
from models.kinds import LayerKind, kind_of
from train.gradients.lean.attention import attention_with_vjp
from train.gradients.lean.masks import MaxPoolMask, PackedMask, relu_mask
from train.gradients.lean.norm import add, channel_sums, norm_vjp
from train.gradients.lean.order import after
from train.gradients.lean.products import shape_like
from train.gradients.lean.vjp import OutputAndVjp, WeightGradients
from train.gradients.leaves import Leaves


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One Keras layer in the forward pass, as a rule gets it.

    Attributes:
        tensors: the symbolic tensors that it reads, each once.
        inputs: their values.
        needs_input_grad: for each of them.
        leaves: what is trained.
        overrides: ``id(Keras layer)`` -> how it is computed, for those trained in slices.
        dropout: of this step.
        kept: what ``products`` of this layer were before; None where nothing was kept.
    """

    layer: tf.keras.layers.Layer
    tensors: Sequence[Any]
    inputs: Sequence[tf.Tensor]
    needs_input_grad: Sequence[bool]
    leaves: Leaves
    overrides: Mapping[int, Override]
    dropout: DropoutMasks
    kept: Optional[Sequence[tf.Tensor]] = None

    @property
    def x(self) -> tf.Tensor:
        """The input of a layer that has one."""
        (only,) = self.inputs
        return only

    def output(self, inputs: Optional[Sequence[tf.Tensor]] = None) -> tf.Tensor:
        """Computed anew at each call, of other inputs if they are given; dropout is on."""
        inputs = self.inputs if inputs is None else inputs
        values = {id(tensor): value for tensor, value in zip(self.tensors, inputs)}
        return call_layer(self.layer, values, self.overrides, self.dropout)


# None where a layer of this kind is not of the sort that the rule is for.
Rule = Callable[[LayerCall], Optional[OutputAndVjp]]


def layer_with_vjp(call: LayerCall) -> OutputAndVjp:
    """The output of a layer and the way back, by the rule for its kind."""
    rule = _RULES.get(kind_of(call.layer), _recomputed)
    return rule(call) or _recomputed(call)


def _recomputed(call: LayerCall) -> OutputAndVjp:
    """Whatever the layer does: TensorFlow differentiates it in the backward pass.

    Its inputs are saved, and it is computed once more then.
    """
    variables = [leaf.variable for leaf in call.leaves.of(call.layer)]

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
        again = [after(dy, tensor) for tensor in call.inputs]
        needed = [tensor for tensor, needs in zip(again, call.needs_input_grad) if needs]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*needed, *variables])
            y = call.output(again)
        found = tape.gradient(y, [*needed, *variables], output_gradients=dy)
        for variable, gradient in zip(variables, found[len(needed) :]):
            gradients[variable.ref()] = gradient
        input_gradients = iter(found)
        return [next(input_gradients) if needs else None for needs in call.needs_input_grad]

    return call.output(), vjp


def _relu(call: LayerCall) -> Optional[OutputAndVjp]:
    rectified, cap = rectifier(call.layer)
    if not rectified:
        return None
    y = call.output()
    mask = PackedMask(relu_mask(y, cap))
    return after(mask.saved, y), lambda dy, _: [mask.apply(dy)]


def _activation(call: LayerCall) -> Optional[OutputAndVjp]:
    if call.layer.activation is tf.keras.activations.gelu:
        return _gelu(call)
    return _relu(call)


def _gelu(call: LayerCall) -> OutputAndVjp:
    """GELU in its exact form x Phi(x), with the derivative Phi(x) + x phi(x)."""
    x = call.x

    def vjp(dy: tf.Tensor, _: WeightGradients) -> list[tf.Tensor]:
        saved = after(dy, x)
        below = 0.5 + 0.5 * tf.math.erf(saved * math.sqrt(0.5))
        density = tf.exp(-0.5 * tf.square(after(below, saved))) * (1 / math.sqrt(2 * math.pi))
        return [(below + density * saved) * dy]

    return call.output(), vjp


def _add(call: LayerCall) -> Optional[OutputAndVjp]:
    if len(call.inputs) != len(call.layer.input):
        return None  # something is added to itself
    return call.output(), lambda dy, _: [dy] * len(call.inputs)


def _batch_norm(call: LayerCall) -> Optional[OutputAndVjp]:
    if not is_scale_and_shift(call.layer):
        return None
    (needs_input_grad,) = call.needs_input_grad
    vjp, saved = norm_vjp(call.layer, call.x, needs_input_grad, call.leaves)
    return after(saved, call.output()), vjp


def _channel_scale(call: LayerCall) -> OutputAndVjp:
    """A product with a gamma for each channel."""
    gamma = call.layer.gamma
    leaf = call.leaves.find(gamma)
    saved = None if leaf is None else leaf.take(call.x)
    (needs_input_grad,) = call.needs_input_grad

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> list[Optional[tf.Tensor]]:
        done = []
        if leaf is not None:
            total = channel_sums(after(dy, saved) * leaf.take(dy))
            done.append(add(gradients, leaf, total))
        return [after(done, dy * gamma) if needs_input_grad else None]

    return after(saved, call.output()), vjp


def _reshape(call: LayerCall) -> OutputAndVjp:
    x = call.x
    return call.output(), lambda dy, _: [tf.reshape(dy, shape_like(x, dy))]


def _zero_padding(call: LayerCall) -> OutputAndVjp:
    (top, _), (left, _) = call.layer.padding
    height, width = call.x.shape[1:3]
    return call.output(), lambda dy, _: [dy[:, top : top + height, left : left + width]]


def _global_average_pooling(call: LayerCall) -> OutputAndVjp:
    x = call.x
    height, width = x.shape[1:3]

    def vjp(dy: tf.Tensor, _: WeightGradients) -> list[tf.Tensor]:
        even = tf.reshape(dy, [-1, 1, 1, dy.shape[-1]]) / (height * width)
        return [tf.broadcast_to(even, shape_like(x, dy))]

    return call.output(), vjp


def _average_pooling(call: LayerCall) -> Optional[OutputAndVjp]:
    layer, x = call.layer, call.x
    if layer.data_format != "channels_last":
        return None

    def vjp(dy: tf.Tensor, _: WeightGradients) -> list[tf.Tensor]:
        return [
            tf.raw_ops.AvgPoolGrad(
                orig_input_shape=shape_like(x, dy),
                grad=dy,
                ksize=[1, *layer.pool_size, 1],
                strides=[1, *layer.strides, 1],
                padding=layer.padding.upper(),
            )
        ]

    return call.output(), vjp


def _concatenate(call: LayerCall) -> Optional[OutputAndVjp]:
    if len(call.inputs) != len(call.layer.input):
        return None
    axis = call.layer.axis
    sizes = [tensor.shape[axis] for tensor in call.inputs]
    return call.output(), lambda dy, _: tf.split(dy, sizes, axis=axis)


def _max_pooling(call: LayerCall) -> OutputAndVjp:
    layer, x = call.layer, call.x
    if by_windows(layer):
        y = call.output()
        mask = MaxPoolMask(x, y, layer.pool_size[0])
        return after(mask.saved, y), lambda dy, _: [mask.apply(dy)]
    options = {
        "ksize": [1, *layer.pool_size, 1],
        "strides": [1, *layer.strides, 1],
        "padding": layer.padding.upper(),
    }
    y, argmax = tf.raw_ops.MaxPoolWithArgmax(input=x, **options)
    positions = tf.cast(argmax, tf.int32)  # within one sample: 31 bits are enough

    def vjp(dy: tf.Tensor, _: WeightGradients) -> list[tf.Tensor]:
        # Of its input, the gradient operation reads the shape.
        shape = tf.raw_ops.Empty(shape=shape_like(x, dy), dtype=x.dtype, init=False)
        back = tf.cast(after(dy, positions), tf.int64)
        return [tf.raw_ops.MaxPoolGradWithArgmax(input=shape, grad=dy, argmax=back, **options)]

    return after(positions, y), vjp


def _dropout(call: LayerCall) -> OutputAndVjp:
    dropout = call.dropout

    def vjp(dy: tf.Tensor, _: WeightGradients) -> list[tf.Tensor]:
        # Made again: nothing is saved.
        again = dropout.at(after(dy, dropout.step))
        return [dy * again.mask(call.layer, dy)]

    return call.output(), vjp


def _self_attention(call: LayerCall) -> OutputAndVjp:
    (needs_input_grad,) = call.needs_input_grad
    return attention_with_vjp(call.layer, call.x, needs_input_grad, call.leaves, call.kept)


def _first_token(call: LayerCall) -> OutputAndVjp:
    others = [0, call.x.shape[1] - 1]
    return call.output(), lambda dy, _: [tf.pad(dy[:, None], [[0, 0], others, [0, 0]])]


def _class_token(call: LayerCall) -> OutputAndVjp:
    leaf = call.leaves.find(call.layer.token)

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> list[tf.Tensor]:
        if leaf is not None:
            total = tf.reduce_sum(dy[:, :1], 0, keepdims=True)
            gradients[leaf.variable.ref()] = leaf.take(total)
        return [dy[:, 1:]]

    return call.output(), vjp


def _positions(call: LayerCall) -> OutputAndVjp:
    leaf = call.leaves.find(call.layer.positions)

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> list[tf.Tensor]:
        if leaf is not None:
            gradients[leaf.variable.ref()] = leaf.take(tf.reduce_sum(dy, 0, keepdims=True))
        return [dy]

    return call.output(), vjp


_RULES: dict[LayerKind, Rule] = {
    LayerKind.RELU: _relu,
    LayerKind.ACTIVATION: _activation,
    LayerKind.BATCH_NORM: _batch_norm,
    LayerKind.CHANNEL_SCALE: _channel_scale,
    LayerKind.ADD: _add,
    LayerKind.RESHAPE: _reshape,
    LayerKind.FLATTEN: _reshape,
    LayerKind.ZERO_PADDING: _zero_padding,
    LayerKind.GLOBAL_AVERAGE_POOLING: _global_average_pooling,
    LayerKind.MAX_POOLING: _max_pooling,
    LayerKind.AVERAGE_POOLING: _average_pooling,
    LayerKind.CONCATENATE: _concatenate,
    LayerKind.DROPOUT: _dropout,
    LayerKind.SELF_ATTENTION: _self_attention,
    LayerKind.FIRST_TOKEN: _first_token,
    LayerKind.CLASS_TOKEN: _class_token,
    LayerKind.POSITION_EMBEDDING: _positions,
}
