"""Small vision transformers and checkpoints for them."""

import math

import numpy as np
import scipy.special
import tensorflow as tf

from models.backbones.vit import VIT_B16, ViTConfig, build_features

SMALL = ViTConfig(hidden=12, depth=2, heads=3, mlp=20)
POSITIONS = "Transformer/posembed_input/pos_embedding"
QUERY = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel"


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
