"""Models that are not the paper's: flattened, translated, and what becomes of their classifiers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.applications import APPLICATIONS
from models.flat.flatten import copy_of, flattened
from models.flat.own_model import own_model
from models.kinds import LayerKind, kind_of
from models.network import build_network
from models.preprocessing import Preprocessing
from models.registry import backbone_named
from tests.helpers import random_pixels

_layers = tf.keras.layers
SIZE = 16
IMAGES = random_pixels(3, SIZE).astype(np.float32)


def flat_model(model: tf.keras.Model, of_layer=copy_of) -> tf.keras.Model:
    inputs = tf.keras.Input(model.input_shape[1:])
    return tf.keras.Model(inputs, flattened(model, inputs, of_layer).output)


def randomised(model: tf.keras.Model) -> tf.keras.Model:
    """Every variable another value: one that is left out, or in the wrong place, shows."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.uniform(0.5, 1.0, weight.shape) * 0.2)
    return model


def backbone_like() -> tf.keras.Model:
    x = inputs = tf.keras.Input((SIZE, SIZE, 3))
    x = _layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(x)
    x = _layers.BatchNormalization(name="norm")(x)
    x = _layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0) * x
    y = _layers.SeparableConv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(x)
    x = x + y
    x = _layers.Conv2D(16, 5, padding="same", groups=8, name="grouped")(x)
    gate = _layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = _layers.ReLU(6.0)(_layers.Conv2D(16, 1, name="gate")(gate) + 3.0) * (1.0 / 6.0)
    return tf.keras.Model(inputs, _layers.Multiply()([x, gate]), name="like_mobilenet")


def nested() -> tf.keras.Model:
    """A Sequential around a backbone, with augmentation in front: the commonest saved model."""
    return tf.keras.Sequential(
        [
            tf.keras.Input((SIZE, SIZE, 3)),
            _layers.RandomFlip(),
            _layers.Rescaling(1 / 255),
            backbone_like(),
            _layers.GlobalAveragePooling2D(),
            _layers.Dropout(0.5),
            _layers.Dense(5, activation="softmax", name="conv"),  # a name that is there already
        ],
        name="classifier",
    )


def test_a_flattened_model_computes_the_same():
    model = randomised(nested())
    flat = flat_model(model)
    np.testing.assert_allclose(flat(IMAGES), model(IMAGES, training=False), rtol=1e-5, atol=1e-6)
    assert not any(isinstance(layer, tf.keras.Model) for layer in flat.layers)
    kinds = [kind_of(layer) for layer in flat.layers]
    # Nothing is left that the other rooms know nothing about.
    assert LayerKind.OTHER not in kinds
    assert kinds.count(LayerKind.DEPTHWISE_CONV) == 2  # of the separable and the grouped one
    assert len({layer.name for layer in flat.layers}) == len(flat.layers)


