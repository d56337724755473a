"""Published weights: what is kept is used, what is damaged is named, and no network ends soon."""

from __future__ import annotations

import hashlib
import http.server
import importlib
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models import download
from models.backbones import keras_applications, vit
from models.download import Published, load_published, published_path
from models.weights import load_h5

CONTENT = b"checkpoint" * 100_000


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own; local addresses reached directly."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_LAST_RESORT", str(tmp_path / "last"))
    folder = tmp_path / "home" / ".keras" / "models"
    folder.mkdir(parents=True)
    return folder


class _Server(http.server.BaseHTTPRequestHandler):
    promised = len(CONTENT)

    def do_GET(self):
        if self.path != "/file":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.promised))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _refused(file: Published, silence_s: float = 5.0) -> str:
    with pytest.raises(UserError) as caught:
        published_path(file, silence_s)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_downloaded_once_whole_then_kept(cache, server):
    file = Published("it", f"{server}/file", "a.npz", hashlib.md5(CONTENT).hexdigest())
    path = published_path(file)
    assert path == str(cache / "a.npz") and _files(cache) == ["a.npz"]
    assert Path(path).read_bytes() == CONTENT
    os.utime(path, (1, 1))
    assert published_path(file) == path and os.stat(path).st_mtime == 1


def test_what_is_not_the_published_file_is_not_kept(cache, server, monkeypatch):
    url = f"{server}/file"
    assert "not the published file" in _refused(Published("it", url, "a.npz", "0" * 32))
    assert "HTTP Error 404: Not Found" in _refused(Published("it", f"{server}/b", "b.npz"))
    monkeypatch.setattr(_Server, "promised", len(CONTENT) + 1)
    assert "it ended after 1000000 of 1000001 bytes" in _refused(Published("it", url, "a.npz"))
    assert not _files(cache)


def test_no_network_ends_soon_and_names_the_ways_out(cache, monkeypatch):
    """A closed port, a server that says nothing, and a name that is never looked up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        began = time.monotonic()
        messages = [_refused(Published("the file", address, "a.npz"), 0.3)]
    messages.append(_refused(Published("the file", address, "a.npz")))
    for_ever = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: for_ever.wait(60))
    messages.append(_refused(Published("the file", "http://nowhere.invalid/", "a.npz"), 0.3))
    for_ever.set()
    assert time.monotonic() - began < 10 and download.SILENCE_S < 25
    for message in messages:
        assert message.startswith("the file could not be downloaded from http://")
        assert "--weights PATH" in message and "--weights none" in message
    assert "nothing came for 0.3 s" in messages[2]
    assert socket.getdefaulttimeout() is None and not _files(cache)


def test_a_bug_is_no_failed_download(cache, monkeypatch):
    def broken(*arguments):
        raise KeyError("a bug")

    monkeypatch.setattr(download.urllib.request, "build_opener", broken)
    with pytest.raises(KeyError, match="a bug"):
        published_path(Published("it", "http://127.0.0.1/", "a.npz"))


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "mobilenetv2"])
def test_what_is_downloaded_is_what_keras_would_download(name, monkeypatch):
    """Against the arguments that Keras' own constructor gives to its get_file."""
    application, _ = keras_applications._APPLICATIONS[name]
    utilities = importlib.import_module(application.__module__).data_utils
    asked: dict[str, str] = {}

    class Asked(Exception):
        pass

    def get_file(fname, origin, **options):
        asked.update(fname=fname, origin=origin, **options)
        raise Asked

    monkeypatch.setattr(utilities, "get_file", get_file)
    with pytest.raises(Asked):
        application(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    file = keras_applications.published(name)
    assert (file.name, file.url) == (asked["fname"], asked["origin"])
    assert file.md5 == asked.get("file_hash") and asked["cache_subdir"] == "models"


def _small_model() -> tf.keras.Model:
    inputs = tf.keras.Input((3,))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="dense")(inputs), name="small")


def test_kept_files_are_loaded_from_a_home_that_cannot_be_written(cache, monkeypatch):
    source, target = _small_model(), _small_model()
    source.save_weights(str(cache / "a.h5"))
    # Whatever the user, root included: nothing here may be written.
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    load_published(target, Published("it", "http://127.0.0.1:9/", "a.h5"), load_h5)
    for a, b in zip(source.get_weights(), target.get_weights()):
        np.testing.assert_array_equal(a, b)
    message = _refused(Published("it", "http://127.0.0.1:9/", "absent.h5"))
    assert "cannot be kept" in message and str(cache) in message and "KERAS_HOME" in message


def test_without_a_home_that_can_be_written_files_go_where_keras_puts_them(
    cache, server, monkeypatch
):
    last = cache.parents[2] / "last" / "models"
    file = Published("it", f"{server}/file", "a.npz")
    monkeypatch.setenv("HOME", "/dev/null")
    assert published_path(file) == str(last / "a.npz")
    monkeypatch.setattr(download, "home", lambda: None)
    assert published_path(file) == str(last / "a.npz")


def test_keras_home_is_where_files_are_kept_and_home_is_read_too(cache, server, monkeypatch):
    other = cache.parent.parent / "other"
    monkeypatch.setenv("KERAS_HOME", str(other))
    (cache / "old.npz").write_bytes(b"old")
    assert published_path(Published("it", f"{server}/file", "old.npz")) == str(cache / "old.npz")
    path = published_path(Published("it", f"{server}/file", "new.npz"))
    assert path == str(other / "models" / "new.npz")


def test_damaged_kept_files_are_named_and_not_touched(cache):
    """By its MD5, by its bytes, and by its values, for every backbone that is downloaded."""
    broken = {name: keras_applications.published(name) for name in keras_applications._WEIGHTS}
    broken["vit"] = vit.CHECKPOINT
    for name, file in broken.items():
        path = cache / file.name
        path.write_bytes(b"\x89HDF\r\n\x1a\n damaged")
        load = vit.load_pretrained if name == "vit" else keras_applications.load_pretrained
        with pytest.raises(UserError) as caught:
            load(_small_model(), name)
        message = str(caught.value)
        assert message.startswith(f"{path}, which was downloaded, "), message
        assert message.endswith("delete it to have it fetched again") and "\n" not in message
        assert path.exists()


def test_kept_files_with_values_that_are_not_finite_are_refused(cache):
    model = _small_model()
    model.layers[1].kernel.assign(tf.fill((3, 2), np.inf))
    path = cache / keras_applications.published("mobilenetv2").name
    model.save_weights(str(path))
    with pytest.raises(UserError, match="layer dense, variable kernel holds NaN or inf.*delete it"):
        keras_applications.load_pretrained(_small_model(), "mobilenetv2")
