"""``--export litert_training``: one ``.tflite`` that trains itself, without TensorFlow.

bundle.py      the file: its signatures, what it says of itself
signatures.py  infer, train, get, set, distances, scores
dropout.py     dropout by masks that are given
places.py      where in the file its variables stand
check.py       its step beside the trainer's
scores.py      distances between activations, and b1 in closed form
"""
