"""The networks of ``tf.keras.applications`` beside the paper's, by name.

Nothing here imports TensorFlow. Sizes are Keras' own: those of the published weights, and the
smallest that the constructors take (keras/src/applications, Keras 2.15).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Application:
    """One constructor.

    Attributes:
        title: its name.
        input_size: pixels, of the published weights.
        min_input_size: pixels.
        preprocessing: what it expects of raw pixels; ``none`` where it does that itself.
    """

    title: str
    input_size: int = 224
    min_input_size: int = 32
    preprocessing: Preprocessing = Preprocessing.NONE

    @property
    def name(self) -> str:
        """As a value of ``--model_name``."""
        return self.title.lower()


_TF, _CAFFE, _TORCH = Preprocessing.TF, Preprocessing.CAFFE, Preprocessing.TORCH
_EFFICIENTNET = (224, 240, 260, 300, 380, 456, 528, 600)
_EFFICIENTNET_V2 = {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "S": 384, "M": 480, "L": 480}
_REGNET = ("002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320")

_ALL = (
    *(Application(f"ConvNeXt{size}") for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
    *(Application(f"DenseNet{depth}", preprocessing=_TORCH) for depth in (121, 169, 201)),
    *(Application(f"EfficientNetB{number}", size) for number, size in enumerate(_EFFICIENTNET)),
    *(Application(f"EfficientNetV2{word}", size) for word, size in _EFFICIENTNET_V2.items()),
    Application("InceptionResNetV2", 299, 75, _TF),
    Application("InceptionV3", 299, 75, _TF),
    Application("MobileNet", preprocessing=_TF),
    Application("MobileNetV3Large"),
    Application("MobileNetV3Small"),
    Application("NASNetLarge", 331, preprocessing=_TF),
    Application("NASNetMobile", preprocessing=_TF),
    *(Application(f"RegNet{kind}{size}") for kind in "XY" for size in _REGNET),
    *(Application(f"ResNet{depth}", preprocessing=_CAFFE) for depth in (101, 152)),
    *(Application(f"ResNet{depth}V2", preprocessing=_TF) for depth in (50, 101, 152)),
    *(Application(f"ResNetRS{depth}") for depth in (50, 101, 152, 200, 270, 350, 420)),
    Application("VGG19", preprocessing=_CAFFE),
    Application("Xception", 299, 71, _TF),
)
APPLICATIONS = {application.name: application for application in _ALL}
# Those that have an entry of their own in models/registry.py.
_OF_THE_PAPER = (
    Application("ResNet50", preprocessing=_CAFFE),
    Application("VGG16", preprocessing=_CAFFE),
    Application("MobileNetV2", preprocessing=_TF),
)


def application_named(name: str) -> Optional[Application]:
    """The one that a user means by ``name``, however it is spelled; None if there is none."""
    return APPLICATIONS.get(_plain(name))


def preprocessing_of_model(name: str) -> Optional[Preprocessing]:
    """What a model expects that Keras' constructor has called ``name``; None for any other name.

    Those names have sizes behind them, or less than the constructor's (``mobilenetv2_1.00_224``,
    ``NASNet``).
    """
    plain = _plain(name)
    fitting = [
        one
        for one in (*_ALL, *_OF_THE_PAPER)
        if plain.startswith(one.name) or (plain == "nasnet" and one.name.startswith(plain))
    ]
    longest = max(fitting, key=lambda one: len(one.name), default=None)
    return None if longest is None else longest.preprocessing


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()
