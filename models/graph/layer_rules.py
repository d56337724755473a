"""Which operations a layer is made of, by its kind.

A kind that is not in ``_RULES`` is counted as one operation that overwrites nothing and saves its
inputs, in TensorFlow's own step its output too; a new kind of layer is one line there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Optional

import tensorflow as tf

from common.environment import onednn_in_force
from models.backbones.vit_layers import SelfAttention
from models.batch_norm import has_fixed_statistics, is_scale_and_shift
from models.graph.fusion import by_windows
from models.graph.operation import Builder, Extra, Saved, Weights, Writes
from models.kinds import LayerKind, kernels, kind_of

WORKING_SET = 30 * 2**20 // 4  # elements

Rule = Callable[[Builder, Any, tuple[int, ...]], int]


def rule_for(layer: tf.keras.layers.Layer) -> Rule:
    """Appends the operations of ``layer`` for its inputs' numbers; returns its output's."""
    return _RULES.get(kind_of(layer), _unknown)


def _plain(writes: Writes, saved: Saved) -> Rule:
    """One operation; trainable variables, if any, are offsets."""

    def rule(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
        weights = Weights(offsets=tuple(layer.trainable_weights))
        return builder.add(layer, inputs, writes, saved, weights=weights)

    return rule


def _unknown(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """Lean saves the inputs and computes the layer once more."""
    saved = Saved.INPUT if builder.lean else Saved.EVERYTHING
    weights = Weights(factors=tuple(layer.trainable_weights))
    return builder.add(layer, inputs, Writes.NEW, saved, weights=weights)


def _linear(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    (kernel,) = kernels(layer)
    chain = builder.chain_of(layer)
    scaled = chain is not None and chain.norm is not None  # a copy with the norm's scale
    output = builder.add(
        layer,
        inputs,
        Writes.NEW,
        Saved.NOTHING,
        weights=_weights(
            kernel,
            layer.bias,
            kind_of(layer) is LayerKind.DEPTHWISE_CONV,
            low_rank=chain is not None,  # alone, it is computed once more from its input
        ),
        extra=Extra(kernel=math.prod(kernel.shape) if scaled else 0, columns=_columns(layer)),
    )
    return _activation(builder, layer, (output,))


def _columns(layer: Any) -> int:
    """Elements of the patches that TensorFlow's own gradients of a convolution write out.

    Both gradients take as many images at a time as a working set of 30 MB holds, one at least
    (Conv2DCustomBackpropInputOp and ...FilterOp, conv_grad_input_ops.h). oneDNN's write none.
    """
    if kind_of(layer) is not LayerKind.CONV or onednn_in_force():
        return 0
    height, width, read, made = layer.kernel.shape
    if height == width == 1:
        return 0  # a plain product
    positions, patch = _elements(layer.output) // made, height * width * read
    one_image = positions * made + patch * made + positions * patch
    return -(-WORKING_SET // one_image) * positions * patch


def _activation(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """The function in a layer's ``activation``, which Keras fuses into convolutions too."""
    function = layer.activation
    if function is tf.keras.activations.linear:
        return inputs[0]
    if function is tf.keras.activations.gelu:
        return _gelu(builder, layer, inputs)
    saved = _FUNCTIONS.get(function, Saved.INPUT)
    if saved is Saved.MASK:
        return _relu(builder, layer, inputs)
    return builder.add(layer, inputs, Writes.IN_PLACE, saved)


