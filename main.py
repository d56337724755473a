"""Select the layers of a pre-trained network that are worth retraining, and retrain them.

python main.py --model_name resnet50 --train_type act_norm_betti_train --rho 0.1
python main.py --predict RUN_DIR IMAGE...
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.program import exit_status, run_as_process


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, validate, hand over; the exit status."""
    return exit_status("main.py", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    # Here, and not above, so that a signal finds its handler as early as can be.
    from common.environment import load_tensorflow
    from train.config.command_line import parse_command
    from train.config.instead import ExportOf

    command = parse_command(argv)
    if command.note:
        print(command.note, flush=True)
    if command.instead is not None and not isinstance(command.instead, ExportOf):
        from train.run.instead import carry_out_instead

        return carry_out_instead(command.config, command.instead)
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

    if command.instead is None:
        run(command.config, command.resumed, export_ended_run)
    else:
        export_run(command.config, command.instead.run)
    return 0


if __name__ == "__main__":
    run_as_process(main)
