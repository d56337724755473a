"""Pictures without labels, in a folder and those below it: enough to select layers by."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from common.wording import shown
from train.data.image_kinds import READ_SUFFIXES
from train.data.layouts.folders import list_pictures
from train.data.layouts.listing import SplitListing, kinds_left_out


class Unlabelled:
    """All of `root`, whatever the split is called."""

    kind = "unlabelled"

    def __init__(self, root: Path) -> None:
        self.root = root

    def split(self, name: str, flag: str) -> SplitListing:  # noqa: ARG002
        """See `Layout`."""
        listing = list_pictures(self.root)
        if not (listing.files or listing.bad):
            left_out = kinds_left_out(listing.others)
            raise UserError(
                f"no image ({READ_SUFFIXES}) in {shown(self.root)} or a folder below it"
                f"{left_out and f', only {left_out}'}"
            )
        return listing
