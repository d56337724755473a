"""Small random networks out of all kinds of layers, with and without a rule of the lean step."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from models.batch_norm import fix_batch_norm

_layers = tf.keras.layers
CLASSES = 5
SIZE = 12


class RandomGraph:
    """Draws layers by ``choose``: a function of a list that returns one of its entries."""

    def __init__(self, choose) -> None:
        self._choose = choose
        self._earlier: list[Any] = []  # tensors that a later layer may read once more

    def build(self, depth: int) -> tf.keras.Model:
        """``depth`` pieces and a head, on 12 x 12 pixels; no weight is 0 or 1."""
        x = inputs = tf.keras.Input((SIZE, SIZE, 3))
        for _ in range(depth):
            piece = self._choose([self._spatial, self._pointwise, self._joint, self._tokens])
            x = piece(x)
            self._earlier.append(x)
        if self._choose([True, False]):
            x = _layers.GlobalAveragePooling2D()(x)
        else:
            x = _layers.Flatten()(_layers.GlobalMaxPooling2D(keepdims=True)(x))
        x = self._choose([_layers.Dropout(0.3, seed=5), _layers.Activation("tanh")])(x)
        model = fix_batch_norm(tf.keras.Model(inputs, _layers.Dense(CLASSES)(x)), False)
        generator = np.random.default_rng(self._choose(range(5)))
        for weight in model.weights:
            low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.4
            weight.assign(generator.uniform(low, 1.5 if low > 0 else 0.4, weight.shape))
        return model

    def _spatial(self, x: Any) -> Any:
        """Convolutions of every kind, and pooling."""
        choose, channels = self._choose, x.shape[-1]
        small = x.shape[1] < 4
        size = choose([1, 3])
        options = {
            "strides": 1 if small else choose([1, 2]),
            "padding": "same" if small else choose(["same", "valid"]),
            "use_bias": choose([True, False]),
            "activation": choose([None, None, "relu", "tanh", "swish"]),
        }
        if choose([True, False]) and not small:
            x = _layers.ZeroPadding2D(choose([1, ((0, 1), (0, 1)), ((1, 0), (2, 1))]))(x)
        layer = choose(
            [
                _layers.Conv2D(choose([4, 6, 8]), size, **options),
                _layers.Conv2D(2 * channels, size, groups=channels, **options),
                _layers.DepthwiseConv2D(size, depth_multiplier=choose([1, 2]), **options),
                _layers.SeparableConv2D(6, size, **options),  # no rule
                _layers.Conv2DTranspose(4, size, use_bias=options["use_bias"]),  # no rule
                _layers.MaxPooling2D(2, padding="same"),
                _layers.MaxPooling2D(3, 1, padding="same"),
                _layers.AveragePooling2D(2, 1, padding="same"),
            ]
        )
        return self._normed(layer(x))

    def _normed(self, x: Any) -> Any:
        """With a batch norm and a ReLU behind it, or not."""
        if self._choose([True, False]):
            x = _layers.BatchNormalization(scale=self._choose([True, True, False]))(x)
        layer = self._choose([None, _layers.ReLU(), _layers.ReLU(6.0), _layers.ReLU(2.0)])
        return x if layer is None else layer(x)

    def _pointwise(self, x: Any) -> Any:
        layer = self._choose(
            [
                _layers.Activation("gelu"),
                _layers.Activation("softmax"),
                _layers.LeakyReLU(0.2),
                _layers.ELU(),
                _layers.PReLU(shared_axes=[1, 2]),
                _layers.LayerNormalization(),
                _layers.BatchNormalization(),
                _layers.Dropout(0.4, seed=3),
                _layers.Dropout(0.4, noise_shape=(None, 1, 1, 1)),  # stochastic depth
                _layers.SpatialDropout2D(0.3),
                _layers.Rescaling(0.7, 0.1),
            ]
        )
        return layer(x)

    def _joint(self, x: Any) -> Any:
        """With a tensor before it, or with itself."""
        choose = self._choose
        fitting = [one for one in [*self._earlier, x] if one.shape[1:] == x.shape[1:]]
        other = choose(fitting)
        kind = choose(["add", "subtract", "multiply", "average", "concatenate", "gate"])
        if kind == "gate":  # squeeze and excite
            gate = _layers.GlobalAveragePooling2D(keepdims=True)(x)
            gate = _layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
            return _layers.Multiply()([x, gate])
        layer = {
            "add": _layers.Add(),
            "subtract": _layers.Subtract(),
            "multiply": _layers.Multiply(),
            "average": _layers.Average(),
            "concatenate": _layers.Concatenate(),
        }[kind]
        return layer([x, other])

    def _tokens(self, x: Any) -> Any:
        """Two branches from a layer norm to an addition, as in a transformer: one is recomputed."""
        choose, (height, width, channels) = self._choose, x.shape[1:]
        x = _layers.Reshape((height * width, channels))(x)
        for _ in range(2):
            y = _layers.LayerNormalization()(x)
            y = _layers.Dense(choose([5, 9]), activation=choose([None, "relu"]))(y)
            y = choose([_layers.Activation("gelu"), _layers.Dropout(0.5, seed=9)])(y)
            y = _layers.Dense(channels)(y)
            y = choose([_layers.Dropout(0.3), _layers.Activation("linear")])(y)
            x = _layers.Add()([x, y])
        return _layers.Reshape((height, width, channels))(x)
