"""Functions called in processes of their own, so that what they measure is theirs alone.

A child is ``python -m models.memory.fresh_process module:function FILE`` with the arguments as JSON
on its standard input; what the function returns goes to FILE as JSON.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common.environment import load_tensorflow
from common.files import read_json
from common.machine import PROJECT


class ChildError(RuntimeError):
    """A child failed; the message ends with what it wrote."""


def fresh(target: str, **arguments: Any) -> Any:
    """What ``module:function`` returns for ``arguments`` in a process of its own.

    Both have to be JSON.

    Raises:
        ChildError: it ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="adabet-") as folder:
        answer = Path(folder) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-m", "models.memory.fresh_process", target, str(answer)],
            cwd=PROJECT,
            input=json.dumps(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode or not answer.exists():
            raise ChildError(
                f"{target}({arguments}) ended with status {done.returncode}:\n{done.stdout}"
            )
        return read_json(answer)


def main() -> None:
    """In the child: call what was asked for and write down what it returns."""
    target, answer = sys.argv[1:]
    load_tensorflow()
    from models.memory.allocator import reserve_region

    reserve_region()  # as main.py does
    module, function = target.split(":")
    called = getattr(importlib.import_module(module), function)
    result = called(**json.load(sys.stdin))
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
