"""``--train_type best``: what to train within a memory budget, and how, as the league found it.

The table below says what the committed report has (``reports/league``; a test holds one against
the other). It was measured with one network at one image size: for others it is a guess, and says
so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from common.errors import UserError
from common.wording import count

BEST = "best"
MODEL, INPUT_SIZE = "mobilenetv2", 128  # what the league is of


class Recommendation(NamedTuple):
    """What did best at a budget: the method with the best mean rank.

    Attributes:
        megabytes: the budget, of training.
        train_type: of that method.
        flags: that it ran with, beside the budget and the recipe.
        rank: its mean rank over the tasks.
        methods, tasks: how many were compared.
    """

    megabytes: float
    train_type: str
    flags: Mapping[str, Any]
    rank: float
    methods: int
    tasks: int

    @property
    def evidence(self) -> str:
        """In words."""
        return (
            f"at {self.megabytes:g} MB the best mean rank, {self.rank:g} of "
            f"{count(self.methods, 'method')} on {count(self.tasks, 'task')}: reports/league"
        )


# How every method of the league is trained (docs/method.md).
RECIPE: Mapping[str, Any] = {
    "head_epochs": 30,
    "learning_rate": "tune",
    "validation_split": 0.2,
    "clip_norm": 1.0,
}
RECOMMENDATIONS: tuple[Recommendation, ...] = (
    Recommendation(
        megabytes=50,
        train_type="betti_unit_train",
        flags={"fill_budget": True, "micro_batch": 8},
        rank=1.5,
        methods=8,
        tasks=2,
    ),
)


def take_best(given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """``given`` flags with the train type, and what goes with it, in place of ``best``.

    What was given stays as it is. Returns the flags, and a line that says what was taken, and why.

    Raises:
        UserError: there is no memory budget to choose by.
    """
    budget = given.get("memory_budget")
    if budget is None:
        raise UserError(
            f"--train_type {BEST} goes with --memory_budget, by which it chooses what to train"
        )
    fitting = [one for one in RECOMMENDATIONS if one.megabytes <= budget]
    found = max(fitting or RECOMMENDATIONS[:1], key=lambda one: one.megabytes)
    added = {
        name: value
        for name, value in {**found.flags, **_recipe(given)}.items()
        if name not in given
    }
    words = " ".join(["", *(f"--{name} {value}" for name, value in added.items())])
    line = f"--train_type {BEST}: {found.train_type}{words.replace(' True', '')} ({found.evidence})"
    if given.get("model_name") != MODEL or given.get("input_size") != INPUT_SIZE:
        line += f"; that was measured with {MODEL} at {INPUT_SIZE} pixels, and is a guess here"
    return {**given, **added, "train_type": found.train_type}, line


def _recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Without what would do nothing, or contradict what was given."""
    if given.get("select_only") or given.get("plan"):
        return {}
    recipe = dict(RECIPE)
    if "learning_rate" in given:
        del recipe["validation_split"]
    if "clip_adaptive" in given:
        del recipe["clip_norm"]
    return recipe
