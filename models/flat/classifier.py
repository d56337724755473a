"""A model's own classifier: found, taken off, or kept so that it gives logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from common.errors import UserError
from models.kinds import LINEAR, LayerKind, kind_of

_BEHIND = frozenset(
    {
        *(LayerKind.ACTIVATION, LayerKind.SOFTMAX, LayerKind.DROPOUT),
        *(LayerKind.FLATTEN, LayerKind.RESHAPE),
    }
)
_ends_of_classifiers = (
    tf.keras.activations.linear,
    tf.keras.activations.softmax,
    tf.keras.activations.sigmoid,
)


@dataclass(frozen=True, eq=False)
class Classifier:
    """The last layer with a kernel, and what is behind it.

    Attributes:
        layer: dense, or a convolution of one position.
        behind: in execution order.
        classes: how many it tells apart.
    """

    layer: tf.keras.layers.Layer
    behind: tuple[tf.keras.layers.Layer, ...]
    classes: int

    @property
    def features(self) -> Any:
        """The symbolic tensor that it reads."""
        return self.layer.input

    def logits(self) -> Any:
        """Its output ``[batch, classes]`` without the softmax, which is taken off.

        Raises:
            UserError: it ends in something else, such as a sigmoid.
        """
        functions = [layer for layer in (self.layer, *self.behind) if _function(layer) is not None]
        for layer in functions:
            if _function(layer) is tf.keras.activations.sigmoid:
                raise UserError(
                    f"the classifier ends in a sigmoid ({layer.name}): one that ends in a softmax, "
                    "or in logits, can be kept and trained"
                )
        if kind_of(self.layer) in LINEAR:
            self.layer.activation = tf.keras.activations.linear
        output = self.layer.output
        for layer in self.behind:
            if kind_of(layer) in (LayerKind.FLATTEN, LayerKind.RESHAPE):
                output = layer.output
        return output


def classifier_of(output: Any) -> Optional[Classifier]:
    """The classifier that makes the symbolic ``output`` of a flat model.

    None where the model ends in features: a map, a pooled vector, a layer with a ReLU.
    """
    if output.shape.rank != 2:
        return None
    behind: list[tf.keras.layers.Layer] = []
    layer = output._keras_history.layer
    while kind_of(layer) in _BEHIND and _may_follow(layer):
        behind.insert(0, layer)
        layer = layer.input._keras_history.layer
    if kind_of(layer) not in LINEAR or layer.activation not in _ends_of_classifiers:
        return None
    return Classifier(layer, tuple(behind), int(output.shape[-1]))


def _may_follow(layer: Any) -> bool:
    function = _function(layer)
    return function is None or function in _ends_of_classifiers


def _function(layer: Any) -> Any:
    """What a layer does to each element, or across them, behind a product; None for nothing."""
    if kind_of(layer) is LayerKind.SOFTMAX:
        return tf.keras.activations.softmax
    return getattr(layer, "activation", None)
