"""Rivals that draw at random what is trained, anew each time they are asked.

``train/schedule/redraw.py`` asks before every epoch. Both train the head in addition.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from selection.cut import LayerPrefix, channels_of
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection


class RandomLayers:
    """LISA: the head and some layers, drawn uniformly, while all others are frozen.

    Pan et al., NeurIPS 2024, arXiv 2403.17919, where the embeddings are trained, too, and layers
    are a transformer's blocks. Here it is ``number_selected(rho, L)`` layers, or as many as fit a
    memory budget, out of all but the head.
    """

    by_channels = False

    def __init__(self) -> None:
        self._draws = 0

    def __call__(self, request: SelectionRequest, train_type: str) -> Selection:
        """The next draw, a function of the seed and of how many there were."""
        generator = np.random.default_rng([request.seed, self._draws])
        self._draws += 1
        others = generator.permutation(len(request.network.layers) - 1) + 1.0
        selection, prefix = select_ranked(
            replace(request, always_head=True),
            [*others, 0.0],
            train_type=train_type,
            by_channels=self.by_channels,
        )
        return self._drawn(generator, request, selection, prefix)

    def state(self) -> list[dict]:
        """How many draws there were."""
        return [{"draws": self._draws}]

    def restore(self, state: list[dict]) -> None:
        """Go on with what :meth:`state` gave."""
        (only,) = state
        self._draws = only["draws"]

    def _drawn(
        self,
        generator: np.random.Generator,  # noqa: ARG002
        request: SelectionRequest,  # noqa: ARG002
        selection: Selection,
        prefix: LayerPrefix,  # noqa: ARG002
    ) -> Selection:
        return selection


class RandomChannels(RandomLayers):
    """TraDy: channels drawn uniformly in layers, within the memory that there is.

    Quelennec et al., arXiv 2510.19675, where the layers are chosen beforehand, by gradients on
    other tasks, and channels are those of a layer's input. Here layers are drawn, too, and of
    each the share rho_ch of the output channels, which is what can be trained in part here; a
    budget takes what fits of the last one. Of the head it is all.
    """

    by_channels = True

    def _drawn(
        self,
        generator: np.random.Generator,
        request: SelectionRequest,
        selection: Selection,
        prefix: LayerPrefix,
    ) -> Selection:
        layers = request.network.layers
        chosen = {}
        for index in sorted(prefix.counts):
            there = channels_of(layers[index])
            assert there is not None, "only layers with channels are taken in part"
            some = generator.choice(there, prefix.counts[index], replace=False)
            chosen[index] = tuple(sorted(some.tolist()))
        rows = tuple(replace(row, channels=chosen.get(row.index)) for row in selection.layers)
        return replace(selection, layers=rows)
