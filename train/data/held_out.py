"""A share of the pictures held out, of each class alike: to test on, or to validate on."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Optional

import numpy as np

from train.data.image_store import ImageSet, SomeImages
from train.data.layouts.listing import SplitListing


def divide(listing: SplitListing, share: float, seed: int) -> tuple[SplitListing, SplitListing]:
    """What to train on, and what to test on, as :func:`held_out_places` says by the files' names.

    A picture that is added moves at most one other of its class. Files that are bad already count
    as those to train on.
    """
    names = [file.name for file in listing.files]
    places = held_out_places([file.class_name for file in listing.files], names, share, seed)
    train = tuple(file for place, file in enumerate(listing.files) if place not in places)
    test = tuple(file for place, file in enumerate(listing.files) if place in places)
    with_any = {file.class_name for file in test}
    classes = tuple(name for name in listing.classes if name in with_any)
    return replace(listing, files=train), SplitListing(test, (), classes, Counter())


def divide_images(images: ImageSet, share: float, seed: int) -> Optional[tuple[ImageSet, ImageSet]]:
    """The same of decoded images, by their places: the others, and the share of each class.

    None where no class has two of them.
    """
    names = [str(place) for place in range(len(images))]
    places = held_out_places(images.labels.tolist(), names, share, seed)
    if not places:
        return None
    held_out = np.array(sorted(places))
    return _some(images, np.setdiff1d(np.arange(len(images)), held_out)), _some(images, held_out)


def held_out_places(
    classes: Sequence[Hashable], names: Sequence[str], share: float, seed: int
) -> set[int]:
    """The places of the pictures that are held out.

    Of each class, ``share`` of its pictures, rounded half up, but at least one and not all; that of
    a class of a single picture is not. Which ones is decided by hashes of ``seed`` and their
    ``names``, each of which is there once: the same on every machine.
    """
    by_class: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, name in enumerate(classes):
        by_class[name].append(place)
    chances = [_chance(name, seed) for name in names]
    return {
        place
        for places in by_class.values()
        for place in sorted(places, key=chances.__getitem__)[: _amount(len(places), share)]
    }


def _amount(there: int, share: float) -> int:
    return min(max(math.floor(share * there + 0.5), 1), there - 1)


def _chance(name: str, seed: int) -> bytes:
    text = f"{seed} {name}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()


def _some(images: ImageSet, places: np.ndarray) -> ImageSet:
    return ImageSet(SomeImages(images.images, places), images.labels[places])
