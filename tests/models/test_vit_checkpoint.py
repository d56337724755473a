"""ViT checkpoints: resized, refused."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import tensorflow as tf

from common.errors import UserError
from models.backbones.vit import ViTConfig
from models.backbones.vit_checkpoint import load_npz, resize_positions
from tests.models.vit_files import (
    POSITIONS,
    QUERY,
    SMALL,
    build_vit,
    numpy_vit,
    pixels,
    random_checkpoint,
    write,
)


@pytest.fixture(autouse=True)
def on_cpu():
    """Recent GPUs multiply float32 matrices in TF32, which is coarser than the tolerances here."""
    with tf.device("CPU"):
        yield


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
    assert "no such file" in refused(tmp_path / "absent.npz")
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    """1e300 is finite in the file, and infinite in the network."""
    arrays = random_checkpoint(SMALL, grid=2)
    for key in (QUERY, "Transformer/encoder_norm/bias"):
        arrays[key] = arrays[key].astype(np.float64)
        arrays[key].flat[-1] = value
    message = refused(tmp_path / "vit.npz", arrays)
    assert f"{QUERY} holds NaN or infinity" in message  # the first of them
