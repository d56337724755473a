"""Self-attention differentiated by hand: beside q, k and v it saves the softmax, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from train.gradients.lean.linear import Linear
from train.gradients.lean.order import after
from train.gradients.lean.products import dense_product
from train.gradients.lean.vjp import LayerCall, OutputAndVjp, WeightGradients


def attention_with_vjp(call: LayerCall) -> OutputAndVjp:
    """Output of a ``SelfAttention`` ``[batch, tokens, hidden]`` for x of the same shape.

    q, k, v and the softmax live until the backward pass: a caller who has less memory than that
    calls this again there.
    """
    layer, x = call.layer, call.x
    (needs_input_grad,) = call.needs_input_grad
    tokens, hidden = x.shape[1:]
    heads, size = layer.heads, layer.head_size
    flat = tf.reshape(x, [-1, hidden])

    def split(rows: tf.Tensor) -> tf.Tensor:  # [rows, heads * size] -> [batch, heads, tokens, size]
        return tf.transpose(tf.reshape(rows, [-1, tokens, heads, size]), [0, 2, 1, 3])

    def join(per_head: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(per_head, [0, 2, 1, 3]), [-1, heads * size])

    def project(
        kernel: tf.Variable, bias: tf.Variable, rows: tf.Tensor, needs_grad: bool
    ) -> OutputAndVjp:
        return Linear(dense_product(kernel), bias).with_vjp(rows, needs_grad, call.leaves)

    inward = [
        project(kernel, bias, flat, needs_input_grad)
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
    output, output_vjp = project(layer.output_kernel, layer.output_bias, mixed, True)

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
        (d_mixed,) = output_vjp(tf.reshape(dy, [-1, hidden]), gradients)
        d_mixed = split(d_mixed)
        d_value = tf.matmul(weights, d_mixed, transpose_a=True)
        d_weights = tf.matmul(after(d_value, d_mixed), value, transpose_b=True)
        total = tf.reduce_sum(d_weights * weights, axis=-1, keepdims=True)
        d_scores = (after(total, d_weights) - total) * weights * scale
        d_query = tf.matmul(d_scores, key)
        d_key = tf.matmul(after(d_query, d_scores), query, transpose_a=True)
        back: list[Optional[tf.Tensor]] = []
        for (_, projection_vjp), gradient in zip(inward, (d_query, d_key, d_value)):
            back += projection_vjp(join(after(back, gradient)), gradients)
        if not needs_input_grad:
            return [None]
        return [tf.reshape(tf.add_n(back), [-1, tokens, hidden])]

    return tf.reshape(output, [-1, tokens, hidden]), vjp
