"""Which of TensorFlow's operations LiteRT has no counterpart of, and what stands for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import tensorflow as tf

from export.lowering import (
    bits,
    convolutions,
    elements,
    normalization,
    others,
    pooling,
    shapes,
)

# None where nobody may read an output.
Rule = Callable[[tf.Operation, Sequence[tf.Tensor]], Sequence[Optional[tf.Tensor]]]

_RULES: Mapping[str, Rule] = {
    "Conv2DBackpropFilter": convolutions.kernel_gradient,
    "Conv2DBackpropInput": convolutions.input_gradient,
    "DepthwiseConv2dNativeBackpropFilter": convolutions.depthwise_kernel_gradient,
    "DepthwiseConv2dNativeBackpropInput": convolutions.depthwise_input_gradient,
    "MaxPoolWithArgmax": pooling.max_pool_with_argmax,
    "MaxPoolGradWithArgmax": pooling.max_pool_grad_with_argmax,
    "MaxPoolGrad": pooling.max_pool_grad,
    "AvgPoolGrad": pooling.average_pool_grad,
    "FusedBatchNormGradV3": normalization.fused_batch_norm_grad,
    "BiasAddGrad": elements.channel_sums,
    "Erf": elements.erf,
    "ReluGrad": elements.relu_grad,
    "Relu6Grad": elements.relu6_grad,
    "LeakyReluGrad": elements.leaky_relu_grad,
    "EluGrad": elements.elu_grad,
    "SoftplusGrad": elements.softplus_grad,
    "SigmoidGrad": elements.of_output(lambda y: y * (1.0 - y)),
    "TanhGrad": elements.of_output(lambda y: 1.0 - y * y),
    "RsqrtGrad": elements.of_output(lambda y: -0.5 * y * y * y),
    "SqrtGrad": elements.of_output(lambda y: 0.5 / y),
    "ReciprocalGrad": elements.of_output(lambda y: -y * y),
    "TensorScatterUpdate": others.rows_written_over,
    "SparseSoftmaxCrossEntropyWithLogits": others.cross_entropy,
    "Empty": others.any_values,
}
_OF_64_BITS: Mapping[str, Rule] = {
    "Bitcast": bits.eight_bytes,
    "Mul": bits.eight_bytes,
    "RightShift": bits.gathered,
    "Cast": bits.as_they_are,
}
_OF_BYTES: Mapping[str, Rule] = {
    "BitwiseAnd": bits.bit_by_bit(lambda one, other: one * other),
    "BitwiseOr": bits.bit_by_bit(tf.maximum),
    "Invert": bits.inverted,
}


def rule_for(op: tf.Operation) -> Optional[Rule]:
    """What stands for ``op``; None where it can be taken as it is."""
    types = {tensor.dtype for tensor in (*op.inputs, *op.outputs)}
    if tf.uint64 in types:
        return _OF_64_BITS.get(op.type)
    if tf.uint8 in types and op.type in _OF_BYTES:
        return _OF_BYTES[op.type]
    if op.type == "FusedBatchNormV3" and op.get_attr("is_training"):
        return normalization.fused_batch_norm
    if op.type == "StridedSlice":
        axes = max(tensor.shape.rank for tensor in (op.inputs[0], op.outputs[0]))
        return shapes.one_of_each if axes > shapes.MOST_SLICED else None
    if op.type == "Equal" and op.outputs[0].shape.rank > shapes.MOST_COMPARED:
        return shapes.equal
    return _RULES.get(op.type)
