"""What the folder of a run says about how it ended; it need not be there."""

from __future__ import annotations

from pathlib import Path

from common.files import read_json

CHECKPOINTS = "checkpoints"  # name of the folder in a run's that has them


def is_completed(run: Path) -> bool:
    """Whether ``run`` holds the result of a run that went to its end."""
    path = run / "result.json"
    return path.exists() and read_json(path)["status"] == "completed"


def can_resume(run: Path) -> bool:
    """Whether ``run`` is the folder of a run that has not ended well, but has checkpoints."""
    return (
        (run / CHECKPOINTS).is_dir() and (run / "config.json").is_file() and not is_completed(run)
    )
