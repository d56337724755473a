"""Table 3 to the cent."""

from __future__ import annotations

import pytest
import tensorflow as tf

from memory_utils import SELECTION_KINDS, paper_memory, paper_notes, paper_selection_memory
from models.network import Network, build_network
from models.registry import BACKBONES
from tests.memory_helpers import bytes_of, residual_network


@pytest.fixture(scope="module")
def built():
    """``built(name, classes)``: the real network at 224 pixels, built once."""
    networks = {}

    def get(name: str, classes: int) -> Network:
        if (name, classes) not in networks:
            networks[name, classes] = build_network(BACKBONES[name], classes, 224, "none")
        return networks[name, classes]

    yield get
    networks.clear()


@pytest.mark.parametrize(
    ("name", "classes", "trained", "cell"),
    [
        ("vgg16", 37, "nothing", 932.21),
        ("resnet50", 37, "nothing", 243.04),
        ("mobilenetv2", 37, "nothing", 315.86),
        ("vgg16", 37, "head", 932.28),
        ("resnet50", 37, "head", 243.31),
        ("mobilenetv2", 37, "head", 316.02),
        ("vgg16", 120, "everything", 988.77),
        ("resnet50", 37, "everything", 777.12),
        ("mobilenetv2", 37, "everything", 373.58),
        ("vit", 37, "nothing", 86.27),
    ],
)
def test_paper_cells_to_the_cent(built, name, classes, trained, cell):
    network = built(name, classes)
    chosen = {
        "nothing": (),
        "head": network.head.variables,
        "everything": network.model.trainable_weights,
    }[trained]
    assert round(paper_memory(network, chosen), 2) == cell


def test_paper_selection_is_inference_or_full_training(built):
    network = built("resnet50", 37)
    cost = {kind: paper_selection_memory(network, kind) for kind in SELECTION_KINDS}
    assert cost == {
        "none": None,
        "forward": pytest.approx(243.04, abs=0.005),
        "activation_gradients": pytest.approx(777.12, abs=0.005),
        "variable_gradients": pytest.approx(777.12, abs=0.005),
    }
    with pytest.raises(ValueError, match="backwards.*none, forward, activation_gradients"):
        paper_selection_memory(network, "backwards")


def test_paper_counts_the_batch_twice():
    """Doubling the batch makes outputs four times as large, as the notes say."""
    network = residual_network()
    weights = 0.5 * sum(int(tf.size(variable)) for variable in network.model.weights)
    for batch in (1, 2, 8):
        expected = batch * 4 * (4 * 8 * 8 + batch * 4 * 8 * 8) + weights  # conv b
        assert bytes_of(paper_memory(network, (), batch)) == round(expected)
    assert any("twice" in note for note in paper_notes())
