"""Make ``models/backbones/digitnet_digits.h5``: DigitNet trained on the handwritten digits 0 to 4.

    python -m train.pretrain_digitnet [PATH]

Ten seconds on two CPU cores. The same TensorFlow version gives the same weights.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

from common.environment import load_tensorflow
from common.errors import UserError
from models.backbones import digitnet
from models.registry import BACKBONES
from train.data.digits import load_digit_subset

CLASSES = (0, 1, 2, 3, 4)
EPOCHS = 12
BATCH_SIZE = 32
SEED = 0


def pretrained_features() -> tuple[tf.keras.Model, float]:
    """The trained backbone without its head, and its accuracy on the digits it saw (share)."""
    backbone = BACKBONES["digitnet"]
    size = backbone.input_size
    digits = load_digit_subset(CLASSES, size)
    images = digits.images.take(np.arange(len(digits))).astype(np.float32)
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    inputs = tf.keras.Input((size, size, 3))
    features = tf.keras.Model(inputs, digitnet.build(backbone, inputs), name="digitnet")
    pooled = tf.keras.layers.GlobalAveragePooling2D()(features.output)
    classifier = tf.keras.Model(inputs, tf.keras.layers.Dense(len(CLASSES))(pooled))
    classifier.compile(
        tf.keras.optimizers.Adam(1e-3),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.fit(images, digits.labels, BATCH_SIZE, EPOCHS, verbose=0)
    _, accuracy = classifier.evaluate(images, digits.labels, verbose=0)
    return features, accuracy


def main() -> int:
    """Make the file; the exit status."""
    try:
        load_tensorflow()  # imported already: its Keras is checked and settled
    except UserError as error:
        print(f"pretrain_digitnet: error: {error}", file=sys.stderr)
        return 2
    path = sys.argv[1] if len(sys.argv) > 1 else str(digitnet.WEIGHTS)
    features, accuracy = pretrained_features()
    features.save_weights(path)
    print(f"{path}: {features.count_params()} parameters, training accuracy {accuracy:.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
