"""AdaBet's b1 with what is computed as one chosen as one, and the head always.

A batch norm behind a convolution scales and shifts it: either without the other is half of an
operation, and their clouds are nearly the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from models.kinds import LINEAR, LayerKind
from models.layers import Layer
from selection.cut import no_room, number_selected, trained_of
from selection.ranking import make_selection, order_of
from selection.request import MemoryBudget, SelectionRequest
from selection.selection import Selection
from selection.strategies.adabet import layer_betti

Unit = tuple[int, ...]  # indices of layers


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The units with the highest b1, ``number_selected(rho, units)`` of them, and the head.

    A unit's b1 is that of its last layer. With a memory budget, the head and as many units as fit.
    rho 0 trains nothing.

    Raises:
        UserError: the budget does not even allow the head.
        RunError: a layer's activations are not finite.
    """
    started = time.perf_counter()
    layers = request.network.layers
    images = request.sample_images(request.batch_size * request.num_batches)
    betti, cost = layer_betti(request, images)
    units = units_of(layers)
    by_unit = [float(betti[unit[-1]]) for unit in units]
    order = order_of(by_unit)
    figures = dict(cost)
    if request.budget is not None:
        taken = _within(request.budget, layers, [units[at] for at in order])
        parts = [one for unit in taken for at in unit for one in trained_of(layers[at])]
        figures["memory_budget_mb"] = request.budget.limit
        figures["estimated_mb"] = request.budget.needs(parts)
        count = len(taken) - 1
    else:
        assert request.rho is not None, "a request has a rho or a budget"
        count = number_selected(request.rho, len(units))
        taken = [units[at] for at in order[:count]]
        if taken:
            taken.append((layers[-1].index,))
    chosen = {at for unit in taken for at in unit}
    scores = {at: score for unit, score in zip(units, by_unit) for at in unit}
    by_layer = [scores[layer.index] for layer in layers]
    last = by_unit[order[count - 1]] if count else None
    selection = make_selection(
        layers,
        [layer.index in chosen for layer in layers],
        train_type=train_type,
        rho=request.rho,
        scores=by_layer,
        betti=betti,
        ties_at_cut=0 if last is None else by_layer.count(last),
        samples=len(images),
        figures=figures,
    )
    return selection.timed(time.perf_counter() - started)


def units_of(layers: Sequence[Layer]) -> list[Unit]:
    """Each batch norm with the convolution or dense layer that it reads, all others alone.

    In the order of their first layers.
    """
    linear = {id(layer.activation): layer.index for layer in layers if layer.kind in LINEAR}
    behind: dict[int, int] = {}  # index of a linear layer -> of its batch norm
    for layer in layers:
        if layer.kind is LayerKind.BATCH_NORM:
            before = linear.get(id(layer.keras_layer.input))
            if before is not None:
                behind.setdefault(before, layer.index)
    norms = set(behind.values())
    return [
        (layer.index, behind[layer.index]) if layer.index in behind else (layer.index,)
        for layer in layers
        if layer.index not in norms
    ]


def _within(budget: MemoryBudget, layers: Sequence[Layer], order: Sequence[Unit]) -> list[Unit]:
    """The head, and of ``order`` as many as fit beside it, up to the first that does not.

    Or without those that do not, of a budget that passes over them.
    """
    head = (layers[-1].index,)
    taken: list[Unit] = []
    trained: list = []
    for unit in [head, *(unit for unit in order if unit != head)]:
        longer = [*trained, *(one for at in unit for one in trained_of(layers[at]))]
        if not budget.fits(longer):
            if budget.passes_over and taken:
                continue
            break
        taken.append(unit)
        trained = longer
    if not taken:
        raise no_room(budget, layers, layers[-1])
    return taken
