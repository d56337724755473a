"""Train types that need no look at the data: a fixed rule says which layers train."""

from __future__ import annotations

import numpy as np

from selection.cut import cut
from selection.ranking import fixed_selection, make_selection, select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection


def everything(request: SelectionRequest, train_type: str) -> Selection:
    """Full training: every layer.

    Raises:
        UserError: a memory budget does not allow it, with however few images at a time.
    """
    return fixed_selection(request, [True] * len(request.network.layers), train_type)


def head_only(request: SelectionRequest, train_type: str) -> Selection:
    """Traditional transfer learning: the classifier head alone.

    Raises:
        UserError: a memory budget does not allow it.
    """
    head = request.network.head
    chosen = [layer is head for layer in request.network.layers]
    return fixed_selection(request, chosen, train_type)


def last_layers(request: SelectionRequest, train_type: str) -> Selection:
    """The last ``number_selected(rho, L)`` layers in execution order, head included.

    With a memory budget, as many as fit.
    """
    layers = request.network.layers
    prefix = cut(request, range(len(layers) - 1, -1, -1))
    return make_selection(
        layers,
        prefix.chosen(layers),
        train_type=train_type,
        rho=request.rho,
        figures=dict(prefix.figures),
    )


def norms_and_biases(request: SelectionRequest, train_type: str) -> Selection:
    """gamma and beta of every norm, every bias, and the whole head (TinyTL's bias-only way).

    Raises:
        UserError: a memory budget does not allow it.
    """
    layers = request.network.layers
    # The head's kernel and bias, and of the others all variables of one axis: exactly the gammas,
    # betas and biases.
    chosen = [
        [
            position
            for position, variable in enumerate(layer.variables)
            if layer is request.network.head or variable.shape.rank == 1
        ]
        for layer in layers
    ]
    return fixed_selection(request, chosen, train_type)


def random_layers(request: SelectionRequest, train_type: str) -> Selection:
    """Control: as many layers as AdaBet would take, drawn by the run's seed."""
    layers = request.network.layers
    scores = np.random.default_rng(request.seed).permutation(len(layers)).astype(float)
    return _by_score(request, scores, train_type)


def smallest_layers(request: SelectionRequest, train_type: str) -> Selection:
    """Control: as many layers as AdaBet would take, the ones with the smallest activations."""
    scores = [1 / layer.activation_size for layer in request.network.layers]
    return _by_score(request, scores, train_type)


def _by_score(request: SelectionRequest, scores, train_type: str) -> Selection:
    selection, _ = select_ranked(request, scores, train_type=train_type)
    return selection
