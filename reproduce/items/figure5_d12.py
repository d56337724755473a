"""Figures 5 and D.12: time of selections and epochs; batch size."""

from __future__ import annotations

from reproduce import paper_values as paper
from reproduce.item import Item, Options
from reproduce.report.cells import (
    dataset_title,
    epochs_note,
    method_title,
    model_title,
    seeds_of,
    training_spec,
)
from reproduce.report.report import Report
from reproduce.report.series import (
    ACCURACY,
    EPOCH_SECONDS,
    MEMORY,
    SELECTION_SECONDS,
    MetricSeries,
    Statement,
    Text,
    lessening,
    series_report,
)
from reproduce.store.runs import RunSpec, Store

ADABET, ELASTIC, FULL = "act_norm_betti_train", "elastic_training", "full_training"
PETS, FLOWERS = "oxford_iiit_pet", "oxford_flowers102"
TIMED = {"num_epochs": 3, "eval_every": 3}  # the median epoch counts; the first compiles
BATCH_SIZES = (2, 4, 8, 16, 32, 64)


def _where(options: Options) -> str:
    models = " and ".join(map(model_title, options.models))
    return f"{models} on {dataset_title(options, options.datasets[0])}"


# --- Figure 5 -----------------------------------------------------------------------------------


def _figure5(options: Options) -> list[MetricSeries]:
    def by_model(method: str) -> dict[str, list[RunSpec]]:
        return {
            model_title(model): [
                training_spec(options, model, options.datasets[0], method, seed, **TIMED)
                for seed in seeds_of(options)
            ]
            for model in options.models
        }

    selecting = (ADABET, ELASTIC, "fisher_training")
    training = (FULL, "traditional_tl_training", "fisher_training", ELASTIC, ADABET)
    return [
        MetricSeries(
            "1 step of layer selection",
            "backbone",
            {method_title(method): by_model(method) for method in selecting},
            (SELECTION_SECONDS,),
            kind="bars",
        ),
        MetricSeries(
            "1 epoch of training",
            "backbone",
            {method_title(method): by_model(method) for method in training},
            (EPOCH_SECONDS,),
            kind="bars",
        ),
    ]


def _build_figure5(store: Store, options: Options) -> Report:
    statements = []
    for model in filter(paper.FIGURE5_EPOCH_SHORTER.get, options.models):
        title = model_title(model)
        statements.append(
            Statement(
                f"{title}: AdaBet's selection against ElasticTrainer's (paper: mean of both)",
                paper.FIGURE5_SELECTION_FASTER,
                "percent less",
                lessening(
                    0,
                    (method_title(ADABET), title),
                    (method_title(ELASTIC), title),
                    SELECTION_SECONDS,
                ),
            )
        )
        statements.append(
            Statement(
                f"{title}: AdaBet's epoch against full training's",
                paper.FIGURE5_EPOCH_SHORTER[model],
                "percent less",
                lessening(
                    1, (method_title(ADABET), title), (method_title(FULL), title), EPOCH_SECONDS
                ),
            )
        )
    text = Text(
        "figure5",
        "Figure 5",
        "time of one selection and of one epoch",
        f"{_where(options)}: seconds of one selection (above) and of one epoch of training, "
        "evaluation not included (below). The paper shows ResNet50 and ViT on Oxford-IIIT Pets, "
        "on a V100.",
        (
            "Runs of three epochs, one at a time on the machine; the median epoch counts. A "
            "selection's time includes compiling its graph. ElasticTrainer's tensor times are "
            "counted FLOPs here; its authors profile them.",
        ),
    )
    return series_report(store, text, _figure5(options), statements)


# --- Figure D.12 --------------------------------------------------------------------------------


def _d12(options: Options) -> list[MetricSeries]:
    runs = {
        size: [
            training_spec(
                options, options.models[0], options.datasets[0], ADABET, seed, batch_size=size
            )
            for seed in seeds_of(options)
        ]
        for size in BATCH_SIZES
    }
    metrics = (ACCURACY, *MEMORY, SELECTION_SECONDS, EPOCH_SECONDS)
    return [MetricSeries("", "batch size", {"AdaBet": runs}, metrics)]


def _build_d12(store: Store, options: Options) -> Report:
    text = Text(
        "d12",
        "Figure D.12",
        "batch size",
        f"{_where(options)}, AdaBet at rho 0.1, by the batch size of training. The paper shows "
        "ResNet50 and does not say on which data set.",
        (
            "For the selection a batch is capped at 16 and about 40 images are pooled, as in the "
            "paper. It states no numbers here: accuracy drops slightly below 8, memory grows "
            "sharply above, and both times fall. The sizes are ours.",
            epochs_note(options),
        ),
    )
    return series_report(store, text, _d12(options))


def _specs_of(sweeps):
    return lambda options: [spec for sweep in sweeps(options) for spec in sweep.specs()]


_RESNET = "ImageNet weights of ResNet50"
ITEMS = (
    Item(
        name="figure5",
        title="Figure 5: time of one selection and of one epoch",
        needs="Oxford-IIIT Pets, ImageNet weights of ResNet50 and ViT",
        specs=_specs_of(_figure5),
        build=_build_figure5,
        models=("resnet50", "vit"),
        datasets=(PETS,),
        seeds=1,
        timed=True,
    ),
    Item(
        name="d12",
        title="Figure D.12: batch size",
        needs=f"Flowers102, {_RESNET}",
        specs=_specs_of(_d12),
        build=_build_d12,
        models=("resnet50",),
        datasets=(FLOWERS,),
        timed=True,
    ),
)
