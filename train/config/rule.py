"""What a rule is that says which flags go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selection.registry import TRAIN_TYPES, train_type_named
from selection.train_type import TrainType
from train.config.run_config import RunConfig


@dataclass(frozen=True)
class Rule:
    """``flags`` do something only where ``applies``.

    Attributes:
        words: what they go with, after the name of the flag.
        depends_on: the flag whose value decides; empty where it is no single one.
    """

    flags: tuple[str, ...]
    words: str
    applies: Callable[[RunConfig], bool]
    depends_on: str = ""


def entry_of(config: RunConfig) -> TrainType:
    """The registry's entry for its train type."""
    return train_type_named(config.train_type)


def of_train_types(flags: tuple[str, ...], words: str, fits: Callable[[TrainType], bool]) -> Rule:
    """A rule that a train type decides alone; ``{}`` in ``words`` stands for those that fit."""
    names = ", ".join(entry.name for entry in TRAIN_TYPES.values() if fits(entry))
    return Rule(
        flags, words.format(names), lambda config: fits(entry_of(config)), depends_on="train_type"
    )
