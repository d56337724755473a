"""Out of here: a trained network as files that other programs, and other machines, can use.

    story.py         --export, after a run or of its folder: made, compared, written down
    subject.py       what is exported
    keras_model.py   keras, saved_model: a network of Keras' own layers
    lite.py          tflite: for inference, in float32 and with int8 weights
    convert.py       TensorFlow's converter
    attached.py      class names and descriptions inside a file
    compare.py       outputs beside those of the trained network
    lowering/        graphs made anew of operations that LiteRT has built in
    training/        litert_training: a file that trains itself

It stands on ``train``. What runs on a device is ``device/``, which stands alone.
"""
