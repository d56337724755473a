"""Measurements in processes of their own, kept in the store: what is not a run of ``main.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from common.environment import load_tensorflow
from common.files import read_json, write_json
from models.memory.fresh_process import ChildError, fresh
from reproduce.store.runs import RESULTS_VERSION, Store, hash_of

__all__ = ["ChildError", "measured"]


def measured(
    store: Store, target: str, *, identity: Optional[Mapping[str, Any]] = None, **arguments: Any
) -> dict:
    """``{"answer", "environment"}`` of ``module:function`` in a fresh process, measured once.

    Where it is there already, from ``<store>/measured/``. Arguments and answer are JSON.

    Args:
        identity: what tells this measurement from others, where that is not the arguments
            (because they hold paths); the arguments are not kept then.

    Raises:
        ChildError: the process failed; nothing is kept.
    """
    known = arguments if identity is None else identity
    function = target.split(":")[1]  # wherever it lies
    key = hash_of({"results_version": RESULTS_VERSION, "target": function, **known})
    path = store.root / "measured" / f"{function}-{key}.json"
    if path.exists():
        return read_json(path)
    load_tensorflow()
    from train.run.directory import environment

    answer = fresh(target, **arguments)
    about = environment()
    del about["command"]  # it is not what was measured, and holds paths
    content = {"target": target, "arguments": known, "answer": answer, "environment": about}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content, indent=1)
    return content
