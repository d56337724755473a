"""Multiply-accumulate operations (MACs) of one forward pass, layer by layer."""

from __future__ import annotations

import math

from models.backbones.vit_layers import SelfAttention
from models.kinds import LINEAR, LayerKind, kernels
from models.layers import Layer


def layer_macs(layer: Layer) -> int:
    """MACs of ``layer`` for one image, from the shapes it was built with.

    Convolutions and dense layers count one per kernel element and output position; attention
    its four projections and two products; element-wise layers one per output element.
    """
    kind, positions = layer.kind, layer.activation_size
    if kind is LayerKind.SELF_ATTENTION:
        return _attention_macs(layer.keras_layer)
    if kind in LINEAR:
        (kernel,) = kernels(layer.keras_layer)
        # A depthwise one has its input channels, of which each output reads one, on axis 2.
        read = kernel.shape[:2] if kind is LayerKind.DEPTHWISE_CONV else kernel.shape[:-1]
        return positions * math.prod(read)
    return positions


def _attention_macs(attention: SelfAttention) -> int:
    _, tokens, hidden = attention.output.shape
    inner = attention.heads * attention.head_size
    return 4 * tokens * hidden * inner + 2 * tokens * tokens * inner


def network_macs(layers: tuple[Layer, ...]) -> int:
    """MACs of all selectable layers for one image."""
    return sum(layer_macs(layer) for layer in layers)
