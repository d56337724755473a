"""Convolutions and dense layers, together with the batch norm and the ReLU behind them.

Batch norm by fixed statistics is a scale and a shift per channel, which go into the kernel and the
offset: forward and backward, the activations are touched once, and nothing is kept for it. ReLU
keeps one bit per element. The layer's input is kept only where its kernel is trained, its output
only where gamma is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from train.gradients.lean.masks import KeptOutput, Winners, passes, passing
from train.gradients.lean.order import after
from train.gradients.lean.products import Product, shape_like
from train.gradients.leaves import Leaf, Leaves

Gradients = dict  # variable.ref() of a leaf -> its gradient
Pullback = Callable[[tf.Tensor, Gradients], list[Optional[tf.Tensor]]]


@dataclass(frozen=True, eq=False)
class Linear:
    """``pool(relu(norm(product(x) + bias)))``; all but the product may be missing.

    Attributes:
        norm: batch norm by fixed statistics.
        rectified: whether there is a ReLU.
        cap: its largest value; None for no limit.
        pooling: max pooling by windows behind the ReLU.
    """

    product: Product
    bias: Optional[tf.Variable] = None
    norm: Optional[FixedBatchNormalization] = None
    rectified: bool = False
    cap: Optional[float] = None
    pooling: Optional[tf.keras.layers.MaxPooling2D] = None

    def plain(self, x: tf.Tensor) -> tf.Tensor:
        """The output, nothing kept."""
        y = self._rectify(self._folded(x))
        return y if self.pooling is None else self.pooling(y)

    def record(
        self, x: tf.Tensor, crossed: bool, leaves: Leaves, *, output_stays: bool = False
    ) -> tuple[tf.Tensor, Pullback]:
        """The output, and the function that carries a gradient from there back.

        Args:
            crossed: whether the gradient of x is wanted.
            output_stays: whether somebody keeps the whole output for the backward pass anyway.
        """
        gamma = None if self.norm is None else leaves.find(self.norm.gamma)
        if gamma is None or gamma.is_slice:
            y, back = self._record_folded(x, crossed, leaves, gamma)
        else:
            y, back = self._record_apart(x, crossed, leaves, gamma)
        if not self.rectified:
            return y, back
        y = self._rectify(y)
        if self.pooling is not None:
            # The maximum of a ReLU is the ReLU of the maximum: its bits are needed there only.
            pooled = self.pooling(y)
            gate = Winners(y, pooled, self.pooling.pool_size[0], passes(pooled, self.cap))
            return after(gate.made, pooled), lambda dy, found: back(gate.times(dy), found)
        gate = KeptOutput(y, self.cap) if output_stays else passing(y, self.cap)
        return after(gate.made, y), lambda dy, found: back(gate.times(dy), found)

    def _record_folded(
        self, x: tf.Tensor, crossed: bool, leaves: Leaves, gamma: Optional[Leaf]
    ) -> tuple[tf.Tensor, Pullback]:
        """The batch norm in the kernel. Its own input is there only if gamma's slice needs it."""
        kernel = leaves.find(self.product.kernel)
        x_kept, z, made = x, None, []
        if kernel is not None and self.product.by_channel and kernel.is_slice:
            x_kept = kernel.take(x)
            made.append(x_kept)
        if gamma is None:
            y = self._folded(x)
        else:
            y = self._with_bias(self.product.forward(x, self.product.kernel))
            z = gamma.take(y)
            made.append(z)
            y = self.norm(after(z, y))

        def back(dy: tf.Tensor, found: Gradients) -> list[Optional[tf.Tensor]]:
            done = self._to_offsets(dy, leaves, found)
            if gamma is not None:
                done.append(_put(found, gamma, self._to_gamma(gamma, z, dy)))
            if kernel is not None:
                gradient = self.product.to_kernel(x_kept, kernel.take(dy), kernel.variable.shape)
                if self.norm is not None:
                    gradient = self.product.scaled(gradient, kernel.take(self._scale()))
                done.append(_put(found, kernel, gradient))
            return self._to_input(x, crossed, dy, self._scaled_kernel(dy), done)

        return after(made, y), back

    def _record_apart(
        self, x: tf.Tensor, crossed: bool, leaves: Leaves, gamma: Leaf
    ) -> tuple[tf.Tensor, Pullback]:
        """The batch norm as an operation of its own, whose input is kept for gamma."""
        z = self._with_bias(self.product.forward(x, self.product.kernel))

        def back(dy: tf.Tensor, found: Gradients) -> list[Optional[tf.Tensor]]:
            norm = self.norm
            dz, d_gamma, d_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=dy,
                x=z,
                scale=norm.gamma,
                reserve_space_1=norm.moving_mean,
                reserve_space_2=norm.moving_variance,
                reserve_space_3=[],
                epsilon=norm.epsilon,
                is_training=False,
            )
            done = [_put(found, gamma, d_gamma)]
            beta, bias, kernel = (
                leaves.find(v) for v in (norm.beta, self.bias, self.product.kernel)
            )
            if beta is not None:
                done.append(_put(found, beta, beta.take(d_beta)))
            if bias is not None:
                done.append(_put(found, bias, _channel_sums(bias.take(dz))))
            if kernel is not None:
                x_kept = kernel.take(x) if self.product.by_channel else x
                gradient = self.product.to_kernel(x_kept, kernel.take(dz), kernel.variable.shape)
                done.append(_put(found, kernel, gradient))
            return self._to_input(x, crossed, dz, self.product.kernel.value(), done)

        return self.norm(z), back

    def _to_input(
        self, x: tf.Tensor, crossed: bool, dy: tf.Tensor, kernel: tf.Tensor, done: list
    ) -> list[Optional[tf.Tensor]]:
        if not crossed:
            return [None]
        dx = self.product.to_input(shape_like(x, dy), kernel, dy)
        # Both gradients side by side, but none of the next layer's before: with one processor for
        # each they take half the time, and what they read is soon freed.
        return [after(done, dx)]

    def _rectify(self, y: tf.Tensor) -> tf.Tensor:
        if not self.rectified:
            return y
        return tf.nn.relu(y) if self.cap is None else tf.nn.relu6(y)

    def _scale(self) -> tf.Tensor:
        return self.norm.gamma * self._inverse()

    def _inverse(self) -> tf.Tensor:
        return tf.math.rsqrt(self.norm.moving_variance + self.norm.epsilon)

    def _scaled_kernel(self, ready: tf.Tensor) -> tf.Tensor:
        """The kernel with the batch norm's scale in it, made once ``ready`` is there."""
        kernel = self.product.kernel.value()
        if self.norm is None:
            return kernel
        return self.product.scaled(after(ready, kernel), self._scale())

    def _with_bias(self, y: tf.Tensor) -> tf.Tensor:
        return y if self.bias is None else tf.nn.bias_add(y, self.bias)

    def _folded(self, x: tf.Tensor) -> tf.Tensor:
        if self.norm is None:
            return self._with_bias(self.product.forward(x, self._scaled_kernel(x)))
        mean = self.norm.moving_mean if self.bias is None else self.norm.moving_mean - self.bias
        scale = self._scale()
        shift = self.norm.beta - mean * scale
        if self.product.padded and self.product.by_channel:
            # TensorFlow 2.15 would fuse the shift into the convolution, and abort: its fused
            # depthwise convolution does not know explicit padding. The factor keeps them apart.
            return self.product.forward(x, self.product.kernel) * scale + shift
        return tf.nn.bias_add(self.product.forward(x, self._scaled_kernel(x)), shift)

    def _to_offsets(self, dy: tf.Tensor, leaves: Leaves, found: Gradients) -> list[tf.Tensor]:
        done = []
        beta = None if self.norm is None else leaves.find(self.norm.beta)
        for leaf, scaled in ((beta, False), (leaves.find(self.bias), self.norm is not None)):
            if leaf is not None:
                total = _channel_sums(leaf.take(dy))
                total = total * leaf.take(self._scale()) if scaled else total
                done.append(_put(found, leaf, total))
        return done

    def _to_gamma(self, leaf: Leaf, kept: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        mean, inverse = leaf.take(self.norm.moving_mean), leaf.take(self._inverse())
        # The mean goes off before the sum: after it, two large numbers would be subtracted.
        centred = after(dy, kept) - mean
        return _channel_sums(centred * leaf.take(dy)) * inverse


def _channel_sums(tensor: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.BiasAddGrad(out_backprop=tensor)


def _put(found: Gradients, leaf: Leaf, gradient: tf.Tensor) -> tf.Tensor:
    found[leaf.variable.ref()] = gradient
    return gradient
