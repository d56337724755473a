"""The backbones by name. A new one is a module in ``backbones`` and an entry here.

Importing this module does not import TensorFlow: ``main.py`` needs the names for its flags.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from common.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """One entry.

    ``module`` (in ``models.backbones``) provides three functions:

    - ``build(name, inputs) -> KerasTensor``: the feature tensor of the freshly initialised
      backbone on raw RGB pixels in [0, 255], preprocessing included;
    - ``load_pretrained(model, name)``: its published weights into ``model``;
    - ``load_file(model, path)``: the same from a user's file.
    """

    name: str
    module: str
    title: str
    input_size: int  # pixels, used for `--input_size auto`
    min_input_size: int  # pixels; below this the last feature map would be empty
    pretraining: str  # the value of --weights that loads the published weights
    batch_statistics_in_paper_mode: bool = False  # the authors built this one in training mode
    size_multiple: int = 1  # the input size must be a multiple of this many pixels

    def load_module(self) -> ModuleType:
        """The backbone's module; imports TensorFlow."""
        return importlib.import_module(f"models.backbones.{self.module}")

    def check_input_size(self, size: int) -> None:
        """Raise :class:`UserError` where the network cannot be built for ``size`` pixels."""
        if size < self.min_input_size:
            raise UserError(
                f"--input_size {size} is too small for {self.name}: "
                f"it needs at least {self.min_input_size} pixels"
            )
        if size % self.size_multiple:
            raise UserError(
                f"--input_size {size} does not fit {self.name}: "
                f"it must be a multiple of {self.size_multiple} pixels"
            )


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="resnet50",
            module="keras_applications",
            title="ResNet50",
            input_size=224,
            min_input_size=32,
            pretraining="imagenet",
            batch_statistics_in_paper_mode=True,
        ),
        Backbone(
            name="vgg16",
            module="keras_applications",
            title="VGG16",
            input_size=224,
            min_input_size=32,
            pretraining="imagenet",
        ),
        Backbone(
            name="mobilenetv2",
            module="keras_applications",
            title="MobileNetV2",
            input_size=224,
            min_input_size=32,
            pretraining="imagenet",
        ),
        Backbone(
            name="vit",
            module="vit",
            title="ViT-B/16",
            input_size=224,
            min_input_size=16,
            pretraining="imagenet",
            size_multiple=16,
        ),
        Backbone(
            name="digitnet",
            module="digitnet",
            title="DigitNet",
            input_size=32,
            min_input_size=8,
            pretraining="digits",
        ),
    )
}
