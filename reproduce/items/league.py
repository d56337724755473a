"""The league: which layers to train, at equal memory, each criterion at its best learning rate.

Not in the paper, whose Table 2 gives every method one learning rate, far from the best of most.
"""

from __future__ import annotations

from common.wording import count
from reproduce.item import Item, Options
from reproduce.league import tables
from reproduce.league.drawing import draw
from reproduce.league.protocol import (
    BUDGETS,
    COMMON,
    EPOCHS,
    FIRST_TASKS,
    IMAGES,
    LEADERS,
    WORTH,
    first_look,
    the_rest,
)
from reproduce.league.standings import Standings
from reproduce.league.tasks import TEST_SPLIT
from reproduce.report.cells import method_title, sources
from reproduce.report.report import Report
from reproduce.store.runs import Store

METHODS = (
    *("act_norm_betti_train", "no_norm_betti_train", "weight_norm_betti_train", "betti_unit_train"),
    "betti_knapsack_train",
    *("effective_rank_train", "participation_ratio_train", "two_nn_train"),
    *("persistence_entropy_train", "cka_change_train", "block_influence_train", "fps_training"),
    *("bias_plus_betti_train", "bias_plus_last_k_training", "bias_training"),
    *("last_k_training", "random_k_training", "smallest_k_training", "traditional_tl_training"),
    *("full_training", "bn_plus_bias_training", "fisher_training", "autorgn_training"),
    *("elastic_training", "lisa_training", "trady_training", "lora_training"),
)
TASKS = ("flowers102", "flowers102+negative", "flowers102+blur", "flowers102+low_light")


def _build(store: Store, options: Options) -> Report:
    standings = Standings(store, options)
    found = sources(store, standings.all_runs())
    named = {one["run"] for one in found}
    # What is known of other tasks and methods is not lost where it is not asked for this time.
    carried = tuple(
        dict(one) for name, one in store.reported_sources().items() if name not in named
    )
    machines = {
        f"{one['environment']['device']}, {one['sweep']['workers']} at a time"
        for one in found
        if "record" in one
    }
    return Report(
        name="league",
        place="League",
        title="which layers, then?",
        caption=(
            "Not in the paper. MobileNetV2 at equal measured memory: every criterion trains as "
            "many layers as the budget allows, from the same trained head, with the learning rate "
            "that does best on a validation split. Criteria look at activations of forward passes "
            "alone; controls look at nothing."
        ),
        tables=(
            tables.gain_table(standings),
            *(tables.accuracy_table(standings, budget) for budget in sorted(BUDGETS)),
            tables.against_last_k_table(standings),
            tables.choice_table(standings, BUDGETS[0]),
            tables.memory_table(standings),
            tables.rate_table(standings),
        ),
        notes=(*_what_holds(standings), *_conditions(options, machines)),
        figure=draw(standings),
        sources=(*found, *carried),
    )


def _what_holds(standings: Standings) -> tuple[str, ...]:
    """Sentences that follow from the numbers."""
    found = []
    for budget in sorted(BUDGETS):
        ranks = standings.ranks(budget)
        if len(ranks.mean) < 2:
            continue
        best = min(ranks.mean, key=lambda one: (ranks.mean[one], one))
        over = count(ranks.tasks, "task")
        text = (
            f"At {budget:g} MB, over {over}, {method_title(best)} has the best mean rank, "
            f"{ranks.mean[best]:.2f} of {len(ranks.mean)} methods"
        )
        if ranks.p_value is not None and ranks.critical_difference is not None:
            alike = [
                one
                for one in ranks.mean
                if one != best and ranks.mean[one] - ranks.mean[best] < ranks.critical_difference
            ]
            text += (
                f". Friedman's test that all are alike: p = {ranks.p_value:.2g}; mean ranks less "
                f"than {ranks.critical_difference:.2f} apart (Nemenyi, 5%) are not told apart, "
                f"which are {len(alike)} of the other {len(ranks.mean) - 1}"
            )
        found.append(f"{text}.")
    counting = standings.counting()
    if counting:
        names = ", ".join(task.name for task in counting)
        wins = {method: won for method in standings.criteria() if (won := standings.wins(method))}
        found.append(
            f"Full training beats the trained head by {WORTH:g} points or more on {names}. There "
            f"{count(standings.comparisons(), 'comparison')} of a criterion with the last layers "
            "were made at a budget. Criteria that beat them there by more than the spread over "
            f"seeds, in no more memory: {'; '.join(map(_won, wins, wins.values())) or 'none'}."
        )
    return tuple(found)


def _won(method: str, wins: dict[str, list[float]]) -> str:
    at = ", ".join(
        f"{task} at {' and '.join(f'{budget:g}' for budget in budgets)} MB"
        for task, budgets in wins.items()
    )
    return f"{method_title(method)} on {count(len(wins), 'task')} ({at})"


def _conditions(options: Options, machines: set[str]) -> tuple[str, ...]:
    epochs = options.epochs or EPOCHS
    length = {"num_epochs": epochs, "eval_every": epochs}
    at_a_time = ", ".join(f"{images} (at {budget:g} MB)" for budget, images in IMAGES.items())
    settings = ", ".join(f"`--{name} {value}`" for name, value in {**COMMON, **length}.items())
    return (
        f"Every run: {settings}. Accuracy is that of the last epoch; TFDS sets are tested on "
        f"`{TEST_SPLIT}`, folders on all of their test pictures.",
        f"First every method is tried on the first {FIRST_TASKS} tasks with seed 0 at "
        f"{BUDGETS[0]:g} MB; then the {LEADERS} with the best mean ranks there by their "
        f"accuracy on the validation images, AdaBet and the controls on all tasks with "
        f"{options.seeds} seeds, of which the first one finds the learning rate; and last at the "
        f"other budgets, on the tasks where full training beats the head by {WORTH:g} points. A "
        "rank is of methods with a value on every task on which the last layers have one.",
        f"The budget is of training, with {at_a_time} images at a time; what a selection takes is "
        "not in it. Layers are taken in the order of the criterion, without those that do not fit "
        "(`--fill_budget`); AdaBet, its ablations and TraDy take channels of the first one that "
        "does not, and it is the end of the last layers. Train types that "
        "take no budget (full training, the norms and biases, ElasticTrainer) go an image at a "
        "time, with the steps of a whole mini-batch in less memory and more time, and stand in "
        "each budget that their measured peak fits, as the head does.",
        "Seconds are as many times the median epoch as there were epochs, of the quickest seed; "
        "beside other runs they are more than alone.",
        "Runs come from: " + ", ".join(sorted(machines)) + "." if machines else "No run is done.",
    )


ITEMS = (
    Item(
        name="league",
        title="League: which layers, at equal memory and with the best learning rate of each",
        needs="data sets by --tasks (NAME, NAME+SHIFT, NAME=FOLDER), ImageNet weights",
        specs=first_look,
        build=_build,
        follow_up=the_rest,
        models=("mobilenetv2",),
        methods=METHODS,
        tasks=TASKS,
        seeds=3,
    ),
)
