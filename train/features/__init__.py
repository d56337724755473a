"""What comes out of the frozen front of a network, kept on disk so that it is computed once.

Where everything before the first trained layer is frozen, what it makes of an image depends on the
image and its augmentation alone. Where there are few of those (no rotation, or so many fixed draws
an image), each is computed the first time that training or evaluation asks for it, and read from
then on: in later epochs, and by every run with the same images, weights and front.
"""
