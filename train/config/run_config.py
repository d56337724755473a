"""RunConfig: the one source of flags, defaults, ``--help`` and ``config.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Optional

from common.command_line import OneLineParser
from common.errors import UserError
from models.frozen_mode import FrozenMode
from models.registry import BACKBONES
from selection.registry import TRAIN_TYPES, train_type_named
from selection.selection_mode import SelectionMode
from train.config import paper_constants as paper
from train.config.flag_rules import check_budget_flags
from train.data.datasets import resolve_dataset_name


def _or_auto(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argparse type in which the word ``auto`` (None) is valid beside ``convert``'s values."""

    def parse(text: str) -> Any:
        return None if text == "auto" else convert(text)

    parse.__name__ = f"{convert.__name__} or auto"  # argparse shows this in its error
    return parse


def _flag(default: Any, text: str, kind: Callable[[str], Any] = str, **options: Any) -> Any:
    return field(default=default, metadata={"help": text, "type": kind, "argparse": options})


def _switch(text: str) -> Any:
    return field(default=False, metadata={"help": text, "argparse": {"action": "store_true"}})


@dataclass(frozen=True)
class RunConfig:
    """What was asked for. None stands for ``auto`` until :meth:`resolved` has filled it in."""

    model_name: str = _flag("resnet50", "the pre-trained backbone", choices=tuple(BACKBONES))
    dataset_name: str = _flag(
        "oxford_flowers102",
        "any TFDS image-classification set, 'folder' (class folders under --data_dir) or 'digits'",
    )
    train_type: str = _flag(
        "act_norm_betti_train", "how the layers to train are chosen: " + ", ".join(TRAIN_TYPES)
    )
    rho: Optional[float] = _flag(
        None,
        "share of the layers to train, 0 to 1 (elastic_training: of full training's step time; "
        f"auto: {paper.RHO}, or what --memory_budget allows)",
        _or_auto(float),
    )
    memory_budget: Optional[float] = _flag(
        None,
        "MB (1e6 bytes) that the run may take, in place of --rho: layers are taken by score "
        "while the estimate fits, then channels of the next one",
        float,
    )
    rho_ch: float = _flag(
        1.0, "share of the output channels to train in each selected layer, above 0 to 1", float
    )
    batch_size: int = _flag(paper.BATCH_SIZE, "training mini-batch", int)
    eval_batch_size: Optional[int] = _flag(
        None,
        "evaluation mini-batch (auto: 16, fewer where training takes less memory than that would)",
        _or_auto(int),
    )
    input_size: Optional[int] = _flag(
        None, "image side in pixels (auto: 224, digitnet 32)", _or_auto(int)
    )
    num_epochs: int = _flag(paper.NUM_EPOCHS, "epochs; 0 only evaluates", int)
    max_steps: Optional[int] = _flag(None, "end training after so many steps", int)
    eval_every: int = _flag(1, "epochs between evaluations; the last is always evaluated", int)
    learning_rate: Optional[float] = _flag(
        None, "initial learning rate (auto: the paper's for model and data set)", _or_auto(float)
    )
    weight_decay: float = _flag(paper.WEIGHT_DECAY, "decoupled weight decay", float)
    rotation: Optional[float] = _flag(
        None,
        "largest random rotation in turns, 0 for none (auto: 0.2, digits 0.05)",
        _or_auto(float),
    )
    weights: Optional[str] = _flag(
        None,
        "'imagenet', 'none' or the path of a weights file (auto: imagenet; digitnet: 'digits')",
        _or_auto(str),
        metavar="{imagenet,none,PATH}",
    )
    save_weights: str = _flag(
        "none",
        "write the retrained network to weights.h5 (a pruned one fits no backbone any more)",
        choices=("none", "best", "last"),
    )
    bn_mode: str = _flag(
        "inference",
        "batch norm by moving statistics, or 'paper': by batch statistics where the authors do",
        choices=("inference", "paper"),
    )
    head: str = _flag(
        "ranked",
        "the head competes like any layer, or is always trained in addition",
        choices=("ranked", "always"),
    )
    num_classes: Optional[int] = _flag(None, "checked against the data set, which decides", int)
    selection_batches: Optional[int] = _flag(
        None, "mini-batches to pool for the selection (auto: 40 images' worth)", _or_auto(int)
    )
    selection_seed: Optional[int] = _flag(
        None, "draw the images of the selection with this seed (default: the first ones)", int
    )
    select_at_epoch: int = _flag(
        0, "select after so many epochs of full training (Figure D.9)", int
    )
    aggregation: str = _flag(
        "pool",
        "Betti numbers of one pooled cloud, or (authors' code) summed over 4 mini-batches",
        choices=("pool", "sum"),
    )
    selection_mode: Optional[SelectionMode] = _flag(
        None,
        "Betti numbers in one forward pass, or (pairs) in inference's memory, in many of them "
        "(auto: fast, unless that does not fit --memory_budget)",
        _or_auto(SelectionMode),
        metavar="{auto,fast,pairs}",
    )
    frozen: FrozenMode = _flag(
        FrozenMode.LEAN,
        "frozen layers keep next to nothing for the backward pass, or (stock) as TensorFlow does",
        FrozenMode,
        choices=tuple(FrozenMode),
    )
    fisher: str = _flag(
        "mean",
        "Fisher information as in the authors' code or as in TinyTrain",
        choices=("mean", "tinytrain"),
    )
    interval: int = _flag(4, "epochs between re-selections (elastic) or prunings (prune)", int)
    profile: str = _flag(
        "flops",
        "tensor times of elastic_training, by FLOPs or measured",
        choices=("flops", "measured"),
    )
    profile_file: Optional[str] = _flag(None, "JSON file to keep these tensor times in")
    prune: str = _flag(
        "structured",
        "prune_training: group lasso and pruned channels, or an l1 penalty alone",
        choices=("structured", "l1"),
    )
    prune_ratio: float = _flag(
        paper.LASSO_RATIO,
        "prune_training: the group lasso's share of the whole loss at the start",
        float,
    )
    stability: int = _flag(
        0, "select on so many draws of images and print their overlap (Figure 3)", int
    )
    selection_file: Optional[str] = _flag(
        None, "train the layers of this selection.json instead of selecting"
    )
    select_only: bool = _switch("stop after the selection and print why each layer was selected")
    plan: bool = _switch(
        "stop after the selection and print layers, memory and step time for rho 0.05 to 1.0"
    )
    memory_accounting: str = _flag(
        "estimate", "the memory figure printed first", choices=("estimate", "paper")
    )
    data_dir: Optional[str] = _flag(
        None, "folder of prepared TFDS data (then nothing is downloaded), or of class folders"
    )
    download: bool = _switch("download and prepare the data set into --data_dir")
    train_split: str = _flag("train", "TFDS split to train on")
    test_split: str = _flag("test", "TFDS split to evaluate on")
    cache_dir: Optional[str] = _flag(
        None, "where decoded images are kept between runs (default: ~/.cache/adabet)"
    )
    seed: int = _flag(0, "of initialisation, shuffling, augmentation and dropout", int)
    output_dir: str = _flag("runs", "folder of the run directories")
    run_name: Optional[str] = _flag(
        None, "name of the run directory (auto: from the settings, numbered)", _or_auto(str)
    )

    def resolved(self) -> RunConfig:
        """Validated, with every ``auto`` replaced that can be without the network.

        An automatic ``run_name`` is numbered when its folder is made, ``eval_batch_size`` depends
        on what is selected, and with a memory budget ``selection_mode`` on what fits. ``rho``
        stays None where a budget stands in its place.

        Raises:
            UserError: a value is out of its range.
        """
        config = replace(
            self,
            dataset_name=resolve_dataset_name(self.dataset_name),
            train_type=train_type_named(self.train_type).name,
        )
        config._check_ranges()
        train_type = train_type_named(config.train_type)
        if config.rho_ch != 1 and not train_type.by_betti:
            raise UserError(f"--rho_ch works with Betti numbers only, not with {train_type.name}")
        if config.select_at_epoch and train_type.plan != "once":
            raise UserError(f"--select_at_epoch does not go with {train_type.name}")
        check_budget_flags(config, train_type)
        if config.memory_budget is None:
            mode = config.selection_mode or SelectionMode.FAST
            rho = paper.RHO if config.rho is None else config.rho
            config = replace(config, rho=rho, selection_mode=mode)
        backbone = BACKBONES[config.model_name]
        default = {
            "input_size": backbone.input_size,
            "weights": backbone.pretraining,
            "learning_rate": paper.learning_rate(config.model_name, config.dataset_name),
            "selection_batches": paper.selection_batches(config.batch_size),
        }
        config = replace(
            config, **{key: value for key, value in default.items() if getattr(config, key) is None}
        )
        backbone.check_input_size(config.input_size)
        return config

    def _check_ranges(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            # Written so that a NaN fails as well.
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                limits = f"between {low} and {high}" if high < math.inf else f"at least {low}"
                raise UserError(f"--{name} {value} is out of range: it must be {limits}")
        for name in ("learning_rate", "rho_ch", "memory_budget"):
            if getattr(self, name) == 0:
                raise UserError(f"--{name} must be above 0")
        if self.run_name is not None and (
            self.run_name in ("", ".", "..") or "/" in self.run_name or "\\" in self.run_name
        ):
            raise UserError(f"--run_name {self.run_name!r} must be a plain folder name")
        for name in ("select_only", "plan"):
            if self.selection_file is not None and getattr(self, name):
                raise UserError(f"--{name} has nothing to select when --selection_file is given")

    def default_run_name(self) -> str:
        """The settings that tell one run of a comparison from another."""
        channels = "" if self.rho_ch == 1 else f"-ch{self.rho_ch:g}"
        size = f"budget{self.memory_budget:g}" if self.rho is None else f"rho{self.rho:g}"
        return (
            (
                f"{self.model_name}-{self.dataset_name}-{self.train_type}"
                f"-{size}{channels}-seed{self.seed}"
            )
            .replace("/", "_")
            .replace(":", "_")
        )

    def to_json(self) -> dict:
        """A dictionary of plain JSON types."""
        return asdict(self)


_RANGES = (
    ("rho", 0, 1),
    ("rho_ch", 0, 1),
    ("memory_budget", 0, math.inf),
    ("selection_seed", 0, 2**31 - 1),
    ("select_at_epoch", 0, math.inf),
    ("interval", 1, math.inf),
    ("prune_ratio", 0, 0.99),
    ("stability", 0, math.inf),
    ("batch_size", 1, math.inf),
    ("eval_batch_size", 1, math.inf),
    ("input_size", 1, math.inf),
    ("num_epochs", 0, math.inf),
    ("max_steps", 0, math.inf),
    ("eval_every", 1, math.inf),
    ("learning_rate", 0, math.inf),
    ("weight_decay", 0, math.inf),
    ("rotation", 0, 0.5),
    ("num_classes", 1, math.inf),
    ("selection_batches", 1, math.inf),
    ("seed", 0, 2**31 - 1),
)


def parse_args(argv: Optional[Sequence[str]] = None) -> RunConfig:
    """Flags to a resolved RunConfig; ``--help`` prints and exits.

    Raises:
        UserError: an unknown flag or a bad value.
    """
    parser = OneLineParser(
        prog="main.py",
        description="Select layers by Betti numbers of their activations and retrain them.",
    )
    for entry in fields(RunConfig):
        options = {"help": entry.metadata["help"], **entry.metadata["argparse"]}
        if "type" in entry.metadata:
            options.update(type=entry.metadata["type"], default=entry.default)
            if entry.default is not None:
                options["help"] += f" (default: {entry.default})"
        parser.add_argument(f"--{entry.name}", **options)
    return RunConfig(**vars(parser.parse_args(argv))).resolved()
