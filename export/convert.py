"""TensorFlow's converter to ``.tflite``, and what it refuses, in one line."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import tensorflow as tf

from common.errors import UserError
from common.standard_streams import without_native_stderr
from common.wording import listed

_REFUSED = re.compile(r"'(?:tf|tfl)\.(\w+)' op (?:is neither a custom op nor a flex op|failed)")


def converted(
    module: tf.Module,
    signatures: Mapping[str, Any],
    what: str,
    configure: Optional[Callable[[Any], None]] = None,
) -> bytes:
    """A ``.tflite`` with ``signatures`` (concrete functions), of builtin operations alone.

    Args:
        module: holds every variable that they read or assign.
        what: such as ``--export tflite``, for messages.
        configure: sets further options of the converter.

    Raises:
        UserError: an operation has no counterpart in LiteRT; the message names it.
    """
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(signatures))
        return converted_saved_model(Path(folder), list(signatures), what, configure)


def converted_saved_model(
    folder: Path, names: list[str], what: str, configure: Optional[Callable[[Any], None]] = None
) -> bytes:
    """The same of a SavedModel's signatures with these ``names``."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=names)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.experimental_enable_resource_variables = True
    if configure is not None:
        configure(converter)
    try:
        with without_native_stderr():  # it has much to say there
            return converter.convert()
    except Exception as error:
        # Its own kind of exception is in a module that is not public, and moves between releases.
        refused = sorted(set(_REFUSED.findall(str(error))))
        if not refused:
            raise
        raise UserError(
            f"{what}: this network needs {listed(refused)}, for which LiteRT has no operation of "
            "its own; choose layers behind it, or export saved_model"
        ) from error
