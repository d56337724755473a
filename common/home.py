"""The user's home folder, which not every process has: a container may run as any user id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional


def home() -> Optional[Path]:
    """From ``HOME``, else from the list of users; None where neither knows."""
    path = os.path.expanduser("~")
    return None if path == "~" else Path(path)
