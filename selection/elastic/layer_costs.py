"""What a Keras layer costs, forward and backward: counted from shapes, or measured here.

Counted, the unit is one floating-point operation (FLOP); measured, it is one second.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Optional

import tensorflow as tf

from common.timing import median_seconds
from common.units import FLOAT_BYTES
from models.backbones.vit_layers import SelfAttention
from models.graph.macs import layer_macs
from models.kinds import LINEAR, LayerKind, kind_of
from models.layers import Layer
from models.network import Network

# Element-wise work waits for memory, not for arithmetic: one byte moved counts as the FLOPs of a
# convolution in that time. In ResNet50, batch 8, TensorFlow 2.15 on two cores of an AMD EPYC,
# convolutions ran at 160 to 230 GFLOP/s, and batch norm, ReLU and addition at 20 to 45 GB/s.
FLOPS_PER_BYTE = 6.0
REPEATS = 5
SHORTEST = 1e-7  # seconds; a difference of two measured times can come out below zero

_FREE = (LayerKind.INPUT, LayerKind.RESHAPE, LayerKind.FLATTEN)  # they compute nothing


@dataclass(frozen=True)
class LayerCost:
    """Costs of one Keras layer for one batch, all in one unit.

    Attributes:
        forward: of its forward pass.
        through: of carrying the gradient from its output to its variables (an activation fused
            into it), or to its inputs where it has none.
        t_dw: per variable, in Keras' order: of its gradient.
        t_dy: per variable: of carrying the gradient from it to the variable before it in Keras'
            order, or from the first one to the layer's inputs.
    """

    forward: float
    through: float
    t_dw: tuple[float, ...] = ()
    t_dy: tuple[float, ...] = ()


def counted_costs(network: Network, batch_size: int) -> list[LayerCost]:
    """Costs in FLOPs of the model's layers from the first selectable one on, in execution order.

    A convolution, a dense layer, a projection or a product of attention takes two FLOPs per
    multiply-accumulate operation forward, as many for its kernel's gradient and as many for its
    input's. Everything else is bytes read and written, ``FLOPS_PER_BYTE`` each. What comes before
    the first selectable layer (preprocessing) never meets a gradient and is left out.
    """
    selectable = {id(layer.keras_layer): layer for layer in network.layers}
    return [
        _counted(keras_layer, selectable.get(id(keras_layer)), batch_size)
        for keras_layer in profiled_layers(network)
    ]


def profiled_layers(network: Network) -> list[tf.keras.layers.Layer]:
    """The Keras layers from the first selectable one on, in execution order."""
    layers = network.model.layers
    first = next(i for i, layer in enumerate(layers) if layer is network.layers[0].keras_layer)
    return layers[first:]


def _counted(
    keras_layer: tf.keras.layers.Layer, layer: Optional[Layer], batch_size: int
) -> LayerCost:
    """Of a Keras layer; ``layer`` is the same if it is selectable."""
    inputs = sum(_traffic(x, batch_size) for x in tf.nest.flatten(keras_layer.input))
    output = _traffic(keras_layer.output, batch_size)
    kind = kind_of(keras_layer)
    if kind in _FREE:
        return LayerCost(0.0, 0.0)
    if layer is None:
        return LayerCost(inputs + output, _back_through(inputs, output))
    if kind is LayerKind.SELF_ATTENTION:
        return _attention(keras_layer, output, batch_size)
    if kind in LINEAR:
        return _linear(layer, output, batch_size)
    return _element_wise(layer, inputs, output)


def _back_through(inputs: float, output: float) -> float:
    """The gradient of an element-wise layer reads the output's and what was kept of the inputs."""
    return output + 2 * inputs


def _element_wise(layer: Layer, inputs: float, output: float) -> LayerCost:
    """A gain takes the product of the output's gradient and the input, an offset only the former.

    Of several variables the first one is the gain.
    """
    others = len(layer.variables) - 1
    return LayerCost(
        forward=inputs + output,
        through=0.0,
        t_dw=(inputs + output if others else output, *[output] * others),
        t_dy=(_back_through(inputs, output), *[0.0] * others),
    )


def _linear(layer: Layer, output: float, batch_size: int) -> LayerCost:
    """A kernel, a bias if there is one, and the activation that may be fused into the layer."""
    flops = 2.0 * batch_size * layer_macs(layer)
    bias = (output,) * (len(layer.variables) - 1)
    fused = layer.keras_layer.activation is not tf.keras.activations.linear
    return LayerCost(
        forward=flops + 2 * output * fused,
        through=3 * output * fused,
        t_dw=(flops, *bias),
        t_dy=(flops, *(0.0 for _ in bias)),
    )


def _attention(keras_layer: SelfAttention, output: float, batch_size: int) -> LayerCost:
    """Three projections, scores, softmax, mixing, output projection; variables in that order.

    The gradient meets the output projection first, then mixing and the value's, then softmax and
    the scores, and the key's and query's last; it leaves the layer through all three.
    """
    _, tokens, hidden = keras_layer.output.shape
    inner = keras_layer.heads * keras_layer.head_size
    project = 2.0 * batch_size * tokens * hidden * inner
    product = 2.0 * batch_size * tokens * tokens * inner
    scores = FLOPS_PER_BYTE * FLOAT_BYTES * batch_size * keras_layer.heads * tokens * tokens
    flat = output * inner / hidden  # of a query, key or value
    query, key, value, last = (
        (3 * project, 0.0),
        (product, 0.0),
        (2 * product + 3 * scores, 0.0),
        (project + product, 0.0),
    )
    return LayerCost(
        forward=4 * project + 2 * product + 2 * scores,
        through=0.0,
        t_dw=(*(project, flat) * 3, project, output),
        t_dy=(*query, *key, *value, *last),
    )


