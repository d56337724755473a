"""The trained network for inference in LiteRT: in float32, and with its weights as int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.attached import attach
from export.convert import converted
from export.lowering.graph import built_in
from export.subject import Subject

WHAT = "--export tflite"


def write_tflite(subject: Subject, path: Path, *, int8: bool = False) -> None:
    """A ``.tflite``, ``labels.txt`` attached: signature ``infer`` of one image, ``logits``.

    Args:
        int8: dynamic-range quantisation: kernels are kept as int8 with a scale for each output
            channel, and where LiteRT has such a kernel, activations are quantised as they come;
            biases, inputs and outputs stay float32. A quarter of the size, no calibration.

    Raises:
        UserError: an operation has no counterpart in LiteRT.
    """
    model = subject.network.model
    module = tf.Module()
    module.state = list(model.weights)
    images = tf.TensorSpec([1, *model.input_shape[1:]], tf.float32)

    def infer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(images, training=False)}

    def quantised(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    signatures = {"infer": built_in(infer, {"images": images})}
    content = converted(module, signatures, WHAT, quantised if int8 else None)
    path.write_bytes(content)
    attach(path, subject.class_names)


def interpreter_of(path: Path) -> Any:
    """TensorFlow's own interpreter of a ``.tflite``."""
    return tf.lite.Interpreter(model_path=str(path))


class LiteLogits:
    """``[n, classes]`` of images ``[n, size, size, 3]``, by ``infer`` of a ``.tflite``."""

    def __init__(self, path: Path) -> None:
        self._infer = interpreter_of(path).get_signature_runner("infer")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """One image at a time."""
        each = (image[None].astype(np.float32) for image in images)
        return np.concatenate([self._infer(images=image)["logits"] for image in each])
