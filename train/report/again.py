"""``--report``: the page of a run made anew, from what its folder has."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError, in_one_line
from common.wording import shown
from train.report.page import write_report


def report_again(folder: Path) -> Path:
    """Write ``report.html`` and ``model_card.md`` of an ended run once more; the page's path.

    Raises:
        UserError: the folder is not that of a run that has ended.
    """
    where = f"--report {shown(folder)}"
    if not (folder / "config.json").is_file():
        raise UserError(f"{where}: that is no folder of a run, which has a config.json")
    if not (folder / "result.json").is_file():
        raise UserError(f"{where}: the run has not ended: it has no result.json yet")
    try:
        path = write_report(folder)
    except OSError as error:
        what = shown(error.filename or folder)
        raise UserError(f"{where}: {what}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{where} is damaged, or of another version ({in_one_line(error)})"
        ) from error
    print(f"to look at: {path}", flush=True)
    return path
