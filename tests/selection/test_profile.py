"""The timing profile of ElasticTrainer: counted by hand, measured, and its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.backbones.vit import ViTConfig, build_features
from models.layers import selectable_layers
from models.network import Network
from models.registry import BACKBONES
from selection.elastic.profile import tensor_profile
from tests.helpers import tiny_network


def _network(inputs, outputs) -> Network:
    model = tf.keras.Model(inputs, outputs)
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), False)


def _small() -> Network:
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(8, 1, groups=2, use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _network(inputs, layers.Dense(5)(x))


def test_counted_profile_of_a_small_network_by_hand():
    profile = tensor_profile(_small(), 2)
    shapes = [tensor.shape for tensor in profile.tensors]
    # The loss first, a layer's bias before its kernel.
    assert shapes == [(5,), (8, 5), (1, 1, 2, 8), (4,), (3, 3, 4, 1), (4,), (4,), (3, 3, 3, 4)]
    by_shape = {tensor.shape: tensor for tensor in profile.tensors}
    assert by_shape[8, 5].t_dw == 2 * 2 * 8 * 5
    assert by_shape[1, 1, 2, 8].t_dw == 2 * 2 * 4 * 4 * 4 * 8 / 2
    assert by_shape[3, 3, 4, 1].t_dw == 2 * 2 * 4 * 4 * 3 * 3 * 4
    assert by_shape[3, 3, 3, 4].t_dw == 2 * 2 * 8 * 8 * 3 * 3 * 3 * 4
    # On the way: the dense kernel carries the pooling, the grouped one the fused ReLU, and the
    # depthwise one the ReLU; biases and the deepest tensor carry nothing.
    t_dy = profile.t_dy
    assert (t_dy[[0, 3, 5, 7]] == 0).all()
    assert t_dy[1] > by_shape[8, 5].t_dw
    assert t_dy[2] > by_shape[1, 1, 2, 8].t_dw
    assert t_dy[4] > by_shape[3, 3, 4, 1].t_dw
    assert t_dy[6] > 0
    assert profile.backward == pytest.approx(profile.t_dw.sum() + t_dy.sum())


def test_counted_profile_of_attention():
    inputs = tf.keras.Input((32, 32, 3))
    config = ViTConfig(patch=8, hidden=16, depth=1, heads=2, mlp=32)
    network = _network(inputs, tf.keras.layers.Dense(5)(build_features(inputs, config)))
    profile = tensor_profile(network, 3)
    assert len(profile.tensors) == sum(len(layer.variables) for layer in network.layers)
    (attention,) = (layer for layer in network.layers if layer.type == "SelfAttention")
    rows = [tensor for tensor in profile.tensors if tensor.layer == attention.index]
    assert [row.position for row in rows] == [7, 6, 5, 4, 3, 2, 1, 0]
    project, product = 2 * 3 * 17 * 16 * 16, 2 * 3 * 17 * 17 * 16
    assert [row.t_dw for row in rows if row.position % 2 == 0] == [project] * 4
    assert [row.t_dy for row in rows if row.position % 2] == [0.0] * 4
    softmax = rows[3].t_dy - 2 * product
    assert softmax > 0
    total = sum(row.t_dy for row in rows)
    # As many products and projections backwards as forwards, one pass each.
    assert total == pytest.approx(4 * project + 4 * product + softmax)


@pytest.mark.parametrize("mode", ["flops", "measured"])
@pytest.mark.slow
def test_profile_file_is_reused_only_where_it_belongs(tmp_path, mode):
    path = tmp_path / "profile.json"
    network = _small()
    made = tensor_profile(network, 4, mode, str(path))
    content = json.loads(path.read_text())
    assert (content["model"], content["batch_size"], content["input_size"]) == ("digitnet", 4, 8)
    assert content["device"] and content["mode"] == mode
    content["forward"] *= 2  # a mark
    path.write_text(json.dumps(content))
    again = tensor_profile(network, 4, mode, str(path))
    assert again.forward == 2 * made.forward and again.tensors == made.tensors
    for name, value in (("device", "abacus"), ("model", "resnet50"), ("mode", "other")):
        path.write_text(json.dumps({**content, name: value}))
        tensor_profile(network, 4, mode, str(path))
        assert json.loads(path.read_text())[name] == json.loads(json.dumps(getattr(made, name)))
    assert tensor_profile(network, 2, mode, str(path)).batch_size == 2
    assert json.loads(path.read_text())["batch_size"] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["profile.json"]


def test_measured_profile_shares_out_the_measured_passes():
    network = tiny_network()
    profile = tensor_profile(network, 8, "measured")
    counted = tensor_profile(network, 8)
    assert [t.shape for t in profile.tensors] == [t.shape for t in counted.tensors]
    assert (profile.t_dw > 0).all()
    np.testing.assert_array_equal(profile.t_dy == 0, counted.t_dy == 0)
    assert profile.backward == pytest.approx(profile.t_dw.sum() + profile.t_dy.sum())
    assert 1e-4 < profile.forward < 10 and profile.unit == "second"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "line 1: expected `object`, got `array`"),
        ('{\n"epoch": 1}', "line 1: object contains unknown field `epoch`"),
        ("{}", "line 1: object missing required field `mode`"),
    ],
)
def test_corrupt_or_foreign_profile_file_is_one_line_and_stays(tmp_path, text, message):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        tensor_profile(tiny_network(), 4, "flops", str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected `float`, got `null`"),
        (-1.0, "expected `float` >= 0.0"),
        ("fast", "expected `float`, got `str`"),
        (True, "expected `float`, got `bool`"),
        (float("nan"), "is not JSON"),
    ],
)
def test_profile_file_with_bad_times(tmp_path, value, message):
    path = tmp_path / "profile.json"
    network = tiny_network()
    tensor_profile(network, 4, "flops", str(path))
    content = json.loads(path.read_text())
    content["tensors"][3]["t_dw"] = value
    path.write_text(json.dumps(content, indent=1))
    with pytest.raises(UserError, match=message) as caught:
        tensor_profile(network, 4, "flops", str(path))
    line = 1 + path.read_text().splitlines().index(
        [row for row in path.read_text().splitlines() if "t_dw" in row][3]
    )
    assert f"line {line}: " in str(caught.value)
    if message != "is not JSON":
        assert "tensors[3].t_dw" in str(caught.value)


def test_profile_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        tensor_profile(tiny_network(), 4, "flops", str(tmp_path / "no" / "profile.json"))
    with pytest.raises(UserError, match="cannot be read"):
        tensor_profile(tiny_network(), 4, "flops", str(tmp_path))
