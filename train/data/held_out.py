"""A share of the pictures held out to test on, of each class alike."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from train.data.layouts.listing import ImageFile, SplitListing


def divide(listing: SplitListing, share: float, seed: int) -> tuple[SplitListing, SplitListing]:
    """What to train on, and what to test on.

    Of each class, ``share`` of its pictures is tested on, rounded half up, but at least one and not
    all; the one of a class of a single picture is trained on. Which ones is decided by hashes of
    ``seed`` and their names: the same on every machine, and a picture that is added moves at most
    one other of its class. Files that are bad already count as those to train on.
    """
    classes: defaultdict[Optional[str], list[ImageFile]] = defaultdict(list)
    for file in listing.files:
        classes[file.class_name].append(file)
    tested = {file.name for files in classes.values() for file in _drawn(files, share, seed)}
    train = tuple(file for file in listing.files if file.name not in tested)
    test = tuple(file for file in listing.files if file.name in tested)
    with_any = {file.class_name for file in test}
    names = tuple(name for name in listing.classes if name in with_any)
    return replace(listing, files=train), SplitListing(test, (), names, Counter())


def _drawn(files: Sequence[ImageFile], share: float, seed: int) -> list[ImageFile]:
    wanted = math.floor(share * len(files) + 0.5)
    amount = min(max(wanted, 1), len(files) - 1)
    return sorted(files, key=lambda file: _chance(file.name, seed))[:amount]


def _chance(name: str, seed: int) -> bytes:
    text = f"{seed} {name}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()
