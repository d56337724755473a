"""Splits of a prepared TFDS set: checked, decoded and resized, once for all runs.

TensorFlow and TFDS are imported only where data is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from common.errors import UserError
from common.wording import listed, shown
from train.data.image_cache import CacheKey, cached_split, file_digest
from train.data.image_store import ImageSet
from train.data.shift import Shift, shifted
from train.data.tfds_builder import one_line, quiet_tfds

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds


class TfdsSource:
    """The splits of a prepared set.

    Args:
        builder: see `find_builder`; its features are an image and a label.
        cache: folder for decoded images.
        shift: what is done to every image; None for nothing.

    Attributes:
        class_names: by label.
        notes: lines for the user about what was left out: none, since all of a set is read.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        builder: tfds.core.DatasetBuilder,
        cache: Path,
        shift: Optional[Shift] = None,
    ) -> None:
        self.name = name
        self.class_names: tuple[str, ...] = tuple(builder.info.features["label"].names)
        self._builder = builder
        self._root = Path(builder.data_path)
        self._cache = cache
        self._shift = shift

    def load(
        self, size: int, train_split: str, test_split: Optional[str]
    ) -> tuple[ImageSet, Optional[ImageSet]]:
        """The images of two splits at `size` pixels, decoded now or by an earlier run.

        Raises UserError: no such split, no images or labels in it, unreadable images.
        """
        # Both are looked up before the first is decoded, which may take minutes.
        self._require_images(train_split, "train_split")
        if test_split is not None:
            self._require_images(test_split, "test_split")
        fingerprint = self._fingerprint()
        train = self._load_split(train_split, size, fingerprint)
        if test_split is None:
            return train, None
        return train, self._load_split(test_split, size, fingerprint)

    def _require_images(self, split: str, flag: str) -> None:
        """`split` must name a split with images, or a TFDS slice of one such as "train[80%:]"."""
        splits = self._builder.info.splits
        try:
            counts = [splits[part].num_examples for part in split.split("+")]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{self.name} has no split {split!r}, only {', '.join(splits)}: give --{flag} "
                "(slices such as train[80%:] are allowed)"
            ) from error
        if min(counts) < 1:  # TFDS counts train[5:2] as -3
            raise UserError(f"split {split!r} of {self.name} is empty: give another --{flag}")

    def _load_split(self, split: str, size: int, fingerprint: str) -> ImageSet:
        """Decode a split, or read what an earlier run decoded of the very same data."""
        info = self._builder.info
        key = CacheKey(
            readable=f"{self.name}-{info.version}-{split}",
            place=f"{self.name} {self._root.resolve()} {split}",
            content=f"{fingerprint} {info.version} {self.class_names}",
        ).shifted(self._shift)
        batches = shifted(self._decode(split, size), self._shift)
        count = info.splits[split].num_examples
        title = f"decoding {self.name} {split}"
        return cached_split(self._cache, key, size, count, batches, title)

    def _decode(self, split: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches (uint8 [b, S, S, 3], int64 [b]) in the order of the prepared data."""
        import tensorflow as tf

        unreadable = (
            tf.errors.InvalidArgumentError,
            tf.errors.DataLossError,
            tf.errors.NotFoundError,
            tf.errors.PermissionDeniedError,
            tf.errors.FailedPreconditionError,  # not as many as dataset_info.json tells
        )
        done = 0
        try:
            images = self._resized(split, size)
            for batch, labels in images.batch(16).prefetch(1).as_numpy_iterator():
                if labels.min() < 0 or labels.max() >= len(self.class_names):
                    raise UserError(f"split {split!r} of {self.name} holds images without a label")
                yield batch, labels
                done += len(labels)
        except unreadable as error:
            place = self._broken_place(split, done)
            raise UserError(
                f"cannot read {self.name} data: {place}: {one_line(error)}; prepare it again "
                f"(remove {shown(self._root)}, give --download), or copy it again"
            ) from error

    def _resized(self, split: str, size: int) -> tf.data.Dataset:
        """Elements (uint8 [S, S, 3], int64), bilinearly resized."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        def resize(example: dict) -> tuple[tf.Tensor, tf.Tensor]:
            image = example["image"][..., :3]
            if image.shape[-1] == 1:
                image = tf.image.grayscale_to_rgb(image)
            image = tf.image.resize(image, (size, size), "bilinear")
            return tf.cast(tf.round(image), tf.uint8), example["label"]

        with quiet_tfds():
            images = self._builder.as_dataset(
                split=split,
                shuffle_files=False,
                # One file after the other: the order does not depend on how many shards there are.
                read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
                # Of all features of an example, the two that are read.
                decoders=tfds.decode.PartialDecoding({"image": True, "label": True}),
            )
            return images.map(resize, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _broken_place(self, split: str, done: int) -> str:
        """Where data was found unreadable, after `done` images."""
        files = filter(Path.is_file, sorted(self._root.iterdir()))
        empty = [shown(path) for path in files if not path.stat().st_size]
        return f"{done} images into {split!r}" + (f" ({listed(empty)} is empty)" if empty else "")

    def _fingerprint(self) -> str:
        """Changes with the name, size, time or (see `file_digest`) content of any of its files.

        Raises UserError: one cannot be read.
        """
        lines = []
        for path in filter(Path.is_file, sorted(self._root.iterdir())):
            try:
                lines.append(f"{path.name} {file_digest(path)}")
            except OSError as error:
                raise UserError(
                    f"cannot read {self.name} data: {shown(path)} ({error.strerror}); make it "
                    "readable, or give another --data_dir"
                ) from error
        return "\n".join(lines)


def require_split(splits: Iterable[str], split: str, flag: str, name: str) -> None:
    """Raise UserError unless `split`, the value of --`flag`, is one of `splits` of a data set."""
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}, only {', '.join(splits)}: give --{flag}")
