"""The parser of every command here: a mistake is one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from common.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """Raises :class:`UserError` where argparse prints the usage and exits.

    Flags have to be written out.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but that ``--flag=--`` is no value rather than an empty list."""
        found = super().parse_args(args, namespace)
        for action in self._actions:
            if action.nargs is None and getattr(found, action.dest, None) == []:
                self.error(f"argument {'/'.join(action.option_strings)}: expected one argument")
        return found

    def error(self, message: str) -> NoReturn:
        """The message, and where to read on."""
        raise UserError(f"{message} (see --help)")
