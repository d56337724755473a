"""WebP, BMP and TIFF: read to the pixel, by what the file says of itself; and none but these."""

from __future__ import annotations

import importlib
import io
import logging
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from train.data import other_images
from train.data.image_files import BadFile, decode_file
from train.data.jpeg import orientation

SIDE = 12
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
DEEP = RNG.integers(0, 2**16, (SIDE, SIDE), dtype=np.uint16)
EXACT = {"lossless": True, "exact": True}  # of a WebP, what is transparent too


def encoded(image, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **(EXACT if kind == "WEBP" else {}), **options)
    return file.getvalue()


def tiff(values, photometric, order="<", extra=()):
    """An uncompressed TIFF by hand: kinds that Pillow reads and does not write."""
    values = np.ascontiguousarray(values).astype(values.dtype.newbyteorder(order))
    height, width = values.shape[:2]
    depth = values.shape[2] if values.ndim == 3 else 1
    code = "little" if order == "<" else "big"

    def number(value, size):
        return value.to_bytes(size, code)

    bits = 8 * values.itemsize
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * depth), (259, 3, [1])]
    tags += [(262, 3, [photometric]), (273, 4, [None]), (277, 3, [depth]), (278, 3, [height])]
    tags += [(279, 4, [values.nbytes]), *extra]
    end = 8 + 2 + 12 * len(tags) + 4
    more, body = b"", number(len(tags), 2)
    pixels_at = end + sum(2 * len(found) for _, _, found in tags if len(found) > 2)
    for tag, kind, found in tags:
        size = 2 if kind == 3 else 4
        packed = b"".join(number(pixels_at if one is None else one, size) for one in found)
        if len(packed) > 4:
            place, more = number(end + len(more), 4), more + packed
        else:
            place = packed.ljust(4, b"\0")
        body += number(tag, 2) + number(kind, 2) + number(len(found), 4) + place
    head = (b"II" if order == "<" else b"MM") + number(42, 2) + number(8, 4)
    return head + body + bytes(4) + more + values.tobytes()


def decoded(tmp_path, data, size=SIDE):
    path = tmp_path / "x.jpg"  # the name tells nothing
    path.write_bytes(data)
    return decode_file(path, size)


def grey(values):
    """As RGB."""
    return np.repeat(values[:, :, None], 3, axis=2)


def by_palette(kind):
    image = Image.frombytes("P", (SIDE, SIDE), (GREY % 7).tobytes())
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    image.putpalette(palette.tobytes())
    return encoded(image, kind), palette[GREY % 7]


def with_alpha(kind, order):
    alpha = RNG.integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([RGB, alpha], axis=2))
    return encoded(image, kind, **order), RGB


def cmyk():
    inks = RNG.integers(0, 256, (SIDE, SIDE, 4)).astype(np.uint8)
    light = 255 - inks.astype(float)
    wanted = light[:, :, :3] * light[:, :, 3:] / 255
    return encoded(Image.frombytes("CMYK", (SIDE, SIDE), inks.tobytes()), "TIFF"), wanted


def half_transparent():
    """In 16 bits, with colours that are kept beneath."""
    values = RNG.integers(0, 2**16, (SIDE, SIDE, 4)).astype(np.uint16)
    return tiff(values, 2, extra=[(338, 3, [2])]), values[:, :, :3] >> 8