def _traffic(tensor: tf.Tensor, batch_size: int) -> float:
    """FLOPs in whose time the symbolic ``tensor`` ``[None, ...]`` is read or written once."""
    return FLOPS_PER_BYTE * FLOAT_BYTES * batch_size * math.prod(tensor.shape[1:])


def measured_costs(network: Network, batch_size: int, repeats: int = REPEATS) -> list[LayerCost]:
    """The same in seconds, each layer run on its own with noise on TensorFlow's default device.

    Every time is the median of ``repeats`` warm runs of a compiled function. A layer is timed
    forward (the call included), then with the gradient for its inputs, then with that for its
    variables too; the differences are what each adds, shared among the variables as
    :func:`counted_costs` would. Layers of the same configuration and shapes are measured once.
    Dropout is off: compiling it would change the masks that training draws later.
    """
    known = {}
    costs = []
    counted = counted_costs(network, batch_size)
    for keras_layer, share in zip(profiled_layers(network), counted):
        key = _shape_key(keras_layer)
        if key not in known:
            known[key] = _measured(keras_layer, share, batch_size, repeats)
        costs.append(known[key])
    gc.collect()  # the functions that were compiled are reference cycles
    return costs


def measured_pass(network: Network, batch_size: int, repeats: int = REPEATS) -> tuple[float, float]:
    """Seconds of the whole network's forward pass, and of full training's backward pass.

    Medians of warm runs on noise; the second is the difference to forward and backward together.
    """
    model = network.model
    images = tf.random.stateless_uniform([batch_size, *model.input_shape[1:]], [0, 1], 0.0, 255.0)
    variables = [variable for layer in network.layers for variable in layer.variables]

    def both() -> list:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = model(images, training=False)
            loss = tf.reduce_mean(tf.reduce_logsumexp(logits, axis=-1))
        return tape.gradient(loss, variables)

    functions = [tf.function(lambda: model(images, training=False)), tf.function(both)]
    forward, step = median_seconds(functions, repeats)
    return forward, max(step - forward, SHORTEST)


def _measured(
    keras_layer: tf.keras.layers.Layer, counted: LayerCost, batch_size: int, repeats: int
) -> LayerCost:
    if kind_of(keras_layer) in _FREE:
        return LayerCost(0.0, 0.0)
    functions = _layer_functions(keras_layer, batch_size)
    forward, inputs, everything = median_seconds(functions, repeats)
    cost = LayerCost(forward, max(inputs - forward, SHORTEST))
    if not counted.t_dw:
        return cost
    return replace(
        cost,
        through=0.0,
        t_dw=_shared(max(everything - inputs, SHORTEST), counted.t_dw),
        t_dy=_shared(cost.through, counted.t_dy),
    )


def _shared(seconds: float, shares: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(seconds * share / sum(shares) for share in shares)


def _layer_functions(keras_layer: tf.keras.layers.Layer, batch_size: int) -> list[Callable]:
    """Forward; forward and the inputs' gradient; these and the variables' gradients."""
    symbolic = tf.nest.flatten(keras_layer.input)
    real = [tf.random.stateless_normal([batch_size, *x.shape[1:]], [0, 1]) for x in symbolic]
    gradient = tf.random.stateless_normal([batch_size, *keras_layer.output.shape[1:]], [2, 3])
    (node,) = keras_layer.inbound_nodes

    def call(inputs: list) -> tf.Tensor:
        # Keras takes a tensor out of the list each time that the layer reads it.
        values = {str(id(x)): [y] * len(symbolic) for x, y in zip(symbolic, inputs)}
        arguments, options = node.map_arguments(values)
        return keras_layer(*arguments, **options)

    def backward(inputs: list, output_gradient: tf.Tensor, variables: list) -> tuple:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch((inputs, variables))
            output = call(inputs)
        # Otherwise what is timed would run side by side, and the times not add up.
        gradient = _after([output], output_gradient)
        if kind_of(keras_layer) not in LINEAR:
            # One operation makes both gradients, or they share the way through the layer.
            return output, tape.gradient(output, (inputs, variables), gradient)
        first = tape.gradient(output, inputs, gradient)
        return output, first, tape.gradient(output, variables, _after(first, gradient))

    forward = tf.function(call)
    both = tf.function(lambda inputs, dy: backward(inputs, dy, []))
    variables = list(keras_layer.trainable_weights)
    all_of_it = tf.function(lambda inputs, dy: backward(inputs, dy, variables))
    return [
        lambda: forward(real),
        lambda: both(real, gradient),
        lambda: all_of_it(real, gradient),
    ]


def _after(tensors: list, value: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies(tensors):
        return tf.identity(value)


def _shape_key(keras_layer: tf.keras.layers.Layer) -> str:
    """Equal for layers that do the same work."""
    (node,) = keras_layer.inbound_nodes
    call = tf.nest.map_structure(
        lambda value: tuple(value.shape) if tf.keras.backend.is_keras_tensor(value) else value,
        (node.call_args, node.call_kwargs),
    )
    config = {key: value for key, value in keras_layer.get_config().items() if key != "name"}
    return f"{type(keras_layer).__qualname__} {config} {call}"
