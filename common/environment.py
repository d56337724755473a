"""What TensorFlow needs in the environment before it is imported: one list for every command.

The project is written for Keras 2. TensorFlow up to 2.15 is Keras 2; later releases bring Keras 3,
and take the package tf-keras for ``tf.keras`` where ``TF_USE_LEGACY_KERAS`` says so
(https://keras.io/getting_started, "TensorFlow + Keras 2 backwards compatibility").
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from common.errors import UserError
from common.home import prepare_matplotlib

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # quiet start-up
    # On the CPU, an allocator that keeps count, so that peak memory is measured and not guessed.
    "TF_CPU_ALLOCATOR_USE_BFC": "1",
}
# On an x86 processor without VNNI, TensorFlow leaves oneDNN off by itself. Its own convolutions
# then write the patches of the images out as a matrix, in several times the memory.
_X86_SETTINGS = {"TF_ENABLE_ONEDNN_OPTS": "1"}
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
_YES = ("1", "true", "True")  # as TensorFlow reads it

# Written while TensorFlow's libraries are loaded, when nothing heeds TF_CPP_MIN_LOG_LEVEL yet.
_NOTICES = (
    "All log messages before absl::InitializeLog() is called are written to STDERR",
    "Could not find cuda drivers on your machine, GPU will not be used.",
    "oneDNN custom operations are on. You may see slightly different numerical results",
)
# A program: lines from standard input to standard output, without those that hold an argument.
_FILTER = """
import sys
notices = [text.encode() for text in sys.argv[1:]]
for line in sys.stdin.buffer:
    if not any(text in line for text in notices):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""


def onednn_in_force() -> bool:
    """Whether TensorFlow computes by oneDNN's kernels, after :func:`prepare_tensorflow`."""
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") not in ("0", "false", "False")


def prepare_tensorflow() -> None:
    """Set what TensorFlow and Matplotlib read when they are first imported.

    What is set already stays.
    """
    settings = dict(_SETTINGS)
    if platform.machine() in ("x86_64", "AMD64"):
        settings.update(_X86_SETTINGS)
    if keras_2_is_apart():
        settings[_LEGACY_KERAS] = "1"
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    prepare_matplotlib()


def load_tensorflow() -> Any:
    """The module ``tensorflow``, imported with what :func:`prepare_tensorflow` sets.

    What ``~/.keras/keras.json`` says is not heeded (see :func:`settle_keras`).

    Raises:
        UserError: it is not installed, or its Keras would not be Keras 2.
    """
    prepare_tensorflow()
    _check_keras()
    if "tensorflow" not in sys.modules:
        with _without_notices(), _without_keras_file():
            _ = importlib.import_module("tensorflow").keras.backend  # reads the file
    settle_keras()
    return sys.modules["tensorflow"]


def settle_keras() -> None:
    """What networks are built with, whatever the user's ``keras.json`` says: as in the paper.

    With other values, Keras would build another network without a word.
    """
    backend = sys.modules["tensorflow"].keras.backend
    backend.set_image_data_format("channels_last")
    backend.set_floatx("float32")
    backend.set_epsilon(1e-7)


@contextmanager
def _without_keras_file() -> Iterator[None]:
    """Keep Keras from reading ``keras.json``, where a wrong one ends it, and from writing one.

    Without a home folder, it would make one that is called ``~``.
    """
    name = "KERAS_HOME"
    before = os.environ.get(name)
    os.environ[name] = os.devnull  # no folder: nothing lies in it, and none can be made
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def keras_2_is_apart() -> bool:
    """Whether the installed TensorFlow is 2.16 or later, and Keras 2 the package tf-keras."""
    version = _version()
    return version is not None and version >= (2, 16)


def _version() -> Optional[tuple[int, int]]:
    """TensorFlow's, such as ``(2, 15)``, without importing it; None where it is not installed."""
    for package in ("tensorflow", "tensorflow-cpu"):
        try:
            major, minor = importlib.metadata.version(package).split(".")[:2]
        except importlib.metadata.PackageNotFoundError:
            continue
        return int(major), int(minor)
    return None


def _check_keras() -> None:
    version = _version()
    if version is None:
        raise UserError("TensorFlow is not installed: pip install -r requirements.txt")
    name = "TensorFlow {}.{}".format(*version)
    legacy = os.environ.get(_LEGACY_KERAS)
    if not keras_2_is_apart():
        if legacy in _YES:
            raise UserError(f"{_LEGACY_KERAS}={legacy} is set, which {name} fails with: unset it")
    elif legacy not in _YES:
        raise UserError(f"{_LEGACY_KERAS}={legacy} is set, but {name} needs it to be 1: unset it")
    elif importlib.util.find_spec("tf_keras") is None:
        raise UserError(f"{name} needs tf-keras beside it: pip install -r requirements.txt")


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keep ``_NOTICES`` from standard error; all other lines go through.

    They go through a process of their own: if TensorFlow ends this one, as it does on a processor
    that lacks what it was compiled for, the reason is still printed.
    """
    if not _notices_come():
        yield
        return
    stderr = os.dup(2)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _FILTER, *_NOTICES],
        stdin=subprocess.PIPE,
        stdout=stderr,
        start_new_session=True,  # Ctrl-C is not for it
    )
    assert process.stdin is not None
    os.dup2(process.stdin.fileno(), 2)
    process.stdin.close()
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        process.wait()


def _notices_come() -> bool:
    """Whether TensorFlow writes them, and nobody asked for its messages."""
    if sys.platform != "linux" or sys.__stderr__ is None or not keras_2_is_apart():
        return False
    return os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0"
