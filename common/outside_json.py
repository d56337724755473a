"""JSON that people write or change: read by a schema, and refused with field and line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from common.errors import UserError

_MALFORMED = re.compile(r"JSON is malformed: (?P<why>.*) \(byte (?P<byte>\d+)\)")


def schema_of(record: type, **other: Any) -> type[msgspec.Struct]:
    """The schema of a dataclass: its fields, and no others. One with a default may be missing.

    Args:
        other: types that stand in place of the record's own.
    """
    hints = {**get_type_hints(record), **other}
    return msgspec.defstruct(
        record.__name__,
        [
            (field.name, hints[field.name], *([] if field.default is MISSING else [field.default]))
            for field in fields(record)
        ],
        forbid_unknown_fields=True,
        kw_only=True,
    )


def read_outside_json(path: Path, schema: Any, where: str) -> Any:
    """The content of ``path`` as plain types, once it fits ``schema`` (a type that msgspec knows).

    Args:
        where: what messages begin with, such as ``--config FILE``.

    Raises:
        UserError: it cannot be read, is no JSON, or does not fit; with the line, and the field.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from error
    try:
        return msgspec.to_builtins(msgspec.json.decode(content, type=schema))
    except msgspec.ValidationError as error:
        raise UserError(f"{where}{_described(content, str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where} is not JSON{_place(content, str(error))}") from error


def _place(content: bytes, message: str) -> str:
    found = _MALFORMED.match(message)
    if found is None:
        return f": {message}"
    line = content.count(b"\n", 0, int(found["byte"])) + 1
    return f" (line {line}: {found['why']})"


def _described(content: bytes, message: str) -> str:
    """``, line 3: layers[1].rank: expected `int`, got `str```."""
    what, _, place = message.partition(" - at `$")
    what = what[0].lower() + what[1:]
    known = place.partition("[...]")[0]  # a value of a dictionary, which is not told which
    steps = [key or int(number) for key, number in re.findall(r"\.(\w+)|\[(\d+)\]", known)]
    text = content.decode()
    line = text.count("\n", 0, position_of(text, steps)) + 1
    field = place.rstrip("`").lstrip(".")
    return f", line {line}: {field}: {what}" if field else f", line {line}: {what}"


def position_of(text: str, steps: list[str | int]) -> int:
    """Where in the JSON ``text`` the value is to which ``steps`` (keys and indices) lead."""
    at = _next(text, 0)
    for step in steps:
        members = _members(text, at) if text[at] == "{" else enumerate(_items(text, at))
        at = next(place for name, place in members if name == step)
    return at


def _next(text: str, at: int) -> int:
    """The first character from ``at`` on that is not white space."""
    while text[at].isspace():
        at += 1
    return at


def _members(text: str, at: int) -> Iterator[tuple[str, int]]:
    """Keys of the object at ``at``, and where their values are."""
    at = _next(text, at + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _next(text, _next(text, at) + 1)  # over the colon
        yield name, at
        at = _after(text, at)


def _items(text: str, at: int) -> Iterator[int]:
    """Where the items of the array at ``at`` are."""
    at = _next(text, at + 1)
    while text[at] != "]":
        yield at
        at = _after(text, at)


def _after(text: str, at: int) -> int:
    """Behind the value at ``at`` and the comma that may follow it."""
    _, end = _DECODER.raw_decode(text, at)
    end = _next(text, end)
    return _next(text, end + 1) if text[end] == "," else end


_DECODER = json.JSONDecoder()
