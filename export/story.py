"""``--export``: a file of a run that has ended, made, compared with its network, recorded."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Optional

import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.files import read_json, sync, write_json
from common.units import MB
from common.wording import shown
from export.compare import Agreement, ReferenceLogits, require_close
from export.keras_model import write_keras, write_saved_model
from export.lite import LiteLogits, write_tflite
from export.subject import Subject
from export.training.bundle import write_bundle
from export.training.check import check_step
from models.network import Network
from models.weights import load_h5
from selection.selection import Selection, load_selection
from train.config.export_format import ExportFormat
from train.config.run_config import RunConfig
from train.run.prepare import Setting, prepare

RECORD = "export.json"
_FEW = 64  # test images that are compared where no accuracy is asked for


def export_ended_run(
    setting: Setting, network: Network, selection: Selection, folder: Path
) -> None:
    """Of a run that has just ended, with the weights that it has kept."""
    weights = folder / "weights.h5"
    if weights.exists():  # of its best epoch, or of the run that its training was taken from
        load_h5(network.model, str(weights))
    export(Subject(setting.config, setting.data, network, selection, folder))


def export_run(config: RunConfig, folder: Path) -> None:
    """Of the run in ``folder``, whose ``config`` this is.

    Raises:
        UserError: it has kept no weights, or its data is not to be had.
    """
    weights = folder / "weights.h5"
    if not weights.is_file():
        raise UserError(
            f"--from {shown(folder)}: it has no weights.h5, which --save_weights last or best keeps"
        )
    setting, network = prepare(replace(config, weights=str(weights), selection_file=None))
    selection = load_selection(str(folder / "selection.json"), network.layers)
    export(Subject(config, setting.data, network, selection, folder))


def export(subject: Subject) -> None:
    """What ``subject.config`` asks for; says what came out, and adds it to ``export.json``.

    Raises:
        UserError: it cannot be made of this network.
        RunError: its outputs are not those of the trained network; nothing of it is left.
    """
    asked = subject.config.export
    assert asked is not None
    print(f"exporting {asked} ...", flush=True)
    for name, found in _MAKERS[asked](subject).items():
        path = subject.folder / RECORD
        record = read_json(path) if path.exists() else {}
        write_json(path, {**record, name: found})


def _made(
    subject: Subject,
    name: str,
    write: Callable[[Path], Optional[dict]],
    check: Callable[[Path], Agreement],
    exact: bool = True,
) -> dict:
    """One file or folder ``name``, kept if it is what it should be; for ``export.json``.

    Args:
        write: makes it; may return more to be recorded.
        check: compares it.
        exact: whether its outputs have to be those of the trained network.
    """
    path, temporary = subject.folder / name, subject.folder / f".writing-{name}"
    _remove(temporary)
    started = time.perf_counter()
    try:
        more = write(temporary) or {}
        seconds = time.perf_counter() - started
        found = check(temporary)
        if exact:
            require_close(found, f"--export {subject.config.export}", path)
        if temporary.is_dir():
            _remove(path)  # which no other folder can take the place of
        else:
            sync(temporary)
        os.replace(temporary, path)
    finally:
        _remove(temporary)
    size = _size(path) / MB
    print(_line(path, size, found, exact), flush=True)
    return {"mb": round(size, 3), "seconds": round(seconds, 1), **asdict(found), **more}


def _line(path: Path, size: float, found: Agreement, exact: bool) -> str:
    agreed = f"the same class in {found.same_class:.2%}"
    if exact:
        agreed = f"logits as the trained network's up to {found.difference:.1e}, {agreed}"
    return (
        f"{path}: {size:.2f} MB; on {found.images} test images {agreed}, accuracy "
        f"{found.accuracy_before:.2%} before, {found.accuracy_after:.2%} after"
    )


def _keras(subject: Subject) -> dict[str, dict]:
    def check(path: Path) -> Agreement:
        model = tf.keras.models.load_model(path, compile=False)
        return tests.agreement(lambda images: model(_floats(images), training=False).numpy())

    tests = ReferenceLogits(subject, _FEW)
    return {"model.keras": _made(subject, "model.keras", lambda p: write_keras(subject, p), check)}


def _saved_model(subject: Subject) -> dict[str, dict]:
    def check(path: Path) -> Agreement:
        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        return tests.agreement(lambda images: serve(images=_floats(images))["logits"].numpy())

    tests = ReferenceLogits(subject, _FEW)
    made = _made(subject, "saved_model", lambda path: write_saved_model(subject, path), check)
    return {"saved_model": made}


def _tflite(subject: Subject) -> dict[str, dict]:
    """Both of them, and their accuracy on all test images."""
    tests = ReferenceLogits(subject)
    made = {}
    for name, int8 in (("model.tflite", False), ("model_int8.tflite", True)):
        made[name] = _made(
            subject,
            name,
            functools.partial(write_tflite, subject, int8=int8),
            lambda path: tests.agreement(LiteLogits(path)),
            exact=not int8,
        )
    return made


def _litert_training(subject: Subject) -> dict[str, dict]:
    def write(path: Path) -> dict:
        bundle = write_bundle(subject, path)
        return check_step(subject, bundle.signatures, path)

    tests = ReferenceLogits(subject, _FEW)
    name = "training.tflite"
    found = _made(
        subject,
        name,
        write,
        lambda path: tests.agreement(LiteLogits(path)),
    )
    return {name: found}


_MAKERS: dict[ExportFormat, Callable[[Subject], dict[str, dict]]] = {
    ExportFormat.KERAS: _keras,
    ExportFormat.SAVED_MODEL: _saved_model,
    ExportFormat.TFLITE: _tflite,
    ExportFormat.LITERT_TRAINING: _litert_training,
}


def _floats(images: np.ndarray) -> tf.Tensor:
    return tf.constant(images, tf.float32)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
