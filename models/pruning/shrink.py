"""The smaller network that remains when dead channels are taken out."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from models.forward import Value
from models.kinds import LayerKind, exact_kind, kind_of
from models.layers import selectable_layers
from models.network import Network
from models.pruning.channel_groups import ChannelMap, ChannelOffset, ChannelSet, channel_map
from models.pruning.empty_paths import EmptyPath, empty_paths

_SIZES = {LayerKind.CONV: "filters", LayerKind.DENSE: "units"}  # the setting that is their number
AVX512_FLOATS = 16


@dataclass(frozen=True, eq=False)
class Pruning:
    """What is to be taken out of a model.

    Attributes:
        paths: residual paths that go altogether.
        channels: the prunable channels of what is left.
        staying: for each set of ``channels`` the indices of those that stay, ascending.
    """

    paths: tuple[EmptyPath, ...]
    channels: ChannelMap
    staying: tuple[np.ndarray, ...]

    @property
    def is_empty(self) -> bool:
        """Whether everything stays."""
        counts = zip(self.staying, self.channels.sets)
        return not self.paths and all(len(stay) == one.channels for stay, one in counts)


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller network and where its variables come from.

    Attributes:
        origins: ``variable.ref()`` of the new network -> (variable of the old one, the indices
            that stay of each of its axes).
    """

    network: Network
    origins: Mapping[Any, tuple[tf.Variable, tuple[np.ndarray, ...]]]

    def carry(self, arrays: Mapping) -> dict:
        """Arrays by ``ref()`` of the old variables (momentum), sliced, by that of the new ones."""
        return {
            new: arrays[old.ref()][np.ix_(*indices)]
            for new, (old, indices) in self.origins.items()
            if old.ref() in arrays
        }


def find_pruning(model: tf.keras.Model, threshold: float) -> Pruning:
    """What PruneTrain takes out of ``model`` (SC 2019): empty residual paths, dead channels.

    A channel is alive if a weight above ``threshold`` writes or reads it, in any of the
    convolutions and dense layers of its set. A dead one may well carry a value (batch norm makes
    a constant out of nothing, a bias is one), but nobody reads it: taking it out changes the
    outputs by what the weights up to ``threshold`` contribute, and not at all if these are zero.
    At least one channel stays, that with the largest weight.

    Where a batch norm uses the statistics of the batch, it scales up whatever its input varies by:
    there, what comes out of a convolution below the threshold is small only once it varies by less
    than the square root of that layer's epsilon.
    """
    paths = empty_paths(model, threshold)
    channels = channel_map(model, paths)
    return Pruning(paths, channels, tuple(_staying(one, threshold) for one in channels.sets))


def shrink(network: Network, pruning: Pruning) -> Shrunk:
    """``network`` without what ``pruning`` (of its model) takes out: new variables, the same names.

    An addition with an empty path passes its other input on. What the path added to every image
    stays as a trained offset per channel, in the place of the addition and under its name, unless
    it is zero.
    """
    rebuild = _Rebuild(network.model, pruning)
    model = rebuild.run()
    smaller = replace(network, model=model, layers=selectable_layers(model))
    origins = rebuild.origins
    del rebuild
    gc.collect()  # building leaves reference cycles that hold copies of the weights
    return Shrunk(smaller, origins)


def _staying(one: ChannelSet, threshold: float) -> np.ndarray:
    largest = np.zeros(one.channels)
    for kernel, axis in one.kernels:
        others = tuple(other for other in range(kernel.shape.rank) if other != axis)
        largest = np.maximum(largest, np.abs(kernel.numpy()).max(axis=others))
    alive = np.flatnonzero(~(largest <= threshold))  # what is not a number counts as alive
    return alive if len(alive) else np.array([largest.argmax()])