DEEP_RGB = RNG.integers(0, 2**16, (SIDE, SIDE, 3)).astype(np.uint16)
FILES = {
    "BMP": (encoded(Image.fromarray(RGB), "BMP"), RGB),
    "BMP, palette": by_palette("BMP"),
    "BMP, grey": (encoded(Image.fromarray(GREY), "BMP"), grey(GREY)),
    "BMP, one bit": (
        encoded(Image.fromarray(GREY > 127), "BMP"),
        grey(np.where(GREY > 127, 255, 0)),
    ),
    "WebP": (encoded(Image.fromarray(RGB), "WEBP"), RGB),
    "WebP, alpha": with_alpha("WEBP", {}),
    "TIFF": (encoded(Image.fromarray(RGB), "TIFF"), RGB),
    "TIFF, LZW": (encoded(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"), RGB),
    "TIFF, deflate": (encoded(Image.fromarray(RGB), "TIFF", compression="tiff_deflate"), RGB),
    "TIFF, palette": by_palette("TIFF"),
    "TIFF, alpha": with_alpha("TIFF", {}),
    "TIFF, grey": (encoded(Image.fromarray(GREY), "TIFF"), grey(GREY)),
    "TIFF, CMYK": cmyk(),
    "TIFF, 16 bits of grey": (encoded(Image.fromarray(DEEP), "TIFF"), grey(DEEP >> 8)),
    "TIFF, 16 bits, big-endian": (tiff(DEEP, 1, ">"), grey(DEEP >> 8)),
    "TIFF, 16 bits, white is zero": (tiff(DEEP, 0), grey(255 - (DEEP >> 8))),
    "TIFF, 16 bits of RGB": (tiff(DEEP_RGB, 2), DEEP_RGB >> 8),
    "TIFF, 16 bits of RGB, big-endian": (tiff(DEEP_RGB, 2, ">"), DEEP_RGB >> 8),
    "TIFF, 16 bits with alpha": half_transparent(),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_that_were_written(tmp_path, name):
    data, wanted = FILES[name]
    found = decoded(tmp_path, data)
    assert found.dtype == np.uint8 and found.shape == (SIDE, SIDE, 3)
    assert np.abs(found.astype(float) - wanted).max() <= (1 if "CMYK" in name else 0)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(tmp_path, kind):
    others = [Image.fromarray(255 - RGB), Image.fromarray(RGB[::-1])]
    data = encoded(Image.fromarray(RGB), kind, save_all=True, append_images=others)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.array_equal(decoded(tmp_path, data), RGB)


TURNS = {  # Exif 2.3, section 4.6.4: which side of the picture the first row and column are
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "TIFF, LZW"])
@pytest.mark.parametrize("how", TURNS)
def test_pictures_are_turned_upright(tmp_path, kind, how):
    stored = Image.fromarray(np.ascontiguousarray(TURNS[how](RGB)))
    exif = Image.Exif()
    exif[0x0112] = how
    compression = {"compression": "tiff_lzw"} if "LZW" in kind else {}
    data = encoded(stored, kind[:4], exif=exif, **compression)
    assert np.array_equal(decoded(tmp_path, data), RGB)


def test_deep_pictures_are_turned_too(tmp_path):
    stored = np.ascontiguousarray(TURNS[6](DEEP))
    data = tiff(stored, 1, extra=[(274, 3, [6])])
    assert np.array_equal(decoded(tmp_path, data), grey(DEEP >> 8))


def test_they_are_resized_as_others_are(tmp_path):
    pixels = RNG.integers(0, 256, (50, 31, 3), dtype=np.uint8)
    found = [decoded(tmp_path, encoded(Image.fromarray(pixels), kind)) for kind in ("PNG", "WEBP")]
    assert np.array_equal(*found)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_no_image(tmp_path, mode):
    bad = decoded(tmp_path, encoded(Image.new(mode, (SIDE, SIDE), 3), "TIFF"))
    assert str(bad).endswith("x.jpg is a TIFF image of numbers whose range it does not tell")


def test_too_many_pixels_are_no_image(tmp_path):
    data = bytearray(FILES["BMP"][0])
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    assert str(decoded(tmp_path, bytes(data))).endswith("is a BMP image of too many pixels")


@pytest.mark.parametrize("kind", ["avif", "heic"])
def test_kinds_that_are_not_read_are_named(tmp_path, kind):
    bad = decoded(tmp_path, bytes([0, 0, 0, 32]) + b"ftyp" + kind.encode() + bytes(32))
    assert str(bad).endswith("image, which is not read") and kind[:2] in str(bad).lower()


@pytest.fixture
def silent(monkeypatch, capfd):
    """Nothing is printed, or said as a warning or in a log."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # wrong sizes would take seconds
    monkeypatch.setattr(logging.lastResort, "level", logging.DEBUG)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        importlib.reload(other_images)  # its own filters come on top
        yield
    assert not told and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["BMP, palette", "WebP", "TIFF", "TIFF, LZW", "TIFF, deflate"])
def test_files_that_are_cut_short_are_one_line(tmp_path, name, silent):
    data, _ = FILES[name]
    for end in np.random.default_rng(1).integers(12, len(data) - 1, 40):
        bad = decoded(tmp_path, data[:end])
        assert isinstance(bad, BadFile) and bad.why.endswith("damaged or cut short"), end


@pytest.mark.parametrize("name", ["BMP, palette", "WebP", "TIFF"])
def test_wrong_bytes_are_an_image_or_one_line(tmp_path, name, silent):
    data, _ = FILES[name]
    rng = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(data)
        for place in rng.integers(12, len(data), 3):
            broken[place] = rng.integers(256)
        found = decoded(tmp_path, bytes(broken))
        assert isinstance(found, BadFile) or found.shape == (SIDE, SIDE, 3)


def old_files():
    """JPEG, PNG and GIF in all their modes."""
    picture = Image.fromarray(RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    alpha = picture.copy()
    alpha.putalpha(Image.fromarray(RNG.integers(0, 256, (40, 30), dtype=np.uint8)))
    deep = Image.fromarray(RNG.integers(0, 2**16, (40, 30)).astype(np.uint16))
    yield from (encoded(picture.convert(mode), "JPEG") for mode in ("RGB", "L", "CMYK"))
    yield encoded(picture, "JPEG", progressive=True)
    yield from (encoded(picture.convert(mode), "PNG") for mode in ("RGB", "L", "P", "1"))
    yield from (encoded(one, "PNG") for one in (alpha, alpha.convert("LA"), deep))
    yield from (encoded(picture.quantize(9), "GIF"), encoded(alpha.quantize(9), "GIF"))


def test_the_kinds_of_before_are_read_as_before(tmp_path):
    """By TensorFlow's decoder and resizing alone: caches and results go back to them."""
    for data in old_files():
        assert orientation(data) == 1
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        wanted = tf.cast(tf.round(tf.image.resize(image, (17, 17), "bilinear")), tf.uint8)
        assert np.array_equal(decoded(tmp_path, data, 17), wanted)
