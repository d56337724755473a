"""A run that only selects, by pictures that have no labels."""

from __future__ import annotations

from typing import Optional

from common.errors import UserError
from common.wording import shown
from selection.registry import TRAIN_TYPES, train_type_named
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle, load_unlabelled
from train.data.layouts.recognise import unlabelled_at
from train.data.shift import shift_of


def load_pictures_to_select_by(config: RunConfig) -> Optional[DataBundle]:
    """The pictures of ``config``, where they have no labels and it trains nothing; else None.

    Raises:
        UserError: what it asks for needs labels, nothing says how many outputs the head has, or
            the pictures cannot be read.
    """
    if config.dataset_name != "folder" or not (config.select_only or config.plan):
        return None
    pictures = unlabelled_at(config.data_dir, config.train_split, config.test_split)
    if pictures is None:
        return None
    where = shown(pictures.root)
    if train_type_named(config.train_type).needs_labels:
        others = [entry.name for entry in TRAIN_TYPES.values() if not entry.needs_labels]
        raise UserError(
            f"--train_type {config.train_type} needs labels, and nothing in {where} tells them; "
            f"these need none: {', '.join(others)}"
        )
    if config.stability:
        raise UserError(
            f"--stability compares with Fisher information, which needs labels, and nothing in "
            f"{where} tells them: leave it out"
        )
    if config.num_classes is None:
        raise UserError(
            f"nothing in {where} tells labels: give --num_classes, since the head's outputs count "
            "in its score (or, for class folders, --test_split 0.2)"
        )
    return load_unlabelled(
        pictures,
        config.input_size,
        config.num_classes,
        config.cache_dir,
        config.skip_bad_images,
        shift_of(config),
    )
