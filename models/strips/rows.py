"""How some rows of a layer's output are computed from some rows of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from models.forward import call_layer, inputs_of
from models.graph.fusion import rectifier
from models.kinds import LayerKind, kind_of
from models.strips.windows import same_padding


class Strip(NamedTuple):
    """Rows of an input, for a window.

    Attributes:
        value: ``[images, rows, ...]``, float32; what is padding is not among them.
        top, bottom: rows of padding before and behind them.
    """

    value: Any
    top: int = 0
    bottom: int = 0


def compute_rows(layer: tf.keras.layers.Layer, strips: Sequence[Strip]) -> tf.Tensor:
    """Rows of the layer's output from those of its inputs that its windows ask for; dropout off."""
    rule = _COMPUTED.get(kind_of(layer))
    if rule is not None:
        return rule(layer, *strips)
    values = {id(one): strip.value for one, strip in zip(inputs_of(layer), strips)}
    return call_layer(layer, values, {})


def _explicit_padding(layer: Any, strip: Strip) -> list[list[int]]:
    return [[0, 0], [strip.top, strip.bottom], list(same_padding(layer, 1)), [0, 0]]


def _convolve(layer: Any, strip: Strip) -> tf.Tensor:
    product = tf.nn.conv2d(
        strip.value,
        layer.kernel,
        layer.strides,
        _explicit_padding(layer, strip),
        dilations=layer.dilation_rate,
    )
    return _with_bias(layer, product)


def _convolve_depthwise(layer: Any, strip: Strip) -> tf.Tensor:
    product = tf.nn.depthwise_conv2d(
        strip.value,
        layer.depthwise_kernel,
        [1, *layer.strides, 1],
        _explicit_padding(layer, strip),
        dilations=layer.dilation_rate,
    )
    return _with_bias(layer, product)


def _with_bias(layer: Any, product: tf.Tensor) -> tf.Tensor:
    if layer.use_bias:
        product = tf.nn.bias_add(product, layer.bias)
    return layer.activation(product)


def _pad(layer: Any, strip: Strip) -> tf.Tensor:
    return tf.pad(strip.value, [[0, 0], [strip.top, strip.bottom], layer.padding[1], [0, 0]])


def _normalise(layer: Any, strip: Strip) -> tf.Tensor:
    """By fixed statistics, as Keras does."""
    x = strip.value
    if list(layer.axis) != [3] or not (layer.scale and layer.center):
        return layer(x)
    output, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=layer.gamma,
        offset=layer.beta,
        mean=layer.moving_mean,
        variance=layer.moving_variance,
        epsilon=layer.epsilon,
        is_training=False,
    )
    return output


def _rectify(layer: Any, strip: Strip) -> tf.Tensor:
    plain, cap = rectifier(layer)
    if not plain:
        return layer(strip.value)
    function = tf.raw_ops.Relu if cap is None else tf.raw_ops.Relu6
    return function(features=strip.value)


def _add(layer: Any, *strips: Strip) -> tf.Tensor:  # noqa: ARG001
    total = strips[0].value
    for strip in strips[1:]:
        total = tf.raw_ops.AddV2(x=total, y=strip.value)
    return total


# Keras' own way takes a fifth of a millisecond for a call. By then, the threads that compute have
# gone to sleep, and waking them takes longer than a small strip.
_COMPUTED: dict[LayerKind, Callable[..., tf.Tensor]] = {
    LayerKind.BATCH_NORM: _normalise,
    LayerKind.RELU: _rectify,
    LayerKind.ACTIVATION: _rectify,
    LayerKind.ADD: _add,
    LayerKind.CONV: _convolve,
    LayerKind.DEPTHWISE_CONV: _convolve_depthwise,
    LayerKind.ZERO_PADDING: _pad,
}
