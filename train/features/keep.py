"""Whether the front's features are kept, where, and under which key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.files import user_path, write_json
from common.wording import count, shown
from models.forward import inputs_of
from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained
from train.config.run_config import RunConfig
from train.data.batches import augmentation_of
from train.data.datasets import DataBundle
from train.data.image_cache import default_cache_dir, has_default_cache
from train.data.image_store import FileImages, ImageSet, SomeImages, Stored
from train.features.kept_mode import KeptMode
from train.features.reader import FeatureReader
from train.features.rows import FeatureRows, row_bytes
from train.gradients.lean.cut import FeatureCut, feature_cut
from train.trainer import Trainer

FORMAT = 1  # part of every key: raise it when rows or their order change
MOST_BYTES = 20e9  # of all features in a cache; those used longest ago make room
# Reading is not worth it where computing takes less than this many times as long; both guessed.
GAIN = 2.0
BYTES_PER_SECOND = 0.5e9
MACS_PER_SECOND = 10e9


@dataclass(frozen=True, eq=False)
class Readers:
    """Of a stage's batches; None where they hold images.

    Attributes:
        note: a line for the user; empty where there is nothing to say.
    """

    train: Optional[FeatureReader] = None
    test: Optional[FeatureReader] = None
    validation: Optional[FeatureReader] = None
    note: str = ""


class FeatureKeeper:
    """Of one stage of a run.

    Args:
        epochs: how long it goes on, at most.
    """

    def __init__(self, config: RunConfig, data: DataBundle, epochs: int) -> None:
        self._config = config
        self._data = data
        self._epochs = epochs
        self._augmentation = augmentation_of(config, data)
        self._half = config.cache_features is KeptMode.FLOAT16

    def cut_for(self, network: Network, trained: Sequence[Trained]) -> Optional[FeatureCut]:
        """Behind which a trainer of ``trained`` should begin; None for at the images.

        It depends on nothing but the run's configuration, data and network, so that a resumed run
        does the same again.
        """
        config = self._config
        if config.cache_features is KeptMode.OFF or config.frozen != FrozenMode.LEAN:
            return None
        if network.batch_statistics or self._augmentation.variants is None or not trained:
            return None
        if config.cache_features is None:
            if self._epochs < 2:
                return None  # nothing would be read again
            if config.cache_dir is None and not has_default_cache():
                return None
        cut = feature_cut(network.model, trained)
        if cut is None or config.cache_features is not None:
            return cut
        reading = row_bytes(cut.elements) / BYTES_PER_SECOND
        gains = cut.macs / MACS_PER_SECOND > GAIN * reading
        return cut if gains and self._bytes(cut) <= MOST_BYTES else None

    def readers(self, trainer: Trainer) -> Readers:
        """For the batches of ``trainer``.

        They raise UserError at the first batch where the disk has too little room: which rows are
        there depends on the weights, which a resumed run sets later.

        Raises:
            UserError: there is no folder to keep them in.
        """
        cut = trainer.cut
        if cut is None:
            return Readers()
        folder = self._folder()
        train, test, validation = (
            None if split is None else self._reader(trainer, folder, split, rows)
            for split, rows in zip(self._splits(), self._rows())
        )
        variants = self._augmentation.variants
        others = "test image" if self._data.validation is None else "other image"
        of_each = f" in {variants} variants" if variants != 1 else ""
        note = (
            f"{cut.layers[-1].name} and all before it is frozen: what comes out is computed once "
            f"and kept in {shown(folder)} (safe to delete), up to {self._bytes(cut) / 1e6:.0f} MB: "
            f"{row_bytes(cut.elements, self._half) / 1e3:.1f} kB for each of "
            f"{count(len(self._data.train), 'training image')}{of_each} and "
            f"{count(sum(self._rows()[1:]), others)}"
        )
        return Readers(train, test, validation, note)

    def _splits(self) -> tuple[ImageSet, Optional[ImageSet], Optional[ImageSet]]:
        return self._data.train, self._data.test, self._data.validation

    def _rows(self) -> tuple[int, ...]:
        """How many a run may write of each of the splits."""
        variants = min(self._augmentation.variants or 1, max(1, self._epochs))
        train, *others = self._splits()
        return len(train) * variants, *(0 if one is None else len(one) for one in others)

    def _bytes(self, cut: FeatureCut) -> int:
        """What the run may write."""
        return sum(self._rows()) * row_bytes(cut.elements, self._half)

    def _folder(self) -> Path:
        asked = self._config.cache_dir
        cache = user_path(asked, "--cache_dir") if asked else default_cache_dir()
        folder = cache / "features"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_keep(folder, error) from error
        return folder

    def _reader(self, trainer: Trainer, folder: Path, images: ImageSet, rows: int) -> FeatureReader:
        cut = trainer.cut
        assert cut is not None
        augmented = images is self._data.train
        augmentation = self._augmentation if augmented else None

        def open_rows() -> FeatureRows:
            about = self._about(trainer.network, cut, images, augmented=augmented)
            entry = folder / _entry_name(trainer.network, about)
            try:
                entry.mkdir(exist_ok=True)
                if not (entry / "about.json").exists():
                    write_json(entry / "about.json", about, indent=1)
                os.utime(entry)  # it is in use
                _make_room(folder, entry, rows * row_bytes(cut.elements, self._half))
                return FeatureRows(entry / "rows", cut.elements, self._half)
            except OSError as error:
                raise _cannot_keep(folder, error) from error

        return FeatureReader(
            images,
            augmentation,
            [tuple(tensor.shape[1:]) for tensor in cut.tensors],
            trainer.features,
            open_rows,
            lambda error: _warn(folder, error),
        )

    def _about(
        self, network: Network, cut: FeatureCut, images: ImageSet, *, augmented: bool
    ) -> dict[str, Any]:
        """Everything that the rows depend on, in JSON; the entry's name is its digest."""
        drawn: Optional[dict[str, Any]] = None
        if augmented:
            drawn = {"flip": self._augmentation.flip}
            if self._augmentation.draws is not None:
                drawn |= {"rotation": self._augmentation.rotation, "seed": self._augmentation.seed}
        return {
            "format": FORMAT,
            "model": network.backbone.name,
            "input_shape": list(network.model.input_shape[1:]),
            "behind": cut.layers[-1].name,
            "elements": cut.elements,
            "dtype": "float16" if self._half else "float32",
            "front": _digest(_front(network.model, cut)),
            "images": _identity(images),
            "augmentation": drawn,
            "tensorflow": tf.__version__,
        }


