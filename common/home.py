"""The user's home folder, which not every process has: a container may run as any user id."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Optional

from common.errors import UserError


def home() -> Optional[Path]:
    """From ``HOME``, else from the list of users; None where neither knows."""
    path = os.path.expanduser("~")
    return None if path == "~" else Path(path)


def home_for(what: str, instead: str) -> Path:
    """The home folder, to keep ``what`` in.

    Args:
        instead: what else the user can give, in a message.

    Raises:
        UserError: there is none.
    """
    path = home()
    if path is None:
        raise UserError(f"there is no home folder to keep {what} in: set HOME, or {instead}")
    return path


def prepare_matplotlib() -> None:
    """Have Matplotlib keep its list of fonts in a temporary folder where home cannot take it.

    Without a home folder it fails at import; where home cannot be written it says so at length.
    """
    place = home()
    if "MPLCONFIGDIR" in os.environ or (place is not None and os.access(place, os.W_OK)):
        return
    folder = tempfile.mkdtemp(prefix="adabet-matplotlib-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["MPLCONFIGDIR"] = folder
