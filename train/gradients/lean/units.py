"""A network cut into units: what is computed, and differentiated, in one piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.forward import inputs_of
from models.graph.fusion import Chain, linear_chains, recomputed_branches
from models.kinds import LayerKind, kind_of
from models.recompute import Recompute
from train.gradients.lean.linear import Linear
from train.gradients.lean.products import conv_product, dense_product
from train.gradients.leaves import Leaves

Layers = tuple[tf.keras.layers.Layer, ...]


@dataclass(frozen=True, eq=False)
class Unit:
    """Keras layers that are computed as one.

    Attributes:
        layers: in execution order; one, but in the two kinds of units below.
        inputs: the symbolic tensors it reads, each once.
        output: the symbolic tensor it makes; what else its layers make, nobody else reads.
    """

    layers: Layers
    inputs: tuple[Any, ...]
    output: Any


@dataclass(frozen=True, eq=False)
class LinearUnit(Unit):
    """A convolution or dense layer with the batch norm and the ReLU behind it."""

    linear: Linear


@dataclass(frozen=True, eq=False)
class RecomputedBranch(Unit):
    """Units of which only the input is saved: the backward pass computes them once more.

    Others call that gradient checkpointing, or rematerialisation.
    """

    units: tuple[Unit, ...]

    @property
    def products(self) -> list[Unit]:
        """The units whose products with kernels the way back through the others reads.

        Those of attention, and of a dense layer that something but the final addition reads.
        """
        *inside, _ = self.units
        read = {id(tensor) for unit in inside for tensor in unit.inputs}
        return [
            unit
            for unit in inside
            if kind_of(unit.layers[0]) is LayerKind.SELF_ATTENTION
            or (
                isinstance(unit, LinearUnit)
                and not unit.linear.rectified
                and id(unit.output) in read
            )
        ]


def units_of(
    model: tf.keras.Model, leaves: Leaves, recompute: Recompute = Recompute.ALL
) -> tuple[Unit, ...]:
    """The units of a flat functional model of which ``leaves`` are trained, in execution order."""
    chains = {id(chain.layers[0]): chain for chain in linear_chains(model)}
    inside = {id(layer) for chain in chains.values() for layer in chain.layers[1:]}
    units: list[Unit] = []
    for layer in model.layers:
        if kind_of(layer) is LayerKind.INPUT or id(layer) in inside:
            continue
        if id(layer) in chains:
            units.append(_linear_unit(chains[id(layer)], leaves))
        else:
            units.append(Unit((layer,), *_ends((layer,))))
    branches = [] if recompute is Recompute.NONE else recomputed_branches(model)
    return _with_branches(units, branches)


def tensors_needing_grad(units: Sequence[Unit], leaves: Leaves) -> set[int]:
    """The ``id(symbolic tensor)`` of what trained layers, and those behind them, make."""
    needed: set[int] = set()
    for unit in _flattened(units):
        trained = any(leaves.of(layer) for layer in unit.layers)
        if trained or any(id(tensor) in needed for tensor in unit.inputs):
            needed.add(id(unit.output))
    return needed


def tensors_saved_whole(units: Sequence[Unit]) -> set[int]:
    """The ``id(symbolic tensor)`` of what is saved because a trained kernel reads it."""
    linear = (unit for unit in _flattened(units) if isinstance(unit, LinearUnit))
    return {id(unit.inputs[0]) for unit in linear if unit.linear.saves_input}


def _flattened(units: Sequence[Unit]) -> Iterator[Unit]:
    """Those inside branches, and the branch behind them."""
    for unit in units:
        if isinstance(unit, RecomputedBranch):
            yield from _flattened(unit.units)
        yield unit


def _linear_unit(chain: Chain, leaves: Leaves) -> LinearUnit:
    layer = chain.linear
    if kind_of(layer) is LayerKind.DENSE:
        product = dense_product(layer.kernel)
    else:
        product = conv_product(layer, chain.padding)
    behind = chain.norm, chain.rectified, chain.cap, chain.pooling
    linear = Linear(product, layer.bias, *behind, leaves=leaves)
    return LinearUnit(chain.layers, *_ends(chain.layers), linear)


def _with_branches(units: Sequence[Unit], branches: Sequence[Layers]) -> tuple[Unit, ...]:
    """The same, with the units of each of ``branches`` put together.

    Layer norm, softmax and GELU save large tensors for their gradients; recomputing a branch from
    its input costs part of its forward pass once more.
    """
    number = {id(layer): index for index, branch in enumerate(branches) for layer in branch}
    result: list[Unit] = []
    for branch, group in itertools.groupby(units, lambda unit: number.get(id(unit.layers[0]))):
        members = tuple(group)
        if branch is None:
            result.extend(members)
        else:
            layers = branches[branch]
            result.append(RecomputedBranch(layers, *_ends(layers), members))
    return tuple(result)


def _ends(layers: Layers) -> tuple[tuple[Any, ...], Any]:
    """The symbolic tensors that ``layers`` read from outside, each once, and the last's output."""
    made = {id(layer.output) for layer in layers}
    read = [tensor for layer in layers for tensor in inputs_of(layer)]
    inputs = {id(tensor): tensor for tensor in read if id(tensor) not in made}
    return tuple(inputs.values()), layers[-1].output
