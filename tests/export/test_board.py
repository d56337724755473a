"""What a board has: a fresh environment with what device/requirements.txt says, and no more.

MobileNetV2 in little memory, which takes another two minutes, if asked for:
ADABET_EVERY=1 make test ARGS="-k test_board"
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.subject import Subject
from export.training.bundle import write_bundle
from models.network import build_network
from models.registry import BACKBONES
from selection.ranking import make_selection, ranks
from tests.export.bundles import made_bundle, write_digits
from train.config.command_line import parse_args
from train.data.datasets import load_dataset

ROOT = Path(__file__).resolve().parents[2]
LIMIT_MB = 512  # of address space, beyond that of Python with what it has imported

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A folder with device/ and a Python that has its requirements alone."""
    folder = tmp_path_factory.mktemp("board")
    shutil.copytree(ROOT / "device", folder / "device")
    try:
        subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=folder, check=True, timeout=120)
        install = ["venv/bin/python", "-m", "pip", "install", "-q", "-r", "device/requirements.txt"]
        subprocess.run(install, cwd=folder, check=True, timeout=300, capture_output=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"device/requirements.txt cannot be installed here: {error}")
    return folder


def on(board: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    python = [str(board / "venv/bin/python"), *words]
    return subprocess.run(python, cwd=board, env=environment, capture_output=True, text=True)


def test_a_board_needs_no_tensorflow(board, tmp_path):
    _, path = made_bundle(tmp_path)
    write_digits(tmp_path / "digits", 60)
    assert on(board, "-c", "import tensorflow").returncode == 1
    words = ["-m", "device.retrain", str(path), "--images", str(tmp_path / "digits")]
    output = ["--output", str(tmp_path / "out")]
    done = on(board, *words, *output, "--epochs", "1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "completed" and result["images"] == 60
    done = on(board, *words, *output, "--scores")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out/scores.json").read_text())["layers"]) == 19


IN_LITTLE_MEMORY = f"""
import resource, sys
from PIL import Image
import ai_edge_litert.interpreter
from device import options, retrain
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + {LIMIT_MB} * 10**6
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(retrain.main(sys.argv[1:]))
"""


@pytest.mark.skipif("ADABET_EVERY" not in os.environ, reason="two minutes: ADABET_EVERY=1")
@pytest.mark.parametrize("xnnpack", [True, False])
def test_mobilenetv2_trains_in_little_memory(board, mobilenet, tmp_path, xnnpack):
    """At 224 pixels, an image at a time, the layers with the smallest activations."""
    write_digits(tmp_path / "digits", 8)
    images, output = str(tmp_path / "digits"), str(tmp_path / "out")
    words = [str(mobilenet), "--images", images, "--output", output]
    more = [] if xnnpack else ["--no-xnnpack"]
    done = on(board, "-c", IN_LITTLE_MEMORY, *words, "--epochs", "1", "--threads", "1", *more)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["images"] == 8
    assert result["peak_resident_mb"] - result["resident_mb_before"] < LIMIT_MB


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A bundle of MobileNetV2 with random weights."""
    folder = tmp_path_factory.mktemp("mobilenet")
    flags = "--model_name mobilenetv2 --weights none --dataset_name digits --export_batch 1"
    config = parse_args([*flags.split(), "--export", "litert_training"])
    network = build_network(BACKBONES["mobilenetv2"], 5, 224, "none")
    small = ranks([-layer.activation_size for layer in network.layers])
    chosen = [rank <= len(small) // 10 for rank in small]
    selection = make_selection(network.layers, chosen, train_type="smallest_k_training")
    data = load_dataset("digits", 224)
    path = folder / "mobilenet.tflite"
    write_bundle(Subject(config, data, network, selection, folder), path)
    return path
