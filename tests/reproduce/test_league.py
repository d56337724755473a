"""The league's course: who goes on after the first look, and what counts as a win."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common.errors import UserError
from reproduce.item import Options
from reproduce.league import protocol
from reproduce.league.protocol import Entry, first_look, leaders, spec, tasks_of, the_rest
from reproduce.league.standings import Standings
from tests.reproduce.worked_examples import write_run

METHODS = ("cka_change_train", "two_nn_train", "act_norm_betti_train", "last_k_training")
OPTIONS = Options(
    models=("mobilenetv2",), methods=METHODS, tasks=("flowers102", "flowers102+blur"), seeds=2
)
RATE = 0.003


@pytest.fixture(autouse=True)
def one_leader(monkeypatch):
    monkeypatch.setattr(protocol, "LEADERS", 1)


def ran(store, method, task=0, seed=0, budget=50.0, validation=0.5, test=0.5, megabytes=40.0):
    (entry,) = (one for one in protocol.entries(method) if one.budget in (budget, None))
    run = spec(OPTIONS, tasks_of(OPTIONS)[task], entry, seed, RATE if seed else None)
    given = {
        "tuning": {"learning_rate": RATE},
        "last_test_accuracy": test,
        "metrics": [[40, test, 0.1, 1.0, validation]],
        "MB": {"training": [None, None, megabytes]},
    }
    write_run(store, run, given)


def failed(store, run):
    path = store.failure_file(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"error": "no blocks", "final": False}))


def test_leaders_are_found_by_validation_images_and_go_on_with_adabet_and_controls(store):
    look = first_look(OPTIONS)
    assert len(look) == len(set(look)) == len(METHODS) * 2
    assert the_rest(OPTIONS, store) == []
    # TwoNN is best on validation images, CKA on test images.
    for task in (0, 1):
        ran(store, "cka_change_train", task, validation=0.4, test=0.9)
        ran(store, "two_nn_train", task, validation=0.6, test=0.1)
        ran(store, "act_norm_betti_train", task, validation=0.3)
    assert the_rest(OPTIONS, store) == []  # last-k is still to come
    ran(store, "last_k_training", 0)
    failed(store, spec(OPTIONS, tasks_of(OPTIONS)[1], Entry("last_k_training", 50.0)))
    assert leaders(OPTIONS, store) == ["two_nn_train", "act_norm_betti_train"]
    rest = the_rest(OPTIONS, store)
    assert {run.config.train_type for run in rest} == set(METHODS) - {"cka_change_train"}
    # Three methods on two tasks, and the second seed of the five whose first one has its rate.
    assert len(rest) == len(set(rest)) == 6 + 5
    assert [run.config.learning_rate for run in rest if run.config.seed] == [RATE] * 5


def test_other_budgets_come_last_and_where_layers_matter(store):
    methods = ("last_k_training", "full_training", "traditional_tl_training")
    options = replace(OPTIONS, methods=methods)
    tests = {"full_training": (0.56, 0.53), "traditional_tl_training": (0.51, 0.51)}
    for seed in (0, 1):
        for task in (0, 1):
            for method in methods:
                assert all(
                    run.config.memory_budget in (50, None) for run in the_rest(options, store)
                )
                ran(store, method, task, seed, test=tests.get(method, (0.5, 0.5))[task])
    last = [run for run in the_rest(options, store) if run.config.memory_budget not in (50, None)]
    assert {run.config.memory_budget for run in last} == {25, 100}
    assert {run.config.shift for run in last} == {None}


def test_who_failed_on_a_task_is_no_leader_and_spoils_nobody_else(store):
    for task in (0, 1):
        ran(store, "two_nn_train", task, validation=0.6)
        ran(store, "act_norm_betti_train", task, validation=0.3)
    ran(store, "cka_change_train", 0, validation=0.9)
    assert leaders(OPTIONS, store) == ["two_nn_train", "act_norm_betti_train"]


def test_seeds_are_paired_and_a_win_takes_no_more_memory(store):
    (task, _) = tasks_of(OPTIONS)
    ran(store, "two_nn_train", seed=0, test=0.2)
    ran(store, "last_k_training", seed=0, test=0.1)
    ran(store, "last_k_training", seed=1, test=0.6)
    found = Standings(store, OPTIONS).beyond_last_k("two_nn_train", 50.0, task)
    assert found.points == pytest.approx(10.0) and not found.wins  # one seed tells no spread
    ran(store, "two_nn_train", seed=1, test=0.71)
    found = Standings(store, OPTIONS).beyond_last_k("two_nn_train", 50.0, task)
    assert (found.points, found.wins) == (pytest.approx(10.5), True)
    assert found.spread == pytest.approx(1 / 2**0.5)
    for seed, test in enumerate((0.3, 0.8)):
        ran(store, "cka_change_train", seed=seed, test=test, megabytes=42.5)
    found = Standings(store, OPTIONS).beyond_last_k("cka_change_train", 50.0, task)
    assert found.points == pytest.approx(20.0) and found.takes_more and not found.wins


def test_two_backbones_are_one_line(store):
    options = Options(models=("mobilenetv2", "vgg16"), methods=METHODS, tasks=("flowers102",))
    with pytest.raises(UserError, match="the league is of one backbone at a time"):
        first_look(options)
