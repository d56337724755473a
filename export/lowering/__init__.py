"""A TensorFlow graph made anew of operations that LiteRT has built in.

    graph.py         goes through a traced function, operation by operation
    rules.py         TensorFlow's operations that have no counterpart there -> what stands for them
    windows.py       what a sliding window reads, and the way back
    convolutions.py  gradients of convolutions
    pooling.py       gradients of pooling, and max pooling that says where its maxima were
    normalization.py batch norm's gradient, and batch norm by the batch's own statistics
    elements.py      derivatives element by element, the error function
    bits.py          masks of one bit per element
    shapes.py        tensors of more axes than LiteRT's kernels take
    others.py        the loss; rows that are written over

A rule gets the operation (for its attributes and static shapes) and its inputs in the new graph,
and returns what stands for its outputs: the same numbers up to rounding, for any input. So the
training step that is exported is the trainer's own, traced; nothing of it is written twice.
"""
