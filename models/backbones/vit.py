"""ViT-B/16 as one flat Keras graph, and the official checkpoints it starts from.

Architecture: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, Table 1 and
Section 3.1; LayerNorm epsilon, initialisers and the checkpoint's key names follow
google-research/vision_transformer. Everything that counts as one selectable layer is one Keras
layer (an attention block with its four projections too), and nothing is nested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.backbones.vit_checkpoint import CHECKPOINT, load_npz
from models.backbones.vit_layers import ClassToken, FirstToken, PositionEmbedding, SelfAttention
from models.download import load_published
from models.registry import Backbone
from models.weight_files import is_hdf5
from models.weights import load_h5

LAYER_NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer; the defaults are ViT-B/16.

    patch is in pixels, hidden and mlp in units per token. Raises ValueError where hidden is
    not a multiple of heads.
    """

    patch: int = 16
    hidden: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")


VIT_B16 = ViTConfig()


def build(backbone: Backbone, inputs: Any) -> Any:  # noqa: ARG001
    """Features ``[batch, 768]`` of raw pixels ``[batch, size, size, 3]``: the class token."""
    return build_features(inputs, VIT_B16)


def load_pretrained(model: tf.keras.Model, name: str) -> None:  # noqa: ARG001
    """The official checkpoint, ImageNet-21k and then 2012, downloaded once into Keras' cache.

    Raises:
        UserError: it is neither in the cache nor to be had, or the kept file is damaged.
    """
    load_published(model, CHECKPOINT, load_npz)


def load_file(model: tf.keras.Model, path: str) -> None:
    """An official ``.npz`` checkpoint (``load_npz``) or a Keras HDF5 file (``load_h5``)."""
    if is_hdf5(path):
        load_h5(model, path)
    else:
        load_npz(model, path)


def build_features(inputs: Any, config: ViTConfig) -> Any:
    """The class token ``[batch, hidden]`` after the final LayerNorm, as one flat graph.

    ``inputs`` are raw RGB pixels ``[batch, size, size, 3]`` in [0, 255], float32; the first
    layer maps them to [-1, 1], as the checkpoints expect. For ViT-B/16, 64 layers own
    variables, in execution order: patch embedding, class token, position embedding,
    12 x (LN, attention, LN, dense, dense), final LN. There is no dropout.
    """
    layers = tf.keras.layers
    side = inputs.shape[1] // config.patch
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")(inputs)
    x = layers.Conv2D(config.hidden, config.patch, config.patch, name="patch_embedding")(x)
    x = layers.Reshape((side * side, config.hidden), name="tokens")(x)
    x = ClassToken(name="class_token")(x)
    x = PositionEmbedding(name="position_embedding")(x)
    for index in range(config.depth):
        x = _encoder_block(x, config, f"block{index}")
    x = layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name="final_norm")(x)
    return FirstToken(name="features")(x)


def _encoder_block(x, config: ViTConfig, name: str):
    layers = tf.keras.layers
    y = layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=f"{name}_norm1")(x)
    y = SelfAttention(config.heads, config.hidden // config.heads, name=f"{name}_attention")(y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=f"{name}_norm2")(x)
    y = layers.Dense(config.mlp, name=f"{name}_dense1")(y)
    # Keras' "gelu" is the exact erf form, which vit-keras uses too; JAX's default is the tanh one.
    y = layers.Activation("gelu", name=f"{name}_gelu")(y)
    y = layers.Dense(config.hidden, name=f"{name}_dense2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])
