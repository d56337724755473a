"""Data sets, decoded images, batches.

datasets.py        a data set by its name
digits.py          scikit-learn's digits
class_folders.py   a folder of class folders
folder_listing.py  its files, and what is wrong with them
image_files.py     image files decoded
jpeg.py            how a camera was held, and the end of the file
tfds_builder.py    a TFDS set found, checked and prepared
tfds_source.py     its splits decoded
image_store.py     images at rest, in memory or in a file
image_cache.py     images decoded once for all runs
batches.py         the batches of an epoch, of evaluation, of the selection
augment.py         flips and rotations
"""
