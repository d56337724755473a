"""Figures 6 and D.9: which layers AdaBet selects, by rho and as training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from matplotlib.figure import Figure

from common.plots import new_figure
from reproduce.item import Item, Options
from reproduce.items.after_epochs import after_epochs_spec
from reproduce.report.cells import (
    dataset_title,
    model_title,
    overlap,
    selected,
    selection_spec,
    sources,
    why_missing,
)
from reproduce.report.plots import selection_map
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import RunSpec, Store
from train.config.paper_constants import NUM_EPOCHS

ADABET = "act_norm_betti_train"
RHOS = tuple(tenth / 10 for tenth in range(1, 11))
EPOCHS = (0, 1, 15, 30)  # Figure D.9
PETS = "oxford_iiit_pet"


def _where(options: Options) -> str:
    dataset = options.datasets[0]
    return f"{model_title(options.models[0])} on {dataset_title(options, dataset)}"


# --- Figure 6 -----------------------------------------------------------------------------------


def _rho_specs(options: Options) -> list[RunSpec]:
    # One ranking serves every rho.
    return [selection_spec(options, options.models[0], options.datasets[0], ADABET)]


def at_rho(selection: Mapping, rho: float) -> list[bool]:
    """Per layer, whether the ranking in a parsed ``selection.json`` selects it at ``rho``."""
    from selection.cut import number_selected

    count = number_selected(rho, len(selection["layers"]))
    return [row["rank"] <= count for row in selection["layers"]]


def _smallest(selection: Mapping, rho: float) -> float:
    """The share of the layers selected at ``rho`` that are among as many smallest ones."""
    from selection.cut import number_selected

    count = number_selected(rho, len(selection["layers"]))
    chosen = [row for row in selection["layers"] if row["rank"] <= count]
    return 100 * sum(row["size_rank"] <= count for row in chosen) / count


def _cells_at(selection: Mapping, rho: float) -> tuple[Cell, ...]:
    """How many layers a ranking selects at ``rho``, their parameters, and the smallest of them."""
    chosen = at_rho(selection, rho)
    head = "head selected" if chosen[-1] else "head frozen"
    whole = sum(row["params"] for row in selection["layers"])
    params = sum(row["params"] for row, on in zip(selection["layers"], chosen) if on)
    return (
        Cell(text=f"{sum(chosen)}, {head}"),
        Cell((100 * params / whole,)),
        Cell((_smallest(selection, rho),)),
    )


def _build_figure6(store: Store, options: Options) -> Report:
    (spec,) = _rho_specs(options)
    selection = store.selection(spec) if store.state(spec) == "done" else None
    rows = {f"{rho:g}": at_rho(selection, rho) if selection else None for rho in RHOS}
    missing = (Cell(missing=why_missing(store, [spec])),) * 3
    table = [(f"{rho:g}", _cells_at(selection, rho) if selection else missing) for rho in RHOS]
    return Report(
        name="figure6",
        place="Figure 6",
        title="layers selected by AdaBet at various budgets",
        caption=(
            f"{_where(options)}: the layers that AdaBet selects (dark) by rho. The paper shows "
            "ResNet50 on Oxford-IIIT Pets."
        ),
        tables=(
            Table(
                "What is selected",
                "rho",
                (
                    "layers",
                    "trained parameters, percent",
                    "also among as many smallest layers, percent",
                ),
                tuple(table),
                digits=1,
            ),
        ),
        notes=(
            "The ranking does not depend on rho, so a layer selected at one rho is selected at "
            "every larger one: that the same core stays selected, as the paper observes, holds "
            "by construction. The last column is the control: how much of the choice the size of "
            "the activation alone would have made.",
        ),
        figure=_draw(rows, "rho", f"{_where(options)}, AdaBet"),
        sources=sources(store, [spec]),
    )


# --- Figure D.9 ---------------------------------------------------------------------------------


def _epochs(options: Options) -> tuple[int, ...]:
    """Those of the paper that are shorter than the training."""
    return tuple(epoch for epoch in EPOCHS if epoch < (options.epochs or NUM_EPOCHS))


def _stages(options: Options) -> dict[str, RunSpec]:
    model, dataset = options.models[0], options.datasets[0]
    return {
        f"epoch {epoch}": after_epochs_spec(options, model, dataset, ADABET, epoch)
        for epoch in _epochs(options)
    }


def _build_d9(store: Store, options: Options) -> Report:
    stages = _stages(options)
    rows: dict[str, Optional[list[bool]]] = {
        title: selected(store.selection(spec)) if store.state(spec) == "done" else None
        for title, spec in stages.items()
    }
    first = next(iter(rows.values()))
    table = []
    for title, chosen in rows.items():
        if chosen is None:
            cell = Cell(missing=why_missing(store, [stages[title]]))
        elif first is None:
            cell = Cell(missing="the selection before training is missing")
        else:
            cell = Cell((overlap(first, chosen),), text=f"{sum(chosen)} layers")
        table.append((title, (cell,)))
    left_out = [epoch for epoch in EPOCHS if epoch not in _epochs(options)]
    notes = [
        f"Full training of {options.epochs or NUM_EPOCHS} epochs, with the selection in between; "
        "rho 0.1. The paper says neither what is trained until then nor gives numbers: it finds "
        "the patterns 'similar'."
    ]
    if left_out:
        notes.append(f"Left out, as training is shorter here: epochs {left_out}.")
    return Report(
        name="d9",
        place="Figure D.9",
        title="selection over training epochs",
        caption=(
            f"{_where(options)}: the layers that AdaBet selects (dark) from the model as it is "
            "before training and after some epochs. The paper shows ResNet50 on Oxford-IIIT Pets."
        ),
        tables=(
            Table(
                "Jaccard overlap with the selection before training",
                "selected after",
                ("overlap, 0 to 1",),
                tuple(table),
                digits=3,
            ),
        ),
        notes=tuple(notes),
        figure=_draw(rows, "selected after", f"{_where(options)}, AdaBet, rho 0.1"),
        sources=sources(store, stages.values()),
    )


def _draw(rows: Mapping[str, Optional[list[bool]]], label: str, title: str) -> Figure:
    figure = new_figure(10.0, 1.2 + 0.3 * len(rows))
    axis = figure.subplots()
    selection_map(axis, list(rows.values()), list(rows))
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=10, loc="left")
    figure.tight_layout()
    return figure


ITEMS = (
    Item(
        name="figure6",
        title="Figure 6: layers selected by rho",
        needs="Oxford-IIIT Pets, ImageNet weights of ResNet50",
        specs=_rho_specs,
        build=_build_figure6,
        models=("resnet50",),
        datasets=(PETS,),
        seeds=0,
    ),
    Item(
        name="d9",
        title="Figure D.9: selection over training epochs",
        needs="Oxford-IIIT Pets, ImageNet weights of ResNet50",
        specs=lambda options: list(_stages(options).values()),
        build=_build_d9,
        models=("resnet50",),
        datasets=(PETS,),
        seeds=0,
    ),
)
