"""ElasticTrainer's course: measured step times, re-selection, and nothing left behind."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from common.errors import RunError
from models.layers import selectable_layers
from models.memory.phase_meter import PhaseMeter
from models.network import Network
from models.registry import BACKBONES
from selection.ranking import make_selection
from tests.helpers import random_pixels, snapshot, tiny_network, whole
from train.config.resolve import resolve
from train.config.run_config import RunConfig
from train.data.datasets import load_dataset
from train.optimizer import LearningRateSchedule, momentum_slots
from train.run.selecting import LayerChooser
from train.schedule.base import Job
from train.schedule.elastic import ElasticSchedule
from train.schedule.registry import schedule_for
from train.step_time import measure_step_times

pytestmark = pytest.mark.slow

NAME = "elastic_training"
SCHEDULE = LearningRateSchedule(1e-3, 5e-4, 100)
SLACK = 150_000  # bytes; the allocator rounds up to the pieces it has: half of DigitNet's weights


def _left() -> tuple[int, int]:
    """Bytes in use, and compiled functions that are still alive."""
    gc.collect()
    graphs = sum(type(one).__name__ == "FuncGraph" for one in gc.get_objects())
    return tf.config.experimental.get_memory_info("CPU:0")["current"], graphs


def _check_no_growth(left: list[tuple[int, int]]) -> None:
    half = len(left) // 2
    (before, graphs_before), (after, graphs_after) = (
        map(max, zip(*part)) for part in (left[:half], left[half:])
    )
    assert after <= before + SLACK and graphs_after <= graphs_before, left


# The measured step times.


def _batch():
    return tf.constant(random_pixels(8), tf.float32), tf.constant(np.arange(8) % 5, tf.int64)


def test_step_times_leave_the_network_and_memory_alone():
    network = tiny_network("digits")
    head = whole(network, network.head.variables)
    before, times, left = snapshot(network), [], []
    for _ in range(4):
        times.append(measure_step_times(network, head, SCHEDULE, _batch()))
        left.append(_left())
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)
    _check_no_growth(left)
    for one in times:
        ratio = one["selected_seconds"] / one["full_seconds"]
        assert one["measured_time_ratio"] == ratio > 0
    assert min(one["measured_time_ratio"] for one in times) < 0.8  # the head alone


def test_step_times_restore_the_weights_after_an_error():
    network = tiny_network("digits")
    kernel = network.head.variables[0]
    kernel.assign(tf.fill(kernel.shape, np.nan))
    before = [weight.tobytes() for weight in snapshot(network)]
    with pytest.raises(RunError, match="loss is nan"):
        measure_step_times(network, whole(network, [kernel]), SCHEDULE, _batch())
    assert [weight.tobytes() for weight in snapshot(network)] == before


# Going on with training.


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", 32)


def _job(data, select_layers, given=None, step_times=True) -> Job:
    config = resolve(
        RunConfig(
            model_name="digitnet",
            dataset_name="digits",
            train_type=NAME,
            rho=0.533,
            interval=2,
            learning_rate=0.01,
            step_times=step_times,
        )
    )
    return Job(config, data, LearningRateSchedule(0.01, 5e-4, 200), given, select_layers)


def _given_choices(network, choices):
    """A ``Job.select`` that gives one choice after another: per choice, {layer: positions}."""
    remaining = iter(choices)

    def select_layers(_):
        choice = next(remaining)
        positions = [choice.get(index, ()) for index in range(len(network.layers))]
        return make_selection(network.layers, positions, train_type=NAME, figures={"given": 1.0})

    return select_layers


def _train(stage, steps=2):
    stage.trainer.train_epoch([_batch()] * steps, lambda *_: None)


def _momentum(trainer, variable) -> np.ndarray:
    index = [other.ref() for other in trainer.variables].index(variable.ref())
    return momentum_slots(trainer.optimizer, trainer.variables)[index].numpy()


def test_new_choice_goes_on_with_step_and_momentum(digits):
    network = tiny_network("digits")
    stays, goes, comes = (network.layers[i].variables[0] for i in (18, 17, 16))
    choices = [{18: (0,), 17: (0,)}, {18: (0,), 16: (0,)}]
    schedule = ElasticSchedule(_job(digits, _given_choices(network, choices)))
    first = schedule.first_stage(network)
    _train(first)
    assert schedule.next_stage(first, 2) is first
    _train(first)
    kept = _momentum(first.trainer, stays)
    before = snapshot(network)
    second = schedule.next_stage(first, 3)
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)
    assert second.trainer.steps_taken == first.trainer.steps_taken == 4
    assert int(second.trainer.optimizer.iterations) == 4
    np.testing.assert_array_equal(_momentum(second.trainer, stays), kept)
    assert np.abs(kept).max() > 0
    assert (_momentum(second.trainer, comes) == 0).all()
    frozen = goes.numpy()
    _train(second)
    np.testing.assert_array_equal(goes.numpy(), frozen)
    assert np.abs(_momentum(second.trainer, comes)).max() > 0
    for stage in (first, second):
        assert stage.selection.figures["given"] == 1.0
        assert stage.selection.figures["measured_time_ratio"] > 0


def test_step_times_are_measured_if_asked_for_and_count_as_selection(digits):
    choice = {18: (0, 1)}
    peaks, figures, seconds = [], [], []
    for step_times in (False, True):
        network = tiny_network("digits")
        job = _job(digits, _given_choices(network, [choice]), step_times=step_times)
        stage = ElasticSchedule(job).first_stage(network)
        peaks.append(job.selecting.allocator_peak)
        figures.append(set(stage.selection.figures))
        seconds.append(stage.selection.seconds)
    assert peaks[0] is None and peaks[1] > 0
    assert figures[1] - figures[0] == {"selected_seconds", "full_seconds", "measured_time_ratio"}
    assert seconds[1] > seconds[0]


def test_same_choice_keeps_the_trainer_and_none_keeps_the_stage(digits):
    network = tiny_network("digits")
    choice = {18: (0, 1)}
    schedule = ElasticSchedule(_job(digits, _given_choices(network, [choice, choice, {}])))
    first = schedule.first_stage(network)
    second = schedule.next_stage(first, 3)
    assert second.trainer is first.trainer and second.selection is not first.selection
    assert second.selection.figures == first.selection.figures
    assert schedule.next_stage(second, 4) is second
    assert schedule.next_stage(second, 5) is second  # nothing of worth: go on as before


def test_nothing_worth_training_is_an_error(digits):
    network = tiny_network("digits")
    schedule = ElasticSchedule(_job(digits, _given_choices(network, [{}])))
    with pytest.raises(RunError, match="smaller --learning_rate"):
        schedule.first_stage(network)


def test_given_selection_is_kept(digits):
    network = tiny_network("digits")
    given = _given_choices(network, [{18: (0, 1)}])(network)
    schedule = schedule_for(_job(digits, _given_choices(network, []), given))
    stage = schedule.first_stage(network)
    assert stage.selection is given
    assert schedule.next_stage(stage, 3) is stage


def _wide_network() -> Network:
    """Quick to compile, and its momentum (0.8 MB) is far above the allocator's slack."""
    inputs = tf.keras.Input((32, 32, 3))
    x = tf.keras.layers.Flatten()(tf.keras.layers.Rescaling(1 / 255)(inputs))
    x = tf.keras.layers.Dense(64, activation="relu")(x)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(5)(x))
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), False)


