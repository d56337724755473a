"""How pictures lie in files: one module a layout, each of which yields the files of a split.

recognise.py      which layout is at hand
split_folders.py  ROOT/SPLIT/CLASS
one_folder.py     ROOT/CLASS, of which a share is held out
table.py          a CSV file of path and label
cub.py            CUB-200-2011 as it unpacks
unlabelled.py     pictures without labels, to select by
listing.py        what they yield
folders.py        what lies in a folder
"""
