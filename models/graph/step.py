"""What a training step on some variables takes of each operation: gradients, and what is saved."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Optional

import tensorflow as tf

from common.units import FLOAT_BYTES
from models.graph.operation import Operation, Saved
from models.kinds import LINEAR, LayerKind, kind_of
from models.recompute import Recompute
from models.trained import factor_shapes


@dataclass
class Kept:
    """What one operation saves for the backward pass.

    Attributes:
        tensors: numbers of tensors of the forward pass.
        own: bytes that it makes for that purpose.
    """

    tensors: set[int] = field(default_factory=set)
    own: int = 0


class Step:
    """One training step, or inference with nothing trained.

    Attributes:
        graph: the operations in execution order.
        needs_grad: by tensor, whether its gradient is computed.
        kept: by output, what the operation saves for the backward pass.
        products: outputs in recomputed branches that are kept all the same.
    """

    def __init__(
        self,
        graph: Sequence[Operation],
        trained: Collection[tf.Variable],
        batch_size: int,
        shares: Mapping,
        stay: Collection[int],
        recompute: Recompute = Recompute.ALL,
        ranks: Mapping = MappingProxyType({}),
    ) -> None:
        """Arguments as those of ``models.graph.liveness.simulate``."""
        self.graph = graph
        self._batch = batch_size
        self._trained = {variable.ref() for variable in trained}
        self._shares = shares
        self._ranks = ranks
        self._elements = {op.output: op.elements for op in graph}
        self._branches: dict[int, list[Operation]] = {}
        for op in graph:
            if op.branch is not None and recompute is not Recompute.NONE:
                self._branches.setdefault(op.branch, []).append(op)
        self.needs_grad: dict[int, bool] = {}
        for op in graph:
            trains = bool(self._trained_of(op.weights.all))
            self.needs_grad[op.output] = trains or bool(self.needs_input_grad(op))
        self.kept = {op.output: self._kept_by(op) for op in graph}
        for tensor in stay:
            self.kept[tensor].tensors.add(tensor)
        self._read_masks_off_kept_outputs()
        self.products: set[int] = set()
        if recompute is Recompute.CHEAP:
            for branch in self._branches.values():
                self.products |= self._products_of(branch)

    def of_images(self, count: int) -> Step:
        """The same step on so many images at a time, as far as nothing is kept of them."""
        some = copy.copy(self)
        some._batch = count
        return some

    def before_gradients(self, layers: Collection[int]) -> list[Operation]:
        """The operations, of ``layers`` by ``id``, before anything that has a gradient."""
        others = [
            op.unit for op in self.graph if self.needs_grad[op.output] or id(op.layer) not in layers
        ]
        first = min(others, default=None)
        return [op for op in self.graph if first is None or op.unit < first]

    def size(self, elements: float) -> int:
        """Bytes of ``elements`` of each sample of the batch."""
        return math.ceil(self._batch * elements * FLOAT_BYTES)

    def needs_input_grad(self, op: Operation) -> list[int]:
        """The inputs of ``op`` whose gradients are computed."""
        return [tensor for tensor in op.inputs if self.needs_grad[tensor]]

    def gradient_bytes(self, op: Operation) -> int:
        """Of the gradients of the variables of ``op``."""
        elements = sum(map(self._gradient_elements, self._trained_of(op.weights.all)))
        return round(elements * FLOAT_BYTES)

    def by_factors(self, op: Operation) -> Optional[int]:
        """The rank of the factors whose gradient takes no input of ``op``; None without them."""
        ranks = [self._ranks.get(one.ref()) for one in self._trained_of(op.weights.factors)]
        return ranks[0] if op.weights.low_rank and ranks else None

    def recomputed(self, op: Operation) -> list[Operation]:
        """The branch that ``op`` is in, if the backward pass computes it once more; else empty."""
        if op.branch not in self._branches:
            return []
        branch = self._branches[op.branch]
        return branch if self.needs_grad[branch[-1].output] else []

    def _products_of(self, branch: Sequence[Operation]) -> set[int]:
        """The outputs of its products with kernels that the way back reads."""
        read: set[int] = set().union(*(self.kept[op.output].tensors for op in branch))
        linear = (*LINEAR, LayerKind.SELF_ATTENTION)
        return {
            op.output
            for op in branch
            if self.recomputed(op)
            and op.weights.factors
            and kind_of(op.layer) in linear
            and op.output in read
            and op is not branch[-2]  # what the final addition reads
        }

    def _trained_of(self, variables: Sequence[tf.Variable]) -> list[tf.Variable]:
        return [variable for variable in variables if variable.ref() in self._trained]

    def _gradient_elements(self, variable: tf.Variable) -> float:
        rank = self._ranks.get(variable.ref())
        if rank is not None:
            return math.prod(factor_shapes(variable.shape, rank).second)
        return math.prod(variable.shape) * self._share(variable)

    def _share(self, variable: tf.Variable) -> float:
        return self._shares.get(variable.ref(), 1.0)

    def _kept_by(self, op: Operation) -> Kept:
        for_weights, for_inputs = self._kept_for_weights(op), self._kept_for_inputs(op)
        return Kept(for_weights.tensors | for_inputs.tensors, for_weights.own + for_inputs.own)

    def _kept_for_weights(self, op: Operation) -> Kept:
        """What the gradients of the operation's own variables take."""
        factors = self._trained_of(op.weights.factors)
        if not factors:
            return Kept()
        rank = self.by_factors(op)
        if rank is not None:
            return Kept(own=self.size(rank * op.elements / factors[0].shape[-1]))
        share = max(map(self._share, factors))
        if op.weights.by_channel and 0 < share < 1:
            read = self._batch * sum(self._elements[tensor] for tensor in op.inputs)
            return Kept(own=math.ceil(share * read * FLOAT_BYTES))
        return Kept(set(op.inputs))

    def _kept_for_inputs(self, op: Operation) -> Kept:
        """What carrying the gradient on to the inputs takes."""
        needs_grad = set(self.needs_input_grad(op))
        if not needs_grad:
            return Kept()
        elements = self._batch * op.elements
        own = {Saved.MASK: math.ceil(elements / 8), Saved.INDEX: 4 * elements}.get(op.saved, 0)
        tensors: set[int] = set()
        if op.saved in (Saved.INPUT, Saved.EVERYTHING):
            tensors.update(op.inputs)
        if op.saved in (Saved.OUTPUT, Saved.EVERYTHING):
            tensors.add(op.output)
        if op.saved is Saved.OTHERS:
            tensors.update(tensor for tensor in op.inputs if needs_grad - {tensor})
        return Kept(tensors, own + self.size(op.extra.saved))

    def _read_masks_off_kept_outputs(self) -> None:
        """A mask need not be made where the output is kept anyway."""
        kept: set[int] = set().union(*(one.tensors for one in self.kept.values()))
        for op in self.graph:
            if op.saved is Saved.MASK and op.output in kept:
                self.kept[op.output].own = 0