def test_memory_does_not_grow_with_the_number_of_stages(digits):
    """Eight re-selections, alternately of two choices that need as much memory as each other."""
    network = _wide_network()
    choices = [{0: (0,), 1: (0,)}, {0: (0,), 1: (1,)}] * 5
    schedule = ElasticSchedule(_job(digits, _given_choices(network, choices)))
    stage = schedule.first_stage(network)
    left = []
    for epoch in range(3, 19, 2):
        former = stage
        stage = schedule.next_stage(stage, epoch)
        assert stage.trainer is not former.trainer
        del former
        _train(stage, 1)
        left.append(_left())
    assert len(left) == 8
    _check_no_growth(left)


def test_real_selections_train_what_they_say(digits):
    network = tiny_network("digits")
    config = _job(digits, None).config
    chooser = LayerChooser(config, digits, PhaseMeter())
    schedule = ElasticSchedule(_job(digits, chooser))
    stage = schedule.first_stage(network)
    for epoch in (2, 3, 4, 5):
        _train(stage, 3)
        before = snapshot(network)
        stage = schedule.next_stage(stage, epoch)
        trained = {part.variable.ref() for part in stage.trainer.trained}
        _train(stage, 1)
        for weight, old in zip(network.model.weights, before):
            assert (weight.numpy() == old).all() == (weight.ref() not in trained), weight.name
    figures = stage.selection.figures
    assert figures["predicted_time_ratio"] <= 0.533 + 1e-9
    assert 0 < figures["measured_time_ratio"] < 2


def test_selections_leave_nothing_behind(digits):
    """The backward pass is compiled once, however often it is asked for."""
    network = tiny_network("digits")
    chooser = LayerChooser(_job(digits, None).config, digits, PhaseMeter())
    chooser(network)
    partial: Any = chooser._strategy
    strategy = partial.func
    selector = strategy._selector
    left = []
    for _ in range(8):
        chooser(network)
        left.append(_left())
    assert strategy._selector is selector
    assert selector._gradients.experimental_get_tracing_count() == 1
    _check_no_growth(left)
