"""``predictions.json``: what the last evaluation of a run made of each test image."""

from __future__ import annotations

import base64
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from train.data.datasets import DataBundle
from train.data.image_store import ImageSet
from train.predictions import Predictions

PICTURES = 12  # of mistakes, the most confident ones
_SIDE = 144  # pixels of a picture that was larger
_EXACT_UP_TO = 64  # pixels: what is no larger is kept as it is


class LastEvaluation(NamedTuple):
    """The latest one so far, and after which epoch it was."""

    epoch: int
    predictions: Predictions

    def to_json(self) -> dict:
        """Plain JSON types."""
        return {"epoch": self.epoch, **self.predictions.to_json()}

    @classmethod
    def of_json(cls, content: dict) -> LastEvaluation:
        """From what :meth:`to_json` gave."""
        return cls(content["epoch"], Predictions.of_json(content))


def predictions_file(last: LastEvaluation, data: DataBundle, images: ImageSet) -> dict:
    """What ``predictions.json`` holds.

    ``epoch`` (0: before any training) and ``accuracy`` of the evaluation; ``classes``, their names
    by label; ``labels``, ``predicted`` and ``confidence`` (the predicted class' probability, None
    where it is not finite) of each test image in data set order; ``mistakes``, the most confident
    ones: the place of the ``image`` among the test images, and a small ``picture`` as a data URI.

    Args:
        images: the test images.
    """
    wrong = last.predictions.mistakes(PICTURES)
    pictures = zip(wrong.tolist(), images.images.take(wrong))
    return {
        **last.to_json(),
        "accuracy": last.predictions.accuracy,
        "classes": list(data.class_names),
        "mistakes": [{"image": place, "picture": _picture(image)} for place, image in pictures],
    }


def _picture(image: np.ndarray) -> str:
    """A data URI of an image, uint8 ``[S, S, 3]``."""
    with tf.device("/CPU:0"):
        if image.shape[0] <= _EXACT_UP_TO:
            kind, encoded = "png", tf.io.encode_png(image)
        else:
            side = min(image.shape[0], _SIDE)
            small = tf.image.resize(image, (side, side), antialias=True)
            kind = "jpeg"
            encoded = tf.io.encode_jpeg(tf.saturate_cast(tf.round(small), tf.uint8), quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(encoded.numpy()).decode('ascii')}"
