"""A built network as a list of operations: what each one reads, where it writes, what it keeps.

``models/graph/liveness.py`` runs through the list. There are two ways to compute the same network
(``FrozenMode``): that of the training step of this project (``train/gradients/lean/``), and that of
TensorFlow 2.15 with a gradient tape. What they keep was read off its allocator's log.

A Keras layer of a kind not listed in ``_RULES`` is counted as one operation that overwrites nothing
and keeps its inputs and its output for the backward pass; a new kind of layer is one line there.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.backbones.vit_layers import ClassToken, FirstToken, PositionEmbedding, SelfAttention
from models.frozen_mode import FrozenMode
from models.graph.fusion import by_windows, linear_chains, recomputed_branches
from models.pruning.channel_groups import ChannelOffset

# Where an operation puts its output.
NEW = "new"  # in a buffer of its own
IN_PLACE = "in_place"  # over an input that nothing needs any more, else in a buffer of its own
ALIAS = "alias"  # nowhere: it is the input under another shape

# What it takes to carry the gradient from an operation's output to its inputs.
NOTHING = "nothing"  # at most its weights
PASSED = "passed"  # nothing, and the inputs' gradients are the output's itself
MASK = "mask"  # one bit per output element: which elements passed
INDEX = "index"  # four bytes per output element: which position of the window was the largest
INPUT = "input"
OUTPUT = "output"
OTHERS = "others"  # for each input that carries a gradient, the other inputs (products)
EVERYTHING = "everything"  # unknown operation: its inputs and its output


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation. Tensors are numbered; sizes are in elements of one sample.

    Attributes:
        layer: the Keras layer it belongs to (attention blocks have several operations).
        inputs: tensor numbers; empty for the network's input.
        output: tensor number.
        elements: of the output, for one sample.
        writes: ``NEW``, ``IN_PLACE`` or ``ALIAS``.
        remembers: what passing the gradient on takes, ``NOTHING`` to ``EVERYTHING``.
        extra: elements of one sample that it keeps besides.
        forward_work, backward_work: elements of one sample that it takes for a moment, beside
            its inputs and output, or their gradients.
        kernel_work: elements, whatever the batch, that it takes for a moment in both directions.
        branch: number of the recomputed branch it is part of (``models/graph/fusion.py``), or None.
        variables: every variable that it reads and that could be trained.
        factors: those of them whose own gradient takes the operation's input (a kernel or a
            gamma does, a bias or a beta does not).
    """

    layer: tf.keras.layers.Layer
    inputs: tuple[int, ...]
    output: int
    elements: int
    writes: str
    remembers: str
    variables: tuple[tf.Variable, ...]
    factors: tuple[tf.Variable, ...]
    extra: float = 0
    forward_work: float = 0
    backward_work: float = 0
    kernel_work: int = 0
    branch: Optional[int] = None


def operations(
    model: tf.keras.Model, frozen: FrozenMode = FrozenMode.LEAN
) -> tuple[Operation, ...]:
    """The operations of a flat functional model, in execution order.

    Args:
        frozen: how frozen layers are computed.

    Raises:
        ValueError: a layer is itself a model, or is called more than once.
    """
    builder = _Builder(model, lean=frozen == FrozenMode.LEAN)
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model) or len(layer.inbound_nodes) != 1:
            raise ValueError(f"layer {layer.name} is nested or shared; build the model flat")
        inputs = () if isinstance(layer, tf.keras.layers.InputLayer) else layer.input
        numbers = tuple(builder.numbers[id(tensor)] for tensor in tf.nest.flatten(inputs))
        outputs = tf.nest.flatten(layer.output)
        if len(outputs) != 1:
            raise ValueError(f"layer {layer.name} has {len(outputs)} outputs instead of one")
        builder.numbers[id(outputs[0])] = _rule_for(layer)(builder, layer, numbers)
    return tuple(builder.operations)


