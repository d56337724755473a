"""Mini-batches to one distance matrix per layer (or channel), in one pass or in little memory.

No label and no gradient is involved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.layers import Layer
from models.network import Network
from selection.betti.distances import distances_from_gram
from selection.betti.gram_pass import GramPass
from selection.selection_mode import SelectionMode


def layer_distances(
    network: Network, images: np.ndarray, mini_batch: int, mode: SelectionMode = SelectionMode.FAST
) -> np.ndarray:
    """Pooled Euclidean distances between the samples, at every layer (paper section 4.2.1).

    Args: see :func:`pooled`.

    Returns:
        float64 ``[layers, samples, samples]`` in execution order.

    Raises:
        RunError: a layer's activations are not finite; the message names the layer.
    """
    return np.stack(pooled(network, network.layers, images, mini_batch, _itself, mode=mode))


def _itself(distances: np.ndarray) -> np.ndarray:
    return distances


def pooled(
    network: Network,
    layers: Sequence[Layer],
    images: np.ndarray,
    mini_batch: int,
    reduce: Callable[[np.ndarray], Any],
    *,
    mode: SelectionMode = SelectionMode.FAST,
    by_channel: bool = False,
) -> list:
    """``reduce(distances)`` of each of ``layers``, over all ``images`` as one point cloud.

    ``FAST`` takes all images through the network at once. ``PAIRS`` takes as many as a mini-batch
    at a time, in :func:`number_of_passes` forward passes, so that every two of them meet in one:
    it needs the memory of inference, but many times the arithmetic. Distances are the same up to
    the rounding of float32, 1e-7.

    Args:
        layers: in execution order.
        images: raw pixels ``[samples, size, size, 3]`` in [0, 255], any type.
        mini_batch: samples of a training step. It only changes the result where batch norm uses
            batch statistics: otherwise the samples do not see each other.
        reduce: from float64 ``[samples, samples]``, with ``by_channel`` from
            ``[channels, samples, samples]``.

    Raises:
        RunError: a layer's activations are not finite; the message names the layer.
    """
    one_pass = GramPass(network, layers, mini_batch, by_channel=by_channel)
    if mode == SelectionMode.FAST:
        return one_pass(images, lambda layer, gram: reduce(distances_from_gram(gram, layer)))
    block = block_size(network, mini_batch)
    return [reduce(matrix) for matrix in _by_pairs(one_pass, layers, images, block)]


def number_of_passes(network: Network, samples: int, mini_batch: int, mode: SelectionMode) -> int:
    """Forward passes that pooling ``samples`` takes: 1 for ``FAST``.

    With ``PAIRS`` every pair of blocks of half a mini-batch is one pass of a mini-batch: 45 for 40
    samples and mini-batches of 8, each of 8 samples. Where batch norm uses batch statistics,
    mini-batches cannot be taken apart: every pair of whole ones is a pass, of twice the memory,
    10 for 40 samples.
    """
    return (
        1 if mode == SelectionMode.FAST else len(_pairs(samples, block_size(network, mini_batch)))
    )


def block_size(network: Network, mini_batch: int) -> int:
    """Samples in each of the two blocks of a pass with ``SelectionMode.PAIRS``."""
    return mini_batch if network.batch_statistics else max(1, mini_batch // 2)


def images_per_pass(network: Network, samples: int, mini_batch: int, mode: SelectionMode) -> int:
    """Images in each forward pass that pools ``samples``."""
    return (
        samples if mode == SelectionMode.FAST else min(samples, 2 * block_size(network, mini_batch))
    )


def _pairs(samples: int, block: int) -> list[np.ndarray]:
    """Indices of the samples of each pass, so that every two samples meet in one."""
    if samples <= 2 * block:
        return [np.arange(samples)]
    everyone = np.arange(samples)
    blocks = [everyone[start : start + block] for start in range(0, samples, block)]
    return [np.concatenate(pair) for pair in itertools.combinations(blocks, 2)]


def _by_pairs(
    one_pass: GramPass, layers: Sequence[Layer], images: np.ndarray, block: int
) -> list[np.ndarray]:
    """Distances per layer, float64 ``[samples, samples]`` or ``[channels, samples, samples]``.

    The samples of a pass are centred on their own mean: distances do not depend on the centre,
    and no mean over all samples has to be known.
    """
    samples = len(images)
    distances: dict[int, np.ndarray] = {}
    for chosen in _pairs(samples, block):
        blocks = one_pass(images[chosen], lambda layer, gram: distances_from_gram(gram, layer))
        for position, found in enumerate(blocks):
            if position not in distances:
                distances[position] = np.zeros([*found.shape[:-2], samples, samples])
            distances[position][..., chosen[:, None], chosen] = found
    return [distances[position] for position in range(len(layers))]
