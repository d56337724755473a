"""What kind of layer something is."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.backbones.vit_layers import ClassToken, FirstToken, PositionEmbedding, SelfAttention
from models.batch_norm import FixedBatchNormalization, has_batch_statistics, has_fixed_statistics
from models.kinds import LayerKind, channel_axis, exact_kind, kernels, kind_of, type_name
from models.network import build_network
from models.pruning.channel_groups import ChannelOffset
from models.registry import BACKBONES

layers = tf.keras.layers


class Derived(FixedBatchNormalization):
    """Of nobody's knowledge."""


@pytest.mark.parametrize(
    ("layer", "kind", "exact"),
    [
        (layers.Conv2D(2, 3), LayerKind.CONV, True),
        (layers.Conv2DTranspose(2, 3), LayerKind.CONV, False),  # a Conv2D to Keras
        (layers.DepthwiseConv2D(3), LayerKind.DEPTHWISE_CONV, True),
        (layers.SeparableConv2D(2, 3), LayerKind.OTHER, True),
        (layers.BatchNormalization(), LayerKind.BATCH_NORM, True),
        (FixedBatchNormalization(), LayerKind.BATCH_NORM, True),
        (Derived(), LayerKind.BATCH_NORM, False),
        (layers.SpatialDropout2D(0.1), LayerKind.DROPOUT, False),
        (layers.GaussianNoise(0.1), LayerKind.OTHER, True),
        (ClassToken(), LayerKind.CLASS_TOKEN, True),
        (PositionEmbedding(), LayerKind.POSITION_EMBEDDING, True),
        (SelfAttention(2, 2), LayerKind.SELF_ATTENTION, True),
        (FirstToken(), LayerKind.FIRST_TOKEN, True),
        (ChannelOffset(), LayerKind.CHANNEL_OFFSET, True),
        (None, LayerKind.OTHER, True),
    ],
)
def test_a_derived_class_is_of_its_kind_but_not_exactly(layer, kind, exact):
    assert kind_of(layer) is kind
    assert exact_kind(layer) is (kind if exact else LayerKind.OTHER)


def test_names_of_types():
    named = (layers.Conv2D(2, 3), layers.DepthwiseConv2D(3), layers.Dense(2), Derived())
    assert [type_name(layer) for layer in named] == [
        "conv",
        "depthwise_conv",
        "dense",
        "batch_norm",
    ]
    others = (SelfAttention(2, 2), layers.PReLU(), layers.ReLU())
    assert [type_name(layer) for layer in others] == ["SelfAttention", "PReLU", "ReLU"]


def test_statistics_of_batch_norm():
    fixed, by_batch = FixedBatchNormalization(), FixedBatchNormalization(batch_statistics=True)
    assert has_fixed_statistics(fixed) and not has_batch_statistics(fixed)
    assert has_batch_statistics(by_batch) and not has_fixed_statistics(by_batch)
    plain = layers.BatchNormalization()  # does as Keras' training flag says
    assert not has_batch_statistics(plain) and not has_fixed_statistics(plain)


@pytest.mark.parametrize(
    "layer", [layers.Conv2D(4, 3), layers.DepthwiseConv2D(3), layers.Dense(4), SelfAttention(2, 3)]
)
def test_the_channel_axis_counts_the_channels_of_the_output(layer):
    """Emptying a channel of a kernel (of attention, the last one) empties that of the output."""
    tf.keras.utils.set_random_seed(0)
    shape = [2, 5, 6] if kind_of(layer) is LayerKind.SELF_ATTENTION else [2, 5, 5, 6]
    x = tf.random.stateless_normal(shape, [0, 1])
    layer(x)
    *_, kernel = kernels(layer)
    axis = channel_axis(kind_of(layer), kernel.shape.rank)
    values = kernel.numpy()
    np.moveaxis(values, axis, 0)[1] = 0
    kernel.assign(values)
    output = layer(x).numpy()
    assert output.shape[-1] == kernel.shape[axis]
    np.testing.assert_array_equal(output[..., 1], 0)
    assert np.abs(np.delete(output, 1, axis=-1)).min() > 0
    assert channel_axis(kind_of(layer), 1) == 0


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.slow
def test_no_layer_of_a_backbone_is_of_unknown_kind(name):
    """But for the operations of the preprocessing, which no gradient meets."""
    network = build_network(BACKBONES[name], 5, 32, "none")
    first = next(
        place
        for place, layer in enumerate(network.model.layers)
        if layer is network.layers[0].keras_layer
    )
    behind = network.model.layers[first:]
    assert not [layer.name for layer in behind if exact_kind(layer) is LayerKind.OTHER]
