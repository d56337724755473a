"""Checkpoints on disk: whole, the last two, and a damaged one is never taken for good."""

from __future__ import annotations

import errno
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import files
from train.checkpoint import archive as archives
from train.checkpoint.archive import Archive, DamagedCheckpoint, write_archive
from train.checkpoint.every import CheckpointEvery, Due, parse_every
from train.checkpoint.folder import CheckpointFolder

ARRAYS: dict[str, np.ndarray] = {
    "weights/3": np.arange(6, dtype=np.float32).reshape(2, 3),
    "momentum/0": np.array(0.1, np.float64),
    "weights/0": np.zeros((0, 4), np.int32),
}
STATE = {"step": 7, "mean": 0.1 + 0.2, "names": ["a", None], "wide": {"ä": 1e-300}}


def save(folder: CheckpointFolder, step: int) -> None:
    folder.save(step, {"step": step}, ARRAYS.items())


def names(run) -> list[str]:
    return sorted(os.listdir(run / "checkpoints"))


def test_what_is_written_comes_back_bit_by_bit(tmp_path):
    write_archive(tmp_path / "a.npz", STATE, ARRAYS.items())
    archive = Archive(tmp_path / "a.npz")
    assert archive.state == STATE and archive.names == tuple(ARRAYS)
    for name, array in ARRAYS.items():
        found = archive.read(name)
        assert found.dtype == array.dtype and np.array_equal(found, array)


def test_other_programs_can_read_it(tmp_path):
    write_archive(tmp_path / "a.npz", STATE, ARRAYS.items())
    with np.load(tmp_path / "a.npz") as loaded:
        assert np.array_equal(loaded["weights/3"], ARRAYS["weights/3"])
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "a.npz"
    write_archive(path, STATE, ARRAYS.items())
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint):
        Archive(path)


def test_another_version_is_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FORMAT", 99)
    write_archive(tmp_path / "a.npz", STATE, [])
    monkeypatch.undo()
    with pytest.raises(DamagedCheckpoint, match="is of format 99, this program reads 1"):
        Archive(tmp_path / "a.npz")


def test_the_last_two_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path)
    assert folder.latest() == (None, []) and not folder.there
    for step in (0, 5, 12):
        save(folder, step)
    assert names(tmp_path) == ["step-000000005.npz", "step-000000012.npz"]
    archive, wrong = folder.latest()
    assert archive.state == {"step": 12} and wrong == []
    folder.remove()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped"])
def test_of_a_damaged_one_the_one_before_is_used(tmp_path, damage):
    folder = CheckpointFolder(tmp_path)
    save(folder, 5)
    save(folder, 12)
    path = tmp_path / "checkpoints/step-000000012.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes({"cut": content[:-9], "emptied": b"", "flipped": bytes(content)}[damage])
    archive, (wrong,) = folder.latest()
    assert archive.state == {"step": 5}
    assert wrong.startswith(f"{path} is ")
    save(folder, 9)  # which takes the place of the damaged one, not of the good one
    assert names(tmp_path) == ["step-000000005.npz", "step-000000009.npz"]


def test_a_full_disk_leaves_those_there_are(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    save(folder, 5)

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        save(folder, 12)
    assert names(tmp_path) == ["step-000000005.npz"]


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/.writing-77-step-000000003.npz").write_bytes(b"half")
    folder = CheckpointFolder(tmp_path)
    assert folder.latest() == (None, [])
    save(folder, 5)
    assert names(tmp_path) == ["step-000000005.npz"]


@pytest.mark.parametrize(
    ("text", "every"),
    [
        (None, CheckpointEvery(1, 10)),
        ("0", CheckpointEvery()),
        ("4", CheckpointEvery(epochs=4)),
        ("10min", CheckpointEvery(minutes=10)),
        (".5min", CheckpointEvery(minutes=0.5)),
    ],
)
def test_how_often(text, every):
    assert parse_every(text) == every
    assert every.never == (text == "0")


@pytest.mark.parametrize("text", ["", "-1", "1.5", "min", "0min", "10 min", "10m", "nanmin"])
def test_how_often_misspelt(text):
    with pytest.raises(ValueError, match=r".*"):
        parse_every(text)


def test_when_one_is_due():
    time = [100.0]
    due = Due(CheckpointEvery(epochs=2, minutes=1), lambda: time[0])
    assert not due.now() and not due.after(1) and due.after(2)
    time[0] += 60
    assert due.now() and due.after(1)
    due.saved()
    assert not due.now()
    assert not Due(CheckpointEvery(), lambda: time[0]).after(3)
