"""With what the flags go that say which network and which pictures, and what is written out."""

from __future__ import annotations

from models.model_file import is_path
from models.registry import BACKBONES
from train.config.export_format import ExportFormat
from train.config.rule import Rule
from train.config.test_share import share_of

INPUT_RULES: tuple[Rule, ...] = (
    Rule(
        ("keep_head", "preprocessing"),
        "goes with --model_name PATH, a model from a file",
        lambda config: is_path(config.model_name) and config.model_name not in BACKBONES,
        depends_on="model_name",
    ),
    Rule(
        ("head",),
        "does not go with --keep_head, whose classifier competes like any layer",
        lambda config: not config.keep_head,
    ),
    Rule(
        ("export_batch",),
        "goes with --export litert_training",
        lambda config: config.export is ExportFormat.LITERT_TRAINING,
    ),
    Rule(
        ("export",),
        "does not go with --train_type lora_training, whose factors such a file cannot train",
        lambda config: (
            config.export is not ExportFormat.LITERT_TRAINING
            or config.train_type != "lora_training"
        ),
    ),
    Rule(
        ("skip_bad_images",),
        "goes with --dataset_name folder",
        lambda config: config.dataset_name == "folder",
        depends_on="dataset_name",
    ),
    Rule(
        ("test_split",),
        "is a share, which goes with --dataset_name folder (TFDS has slices, such as train[80%:])",
        lambda config: share_of(config.test_split) is None or config.dataset_name == "folder",
    ),
    Rule(
        ("split_seed",),
        "goes with --validation_split, or with --test_split as a share, such as 0.2",
        lambda config: (
            share_of(config.test_split) is not None or config.validation_split is not None
        ),
    ),
    Rule(
        ("download",),
        "goes with TFDS data sets",
        lambda config: config.dataset_name not in ("folder", "digits"),
        depends_on="dataset_name",
    ),
    Rule(
        ("data_dir",),
        "goes with data sets that lie in a folder",
        lambda config: config.dataset_name != "digits",
        depends_on="dataset_name",
    ),
)
