"""Training some output channels of a layer: gradients, momentum and decay for the slice alone.

Each sliced variable gets a small ``tf.Variable`` that holds its trained entries. The optimizer sees
only that one; after a step the entries are written back, and all others stay as they are, bit for
bit. The weight gradient of a convolution, a dense layer or a projection of attention is computed
for the slice; a full gradient never exists (paper section 4.2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from models.forward import Override
from models.vit_layers import ClassToken, PositionEmbedding, SelfAttention
from selection.record import Trained


class Slices:
    """The sliced ones among what is trained.

    Attributes:
        variables: the slices, for the tape and the optimizer.
        overrides: how the layers they belong to are computed (see ``models/forward.py``).
    """

    def __init__(self, trained: Sequence[Trained]) -> None:
        self._slices = [_Slice(part) for part in trained if part.channels is not None]
        self.variables = [one.variable for one in self._slices]
        by_layer: dict[int, list[_Slice]] = {}
        for one in self._slices:
            by_layer.setdefault(id(one.part.layer.keras_layer), []).append(one)
        self.overrides = {key: _override(slices) for key, slices in by_layer.items()}

    def write_back(self) -> None:
        """Put the slices' values into the variables they were taken from."""
        for one in self._slices:
            one.part.variable.assign(one.combined())


class _Slice:
    """The trained entries of one variable."""

    def __init__(self, part: Trained) -> None:
        self.part = part
        self.channels = np.asarray(part.channels, np.int32)
        value = tf.gather(part.variable, self.channels, axis=part.axis)
        self.variable = tf.Variable(value, name=f"{part.variable.name.split(':')[0]}_slice")

    def combined(self) -> tf.Tensor:
        """The whole variable with the slice in it."""
        return self._put_into(self.part.variable)

    def merged(self) -> tf.Tensor:
        """The same, with the gradient going to the slice."""
        return self._put_into(tf.stop_gradient(self.part.variable))

    def _put_into(self, whole: tf.Tensor) -> tf.Tensor:
        # By rows, one per channel: scattering single entries takes twice as long as transposing.
        size = whole.shape[self.part.axis]
        rows = tf.transpose(tf.reshape(whole, [-1, size]))
        trained = tf.transpose(tf.reshape(self.variable, [-1, len(self.channels)]))
        rows = tf.tensor_scatter_nd_update(rows, self.channels[:, None], trained)
        return tf.reshape(tf.transpose(rows), whole.shape)

    def of(self, tensor: tf.Tensor) -> tf.Tensor:
        """The trained channels of an activation or its gradient, ``[..., channels]``."""
        return tf.gather(tensor, self.channels, axis=-1)


def _override(slices: list[_Slice]) -> Override:
    layer = slices[0].part.layer.keras_layer
    parts = {one.part.variable.ref(): one for one in slices}
    for kind, make in _KINDS:
        if isinstance(layer, kind):
            return make(layer, parts)
    raise ValueError(f"layer {layer.name} ({type(layer).__name__}) cannot be trained in slices")


def _conv(layer: tf.keras.layers.Conv2D, parts: dict) -> Override:
    options = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
    return _linear(
        layer,
        layer.kernel,
        parts,
        _Products(
            forward=lambda x, kernel: tf.nn.conv2d(x, kernel, **options),
            to_input=lambda x, kernel, dy: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, **options
            ),
            to_kernel=lambda x, dy, shape: tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=shape, out_backprop=dy, **options
            ),
        ),
    )


def _depthwise(layer: tf.keras.layers.DepthwiseConv2D, parts: dict) -> Override:
    options = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
    kernel = layer.depthwise_kernel
    return _linear(
        layer,
        kernel,
        parts,
        _Products(
            forward=lambda x, kernel: tf.nn.depthwise_conv2d(x, kernel, **options),
            to_input=lambda x, kernel, dy: tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, **options
            ),
            to_kernel=lambda x, dy, shape: tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x, filter_sizes=shape, out_backprop=dy, **options
            ),
            # A channel of the output reads one channel of the input: only those are kept.
            kept=parts[kernel.ref()].of if kernel.ref() in parts else None,
        ),
    )


def _dense(layer: tf.keras.layers.Dense, parts: dict) -> Override:
    return _linear(layer, layer.kernel, parts, _DENSE)


def _attention(layer: SelfAttention, parts: dict) -> Override:
    def project(flat: tf.Tensor, kernel: tf.Variable, bias: tf.Variable) -> tf.Tensor:
        return _sliced_product(flat, kernel, bias, parts, _DENSE)

    def override(x: tf.Tensor) -> tf.Tensor:
        return layer.attend(x, project)

    return override


@dataclass(frozen=True)
class _Products:
    """A product of input and kernel, and its two gradients.

    Attributes:
        forward: (x, kernel) -> y.
        to_input: (x, kernel, dy) -> dx.
        to_kernel: (what was kept of x, dy, kernel shape) -> dkernel.
        kept: what ``to_kernel`` reads of x; None for all of it.
    """

    forward: Callable
    to_input: Callable
    to_kernel: Callable
    kept: Optional[Callable] = None


