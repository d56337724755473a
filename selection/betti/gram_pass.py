"""One compiled forward pass that turns layers into Gram matrices while it goes through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from models.batch_norm import (
    FixedBatchNormalization,
    has_batch_statistics,
    has_fixed_statistics,
)
from models.forward import Override, forward
from models.layers import Layer
from models.network import Network
from selection.betti.distances import channel_grams, layer_gram, weighted_grams

WAITING = 4  # results that the device may be ahead of the host

Receiver = Callable[[Layer, np.ndarray], Any]
Reduction = Callable[[tf.Tensor], "list[tf.Operation]"]


class GramPass:
    """The forward pass of ``network`` over a fixed number of images, compiled at the first call.

    The activations are the real ones of the real graph, and no gradient is involved. Layers are
    computed one after another, each is reduced to its Gram matrix before its activation goes on,
    and nothing is computed twice: no activation outlives its use. Where batch norm normalises by
    the batch at hand, it does so by mini-batches.

    ``compiled`` is the pass itself, a ``tf.function`` of the images.

    Batch norm by moving statistics scales and shifts each channel of the layer before it, so
    both Gram matrices come out of one reading of that layer's activation.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        mini_batch: int,
        *,
        by_channel: bool = False,
    ) -> None:
        """For ``layers`` of ``network``, in execution order.

        Args:
            mini_batch: samples that batch statistics are taken of.
            by_channel: one Gram matrix for every output channel instead of one for all.
        """
        self._network = network
        self._layers = tuple(layers)
        self._mini_batch = mini_batch
        self._by_channel = by_channel
        with tf.device("/CPU:0"):
            self._queue = tf.queue.FIFOQueue(WAITING, [tf.int32, tf.float64])
        self.compiled = tf.function(self._trace, autograph=False)

    def __call__(self, images: np.ndarray, receive: Receiver) -> list:
        """``receive(layer, gram)`` for each layer, called while the pass goes on.

        One thread does all of that. The pass does not need Python's lock, but ripser never lets
        go of it, so that more threads would only wait for each other: with two, 20 matrices of
        40 samples took 0.6 ms each, with one 0.4 ms.

        Args:
            images: raw pixels ``[n, size, size, 3]`` in [0, 255], any type.
            receive: gets the Gram matrix as float64 ``[n, n]`` or, by channel,
                ``[channels, n, n]``.

        Returns:
            What ``receive`` returned, in the order of the layers.
        """
        with ThreadPoolExecutor(1) as host:
            results = host.submit(self._receive_all, receive)
            try:
                self.compiled(tf.constant(images))
            except BaseException:
                self._queue.close(cancel_pending_enqueues=True)  # else the thread waits for ever
                raise
            return results.result()

    def _receive_all(self, receive: Receiver) -> list:
        results = [None] * len(self._layers)
        waiting = len(results)
        try:
            while waiting:
                position, gram = self._queue.dequeue()
                waiting -= 1
                results[int(position)] = receive(self._layers[int(position)], gram.numpy())
        finally:
            for _ in range(waiting):  # else the pass waits for ever
                self._queue.dequeue()
        return results

    def _trace(self, images: tf.Tensor) -> None:
        overrides = {
            id(layer): self._by_mini_batches(layer)
            for layer in self._network.model.layers
            if has_batch_statistics(layer)
        }
        norms = {} if self._by_channel else self._norms_read_with(images.shape[0])
        reductions = {
            position: self._reduction(position, norms.get(position))
            for position in range(len(self._layers))
            if position not in norms.values()
        }
        done: list[tf.Operation] = []
        for position, reduce in reductions.items():
            keras_layer = self._layers[position].keras_layer
            compute = overrides.get(id(keras_layer), keras_layer)
            overrides[id(keras_layer)] = _observed(compute, reduce, done)
        forward(self._network.model, tf.cast(images, tf.float32), overrides)

    def _norms_read_with(self, samples: int) -> dict[int, int]:
        """Position of a layer -> position of the batch norm that only scales and shifts it."""
        producers = {id(layer.activation): at for at, layer in enumerate(self._layers)}
        norms: dict[int, int] = {}
        for at, layer in enumerate(self._layers):
            norm, shape = layer.keras_layer, layer.activation.shape
            # With fewer positions than samples, a channel's Gram matrix would be larger than
            # the channel, and adding them up would take longer than reading once more.
            if (
                has_fixed_statistics(norm)
                and list(norm.axis) == [shape.rank - 1]
                and math.prod(shape[1:-1]) >= samples
                and id(norm.input) in producers
            ):
                norms.setdefault(producers[id(norm.input)], at)
        return norms

    def _reduction(self, position: int, norm: Optional[int]) -> Reduction:
        """Hands over what is made of the activation of one layer, or of it and its norm."""

        def reduce(activation: tf.Tensor) -> list[tf.Operation]:
            if self._by_channel:
                return [self._hand_over(position, channel_grams(activation))]
            if norm is None:
                return [self._hand_over(position, layer_gram(activation))]
            squares = _squared_scale(self._layers[norm].keras_layer)
            both = weighted_grams(activation, tf.stack([tf.ones_like(squares), squares]))
            return [self._hand_over(position, both[0]), self._hand_over(norm, both[1])]

        return reduce

    def _hand_over(self, position: int, gram: tf.Tensor) -> tf.Operation:
        with tf.device("/CPU:0"):
            return self._queue.enqueue((position, gram))

    def _by_mini_batches(self, layer: FixedBatchNormalization) -> Override:
        def call(inputs: tf.Tensor) -> tf.Tensor:
            starts = range(0, inputs.shape[0], self._mini_batch)
            parts = [layer(inputs[start : start + self._mini_batch]) for start in starts]
            return tf.concat(parts, axis=0)

        return call


def _observed(compute: Override, reduce: Reduction, done: list[tf.Operation]) -> Override:
    """``compute``, whose output goes on once ``reduce``, and so on in ``done``, is through with it.

    It starts once the layer before is done, too: else branches would be alive side by side.
    """

    def call(*arguments: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(done):
            output = compute(*arguments)
        done[:] = reduce(output)
        with tf.control_dependencies(done):
            return tf.identity(output)

    return call


def _squared_scale(norm: FixedBatchNormalization) -> tf.Tensor:
    """By how much batch norm scales squared distances, float64 ``[channels]``.

    NaN where its shift is not finite, so that this is noticed as in any other layer.
    """
    scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.gamma is not None:
        scale *= norm.gamma
    shift = norm.moving_mean if norm.beta is None else norm.moving_mean + norm.beta
    squares = tf.cast(scale, tf.float64) ** 2
    return tf.where(tf.math.is_finite(shift), squares, np.nan)
