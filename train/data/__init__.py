"""Data sets, decoded images, batches.

datasets.py        a data set by its name
digits.py          scikit-learn's digits
file_source.py     pictures in files, read and decoded
layouts/           the ways in which they lie
held_out.py        a share of them to test on
image_kinds.py     kinds of image files
image_files.py     image files decoded
other_images.py    WebP, BMP and TIFF
jpeg.py            how a camera was held, and the end of the file
tfds_builder.py    a TFDS set found, checked and prepared
tfds_source.py     its splits decoded
image_store.py     images at rest, in memory or in a file
image_cache.py     images decoded once for all runs
batches.py         the batches of an epoch, of evaluation, of the selection
augment.py         flips and rotations
"""
