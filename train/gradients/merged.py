"""Layers computed from variables of which a part is trained, as TensorFlow's own gradients see it.

The whole variable is put together from its slice, or factors, and the frozen rest before each use.
That gives the right gradients whatever the layer does; they are computed for the whole variable,
and then cut (``train/gradients/lean/`` computes those of convolutions and products for the slice
or the factor alone).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from models.backbones.vit_layers import ClassToken, PositionEmbedding, SelfAttention
from models.batch_norm import (
    FixedBatchNormalization,
    has_batch_statistics,
    has_fixed_statistics,
)
from models.forward import Override
from models.kinds import LayerKind, kind_of
from train.gradients.leaves import Leaves

Read = Callable[[Any], Any]  # a variable of a layer -> its value, merged


def merged_layers(leaves: Leaves) -> dict[int, Override]:
    """``id(Keras layer)`` -> how to compute it, for each layer that is trained in part.

    Raises:
        ValueError: a layer of a kind that cannot be trained in slices.
    """
    return {id(layer): _override(layer, leaves) for layer in leaves.layers_in_part()}


def _override(layer: tf.keras.layers.Layer, leaves: Leaves) -> Override:
    def read(variable: Optional[tf.Variable]) -> Optional[tf.Tensor]:
        if variable is None:  # batch norm without a gamma or a beta
            return None
        leaf = leaves.find(variable)
        return variable.value() if leaf is None else leaf.merged()

    make = _OVERRIDES.get(kind_of(layer))
    override = None if make is None else make(layer, read)
    if override is None:
        raise ValueError(f"layer {layer.name} ({type(layer).__name__}) cannot be trained in slices")
    return override


def _with_bias(layer: tf.keras.layers.Layer, y: tf.Tensor, read: Read) -> tf.Tensor:
    return layer.activation(y + read(layer.bias) if layer.use_bias else y)


def _depthwise(layer: tf.keras.layers.DepthwiseConv2D, read: Read) -> Override:
    strides = [1, *layer.strides, 1]

    def override(x: tf.Tensor) -> tf.Tensor:
        kernel = read(layer.depthwise_kernel)
        y = tf.nn.depthwise_conv2d(
            x, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate
        )
        return _with_bias(layer, y, read)

    return override


def _conv(layer: tf.keras.layers.Conv2D, read: Read) -> Optional[Override]:
    if layer.groups > 1:
        return None

    def override(x: tf.Tensor) -> tf.Tensor:
        around = layer.padding.upper()
        y = tf.nn.conv2d(
            x, read(layer.kernel), layer.strides, around, dilations=layer.dilation_rate
        )
        return _with_bias(layer, y, read)

    return override


def _dense(layer: tf.keras.layers.Dense, read: Read) -> Override:
    return lambda x: _with_bias(layer, tf.tensordot(x, read(layer.kernel), 1), read)


def _attention(layer: SelfAttention, read: Read) -> Override:
    def project(flat: tf.Tensor, kernel: tf.Variable, bias: tf.Variable) -> tf.Tensor:
        return tf.matmul(flat, read(kernel)) + read(bias)

    return lambda x: layer.attend(x, project)


def _batch_norm(layer: FixedBatchNormalization, read: Read) -> Optional[Override]:
    if not (has_fixed_statistics(layer) or has_batch_statistics(layer)):
        return None  # Keras' own, which does as its training flag says

    def override(x: tf.Tensor) -> tf.Tensor:
        mean, variance = layer.moving_mean, layer.moving_variance
        if layer.batch_statistics:
            mean, variance = tf.nn.moments(x, axes=list(range(x.shape.rank - 1)))
        beta, gamma = read(layer.beta), read(layer.gamma)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, layer.epsilon)

    return override


def _layer_norm(layer: tf.keras.layers.LayerNormalization, read: Read) -> Optional[Override]:
    if list(layer.axis) != [layer.input.shape.rank - 1]:
        return None

    def override(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        beta, gamma = read(layer.beta), read(layer.gamma)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, layer.epsilon)

    return override


def _channel_scale(layer: Any, read: Read) -> Override:
    return lambda x: x * read(layer.gamma)


def _class_token(layer: ClassToken, read: Read) -> Override:
    return lambda x: tf.concat([tf.tile(read(layer.token), [tf.shape(x)[0], 1, 1]), x], axis=1)


def _positions(layer: PositionEmbedding, read: Read) -> Override:
    return lambda x: x + read(layer.positions)


_OVERRIDES: dict[LayerKind, Callable[[Any, Read], Optional[Override]]] = {
    LayerKind.DEPTHWISE_CONV: _depthwise,
    LayerKind.CONV: _conv,
    LayerKind.DENSE: _dense,
    LayerKind.SELF_ATTENTION: _attention,
    LayerKind.BATCH_NORM: _batch_norm,
    LayerKind.LAYER_NORM: _layer_norm,
    LayerKind.CHANNEL_SCALE: _channel_scale,
    LayerKind.CLASS_TOKEN: _class_token,
    LayerKind.POSITION_EMBEDDING: _positions,
}
