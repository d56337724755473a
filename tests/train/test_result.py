"""result.json and selection.png of runs whose figures are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle

from models.memory.phase_meter import PhaseMeter
from selection.selection import LayerChoice, Selection
from tests.helpers import tiny_network
from train.config.command_line import parse_args
from train.report.selection_figure import selection_figure
from train.run.phase_estimates import PhaseEstimates
from train.run.result import Measured, Meters, RunResult, make_result


def line(epoch: int, seconds: float, test_accuracy: float | None) -> dict:
    return {"epoch": epoch, "seconds": seconds, "test_accuracy": test_accuracy, "train_loss": 0.1}


def result_of(metrics: list[dict], selections=()) -> RunResult:
    network = tiny_network()
    meters = Meters(PhaseMeter(), PhaseMeter(), PhaseMeter())
    meters.training.seconds, meters.training.cpu_seconds = 10.0, 5.0
    meters.training.allocator_peak = 12.0
    config = parse_args(["--model_name", "digitnet", "--dataset_name", "digits"])
    estimates = PhaseEstimates(config)
    for selection in selections:
        estimates.selects(network, selection)
    measured = Measured(
        network=network,
        built_parameters=2 * network.params,
        selections=selections,
        metrics=metrics,
        meters=meters,
        estimates=estimates,
        eval_batch_size=4,
        steps=7,
        wall_seconds=99.0,
    )
    return make_result(config, measured, "completed")


def test_an_epoch_is_the_median_of_those_that_trained():
    """The evaluation before any training is no epoch; the first one compiles."""
    metrics = [line(0, 500.0, 0.1), line(1, 40.0, 0.5), line(2, 9.0, None), line(3, 5.0, 0.4)]
    result = result_of(metrics)
    assert result.seconds_per_epoch == 9.0
    assert result.epochs == 3


def test_accuracy_is_the_first_best_and_the_last():
    metrics = [line(0, 0.0, 0.1), line(1, 1.0, 0.5), line(2, 1.0, 0.5), line(3, 1.0, 0.4)]
    result = result_of(metrics)
    assert (result.best_test_accuracy, result.best_epoch) == (0.5, 1)
    assert result.last_test_accuracy == 0.4
    nothing = result_of([line(1, 1.0, None)])
    assert nothing.best_test_accuracy is nothing.best_epoch is nothing.last_test_accuracy is None


def test_seconds_of_selections_add_up_and_the_latest_counts(monkeypatch):
    monkeypatch.setattr("psutil.cpu_count", lambda: 4)
    first, second = (
        replace(SELECTION, seconds=2.0),
        replace(SELECTION, seconds=3.0, figures={"a": 1}),
    )
    result = result_of([line(1, 1.0, 0.5)], [first, second])
    assert (result.selections, result.selection_seconds) == (2, 5.0)
    assert result.figures == {"a": 1}
    network = tiny_network()
    trained = network.layers[1].params + network.layers[3].params
    assert result.trained_parameters == trained
    assert result.total_parameters == 2 * network.params
    assert result.trained_share == pytest.approx(trained / 2 / network.params)
    assert result.cpu_utilisation == {"selection": None, "training": 12.5, "evaluation": None}
    assert result.memory["measured_allocator"]["training"] == 12.0


def choice(index: int, **changes) -> LayerChoice:
    layer = tiny_network().layers[index]
    fields = {
        "index": index,
        "name": layer.name,
        "type": "Conv2D",
        "b1": index,
        "activation_size": 10 * (index + 1),
        "params": layer.params,
        "score": 0.5 ** (index + 1),
        "rank": index + 1,
        "size_rank": index + 1,
        "selected": index in (1, 3),
        "variables": tuple(range(len(layer.variables))) if index in (1, 3) else (),
    }
    return LayerChoice(**{**fields, **changes})


SELECTION = Selection(
    train_type="act_norm_betti_train",
    rho=0.5,
    num_layers=4,
    num_selected=2,
    samples=40,
    seconds=1.0,
    ties_at_cut=1,
    overlap_with_smallest=1,
    layers=tuple(choice(index) for index in range(4)),
)


def test_selection_png_shows_scores_and_who_is_trained():
    figure = selection_figure(SELECTION, "a title")
    panels = {axis.get_ylabel(): axis for axis in figure.axes}
    assert list(panels) == ["b1", "score", "elements |a|", "rank"]
    heights = {
        label: [bar.get_height() for bar in axis.patches if isinstance(bar, Rectangle)]
        for label, axis in panels.items()
    }
    assert heights["b1"] == [0, 1, 2, 3]
    assert heights["score"] == [0.5, 0.25, 0.125, 0.0625]
    assert heights["elements |a|"] == [10, 20, 30, 40]
    legend = figure.axes[0].get_legend()
    keys = dict(zip([text.get_text() for text in legend.get_texts()], legend.get_patches()))
    green, grey = (keys[name].get_facecolor() for name in ("trained (2)", "frozen (2)"))
    assert not same_color(green, grey)
    for label in ("b1", "score", "elements |a|"):
        bars = [bar.get_facecolor() for bar in panels[label].patches]
        assert bars == [grey, green, grey, green], label
    marked = [tick.get_fontweight() == "bold" for tick in panels["rank"].get_xticklabels()]
    assert marked == [False, True, False, True]


def test_selection_png_without_scores_has_sizes_alone():
    rows = tuple(replace(row, score=None, b1=None, rank=None) for row in SELECTION.layers)
    rows = (replace(rows[0], channels=(0, 2)), *rows[1:])
    (axis,) = selection_figure(replace(SELECTION, layers=rows), "").axes
    assert axis.get_ylabel() == "elements |a|"
    assert axis.get_xticklabels()[0].get_text() == f"0 {rows[0].name} (2 ch)"
