"""LoRA: the head, and in place of the last layers' kernels low-rank factors that are added to them.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685): W + A B, of a
rank r. A is frozen, as in LoRA-FA (arXiv 2308.03303), so that of a layer r channels of its output's
size are kept for the gradient, and not its input (``train/gradients/factors.py``). What is no such
kernel (batch norms, depthwise convolutions, biases) stays frozen; of the head all is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from models.kinds import takes_factors
from models.layers import Layer
from models.trained import Trained
from selection.cut import cut, trained_of
from selection.ranking import make_selection
from selection.request import SelectionRequest
from selection.selection import Selection


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The head, and then the last of the layers that take factors.

    They are ``number_selected(rho, K)`` together, K being how many there are with the head, or as
    many as fit a memory budget.

    Raises:
        UserError: the budget does not even allow the head.
    """
    layers, head, rank = request.network.layers, request.network.head, request.lora_rank
    others = [one for one in layers if one is not head and takes_factors(one.keras_layer)]

    def by_factors(layer: Layer) -> list[Trained]:
        if layer is head:
            return trained_of(layer)
        return [Trained(layer.variables[at], None, layer, rank) for at in layer.kernel_places]

    def needs(parts: Sequence[Trained]) -> float:
        assert request.budget is not None, "somebody asks what fits it"
        chosen = {part.layer: None for part in parts}
        return request.budget.needs([one for layer in chosen for one in by_factors(layer)])

    order = [layer.index for layer in (head, *reversed(others))]
    budget = request.budget and replace(request.budget, needs=needs, measured=None)
    prefix = cut(replace(request, always_head=True, budget=budget), order)
    places: list[Sequence[int]] = [()] * len(layers)
    for index in prefix.layers:
        layer = layers[index]
        places[index] = range(len(layer.variables)) if layer is head else layer.kernel_places
    selection = make_selection(
        layers, places, train_type=train_type, rho=request.rho, figures=dict(prefix.figures)
    )
    rows = (
        replace(row, factor_rank=rank) if row.selected and row.index != head.index else row
        for row in selection.layers
    )
    return replace(selection, layers=tuple(rows))
