"""Where in a file a value is, and what is said about one that does not fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Optional

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from common.errors import UserError
from common.outside_json import position_of, read_outside_json, schema_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def places(value: object, steps: tuple = ()):
    """Every value within ``value``, and the steps to it."""
    yield steps, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*steps, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*steps, index))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES, st.sampled_from([None, 0, 3]), st.booleans())
@pytest.mark.slow
def test_every_value_is_found(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    for steps, inner in places(value):
        at = position_of(text, list(steps))
        found, _ = json.JSONDecoder().raw_decode(text, at)
        assert found == inner


@dataclass
class Example:
    a: list[int]
    b: Optional[dict[str, int]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": [1,\n2,\n"3"]}', ", line 3: a[2]: expected `int`, got `str`"),
        (b'{"a":\n{}}', ", line 2: a: expected `array`, got `object`"),
        (b'{"a": [],\n"b": {"c": ""}}', ", line 2: b[...]: expected `int`, got `str`"),
        (b'{"a": []}', ", line 1: object missing required field `b`"),
        (b'{"a": [], "b": {},\n"c": 1}', ", line 1: object contains unknown field `c`"),
        (b'\n\n{"a": [1]\n', " is not JSON: Input data was truncated"),
        (b'{"a":\n\n[1 2]}', " is not JSON (line 3: expected ',' or ']')"),
        (b"", " is not JSON: Input data was truncated"),
        (b'{"a\xff": 1}', " is not JSON"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(content, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_outside_json(path, schema_of(Example), f"--a {path}")
    assert str(caught.value).startswith(f"--a {path}{message}")
    assert "\n" not in str(caught.value)
