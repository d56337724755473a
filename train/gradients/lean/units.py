"""A network cut into units: what is computed, and carried back, in one piece."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.graph.fusion import Chain, linear_chains, recomputed_branches
from train.gradients.lean.linear import Linear
from train.gradients.lean.products import conv_product, dense_product

_layers = tf.keras.layers


@dataclass(frozen=True, eq=False)
class Unit:
    """Keras layers that are computed as one.

    Attributes:
        layers: in execution order.
        inputs: the symbolic tensors it reads, each once.
        output: the symbolic tensor it makes; what else its layers make, nobody else reads.
    """

    layers: tuple[tf.keras.layers.Layer, ...]
    inputs: tuple[Any, ...]
    output: Any


@dataclass(frozen=True, eq=False)
class LinearUnit(Unit):
    """A convolution or dense layer with the batch norm and the ReLU behind it."""

    linear: Linear


@dataclass(frozen=True, eq=False)
class Segment(Unit):
    """Units of which only the input is kept: the backward pass computes them once more."""

    units: tuple[Unit, ...]


def units_of(model: tf.keras.Model) -> tuple[Unit, ...]:
    """The units of a flat functional model, in execution order."""
    whole = {id(chain.layers[0]): chain for chain in linear_chains(model)}
    inside = {id(layer) for chain in whole.values() for layer in chain.layers[1:]}
    units = []
    for layer in model.layers:
        if isinstance(layer, _layers.InputLayer) or id(layer) in inside:
            continue
        if id(layer) in whole:
            units.append(_linear_unit(whole[id(layer)]))
        else:
            units.append(_unit(Unit, (layer,)))
    return tuple(_segmented(units, recomputed_branches(model)))


def _linear_unit(chain: Chain) -> LinearUnit:
    layer = chain.linear
    if isinstance(layer, _layers.Dense):
        product = dense_product(layer.kernel)
    else:
        product = conv_product(layer, chain.padding)
    linear = Linear(product, layer.bias, chain.norm, chain.rectified, chain.cap, chain.pooling)
    return _unit(LinearUnit, chain.layers, linear=linear)


def _segmented(units: Sequence[Unit], branches: Sequence[tuple]) -> list[Unit]:
    """The same, with the units of each of ``branches`` put together.

    Layer norm, softmax and GELU keep large tensors for their gradients; recomputing a branch from
    its input costs part of its forward pass once more.
    """
    number = {id(layer): index for index, branch in enumerate(branches) for layer in branch}
    result = []
    for branch, group in itertools.groupby(units, lambda unit: number.get(id(unit.layers[0]))):
        members = tuple(group)
        if branch is None:
            result.extend(members)
        else:
            result.append(_unit(Segment, branches[branch], units=members))
    return result


def _unit(kind: type, layers: tuple, **more: Any) -> Any:
    made = {id(layer.output) for layer in layers}
    read = [tensor for layer in layers for tensor in tf.nest.flatten(layer.input)]
    inputs = {id(tensor): tensor for tensor in read if id(tensor) not in made}
    return kind(layers, tuple(inputs.values()), layers[-1].output, **more)
