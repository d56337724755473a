"""ElasticTrainer (Huang et al., MobiSys 2023): the most important tensors within a time budget.

Unlike the other train types it chooses single tensors, and ``rho`` is the time of a training step
as a share of a full one, forward pass included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Optional

import numpy as np
import tensorflow as tf

from common.errors import RunError, UserError
from models.network import Network
from selection.elastic.knapsack import backward_time, choose_tensors
from selection.elastic.profile import Profile, profile_of, tensor_profile
from selection.ranking import make_selection
from selection.request import SelectionRequest
from selection.selection import Selection


class ElasticStrategy:
    """Keeps its :class:`ElasticSelector` from one selection of a network to the next."""

    def __init__(self) -> None:
        self._selector: Optional[ElasticSelector] = None
        self._restored: list[dict] = []

    def __call__(self, request: SelectionRequest, train_type: str) -> Selection:
        """One selection; see :meth:`ElasticSelector.select`."""
        if self._selector is None or self._selector.network is not request.network:
            self._selector = ElasticSelector(request.network)
            self._selector.restore(self._restored)
        return self._selector.select(request, train_type)

    def state(self) -> list[dict]:
        """What no second process would come to: measured times, as plain JSON types."""
        return self._restored if self._selector is None else self._selector.state()

    def restore(self, state: list[dict]) -> None:
        """Go on with what :meth:`state` gave, of a network that is built alike."""
        self._restored = state


class ElasticSelector:
    """Chooses tensors of one network, any number of times.

    The backward pass is compiled and the profile made by the first selection and kept, so that
    memory does not grow with the number of selections.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._variables = [v for layer in network.layers for v in layer.variables]
        self._gradients = gradient_function(network, self._variables)
        self._profiles: dict[tuple[int, str, Optional[str]], Profile] = {}

    def profile(self, request: SelectionRequest) -> Profile:
        """The timing profile that ``request.profile`` and ``request.profile_file`` ask for.

        Raises:
            UserError: the file is not a profile, or cannot be read or written.
        """
        key = (request.batch_size, request.profile, request.profile_file)
        if key not in self._profiles:
            self._profiles[key] = tensor_profile(self.network, *key)
        return self._profiles[key]

    def state(self) -> list[dict]:
        """The measured profiles, as plain JSON types."""
        return [
            {"key": list(key), "profile": asdict(profile)}
            for key, profile in self._profiles.items()
            if profile.mode == "measured"
        ]

    def restore(self, state: list[dict]) -> None:
        """Go on with the profiles that :meth:`state` gave."""
        for entry in state:
            batch_size, mode, path = entry["key"]
            self._profiles[batch_size, mode, path] = profile_of(entry["profile"])

    def select(self, request: SelectionRequest, train_type: str) -> Selection:
        """The tensors with the largest summed importance whose backward pass fits the budget.

        A layer's score is the importance of its most important tensor, chosen or not; the choice
        does not follow its rank, because it weighs importance against time. With ``always_head``
        the head's tensors are added, and what they take comes on top of the budget. Nothing is
        selected where no tensor that fits has a positive importance. Weights are as they were on
        return, and after an exception.

        ``figures`` holds ``predicted_time_ratio``, the time of a step on the choice over that of
        a full step; ``backward_budget``, rho_b, the share of the full backward pass' time that
        rho leaves; ``forward_share``, Tf / (Tf + Tb); and ``smallest_rho``, below which no
        tensor's gradient fits.

        Raises:
            UserError: rho leaves no time for any tensor's gradient; the message says the
                smallest one that does. Or as :meth:`profile`.
            RunError: an importance is not finite.
            ValueError: the request has a memory budget in place of rho.
        """
        started = time.perf_counter()
        rho = request.rho
        if rho is None:
            raise ValueError("ElasticTrainer chooses by rho, and keeps to no memory budget")
        profile = self.profile(request)
        check_rho(profile, rho, self.network.backbone.title)
        importance = self.importance(request)
        ordered = [importance[tensor.layer][tensor.position] for tensor in profile.tensors]
        time_budget = profile.time_budget(rho)
        chosen = set(choose_tensors(ordered, profile.t_dw, profile.t_dy, time_budget))
        if request.always_head:
            head = self.network.head.index
            chosen |= {i for i, tensor in enumerate(profile.tensors) if tensor.layer == head}
        selection = make_selection(
            self.network.layers,
            positions_of(profile, chosen, len(self.network.layers)),
            train_type=train_type,
            rho=rho,
            scores=[float(max(values)) for values in importance],
            samples=request.batch_size,
            figures=time_figures(profile, time_budget, sorted(chosen)),
        )
        return selection.timed(time.perf_counter() - started)

    def importance(self, request: SelectionRequest) -> list[np.ndarray]:
        """Importance of every tensor: float64 ``[variables]`` per layer, at most 1 in size.

        One step of SGDW without momentum, dw = -lr (g0 + wd w0), on one labelled batch, dropout
        off; I = -sum(g1 dw) with g1 the gradient on the same batch after the step, over max |I|.

        Raises:
            RunError: it is not finite.
        """
        images, labels = request.labelled_images(request.batch_size)
        batch = tf.cast(images, tf.float32), tf.cast(labels, tf.int64)
        rate, decay = request.learning_rate, request.weight_decay
        # Reading a variable copies nothing: the step below writes to memory of its own.
        weights = [variable.read_value() for variable in self._variables]
        steps = [
            -rate * (gradient + decay * weight)
            for gradient, weight in zip(self._gradients(*batch), weights)
        ]
        try:
            for variable, weight, step in zip(self._variables, weights, steps):
                variable.assign(weight + step)
            raw = [
                -float(tf.reduce_sum(tf.cast(gradient * step, tf.float64)))
                for gradient, step in zip(self._gradients(*batch), steps)
            ]
        finally:
            for variable, weight in zip(self._variables, weights):
                variable.assign(weight)
        return self._scaled_by_layer(raw)

    def _scaled_by_layer(self, raw: Sequence[float]) -> list[np.ndarray]:
        counts = [len(layer.variables) for layer in self.network.layers]
        by_layer = np.split(np.array(raw), np.cumsum(counts)[:-1])
        for layer, values in zip(self.network.layers, by_layer):
            if not np.isfinite(values).all():
                raise RunError(
                    f"the importance of layer {layer.index} ({layer.name}) is not finite; "
                    f"a smaller --learning_rate may help"
                )
        largest = np.abs(raw).max() or 1.0
        return [values / largest for values in by_layer]


