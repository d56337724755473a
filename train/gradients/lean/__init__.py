"""The lean training step: a backward pass that saves what its gradients take, and no more.

    gradients.py    the forward and the backward pass, unit by unit
    units.py        what a unit is: layers that are computed in one piece
    linear.py       a convolution or dense layer with the batch norm, ReLU and pooling behind it
    norm.py         batch norm by fixed statistics
    products.py     convolutions and dense products with their two gradients
    layer_rules.py  every other kind of layer, one rule each
    attention.py    self-attention
    masks.py        which elements a gradient passes at ReLU and max pooling, in bits
    order.py        what is computed first, where the data alone does not say it
    vjp.py          the types

Everything is differentiated by one protocol, that of ``jax.vjp``: a function ``..._with_vjp``
computes an output y and returns it with its vector-Jacobian product, the way back to the inputs:

    y, vjp = linear.with_vjp(x, needs_input_grad)
    (dx,) = vjp(dy, gradients)

- ``needs_input_grad``: whether the gradient with respect to x is needed, one boolean an input, as
  in ``torch.autograd.Function``. It is False before the first trained layer.
- ``dy``: the gradient of the loss with respect to y, of y's shape ``[batch, ...]``, float32.
- ``dx``: that with respect to x, of x's shape; one for each input, in their order. Where it is not
  needed, it is None or of no meaning.
- ``gradients``: a dictionary that the vjp adds those of the trained variables to, ``ref()`` of a
  leaf's variable (``train/gradients/leaves.py``) -> its gradient, of the variable's shape. No
  variable belongs to two units, so none is there before.

What the operations of the vjp read of the forward pass is what is saved for the backward pass.
"""
