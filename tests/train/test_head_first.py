"""The head alone, then what was selected with it; and the learning rates of both."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selection.ranking import make_selection
from tests.helpers import assert_refused, random_pixels, snapshot, tiny_network
from train.config.command_line import parse_args
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet, MemoryImages
from train.optimizer import LearningRateSchedule
from train.run.dry_run import dry_run_rows, dry_run_text
from train.run.prepare import Setting
from train.schedule.base import Job
from train.schedule.head_first import HEAD_ALONE, HeadFirst, with_head
from train.schedule.registry import schedule_for

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]


def rates(*steps: int, **options: int) -> list[float]:
    schedule = LearningRateSchedule(0.2, 0.0, 10, **options)
    return [schedule.rate(step) for step in steps]


def cosine(step: float, steps: int) -> float:
    return 0.2 * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


def test_the_rate_rises_then_falls_to_nothing():
    assert rates(0, 1, 3, warmup=4) == pytest.approx([0.05, 0.1, 0.2])
    wanted = [cosine(step, 6) for step in range(7)]
    assert rates(*range(4, 11), warmup=4) == pytest.approx(wanted, abs=1e-7)


def test_a_schedule_that_begins_later_is_the_same_later():
    assert rates(*range(30, 40), start=30) == pytest.approx(rates(*range(10)), abs=1e-7)
    later = rates(*range(30, 40), start=30, warmup=3)
    assert later == pytest.approx(rates(*range(10), warmup=3), abs=1e-7)


class Course:
    """A job on eight random images, at three steps an epoch."""

    def __init__(self, *flags: str, selected: tuple[int, ...] = (3, 4)) -> None:
        config = parse_args([*DIGITS, "--batch_size", "3", *flags])
        images = ImageSet(MemoryImages(random_pixels(8, 32)), np.arange(8) % 5)
        self.data = DataBundle("digits", images, images, 5, tuple("56789"), True, 0.1)
        self.network = tiny_network("digits", seed=1)
        self.selected = selected
        self.heads: list[np.ndarray] = []
        setting = Setting(config, self.data, None, 3)
        self.schedule = schedule_for(
            Job(
                config,
                self.data,
                setting.rates,
                None,
                self.select,
                head_rates=setting.head_rates,
            )
        )

    def select(self, network):
        self.heads.append(network.head.variables[0].numpy())
        chosen = [layer.index in (*self.selected, 18) for layer in network.layers]
        return make_selection(network.layers, chosen, train_type="last_k_training")

    def train(self, stage):
        from train.data.batches import training_batches

        batches = training_batches(self.schedule.job.config, self.data, 1)
        stage.trainer.train_epoch(batches, lambda *_: None)


def test_the_head_is_trained_alone_and_then_with_the_others():
    course = Course("--head_epochs", "2", "--num_epochs", "2", "--warmup_epochs", "1")
    before = snapshot(course.network)
    stage = course.schedule.first_stage(course.network)
    assert stage.selection.train_type == HEAD_ALONE and not course.heads
    assert stage.trainer.rates == LearningRateSchedule(1e-2, 5e-4, 6)
    course.train(stage)
    assert course.schedule.next_stage(stage, 2) is stage
    course.train(stage)
    head = {variable.ref() for variable in course.network.head.variables}
    for weight, old in zip(course.network.model.weights, before):
        assert np.array_equal(weight.numpy(), old) == (weight.ref() not in head)
    state = course.schedule.state()
    second = course.schedule.next_stage(stage, 3)
    assert np.array_equal(course.heads[0], course.network.head.variables[0].numpy())
    trainer = second.trainer
    assert trainer.steps_taken == 6 == int(trainer.optimizer.iterations)
    assert trainer.rates == LearningRateSchedule(1e-3, 5e-4, 6, start=6, warmup=3)
    assert {one.layer.index for one in trainer.trained} == {3, 4, 18}
    assert course.schedule.next_stage(second, 4) is second
    assert state["alone"] and not course.schedule.state()["alone"]


def test_a_stage_made_anew_is_of_the_course_that_it_was_in():
    course = Course("--head_epochs", "2", "--num_epochs", "2")
    selection = course.select(course.network)
    for alone in (True, False):
        course.schedule.restore({"alone": alone, "then": {}}, course.network)
        stage = course.schedule.stage_of(course.network, selection, 7)
        assert stage.trainer.rates.start == (0 if alone else 6)


def test_without_it_there_is_one_course():
    course = Course("--num_epochs", "2")
    assert not isinstance(course.schedule, HeadFirst)
    assert course.schedule.first_stage(course.network).trainer.rates.start == 0


def test_the_head_is_added_to_a_given_selection():
    network = tiny_network()
    chosen = [layer.index == 2 for layer in network.layers]
    selection = make_selection(network.layers, chosen, train_type="random_k_training")
    added = with_head(selection, network)
    assert [row.index for row in added.selected] == [2, 18] and added.num_selected == 2
    assert len(added.trained(network.layers)) == len(selection.trained(network.layers)) + 2
    assert with_head(added, network) is added


def test_a_plan_has_a_row_of_the_head():
    config = parse_args(
        [*DIGITS, "--plan", "--train_type", "last_k_training", "--head_epochs", "3"]
    )
    network = tiny_network()
    selection = make_selection(
        network.layers, [layer.index > 15 for layer in network.layers], train_type="last_k_training"
    )
    rows = dry_run_rows(config, network, selection, lambda _: selection)
    head = rows[-1]
    assert head.head_alone and head.layers == 1 and not any(row.head_alone for row in rows[:-1])
    assert head.lean <= min(row.lean for row in rows)
    text = dry_run_text(config, rows, selection)
    assert "head: alone, in the first 3 epochs" in text and "\n  head  " in text


def test_steps_that_end_with_the_head_are_refused(tmp_path, capsys):
    flags = [*DIGITS, "--head_epochs", "2", "--max_steps", "150", "--batch_size", "8"]
    assert_refused(flags, "--head_epochs 2 take 150 steps, and --max_steps 150", tmp_path, capsys)
