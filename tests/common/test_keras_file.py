"""What a user's keras.json says changes no network and stops no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from common.machine import PROJECT

_OTHER = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.5}
_NETWORK = """
from models.network import build_network
from models.registry import BACKBONES
import tensorflow as tf
model = build_network(BACKBONES["digitnet"], 5, 32, "digits").model
assert model.get_layer("block3_relu").output.shape == (None, 8, 8, 64)
assert {weight.dtype for weight in model.weights} == {tf.float32}
assert model.output.dtype == "float32"
assert model.get_layer("stem_conv").data_format == "channels_last"
assert tf.keras.backend.epsilon() == 1e-7
"""
_LOADED = "from common.environment import load_tensorflow; load_tensorflow()\n"


@pytest.mark.parametrize(
    ("variable", "content", "code"),
    [
        ("KERAS_HOME", _OTHER, _NETWORK),  # as by a part of this project, and no command of it
        ("HOME", _OTHER, _LOADED + _NETWORK),
        # Of these Keras itself makes a traceback.
        ("KERAS_HOME", {"floatx": "bfloat16"}, _LOADED + _NETWORK),
    ],
    ids=["imported", "loaded", "wrong"],
)
@pytest.mark.slow
def test_another_keras_file_builds_the_same_network(tmp_path, variable, content, code):
    folder = tmp_path if variable == "KERAS_HOME" else tmp_path / ".keras"
    folder.mkdir(exist_ok=True)
    file = folder / "keras.json"
    file.write_text(json.dumps(content))
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_HOME"}
    environment[variable] = str(tmp_path)
    code += f"import os; assert os.environ[{variable!r}] == {str(tmp_path)!r}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(file.read_text()) == content
