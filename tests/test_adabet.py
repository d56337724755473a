"""The Python interface: its own examples, and what Keras' ``fit`` and ours make of a selection."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import tensorflow as tf

import adabet
from adabet import RunError, UserError, estimate_memory, retrain, select_layers
from tests.helpers import random_pixels

_layers = tf.keras.layers
SIZE = 12
LABELS = np.arange(16) % 3


def small_model() -> tf.keras.Model:
    """Four layers, of pictures of 12 pixels, to three classes."""
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((SIZE, SIZE, 3))
    x = _layers.Rescaling(1 / 255)(inputs)
    x = _layers.Conv2D(8, 3, strides=2, name="first")(x)
    x = _layers.BatchNormalization(name="norm")(x)
    x = _layers.Conv2D(8, 3, activation="relu", name="second")(x)
    x = _layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, _layers.Dense(3, activation="softmax", name="classes")(x))


def around(model: tf.keras.Model) -> tf.keras.Model:
    """The same within a Sequential."""
    return tf.keras.Sequential([tf.keras.Input((SIZE, SIZE, 3)), model])


def pictures() -> np.ndarray:
    """Sixteen of them: noise."""
    return random_pixels(16, SIZE)


def test_its_examples_run():
    names = {"small_model": small_model, "pictures": pictures, "np": np}
    failed, tried = doctest.testmod(adabet, extraglobs=names)
    assert failed == 0 and tried > 10


def test_every_public_name_has_an_example():
    for name in ("select_layers", "retrain", "estimate_memory"):
        assert ">>>" in getattr(adabet, name).__doc__, name
    assert ">>>" in adabet.Selection.apply.__doc__


@pytest.mark.parametrize("wrap", [lambda model: model, around])
def test_fit_trains_what_apply_says_and_nothing_else(wrap):
    inner = small_model()
    model = wrap(inner)
    inner.get_layer("first").trainable = False  # what was before does not matter
    selection = select_layers(model, pictures(), 0.5, train_type="last_k_training")
    assert selection.apply(model) == []
    before = [weight.numpy() for weight in inner.weights]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(), LABELS, epochs=1, verbose=0)
    changed = {
        weight.name.split("/")[0]
        for weight, old in zip(inner.weights, before)
        if not np.array_equal(weight, old)
    }
    assert changed == {"second", "classes"}


def test_apply_says_what_keras_cannot():
    model = small_model()
    slices = select_layers(model, pictures(), 0.75, rho_ch=0.5)
    said = " ".join(slices.apply(model))
    assert "channels are selected, Keras trains all" in said
    biases = select_layers(model, pictures(), train_type="bn_plus_bias_training")
    lines = biases.apply(model)
    assert any("first: a part of its variables" in line for line in lines)
    assert any("norm: Keras normalises by each batch" in line for line in lines)
    flattened = [tf.keras.Input((SIZE, SIZE, 3)), _layers.Flatten(), _layers.Dense(3)]
    other = tf.keras.Sequential(flattened)
    with pytest.raises(UserError, match="is of another model"):
        slices.apply(other)


def reference(model, batches, names, steps, rate, decay) -> None:
    """SGDW with both cosines, momentum 0.9, by a tape, on the layers called ``names``."""
    variables = [v for name in names for v in model.get_layer(name).trainable_weights]
    momenta = [np.zeros(v.shape, np.float32) for v in variables]
    loss = tf.keras.losses.SparseCategoricalCrossentropy()
    for step, (x, y) in enumerate(batches):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=False))
        factor = 0.5 * (1 + np.cos(np.pi * step / steps))
        for v, m, g in zip(variables, momenta, tape.gradient(value, variables)):
            m[...] = 0.9 * m - rate * factor * g.numpy()
            v.assign(v * (1 - rate * decay * factor) + m)


def test_retraining_is_sgdw_on_the_selected_layers():
    batches = [(pictures()[some], LABELS[some]) for some in (slice(0, 8), slice(8, 16))]
    ours, by_tape = small_model(), small_model()
    selection = select_layers(ours, pictures(), 0.5, train_type="last_k_training")
    data = tf.data.Dataset.from_tensor_slices((pictures(), LABELS)).batch(8)
    history = retrain(ours, selection, data, epochs=1, learning_rate=0.05, weight_decay=0.5)
    reference(by_tape, batches, ["second", "classes"], 2, 0.05, 0.5)
    for one, other in zip(ours.weights, by_tape.weights):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5, err_msg=one.name)
    assert len(history.history["loss"]) == 1


def test_callbacks_see_new_weights_and_can_stop(tmp_path):
    model = small_model()
    selection = select_layers(model, pictures(), train_type="full_training")
    seen = []

    class Look(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.get_layer("first").get_weights()[0], dict(logs)))
            self.model.stop_training = epoch == 1

    keeper = tf.keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.h5"))
    history = retrain(
        model,
        selection,
        (pictures(), LABELS),
        epochs=5,
        validation_data=(pictures(), LABELS),
        callbacks=[Look(), keeper],
        learning_rate=0.05,
    )
    assert len(seen) == len(history.history["val_accuracy"]) == 2
    assert not np.array_equal(seen[0][0], seen[1][0])
    kept = tf.keras.models.load_model(tmp_path / "2.h5", compile=False)
    np.testing.assert_array_equal(kept.get_layer("first").get_weights()[0], seen[1][0])
    assert set(seen[0][1]) == {"loss", "accuracy", "val_accuracy"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dataset": (pictures()[:, :5], LABELS)}, "images have shape"),
        ({"dataset": (pictures(), LABELS + 1)}, "labels go from 1 to 3, the model has 3 classes"),
        ({"dataset": (pictures(), LABELS[:3])}, "16 images and 3 labels"),
        ({"dataset": iter([])}, "gone through once"),
        ({"dataset": (pictures(), np.eye(3)[LABELS])}, r"\[n\] integers are needed"),
    ],
)
def test_bad_data_is_one_line(change, message):
    model = small_model()
    selection = select_layers(model, pictures(), train_type="full_training")
    before = model.get_weights()
    with pytest.raises(UserError, match=message):
        retrain(model, selection, **{"dataset": (pictures(), LABELS), **change})
    for one, other in zip(model.get_weights(), before):
        np.testing.assert_array_equal(one, other)


def test_a_loss_that_is_not_finite_leaves_the_last_whole_epoch():
    model = small_model()
    selection = select_layers(model, pictures(), train_type="full_training")
    before = model.get_weights()
    with pytest.raises(RunError, match="the loss is"):
        retrain(model, selection, (pictures(), LABELS), learning_rate=1e30, batch_size=2)
    for one, other in zip(model.get_weights(), before):
        np.testing.assert_array_equal(one, other)


def test_selections_that_need_more_say_so():
    with pytest.raises(UserError, match="give labels"):
        select_layers(small_model(), pictures(), train_type="fisher_training")
    with pytest.raises(UserError, match="use main.py"):
        select_layers(small_model(), pictures(), train_type="elastic_training")
    with pytest.raises(UserError, match="images have shape"):
        select_layers(small_model(), pictures()[0])
    chosen = select_layers(
        small_model(), pictures(), 0.5, train_type="fisher_training", labels=LABELS
    )
    assert len(chosen.names) == 2


def test_micro_batches_take_less():
    model = small_model()
    selection = select_layers(model, pictures(), train_type="full_training")
    whole = estimate_memory(model, selection, 8)
    assert estimate_memory(model, selection, 8, micro_batch=1).total < whole.total
    assert estimate_memory(model, None, 8).total == whole.total
