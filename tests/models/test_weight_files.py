"""What is no file of weights: one line says what it is, and what would be right."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.backbones import digitnet, vit
from models.weights import holds_head, load_h5, save_network
from tests.helpers import assert_refused, tiny_network

RIGHT = 'load it in Keras, write model.save("FILE.h5") and give that file'


def _model() -> tf.keras.Model:
    inputs = tf.keras.Input((3,))
    x = tf.keras.layers.Dense(4, name="first")(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="second")(x), name="small")


def _refused(path, load=load_h5) -> str:
    """The one line of a refused load, which left the model as it was."""
    model = _model()
    before = model.get_weights()
    with pytest.raises(UserError) as caught:
        load(model, str(path))
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    message = str(caught.value)
    assert message.startswith(f"weights file {path} ") and "\n" not in message
    assert len(message) < 400
    return message


def test_what_keras_writes_in_other_ways_is_named(tmp_path):
    model = _model()
    newer = tmp_path / "new.weights.h5"
    model.save_weights(str(newer))
    archive = tmp_path / "model.keras"
    model.save(archive)
    saved_model = tmp_path / "saved"
    tf.saved_model.save(model, str(saved_model))
    checkpoint = tmp_path / "point"
    model.save_weights(str(checkpoint), save_format="tf")
    for load in (load_h5, digitnet.load_file, vit.load_file):
        for path, kind in [
            (newer, "is in Keras' newer layout (.weights.h5)"),
            (archive, "is a .keras archive"),
            (saved_model, "is a SavedModel folder"),
            (checkpoint, "is a TensorFlow checkpoint"),
            (f"{checkpoint}.index", "is a TensorFlow checkpoint"),
            (f"{checkpoint}.data-00000-of-00001", "is a TensorFlow checkpoint"),
            (tmp_path, "is a folder of TensorFlow checkpoints"),
        ]:
            message = _refused(path, load)
            assert kind in message and RIGHT in message, message


def test_what_the_message_advises_works(tmp_path):
    source, target = _model(), _model()
    source.save(tmp_path / "FILE.h5")
    load_h5(target, str(tmp_path / "FILE.h5"))
    for a, b in zip(source.get_weights(), target.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_folders_and_devices_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # which to open would wait for a writer
    for load in (load_h5, vit.load_file):
        assert "is a folder; give a Keras HDF5 file" in _refused(tmp_path / "folder", load)
        assert "is no regular file" in _refused(tmp_path / "pipe", load)
        assert "no such file" in _refused(tmp_path / "absent", load)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "weights.h5"
    _model().save_weights(str(path))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything: what the system would say is put in place

        def refuse(*arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    for load in (load_h5, vit.load_file, lambda _, name: holds_head(name)):
        assert "cannot be read: Permission denied" in _refused(path, load)


def test_an_archive_of_arrays_and_a_damaged_one_are_refused(tmp_path):
    archive = tmp_path / "arrays.npz"
    np.savez(archive, x=np.zeros(100))
    assert "is an .npz archive, which vit alone takes" in _refused(archive)
    content = archive.read_bytes()
    place = content.rfind(b"PK\x01\x02")  # the list of files
    archive.write_bytes(content[:place] + b"QK" + content[place + 2 :])
    assert "cannot be read as a complete .npz checkpoint" in _refused(archive, vit.load_file)


def test_a_model_inside_a_model_is_one_short_line(tmp_path):
    backbone = tiny_network().model
    features = tf.keras.Model(
        backbone.input, backbone.get_layer("block3_relu").output, name="inner"
    )
    outer = tf.keras.Sequential([tf.keras.Input((32, 32, 3)), features, tf.keras.layers.Flatten()])
    path = tmp_path / "outer.h5"
    outer.save_weights(str(path))
    with pytest.raises(UserError) as caught:
        load_h5(features, str(path))
    message = str(caught.value)
    assert "its layer inner is a whole model with 45 arrays" in message, message
    assert 'model.get_layer("inner").save("FILE.h5")' in message and len(message) < 300
    # What it advises works.
    outer.get_layer("inner").save(str(path))
    load_h5(features, str(path))


def test_damaged_weights_of_this_project_say_where_they_come_from(tmp_path, monkeypatch):
    path = tmp_path / "digitnet_digits.h5"
    path.write_bytes(digitnet.WEIGHTS.read_bytes()[:5000])
    monkeypatch.setattr(digitnet, "WEIGHTS", path)
    with pytest.raises(UserError, match="it comes with this project: restore it") as caught:
        tiny_network("digits")
    assert str(path) in str(caught.value)


def test_main_refuses_weights_that_are_not_finite(tmp_path, capsys):
    network = tiny_network("digits")
    kernel = network.layers[0].variables[0]
    kernel.assign(tf.fill(kernel.shape, float("nan")))
    path = tmp_path / "weights.h5"
    save_network(network.model, str(path))
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--weights", str(path)]
    where = f"layer {network.layers[0].name}, variable kernel holds NaN or infinity"
    assert_refused(flags, f"weights file {path} cannot be used: {where}", tmp_path / "runs", capsys)
