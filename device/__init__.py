"""What goes on the board: training and scoring a bundle, without TensorFlow.

    retrain.py   python -m device.retrain BUNDLE.tflite --images FOLDER --epochs 5
    options.py   its flags
    bundle.py    a bundle: what it says of itself, and its signatures as Python functions
    training.py  epochs, evaluation, going on where it was interrupted
    batches.py   order, augmentation and dropout of an epoch's images
    scores.py    b1 of every layer on the board's own pictures
    pictures.py  class folders: listed, decoded once, kept in a file
    resize.py    bilinear, as TensorFlow does it
    augment.py   flips and rotations
    rewrite.py   a bundle with other variables in it
    files.py     files that appear whole or not at all, sealed by their SHA-256
    problem.py   what ends it in one line

``--export litert_training`` makes bundles. This folder needs numpy, Pillow and ai-edge-litert
(``requirements.txt``) and nothing else of this repository, so that it can be copied alone.
"""
