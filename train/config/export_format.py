"""What a trained network can be exported as (``--export``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class ExportFormat(FlagValue):
    """The files that ``export/`` makes.

    ``KERAS``: a ``.keras`` file. ``SAVED_MODEL``: TensorFlow's folder. ``TFLITE``: for inference in
    LiteRT, in float32 and with int8 weights. ``LITERT_TRAINING``: a ``.tflite`` that trains itself.
    """

    KERAS = "keras"
    SAVED_MODEL = "saved_model"
    TFLITE = "tflite"
    LITERT_TRAINING = "litert_training"
