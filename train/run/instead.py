"""What is done in place of a run."""

from __future__ import annotations

from pathlib import Path

from common.environment import load_tensorflow
from train.config.instead import Comparison, Instead, PageAnew, Prediction
from train.config.run_config import RunConfig


def carry_out_instead(config: RunConfig, asked: Instead) -> int:
    """Do what was asked for; the exit status. Each imports what it needs, and no more."""
    if isinstance(asked, Comparison):
        from train.report.compare import compare

        compare(asked.runs, Path(config.output_dir))
        return 0
    load_tensorflow()
    if isinstance(asked, PageAnew):
        from train.report.again import report_again

        report_again(asked.run)
        return 0
    if isinstance(asked, Prediction):
        from train.run.predict import predict

        return predict(config, asked)
    from train.run.describe import description

    print(description(config))
    return 0
