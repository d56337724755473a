"""Figure 3: how far the layers selected by Fisher information and by Betti numbers depend on the
images and, for the former, on the backward passes before."""

from __future__ import annotations

from typing import Optional

from matplotlib.figure import Figure

from common.plots import new_figure
from common.wording import count
from reproduce.item import Item, Options
from reproduce.items.after_epochs import after_epochs_spec
from reproduce.report.cells import (
    best_accuracy,
    dataset_title,
    epochs_note,
    mean_overlap,
    model_title,
    selected,
    selection_spec,
    sources,
    training_spec,
    values,
    why_missing,
)
from reproduce.report.plots import selection_map
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table, number
from reproduce.store.runs import RunSpec, Store

DRAWS = 5
EPOCHS_BEFORE = (0, 1, 2, 4)
FISHER, ADABET = "fisher_training", "act_norm_betti_train"


def _where(options: Options) -> tuple[str, str]:
    return options.models[0], options.datasets[0]


def panels(options: Options) -> dict[str, dict[str, RunSpec]]:
    """``panel -> line -> the run that selects``."""
    model, dataset = _where(options)
    draws = {f"seed {draw}": draw for draw in range(DRAWS)}
    return {
        "(a) Fisher information, by epochs of full training before": {
            count(epochs, "epoch"): after_epochs_spec(options, model, dataset, FISHER, epochs)
            for epochs in EPOCHS_BEFORE
        },
        "(b) Fisher information, by seed of the images": {
            title: selection_spec(options, model, dataset, FISHER, selection_seed=draw)
            for title, draw in draws.items()
        },
        "(c) AdaBet, by seed of the images": {
            title: selection_spec(options, model, dataset, ADABET, selection_seed=draw)
            for title, draw in draws.items()
        },
    }


def _training(options: Options) -> dict[str, dict[str, RunSpec]]:
    """The runs that train with the same selections, of panels (b) and (c)."""
    model, dataset = _where(options)
    return {
        panel: {
            f"seed {draw}": training_spec(options, model, dataset, method, selection_seed=draw)
            for draw in range(DRAWS)
        }
        for panel, method in zip(list(panels(options))[1:], (FISHER, ADABET))
    }


def specs(options: Options) -> list[RunSpec]:
    """The selections, and with ``--epochs`` the trainings too."""
    found = [spec for lines in panels(options).values() for spec in lines.values()]
    if options.epochs:
        found += [spec for lines in _training(options).values() for spec in lines.values()]
    return found


def build(store: Store, options: Options) -> Report:
    """Maps of the selected layers, their overlaps, and accuracies where they were trained."""
    model, dataset = _where(options)
    training = _training(options)
    maps: dict[str, tuple] = {}
    overlaps, accuracies = [], []
    for panel, lines in panels(options).items():
        chosen = {
            line: selected(store.selection(spec)) if store.state(spec) == "done" else None
            for line, spec in lines.items()
        }
        trained = training.get(panel, {})
        maps[panel] = (chosen, [_accuracy_text(store, trained.get(line)) for line in lines])
        overlaps.append(_overlap_row(store, panel, lines, chosen))
        if trained:
            accuracies.append(_accuracy_row(store, panel, trained))
    return Report(
        name="figure3",
        place="Figure 3",
        title="Fisher information against Betti numbers",
        caption=(
            f"Layers selected (dark) at rho 0.1, {model_title(model)} on "
            f"{dataset_title(options, dataset)}: by Fisher information after epochs of full "
            "training (a) and for images drawn with other seeds (b), and by AdaBet for images "
            "drawn with other seeds (c). The paper shows VGG16 on Stanford Dogs."
        ),
        tables=_tables(overlaps, accuracies),
        notes=(
            "The overlap of two selections is the number of layers that both select over the "
            "number that either selects. " + _finding(overlaps),
            "The paper states no number for this figure: (b) shows 'considerable changes in "
            "accuracy', (c) 'negligible changes'.",
            *([epochs_note(options)] if options.epochs else []),
        ),
        figure=_draw(maps),
        sources=sources(
            store,
            [*specs(options), *(spec for lines in training.values() for spec in lines.values())],
        ),
    )


def _tables(overlaps: list, accuracies: list) -> tuple[Table, Table]:
    return (
        Table(
            "Mean Jaccard overlap of the selections, over all pairs",
            "panel",
            ("overlap, 0 to 1", "selections"),
            tuple(overlaps),
            digits=3,
        ),
        Table(
            "Test accuracy of training the layers of each selection",
            "panel",
            ("mean over the draws", "highest less lowest"),
            tuple(accuracies),
            unit="percent",
        ),
    )


def _accuracy_text(store: Store, training: Optional[RunSpec]) -> str:
    found = values(store, [training], best_accuracy) if training else []
    return f"{number(found[0], 2)}%" if found else ""


def _overlap_row(
    store: Store, panel: str, lines: dict[str, RunSpec], chosen: dict
) -> tuple[str, tuple[Cell, Cell]]:
    found = [one for one in chosen.values() if one is not None]
    mean = mean_overlap(found)
    reason = why_missing(store, list(lines.values()))
    overlap = Cell(missing=reason) if mean is None else Cell((mean,))
    return panel, (overlap, Cell(text=f"{len(found)} of {len(chosen)}"))


def _accuracy_row(store: Store, panel: str, trained: dict) -> tuple[str, tuple[Cell, Cell]]:
    specs_of = list(trained.values())
    found = values(store, specs_of, best_accuracy)
    reason = why_missing(store, specs_of)
    if reason == "not run":
        reason = "the trainings are run with `--epochs`"
    mean = Cell(tuple(found)) if found else Cell(missing=reason)
    spread = Cell((max(found) - min(found),)) if len(found) > 1 else Cell(missing=reason)
    return panel, (mean, spread)


def _finding(overlaps: list) -> str:
    (_, fisher), (_, adabet) = ((panel, cells[0].mean) for panel, cells in overlaps[1:])
    if fisher is None or adabet is None:
        return ""
    if adabet == fisher:
        return "Here both depend on the images to the same degree."
    better, worse = (
        ("AdaBet", "Fisher information")
        if adabet > fisher
        else (
            "Fisher information",
            "AdaBet",
        )
    )
    return (
        f"Here {better} depends less on the images than {worse}: {max(adabet, fisher):.3f} "
        f"against {min(adabet, fisher):.3f}."
    )


def _draw(maps: dict[str, tuple]) -> Figure:
    figure = new_figure(10.0, 6.2)
    axes = figure.subplots(len(maps), 1)
    for axis, (panel, (chosen, side)) in zip(axes, maps.items()):
        selection_map(axis, list(chosen.values()), list(chosen), side)
        axis.set_title(panel, fontsize=10, loc="left")
    figure.tight_layout()
    return figure


ITEMS = (
    Item(
        name="figure3",
        title="Figure 3: Fisher information against Betti numbers over draws of images",
        needs="Stanford Dogs, ImageNet weights of VGG16; accuracies only with --epochs",
        specs=specs,
        build=build,
        models=("vgg16",),
        datasets=("stanford_dogs",),
        seeds=0,
    ),
)
