"""Self-attention differentiated by hand: beside q, k and v it saves the softmax, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Optional

import tensorflow as tf

from models.backbones.vit_layers import SelfAttention
from train.gradients.lean.linear import Linear
from train.gradients.lean.order import after
from train.gradients.lean.products import dense_product
from train.gradients.lean.vjp import OutputAndVjp, WeightGradients
from train.gradients.leaves import Leaves


def projected(layer: SelfAttention, x: tf.Tensor, leaves: Leaves) -> tuple[tf.Tensor, ...]:
    """q, k and v of x ``[batch, tokens, hidden]``, ``[batch * tokens, heads * size]`` each."""
    flat = tf.reshape(x, [-1, x.shape[-1]])
    return tuple(
        Linear(dense_product(kernel), bias, leaves=leaves).forward(flat)
        for kernel, bias in _inward(layer)
    )


def attention_with_vjp(
    layer: SelfAttention,
    x: tf.Tensor,
    needs_input_grad: bool,
    leaves: Leaves,
    kept: Optional[Sequence[tf.Tensor]] = None,
) -> OutputAndVjp:
    """Output ``[batch, tokens, hidden]`` for x of the same shape.

    q, k, v and the softmax live until the backward pass: a caller who has less memory than that
    calls this again there.

    Args:
        kept: q, k and v, where ``projected`` has computed them before.
    """
    tokens, hidden = x.shape[1:]
    sizes = [tokens, layer.heads, layer.head_size]

    def project(
        kernel: tf.Variable, bias: tf.Variable, rows: tf.Tensor, needs_grad: bool
    ) -> OutputAndVjp:
        return Linear(dense_product(kernel), bias, leaves=leaves).with_vjp(rows, needs_grad)

    flat = tf.reshape(x, [-1, hidden])
    inward = [project(kernel, bias, flat, needs_input_grad) for kernel, bias in _inward(layer)]
    # Of the projections, the way back alone is left in the graph where their results were kept.
    per_head = [_split(rows, sizes) for rows in kept or [rows for rows, _ in inward]]
    mixed, mixing_vjp = _mixed_with_vjp(*per_head)
    output, output_vjp = project(layer.output_kernel, layer.output_bias, _join(mixed), True)

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
        (d_mixed,) = output_vjp(tf.reshape(dy, [-1, hidden]), gradients)
        back: list[Optional[tf.Tensor]] = []
        d_per_head = mixing_vjp(_split(d_mixed, sizes))
        for (_, projection_vjp), gradient in zip(inward, d_per_head):
            back += projection_vjp(_join(after(back, gradient)), gradients)
        if not needs_input_grad:
            return [None]
        return [tf.reshape(tf.add_n(back), [-1, tokens, hidden])]

    return tf.reshape(output, [-1, tokens, hidden]), vjp


def _inward(layer: SelfAttention) -> tuple[tuple[tf.Variable, tf.Variable], ...]:
    """Kernel and bias of q, k and v."""
    return (
        (layer.query_kernel, layer.query_bias),
        (layer.key_kernel, layer.key_bias),
        (layer.value_kernel, layer.value_bias),
    )


def _mixed_with_vjp(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]]:
    """``softmax(q k^T / sqrt(size)) v``, and from its gradient those of q, k and v.

    All are ``[batch, heads, tokens, size]``.
    """
    scale = 1 / math.sqrt(query.shape[-1])
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * scale)

    def vjp(d_mixed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        d_value = tf.matmul(weights, d_mixed, transpose_a=True)
        d_weights = tf.matmul(after(d_value, d_mixed), value, transpose_b=True)
        total = tf.reduce_sum(d_weights * weights, axis=-1, keepdims=True)
        d_scores = (after(total, d_weights) - total) * weights * scale
        d_query = tf.matmul(d_scores, key)
        d_key = tf.matmul(after(d_query, d_scores), query, transpose_a=True)
        return d_query, d_key, d_value

    return tf.matmul(weights, value), vjp


def _split(rows: tf.Tensor, sizes: Sequence[int]) -> tf.Tensor:
    """``[batch * tokens, heads * size]`` -> ``[batch, heads, tokens, size]``.

    ``sizes`` are tokens, heads and size.
    """
    return tf.transpose(tf.reshape(rows, [-1, *sizes]), [0, 2, 1, 3])


def _join(per_head: tf.Tensor) -> tf.Tensor:
    """The other way round."""
    _, heads, _, size = per_head.shape
    return tf.reshape(tf.transpose(per_head, [0, 2, 1, 3]), [-1, heads * size])
