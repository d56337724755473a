"""Multiply-accumulate operations (MACs) of one forward pass, layer by layer."""

from __future__ import annotations

import math

import tensorflow as tf

from models.backbones.vit_layers import SelfAttention
from models.layers import Layer


def layer_macs(layer: Layer) -> int:
    """MACs of ``layer`` for one image, from the shapes it was built with.

    Convolutions and dense layers count one per kernel element and output position; attention
    its four projections and two products; element-wise layers one per output element.
    """
    keras_layer, positions = layer.keras_layer, layer.activation_size
    if isinstance(keras_layer, SelfAttention):
        _, tokens, hidden = layer.activation.shape
        inner = keras_layer.heads * keras_layer.head_size
        return 4 * tokens * hidden * inner + 2 * tokens * tokens * inner
    if isinstance(keras_layer, tf.keras.layers.DepthwiseConv2D):
        return positions * math.prod(keras_layer.depthwise_kernel.shape[:2])
    if isinstance(keras_layer, (tf.keras.layers.Conv2D, tf.keras.layers.Dense)):
        return positions * math.prod(keras_layer.kernel.shape[:-1])
    return positions


def network_macs(layers: tuple[Layer, ...]) -> int:
    """MACs of all selectable layers for one image."""
    return sum(layer_macs(layer) for layer in layers)
