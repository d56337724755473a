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

    def error(self, message: str) -> NoReturn:
        """The message, and where to read on."""
        raise UserError(f"{message} (see --help)")
