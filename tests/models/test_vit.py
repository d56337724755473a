"""ViT-B/16: the graph, and the official checkpoint format, against independent implementations."""

import http.server
import math
import os
import pathlib
import socket
import threading
import time

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import tensorflow as tf

from common.errors import UserError
from models.backbones.vit import VIT_B16, ViTConfig, build_features
from models.backbones.vit_checkpoint import ensure_checkpoint, load_npz, resize_positions
from models.backbones.vit_layers import SelfAttention
from models.registry import BACKBONES

SMALL = ViTConfig(hidden=12, depth=2, heads=3, mlp=20)
POSITIONS = "Transformer/posembed_input/pos_embedding"
QUERY = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel"


@pytest.fixture(autouse=True)
def on_cpu():
    """Recent GPUs multiply float32 matrices in TF32, which is coarser than the tolerances here."""
    with tf.device("CPU"):
        yield


def build_vit(size, config=VIT_B16):
    inputs = tf.keras.Input((size, size, 3))
    return tf.keras.Model(inputs, build_features(inputs, config))


def random_checkpoint(config, grid, seed=0):
    """Random arrays in the official format; scaled so that activations stay of order one."""
    rng = np.random.default_rng(seed)
    hidden, heads = config.hidden, config.heads
    size = hidden // heads
    shapes = {
        "embedding/kernel": (config.patch, config.patch, 3, hidden),
        "embedding/bias": (hidden,),
        "cls": (1, 1, hidden),
        POSITIONS: (1, 1 + grid * grid, hidden),
        "Transformer/encoder_norm/scale": (hidden,),
        "Transformer/encoder_norm/bias": (hidden,),
        "head/kernel": (hidden, 10),
        "head/bias": (10,),
    }
    for index in range(config.depth):
        block = f"Transformer/encoderblock_{index}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes[f"{block}/{norm}/scale"] = shapes[f"{block}/{norm}/bias"] = (hidden,)
        for name in ("query", "key", "value"):
            shapes[f"{attention}/{name}/kernel"] = (hidden, heads, size)
            shapes[f"{attention}/{name}/bias"] = (heads, size)
        shapes[f"{attention}/out/kernel"] = (heads, size, hidden)
        shapes[f"{attention}/out/bias"] = (hidden,)
        shapes[f"{block}/MlpBlock_3/Dense_0/kernel"] = (hidden, config.mlp)
        shapes[f"{block}/MlpBlock_3/Dense_0/bias"] = (config.mlp,)
        shapes[f"{block}/MlpBlock_3/Dense_1/kernel"] = (config.mlp, hidden)
        shapes[f"{block}/MlpBlock_3/Dense_1/bias"] = (hidden,)
    arrays = {}
    for key, shape in shapes.items():
        array = rng.standard_normal(shape, dtype=np.float32)
        inward = any(f"/{name}/kernel" in key for name in ("query", "key", "value"))
        if key.endswith("kernel"):
            array /= math.sqrt(hidden if inward else np.prod(shape[:-1]))
        else:
            array = 0.3 * array + key.endswith("scale")
        arrays[key] = array.astype(np.float32)
    return arrays


