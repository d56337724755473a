"""How many numbers of a network are trained, and how many are not."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple, Optional

import tensorflow as tf

from models.network import Network
from models.trained import factor_shapes


class Elements(NamedTuple):
    """Elements of trained variables, and of all others: moving statistics are among the latter."""

    trained: int
    frozen: int


def count_elements(
    network: Network,
    trained: Collection[tf.Variable],
    shares: Optional[Mapping] = None,
    ranks: Optional[Mapping] = None,
) -> Elements:
    """Of all variables of ``network.model``, and of the factors of those that have ``ranks``.

    Args:
        shares: by ``variable.ref()``, the share of a variable that is trained, where not all is.
        ranks: by ``variable.ref()``, that of the factors (``models/trained.py``) by which it is
            trained, where it is.

    Raises:
        ValueError: ``trained`` holds a variable that is not the network's.
    """
    shares, ranks = shares or {}, ranks or {}
    refs = trained_refs(network, trained)
    total = changing = 0
    for variable in network.model.weights:
        ref, size = variable.ref(), math.prod(variable.shape)
        total += size
        if ref in ranks:
            factors = factor_shapes(variable.shape, ranks[ref])
            total += factors.elements
            changing += math.prod(factors.second)
        elif ref in refs:
            changing += round(size * shares.get(ref, 1.0))
    return Elements(changing, total - changing)


def trained_refs(network: Network, trained: Collection[tf.Variable]) -> set:
    """``variable.ref()`` of each of ``trained``.

    Raises:
        ValueError: one of them is not the network's.
    """
    refs = {variable.ref() for variable in trained}
    foreign = refs - {variable.ref() for variable in network.model.weights}
    if foreign:
        names = ", ".join(sorted(ref.deref().name for ref in foreign))
        raise ValueError(f"not variables of {network.model.name}: {names}")
    return refs