class _Builder:
    """Collects operations and numbers tensors; ``numbers`` maps id(KerasTensor) to a number."""

    def __init__(self, model: tf.keras.Model, lean: bool) -> None:
        self.operations = []
        self.numbers = {}
        self.lean = lean
        chains = linear_chains(model) if lean else ()
        branches = recomputed_branches(model) if lean else ()
        self.chained = {id(layer): chain for chain in chains for layer in chain.layers}
        self._branches = {id(one): index for index, some in enumerate(branches) for one in some}

    def add(
        self,
        layer: tf.keras.layers.Layer,
        inputs: tuple[int, ...],
        writes: str,
        remembers: str,
        elements: int | None = None,
        factors: tuple = (),
        offsets: tuple = (),
        **amounts: float,
    ) -> int:
        """Append one operation and return its output's number."""
        number = len(self.operations)
        self.operations.append(
            Operation(
                layer=layer,
                inputs=inputs,
                output=number,
                elements=math.prod(layer.output.shape[1:]) if elements is None else elements,
                writes=writes,
                remembers=remembers,
                variables=tuple(v for v in (*factors, *offsets) if v is not None),
                factors=tuple(v for v in factors if v is not None),
                branch=self._branches.get(id(layer)),
                **amounts,
            )
        )
        return number


def _plain(builder: _Builder, layer: Any, inputs: tuple, writes: str, remembers: str) -> int:
    """One operation; trainable variables, if any, are offsets (added, so they need nothing)."""
    return builder.add(layer, inputs, writes, remembers, offsets=tuple(layer.trainable_weights))


def _linear(builder: _Builder, layer: Any, inputs: tuple) -> int:
    depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
    kernel = layer.depthwise_kernel if depthwise else layer.kernel
    chain = builder.chained.get(id(layer))
    scaled = chain is not None and chain.norm is not None  # lean: a copy with the norm's scale
    output = builder.add(
        layer,
        inputs,
        NEW,
        NOTHING,
        factors=(kernel,),
        offsets=(layer.bias,),
        kernel_work=math.prod(kernel.shape) if scaled else 0,
    )
    return _activation(builder, layer, (output,))


