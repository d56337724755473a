"""Self-attention carried back by hand: beside q, k and v it takes the softmax and nothing else."""

from __future__ import annotations

import math
from typing import Optional

import tensorflow as tf

from models.backbones.vit_layers import SelfAttention
from train.gradients.lean.linear import Gradients, Linear, Pullback
from train.gradients.lean.order import after
from train.gradients.lean.products import dense_product
from train.gradients.leaves import Leaves


def record_attention(
    layer: SelfAttention, x: tf.Tensor, crossed: bool, leaves: Leaves
) -> tuple[tf.Tensor, Pullback]:
    """Output ``[batch, tokens, hidden]`` for x of the same shape, and the way back.

    See ``Linear.record``. q, k, v and the softmax live until then: a caller who has less memory
    than that calls this again in the backward pass.
    """
    tokens, hidden = x.shape[1:]
    heads, size = layer.heads, layer.head_size
    flat = tf.reshape(x, [-1, hidden])

    def split(rows: tf.Tensor) -> tf.Tensor:  # [rows, heads * size] -> [batch, heads, tokens, size]
        return tf.transpose(tf.reshape(rows, [-1, tokens, heads, size]), [0, 2, 1, 3])

    def join(per_head: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(per_head, [0, 2, 1, 3]), [-1, heads * size])

    def project(kernel: tf.Variable, bias: tf.Variable, rows: tf.Tensor, wanted: bool):
        return Linear(dense_product(kernel), bias).record(rows, wanted, leaves)

    inward = [
        project(kernel, bias, flat, crossed)
        for kernel, bias in (
            (layer.query_kernel, layer.query_bias),
            (layer.key_kernel, layer.key_bias),
            (layer.value_kernel, layer.value_bias),
        )
    ]
    query, key, value = (split(rows) for rows, _ in inward)
    scale = 1 / math.sqrt(size)
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * scale)
    mixed = join(tf.matmul(weights, value))
    output, outward = project(layer.output_kernel, layer.output_bias, mixed, True)

    def pullback(dy: tf.Tensor, found: Gradients) -> list[Optional[tf.Tensor]]:
        (d_mixed,) = outward(tf.reshape(dy, [-1, hidden]), found)
        d_mixed = split(d_mixed)
        d_value = tf.matmul(weights, d_mixed, transpose_a=True)
        d_weights = tf.matmul(after(d_value, d_mixed), value, transpose_b=True)
        total = tf.reduce_sum(d_weights * weights, axis=-1, keepdims=True)
        d_scores = (after(total, d_weights) - total) * weights * scale
        d_query = tf.matmul(d_scores, key)
        d_key = tf.matmul(after(d_query, d_scores), query, transpose_a=True)
        back = []
        for (_, one), gradient in zip(inward, (d_query, d_key, d_value)):
            back += one(join(after(back, gradient)), found)
        if not crossed:
            return [None]
        return [tf.reshape(tf.add_n(back), [-1, tokens, hidden])]

    return tf.reshape(output, [-1, tokens, hidden]), pullback
