"""Select the layers of a pre-trained network that are worth retraining, and retrain them.

python main.py --model_name resnet50 --train_type act_norm_betti_train --rho 0.1
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.program import exit_status
from common.signals import catch_signals
from common.standard_streams import make_usable


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, validate, hand over; the exit status."""
    return exit_status("main.py", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    # Here, and not above, so that a signal finds its handler as early as can be.
    from common.environment import load_tensorflow
    from train.config.command_line import parse_command

    command = parse_command(argv)
    load_tensorflow()  # only once the flags are good
    from models.memory.allocator import reserve_region
    from train.run.story import run

    note = reserve_region()
    if note is not None:
        print(f"main.py: note: {note}", file=sys.stderr)
    if command.config.export is None:
        run(command.config, command.resumed)
        return 0
    from export.story import export_ended_run, export_run

    if command.exported is None:
        run(command.config, command.resumed, export_ended_run)
    else:
        export_run(command.config, command.exported)
    return 0


if __name__ == "__main__":
    make_usable()
    catch_signals()
    sys.exit(main())
