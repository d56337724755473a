"""``--export litert_training``: one ``.tflite`` that trains itself, without TensorFlow.

    bundle.py      the file: its signatures, what it says of itself
    signatures.py  infer, train, accumulate, apply, get, set, distances, scores
    dropout.py     dropout by masks that are given
    scores.py      distances between activations, and b1 in closed form
    lowering/      the trainer's own step, made of operations that LiteRT has built in
"""
