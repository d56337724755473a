"""What a run starts from: data, network, and what both allow. Nothing is written here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

from common.errors import UserError
from models.network import Network, build_network
from selection.selection import Selection, load_selection
from selection.selection_mode import SelectionMode
from train.config.resolve import backbone_of
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle, load_dataset
from train.data.image_store import ImageSet
from train.data.shift import shift_of
from train.optimizer import LearningRateSchedule
from train.run.budget import check_budget
from train.run.unlabelled import load_pictures_to_select_by
from train.schedule.head_first import with_head


@dataclass(frozen=True, eq=False)
class Setting:
    """What stays as it is throughout a run. The network, which may shrink, is not part of it.

    Attributes:
        config: with a memory budget, ``selection_mode`` settled.
        given: the selection in ``--selection_file``; None without one.
        steps_per_epoch: optimizer steps in an epoch.
    """

    config: RunConfig
    data: DataBundle
    given: Optional[Selection]
    steps_per_epoch: int

    @property
    def rates(self) -> LearningRateSchedule:
        """Learning rate and weight decay over all steps, those of the head alone excepted."""
        config, per_epoch = self.config, self.steps_per_epoch
        return LearningRateSchedule(
            config.learning_rate,
            config.weight_decay,
            max(1, config.num_epochs * per_epoch),
            start=config.head_epochs * per_epoch,
            warmup=config.warmup_epochs * per_epoch,
        )

    @property
    def head_rates(self) -> Optional[LearningRateSchedule]:
        """Those of the head alone; None where it has no epochs of its own."""
        config = self.config
        if not config.head_epochs:
            return None
        steps = config.head_epochs * self.steps_per_epoch
        return LearningRateSchedule(config.head_learning_rate, config.weight_decay, steps)

    @property
    def test_images(self) -> ImageSet:
        """Those of ``data``, which a run that trains always has."""
        assert self.data.test is not None
        return self.data.test


def prepare(config: RunConfig) -> tuple[Setting, Network]:
    """Everything loaded and checked, and the network as it was built.

    Raises:
        UserError: something cannot be had, or does not go with the rest.
    """
    data = load_data(config)
    network = build_network(
        backbone_of(config),
        data.num_classes,
        config.input_size,
        config.weights,
        config.bn_mode,
        config.seed,
        config.keep_head,
    )
    if config.micro_batch is not None and network.batch_statistics:
        raise UserError(
            f"--micro_batch {config.micro_batch} does not go with --bn_mode paper for "
            f"{network.backbone.title}: batch norm by the statistics of a batch needs all of it"
        )
    if config.selection_mode is SelectionMode.STRIPS and network.batch_statistics:
        raise UserError(
            f"--selection_mode strips does not go with --bn_mode paper for "
            f"{network.backbone.title}: batch norm by the statistics of a batch needs all of each "
            "map; use fast or pairs"
        )
    if config.export is not None and network.batch_statistics:
        raise UserError(
            f"--export {config.export} does not go with --bn_mode paper for "
            f"{network.backbone.title}: what it says of an image depends on the others of its batch"
        )
    config = check_budget(config, network)
    given = None
    if config.selection_file is not None:
        given = load_selection(config.selection_file, network.layers)
        if config.head_epochs:
            given = with_head(given, network)
    steps_per_epoch = math.ceil(len(data.train) / config.batch_size)
    _check_late_selection(config, steps_per_epoch)
    _check_head_epochs(config, steps_per_epoch)
    return Setting(config, data, given, steps_per_epoch), network


def _check_late_selection(config: RunConfig, steps_per_epoch: int) -> None:
    before = config.select_at_epoch * steps_per_epoch
    if before and config.max_steps is not None and config.max_steps <= before:
        raise UserError(
            f"--select_at_epoch {config.select_at_epoch} comes after {before} steps, and "
            f"--max_steps {config.max_steps} ends the run before that"
        )


def _check_head_epochs(config: RunConfig, steps_per_epoch: int) -> None:
    before = config.head_epochs * steps_per_epoch
    if before and config.max_steps is not None and config.max_steps <= before:
        raise UserError(
            f"--head_epochs {config.head_epochs} take {before} steps, and --max_steps "
            f"{config.max_steps} ends the run before anything else is trained"
        )


def load_data(config: RunConfig) -> DataBundle:
    """The data set of ``config``, checked against its ``num_classes`` and batch sizes.

    Raises:
        UserError: it cannot be had, or contradicts the configuration.
    """
    data = load_pictures_to_select_by(config) or load_dataset(
        config.dataset_name,
        config.input_size,
        data_dir=config.data_dir,
        cache_dir=config.cache_dir,
        download=config.download,
        train_split=config.train_split,
        test_split=config.test_split,
        skip_bad_images=config.skip_bad_images,
        split_seed=config.split_seed,
        shift=shift_of(config),
    )
    if config.validation_split is not None:
        data = data.with_validation(config.validation_split, config.split_seed)
    if config.num_classes not in (None, data.num_classes):
        raise UserError(
            f"--num_classes {config.num_classes} contradicts {data.name}, "
            f"which has {data.num_classes} classes"
        )
    if config.batch_size > len(data.train):
        raise UserError(
            f"--batch_size {config.batch_size} is larger than the training set of {data.name} "
            f"({len(data.train)} images)"
        )
    return data
