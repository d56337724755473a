"""``--export``, after a run and of its folder: files that others can read, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from export import story
from export.convert import converted
from export.keras_model import write_keras
from export.lowering.graph import built_in
from main import main
from tests.export.bundles import interpreter
from tests.helpers import assert_refused

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--max_steps", "3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three steps, exported for Keras when it has ended."""
    output = tmp_path_factory.mktemp("runs")
    flags = ["--run_name", "a", "--output_dir", str(output), "--export", "keras"]
    assert main([*DIGITS, "--rho", "0.3", *flags]) == 0
    return output / "a"


def pixels(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.float32)


def record_of(run) -> dict:
    return json.loads((run / "export.json").read_text())


def test_a_run_keeps_its_weights_for_it(run):
    assert json.loads((run / "config.json").read_text())["save_weights"] == "last"
    assert (run / "weights.h5").is_file()
    assert record_of(run)["model.keras"]["difference"] < 1e-4


def test_keras_reads_it_without_this_project(run, tmp_path):
    """Another process, that has never heard of our batch norm: the same logits."""
    np.save(tmp_path / "pixels.npy", pixels())
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "model = tf.keras.models.load_model(sys.argv[1], compile=False)\n"
        "np.save(sys.argv[2] + '/logits.npy', model.predict(np.load(sys.argv[2] + '/pixels.npy')))"
    )
    words = [sys.executable, "-c", code, str(run / "model.keras"), str(tmp_path)]
    subprocess.run(words, check=True, cwd=tmp_path, capture_output=True)
    logits = np.load(tmp_path / "logits.npy")
    with zipfile.ZipFile(run / "model.keras") as archive:
        assert archive.read("labels.txt").decode().split() == list("56789")
    assert main(["--export", "saved_model", "--from", str(run)]) == 0
    serving = tf.saved_model.load(str(run / "saved_model")).signatures
    found = serving["serving_default"](images=tf.constant(pixels()))["logits"]
    np.testing.assert_allclose(found, logits, atol=1e-4)
    names = serving["class_names"]()["class_names"].numpy()
    assert [name.decode() for name in names] == list("56789")


@pytest.mark.slow
def test_tflite_in_float_and_with_int8_weights(run, capsys):
    assert main(["--export", "tflite", "--from", str(run)]) == 0
    assert "before," in capsys.readouterr().out
    model = tf.keras.models.load_model(run / "model.keras", compile=False)
    wanted = model.predict(pixels(1), verbose=0)
    sizes = {}
    for name, tolerance in (("model.tflite", 1e-4), ("model_int8.tflite", 0.5)):
        infer = interpreter(run / name, 1, True).get_signature_runner("infer")
        np.testing.assert_allclose(infer(images=pixels(1))["logits"], wanted, atol=tolerance)
        with zipfile.ZipFile(run / name) as archive:
            assert archive.read("labels.txt").decode().split() == list("56789")
        record = record_of(run)[name]
        assert record["images"] == 297 and record["accuracy_before"] > 0
        sizes[name] = record["mb"]
    assert sizes["model_int8.tflite"] < 0.5 * sizes["model.tflite"]
    assert record_of(run)["model.keras"]  # from before


def test_what_is_not_the_trained_network_is_not_kept(run, monkeypatch, capsys):
    def wrong(subject, path):
        subject.network.head.variables[1].assign_add([1.0, 0, 0, 0, 0])
        write_keras(subject, path)

    before = (run / "model.keras").read_bytes()
    monkeypatch.setattr(story, "write_keras", wrong)
    assert main(["--export", "keras", "--from", str(run)]) == 1
    said = capsys.readouterr().err
    assert "the outputs of model.keras differ from the trained network's by 1" in said
    assert (run / "model.keras").read_bytes() == before
    assert not list(run.glob(".writing-*"))


REFUSED = {
    "--export keras --from {run} --rho 0.5": "--rho 0.5 contradicts --from",
    "--from {run}": "--from goes with --export, which says what is to be made of the run",
    "--export keras --from nowhere": "that is no folder of a run, which has a config.json",
    "--export keras --from {run} --config x.json": "--config does not go with --from",
    "--export keras --from {run} --resume {run}": "--from goes with --export",
    "--export onnx --from {run}": "invalid choice: 'onnx'",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_mistake_is_one_line(words, run, capsys):
    assert main(words.format(run=run).split()) == 2
    said = capsys.readouterr().err
    assert REFUSED[words] in said and said.count("\n") == 1


def test_a_run_without_weights_cannot_be_exported(run, tmp_path, capsys):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    assert main(["--export", "keras", "--from", str(tmp_path)]) == 2
    assert (
        "it has no weights.h5, which --save_weights last or best keeps" in capsys.readouterr().err
    )


def test_nothing_is_exported_of_a_selection_alone(tmp_path, capsys):
    flags = [*DIGITS[:4], "--select_only", "--export", "keras"]
    assert_refused(flags, "does nothing with --select_only or --plan", tmp_path / "out", capsys)


def test_an_operation_that_litert_lacks_is_named():
    inverse = built_in(lambda x: {"y": tf.linalg.inv(x)}, {"x": tf.TensorSpec([3, 3])})
    with pytest.raises(UserError, match="needs MatrixInverse, for which LiteRT has no operation"):
        converted(tf.Module(), {"infer": inverse}, "--export tflite")


def test_a_bundle_of_nothing_is_refused(run, tmp_path, capsys):
    flags = [*DIGITS[:4], "--rho", "0", "--num_epochs", "0", "--export", "litert_training"]
    assert main([*flags, "--output_dir", str(tmp_path)]) == 2
    assert "nothing of this network is trained" in capsys.readouterr().err