def _entry_name(network: Network, about: dict[str, Any]) -> str:
    packed = json.dumps(about, sort_keys=True).encode()
    return f"{network.backbone.name}-{hashlib.sha256(packed).hexdigest()[:24]}"


def _front(model: tf.keras.Model, cut: FeatureCut) -> Iterator[bytes]:
    """What the layers in front are, what they read, and their weights."""
    place = {id(layer.output): number for number, layer in enumerate(model.layers)}
    for layer in cut.layers:
        yield str([place[id(tensor)] for tensor in inputs_of(layer)]).encode()
        config = {name: value for name, value in layer.get_config().items() if name != "name"}
        yield type(layer).__name__.encode()
        yield json.dumps(config, sort_keys=True, default=str).encode()
        for weight in layer.weights:
            yield np.ascontiguousarray(weight.numpy()).tobytes()


def _identity(images: ImageSet) -> str:
    """Of the pictures; the folder that decoded ones lie in is named after their content."""
    return _identity_of(images.images)


def _identity_of(images: Stored) -> str:
    if isinstance(images, FileImages):
        return images.path.parent.name
    if isinstance(images, SomeImages):
        places = _digest([images.places.astype("<i8").tobytes()])
        return f"{places} of {_identity_of(images.others)}"
    return _digest([images.take(np.arange(len(images))).tobytes()])


def _digest(parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _make_room(folder: Path, own: Path, whole: int) -> None:
    """Remove the entries used longest ago, as far as ``own`` of ``whole`` bytes is too much.

    Raises:
        UserError: the disk has no room for it.
    """
    entries = sorted(
        (entry for entry in folder.iterdir() if entry.is_dir()),
        key=lambda entry: entry.stat().st_mtime,
    )
    taken = {entry: _on_disk(entry) for entry in entries}
    total, needed = sum(taken.values()), max(0, whole - taken[own])
    for entry in entries:
        if entry == own:
            continue
        if total + needed <= MOST_BYTES and needed <= shutil.disk_usage(folder).free:
            break
        shutil.rmtree(entry, ignore_errors=True)
        total -= taken[entry]
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"keeping the features of the frozen layers needs {needed / 1e6:.0f} MB of disk, "
            f"{shown(folder)} has {free / 1e6:.0f} MB left; use --cache_features off, or another "
            "folder with --cache_dir"
        )


def _on_disk(entry: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in entry.iterdir())


def _cannot_keep(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot keep features in {shown(folder)} ({error.strerror or error}); use "
        "--cache_features off, or another folder with --cache_dir"
    )


def _warn(folder: Path, error: OSError) -> None:
    sys.stderr.write(
        f"WARNING: features can no longer be kept in {shown(folder)} ({error.strerror or error}): "
        "those that are missing are computed each time\n"
    )
