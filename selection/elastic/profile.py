"""What each trainable tensor costs in the backward pass: the profile ElasticTrainer chooses by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec
import numpy as np

from common.errors import UserError
from common.files import write_json
from common.machine import device_name
from common.outside_json import read_outside_json, schema_of
from models.network import Network
from selection.elastic.layer_costs import (
    LayerCost,
    counted_costs,
    measured_costs,
    measured_pass,
    profiled_layers,
)

MODES: dict[str, Callable[[Network, int], list[LayerCost]]] = {
    "flops": counted_costs,
    "measured": measured_costs,
}
_UNITS = {"flops": "FLOP", "measured": "second"}
_FLAG = "--profile_file"


@dataclass(frozen=True)
class TensorTime:
    """One trainable tensor.

    Attributes:
        layer: index of its layer.
        position: among the layer's variables.
        shape: of the variable.
        t_dw: of its gradient.
        t_dy: of passing the gradient on from it to the next tensor away from the loss, through
            the parameter-free layers in between; 0 for a bias, whose kernel carries it.
    """

    layer: int
    position: int
    shape: tuple[int, ...]
    t_dw: float
    t_dy: float


@dataclass(frozen=True)
class Profile:
    """Times of a network's training step, all in ``unit``, for a batch of ``batch_size``.

    Branches are taken one after another in execution order, so the way down to a tensor holds
    whatever is executed after it.

    Attributes:
        mode: ``flops`` or ``measured``.
        device: what it was made on.
        input_size: image side in pixels.
        batch_statistics: batch norm normalises by the batch at hand.
        forward: of the forward pass, Tf.
        backward: of the backward pass of full training, Tb.
        tensors: every trainable tensor, the nearest to the loss first.
    """

    mode: str
    unit: str
    device: str
    model: str
    batch_size: int
    input_size: int
    batch_statistics: bool
    forward: float
    backward: float
    tensors: tuple[TensorTime, ...]

    @property
    def t_dw(self) -> np.ndarray:
        """Of all tensors, float64 ``[tensors]``."""
        return np.array([tensor.t_dw for tensor in self.tensors])

    @property
    def t_dy(self) -> np.ndarray:
        """Of all tensors, float64 ``[tensors]``."""
        return np.array([tensor.t_dy for tensor in self.tensors])

    def time_budget(self, rho: float) -> float:
        """What ``rho``, a share of the time of a full training step, leaves to the backward pass.

        It is rho_b = rho (1 + Tf/Tb) - Tf/Tb of Tb; negative where not even Tf fits.
        """
        share = self.forward / self.backward
        return (rho * (1 + share) - share) * self.backward

    @property
    def smallest_rho(self) -> float:
        """The share of a full step that the cheapest tensor alone takes."""
        ways = np.concatenate([[0.0], np.cumsum(self.t_dy)[:-1]])
        return float((self.forward + (ways + self.t_dw).min()) / (self.forward + self.backward))


def tensor_profile(
    network: Network, batch_size: int, mode: str = "flops", path: Optional[str] = None
) -> Profile:
    """The profile of ``network``, read from ``path`` if that holds this very one.

    One made elsewhere (another device, batch size, mode or network) is made anew and written.

    Raises:
        UserError: ``path`` is not a profile, or cannot be read or written.
        ValueError: an unknown ``mode``.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}")
    stored = None if path is None else _read(Path(path))
    if stored is not None and _fits(stored, network, batch_size, mode):
        return stored
    profile = _profile(network, batch_size, mode)
    if path is not None:
        _write(Path(path), profile)
    return profile


def _profile(network: Network, batch_size: int, mode: str) -> Profile:
    costs = MODES[mode](network, batch_size)
    tensors = _from_the_loss(network, costs)
    forward = sum(cost.forward for cost in costs)
    backward = sum(tensor.t_dw + tensor.t_dy for tensor in tensors)
    if mode == "measured":
        # Layers on their own miss the sums where branches part and what the network saves as a
        # whole: they only share out its own time.
        forward, whole = measured_pass(network, batch_size)
        scale, backward = whole / backward, whole
        tensors = tuple(
            replace(tensor, t_dw=tensor.t_dw * scale, t_dy=tensor.t_dy * scale)
            for tensor in tensors
        )
    return Profile(
        mode=mode,
        unit=_UNITS[mode],
        forward=forward,
        backward=backward,
        tensors=tensors,
        **_circumstances(network, batch_size),
    )


def _circumstances(network: Network, batch_size: int) -> dict:
    return {
        "device": device_name(),
        "model": network.backbone.name,
        "batch_size": batch_size,
        "input_size": network.model.input_shape[1],
        "batch_statistics": network.batch_statistics,
    }


def _from_the_loss(network: Network, costs: list[LayerCost]) -> tuple[TensorTime, ...]:
    index = {id(layer.keras_layer): layer for layer in network.layers}
    found: list[TensorTime] = []
    for keras_layer, cost in zip(reversed(profiled_layers(network)), reversed(costs)):
        if found:
            found[-1] = replace(found[-1], t_dy=found[-1].t_dy + cost.through)
        if id(keras_layer) not in index:
            continue
        layer = index[id(keras_layer)]
        for position in reversed(range(len(layer.variables))):
            shape = tuple(layer.variables[position].shape)
            t_dw, t_dy = cost.t_dw[position], cost.t_dy[position]
            found.append(TensorTime(layer.index, position, shape, t_dw, t_dy))
    found[-1] = replace(found[-1], t_dy=0.0)  # nothing lies beyond the deepest tensor
    return tuple(found)


def _fits(profile: Profile, network: Network, batch_size: int, mode: str) -> bool:
    wanted = {"mode": mode, **_circumstances(network, batch_size)}
    if any(getattr(profile, name) != value for name, value in wanted.items()):
        return False
    found = sorted((tensor.layer, tensor.position, tensor.shape) for tensor in profile.tensors)
    return found == [
        (layer.index, position, tuple(variable.shape))
        for layer in network.layers
        for position, variable in enumerate(layer.variables)
    ]


def _read(path: Path) -> Optional[Profile]:
    """The profile in ``path``; None if there is no such file."""
    if not path.exists():
        return None
    where = f"{_FLAG} {path}"
    content = read_outside_json(path, _schema(), where)
    if not (content["forward"] > 0 and content["backward"] > 0):
        raise UserError(f"{where}: forward and backward must be above 0; name another file")
    return profile_of(content)


def profile_of(content: dict) -> Profile:
    """From what ``dataclasses.asdict`` makes of a profile, through JSON or not."""
    rows = (TensorTime(**{**row, "shape": tuple(row["shape"])}) for row in content["tensors"])
    return Profile(**{**content, "tensors": tuple(rows)})


def _schema() -> Any:
    seconds = Annotated[float, msgspec.Meta(ge=0)]
    row = schema_of(TensorTime, t_dw=seconds, t_dy=seconds)
    rows: Any = tuple[row, ...]  # type: ignore[valid-type]
    rows = Annotated[rows, msgspec.Meta(min_length=1)]
    return schema_of(Profile, tensors=rows, forward=seconds, backward=seconds)


def _write(path: Path, profile: Profile) -> None:
    try:
        write_json(path, asdict(profile), indent=1)
    except OSError as error:
        raise UserError(f"{_FLAG} {path} cannot be written: {error.strerror}") from error
