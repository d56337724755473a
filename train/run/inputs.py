"""What a run was given, in digests: two runs with the same ones had the same data and weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np

from common.files import write_text
from models.network import Network
from train.data.datasets import DataBundle
from train.data.image_store import FileImages, ImageSet, SomeImages, Stored

_AT_ONCE = 64  # images


def inputs_of(data: DataBundle, network: Network) -> dict:
    """For ``config.json``: ``data`` (images of both splits, classes, digest), ``weights``, and
    ``class_names`` by label, which is empty without labels.

    Digests are BLAKE2b, 32 hexadecimal digits: of the decoded images and labels of both splits and
    the names of the classes; of the network's weights as loaded, the head (which is new) excepted.
    """
    return {
        "data": {
            "train_images": len(data.train),
            "test_images": 0 if data.test is None else len(data.test),
            **({} if data.validation is None else {"validation_images": len(data.validation)}),
            "classes": data.num_classes,
            "digest": combined([*data.class_names, *map(_digest_of, _splits(data))]),
        },
        "weights": weights_digest(network),
        "class_names": list(data.class_names),
    }


def weight_digests(network: Network) -> list[str]:
    """Of each weight of ``network`` in Keras' order, the head's too."""
    return [
        hashlib.blake2b(np.ascontiguousarray(weight.numpy()).data, digest_size=16).hexdigest()
        for weight in network.model.weights
    ]


def weights_digest(network: Network) -> str:
    """Of every weight of ``network`` in Keras' order, the head's excepted."""
    head = {variable.ref() for variable in network.head.variables}
    digest = hashlib.blake2b(digest_size=16)
    for weight in network.model.weights:
        if weight.ref() not in head:
            digest.update(np.ascontiguousarray(weight.numpy()).data)
    return digest.hexdigest()


def _splits(data: DataBundle) -> Iterator[ImageSet]:
    yield data.train
    if data.test is not None:
        yield data.test
    if data.validation is not None:
        yield data.validation


def _digest_of(images: ImageSet) -> str:
    """Of the pixels and labels; those of a file are kept beside it, for the runs to come."""
    labels = hashlib.blake2b(images.labels.data, digest_size=16).hexdigest()
    return combined([labels, _digest_of_stored(images.images)])


def _digest_of_stored(images: Stored) -> str:
    """Of the pixels; where they are some of others, of those and of which they are."""
    if isinstance(images, SomeImages):
        places = hashlib.blake2b(images.places.astype("<i8").data, digest_size=16).hexdigest()
        return combined([_digest_of_stored(images.others), places])
    if not isinstance(images, FileImages):
        return _digest_of_pixels(images)
    path = images.path
    status = path.stat()
    kept, stamp = path.with_suffix(".blake2b"), f"{status.st_size} {status.st_mtime_ns}"
    if kept.exists() and kept.read_text().startswith(f"{stamp} "):
        return kept.read_text().split()[-1]
    pixels = _digest_of_pixels(images)
    if os.access(path.parent, os.W_OK):  # a cache that is shared need not be
        write_text(kept, f"{stamp} {pixels}")
    return pixels


def _digest_of_pixels(images: Stored) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for first in range(0, len(images), _AT_ONCE):
        some = np.arange(first, min(first + _AT_ONCE, len(images)))
        digest.update(np.ascontiguousarray(images.take(some)).data)
    return digest.hexdigest()


def combined(texts: list[str]) -> str:
    """One digest of several texts, such as digests."""
    return hashlib.blake2b(
        "\n".join(texts).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()
