"""Which flag goes with what: one table, for refusals, documents and sweeps.

A flag counts as given where its value is neither the default nor what ``auto`` comes to, so that
the ``config.json`` of a run, which names every setting, can be used again.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from train.config import our_constants as ours
from train.config import paper_constants as paper
from train.config.input_rules import INPUT_RULES
from train.config.rule import Rule
from train.config.run_config import RunConfig
from train.config.selection_rules import SELECTION_RULES
from train.config.training_rules import TRAINING_RULES

RULES: tuple[Rule, ...] = (*SELECTION_RULES, *TRAINING_RULES, *INPUT_RULES)


# Flags that --resume takes anew: they change nothing of what was done. Images and weights are
# compared with those of the run by their digests, num_epochs where the step is known.
MAY_CHANGE = (
    *("num_epochs", "max_steps", "checkpoint_every", "memory_accounting"),
    *("data_dir", "cache_dir", "download", "weights", "export", "export_batch"),
)
# Those that --from takes, which makes a file of a run that has ended.
OF_EXPORT = ("export", "export_batch", "data_dir", "cache_dir", "download")


def asks_for(config: RunConfig, name: str) -> bool:
    """Whether ``config`` has a value of ``name`` that only its user can have given."""
    value = getattr(config, name)
    return value not in (_DEFAULTS[name], None) and value != _automatic(config, name)


_DEFAULTS: dict[str, Any] = {entry.name: entry.default for entry in fields(RunConfig)}


def _automatic(config: RunConfig, name: str) -> Any:
    """What ``auto`` comes to without a budget (``resolve.py``)."""
    if name == "rho":
        return paper.RHO
    if name == "selection_batches":
        return paper.selection_batches(config.batch_size)
    if name == "head_learning_rate":
        return ours.HEAD_LEARNING_RATE
    return None


def as_typed(config: RunConfig, name: str) -> str:
    """The flag as on a command line."""
    value = getattr(config, name)
    if value is True:
        return f"--{name}"
    return f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"


def without_effect(config: RunConfig, name: str) -> bool:
    """Whether ``name`` would be refused in ``config`` because of its train type or data set."""
    return any(
        name in rule.flags and rule.depends_on and not rule.applies(config) for rule in RULES
    )
