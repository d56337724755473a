"""``--plan``: what training would take at one rho after another, without training."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Optional

import tensorflow as tf

from common.timing import median_seconds
from common.wording import count
from memory_utils import paper_memory
from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained, ranks_of
from selection.cut import cut_at_rho, trained_of
from selection.elastic.knapsack import backward_time
from selection.elastic.profile import Profile, tensor_profile
from selection.registry import train_type_named
from selection.selection import Selection
from train.config.run_config import RunConfig
from train.estimates import micro_batch_of, training_memory
from train.run.budget import bought_line, fits_mark

RHOS = (0.05, *(tenth / 10 for tenth in range(1, 11)))
REPEATS = 5  # timed forward passes


@dataclass(frozen=True)
class DryRunRow:
    """What training would take; memory in MB of 1e6 bytes.

    Attributes:
        rho: None for what was selected within a memory budget, and for the head alone.
        layers: how many are trained, in part or whole.
        trained_share: of the trainable parameters, 0 to 1.
        lean, stock: estimates of a training step's peak with ``--frozen`` so.
        paper: Table 3's accounting, at its batch of 8.
        time_ratio: predicted time of a step over that of a step of full training.
        seconds: predicted, per step.
        head_alone: of the ``--head_epochs`` before the others.
    """

    rho: Optional[float]
    layers: int
    trained_share: float
    lean: float
    stock: float
    paper: float
    time_ratio: float
    seconds: float
    head_alone: bool = False


class StepTimes:
    """Predicts the time of a training step from counted FLOPs and one measurement here.

    What is measured is the forward pass, which any run needs the memory for; full training's
    step may not fit. The backward pass is taken to run at the same FLOPs per second.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        self._profile: Profile = tensor_profile(network, batch_size)
        self._place = {
            network.layers[tensor.layer].variables[tensor.position].ref(): place
            for place, tensor in enumerate(self._profile.tensors)
        }
        self.forward_seconds = _forward_seconds(network, batch_size)

    def ratio(self, trained: Sequence[Trained]) -> float:
        """Of a step on ``trained`` to one of full training; forward passes included."""
        profile = self._profile
        t_dw = profile.t_dw
        for one in trained:
            t_dw[self._place[one.variable.ref()]] *= one.work
        chosen = [self._place[one.variable.ref()] for one in trained]
        took = profile.forward + backward_time(chosen, t_dw.tolist(), profile.t_dy.tolist())
        return took / (profile.forward + profile.backward)

    def seconds(self, trained: Sequence[Trained]) -> float:
        """Of a step on ``trained``."""
        full = (self._profile.forward + self._profile.backward) / self._profile.forward
        return self.ratio(trained) * full * self.forward_seconds


def _forward_seconds(network: Network, batch_size: int) -> float:
    """Median of warm forward passes on noise."""
    images = tf.random.stateless_uniform(
        [batch_size, *network.model.input_shape[1:]], [0, 1], 0.0, 255.0
    )
    function = tf.function(lambda: network.model(images, training=False), autograph=False)
    (seconds,) = median_seconds([function], REPEATS)
    del function
    gc.collect()  # what was compiled is a reference cycle
    return seconds


def dry_run_rows(
    config: RunConfig,
    network: Network,
    selection: Selection,
    select_again: Callable[[float], Selection],
) -> list[DryRunRow]:
    """A row per rho, and the run's own choice.

    They are cut from the one order of layers that ``selection`` holds. The row of a ``--rho`` that
    is not in :data:`RHOS` is put in its place; that of what a memory budget bought comes after
    them, and then that of the head, where it has epochs of its own.

    Args:
        select_again: the selection at another rho, for a train type without an order of layers.
    """
    times = StepTimes(network, config.batch_size)
    rhos = sorted({*RHOS, *([] if config.rho is None else [config.rho])})
    choices: dict[Optional[float], list[Trained]] = {}
    if train_type_named(config.train_type).order:
        choices.update((rho, _cut(config, network, selection, rho)) for rho in rhos)
    else:
        smallest = selection.figures.get("smallest_rho", 0.0)
        possible = (rho for rho in rhos if rho >= smallest)
        choices.update((rho, select_again(rho).trained(network.layers)) for rho in possible)
    if config.rho is None:
        choices[None] = selection.trained(network.layers)
    rows = [_row(config, network, times, trained, rho) for rho, trained in choices.items()]
    if config.head_epochs:
        head = _row(config, network, times, trained_of(network.head), None)
        rows.append(replace(head, head_alone=True))
    return rows


def _cut(config: RunConfig, network: Network, selection: Selection, rho: float) -> list[Trained]:
    entry = train_type_named(config.train_type)
    prefix = cut_at_rho(
        network.layers,
        layer_order(selection),
        rho,
        always_head=config.always_head or entry.always_head,
        rho_ch=config.rho_ch,
    )
    return prefix.trained(network.layers)


def layer_order(selection: Selection) -> list[int]:
    """Layer indices in the order in which the selection's train type takes them."""
    if train_type_named(selection.train_type).order == "last":
        return list(range(selection.num_layers))[::-1]
    return [row.index for row in sorted(selection.layers, key=lambda row: row.rank or 0)]


def _row(
    config: RunConfig,
    network: Network,
    times: StepTimes,
    trained: Sequence[Trained],
    rho: Optional[float],
) -> DryRunRow:
    size, micro = config.batch_size, micro_batch_of(config, network, trained)
    return DryRunRow(
        rho=rho,
        layers=len({one.layer.index for one in trained}),
        trained_share=sum(one.params for one in trained) / network.params,
        lean=training_memory(network, trained, size, FrozenMode.LEAN, micro, clips=config.clips),
        stock=training_memory(network, trained, size, FrozenMode.STOCK, micro, clips=config.clips),
        paper=paper_memory(network, [one.variable for one in trained], ranks=ranks_of(trained)),
        time_ratio=times.ratio(trained),
        seconds=times.seconds(trained),
    )


def dry_run_text(config: RunConfig, rows: Sequence[DryRunRow], selection: Selection) -> str:
    """The table, and how it came about."""
    lines = [
        f"{'rho':>6}  {'layers':>6}  {'trained':>8}  {'lean, MB':>10}  {'stock, MB':>10}  "
        f"{'paper, MB':>10}  {'step / full':>11}  {'step, s':>9}"
    ]
    for row in rows:
        training = row.lean if config.frozen == FrozenMode.LEAN else row.stock
        mark = "" if row.rho is None else fits_mark(config, training)
        lines.append(
            f"{_name(row):>6}  {row.layers:>6}  "
            f"{row.trained_share:>8.2%}  {row.lean:>10.2f}  {row.stock:>10.2f}  "
            f"{row.paper:>10.2f}  {row.time_ratio:>11.2f}  {row.seconds:>9.3f}  {mark}".rstrip()
        )
    lines.append(
        f"(lean, stock: estimated peak of a training step at batch size {config.batch_size} with "
        f"--frozen so; paper: Table 3's accounting, batch 8.\n step: FLOPs counted, at the speed "
        f"of the forward pass as it was measured here just now)"
    )
    if config.head_epochs:
        lines.append(f"head: alone, in the first {count(config.head_epochs, 'epoch')}")
    bought = bought_line(config, selection)
    return "\n".join([*lines, bought] if bought else lines)


def _name(row: DryRunRow) -> str:
    if row.head_alone:
        return "head"
    return "budget" if row.rho is None else f"{row.rho:g}"


def dry_run_json(rows: Sequence[DryRunRow]) -> dict:
    """What ``plan.json`` holds."""
    return {"rows": [asdict(row) for row in rows]}
