"""Select the layers of a pre-trained network that are worth retraining, and retrain them.

python main.py --model_name resnet50 --train_type act_norm_betti_train --rho 0.1
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from common.environment import load_tensorflow
from common.errors import RunError, UserError
from train.config.command_line import parse_args

INTERRUPTED = 130  # the shell's status for a process ended by Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, validate, hand over; the exit status."""
    try:
        config = parse_args(argv)
        load_tensorflow()  # only once the flags are good
        from models.memory.allocator import reserve_region
        from train.run.story import run

        note = reserve_region()
        if note is not None:
            print(f"main.py: note: {note}", file=sys.stderr)
        run(config)
    except UserError as error:
        print(f"main.py: error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"main.py: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("main.py: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `python main.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in its buffer
        print("main.py: interrupted: nobody reads its output any more", file=sys.stderr)
        return INTERRUPTED
    return 0


def _terminate(number: int, frame: object) -> NoReturn:  # noqa: ARG001
    """A scheduler's SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
