"""What is done to raw pixels before a network sees them."""

from __future__ import annotations

from common.flag_value import FlagValue


class Preprocessing(FlagValue):
    """Of RGB pixels in [0, 255], in the words of ``keras.applications.imagenet_utils``."""

    NONE = "none"  # the network takes them as they are
    TF = "tf"  # to [-1, 1]
    CAFFE = "caffe"  # BGR, ImageNet's mean subtracted
    TORCH = "torch"  # to [0, 1], then by ImageNet's mean and deviation of each channel
    ZERO_TO_ONE = "0-1"
