"""What takes the place of a layer of somebody's model, so that every room knows its kind.

A separable convolution is a depthwise one and a pointwise one; a grouped one with a group for each
channel is depthwise; arithmetic with a number (an operation in Keras' eyes) is a ``Rescaling``; the
several operations that Keras' MobileNetV3 makes of a hard swish are one activation. The function
that the network is stays the same, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from models.activations import hard_sigmoid, hard_swish
from models.kinds import LayerKind, kind_of

_layers = tf.keras.layers


@dataclass(frozen=True, eq=False)
class Replacement:
    """Layers in place of one.

    Attributes:
        inputs: what the first of them is called on.
        layers: one after another; none where the layer does nothing when nothing is drawn.
        arrays: for each of them, the values of its variables in Keras' order.
        note: what the user should know; empty for nothing.
    """

    inputs: Any
    layers: Sequence[tf.keras.layers.Layer] = ()
    arrays: Sequence[Sequence[np.ndarray]] = ()
    note: str = ""


def replacement(
    layer: tf.keras.layers.Layer, arguments: tuple, options: dict
) -> Optional[Replacement]:
    """What to put in place of ``layer`` called with ``arguments``; None for the layer itself."""
    if type(layer).__name__ == "TFOpLambda":
        return _of_operation(layer, [*arguments, *_given(options)])
    rule = _RULES.get(type(layer))
    if rule is None and type(layer).__name__.startswith("Random"):
        rule = _without_augmentation
    return None if rule is None else rule(layer, *arguments)


def _given(options: dict) -> list:
    """What an operation was given by name, the tensors and numbers of it."""
    return [value for name, value in options.items() if name != "name" and value is not None]


def _separable(layer: Any, x: Any) -> Replacement:
    kernels = layer.get_weights()
    depthwise = _layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        name=f"{layer.name}_depthwise",
    )
    pointwise = _layers.Conv2D(
        layer.filters,
        1,
        data_format=layer.data_format,
        activation=layer.activation,
        use_bias=layer.use_bias,
        name=f"{layer.name}_pointwise",
    )
    return Replacement(x, (depthwise, pointwise), (kernels[:1], kernels[1:]))


def _convolution(layer: Any, x: Any) -> Optional[Replacement]:
    """A grouped one, with one channel of the input in each group."""
    groups = layer.groups
    if groups == 1 or groups != x.shape[-1] or layer.data_format != "channels_last":
        return None
    kernel, *bias = layer.get_weights()
    height, width, _, filters = kernel.shape
    depthwise = _layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=filters // groups,
        dilation_rate=layer.dilation_rate,
        activation=layer.activation,
        use_bias=layer.use_bias,
        name=layer.name,
    )
    return Replacement(
        x, (depthwise,), ([kernel.reshape(height, width, groups, filters // groups), *bias],)
    )


def _activation(layer: Any, x: Any) -> Optional[Replacement]:
    return Replacement(x) if layer.activation is tf.keras.activations.linear else None


def _multiply(_: Any, factors: Any) -> Optional[Replacement]:
    """x times its own hard sigmoid."""
    return _product(list(factors))


def _product(factors: Sequence[Any]) -> Optional[Replacement]:
    if len(factors) == 2:
        for x, other in (factors, factors[::-1]):
            maker = _maker(other)
            if _is(maker, hard_sigmoid) and maker.input is x:
                return Replacement(x, (_layers.Activation(hard_swish, name=f"{maker.name}_swish"),))
    return None


def _without_augmentation(layer: tf.keras.layers.Layer, x: Any, *_: Any) -> Replacement:
    note = f"left out: {layer.name} ({type(layer).__name__}): augmentation is that of the flags"
    return Replacement(x, note=note)


def _without_noise(layer: tf.keras.layers.Layer, x: Any, *_: Any) -> Replacement:
    return Replacement(
        x, note=f"left out: {layer.name} ({type(layer).__name__}), which draws noise"
    )


def _of_operation(layer: Any, operands: Sequence[Any]) -> Optional[Replacement]:
    name = layer.symbol or ""
    function = _FUNCTIONS.get(name)
    if function is not None and len(operands) == 1:
        return Replacement(operands[0], (_activation_of(function, layer.name),))
    arithmetic = _ARITHMETIC.get(name)
    if arithmetic is None or len(operands) != 2:
        return None
    if all(map(_is_tensor, operands)):
        return _of_tensors(name, layer, operands)
    first, second = operands
    tensor_first = _is_tensor(first)
    x, number = (first, second) if tensor_first else (second, first)
    if not _is_number(number):
        return None
    rescaling = arithmetic(float(number), tensor_first)
    if rescaling is None:
        return None
    scale, offset = rescaling
    if offset == 0 and _is_clipped_shift(_maker(x)) and np.isclose(scale, 1 / 6):
        inner = _maker(_maker(x).input).input
        return Replacement(inner, (_activation_of(hard_sigmoid, layer.name),))
    return Replacement(x, (_layers.Rescaling(scale, offset, name=layer.name),))


def _of_tensors(name: str, layer: Any, operands: Sequence[Any]) -> Optional[Replacement]:
    """A sum or product of two tensors: Keras has a layer for it."""
    first, second = operands
    if "multiply" in name:
        swish = _product(operands)
        return swish or Replacement(list(operands), (_layers.Multiply(name=layer.name),))
    if "add" in name and first.shape == second.shape:
        return Replacement(list(operands), (_layers.Add(name=layer.name),))
    return None


def _is_clipped_shift(layer: Any) -> bool:
    """Whether ``layer`` is ReLU6 of x + 3."""
    if kind_of(layer) is not LayerKind.RELU or layer.max_value != 6 or layer.negative_slope:
        return False
    before = _maker(layer.input)
    shifted = kind_of(before) is LayerKind.RESCALING
    return shifted and before.scale == 1.0 and before.offset == 3.0


def _activation_of(function: Any, name: str) -> tf.keras.layers.Layer:
    if function == "relu6":
        return _layers.ReLU(6.0, name=name)
    return _layers.Activation(function, name=name)


def _maker(tensor: Any) -> Any:
    """The layer that made a symbolic tensor."""
    return tensor._keras_history.layer


def _is(layer: Any, function: Callable) -> bool:
    return kind_of(layer) is LayerKind.ACTIVATION and layer.activation is function


def _is_tensor(value: Any) -> bool:
    """Whether ``value`` is a symbolic tensor."""
    return hasattr(value, "_keras_history")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic)) and not isinstance(value, bool)


# Of an operation between a tensor and a number, number and "the tensor comes first" -> scale and
# offset; None where it is none of these.
Rescaling = Optional[tuple[float, float]]
_add: Callable[[float, bool], Rescaling] = lambda number, _: (1.0, number)  # noqa: E731
_multiply_by: Callable[[float, bool], Rescaling] = lambda number, _: (number, 0.0)  # noqa: E731


def _subtract(number: float, tensor_first: bool) -> Rescaling:
    return (1.0, -number) if tensor_first else (-1.0, number)


def _divide(number: float, tensor_first: bool) -> Rescaling:
    return (1.0 / number, 0.0) if tensor_first and number else None


_ARITHMETIC: dict[str, Callable[[float, bool], Rescaling]] = {
    "__operators__.add": _add,
    "math.add": _add,
    "math.multiply": _multiply_by,
    "__operators__.multiply": _multiply_by,
    "math.subtract": _subtract,
    "__operators__.subtract": _subtract,
    "math.truediv": _divide,
    "math.divide": _divide,
    "__operators__.truediv": _divide,
}
_FUNCTIONS: dict[str, Union[str, Callable]] = {
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.silu": "swish",
    "nn.swish": "swish",
    "nn.sigmoid": "sigmoid",
    "math.sigmoid": "sigmoid",
    "nn.tanh": "tanh",
    "math.tanh": "tanh",
    "nn.softmax": "softmax",
}
_RULES: dict[type, Callable[..., Optional[Replacement]]] = {
    _layers.SeparableConv2D: _separable,
    _layers.Conv2D: _convolution,
    _layers.Activation: _activation,
    _layers.Multiply: _multiply,
    _layers.GaussianNoise: _without_noise,
    _layers.GaussianDropout: _without_noise,
    _layers.AlphaDropout: _without_noise,
}