def test_a_copy_leaves_the_model_as_it_is_and_writes_back():
    model = randomised(nested())
    before = model(IMAGES, training=False).numpy()
    own = own_model(model)
    logits = own.network.model(IMAGES, training=False)
    np.testing.assert_allclose(tf.nn.softmax(logits), before, rtol=1e-4, atol=1e-6)
    for weight in own.network.model.trainable_weights:
        weight.assign(weight * 1.1)
    np.testing.assert_array_equal(model(IMAGES, training=False), before)
    own.write_back()
    expected = tf.nn.softmax(own.network.model(IMAGES, training=False))
    np.testing.assert_allclose(model(IMAGES, training=False), expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(model(IMAGES, training=False), before)


def test_what_cannot_be_flat_is_refused():
    shared = _layers.Conv2D(3, 1, name="twice")
    x = inputs = tf.keras.Input((SIZE, SIZE, 3))
    for _ in range(2):
        x = shared(x)
    with pytest.raises(UserError, match="layer twice is called more than once"):
        flat_model(tf.keras.Model(inputs, x))

    class Subclassed(tf.keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(UserError, match="no functional or sequential model"):
        own_model(Subclassed())
    two = tf.keras.Model(inputs, [inputs, x])
    with pytest.raises(UserError, match="1 inputs and 2 outputs"):
        own_model(two)


def saved(model: tf.keras.Model, path) -> str:
    model.save(path)
    return str(path)


@pytest.mark.parametrize("name", ["whole.keras", "whole.h5", "folder"])
def test_a_model_from_a_file(name, tmp_path):
    model = randomised(nested())
    backbone = backbone_named(saved(model, tmp_path / name))
    assert backbone.input_size == SIZE
    network = build_network(backbone, 5, SIZE, "file", keep_head=True)
    probabilities = tf.nn.softmax(network.model(IMAGES, training=False))
    np.testing.assert_allclose(probabilities, model(IMAGES, training=False), rtol=1e-4, atol=1e-6)
    assert network.head.keras_layer.units == 5
    assert "random_flip" in network.notes[0]


def test_a_new_head_in_place_of_its_own_and_weights_anew(tmp_path):
    model = randomised(nested())
    backbone = backbone_named(saved(model, tmp_path / "whole.keras"))
    network = build_network(backbone, 7, SIZE, "file")
    assert network.model.output_shape == (None, 7)
    assert "conv_2 (5 classes) is replaced" in network.notes[-1]
    (kernel,) = [v for v in network.model.weights if v.name.startswith("conv/kernel")]
    np.testing.assert_array_equal(kernel, model.layers[2].get_layer("conv").kernel)
    anew = build_network(backbone, 7, SIZE, "none")
    (fresh,) = [v for v in anew.model.weights if v.name.startswith("conv/kernel")]
    assert not np.allclose(kernel, fresh)
    with pytest.raises(UserError, match="tells 5 classes apart, the data set has 7"):
        build_network(backbone, 7, SIZE, "file", keep_head=True)


def test_weights_of_its_own_layout_and_those_of_a_run(tmp_path):
    model = randomised(nested())
    backbone = backbone_named(saved(model, tmp_path / "whole.keras"))
    for weight in model.weights:
        weight.assign(weight + 0.1)
    model.save_weights(tmp_path / "other.h5")
    network = build_network(backbone, 5, SIZE, str(tmp_path / "other.h5"), keep_head=True)
    probabilities = tf.nn.softmax(network.model(IMAGES, training=False))
    np.testing.assert_allclose(probabilities, model(IMAGES, training=False), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name, wanted",
    [("mobilenetv2_1.00_224", "tf"), ("resnet50v2", "tf"), ("resnet50", "caffe"),
     ("densenet121", "torch"), ("NASNet", "tf"), ("efficientnetv2-b0", "none")],
)  # fmt: skip
def test_pixels_are_preprocessed_as_keras_name_says(name, wanted, tmp_path):
    inputs = tf.keras.Input((SIZE, SIZE, 3))
    inner = tf.keras.Model(
        inputs, _layers.Conv2D(3, 1, kernel_initializer="ones")(inputs), name=name
    )
    outer = tf.keras.Sequential([inner, _layers.Flatten()])
    path = saved(outer, tmp_path / "model.h5")
    built = tf.keras.Input((SIZE, SIZE, 3))
    module = backbone_named(path).load_module()
    output = tf.keras.Model(built, module.build(backbone_named(path), built))(IMAGES)
    utils = tf.keras.applications.imagenet_utils
    pixels = IMAGES if wanted == "none" else utils.preprocess_input(IMAGES.copy(), mode=wanted)
    np.testing.assert_allclose(output, outer(pixels), rtol=1e-4, atol=1e-4)


def test_a_file_that_does_not_say_what_it_expects(tmp_path):
    inputs = tf.keras.Input((SIZE, SIZE, 3))
    path = saved(tf.keras.Model(inputs, _layers.Conv2D(3, 1)(inputs)), tmp_path / "plain.keras")
    with pytest.raises(UserError, match="give --preprocessing"):
        build_network(backbone_named(path), 5, SIZE, "file")
    backbone = backbone_named(path, Preprocessing.ZERO_TO_ONE)
    assert build_network(backbone, 5, SIZE, "file").params > 0


def test_every_application_of_keras_is_known():
    constructors = {
        name.lower() for name, value in vars(tf.keras.applications).items() if callable(value)
    }
    known = {*APPLICATIONS, "resnet50", "vgg16", "mobilenetv2"}
    assert known == constructors
    for application in APPLICATIONS.values():
        module = tf.keras.applications.__dict__[application.title].__module__
        pixels = np.full((1, 2, 2, 3), 200.0, np.float32)
        own = __import__(module, fromlist=["x"]).preprocess_input(pixels.copy())
        mode = application.preprocessing
        utils = tf.keras.applications.imagenet_utils
        ours = pixels if mode == "none" else utils.preprocess_input(pixels.copy(), mode=mode.value)
        np.testing.assert_allclose(own, ours, err_msg=application.title)
