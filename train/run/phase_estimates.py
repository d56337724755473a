"""What each phase of a run should take: the largest estimate there was, as peaks are measured.

A run that prunes trains several networks, one that selects late two sets of layers, and
ElasticTrainer many: what is measured is the peak of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Optional

from memory_utils import paper_memory, paper_selection_memory
from models.network import Network
from models.trained import Trained, ranks_of
from selection.cut import trained_of
from selection.memory import estimate_selection_memory
from selection.registry import train_type_named
from selection.selection import Selection
from train.config.paper_constants import selection_batch_size
from train.config.run_config import RunConfig
from train.estimates import inference_memory, kept_copies, settled_training_memory

_PHASES = ("selection", "training", "evaluation")


class Accounts(NamedTuple):
    """MB by the estimate and by the paper's accounting; None where there is none."""

    estimate: Optional[float] = None
    paper: Optional[float] = None

    def at_least(self, other: Accounts) -> Accounts:
        """The larger of each."""
        return Accounts(largest(self.estimate, other.estimate), largest(self.paper, other.paper))


class PhaseEstimates:
    """One run's.

    Attributes:
        selection, training, evaluation: the largest until now.
        full_training: of every layer of the network as it was built, without a budget; None before
            the first selection.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.selection = Accounts()
        self.training = Accounts()
        self.evaluation = Accounts()
        self.full_training: Optional[Accounts] = None

    def selects(self, network: Network, selection: Selection) -> None:
        """``selection`` was made of ``network``, and is what is trained from now on."""
        self.selection = self.selection.at_least(self._of_selection(network, selection))
        trained = selection.trained(network.layers)
        self.training = self.training.at_least(_of_training(self._config, network, trained))
        if self.full_training is None:
            everything = [one for layer in network.layers for one in trained_of(layer)]
            unlimited = replace(self._config, memory_budget=None)
            self.full_training = _of_training(unlimited, network, everything)

    def evaluates(self, network: Network, trained: Sequence[Trained], batch_size: int) -> None:
        """``network`` is evaluated while ``trained`` is; Table 3 of the paper does not count it."""
        copies = kept_copies(self._config, network, trained)
        estimate = inference_memory(network, batch_size, self._config.frozen, trained, copies)
        self.evaluation = self.evaluation.at_least(Accounts(estimate))

    def state(self) -> dict[str, Optional[Accounts]]:
        """The accounts of each phase so far; JSON writes them as pairs."""
        return {name: getattr(self, name) for name in (*_PHASES, "full_training")}

    def restore(self, state: dict) -> None:
        """Go on with what :meth:`state` gave, through JSON or not."""
        for phase in _PHASES:
            setattr(self, phase, Accounts(*state[phase]))
        full = state.get("full_training")  # earlier versions had none
        self.full_training = None if full is None else Accounts(*full)

    def _of_selection(self, network: Network, selection: Selection) -> Accounts:
        if self._config.selection_file is not None:
            return Accounts()
        cost = train_type_named(selection.train_type).cost
        at_once = selection.figures.get("images_per_pass", selection.samples)
        # A backward pass takes the images that were looked at, and no more.
        size = selection_batch_size(self._config.batch_size) if cost == "forward" else at_once
        estimate = selection.figures.get("strips_mb")
        if estimate is None:
            whole = estimate_selection_memory(network, size, at_once, cost)
            estimate = None if whole is None else whole.total
        return Accounts(estimate, paper_selection_memory(network, cost, size))


def _of_training(config: RunConfig, network: Network, trained: Sequence[Trained]) -> Accounts:
    return Accounts(
        settled_training_memory(config, network, trained),
        paper_memory(
            network, [one.variable for one in trained], config.batch_size, ranks_of(trained)
        ),
    )


def largest(one: Optional[float], other: Optional[float]) -> Optional[float]:
    """The larger of those that are known; None if neither is."""
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)