def _rows_product(x: tf.Tensor, dy: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    rows, columns = shape
    return tf.matmul(tf.reshape(x, [-1, rows]), tf.reshape(dy, [-1, columns]), transpose_a=True)


_DENSE = _Products(
    forward=lambda x, kernel: tf.tensordot(x, kernel, 1),
    to_input=lambda x, kernel, dy: tf.tensordot(dy, kernel, [[-1], [1]]),  # noqa: ARG005
    to_kernel=_rows_product,
)


def _linear(
    layer: tf.keras.layers.Layer, kernel: tf.Variable, parts: dict, products: _Products
) -> Override:
    """A layer ``activation(product(x, kernel) + bias)``."""
    bias = layer.bias if layer.use_bias else None
    return lambda x: layer.activation(_sliced_product(x, kernel, bias, parts, products))


def _sliced_product(
    x: tf.Tensor,
    kernel: tf.Variable,
    bias: Optional[tf.Variable],
    parts: dict,
    products: _Products,
) -> tf.Tensor:
    """``product(x, kernel) + bias``, the gradient going to x and to the slices."""
    of_kernel = parts.get(kernel.ref())
    of_bias = None if bias is None else parts.get(bias.ref())
    # Read here: a custom gradient refuses functions that read variables themselves.
    whole, offset = tf.identity(kernel), None if bias is None else tf.identity(bias)

    @tf.custom_gradient
    def linear(x: tf.Tensor, *slices: tf.Tensor) -> tuple[tf.Tensor, Callable]:  # noqa: ARG001
        y = products.forward(x, whole)
        y = y if offset is None else tf.nn.bias_add(y, offset)
        kept = x if products.kept is None else products.kept(x)

        def gradient(dy: tf.Tensor) -> list[tf.Tensor]:
            gradients = [products.to_input(x, whole, dy)]
            if of_kernel is not None:
                shape = of_kernel.variable.shape
                gradients.append(products.to_kernel(kept, of_kernel.of(dy), shape))
            if of_bias is not None:
                gradients.append(tf.reduce_sum(of_bias.of(dy), list(range(dy.shape.rank - 1))))
            return gradients

        return y, gradient

    slices = [part.variable for part in (of_kernel, of_bias) if part is not None]
    return linear(x, *[tf.identity(variable) for variable in slices])


def _batch_norm(layer: FixedBatchNormalization, parts: dict) -> Override:
    gamma, beta = (_merged(variable, parts) for variable in (layer.gamma, layer.beta))

    def by_batch_statistics(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, axes=list(range(x.shape.rank - 1)))
        return tf.nn.batch_normalization(x, mean, variance, beta(), gamma(), layer.epsilon)

    return by_batch_statistics if layer.batch_statistics else _fixed_batch_norm(layer, parts)


def _fixed_batch_norm(layer: FixedBatchNormalization, parts: dict) -> Override:
    slices = [parts.get(variable.ref()) for variable in (layer.gamma, layer.beta)]
    of_gamma, of_beta = slices
    leaves = [part for part in slices if part is not None]

    def override(x: tf.Tensor) -> tf.Tensor:
        output = tf.stop_gradient(layer(x))
        inverse = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
        scale, mean = layer.gamma * inverse, tf.identity(layer.moving_mean)

        @tf.custom_gradient
        def normalise(x: tf.Tensor, *slices: tf.Tensor) -> tuple[tf.Tensor, Callable]:  # noqa: ARG001
            if of_gamma is not None:
                kept = (of_gamma.of(x) - of_gamma.of(mean)) * of_gamma.of(inverse)

            def gradient(dy: tf.Tensor) -> list[tf.Tensor]:
                axes = list(range(dy.shape.rank - 1))
                gradients = [dy * scale]
                if of_gamma is not None:
                    gradients.append(tf.reduce_sum(of_gamma.of(dy) * kept, axes))
                if of_beta is not None:
                    gradients.append(tf.reduce_sum(of_beta.of(dy), axes))
                return gradients

            return output, gradient

        return normalise(x, *[tf.identity(part.variable) for part in leaves])

    return override


def _layer_norm(layer: tf.keras.layers.LayerNormalization, parts: dict) -> Override:
    gamma, beta = (_merged(variable, parts) for variable in (layer.gamma, layer.beta))

    def override(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, beta(), gamma(), layer.epsilon)

    return override


def _class_token(layer: ClassToken, parts: dict) -> Override:
    token = _merged(layer.token, parts)

    def override(x: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.tile(token(), [tf.shape(x)[0], 1, 1]), x], axis=1)

    return override


def _positions(layer: PositionEmbedding, parts: dict) -> Override:
    positions = _merged(layer.positions, parts)
    return lambda x: x + positions()


def _merged(variable: tf.Variable, parts: dict) -> Callable[[], tf.Tensor]:
    """Reads ``variable`` such that the gradient goes to its slice, if it has one."""
    one = parts.get(variable.ref())
    return variable.value if one is None else one.merged


_KINDS = (
    (tf.keras.layers.DepthwiseConv2D, _depthwise),
    (tf.keras.layers.Conv2D, _conv),
    (tf.keras.layers.Dense, _dense),
    (SelfAttention, _attention),
    (FixedBatchNormalization, _batch_norm),
    (tf.keras.layers.LayerNormalization, _layer_norm),
    (ClassToken, _class_token),
    (PositionEmbedding, _positions),
)
