"""The layers that preprocess pixels, in front of a network that does not."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.preprocessing import Preprocessing

# ImageNet's, of pixels in [0, 1], as in keras/src/applications/imagenet_utils.py.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def preprocessed(pixels: Any, how: Preprocessing) -> Any:
    """``pixels`` ``[batch, size, size, 3]``, symbolic, RGB in [0, 255], as a network expects them.

    The result has the same shape; float32.
    """
    rescaling = tf.keras.layers.Rescaling
    if how is Preprocessing.NONE:
        return pixels
    if how is Preprocessing.TF:
        return rescaling(1 / 127.5, -1.0, name="to_minus_one_to_one")(pixels)
    if how is Preprocessing.ZERO_TO_ONE:
        return rescaling(1 / 255, name="to_zero_to_one")(pixels)
    if how is Preprocessing.TORCH:
        scale = [1 / 255 / deviation for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION)]
        return rescaling(scale, offset, name="by_imagenet")(pixels)
    return tf.keras.applications.imagenet_utils.preprocess_input(pixels, mode=how.value)
