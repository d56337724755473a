"""What a train type is: what it is called, what it takes, and where its function is.

Importing this module does not import TensorFlow.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from selection.request import SelectionRequest
    from selection.selection import Selection


@runtime_checkable
class KeepsState(Protocol):
    """A strategy that keeps something between selections, which a checkpoint has to have."""

    def state(self) -> list[dict]:
        """What is kept, as plain JSON types."""

    def restore(self, state: list[dict]) -> None:
        """Go on with what :meth:`state` gave."""


@dataclass(frozen=True)
class TrainType:
    """One entry.

    Attributes:
        function: ``module:function`` in this package, or a class whose instances keep something
            between selections (:class:`KeepsState`); called with a :class:`SelectionRequest`, the
            name as ``train_type`` and keyword ``options``, it returns a :class:`Selection`.
        cost: what selecting takes: ``none`` (a fixed rule), ``forward`` passes, or a backward
            pass through the whole network for ``activation_gradients`` or ``variable_gradients``.
        uses_rho: whether ``--rho`` matters.
        order: how layers are taken one after another until rho, or a memory budget, ends it: by
            ``score``, from the ``last`` one back, or empty for those that choose otherwise.
        keeps_budget: whether one without such an order can keep to a memory budget all the same,
            if only by fewer images at a time.
        by_betti: whether it counts Betti numbers of the pooled activations.
        by_distances: whether it looks at something else in the distances between them.
        by_channels: whether it can take some of the channels of a layer (``--rho_ch``).
        always_head: whether the head is trained whatever ``--head`` says.
        schedule: ``once``, or what changes during training: ``elastic``, ``prune``, and ``redraw``
            (anew in every epoch).
    """

    name: str
    function: str
    summary: str
    cost: str = "none"
    uses_rho: bool = True
    order: str = ""
    keeps_budget: bool = False
    by_betti: bool = False
    by_distances: bool = False
    by_channels: bool = False
    always_head: bool = False
    schedule: str = "once"
    aliases: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def needs_labels(self) -> bool:
        """Whether a selection takes gradients of the loss."""
        return self.cost in ("activation_gradients", "variable_gradients")

    @property
    def pools(self) -> bool:
        """Whether it makes one point cloud a layer of the pooled images (``--selection_mode``)."""
        return self.by_betti or self.by_distances

    @property
    def takes_budget(self) -> bool:
        """Whether it goes with ``--memory_budget``."""
        return bool(self.order) or self.keeps_budget

    def strategy(self) -> functools.partial[Selection]:
        """What chooses the layers of a :class:`SelectionRequest`; imports TensorFlow.

        To be kept as long as the run: its ``func`` may keep something from one selection to the
        next.
        """
        module, name = self.function.split(":")
        found = getattr(importlib.import_module(f"selection.{module}"), name)
        chooses = found() if isinstance(found, type) else found
        return functools.partial(chooses, train_type=self.name, **dict(self.options))

    def select(self, request: SelectionRequest) -> Selection:
        """One selection; imports TensorFlow."""
        return self.strategy()(request)
