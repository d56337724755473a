"""A kernel trained by factors: W + A B, of which A is drawn once and B, zero at first, is trained.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), with A frozen
as in LoRA-FA (Zhang et al., arXiv 2308.03303). For a convolution A is one of its strides, padding
and dilation to a few channels, and B a product at each position:

    conv(x; W) + conv(x; A) B = conv(x; W + A B)
    dB = sum over images and positions of conv(x; A)^T dy

The gradient takes as many channels of the output's size as the rank is, in place of x. The kernel
of the network holds W + A B, so that whoever reads it need not know of this.
"""

from __future__ import annotations

import math

import tensorflow as tf

from models.trained import Trained


class Factors:
    """Those of one kernel ``[..., in, out]``, float32.

    Attributes:
        first: A ``[..., in, rank]``.
        second: B ``[rank, out]``.
    """

    def __init__(self, trained: Trained, seed: int) -> None:
        """A is normal, of variance 1 / (elements of x that one of what A makes is a sum over).

        It is a function of ``seed`` and of where the kernel is in the network, and so need not be
        kept in a checkpoint.
        """
        assert trained.factors is not None, "it is trained by factors"
        layer, self._kernel = trained.layer, trained.variable
        places = [variable is self._kernel for variable in layer.variables]
        first, second = trained.factors
        # Two kernels of a layer (attention's) are apart; no layer has as many variables.
        place = layer.index * 1024 + places.index(True)
        drawn = tf.random.stateless_normal(first, [seed, place], alg="philox")
        self.first = tf.Variable(drawn / math.sqrt(math.prod(first[:-1])), trainable=False)
        name = self._kernel.name.split(":")[0]
        self.second = tf.Variable(tf.zeros(second), name=f"{name}_factor")
        self._written = tf.Variable(tf.zeros(second), trainable=False)

    def merged(self) -> tf.Tensor:
        """W + A B; a gradient through it goes to B alone."""
        return tf.stop_gradient(self._kernel) + self._not_written()

    def gradient(self, read: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        """B's ``[rank, out]``, from what A makes of x ``[..., rank]`` and ``dy`` ``[..., out]``."""
        rows = (tf.reshape(one, [-1, one.shape[-1]]) for one in (read, dy))
        return tf.matmul(*rows, transpose_a=True)

    def write_back(self) -> tf.Operation:
        """Add to the kernel what B has become since the last time."""
        added = self._kernel.assign_add(self._not_written(), read_value=False)
        with tf.control_dependencies([added]):
            return self._written.assign(self.second.read_value(), read_value=False)

    def restore(self, second: tf.Tensor) -> None:
        """B is ``second``, which is in the kernel already."""
        self.second.assign(second)
        self._written.assign(second)

    def _not_written(self) -> tf.Tensor:
        rank, _ = self.second.shape
        change = self.second - self._written
        return tf.reshape(tf.matmul(tf.reshape(self.first, [-1, rank]), change), self._kernel.shape)
