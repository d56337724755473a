"""RunConfig: the one source of flags, defaults, ``--help`` and ``config.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from models.frozen_mode import FrozenMode
from models.preprocessing import Preprocessing
from models.recompute import Recompute
from models.registry import BACKBONES
from selection.homology_mode import HomologyMode
from selection.knapsack_mode import KnapsackMode
from selection.registry import TRAIN_TYPES
from selection.selection_mode import SelectionMode
from train.config import our_constants as ours
from train.config import paper_constants as paper
from train.config.budget_scope import BudgetScope
from train.config.export_format import ExportFormat
from train.config.flag_field import flag, switch
from train.config.shift_name import ShiftName
from train.features.kept_mode import KeptMode

TUNE = "tune"  # a value of --learning_rate


@dataclass(frozen=True)
class RunConfig:
    """What was asked for; ``None`` stands for ``auto``.

    The types are those of a resolved one: ``resolve.py`` always fills in ``input_size``,
    ``weights``, ``learning_rate`` and ``selection_batches``. ``learning_rate`` is the word ``tune``
    until that was done (``train/run/tuning.py``).
    """

    model_name: str = flag(
        "resnet50",
        f"the pre-trained network: {', '.join(BACKBONES)}, another one of tf.keras.applications, "
        "or the path of a whole Keras model (.keras, .h5, SavedModel)",
    )
    keep_head: bool = switch("train a model from a file with its own classifier, not a new head")
    preprocessing: Optional[Preprocessing] = flag(
        None,
        "what a model from a file expects of RGB pixels in [0, 255], in Keras' words (auto: by its "
        "own layers, or the name that Keras gave it)",
        Preprocessing,
        auto=True,
    )
    dataset_name: str = flag(
        "oxford_flowers102",
        "any TFDS image-classification set, 'folder' (pictures in --data_dir, docs/pictures.md) or "
        "'digits'",
    )
    train_type: str = flag(
        "act_norm_betti_train",
        "how the layers to train are chosen: "
        + ", ".join(TRAIN_TYPES)
        + "; or best, what did best at such a --memory_budget (reports/league)",
    )
    rho: Optional[float] = flag(
        None,
        "share of the layers to train, 0 to 1 (elastic_training and betti_knapsack_train: of full "
        "training's step time; "
        f"auto: {paper.RHO}, or what --memory_budget allows)",
        float,
        auto=True,
    )
    memory_budget: Optional[float] = flag(
        None,
        "MB (1e6 bytes) that the run may take, in place of --rho: layers are taken by score "
        "while the estimate fits, then channels of the next one (train types that take --rho_ch)",
        float,
    )
    budget_for: BudgetScope = flag(
        BudgetScope.RUN,
        "what --memory_budget is a limit of: the whole run, selection and evaluation included, or "
        "its training alone",
        BudgetScope,
    )
    fill_budget: bool = switch(
        "with --memory_budget, pass over a layer that does not fit and try those after it, whole "
        "ones alone, in place of ending there"
    )
    rho_ch: float = flag(
        1.0, "share of the output channels to train in each selected layer, above 0 to 1", float
    )
    batch_size: int = flag(paper.BATCH_SIZE, "training mini-batch", int)
    micro_batch: Optional[int] = flag(
        None,
        "images computed at a time; their gradients add up to the step of the whole mini-batch, in "
        "the memory of so many images (auto: the whole, or as many as keep to --memory_budget)",
        int,
        auto=True,
    )
    eval_batch_size: Optional[int] = flag(
        None,
        "evaluation mini-batch (auto: 16, fewer where training takes less memory than that would)",
        int,
        auto=True,
    )
    input_size: int = flag(None, "image side in pixels (auto: 224, digitnet 32)", int, auto=True)
    num_epochs: int = flag(paper.NUM_EPOCHS, "epochs; 0 only evaluates", int)
    max_steps: Optional[int] = flag(None, "end training after so many steps", int)
    eval_every: int = flag(1, "epochs between evaluations; the last is always evaluated", int)
    learning_rate: float = flag(
        None,
        "initial learning rate (auto: the paper's for model and data set; tune: the best of a "
        "few, tried for some epochs each on --validation_split)",
        float,
        auto=True,
        word=TUNE,
    )
    head_epochs: int = flag(
        0, "train the head alone for so many epochs first, then what was selected with it", int
    )
    head_learning_rate: float = flag(
        None,
        f"initial learning rate of --head_epochs (auto: {ours.HEAD_LEARNING_RATE:g})",
        float,
        auto=True,
    )
    warmup_epochs: int = flag(
        0, "of --num_epochs, those in which the learning rate rises before it falls", int
    )
    clip_norm: Optional[float] = flag(
        None, "shorten gradients to this norm, of all that is trained together", float
    )
    clip_adaptive: Optional[float] = flag(
        None,
        "shorten the gradient of each output channel to this share of its weights' norm (adaptive "
        "clipping; 0.01 is usual)",
        float,
    )
    weight_decay: float = flag(paper.WEIGHT_DECAY, "decoupled weight decay", float)
    rotation: Optional[float] = flag(
        None,
        "largest random rotation in turns, 0 for none (auto: 0.2, digits 0.05)",
        float,
        auto=True,
    )
    augment_draws: Optional[int] = flag(
        None,
        "draw so many flips and rotations of each training image once, and take one of them in "
        "each epoch, so that --cache_features can keep them (default: new ones in each epoch)",
        int,
    )
    cache_features: Optional[KeptMode] = flag(
        None,
        "keep what the frozen layers before the first trained one make of each image, where it has "
        "few augmentations (--rotation 0, or --augment_draws), in --cache_dir (auto: in float32, "
        "where that saves time and takes at most 20 GB)",
        KeptMode,
        auto=True,
    )
    weights: str = flag(
        None,
        "'imagenet', 'none' or the path of a weights file (auto: imagenet; digitnet: 'digits'; a "
        "model from a file: 'file', its own)",
        str,
        auto=True,
        metavar="{imagenet,none,PATH}",
    )
    save_weights: str = flag(
        "none",
        "write the retrained network to weights.h5 (a pruned one fits no backbone any more)",
        choices=("none", "best", "last"),
    )
    export: Optional[ExportFormat] = flag(
        None,
        "write the retrained network as a file for other programs, too: for Keras, as a "
        "SavedModel, for LiteRT, or for LiteRT as a file that trains itself (docs/device.md); "
        "keeps its weights, --save_weights last where nothing else is said",
        ExportFormat,
    )
    export_batch: Optional[int] = flag(
        None,
        "images at a time in the training step of --export litert_training (default: as many as "
        "this run computes at a time)",
        int,
    )
    bn_mode: str = flag(
        "inference",
        "batch norm by moving statistics, or 'paper': by batch statistics where the authors do",
        choices=("inference", "paper"),
    )
    head: str = flag(
        "ranked",
        "the head competes like any layer, or is always trained in addition",
        choices=("ranked", "always"),
    )
    num_classes: Optional[int] = flag(
        None,
        "checked against the data set, which decides; outputs of the head for pictures without "
        "labels",
        int,
    )
    selection_batches: int = flag(
        None, "mini-batches to pool for the selection (auto: 40 images' worth)", int, auto=True
    )
    selection_seed: Optional[int] = flag(
        None, "draw the images of the selection with this seed (default: the first ones)", int
    )
    select_at_epoch: int = flag(0, "select after so many epochs of full training (Figure D.9)", int)
    aggregation: str = flag(
        "pool",
        "Betti numbers of one pooled cloud, or (authors' code) summed over the mini-batches of "
        "--selection_batches (theirs: 4)",
        choices=("pool", "sum"),
    )
    selection_mode: Optional[SelectionMode] = flag(
        None,
        "Betti numbers in one compiled forward pass; in strips of rows, in less memory; or by "
        "pairs of half mini-batches, in many passes (auto: the quickest within training's memory)",
        SelectionMode,
        auto=True,
    )
    homology: Optional[HomologyMode] = flag(
        None,
        "b1 by ripser, or in closed form from the relative neighbourhood graph, quicker and the "
        "same number (auto: in closed form for channels and from 80 pooled images on)",
        HomologyMode,
        auto=True,
    )
    frozen: FrozenMode = flag(
        FrozenMode.LEAN,
        "frozen layers keep next to nothing for the backward pass, or (stock) as TensorFlow does",
        FrozenMode,
    )
    recompute: Optional[Recompute] = flag(
        None,
        "of a transformer's branches, compute all once more on the way back, only what is cheap "
        "(layer norm, softmax, GELU), or none (auto: all, or as little as --memory_budget allows)",
        Recompute,
        auto=True,
    )
    fisher: str = flag(
        "mean",
        "Fisher information as in the authors' code or as in TinyTrain",
        choices=("mean", "tinytrain"),
    )
    interval: int = flag(4, "epochs between re-selections (elastic) or prunings (prune)", int)
    profile: str = flag(
        "flops",
        "tensor times of elastic_training and betti_knapsack_train, by FLOPs or measured",
        choices=("flops", "measured"),
    )
    profile_file: Optional[str] = flag(None, "JSON file to keep these tensor times in")
    knapsack: KnapsackMode = flag(
        KnapsackMode.TIME,
        "betti_knapsack_train: tensors within --rho of a step's time, or within --memory_budget as "
        "estimated, or as measured here",
        KnapsackMode,
    )
    lora_rank: int = flag(
        ours.LORA_RANK, "lora_training: rank of the factors that are added to each kernel", int
    )
    step_times: bool = switch(
        "elastic_training: measure the time of a step beside the predicted one, which takes full "
        "training's memory"
    )
    prune: str = flag(
        "structured",
        "prune_training: group lasso and pruned channels, or an l1 penalty alone",
        choices=("structured", "l1"),
    )
    prune_ratio: float = flag(
        paper.LASSO_RATIO,
        "prune_training: the group lasso's share of the whole loss at the start",
        float,
    )
    stability: int = flag(
        0, "select on so many draws of images and print their overlap (Figure 3)", int
    )
    selection_file: Optional[str] = flag(
        None, "train the layers of this selection.json instead of selecting"
    )
    select_only: bool = switch("stop after the selection and print why each layer was selected")
    plan: bool = switch(
        "stop after the selection and print layers, memory and step time for rho 0.05 to 1.0"
    )
    memory_accounting: str = flag(
        "estimate", "the memory figure printed first", choices=("estimate", "paper")
    )
    data_dir: Optional[str] = flag(
        None,
        "folder of prepared TFDS data (then nothing is downloaded); of pictures, or a .csv file "
        "that names them",
    )
    download: bool = switch("download and prepare the data set into --data_dir")
    train_split: str = flag("train", "split to train on")
    test_split: str = flag(
        "test",
        "split to evaluate on; with --dataset_name folder also a share to hold out, such as 0.2, "
        "of each class of --train_split",
    )
    validation_split: Optional[float] = flag(
        None,
        "hold so large a share of each class' training images out of training, and say which epoch "
        "is best by them",
        float,
    )
    split_seed: int = flag(0, "draws the images of such shares, whatever --seed is", int)
    shift: Optional[ShiftName] = flag(
        None, "change all images as another camera would (docs/pictures.md)", ShiftName
    )
    shift_severity: int = flag(3, "how far, from 1 to 5", int)
    shift_seed: int = flag(0, "of --shift noise, whatever --seed is", int)
    skip_bad_images: bool = switch(
        "with --dataset_name folder, leave out files that give no image, and say how many"
    )
    cache_dir: Optional[str] = flag(
        None,
        "where decoded images and features are kept between runs (default: $ADABET_CACHE, else "
        "adabet in $XDG_CACHE_HOME or ~/.cache)",
    )
    checkpoint_every: Optional[str] = flag(
        None,
        "epochs, or minutes as 10min, between checkpoints for --resume; 0 for none (auto: every "
        "epoch, and every 10 minutes within one)",
        auto=True,
        metavar="{auto,N,Nmin}",
    )
    reuse_runs: Optional[str] = flag(
        None,
        "folder of runs: where a finished one has trained the same layers in the same way, its "
        "epochs are taken in place of training again",
    )
    seed: int = flag(0, "of initialisation, shuffling, augmentation and dropout", int)
    output_dir: str = flag("runs", "folder of the run directories")
    run_name: Optional[str] = flag(
        None, "name of the run directory (auto: from the settings, numbered)", str, auto=True
    )

    @property
    def all_epochs(self) -> int:
        """Those of the head alone, and those after them."""
        return self.head_epochs + self.num_epochs

    @property
    def always_head(self) -> bool:
        """Whether the head is trained in addition to what is selected."""
        return self.head == "always" or self.head_epochs > 0

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped."""
        return self.clip_norm is not None or self.clip_adaptive is not None

    def default_run_name(self) -> str:
        """The settings that tell one run of a comparison from another."""
        channels = "" if self.rho_ch == 1 else f"-ch{self.rho_ch:g}"
        size = f"budget{self.memory_budget:g}" if self.rho is None else f"rho{self.rho:g}"
        return (
            (
                f"{Path(self.model_name).stem}-{self.dataset_name}-{self.train_type}"
                f"-{size}{channels}-seed{self.seed}"
            )
            .replace("/", "_")
            .replace(":", "_")
        )

    def to_json(self) -> dict:
        """A dictionary of plain JSON types."""
        return asdict(self)
