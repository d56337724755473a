"""Figure E.16: memory and CPU utilisation on a CPU."""

from __future__ import annotations

from typing import Any, Optional

from reproduce import paper_values as paper
from reproduce.item import Item, Options
from reproduce.report.cells import (
    dataset_title,
    model_title,
    seeds_of,
    training_spec,
)
from reproduce.report.report import Report
from reproduce.report.series import Metric, MetricSeries, Statement, Text, lessening, series_report
from reproduce.store.runs import RunSpec, Store

FULL, ADABET = "full_training", "act_norm_betti_train"


def _where(options: Options) -> str:
    models = " and ".join(map(model_title, options.models))
    return f"{models} on {dataset_title(options, options.datasets[0])}"


def _worst(figure: str):
    """The largest of selection, training and evaluation."""

    def value(result: dict) -> Optional[float]:
        phases = result["memory"][figure]
        ran = ("selection", "training", "evaluation") if result["steps"] else ("evaluation",)
        return max((phases[name] for name in ran if phases[name] is not None), default=None)

    return value


def _utilisation(result: dict) -> Optional[float]:
    return result["cpu_utilisation"]["training" if result["steps"] else "evaluation"]


RSS = Metric("Peak resident memory of the process", "MB", _worst("measured_rss"))
ALLOCATOR = Metric("Peak of TensorFlow's allocator", "MB", _worst("measured_allocator"))
CPU = Metric("CPU utilisation, all logical CPUs", "percent", _utilisation)


def _e16(options: Options) -> list[MetricSeries]:
    flags = {"batch_size": 2, "num_epochs": 1, "max_steps": 200, "eval_batch_size": 2}
    by_one = {**flags, "micro_batch": 1}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "Full Training": (FULL, flags),
        "AdaBet": (ADABET, flags),
        "Full Training, --micro_batch 1": (FULL, by_one),
        "AdaBet, --micro_batch 1": (ADABET, by_one),
        # rho 0 trains nothing: a run that only evaluates, as many images at a time.
        "Inference": (ADABET, {"batch_size": 2, "num_epochs": 0, "rho": 0.0, "eval_batch_size": 2}),
    }
    series = {
        title: {
            model_title(model): [
                training_spec(options, model, options.datasets[0], method, seed, **own)
                for seed in seeds_of(options)
            ]
            for model in options.models
        }
        for title, (method, own) in kinds.items()
    }
    return [MetricSeries("", "backbone", series, (RSS, ALLOCATOR, CPU), kind="bars")]


def _build_e16(store: Store, options: Options) -> Report:
    statements = []
    for metric, values in ((RSS, paper.FIGUREE16_MEMORY), (CPU, paper.FIGUREE16_CPU)):
        for model in options.models:
            if model in values:
                title = model_title(model)
                statements.append(
                    Statement(
                        f"{title}, AdaBet against full training: {metric.title.lower()}",
                        values[model],
                        "percent less",
                        lessening(0, ("AdaBet", title), ("Full Training", title), metric),
                    )
                )
    text = Text(
        "e16",
        "Figure E.16",
        "memory and CPU utilisation on a CPU",
        f"{_where(options)}, batch 2, rho 0.1: 200 steps of training and the selection and the "
        "evaluation with it (the largest of the three), or evaluation alone, measured through "
        "psutil. The paper shows a Raspberry Pi 4 with 2 GB.",
        (
            "The paper takes the memory of all processes of the machine; here it is that of the "
            "run's own process, which holds the data set's index and TensorFlow itself too. The "
            "allocator's peak beside it is what the network alone takes. --micro_batch 1 computes "
            "one of the two images at a time: the control that every saving has to be held "
            "against, and AdaBet with it.",
        ),
    )
    return series_report(store, text, _e16(options), statements)


def _specs(options: Options) -> list[RunSpec]:
    return [spec for sweep in _e16(options) for spec in sweep.specs()]


ITEMS = (
    Item(
        name="e16",
        title="Figure E.16: memory and CPU utilisation on a CPU",
        needs="Flowers102, ImageNet weights of ResNet50 and MobileNetV2",
        specs=_specs,
        build=_build_e16,
        models=("resnet50", "mobilenetv2"),
        datasets=("oxford_flowers102",),
        seeds=1,
        timed=True,
    ),
)
