"""What is exported: a trained network with its data and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.network import Network
from models.trained import Trained
from selection.selection import Selection
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet


@dataclass(frozen=True, eq=False)
class Subject:
    """A run that has ended.

    Attributes:
        config: of the run.
        network: with the weights that are exported.
        selection: the latest one.
        folder: of the run, into which everything is written.
    """

    config: RunConfig
    data: DataBundle
    network: Network
    selection: Selection
    folder: Path

    @property
    def trained(self) -> list[Trained]:
        """What the run trained last."""
        return self.selection.trained(self.network.layers)

    @property
    def class_names(self) -> tuple[str, ...]:
        """By label."""
        return self.data.class_names

    @property
    def test_images(self) -> ImageSet:
        """Those that outputs are compared on."""
        assert self.data.test is not None
        return self.data.test