def _relu(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """ReLU: a mask in bits and, to use it, in floats for a moment; stock saves the output."""
    if not builder.lean:
        return builder.add(layer, inputs, Writes.IN_PLACE, Saved.OUTPUT)
    chain = builder.chain_of(layer)
    if chain is not None and chain.pooling is not None:  # its bits are those of the pooling
        return builder.add(layer, inputs, Writes.IN_PLACE, Saved.PASSED)
    size = _elements(layer.output)
    extra = Extra(forward=size / 2, backward=size * 9 / 8)
    return builder.add(layer, inputs, Writes.IN_PLACE, Saved.MASK, extra=extra)


def _gelu(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """GELU by erf, out of elementary operations; the tape saves three of their results."""
    three = 3 * _elements(layer.output)
    if builder.lean:
        return builder.add(layer, inputs, Writes.NEW, Saved.INPUT, extra=Extra(backward=three))
    return builder.add(layer, inputs, Writes.NEW, Saved.NOTHING, extra=Extra(saved=three))


def _max_pooling(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """Stock saves input and output; lean the position of each maximum, if need be in bits."""
    if not builder.lean:
        return builder.add(layer, inputs, Writes.NEW, Saved.EVERYTHING)
    before = _elements(layer.input)
    if by_windows(layer):
        extra = Extra(saved=before / 32, forward=before / 2, backward=before * 9 / 8)
        return builder.add(layer, inputs, Writes.NEW, Saved.NOTHING, extra=extra)
    extra = Extra(forward=2 * _elements(layer.output), backward=before)
    return builder.add(layer, inputs, Writes.NEW, Saved.INDEX, extra=extra)


def _zero_padding(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """Lean leaves it to the convolution behind it."""
    writes = Writes.NEW if builder.chain_of(layer) is None else Writes.ALIAS
    return builder.add(layer, inputs, writes, Saved.PASSED)


def _batch_norm(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    # By fixed statistics it is a scale and a shift, which lean puts into the kernel in front of it.
    # By the batch's own, every element moves the mean and the variance, and the gradient through
    # those takes the input. Stock saves the input in any case, and writes to a new buffer.
    weights = _weights(layer.gamma, layer.beta, has_fixed_statistics(layer))
    if builder.chain_of(layer) is not None:
        return builder.add(layer, inputs, Writes.IN_PLACE, Saved.PASSED, weights=weights)
    # Alone, lean multiplies the gradient by the scale.
    saved = Saved.NOTHING if builder.lean and is_scale_and_shift(layer) else Saved.INPUT
    return builder.add(layer, inputs, Writes.NEW, saved, weights=weights)


def _channel_scale(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    weights = Weights(factors=tuple(layer.trainable_weights), by_channel=True)
    return builder.add(layer, inputs, Writes.NEW, Saved.NOTHING, weights=weights)


def _layer_norm(builder: Builder, layer: Any, inputs: tuple[int, ...]) -> int:
    """Stock saves the normalised input beside the input."""
    weights = _weights(layer.gamma, layer.beta)
    extra = Extra(saved=0 if builder.lean else _elements(layer.output))
    return builder.add(layer, inputs, Writes.NEW, Saved.INPUT, weights=weights, extra=extra)


def _attention(builder: Builder, layer: SelfAttention, inputs: tuple[int, ...]) -> int:
    """Three projections, scores [heads, tokens, tokens], softmax, mixing, output projection."""
    new = Writes.NEW
    tokens = layer.output.shape[1]
    inner = tokens * layer.heads * layer.head_size
    scores = layer.heads * tokens * tokens

    def project(kernel: tf.Variable, bias: tf.Variable) -> int:
        weights = _weights(kernel, bias, low_rank=builder.lean)
        return builder.add(layer, inputs, new, Saved.NOTHING, weights=weights, elements=inner)

    query = project(layer.query_kernel, layer.query_bias)
    key = project(layer.key_kernel, layer.key_bias)
    value = project(layer.value_kernel, layer.value_bias)
    products = builder.add(layer, (query, key), new, Saved.OTHERS, elements=scores)
    softmax = builder.add(
        layer,
        (products,),
        Writes.IN_PLACE,
        Saved.OUTPUT,
        elements=scores,
        # The tape's graph also has it times a constant ready before anybody asks for that.
        extra=Extra(saved=0 if builder.lean else scores),
    )
    mixed = builder.add(layer, (softmax, value), new, Saved.OTHERS, elements=inner)
    weights = _weights(layer.output_kernel, layer.output_bias, low_rank=builder.lean)
    return builder.add(layer, (mixed,), new, Saved.NOTHING, weights=weights)


def _weights(
    factor: Optional[tf.Variable],
    offset: Optional[tf.Variable],
    by_channel: bool = False,
    low_rank: bool = False,
) -> Weights:
    """A layer's kernel or gamma and its bias or beta; None for one that it does without."""
    factors, offsets = (() if one is None else (one,) for one in (factor, offset))
    return Weights(factors, offsets, by_channel, low_rank)


def _elements(tensor: Any) -> int:
    return math.prod(tensor.shape[1:])


# Element-wise functions by what their derivative is computed from; any other one (swish...)
# is taken to need its input.
_FUNCTIONS = {
    tf.keras.activations.relu: Saved.MASK,
    tf.nn.relu: Saved.MASK,
    tf.nn.relu6: Saved.MASK,
    tf.keras.activations.softmax: Saved.OUTPUT,
    tf.keras.activations.sigmoid: Saved.OUTPUT,
    tf.keras.activations.tanh: Saved.OUTPUT,
}

_RULES: dict[LayerKind, Rule] = {
    LayerKind.INPUT: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.CONV: _linear,
    LayerKind.DEPTHWISE_CONV: _linear,
    LayerKind.DENSE: _linear,
    LayerKind.BATCH_NORM: _batch_norm,
    LayerKind.LAYER_NORM: _layer_norm,
    LayerKind.SELF_ATTENTION: _attention,
    LayerKind.CLASS_TOKEN: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.POSITION_EMBEDDING: _plain(Writes.IN_PLACE, Saved.PASSED),
    LayerKind.CHANNEL_OFFSET: _plain(Writes.IN_PLACE, Saved.PASSED),
    LayerKind.CHANNEL_SCALE: _channel_scale,
    LayerKind.ACTIVATION: _activation,
    LayerKind.RELU: _relu,
    LayerKind.LEAKY_RELU: _plain(Writes.IN_PLACE, Saved.INPUT),
    LayerKind.SOFTMAX: _plain(Writes.IN_PLACE, Saved.OUTPUT),
    LayerKind.DROPOUT: _plain(Writes.IN_PLACE, Saved.MASK),
    LayerKind.RESCALING: _plain(Writes.IN_PLACE, Saved.NOTHING),
    LayerKind.NORMALIZATION: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.ADD: _plain(Writes.IN_PLACE, Saved.PASSED),
    LayerKind.SUBTRACT: _plain(Writes.IN_PLACE, Saved.NOTHING),
    LayerKind.AVERAGE: _plain(Writes.IN_PLACE, Saved.NOTHING),
    LayerKind.MULTIPLY: _plain(Writes.IN_PLACE, Saved.OTHERS),
    LayerKind.CONCATENATE: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.MAX_POOLING: _max_pooling,
    LayerKind.AVERAGE_POOLING: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.GLOBAL_AVERAGE_POOLING: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.ZERO_PADDING: _zero_padding,
    LayerKind.CROPPING: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.UP_SAMPLING: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.FIRST_TOKEN: _plain(Writes.NEW, Saved.NOTHING),
    LayerKind.RESHAPE: _plain(Writes.ALIAS, Saved.NOTHING),
    LayerKind.FLATTEN: _plain(Writes.ALIAS, Saved.NOTHING),
    LayerKind.PERMUTE: _plain(Writes.NEW, Saved.NOTHING),
}
