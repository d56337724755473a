"""Image files: decoded as they are meant to be seen, or told apart by why not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from train.data.image_files import BadFile, decode_file, decoded_files
from train.data.jpeg import is_cut_short, orientation

SIZE = 24
KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")


def blocks(seed=0):
    """A picture of 3x3 blocks, none like another, that a JPEG keeps almost as it is."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small.repeat(8, 0).repeat(8, 1))


def encoded(image, kind="JPEG", **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(how, order="<", directory=()):
    """Exif bytes by hand, with entries of no meaning before and after the orientation."""
    entries = [(0x010F, 1), (0x0112, how), (0x0128, 2)]
    code = "little" if order == "<" else "big"

    def number(value, size):
        return value.to_bytes(size, code)

    body = number(len(entries), 2)
    for tag, value in entries:
        body += number(tag, 2) + number(3, 2) + number(1, 4) + number(value, 2) + bytes(2)
    head = (b"II" if order == "<" else b"MM") + number(42, 2) + number(8, 4)
    return b"Exif\0\0" + head + body + bytes(4)


def decoded(tmp_path, data):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    return decode_file(path, SIZE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("how", range(1, 9))
def test_exif_orientation_is_as_pillow_turns(tmp_path, how, order):
    data = encoded(blocks(), exif=exif(how, order), quality=95)
    assert orientation(data) == how
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert np.abs(decoded(tmp_path, data) - wanted).max() <= 12  # decoders differ a little
    others = [np.abs(np.rot90(wanted, turns) - wanted).max() for turns in (1, 2, 3)]
    assert min(others) > 50


def test_orientation_of_other_bytes_is_upright():
    plain = encoded(blocks())
    assert orientation(plain) == 1
    assert orientation(encoded(blocks(), exif=exif(9))) == 1
    assert orientation(encoded(blocks(), "PNG")) == 1
    turned = encoded(blocks(), exif=exif(6))
    for end in range(len(turned)):
        assert orientation(turned[:end]) in (1, 6)
    rng = np.random.default_rng(0)
    for _ in range(500):
        broken = bytearray(turned)
        for place in rng.integers(2, 90, 4):
            broken[place] = rng.integers(256)
        assert 1 <= orientation(bytes(broken)) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_tells_the_kind_not_the_name(tmp_path, kind):
    image = blocks()
    wanted = np.asarray(image).astype(int)
    assert np.abs(decoded(tmp_path, encoded(image, kind)) - wanted).mean() <= 10


def test_of_a_moving_gif_the_first_frame_is_taken(tmp_path):
    first, second = (blocks(seed).quantize(9) for seed in (0, 1))
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(decoded(tmp_path, data), decoded(tmp_path, encoded(first, "GIF")))


def test_resizing_is_tensorflows(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 31, 3), dtype=np.uint8)
    found = decoded(tmp_path, encoded(Image.fromarray(pixels), "PNG"))
    wanted = np.round(tf.image.resize(pixels, (SIZE, SIZE)).numpy())
    assert found.dtype == np.uint8 and np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"not an image", "is no image"),
        *((encoded(blocks(), kind)[:-40], "damaged or cut short") for kind in KINDS),
    ],
)
def test_why_there_is_no_image(tmp_path, data, why):
    bad = decoded(tmp_path, data)
    assert isinstance(bad, BadFile)
    assert str(bad).startswith(f"{tmp_path}/x.jpg is ") and str(bad).endswith(why)


def test_a_jpeg_without_its_end_is_known_before_it_is_decoded(tmp_path, capfd):
    """Wherever it is cut, also behind a thumbnail, which has an end of its own."""
    thumbnail = encoded(blocks(1).resize((8, 8)))
    data = encoded(blocks(), exif=exif(1) + thumbnail)
    assert not is_cut_short(data) and not is_cut_short(data + b"trailing bytes")
    for end in range(2, len(data) - 1):
        assert is_cut_short(data[:end])
    bad = decoded(tmp_path, data[:-2])
    assert isinstance(bad, BadFile) and not capfd.readouterr().err
    with pytest.raises(tf.errors.InvalidArgumentError):  # TensorFlow thinks so too
        tf.io.decode_image(data[:-2])


def test_many_files_come_in_order(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        if number != 17:
            path.write_bytes(encoded(Image.new("RGB", (5, 5), (number, 0, 0)), "PNG"))
    lists = list(decoded_files(paths, 3))
    assert [len(one) for one in lists] == [16, 16, 8]
    found = [one for some in lists for one in some]
    assert str(found.pop(17)) == f"{paths[17]} cannot be read (No such file or directory)"
    assert [np.asarray(image)[0, 0, 0] for image in found] == [n for n in range(40) if n != 17]
