"""Convolutions and dense layers, together with the batch norm and the ReLU behind them.

Batch norm by fixed statistics is a scale and a shift per channel, which go into the kernel and the
offset: forward and backward, the activations are touched once, and nothing is saved for it. ReLU
saves one bit per element. The layer's input is saved only where its kernel is trained (by factors:
a few channels that are computed from it), its output only where gamma is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization, scale_of, shift_of
from train.gradients.lean.masks import Mask, MaxPoolMask, PackedMask, SavedOutputMask, relu_mask
from train.gradients.lean.norm import add, channel_sums, gamma_gradient
from train.gradients.lean.order import after
from train.gradients.lean.products import Product, shape_like
from train.gradients.lean.vjp import OutputAndVjp, WeightGradients
from train.gradients.leaves import Leaf, Leaves


class Linear:
    """``pool(relu(norm(product(x) + bias)))``; all but the product may be missing.

    x is ``[batch, height, width, in]``, or ``[batch, ..., in]`` for a dense product, float32; the
    output has the same axes and as many channels as the kernel has.

    Args:
        norm: batch norm by fixed statistics.
        rectified: whether there is a ReLU.
        cap: its largest value; None for no limit.
        pooling: max pooling by windows behind the ReLU.
        leaves: what is trained of the network.
    """

    def __init__(
        self,
        product: Product,
        bias: Optional[tf.Variable] = None,
        norm: Optional[FixedBatchNormalization] = None,
        rectified: bool = False,
        cap: Optional[float] = None,
        pooling: Optional[tf.keras.layers.MaxPooling2D] = None,
        *,
        leaves: Leaves,
    ) -> None:
        self.product = product
        self.bias = bias
        self.norm = norm
        self.rectified = rectified
        self.cap = cap
        self.pooling = pooling
        self._kernel_leaf = leaves.find(product.kernel)
        self._bias_leaf = leaves.find(bias)
        self._gamma_leaf = None if norm is None else leaves.find(norm.gamma)
        self._beta_leaf = None if norm is None else leaves.find(norm.beta)

    @property
    def saves_input(self) -> bool:
        """Whether the whole input is saved, because the gradient of the kernel reads it."""
        kernel = self._kernel_leaf
        if kernel is None or kernel.factors is not None:
            return False
        return not (kernel.is_slice and self.product.depthwise)

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """The output, nothing saved."""
        y = self._rectify(self._folded(x))
        return y if self.pooling is None else self.pooling(y)

    def with_vjp(
        self, x: tf.Tensor, needs_input_grad: bool, *, output_is_saved: bool = False
    ) -> OutputAndVjp:
        """The output and the way back.

        Args:
            output_is_saved: whether somebody saves the whole output anyway.
        """
        norm, gamma = self.norm, self._gamma_leaf
        if norm is None or gamma is None or gamma.is_slice:
            y, vjp = self._folded_with_vjp(x, needs_input_grad)
        else:
            y, vjp = self._apart_with_vjp(x, needs_input_grad, norm, gamma)
        if not self.rectified:
            return y, vjp
        y, mask = self._rectified_with_mask(y, output_is_saved)
        return after(mask.saved, y), lambda dy, gradients: vjp(mask.apply(dy), gradients)

    def _rectified_with_mask(self, y: tf.Tensor, output_is_saved: bool) -> tuple[tf.Tensor, Mask]:
        """What ReLU and the pooling make of y, and what their gradient takes."""
        y = self._rectify(y)
        if self.pooling is not None:
            # The maximum of a ReLU is the ReLU of the maximum: its bits are needed there only.
            pooled = self.pooling(y)
            relu = relu_mask(pooled, self.cap)
            return pooled, MaxPoolMask(y, pooled, self.pooling.pool_size[0], relu)
        if output_is_saved:
            return y, SavedOutputMask(y, self.cap)
        return y, PackedMask(relu_mask(y, self.cap))

    def _folded_with_vjp(self, x: tf.Tensor, needs_input_grad: bool) -> OutputAndVjp:
        """The batch norm in the kernel. Its own input is there only if gamma's slice needs it."""
        norm, gamma, kernel = self.norm, self._gamma_leaf, self._kernel_leaf
        x_saved, z = self._saved_for_kernel(x), None
        made = [] if x_saved is x else [x_saved]
        if norm is None or gamma is None:
            y = self._folded(x)
        else:
            y = self._with_bias(self.product.forward(x, self.product.kernel))
            z = gamma.take(y)
            made.append(z)
            y = norm(after(z, y))

        def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
            done = self._add_offset_gradients(dy, gradients)
            if norm is not None and gamma is not None:
                done.append(add(gradients, gamma, gamma_gradient(norm, gamma, z, dy)))
            if kernel is not None:
                gradient = self._kernel_gradient(kernel, x_saved, dy)
                if norm is not None:
                    gradient = self.product.scaled(gradient, kernel.take(scale_of(norm)))
                done.append(add(gradients, kernel, gradient))
            return self._input_gradient(x, needs_input_grad, dy, self._scaled_kernel(dy), done)

        return after(made, y), vjp

    def _apart_with_vjp(
        self,
        x: tf.Tensor,
        needs_input_grad: bool,
        norm: FixedBatchNormalization,
        gamma: Leaf,
    ) -> OutputAndVjp:
        """The batch norm as an operation of its own, whose input is saved for gamma."""
        x_saved = self._saved_for_kernel(x)
        z = self._with_bias(self.product.forward(x, self.product.kernel))
        z = z if x_saved is x else after(x_saved, z)

        def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
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
            done = [add(gradients, gamma, d_gamma)]
            beta, bias, kernel = self._beta_leaf, self._bias_leaf, self._kernel_leaf
            if beta is not None:
                done.append(add(gradients, beta, beta.take(d_beta)))
            if bias is not None:
                done.append(add(gradients, bias, channel_sums(bias.take(dz))))
            if kernel is not None:
                gradient = self._kernel_gradient(kernel, x_saved, dz)
                done.append(add(gradients, kernel, gradient))
            return self._input_gradient(x, needs_input_grad, dz, self.product.kernel.value(), done)

        return norm(z), vjp

    def _saved_for_kernel(self, x: tf.Tensor) -> tf.Tensor:
        """What the gradient of the kernel reads; x where nothing is computed for it."""
        kernel = self._kernel_leaf
        if kernel is not None and kernel.factors is not None:
            return self.product.forward(x, kernel.factors.first)
        return x if self.saves_input or kernel is None else kernel.take(x)

    def _kernel_gradient(self, kernel: Leaf, saved: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        if kernel.factors is not None:
            return kernel.factors.gradient(saved, dy)
        return self.product.kernel_grad(saved, kernel.take(dy), kernel.variable.shape)

    def _input_gradient(
        self, x: tf.Tensor, needs_input_grad: bool, dy: tf.Tensor, kernel: tf.Tensor, done: list
    ) -> Sequence[Optional[tf.Tensor]]:
        """``done`` are the gradients of the variables, which are computed first."""
        if not needs_input_grad:
            return [None]
        dx = self.product.input_grad(shape_like(x, dy), kernel, dy)
        # Both gradients side by side, but none of the next layer's before: with one processor for
        # each they take half the time, and what they read is soon freed.
        return [after(done, dx)]

    def _rectify(self, y: tf.Tensor) -> tf.Tensor:
        if not self.rectified:
            return y
        return tf.nn.relu(y) if self.cap is None else tf.nn.relu6(y)

    def _scaled_kernel(self, ready: tf.Tensor) -> tf.Tensor:
        """The kernel with the batch norm's scale in it, made once ``ready`` is there."""
        kernel = self.product.kernel.value()
        if self.norm is None:
            return kernel
        return self.product.scaled(after(ready, kernel), scale_of(self.norm))

    def _with_bias(self, y: tf.Tensor) -> tf.Tensor:
        return y if self.bias is None else tf.nn.bias_add(y, self.bias)

    def _folded(self, x: tf.Tensor) -> tf.Tensor:
        """``norm(product(x) + bias)``, the batch norm in the kernel and one offset."""
        if self.norm is None:
            return self._with_bias(self.product.forward(x, self._scaled_kernel(x)))
        mean = None if self.bias is None else self.norm.moving_mean - self.bias
        shift = shift_of(self.norm, mean)
        if self.product.explicit_padding and self.product.depthwise:
            # TensorFlow 2.15 would fuse the shift into the convolution, and abort: its fused
            # depthwise convolution does not know explicit padding. The factor keeps them apart.
            return self.product.forward(x, self.product.kernel) * scale_of(self.norm) + shift
        return tf.nn.bias_add(self.product.forward(x, self._scaled_kernel(x)), shift)

    def _add_offset_gradients(self, dy: tf.Tensor, gradients: WeightGradients) -> list[tf.Tensor]:
        """Those of beta and the bias, where they are trained."""
        done = []
        beta, bias = self._beta_leaf, self._bias_leaf
        if beta is not None:
            done.append(add(gradients, beta, channel_sums(beta.take(dy))))
        if bias is not None:
            total = channel_sums(bias.take(dy))
            if self.norm is not None:
                total = total * bias.take(scale_of(self.norm))
            done.append(add(gradients, bias, total))
        return done
