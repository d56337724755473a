"""TinyTL-B: biases and betas with the head, alone or beside layers that something else chooses.

Cai et al., "TinyTL: Reduce Memory, Not Parameters for Efficient On-Device Learning", NeurIPS 2020,
arXiv 2007.11622. The gradient of what is added to an activation takes no activation: with
``--frozen lean`` a step keeps masks alone for them, one bit for each element of each ReLU. Gammas,
which need their input, stay frozen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from common.errors import UserError
from models.graph.operations import operations
from models.layers import Layer
from models.network import Network
from models.trained import Trained
from selection.cut import LayerPrefix, cut_at_budget, cut_at_rho
from selection.ranking import fixed_selection, make_selection, order_of
from selection.request import MemoryBudget, SelectionRequest
from selection.selection import Selection
from selection.strategies.adabet import layer_betti


def alone(request: SelectionRequest, train_type: str) -> Selection:
    """All biases and betas, and the whole head.

    Raises:
        UserError: a memory budget does not allow it.
    """
    return fixed_selection(request, bias_positions(request.network), train_type)


def beside_last(request: SelectionRequest, train_type: str) -> Selection:
    """These, and the last ``number_selected(rho, L)`` layers, or as many as fit a budget.

    Raises:
        UserError: a budget does not even allow the biases and the head.
    """
    layers = request.network.layers
    chosen, prefix = _beside(request, range(len(layers) - 1, -1, -1))
    return make_selection(
        layers, chosen, train_type=train_type, rho=request.rho, figures=dict(prefix.figures)
    )


def beside_betti(request: SelectionRequest, train_type: str) -> Selection:
    """These, and AdaBet's layers: the top rho by b1 / |a|, or as many as fit a budget.

    Raises:
        UserError: a budget does not even allow the biases and the head.
        RunError: a layer's activations are not finite.
    """
    started = time.perf_counter()
    layers = request.network.layers
    images = request.sample_images(request.batch_size * request.num_batches)
    betti, cost = layer_betti(request, images)
    scores = [b1 / layer.activation_size for b1, layer in zip(betti, layers)]
    chosen, prefix = _beside(request, order_of(scores))
    selection = make_selection(
        layers,
        chosen,
        train_type=train_type,
        rho=request.rho,
        scores=scores,
        betti=betti,
        ties_at_cut=0 if prefix.last is None else scores.count(scores[prefix.last]),
        samples=len(images),
        figures={**prefix.figures, **cost},
    )
    return selection.timed(time.perf_counter() - started)


def bias_positions(network: Network) -> list[list[int]]:
    """Per layer, the positions of its biases and betas; of the head, of all its variables.

    They are the vectors of which ``models/graph/`` says that they are added.
    """
    added = {
        variable.ref()
        for operation in operations(network.model)
        for variable in operation.weights.offsets
        if variable.shape.rank == 1
    }
    return [
        [
            position
            for position, variable in enumerate(layer.variables)
            if layer is network.head or variable.ref() in added
        ]
        for layer in network.layers
    ]


def _beside(
    request: SelectionRequest, order: Sequence[int]
) -> tuple[list[Sequence[int]], LayerPrefix]:
    """Positions of what is trained per layer, and what was taken of ``order``; rho 0 is nothing."""
    layers = request.network.layers
    biases = bias_positions(request.network)
    if request.budget is None:
        assert request.rho is not None, "a request has a rho or a budget"
        prefix = cut_at_rho(layers, order, request.rho)
        if not prefix.layers:
            return [() for _ in layers], prefix
    else:
        prefix = _within(request.budget, layers, biases, order)
    chosen: list[Sequence[int]] = [
        range(len(layer.variables)) if layer.index in prefix.layers else positions
        for layer, positions in zip(layers, biases)
    ]
    return chosen, prefix


def _within(
    budget: MemoryBudget,
    layers: Sequence[Layer],
    biases: Sequence[Sequence[int]],
    order: Sequence[int],
) -> LayerPrefix:
    """What fits of ``order`` beside the biases, which come first."""
    base = [
        Trained(layer.variables[position], None, layer)
        for layer, positions in zip(layers, biases)
        for position in positions
    ]

    def with_biases(trained: Sequence[Trained]) -> float:
        there = {one.variable.ref() for one in trained}
        return budget.needs([*trained, *(one for one in base if one.variable.ref() not in there)])

    least = with_biases(())
    if least > budget.limit:
        raise UserError(
            f"--memory_budget {budget.limit:g} leaves no room for the biases and the head, which "
            f"take {least:.2f} MB; allow that, or use a smaller --batch_size"
        )
    both = MemoryBudget(budget.limit, with_biases, passes_over=budget.passes_over)
    prefix = cut_at_budget(layers, order, both)
    needs = with_biases(prefix.trained(layers))
    return replace(prefix, figures={"memory_budget_mb": budget.limit, "estimated_mb": needs})
