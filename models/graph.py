"""A built network as a list of operations: what each one reads, where it writes, what it keeps.

``memory_utils.py`` walks the list. A Keras layer of a kind not listed in ``_RULES`` is counted
as one operation that overwrites nothing and keeps its inputs and its output for the backward
pass; a new kind of layer is one line there.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from models.channel_groups import ChannelOffset
from models.vit_layers import ClassToken, FirstToken, PositionEmbedding, SelfAttention

# Where an operation puts its output.
NEW = "new"  # in a buffer of its own
IN_PLACE = "in_place"  # over an input that nothing needs any more, else in a buffer of its own
ALIAS = "alias"  # nowhere: it is the input under another shape

# What it takes to carry the gradient from an operation's output to its inputs.
NOTHING = "nothing"  # at most its weights
MASK = "mask"  # one bit per output element: which elements passed
INDEX = "index"  # one byte per output element: which position of the window was the largest
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


def operations(model: tf.keras.Model) -> tuple[Operation, ...]:
    """The operations of a flat functional model, in execution order.

    Raises:
        ValueError: a layer is itself a model, or is called more than once.
    """
    builder = _Builder()
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

    def __init__(self) -> None:
        self.operations = []
        self.numbers = {}

    def add(
        self,
        layer: tf.keras.layers.Layer,
        inputs: tuple[int, ...],
        writes: str,
        remembers: str,
        elements: int | None = None,
        factors: tuple = (),
        offsets: tuple = (),
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
            )
        )
        return number


def _plain(builder: _Builder, layer: Any, inputs: tuple, writes: str, remembers: str) -> int:
    """One operation; trainable variables, if any, are offsets (added, so they need nothing)."""
    return builder.add(layer, inputs, writes, remembers, offsets=tuple(layer.trainable_weights))


def _linear(builder: _Builder, layer: Any, inputs: tuple) -> int:
    depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
    kernel = layer.depthwise_kernel if depthwise else layer.kernel
    output = builder.add(layer, inputs, NEW, NOTHING, factors=(kernel,), offsets=(layer.bias,))
    return _activation(builder, layer, (output,))


def _activation(builder: _Builder, layer: Any, inputs: tuple) -> int:
    """The function in a layer's ``activation``, which Keras fuses into convolutions too."""
    function = layer.activation
    if function is tf.keras.activations.linear:
        return inputs[0]
    return builder.add(layer, inputs, IN_PLACE, _FUNCTIONS.get(function, INPUT))


def _batch_norm(builder: _Builder, layer: Any, inputs: tuple) -> int:
    # By fixed statistics it is a scale and a shift. By the batch's own, every element moves the
    # mean and the variance, and the gradient through those takes the input.
    fixed = isinstance(layer, FixedBatchNormalization) and not layer.batch_statistics
    remembers = NOTHING if fixed else INPUT
    return builder.add(
        layer, inputs, IN_PLACE, remembers, factors=(layer.gamma,), offsets=(layer.beta,)
    )


def _layer_norm(builder: _Builder, layer: Any, inputs: tuple) -> int:
    return builder.add(
        layer, inputs, IN_PLACE, INPUT, factors=(layer.gamma,), offsets=(layer.beta,)
    )


def _unknown(builder: _Builder, layer: Any, inputs: tuple) -> int:
    return builder.add(layer, inputs, NEW, EVERYTHING, factors=tuple(layer.trainable_weights))


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
    weights = builder.add(layer, (products,), IN_PLACE, OUTPUT, scores)
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
    (
        (_layers.ReLU, _layers.LeakyReLU, _layers.Dropout),
        functools.partial(_plain, writes=IN_PLACE, remembers=MASK),
    ),
    ((_layers.Softmax,), functools.partial(_plain, writes=IN_PLACE, remembers=OUTPUT)),
    (
        (_layers.MaxPooling2D, _layers.GlobalMaxPooling2D),
        functools.partial(_plain, writes=NEW, remembers=INDEX),
    ),
    (
        (
            _layers.Add,
            _layers.Subtract,
            _layers.Average,
            _layers.Rescaling,
            PositionEmbedding,
            ChannelOffset,
        ),
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
            _layers.ZeroPadding2D,
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