def write(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def pixels(size, batch=2, seed=1):
    return np.random.default_rng(seed).uniform(0, 255, (batch, size, size, 3)).astype(np.float32)


def numpy_vit(arrays, images):
    """The transformer of the ViT paper's equations 1 to 4, in float64, from checkpoint arrays.

    The position embeddings must already have the images' grid.
    """
    weight = {key: array.astype(np.float64) for key, array in arrays.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * weight[f"{name}/scale"] + weight[f"{name}/bias"]

    def attention(x, name):
        q, k, v = (
            np.einsum("bnd,dhe->bhne", x, weight[f"{name}/{part}/kernel"])
            + weight[f"{name}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        chance = scipy.special.softmax(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]), axis=-1)
        out = np.einsum("bhne,hed->bnd", chance @ v, weight[f"{name}/out/kernel"])
        return out + weight[f"{name}/out/bias"]

    def mlp(x, name):
        x = x @ weight[f"{name}/Dense_0/kernel"] + weight[f"{name}/Dense_0/bias"]
        x = x * scipy.special.ndtr(x)
        return x @ weight[f"{name}/Dense_1/kernel"] + weight[f"{name}/Dense_1/bias"]

    kernel = weight["embedding/kernel"]
    patch, batch, side = kernel.shape[0], len(images), images.shape[1] // kernel.shape[0]
    tiles = (images.astype(np.float64) / 127.5 - 1).reshape(batch, side, patch, side, patch, 3)
    x = np.einsum("byixjc,ijcd->byxd", tiles, kernel) + weight["embedding/bias"]
    x = x.reshape(batch, side * side, -1)
    x = np.concatenate([np.tile(weight["cls"], (batch, 1, 1)), x], axis=1) + weight[POSITIONS]
    for index in range(sum(key.endswith("LayerNorm_0/scale") for key in weight)):
        block = f"Transformer/encoderblock_{index}"
        y = norm(x, f"{block}/LayerNorm_0")
        x = x + attention(y, f"{block}/MultiHeadDotProductAttention_1")
        x = x + mlp(norm(x, f"{block}/LayerNorm_2"), f"{block}/MlpBlock_3")
    return norm(x, "Transformer/encoder_norm")[:, 0]


def test_vit_b16_has_the_published_sizes_and_64_layers_in_execution_order():
    model = build_vit(224)
    kinds = [type(layer).__name__ for layer in model.layers if layer.trainable_variables]
    block = ["LayerNormalization", "SelfAttention", "LayerNormalization", "Dense", "Dense"]
    start = ["Conv2D", "ClassToken", "PositionEmbedding"]
    assert kinds == start + block * 12 + ["LayerNormalization"]
    assert len(kinds) == 64
    # 86,567,656 of the published ImageNet model (torchvision vit_b_16) less its 768 x 1000 head.
    assert model.count_params() == 86_567_656 - 769_000
    assert model.input_shape == (None, 224, 224, 3) and model.output_shape == (None, 768)


def test_graph_is_flat_and_begins_with_preprocessing():
    model = build_vit(32, SMALL)
    assert not any(isinstance(layer, tf.keras.Model) for layer in model.layers)
    images = np.array([0.0, 127.5, 255.0], np.float32).reshape(3, 1, 1, 1) * np.ones((1, 32, 32, 3))
    np.testing.assert_allclose(model.layers[1](images)[:, 0, 0, 0], [-1, 0, 1], atol=1e-6)
    attentions = [layer for layer in model.layers if isinstance(layer, SelfAttention)]
    assert [len(layer.trainable_variables) for layer in attentions] == [8, 8]
    assert (attentions[0].heads, attentions[0].head_size) == (3, 4)


@pytest.mark.parametrize("config, size", [(SMALL, 48), (ViTConfig(depth=1), 224)])
def test_forward_pass_equals_float64_reference(tmp_path, config, size):
    arrays = random_checkpoint(config, grid=size // 16)
    model = build_vit(size, config)
    load_npz(model, write(tmp_path / "vit.npz", arrays))
    images = pixels(size)
    expected = numpy_vit(arrays, images)
    assert expected.std() > 0.3
    np.testing.assert_allclose(model(images), expected, atol=2e-5)


def test_forward_pass_equals_vit_keras_at_224_from_a_384_checkpoint(tmp_path):
    # Where tensorflow-addons cannot be had, which it imports.
    pytest.importorskip("vit_keras", reason="vit-keras is for TensorFlow up to 2.15")
    from vit_keras import utils, vit

    config = ViTConfig(depth=2)
    path = write(tmp_path / "vit.npz", random_checkpoint(config, grid=24))
    oracle = vit.build_model(
        image_size=224,
        patch_size=16,
        num_layers=config.depth,
        hidden_size=config.hidden,
        num_heads=config.heads,
        mlp_dim=config.mlp,
        classes=0,
        include_top=False,
        name="oracle",
    )
    with pytest.warns(UserWarning, match="Resizing position embeddings"):
        utils.load_weights_numpy(oracle, path, False, num_x_patches=14, num_y_patches=14)
    model = build_vit(224, config)
    load_npz(model, path)
    images = pixels(224)
    expected = oracle(vit.preprocess_inputs(images.copy()), training=False).numpy()
    assert expected.std() > 0.3
    np.testing.assert_allclose(model(images), expected, atol=1e-4)


@pytest.mark.parametrize("old, new", [(24, 14), (14, 24), (24, 8), (7, 2), (24, 1)])
def test_resized_positions_equal_scipy_zoom(old, new):
    positions = np.random.default_rng(old).normal(size=(1, 1 + old * old, 5)).astype(np.float32)
    grid = positions[0, 1:].reshape(old, old, 5)
    zoomed = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1)
    resized = resize_positions(positions, new)
    assert resized.dtype == np.float32 and resized.shape == (1, 1 + new * new, 5)
    np.testing.assert_array_equal(resized[:, :1], positions[:, :1])
    np.testing.assert_allclose(resized[0, 1:].reshape(new, new, 5), zoomed, atol=1e-5)


@pytest.mark.parametrize("new", [22, 42, 43])
def test_resized_positions_keep_their_border_where_zoom_loses_it(new):
    # A bilinear function of the place is reproduced exactly by bilinear resizing, border included.
    y, x = np.mgrid[0:24, 0:24] / 23
    plane = np.stack([1 + y, 2 + x * y], axis=-1).reshape(1, 576, 2)
    resized = resize_positions(np.concatenate([np.zeros((1, 1, 2)), plane], axis=1), new)
    y, x = np.mgrid[0:new, 0:new] / (new - 1)
    expected = np.stack([1 + y, 2 + x * y], axis=-1).reshape(1, new * new, 2)
    np.testing.assert_allclose(resized[:, 1:], expected, atol=1e-12)


def test_clone_has_its_own_variables_and_saved_model_reloads(tmp_path):
    model = build_vit(32, SMALL)
    images = pixels(32)
    clone = tf.keras.models.clone_model(model)
    assert {id(v) for v in clone.weights}.isdisjoint(id(v) for v in model.weights)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(images), model(images))
    model.save(tmp_path / "vit.keras")
    reloaded = tf.keras.models.load_model(tmp_path / "vit.keras")
    np.testing.assert_allclose(reloaded(images), model(images), atol=1e-6)


def test_a_head_and_frozen_layers_do_not_disturb_loading(tmp_path):
    arrays = random_checkpoint(SMALL, grid=2)
    arrays["pre_logits/kernel"] = np.zeros((12, 12), np.float32)
    backbone = build_vit(32, SMALL)
    head = tf.keras.layers.Dense(7)
    model = tf.keras.Model(backbone.input, head(backbone.output))
    for layer in model.layers[::2]:
        layer.trainable = False
    before = head.get_weights()
    load_npz(model, write(tmp_path / "vit.npz", arrays))
    images = pixels(32)
    np.testing.assert_allclose(backbone(images), numpy_vit(arrays, images), atol=1e-5)
    for old, new in zip(before, head.get_weights()):
        np.testing.assert_array_equal(old, new)


def refused(path, arrays=None):
    """The message of a refused load, once it is sure that the load changed nothing."""
    if arrays is not None:
        write(path, arrays)
    model = build_vit(32, SMALL)
    before = model.get_weights()
    with pytest.raises(UserError) as caught:
        load_npz(model, path)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_missing_key_is_named(tmp_path):
    arrays = random_checkpoint(SMALL, grid=2)
    del arrays["Transformer/encoder_norm/bias"]
    message = refused(tmp_path / "vit.npz", arrays)
    assert "Transformer/encoder_norm/bias should have shape [12], but is missing" in message


def test_first_mismatch_in_execution_order_is_named(tmp_path):
    arrays = random_checkpoint(SMALL, grid=2)
    arrays = dict(reversed(list(arrays.items())))
    arrays["Transformer/encoder_norm/bias"] = np.zeros(13, np.float32)
    # The number of elements is right, the heads are not.
    arrays[QUERY] = arrays[QUERY].reshape(12, 4, 3)
    message = refused(tmp_path / "vit.npz", arrays)
    assert f"{QUERY} should have shape [12, 3, 4], found [12, 4, 3]" in message


@pytest.mark.parametrize("shape", [(1, 6, 12), (1, 10, 13), (2, 5, 12), (10, 12), (1, 1, 12)])
def test_positions_that_are_no_square_grid_are_refused(tmp_path, shape):
    arrays = random_checkpoint(SMALL, grid=2)
    arrays[POSITIONS] = np.zeros(shape, np.float32)
    message = refused(tmp_path / "vit.npz", arrays)
    assert f"{POSITIONS} should have shape [1, 5, 12], found {list(shape)}" in message


def test_deeper_checkpoint_and_wrong_types_are_refused(tmp_path):
    deeper = random_checkpoint(ViTConfig(hidden=12, depth=3, heads=3, mlp=20), grid=2)
    message = refused(tmp_path / "deeper.npz", deeper)
    assert "Transformer/encoderblock_2/LayerNorm_0/" in message and "has no place" in message
    arrays = random_checkpoint(SMALL, grid=2)
    arrays["cls"] = arrays["cls"].astype(np.int32)
    assert "cls should have shape [1, 1, 12] of floats, found int32" in refused(
        tmp_path / "types.npz", arrays
    )


def test_damaged_and_foreign_files_are_refused(tmp_path):
    arrays = random_checkpoint(SMALL, grid=2)
    path = tmp_path / "vit.npz"
    write(path, arrays)
    content = path.read_bytes()
    for share in (0, 0.001, 0.3, 0.9, 0.9999):
        path.write_bytes(content[: int(share * len(content))])
        assert "cannot be read as a complete .npz checkpoint" in refused(path)
    place = content.find(arrays["embedding/kernel"].tobytes()) + 100
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    assert "cannot be read as a complete .npz checkpoint" in refused(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "not an archive" in refused(tmp_path / "array.npy")
    assert "No such file" in refused(tmp_path / "absent.npz")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("size", [0, 8, 15, 17, 100, 225])
def test_input_size_that_does_not_fit_is_refused(size):
    with pytest.raises(UserError, match=f"--input_size {size} .*(multiple of|at least) 16"):
        BACKBONES["vit"].check_input_size(size)


def test_config_is_frozen_and_checked():
    with pytest.raises(AttributeError):
        VIT_B16.depth = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="not a multiple of heads"):
        ViTConfig(hidden=10, heads=3)


@pytest.fixture
def keras_cache(tmp_path, monkeypatch):
    """An empty Keras cache of the test's own; local addresses reached directly."""
    (tmp_path / ".keras").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / ".keras"


def test_checkpoint_is_downloaded_once_then_cached(keras_cache, tmp_path):
    content = b"checkpoint" * 1000

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/ViT-B_16.npz"
    try:
        path = ensure_checkpoint(url)
    finally:
        server.shutdown()
        server.server_close()
    assert os.path.commonpath([path, str(keras_cache)]) == str(keras_cache)
    assert pathlib.Path(path).read_bytes() == content
    assert ensure_checkpoint(url) == path


def test_offline_checkpoint_names_the_ways_out_and_does_not_hang(keras_cache):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/ViT-B_16.npz"
        with pytest.raises(UserError) as hanging:
            began = time.monotonic()
            ensure_checkpoint(address, timeout_s=0.3)
        assert time.monotonic() - began < 10
    with pytest.raises(UserError) as closed:
        ensure_checkpoint(address)
    for caught in (hanging, closed):
        assert "--weights PATH" in str(caught.value) and "--weights none" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert socket.getdefaulttimeout() is None
    assert not [file for file in keras_cache.rglob("*") if file.is_file()]
