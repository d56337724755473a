"""A bundle: one ``.tflite`` that infers, trains, scores its layers, and says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from common.errors import UserError
from export.attached import attach
from export.convert import converted
from export.subject import Subject
from export.training.places import Places
from export.training.signatures import BundleSizes, Signatures
from models.trained import Trained
from train.config.paper_constants import MOMENTUM, selection_batch_size
from train.data.batches import augmentation_of
from train.gradients.leaves import Leaf

FORMAT = 1  # raise it when device/ cannot read what is written here any more
WHAT = "--export litert_training"
_PAIR = 4  # images that distances are taken of at a time: of large maps, little memory


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        signatures: the functions that it was made of.
        description: what ``bundle.json`` inside it says.
    """

    signatures: Signatures
    description: dict


def bundle_sizes(subject: Subject) -> BundleSizes:
    """Images of a training step: ``--export_batch``, else those that the run computed at a time."""
    config = subject.config
    step = config.export_batch or config.micro_batch or config.batch_size
    pooled = selection_batch_size(config.batch_size) * config.selection_batches
    return BundleSizes(step, pooled, _PAIR)


def write_bundle(subject: Subject, path: Path) -> Bundle:
    """Make the bundle of ``subject`` as ``path``.

    Raises:
        UserError: nothing is trained, or something by factors, or an operation has no counterpart
            in LiteRT.
    """
    if not subject.trained:
        raise UserError(
            f"{WHAT}: nothing of this network is trained; select layers, or export tflite"
        )
    if any(one.factor_rank is not None for one in subject.trained):
        raise UserError(
            f"{WHAT}: such a file cannot train the factors of this run (selection.json's "
            "factor_rank); export tflite, which has them in its kernels"
        )
    sizes = bundle_sizes(subject)
    signatures = Signatures(subject.network, subject.trained, sizes, subject.config.weight_decay)
    module = tf.Module()
    module.state = signatures.state
    leaves = signatures.leaves.in_order
    sliced = [leaf.trained.variable for leaf in leaves if leaf.is_slice]
    places = Places([*signatures.leaves.variables, *sliced])
    functions = signatures.functions()
    with places.marked():
        content = bytearray(converted(module, functions, WHAT))
    found = places.put_back(content)
    path.write_bytes(content)
    variables = _variables(leaves, found)
    description = _description(subject, signatures, sizes, variables)
    attach(path, subject.class_names, bundle=description)
    return Bundle(signatures, description)


def _description(
    subject: Subject, signatures: Signatures, sizes: BundleSizes, variables: list[dict]
) -> dict:
    config, data = subject.config, subject.data
    augmentation = augmentation_of(config, data)
    trained = {one.layer.index for one in subject.trained}
    return {
        "format": FORMAT,
        "model": config.model_name,
        "dataset": data.name,
        "classes": list(data.class_names),
        "input_size": config.input_size,
        "step_images": sizes.step,
        "pooled_images": sizes.pooled,
        "pair_images": sizes.pair,
        "training": {
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "momentum": MOMENTUM,
            "batch_size": config.batch_size,
            "flip": augmentation.flip,
            "rotation": augmentation.rotation,
        },
        "variables": variables,
        "dropout": [
            {"input": one.name, "shape": list(one.shape), "rate": one.rate}
            for one in signatures.dropout
        ],
        "layers": [
            {
                "index": layer.index,
                "name": layer.name,
                "type": layer.type,
                "activation_size": layer.activation_size,
                "params": layer.params,
                "trained": layer.index in trained,
            }
            for layer in subject.network.layers
        ],
    }


def _variables(leaves: Sequence[Leaf], places: Sequence[int]) -> list[dict]:
    """What each of ``value_N`` is, and where in the file it stands.

    Args:
        places: of the leaves' variables, then of the whole ones of those that are slices.
    """
    of_whole = iter(places[len(leaves) :])
    return [
        {
            "layer": leaf.trained.layer.index,
            "name": leaf.trained.variable.name.split("/")[-1].split(":")[0],
            "shape": list(leaf.variable.shape),
            "channels": None if leaf.trained.channels is None else list(leaf.trained.channels),
            "at": place,
            "whole": _whole(leaf.trained, next(of_whole)) if leaf.is_slice else None,
        }
        for leaf, place in zip(leaves, places)
    ]


def _whole(trained: Trained, place: int) -> dict:
    return {"at": place, "shape": list(trained.variable.shape), "axis": trained.axis}
