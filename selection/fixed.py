"""Train types that need no look at the data: a fixed rule says which layers train."""

from __future__ import annotations

from selection.ranking import make_selection, number_selected
from selection.record import Selection
from selection.registry import SelectionRequest


def everything(request: SelectionRequest, train_type: str) -> Selection:
    """Full training: every layer."""
    layers = request.network.layers
    return make_selection(layers, [True] * len(layers), train_type=train_type)


def head_only(request: SelectionRequest, train_type: str) -> Selection:
    """Traditional transfer learning: the classifier head alone."""
    return _last(request, 1, train_type)


def last_layers(request: SelectionRequest, train_type: str) -> Selection:
    """The last ``number_selected(rho, L)`` layers in execution order, head included."""
    count = number_selected(request.rho, len(request.network.layers))
    return _last(request, count, train_type, rho=request.rho)


def _last(request: SelectionRequest, count: int, train_type: str, rho=None) -> Selection:
    layers = request.network.layers
    chosen = [layer.index >= len(layers) - count for layer in layers]
    return make_selection(layers, chosen, train_type=train_type, rho=rho)
