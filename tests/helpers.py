"""Small networks and data that several test files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from main import main
from models.network import Network, build_network
from models.registry import BACKBONES
from models.trained import Trained
from selection.request import SelectionRequest


def tiny_network(weights: str = "none", **options) -> Network:
    """DigitNet with five classes on 32 pixels."""
    return build_network(BACKBONES["digitnet"], 5, 32, weights, **options)


def random_pixels(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Noise images, uint8 ``[count, size, size, 3]``."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def snapshot(network: Network) -> list[np.ndarray]:
    """Copies of all weights, moving statistics included."""
    return [weight.numpy() for weight in network.model.weights]


def whole(network: Network, variables) -> list[Trained]:
    """``variables`` as what to train, all channels."""
    owner = {v.ref(): layer for layer in network.layers for v in layer.variables}
    return [Trained(variable, None, owner[variable.ref()]) for variable in variables]


def assert_refused(flags: list[str], message: str, output: Path, capsys) -> None:
    """``main.py`` says ``message`` in one line, exits with 2 and leaves nothing in ``output``."""
    assert main([*flags, "--output_dir", str(output)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert not output.exists() or not list(output.iterdir())


def selection_request(network: Network, images, labels=None, **changes) -> SelectionRequest:
    """A request that sees ``images``; ``changes`` replace its fields."""
    labels = np.arange(len(images)) % 5 if labels is None else labels
    fields: dict[str, Any] = {
        "network": network,
        "rho": 0.3,
        "always_head": False,
        "batch_size": 8,
        "num_batches": 5,
        "sample_images": lambda count: images[:count],
        "labelled_images": lambda count: (images[:count], labels[:count]),
    }
    return SelectionRequest(**{**fields, **changes})
