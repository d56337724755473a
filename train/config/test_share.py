"""``--test_split 0.2``: a share of the pictures, in place of a split's name."""

from __future__ import annotations

import re
from typing import Optional

_SHARE = re.compile(r"0?\.\d*[1-9]\d*")


def share_of(test_split: Optional[str]) -> Optional[float]:
    """The share, above 0 and below 1, that ``test_split`` says; None for the name of a split."""
    if test_split is None or not _SHARE.fullmatch(test_split):
        return None
    return float(test_split)
