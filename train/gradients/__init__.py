"""How the gradients of the trained variables are computed.

loss_gradients.py  what a training step asks for: loss, logits and gradients
leaves.py          what gradients are taken of: trained variables, or their trained slices
merged.py          layers computed from variables of which a slice is trained
stock.py           the gradients by TensorFlow's own tape
lean/              the same by our own, which saves next to nothing for frozen layers
"""
