"""The vision transformer against NumPy and vit-keras."""

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.backbones.vit import VIT_B16, ViTConfig
from models.backbones.vit_checkpoint import load_npz
from models.backbones.vit_layers import SelfAttention
from models.registry import BACKBONES
from tests.models.vit_files import SMALL, build_vit, numpy_vit, pixels, random_checkpoint, write


@pytest.fixture(autouse=True)
def on_cpu():
    """Recent GPUs multiply float32 matrices in TF32, which is coarser than the tolerances here."""
    with tf.device("CPU"):
        yield


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


@pytest.mark.parametrize("size", [0, 8, 15, 17, 100, 225])
def test_input_size_that_does_not_fit_is_refused(size):
    with pytest.raises(UserError, match=f"--input_size {size} .*(multiple of|at least) 16"):
        BACKBONES["vit"].check_input_size(size)


def test_config_is_frozen_and_checked():
    with pytest.raises(AttributeError):
        VIT_B16.depth = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="not a multiple of heads"):
        ViTConfig(hidden=10, heads=3)
