"""How a field of ``RunConfig`` says that it is a flag, and what its values are."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import field
from typing import Any, Optional

from common.flag_value import FlagValue


def flag(
    default: Any,
    text: str,
    kind: type = str,
    *,
    auto: bool = False,
    word: Optional[str] = None,
    **options: Any,
) -> Any:
    """A field that is a flag.

    Args:
        kind: ``int``, ``float``, ``str`` or an enumeration of words.
        auto: the word ``auto`` (None) is valid beside its values.
        word: another one that is.
        options: further arguments of ``argparse.ArgumentParser.add_argument``.
    """
    convert: Callable[[str], Any] = kind
    if issubclass(kind, FlagValue):
        convert = _word_of(kind)
        words = ",".join([*(["auto"] * auto), *kind])
        options.setdefault("metavar", f"{{{words}}}")
    if auto:
        convert = _or_auto(convert)
    if word is not None:
        convert = _or_word(word, convert)
    metadata = {"help": text, "type": convert, "json": kind, "word": word, "argparse": options}
    return field(default=default, metadata=metadata)


def switch(text: str) -> Any:
    """A field that is a flag without a value."""
    return field(default=False, metadata={"help": text, "argparse": {}})


def _word_of(kind: type[FlagValue]) -> Callable[[str], Any]:
    """An argparse type: a word of an enumeration."""

    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            words = ", ".join(map(repr, kind))
            message = f"invalid choice: {text!r} (choose from {words})"
            raise argparse.ArgumentTypeError(message) from error

    return parse


def _or_auto(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argparse type in which the word ``auto`` (None) is valid beside ``convert``'s values."""

    def parse(text: str) -> Any:
        return None if text == "auto" else convert(text)

    parse.__name__ = f"{convert.__name__} or auto"  # argparse shows this in its error
    return parse


def _or_word(word: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argparse type in which ``word``, as it is, is valid beside ``convert``'s values."""

    def parse(text: str) -> Any:
        return word if text == word else convert(text)

    parse.__name__ = f"{convert.__name__} or {word}"
    return parse
