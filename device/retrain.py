"""Train a bundle on this machine's pictures: python -m device.retrain BUNDLE.tflite --images FOLDER

Leaves, in ``--output``: ``trained.npz`` (the trained variables, sealed by their SHA-256),
``retrained.tflite`` (the bundle with these in it), ``result.json``, and ``state.npz``, from which
the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

from device.bundle import Bundle, description_of, load_interpreter
from device.files import sha256_of, write_arrays, write_json
from device.options import parse
from device.pictures import SUFFIXES, Listed, Pictures, listed, passed_over
from device.problem import Problem
from device.rewrite import write_retrained
from device.scores import score_table, table_text
from device.training import Plan, Progress, Retraining, trained_arrays

INTERRUPTED = 130
MB = 1e6


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit status: 0, 1 (failed), 2 (a mistake, one line) or 130 (interrupted)."""
    try:
        return _run(parse(argv))
    except Problem as problem:
        print(f"device.retrain: error: {problem}", file=sys.stderr)
        return problem.status
    except KeyboardInterrupt:
        print("device.retrain: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    before = _resident_mb("VmRSS")
    say = _Speaker()
    description_of(options.bundle)  # refused before LiteRT says something of its own
    interpreter = load_interpreter(options.bundle, options.threads, options.xnnpack)
    bundle = Bundle(options.bundle, interpreter)
    output = options.output or options.bundle.with_suffix(".retrained")
    output.mkdir(parents=True, exist_ok=True)
    others = passed_over(options.images)
    if others:
        say(f"files passed over (not {', '.join(SUFFIXES)}): {others}", True)
    found = listed(options.images, bundle.classes, options.held_out)
    train, test = (
        Pictures(split, bundle.input_size, output / name, _decoding(say, name, split))
        for name, split in zip(("train", "test"), found)
    )
    if options.scores:
        rows = score_table(bundle, train, say)
        say(table_text(rows), True)
        write_json(output / "scores.json", {"layers": rows})
        return 0
    say(
        f"{bundle.about['model']}, {len(bundle.classes)} classes: {len(train)} training and "
        f"{len(test)} test pictures; writing to {output}",
        True,
    )
    plan = _plan(options, bundle, found[0])
    job = Retraining(bundle, plan, train, test, output / "state.npz", say)
    with _Stopping() as stopping:
        ended = job.run(stopping)
    result = _result(options, plan, job.progress, ended, before)
    if ended:
        path = output / "trained.npz"
        write_arrays(path, *trained_arrays(bundle))
        result["trained_sha256"] = sha256_of(path)
        write_retrained(options.bundle, output / "retrained.tflite", bundle.get())
    write_json(output / "result.json", result)
    print(json.dumps(result), flush=True)
    return 0 if ended else INTERRUPTED


def _result(
    options: argparse.Namespace, plan: Plan, progress: Progress, ended: bool, before: float
) -> dict:
    """The line of JSON; ``before``: resident MB with nothing but Python's modules loaded."""
    return {
        "status": "completed" if ended else "interrupted",
        "bundle": str(options.bundle),
        "bundle_sha256": plan.bundle,
        "bundle_mb": round(options.bundle.stat().st_size / MB, 3),
        "epochs": progress.epoch - 1,
        "test_accuracy_before": progress.lines[0]["test_accuracy"] if progress.lines else None,
        "test_accuracy": progress.lines[-1]["test_accuracy"] if progress.lines else None,
        "seconds_per_image": progress.seconds / max(1, progress.images),
        "images": progress.images,
        "resident_mb_before": round(before, 1),
        "peak_resident_mb": round(_resident_mb("VmHWM"), 1),
        "threads": options.threads,
        "xnnpack": options.xnnpack,
        "metrics": progress.lines,
    }


def _plan(options: argparse.Namespace, bundle: Bundle, train: Listed) -> Plan:
    own = bundle.about["training"]

    def given(name: str) -> Any:
        value = getattr(options, name)
        return own[name] if value is None else value

    return Plan(
        bundle=sha256_of(options.bundle),
        images=train.digest(),
        epochs=options.epochs,
        batch_size=min(given("batch_size"), len(train.paths)),
        learning_rate=given("learning_rate"),
        flip=given("flip"),
        rotation=given("rotation"),
        dropout=options.dropout,
        seed=options.seed,
    )


def _decoding(say: Callable[[str, bool], None], name: str, split: Listed) -> Callable[[int], None]:
    return lambda number: say(f"decoding {name}: {number} of {len(split.paths)}", False)


class _Stopping:
    """Inside, Ctrl-C or SIGTERM asks for the end; the step at hand is finished first."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict = {}

    def __enter__(self) -> _Stopping:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:  # noqa: ARG002
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def __call__(self) -> bool:
        return self._asked


class _Speaker:
    """Lines on standard output; those that do not stay only on a terminal, over each other."""

    def __init__(self) -> None:
        self._over = sys.stdout.isatty()

    def __call__(self, line: str, stays: bool) -> None:
        if stays:
            print(f"\r\033[K{line}" if self._over else line, flush=True)
        elif self._over:
            print(f"\r\033[K{line}", end="", flush=True)


def _resident_mb(figure: str) -> float:
    """Of this process: ``VmRSS`` now, or ``VmHWM``, the most it was.

    Not by ``getrusage``, whose peak begins with that of the program that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith(f"{figure}:"))
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    sys.exit(main())