class _Rebuild:
    """One walk through the old graph that builds the new one."""

    def __init__(self, model: tf.keras.Model, pruning: Pruning) -> None:
        self.origins: dict = {}
        self._model = model
        self._pruning = pruning
        self._paths = {id(path.addition): path for path in pruning.paths}
        self._skipped = {id(layer) for path in pruning.paths for layer in path.layers}
        self._values: dict[str, Value] = {}  # as Keras wants them: str(id(old tensor)) -> new

    def run(self) -> tf.keras.Model:
        """The new model."""
        old = self._model
        (image,) = old.inputs
        inputs = tf.keras.Input(image.shape[1:], name=old.input_names[0], dtype=image.dtype)
        self._put(image, inputs)
        for layer in old.layers:
            if kind_of(layer) is LayerKind.INPUT:
                continue
            if id(layer) in self._paths:
                self._put(layer.output, self._without(self._paths[id(layer)]))
            elif id(layer) not in self._skipped:
                self._put(layer.output, self._again(layer))
        return tf.keras.Model(inputs, self._get(old.outputs[0]), name=old.name)

    def _put(self, old: Any, new: Any) -> None:
        self._values[str(id(old))] = Value(new)

    def _get(self, old: Any) -> Any:
        return self._values[str(id(old))].pop()

    def _again(self, layer: tf.keras.layers.Layer) -> Any:
        """The output of a layer like ``layer``, of the channels that stay."""
        config = layer.get_config()
        # Keras' own way from the symbolic arguments of a call to other ones (models/forward.py).
        (node,) = layer.inbound_nodes
        arguments, options = node.map_arguments(self._values)
        if exact_kind(layer) in _SIZES:
            config[_SIZES[exact_kind(layer)]] = len(self._indices(layer.kernel)[-1])
        if _is_unsafe(layer, arguments):
            name = f"{layer.name}_strides"
            strides = tf.keras.layers.AveragePooling2D(1, layer.strides, name=name)
            arguments = [strides(*arguments)]
            config["strides"] = (1, 1)
        smaller = type(layer).from_config(config)
        output = smaller(*arguments, **options)
        for old, new in zip(layer.weights, smaller.weights):
            indices = self._indices(old)
            new.assign(old.numpy()[np.ix_(*indices)])
            self.origins[new.ref()] = (old, indices)
        return output

    def _without(self, path: EmptyPath) -> Any:
        """The output of an addition that has lost ``path``."""
        kept = self._get(path.kept)
        if not path.constant.any():
            return kept
        layer = ChannelOffset(name=path.addition.name)
        output = layer(kept)
        number = self._pruning.channels.tensors[id(path.addition.output)]
        stays = np.arange(len(path.constant)) if number is None else self._pruning.staying[number]
        layer.offset.assign(path.constant[stays])
        replaced = _last_summand(path.layers[-1])
        if replaced is not None:
            self.origins[layer.offset.ref()] = (replaced, (stays,))
        return output

    def _indices(self, variable: tf.Variable) -> tuple[np.ndarray, ...]:
        """The indices that stay of each axis."""
        unknown = (None,) * variable.shape.rank
        numbers = self._pruning.channels.axes.get(variable.ref(), unknown)
        return tuple(
            np.arange(size) if number is None else self._pruning.staying[number]
            for size, number in zip(variable.shape, numbers)
        )


def _is_unsafe(layer: tf.keras.layers.Layer, arguments: Sequence) -> bool:
    """Whether TensorFlow 2.15 may write over foreign memory when it trains such a layer.

    With fewer input channels than a vector register has numbers, oneDNN's weight gradient of a
    strided 1 x 1 convolution does (https://github.com/uxlfoundation/oneDNN/issues/6035). Leaving
    out the pixels first, then convolving them all, is the same.
    """
    return (
        exact_kind(layer) is LayerKind.CONV
        and layer.kernel_size == (1, 1)
        and layer.strides != (1, 1)
        and arguments[0].shape[-1] < AVX512_FLOATS
    )


def _last_summand(layer: tf.keras.layers.Layer) -> Optional[tf.Variable]:
    """The variable that ``layer`` adds to its result last, if it does.

    A constant that takes the place of the result has the derivatives of this variable, and so
    can go on with its momentum.
    """
    if kind_of(layer) is LayerKind.BATCH_NORM:
        return layer.beta
    if exact_kind(layer) in _SIZES and layer.activation is tf.keras.activations.linear:
        return layer.bias
    return None
