"""How a command of this project ends: its exit status, and one line where it ended badly."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from common.errors import RunError, UserError
from common.signals import catch_signals, ignore_signals
from common.standard_streams import discard, make_usable

MISTAKE = 2
FAILED = 1
INTERRUPTED = 130  # the shell's status for a process ended by Ctrl-C
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_as_process(main: Callable[[], int]) -> NoReturn:
    """End this process with the status that ``main`` returns.

    Once it has returned nothing is left to interrupt: a signal while Python takes itself apart,
    which may last seconds, would make a completed run look like a killed one.
    """
    make_usable()
    catch_signals()
    status = main()
    ignore_signals()
    sys.exit(status)


def exit_status(program: str, action: Callable[[], int], hint: str = "") -> int:
    """What ``action`` returns, or the status of the error that ended it, which is said on stderr.

    A bug is none of these: it goes on, with its traceback.

    Args:
        hint: said after "interrupted".
    """
    try:
        return action()
    except UserError as error:
        return _say(program, f"error: {error}", MISTAKE)
    except RunError as error:
        return _say(program, f"failed: {error}", FAILED)
    except KeyboardInterrupt:
        return _say(program, f"interrupted{hint}", INTERRUPTED)
    except BrokenPipeError:  # as in `python main.py ... | head`
        discard(sys.stdout)
        return _say(program, "interrupted: nobody reads its output any more", INTERRUPTED)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        if error.filename is None:  # what could not be printed would fail again at the exit
            discard(sys.stdout)
        where = error.filename or "standard output or a file"
        return _say(program, f"failed: {where} cannot be written: {error.strerror}", FAILED)


def _say(program: str, words: str, status: int) -> int:
    """One line, whatever characters the user's own words have."""
    line = "".join(one if one.isprintable() else repr(one)[1:-1] for one in words)
    print(f"{program}: {line}", file=sys.stderr)
    return status
