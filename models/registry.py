"""The backbones by name. A new one is a module in ``backbones`` and an entry here.

Importing this module does not import TensorFlow: ``main.py`` needs the names for its flags.
"""

from __future__ import annotations

import difflib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Optional

from common.errors import UserError
from common.wording import shown
from models.applications import APPLICATIONS, Application, application_named
from models.model_file import input_size_of, is_path
from models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Backbone:
    """One entry.

    ``module`` (in ``models.backbones``) provides three functions:

    - ``build(backbone, inputs) -> KerasTensor``: the feature tensor of the freshly initialised
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
    foreign: bool = False  # built by others: to be made flat (models/flat/)
    file: str = ""  # of a user's own model
    preprocessing: Optional[Preprocessing] = None  # of that one; None: as it says itself

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

_ANY_SIZE = 224  # pixels, of a model that takes pictures of any size


def backbone_named(name: str, preprocessing: Optional[Preprocessing] = None) -> Backbone:
    """The entry for what a user means by ``--model_name``.

    Args:
        name: of an entry above, of a network of ``tf.keras.applications``, however it is spelled,
            or the path of a whole model.
        preprocessing: of a path's pixels; None to go by what the model says.

    Raises:
        UserError: there is no such name, or no model in that path.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    application = application_named(name)
    if application is not None:
        return _of_application(application)
    if is_path(name):
        return _of_file(os.path.expanduser(name), preprocessing)
    known = [*BACKBONES, *APPLICATIONS]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    raise UserError(
        f"--model_name {shown(name)} is not known{f': did you mean {close[0]}' if close else ''}; "
        f"give {', '.join(BACKBONES)}, another network of tf.keras.applications, or the path of "
        "a Keras model"
    )


def _of_application(application: Application) -> Backbone:
    return Backbone(
        name=application.name,
        module="other_applications",
        title=application.title,
        input_size=application.input_size,
        min_input_size=application.min_input_size,
        pretraining="imagenet",
        foreign=True,
    )


def _of_file(path: str, preprocessing: Optional[Preprocessing]) -> Backbone:
    name = Path(path).stem
    return Backbone(
        name=name,
        module="whole_model",
        title=name,
        input_size=input_size_of(path) or _ANY_SIZE,
        min_input_size=1,
        pretraining="file",
        foreign=True,
        file=path,
        preprocessing=preprocessing,
    )
