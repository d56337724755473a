"""Weight files: what fits is loaded exactly, what does not is refused with its first mismatch."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.network import build_network
from models.registry import BACKBONES
from models.weights import load_h5
from tests.helpers import snapshot, tiny_network

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights"


def _model(units: tuple[int, ...], seed: int = 0) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(seed)
    x = inputs = tf.keras.Input((3,))
    for number, count in enumerate(units):
        x = tf.keras.layers.Dense(count, name=f"dense_{number}")(x)
    return tf.keras.Model(inputs, x, name="small")


def test_weights_come_back_exactly(tmp_path):
    source, target = _model((4, 5), seed=1), _model((4, 5), seed=2)
    for path in (tmp_path / "weights.h5", tmp_path / "model.h5"):
        (source.save_weights if path.stem == "weights" else source.save)(str(path))
        load_h5(target, str(path))
        for a, b in zip(source.get_weights(), target.get_weights()):
            np.testing.assert_array_equal(a, b)


def test_a_file_of_another_architecture_names_the_first_mismatch(tmp_path):
    path = str(tmp_path / "weights.h5")
    _model((4, 5)).save_weights(path)
    for units, message in [
        ((4, 6), "layer dense_1 has weights of shapes"),
        ((4,), "the file's layer dense_1 has no counterpart"),
        ((4, 5, 6), "layer dense_2 has no counterpart"),
    ]:
        model = _model(units, seed=3)
        before = model.get_weights()
        with pytest.raises(UserError, match=message):
            load_h5(model, path)
        for a, b in zip(before, model.get_weights()):
            np.testing.assert_array_equal(a, b)


def test_damaged_files_are_refused(tmp_path):
    whole = tmp_path / "weights.h5"
    _model((4, 5)).save_weights(str(whole))
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = np.zeros(3)
    for path, message in [
        (truncated, "not readable"),
        (text, "not readable"),
        (foreign, "holds no Keras weights"),
        (tmp_path / "absent.h5", "no such file"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            load_h5(_model((4, 5)), str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    """1e300 is finite in the file, and infinite in the network."""
    path = str(tmp_path / "weights.h5")
    _model((4, 5)).save_weights(path)
    with h5py.File(path, "r+") as file:
        for layer, name in (("dense_1", "bias:0"), ("dense_1", "kernel:0")):
            group = file[layer][layer]
            values = group[name][()].astype(np.float64)
            values.flat[-1] = value
            del group[name]
            group[name] = values
    model = _model((4, 5), seed=3)
    before = model.get_weights()
    with pytest.raises(UserError) as caught:
        load_h5(model, path)
    message = str(caught.value)
    assert path in message and "\n" not in message
    assert "layer dense_1, variable kernel holds NaN or infinity" in message
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_arrays_of_text_are_refused(tmp_path):
    path = str(tmp_path / "weights.h5")
    _model((4,)).save_weights(path)
    with h5py.File(path, "r+") as file:
        del file["dense_0/dense_0/bias:0"]
        file["dense_0/dense_0/bias:0"] = np.array([b"a"] * 4)
    with pytest.raises(UserError, match="layer dense_0, variable bias holds .* no numbers"):
        load_h5(_model((4,)), path)


@pytest.mark.parametrize("name", ["mobilenetv2", "vgg16"])
def test_real_imagenet_weights_load(name):
    path = SHARED / f"{name}_imagenet_notop.h5"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    network = build_network(BACKBONES[name], 5, 224, str(path))
    with h5py.File(path, "r") as file:
        layer = network.layers[0].keras_layer
        stored = file[layer.name][layer.weights[0].name]
        np.testing.assert_array_equal(layer.weights[0].numpy(), stored)


def test_digitnet_comes_with_its_weights():
    network = tiny_network("digits")
    assert network.params < 200_000
    fresh = tiny_network("none")
    assert any((a != b).any() for a, b in zip(snapshot(network), snapshot(fresh)))