def gradient_function(
    network: Network, variables: Sequence[tf.Variable]
) -> tf.types.experimental.GenericFunction:
    """Images ``[batch, size, size, 3]`` and labels ``[batch]`` to the loss' gradients."""
    model = network.model
    signature = [
        tf.TensorSpec([None, *model.input_shape[1:]], tf.float32),
        tf.TensorSpec([None], tf.int64),
    ]

    @tf.function(input_signature=signature)
    def gradients(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = model(images, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        return tape.gradient(loss, variables)

    return gradients


def positions_of(profile: Profile, chosen: Iterable[int], layers: int) -> list[list[int]]:
    """Of the ``chosen`` tensors among the variables of each of ``layers`` layers."""
    positions: list[list[int]] = [[] for _ in range(layers)]
    for index in chosen:
        tensor = profile.tensors[index]
        positions[tensor.layer].append(tensor.position)
    return positions


def time_figures(profile: Profile, time_budget: float, chosen: Sequence[int]) -> dict[str, float]:
    """Of a selection of the tensors ``chosen``; see :meth:`ElasticSelector.select`."""
    step = profile.forward + profile.backward
    took = backward_time(chosen, profile.t_dw, profile.t_dy)
    return {
        "predicted_time_ratio": (profile.forward + took) / step,
        "backward_budget": time_budget / profile.backward,
        "forward_share": profile.forward / step,
        "smallest_rho": profile.smallest_rho,
    }


def check_rho(profile: Profile, rho: float, title: str) -> None:
    """Refuse a ``rho`` that leaves no time for any tensor's gradient.

    Raises:
        UserError: it says the smallest one that does.
    """
    smallest = math.ceil(profile.smallest_rho * 1e4) / 1e4
    if rho < profile.smallest_rho:
        share = profile.forward / (profile.forward + profile.backward)
        raise UserError(
            f"--rho {rho:g} leaves no time for a backward pass: it is the share of a full training "
            f"step's time, of which {title}'s forward pass alone takes {share:.4f}; "
            f"use at least {smallest:.4f}"
        )
