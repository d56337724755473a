"""What kind of layer a Keras layer is; this is the only place that asks.

A room that does something else for each kind (what passing a gradient through it takes, whose
channels are its own...) has a table by kind of its own, in place of questions about classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

import tensorflow as tf

Class = TypeVar("Class", bound=type)


class LayerKind(Enum):
    """The kinds of layers that anything here tells apart."""

    INPUT = "input"
    # With variables.
    CONV = "conv"
    DEPTHWISE_CONV = "depthwise_conv"
    DENSE = "dense"
    BATCH_NORM = "batch_norm"
    LAYER_NORM = "layer_norm"
    SELF_ATTENTION = "self_attention"
    CLASS_TOKEN = "class_token"
    POSITION_EMBEDDING = "position_embedding"
    CHANNEL_OFFSET = "channel_offset"
    CHANNEL_SCALE = "channel_scale"
    # Element by element.
    ACTIVATION = "activation"
    RELU = "relu"
    LEAKY_RELU = "leaky_relu"
    SOFTMAX = "softmax"
    DROPOUT = "dropout"
    RESCALING = "rescaling"
    NORMALIZATION = "normalization"
    # Of several inputs.
    ADD = "add"
    SUBTRACT = "subtract"
    AVERAGE = "average"
    MULTIPLY = "multiply"
    CONCATENATE = "concatenate"
    # Over positions.
    MAX_POOLING = "max_pooling"
    AVERAGE_POOLING = "average_pooling"
    GLOBAL_MAX_POOLING = "global_max_pooling"
    GLOBAL_AVERAGE_POOLING = "global_average_pooling"
    ZERO_PADDING = "zero_padding"
    CROPPING = "cropping"
    UP_SAMPLING = "up_sampling"
    FIRST_TOKEN = "first_token"
    # Of the shape alone.
    RESHAPE = "reshape"
    FLATTEN = "flatten"
    PERMUTE = "permute"

    OTHER = "other"


# One kernel, and a bias or none: what takes multiply-accumulate operations, attention aside.
LINEAR = frozenset({LayerKind.CONV, LayerKind.DEPTHWISE_CONV, LayerKind.DENSE})

_layers = tf.keras.layers
_convnext = importlib.import_module(tf.keras.applications.ConvNeXtTiny.__module__)

# The project's own layers are added where they are defined, by ``of_kind``.
_KINDS: dict[type, LayerKind] = {
    _layers.InputLayer: LayerKind.INPUT,
    _layers.Conv2D: LayerKind.CONV,
    _layers.DepthwiseConv2D: LayerKind.DEPTHWISE_CONV,
    _layers.Dense: LayerKind.DENSE,
    _layers.BatchNormalization: LayerKind.BATCH_NORM,
    _layers.LayerNormalization: LayerKind.LAYER_NORM,
    _layers.Activation: LayerKind.ACTIVATION,
    _layers.ReLU: LayerKind.RELU,
    _layers.LeakyReLU: LayerKind.LEAKY_RELU,
    _layers.Softmax: LayerKind.SOFTMAX,
    _layers.Dropout: LayerKind.DROPOUT,
    _convnext.LayerScale: LayerKind.CHANNEL_SCALE,  # in no public module of Keras
    _layers.Rescaling: LayerKind.RESCALING,
    _layers.Normalization: LayerKind.NORMALIZATION,
    _layers.Add: LayerKind.ADD,
    _layers.Subtract: LayerKind.SUBTRACT,
    _layers.Average: LayerKind.AVERAGE,
    _layers.Multiply: LayerKind.MULTIPLY,
    _layers.Concatenate: LayerKind.CONCATENATE,
    _layers.MaxPooling2D: LayerKind.MAX_POOLING,
    _layers.AveragePooling2D: LayerKind.AVERAGE_POOLING,
    _layers.GlobalMaxPooling2D: LayerKind.GLOBAL_MAX_POOLING,
    _layers.GlobalAveragePooling2D: LayerKind.GLOBAL_AVERAGE_POOLING,
    _layers.ZeroPadding2D: LayerKind.ZERO_PADDING,
    _layers.Cropping2D: LayerKind.CROPPING,
    _layers.UpSampling2D: LayerKind.UP_SAMPLING,
    _layers.Reshape: LayerKind.RESHAPE,
    _layers.Flatten: LayerKind.FLATTEN,
    _layers.Permute: LayerKind.PERMUTE,
}

_KERNELS = {
    LayerKind.CONV: ("kernel",),
    LayerKind.DEPTHWISE_CONV: ("depthwise_kernel",),
    LayerKind.DENSE: ("kernel",),
    LayerKind.SELF_ATTENTION: ("query_kernel", "key_kernel", "value_kernel", "output_kernel"),
}

# As ``selection.json`` calls them; all others by the names of their classes.
_NAMED = LINEAR | {LayerKind.BATCH_NORM, LayerKind.LAYER_NORM}


def of_kind(kind: LayerKind) -> Callable[[Class], Class]:
    """Decorates a class of Keras layers: they are of this ``kind``."""

    def register(layer_class: Class) -> Class:
        _KINDS[layer_class] = kind
        return layer_class

    return register


def kind_of(layer: Any) -> LayerKind:
    """The kind of ``layer``: that of its class, or of the nearest one that it is derived from."""
    for layer_class in type(layer).__mro__:
        if layer_class in _KINDS:
            return _KINDS[layer_class]
    return LayerKind.OTHER


def exact_kind(layer: Any) -> LayerKind:
    """The same, but ``OTHER`` for a derived class of nobody's knowledge, which may do anything.

    Conv2DTranspose is a Conv2D to Keras.
    """
    return _KINDS.get(type(layer), LayerKind.OTHER)


def type_name(layer: tf.keras.layers.Layer) -> str:
    """What people read: ``conv``, ``depthwise_conv``, ``dense``, ``batch_norm``, ``layer_norm``,
    or the name of its class.
    """
    kind = kind_of(layer)
    return kind.value if kind in _NAMED else type(layer).__name__


def kernels(layer: tf.keras.layers.Layer) -> tuple[tf.Variable, ...]:
    """The kernels of a convolution, a dense layer or attention, in Keras' order; else none."""
    return tuple(getattr(layer, name) for name in _KERNELS.get(kind_of(layer), ()))


def takes_factors(layer: tf.keras.layers.Layer) -> bool:
    """Whether its kernels are matrices at each position, which factors can be added to.

    Each channel that comes out reads all that go in.
    """
    kind = exact_kind(layer)
    if kind is LayerKind.CONV:
        return layer.groups == 1 and layer.data_format == "channels_last"
    return kind in (LayerKind.DENSE, LayerKind.SELF_ATTENTION)


def channel_axis(kind: LayerKind, rank: int) -> int:
    """The axis that counts the output channels, of a variable of ``rank`` of such a layer.

    A depthwise kernel is ``[height, width, channels, multiplier]``, all else ``[..., channels]``.
    """
    return 2 if kind is LayerKind.DEPTHWISE_CONV and rank == 4 else rank - 1
