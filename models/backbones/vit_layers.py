"""The layers of a vision transformer that Keras does not have.

Everything that counts as one selectable layer is one Keras layer: an attention block with its
four projections too (paper section 4.2.2).
"""

from __future__ import annotations

import math

import tensorflow as tf

from models.kinds import LayerKind, of_kind

_serializable = tf.keras.utils.register_keras_serializable(package="adabet")


@of_kind(LayerKind.CLASS_TOKEN)
@_serializable
class ClassToken(tf.keras.layers.Layer):
    """Puts a learned token before the sequence: [B, N, D] -> [B, N + 1, D]. Variable [1, 1, D]."""

    def build(self, input_shape):
        self.token = self.add_weight(
            name="token", shape=(1, 1, int(input_shape[-1])), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, inputs):
        batch = tf.shape(inputs)[0]
        token = tf.broadcast_to(self.token, [batch, 1, inputs.shape[-1]])
        return tf.concat([token, inputs], axis=1)


@of_kind(LayerKind.POSITION_EMBEDDING)
@_serializable
class PositionEmbedding(tf.keras.layers.Layer):
    """Adds a learned vector to every token: [B, N, D] -> [B, N, D]. Variable [1, N, D]."""

    def build(self, input_shape):
        self.positions = self.add_weight(
            name="positions",
            shape=(1, int(input_shape[1]), int(input_shape[2])),
            initializer=tf.keras.initializers.RandomNormal(stddev=0.02),
        )
        super().build(input_shape)

    def call(self, inputs):
        return inputs + self.positions


@of_kind(LayerKind.SELF_ATTENTION)
@_serializable
class SelfAttention(tf.keras.layers.Layer):
    """Multi-head self-attention with its output projection: [B, N, D] -> [B, N, D].

    Eight variables: query, key and value kernels [D, heads * head_size] with biases
    [heads * head_size], and the output kernel [heads * head_size, D] with its bias [D]. A
    head owns consecutive columns, as in the official checkpoints once flattened.
    """

    def __init__(self, heads: int, head_size: int, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.head_size = head_size

    def build(self, input_shape):
        hidden, inner = int(input_shape[-1]), self.heads * self.head_size
        self.query_kernel, self.query_bias = self._projection("query", hidden, inner)
        self.key_kernel, self.key_bias = self._projection("key", hidden, inner)
        self.value_kernel, self.value_bias = self._projection("value", hidden, inner)
        self.output_kernel, self.output_bias = self._projection("output", inner, hidden)
        super().build(input_shape)

    def _projection(self, name: str, inputs: int, outputs: int):
        kernel = self.add_weight(
            name=f"{name}_kernel", shape=(inputs, outputs), initializer="glorot_uniform"
        )
        return kernel, self.add_weight(name=f"{name}_bias", shape=(outputs,), initializer="zeros")

    def call(self, inputs):
        return self.attend(inputs, lambda flat, kernel, bias: tf.matmul(flat, kernel) + bias)

    def attend(self, inputs, project):
        """The layer's output, its projections by ``project([rows, in], kernel, bias)``."""
        _, tokens, hidden = inputs.shape
        # Flat, because the gradient of a batched product holds one whole kernel per image.
        flat = tf.reshape(inputs, [-1, hidden])

        def per_head(kernel, bias):
            split = [-1, tokens, self.heads, self.head_size]
            return tf.transpose(tf.reshape(project(flat, kernel, bias), split), [0, 2, 1, 3])

        query = per_head(self.query_kernel, self.query_bias)
        key = per_head(self.key_kernel, self.key_bias)
        value = per_head(self.value_kernel, self.value_bias)
        scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(self.head_size)
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), [0, 2, 1, 3])
        joined = tf.reshape(mixed, [-1, self.heads * self.head_size])
        outputs = project(joined, self.output_kernel, self.output_bias)
        return tf.reshape(outputs, [-1, tokens, hidden])

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "head_size": self.head_size}


@of_kind(LayerKind.FIRST_TOKEN)
@_serializable
class FirstToken(tf.keras.layers.Layer):
    """Takes the class token out of the sequence: [B, N, D] -> [B, D]. No variables."""

    def call(self, inputs):
        return inputs[:, 0]
