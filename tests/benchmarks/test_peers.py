"""Our layers by PyTorch's names, and a process that takes steps."""

from __future__ import annotations

import pytest

from benchmarks.peers.peers import _order_in_torch, in_torch
from benchmarks.peers.stepper import Stepper
from benchmarks.subjects import new_network
from models.kinds import LINEAR, LayerKind


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50"])
def test_products_are_counted_as_torchvision_has_them(name):
    network = new_network(name)
    order = _order_in_torch(name, network)
    products = [layer for layer in network.layers if layer.kind in LINEAR]
    assert sorted(order.values()) == list(range(len(products)))
    assert order[id(products[0])] == 0 and order[id(network.head)] == len(products) - 1
    for layer in products:
        if name == "resnet50" and layer.name.endswith("_0_conv"):  # a block's shortcut: its last
            third = network.model.get_layer(layer.name.replace("_0_conv", "_3_conv"))
            (before,) = (one for one in products if one.keras_layer is third)
            assert order[id(layer)] == order[id(before)] + 1


def test_a_batch_norm_goes_by_what_is_in_front_of_it():
    network = new_network("mobilenetv2")
    named = in_torch("mobilenetv2", list(range(len(network.layers))))
    for layer, (kind, place), before in zip(network.layers, named, [None, *named]):
        if layer.kind is LayerKind.BATCH_NORM:
            assert (kind, ["product", place]) == ("norm", before)
        else:
            assert kind == "product"


def test_a_process_that_ends_says_why():
    with (
        Stepper("benchmarks.peers.keras_side", {"model": "none"}) as stepper,
        pytest.raises(RuntimeError, match=r"main\(\)"),
    ):
        _ = stepper.facts
