"""What was taken out of a network, written down so that it can be taken out of its like again."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.pruning.channel_groups import channel_map
from models.pruning.empty_paths import path_at, place_of
from models.pruning.shrink import Pruning


def to_record(model: tf.keras.Model, pruning: Pruning) -> dict:
    """``pruning`` of ``model`` as plain JSON types."""
    paths = []
    for path in pruning.paths:
        place, ending_at = place_of(model, path)
        # As float64, which JSON gives back bit by bit.
        constant = path.constant.astype(np.float64).tolist()
        paths.append({"place": place, "ending_at": ending_at, "constant": constant})
    return {"paths": paths, "staying": [stay.tolist() for stay in pruning.staying]}


def from_record(model: tf.keras.Model, record: dict) -> Pruning:
    """The same pruning, of a model that is built like the one that :func:`to_record` was given.

    Weights are not looked at.
    """
    paths = tuple(
        path_at(model, path["place"], path["ending_at"], np.asarray(path["constant"], np.float32))
        for path in record["paths"]
    )
    staying = tuple(np.asarray(stay, np.int64) for stay in record["staying"])
    return Pruning(paths, channel_map(model, paths), staying)
