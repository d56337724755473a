"""What comes before any test imports TensorFlow; and tests that need a process of their own."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from common.environment import prepare_tensorflow
from common.errors import in_one_line

prepare_tensorflow()
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the processors: with a pool of threads for each, they would wait for each other,
    # and peaks of memory would depend on which of two operations is begun first.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_ALONE = "ADABET_TEST_RUNS_ALONE"


@pytest.fixture(autouse=True, scope="session")
def imports_are_no_garbage():
    """What is imported is not looked through, 300,000 objects, at each collection of garbage.

    A quarter of a small run's time; what the tests make is collected as ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def blank_pictures():
    """Runs within this process draw blank pictures; tests/train/test_run.py has real ones."""
    if _ALONE in os.environ:  # one test, for which drawing costs less than this
        yield
        return
    from tests import pictures

    with pytest.MonkeyPatch.context() as patch:
        pictures.draw_blank(patch)
        yield


@pytest.fixture(autouse=True, scope="session")
def bugs_are_no_warnings():
    """What would leave a run without its page and pictures, and a warning, fails the test.

    A full disk does not: some tests fill one.
    """
    from train.run import afterwards

    @contextlib.contextmanager
    def strict(what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            print(f"WARNING: no {what}: {in_one_line(error)}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(afterwards, "none_the_worse", strict)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few slow tests first, quick ones last, so that both workers end together."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.split("::")[0], []).append(item)

    def key(item: pytest.Item) -> tuple[bool, int]:
        same = tests[item.nodeid.split("::")[0]]
        return not any(one.get_closest_marker("slow") for one in same), len(same)

    items.sort(key=key)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked ``alone`` in a fresh process.

    For those that compare allocator peaks of a few MB: what other tests left allocated in the
    same process would be part of every figure.
    """
    if pyfuncitem.get_closest_marker("alone") is None or _ALONE in os.environ:
        return None
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env={**os.environ, _ALONE: "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return True
