"""Any functional model as a flat one, of kinds of layers that the other rooms know.

flatten.py     nested models opened, each layer called once
translate.py   what takes the place of a layer: separable and grouped convolutions...
classifier.py  a model's own classifier, taken off or kept
"""