def _activation(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """The function in a layer's ``activation``, which Keras fuses into convolutions too."""
    function = layer.activation
    if function is tf.keras.activations.linear:
        return inputs[0]
    if function is tf.keras.activations.gelu:
        return _gelu(builder, layer, inputs)
    remembers = _FUNCTIONS.get(function, INPUT)
    if remembers == MASK:
        return _relu(builder, layer, inputs)
    return builder.add(layer, inputs, IN_PLACE, remembers)


def _relu(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """ReLU: a mask in bits and, to use it, in floats for a moment; stock keeps the output."""
    if not builder.lean:
        return builder.add(layer, inputs, IN_PLACE, OUTPUT)
    chain = builder.chained.get(id(layer))
    size = math.prod(layer.output.shape[1:])
    if chain is not None and chain.pooling is not None:
        return builder.add(layer, inputs, IN_PLACE, PASSED)  # its bits are those of the pooling
    return builder.add(
        layer, inputs, IN_PLACE, MASK, forward_work=size / 2, backward_work=size * 9 / 8
    )


def _gelu(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """GELU by erf, out of elementary operations; the tape keeps three of their results."""
    size = math.prod(layer.output.shape[1:])
    if builder.lean:
        return builder.add(layer, inputs, NEW, INPUT, backward_work=3 * size)
    return builder.add(layer, inputs, NEW, NOTHING, extra=3 * size)


def _max_pooling(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """Stock keeps input and output; lean the position of each maximum, if need be in bits."""
    if not builder.lean:
        return builder.add(layer, inputs, NEW, EVERYTHING)
    size = math.prod(layer.output.shape[1:])
    before = math.prod(layer.input.shape[1:])
    if by_windows(layer):
        return builder.add(
            layer,
            inputs,
            NEW,
            NOTHING,
            extra=before / 32,
            forward_work=before / 2,
            backward_work=before * 9 / 8,
        )
    return builder.add(layer, inputs, NEW, INDEX, forward_work=2 * size, backward_work=before)


def _zero_padding(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """Lean leaves it to the convolution behind it."""
    taken_over = id(layer) in builder.chained
    return builder.add(layer, inputs, ALIAS if taken_over else NEW, PASSED)


def _batch_norm(builder: _Builder, layer: Any, inputs: tuple) -> int:
    # By fixed statistics it is a scale and a shift, which lean puts into the kernel in front of it.
    # By the batch's own, every element moves the mean and the variance, and the gradient through
    # those takes the input. Stock keeps the input in any case, and writes to a new buffer.
    folded = id(layer) in builder.chained
    return builder.add(
        layer,
        inputs,
        IN_PLACE if folded else NEW,
        PASSED if folded else INPUT,
        factors=(layer.gamma,),
        offsets=(layer.beta,),
    )


def _layer_norm(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """Stock keeps the normalised input beside the input."""
    extra = 0 if builder.lean else math.prod(layer.output.shape[1:])
    return builder.add(
        layer, inputs, NEW, INPUT, factors=(layer.gamma,), offsets=(layer.beta,), extra=extra
    )


def _unknown(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """Lean keeps the inputs and computes the layer once more."""
    remembers = INPUT if builder.lean else EVERYTHING
    return builder.add(layer, inputs, NEW, remembers, factors=tuple(layer.trainable_weights))


def _attention(builder: _Builder, layer: SelfAttention, inputs: tuple) -> int:
    """Three projections, scores [heads, tokens, tokens], softmax, mixing, output projection."""
    tokens = layer.output.shape[1]
    inner = tokens * layer.heads * layer.head_size
    scores = layer.heads * tokens * tokens

    def project(kernel: tf.Variable, bias: tf.Variable) -> int:
        return builder.add(layer, inputs, NEW, NOTHING, inner, (kernel,), (bias,))

    query = project(layer.query_kernel, layer.query_bias)
    key = project(layer.key_kernel, layer.key_bias)
    value = project(layer.value_kernel, layer.value_bias)
    products = builder.add(layer, (query, key), NEW, OTHERS, scores)
    # The tape's graph also has the softmax times a constant ready before anybody asks for it.
    extra = 0 if builder.lean else scores
    weights = builder.add(layer, (products,), IN_PLACE, OUTPUT, scores, extra=extra)
    mixed = builder.add(layer, (weights, value), NEW, OTHERS, inner)
    return builder.add(
        layer,
        (mixed,),
        NEW,
        NOTHING,
        factors=(layer.output_kernel,),
        offsets=(layer.output_bias,),
    )


# Element-wise functions by what their derivative is computed from; any other one (GELU, swish)
# is taken to need its input.
_FUNCTIONS = {
    tf.keras.activations.relu: MASK,
    tf.nn.relu: MASK,
    tf.nn.relu6: MASK,
    tf.keras.activations.softmax: OUTPUT,
    tf.keras.activations.sigmoid: OUTPUT,
    tf.keras.activations.tanh: OUTPUT,
}

_layers = tf.keras.layers

_RULES = (
    ((_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense), _linear),
    ((_layers.BatchNormalization,), _batch_norm),
    ((_layers.LayerNormalization,), _layer_norm),
    ((SelfAttention,), _attention),
    ((_layers.Activation,), _activation),
    ((_layers.ReLU,), _relu),
    ((_layers.LeakyReLU,), functools.partial(_plain, writes=IN_PLACE, remembers=INPUT)),
    ((_layers.Dropout,), functools.partial(_plain, writes=IN_PLACE, remembers=MASK)),
    ((_layers.Softmax,), functools.partial(_plain, writes=IN_PLACE, remembers=OUTPUT)),
    ((_layers.MaxPooling2D,), _max_pooling),
    ((_layers.ZeroPadding2D,), _zero_padding),
    (
        (_layers.Add, PositionEmbedding, ChannelOffset),
        functools.partial(_plain, writes=IN_PLACE, remembers=PASSED),
    ),
    (
        (_layers.Subtract, _layers.Average, _layers.Rescaling),
        functools.partial(_plain, writes=IN_PLACE, remembers=NOTHING),
    ),
    ((_layers.Multiply,), functools.partial(_plain, writes=IN_PLACE, remembers=OTHERS)),
    (
        (_layers.Reshape, _layers.Flatten),
        functools.partial(_plain, writes=ALIAS, remembers=NOTHING),
    ),
    (
        (
            _layers.InputLayer,
            _layers.Cropping2D,
            _layers.AveragePooling2D,
            _layers.GlobalAveragePooling2D,
            _layers.UpSampling2D,
            _layers.Concatenate,
            _layers.Permute,
            ClassToken,
            FirstToken,
        ),
        functools.partial(_plain, writes=NEW, remembers=NOTHING),
    ),
)


def _rule_for(layer: tf.keras.layers.Layer) -> Any:
    for classes, rule in _RULES:
        if isinstance(layer, classes):
            return rule
    return _unknown
