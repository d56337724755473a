"""``make bench``: every benchmark in fresh processes, and ``benchmarks/results.md``.

    python -m benchmarks [--only SECTION ...] [--quick] [--output FILE]

With ``--only`` or ``--quick`` nothing is written unless ``--output`` says where. A section that
fails is shown as failed, with what its process wrote, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from benchmarks.harness import Effort
from common.command_line import OneLineParser
from common.environment import load_tensorflow
from common.errors import UserError
from common.machine import PROJECT
from models.memory.fresh_process import ChildError, fresh

# name: title, module:function
SECTIONS = {
    "selection": ("Selection", "selection_report:selection"),
    "samples": ("Selection, by pooled images", "selection_report:samples"),
    "homology": ("b1 of a distance matrix", "homology_speed:homology"),
    "training": ("Training step", "training_step:training"),
    "rho": ("Training step, by rho", "training_step:cost_by_rho"),
    "channels": ("Training some channels", "channel_slices:channels"),
    "micro": ("A few images at a time", "micro_batches:micro_batches"),
    "front": ("The front in slices", "front_slices:front_slices"),
    "features": ("Features of the frozen front, kept", "kept_features:kept_features"),
    "recompute": ("A transformer's recomputation", "recomputed:recompute"),
    "input": ("Input pipeline", "input_pipeline:input_pipeline"),
    "peers": ("PyTorch and Keras beside us", "peers.peers:peers"),
    "start_up": ("Start-up", "start_up:start_up"),
    "checkpoints": ("Checkpoints", "checkpoint_cost:checkpoints"),
    "evaluation": ("Evaluation, by batch size", "evaluation_batch:evaluation"),
    "architectures": ("Other architectures", "architectures:architectures"),
}
# Measured when they are asked for by name: with them, all would take more than 20 minutes.
BY_NAME = frozenset(
    (
        *("samples", "training", "rho", "channels", "input", "start_up", "checkpoints"),
        *("evaluation", "architectures"),
    )
)
RESULTS = PROJECT / "benchmarks" / "results.md"


def main() -> int:
    """Measure, print, write; the exit status."""
    try:
        options = _options()
        load_tensorflow()
    except UserError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    effort = Effort.quick() if options.quick else Effort()
    output = options.output
    if output is None and not (options.quick or options.only):
        output = RESULTS
    began = time.perf_counter()
    parts, failures = [_head(options.quick)], 0
    print(parts[0], flush=True)
    for name in options.only or [one for one in SECTIONS if one not in BY_NAME]:
        title, target = SECTIONS[name]
        started = time.perf_counter()
        try:
            text = _section(target, effort)
        except Exception as error:  # noqa: BLE001  (shown, and the exit status tells)
            failures += 1
            said = str(error) if isinstance(error, ChildError) else traceback.format_exc()
            text = f"**failed**\n\n```\n{said}\n```"
        minutes = (time.perf_counter() - started) / 60
        parts.append(f"## {title}\n\n{text}\n\n({minutes:.1f} minutes)")
        print(f"\n{parts[-1]}", flush=True)
        if output is not None:
            output.write_text("\n\n".join(parts) + "\n")
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes in all", flush=True)
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = OneLineParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--quick", action="store_true", help="small and rough, to see that it runs")
    parser.add_argument("--output", type=Path, help="file for the results")
    return parser.parse_args()


def _head(quick: bool) -> str:
    machine = fresh("benchmarks.harness:machine")
    lines = [f"- {name}: {value}" for name, value in machine.items()]
    warning = "\n\nA quick run: the times mean nothing." if quick else ""
    return (
        "# Benchmarks\n\nWritten by `make bench`: fresh processes, warm, in turn (A B A B ...). "
        "MB are 1e6 bytes,\npeaks are those of TensorFlow's allocator (the GPU's where there is "
        f"one).{warning}\n\n" + "\n".join(lines)
    )


def _section(target: str, effort: Effort) -> str:
    module, function = target.split(":")
    return getattr(importlib.import_module(f"benchmarks.{module}"), function)(effort)


if __name__ == "__main__":
    sys.exit(main())
