"""What is made of a run that has ended, for people to look at.

The run is none the worse without: what cannot be made is a warning.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Optional

from common.errors import in_one_line
from selection.selection import Selection
from train.predictions import FILE as PREDICTIONS
from train.run.directory import RunDirectory
from train.run.last_evaluation import LastEvaluation, predictions_file
from train.run.prepare import Setting
from train.run.twin import Twin

_DPI = 150  # of selection.png


@contextlib.contextmanager
def none_the_worse(what: str) -> Iterator[None]:
    """Inside, an exception is a warning that there is no ``what``, since the run is kept anyway."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        print(f"WARNING: no {what}: {in_one_line(error)}", flush=True)


def keep_predictions(
    directory: RunDirectory,
    setting: Setting,
    last: Optional[LastEvaluation],
    twin: Optional[Twin],
) -> None:
    """``predictions.json``, where there was an evaluation; that of a ``twin`` is taken over."""
    with none_the_worse(PREDICTIONS):
        if twin is not None and twin.predictions is not None:
            source = twin.predictions
            directory.write_file(PREDICTIONS, lambda path: shutil.copyfile(source, path))
        elif last is not None:
            content = predictions_file(last, setting.data, setting.test_images)
            directory.write_json(PREDICTIONS, content, indent=None)


def draw(directory: RunDirectory, selection: Optional[Selection], title: str) -> None:
    """``selection.png`` of the latest selection, ``model_card.md`` and ``report.html``.

    Args:
        title: of the picture.
    """
    figure = None
    with none_the_worse("selection.png"):
        # Only now: importing matplotlib and drawing take longer than many first steps.
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        from train.report.selection_figure import selection_figure

        if selection is not None:
            figure = selection_figure(selection, title)
            figure.set_dpi(_DPI)
            # As savefig does, but drawn once: it takes a second for a hundred layers.
            directory.write_file("selection.png", FigureCanvasAgg(figure).print_png)
    if not (directory.path / "config.json").exists():
        return  # it ended before there was anything to show
    with none_the_worse("report.html"):
        from train.report import page

        page.write_report(directory.path, figure)
