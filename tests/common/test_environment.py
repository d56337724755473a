"""The environment for TensorFlow: what is set and refused, and what its start prints."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from common import environment
from common.environment import prepare_tensorflow
from common.errors import UserError
from common.machine import PROJECT

NAMES = (
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_CPU_ALLOCATOR_USE_BFC",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_USE_LEGACY_KERAS",
)


@pytest.fixture
def bare(monkeypatch):
    """None of the variables is set, and every version of TensorFlow can be pretended."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is restored, even where it was not set
        monkeypatch.delenv(name)

    def pretend(version):
        monkeypatch.setattr(environment, "_version", lambda: version)

    return pretend


@pytest.mark.parametrize(("version", "legacy"), [((2, 15), None), ((2, 21), "1"), (None, None)])
def test_keras_2_is_asked_for_where_it_is_a_package_of_its_own(bare, version, legacy):
    bare(version)
    prepare_tensorflow()
    assert os.environ.get("TF_USE_LEGACY_KERAS") == legacy
    assert os.environ["TF_CPU_ALLOCATOR_USE_BFC"] == "1"


def test_what_the_user_has_set_stays(bare, monkeypatch):
    bare((2, 21))
    for name in NAMES:
        monkeypatch.setenv(name, "0")
    prepare_tensorflow()
    assert [os.environ[name] for name in NAMES] == ["0"] * 4


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_onednn_is_asked_for_on_x86(bare, machine, monkeypatch):
    bare((2, 15))
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    prepare_tensorflow()
    assert ("TF_ENABLE_ONEDNN_OPTS" in os.environ) == (machine == "x86_64")


@pytest.mark.parametrize(
    ("version", "legacy", "message"),
    [
        (None, None, "TensorFlow is not installed"),
        ((2, 15), "1", "TF_USE_LEGACY_KERAS=1 is set, which TensorFlow 2.15 fails with"),
        ((2, 21), "0", "TF_USE_LEGACY_KERAS=0 is set, but TensorFlow 2.21 needs it to be 1"),
        ((2, 21), None, "TensorFlow 2.21 needs tf-keras beside it"),
    ],
)
def test_what_would_not_be_keras_2_is_refused(bare, version, legacy, message, monkeypatch):
    bare(version)
    if legacy is not None:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", legacy)
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda _: None)
    prepare_tensorflow()
    with pytest.raises(UserError, match=message):
        environment._check_keras()


def test_a_wrong_environment_is_one_line(tmp_path):
    wrong = "0" if environment.keras_2_is_apart() else "1"
    done = subprocess.run(
        [sys.executable, "main.py", "--model_name", "digitnet", "--output_dir", str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "TF_USE_LEGACY_KERAS": wrong},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"main.py: error: TF_USE_LEGACY_KERAS={wrong} is set")
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_tensorflow_starts_without_a_word():
    code = "from common.environment import load_tensorflow; load_tensorflow().zeros(1)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "" and done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="TensorFlow's notices come on Linux")
def test_all_but_the_notices_is_printed_even_if_the_process_is_killed():
    code = (
        "import os\n"
        "from common import environment\n"
        "environment.keras_2_is_apart = lambda: True\n"
        "with environment._without_notices():\n"
        "    os.write(2, b'1 Could not find cuda drivers on your machine, GPU will not be used.')\n"
        "    os.write(2, b'\\nthe reason\\n')\n"
        "    os.abort()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode < 0
    assert done.stderr == "the reason\n"
