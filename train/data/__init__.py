"""Data sets, decoded images, batches.

datasets.py       a data set by its name
digits.py         scikit-learn's digits
class_folders.py  a folder of class folders
tfds_builder.py   a TFDS set found, checked and prepared
tfds_source.py    its splits decoded
image_store.py    images at rest, in memory or in a file
batches.py        the batches of an epoch, of evaluation, of the selection
augment.py        flips and rotations
"""
