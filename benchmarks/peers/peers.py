"""Our step beside PyTorch's and Keras': time, interleaved step by step, and peak memory.

    pip install -r requirements-torch.txt
    python -m benchmarks --only peers

PyTorch may lie in an environment of its own: TORCH_PYTHON=/path/to/python names its interpreter.

The same network and trained layers, batch 8, as many threads as there are processors. PyTorch in
both layouts and, in the faster of them, compiled. Its peak is of its profiler's allocation events,
weights and momentum added; ours of TensorFlow's allocator.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from typing import Any, Optional

from benchmarks.harness import Effort, judged, judged_from_below, ratio, table
from benchmarks.peers.stepper import Stepper
from benchmarks.subjects import BATCH_SIZE, NUM_CLASSES, choices_of, new_network
from common.timing import LEAST_ROUNDS
from models.forward import inputs_of
from models.kinds import LINEAR, LayerKind

RHO = 0.1
SLOW = ("vgg16", "vit")  # seconds a step
OURS: dict[str, dict[str, Any]] = {
    "ours": {"way": "lean", "recompute": "all", "micro_batch": None},
    "ours, --micro_batch 1": {"way": "lean", "recompute": "all", "micro_batch": 1},
    "TensorFlow's own step": {"way": "stock"},
}
KEPT: dict[str, dict[str, Any]] = {
    "ours, --recompute cheap": {"way": "lean", "recompute": "cheap", "micro_batch": None}
}
# Targets of the project for AdaBet's layers: PyTorch's best time over our best, and our least
# memory over its least.
LEAST_TIME = {"mobilenetv2": 1.2, "resnet50": 1.2, "vgg16": 1.0, "vit": 1.0}
MOST_MEMORY = {"mobilenetv2": 0.6, "resnet50": 0.75, "vgg16": 0.5, "vit": 0.6}


def peers(effort: Effort) -> str:
    """AdaBet's layers of every backbone; of one, as many from the first one on, and all, too."""
    python: Optional[str] = os.environ.get("TORCH_PYTHON", sys.executable)
    there = subprocess.run([str(python), "-c", "import torchvision"], capture_output=True)
    if there.returncode:
        python = None
    rows, summary = [], []
    for name in effort.models:
        if name == "digitnet":
            continue
        choices = {**choices_of(name, RHO), "full": None}
        if name != effort.model:  # the compiler takes a minute for each
            choices = {"AdaBet's": choices["AdaBet's"]}
        for choice, indices in choices.items():
            found = _measured(name, indices, effort, python)
            ours = found["ours"]["seconds"]
            for way, one in found.items():
                rows.append(
                    [
                        f"{name}, {choice}, {way}",
                        f"{one['peak_mb']:.0f}",
                        f"{statistics.median(one['seconds']):.3f}",
                        f"{ratio(one['seconds'], ours):.2f}",
                    ]
                )
            if python is not None:
                summary.append(_summary(name, choice, found))
    parts = [
        f"Batch {BATCH_SIZE}, rho {RHO:g}, random weights, batch norm by fixed statistics.",
        table(("model, layers trained, way", "MB", "s / step", "of ours"), rows),
    ]
    if python is None:
        parts.append("PyTorch is not there: pip install -r requirements-torch.txt")
    else:
        parts += [
            "The best of PyTorch against the best of ours (two settings of ours may be meant):",
            table(("model", "layers trained", "its time / ours", "our MB / its"), summary),
        ]
    return "\n\n".join(parts)


def _summary(name: str, choice: str, found: dict[str, dict]) -> list[str]:
    ours = {way: one for way, one in found.items() if way.startswith("ours")}  # not stock
    its = {way: one for way, one in found.items() if way.startswith("PyTorch")}

    def quickest(some: dict[str, dict]) -> list[float]:
        return min((one["seconds"] for one in some.values()), key=statistics.median)

    def least(some: dict[str, dict]) -> float:
        return min(one["peak_mb"] for one in some.values())

    time, memory = ratio(quickest(its), quickest(ours)), least(ours) / least(its)
    targets = (LEAST_TIME[name], MOST_MEMORY[name]) if choice == "AdaBet's" else (None, None)
    return [name, choice, judged_from_below(time, targets[0]), judged(memory, targets[1])]


def _measured(
    name: str, indices: Optional[list[int]], effort: Effort, python: Optional[str]
) -> dict[str, dict]:
    """By way: ``peak_mb``, and ``seconds`` of steps that were taken in turn."""
    ours = {**OURS, **(KEPT if name == "vit" else {}), "Keras' train_on_batch": {"way": "keras"}}
    asked = {"model": name, "batch": BATCH_SIZE, "indices": indices}
    torch = {
        "model": name,
        "batch": BATCH_SIZE,
        "classes": NUM_CLASSES,
        "layers": None if indices is None else in_torch(name, indices),
    }
    with contextlib.ExitStack() as stack:

        def start(arguments: dict) -> Stepper:
            side, interpreter = ("torch", python) if "layers" in arguments else ("keras", None)
            module = f"benchmarks.peers.{side}_side"
            return stack.enter_context(Stepper(module, arguments, interpreter or sys.executable))

        steppers = {way: start({**asked, **how}) for way, how in ours.items()}
        eager: dict[str, Stepper] = {}
        layouts = {
            f"PyTorch, {words}": {**torch, "channels_last": last}
            for words, last in (("contiguous", False), ("channels last", True))
        }
        if python is not None:
            eager = {way: start({**how, "compile": False}) for way, how in layouts.items()}
        steppers |= eager
        for stepper in steppers.values():
            _ = stepper.facts  # so that all are ready
        if eager:
            faster = min(eager, key=lambda way: min(eager[way].step() for _ in range(3)))
            steppers[f"{faster}, compiled"] = start({**layouts[faster], "compile": True})
        numbers = [stepper.facts["parameters"] for stepper in steppers.values()]
        # torchvision's ResNet50 has no biases in front of its batch norms, Keras' has.
        assert max(numbers) <= 1.05 * min(numbers), f"not the same is trained: {numbers}"
        seconds: dict[str, list[float]] = {way: [] for way in steppers}
        for _ in range(LEAST_ROUNDS if name in SLOW else max(LEAST_ROUNDS, effort.repeats)):
            for way, stepper in steppers.items():
                seconds[way].append(stepper.step())
        return {
            way: {"peak_mb": stepper.facts["peak_mb"], "seconds": seconds[way]}
            for way, stepper in steppers.items()
        }


def in_torch(name: str, indices: list[int]) -> list[list]:
    """Our layers as ``torch_side.py`` names them."""
    if name == "vit":
        return [["vit", index] for index in indices]
    network = new_network(name)
    order = _order_in_torch(name, network)
    made = {id(one.keras_layer.output): one for one in network.layers}
    named = []
    for index in indices:
        layer = network.layers[index]
        if layer.kind is LayerKind.BATCH_NORM:
            (tensor,) = inputs_of(layer.keras_layer)
            named.append(["norm", order[id(made[id(tensor)])]])
        else:
            named.append(["product", order[id(layer)]])
    return named


def _order_in_torch(name: str, network: Any) -> dict[int, int]:
    """By ``id(Layer)``, the place of a convolution or dense layer among PyTorch's."""
    products = [one for one in network.layers if one.kind in LINEAR]
    if name == "resnet50":
        # A block's shortcut comes last there; here it comes before the third convolution.
        first = products[0]

        def key(layer: Any) -> tuple:
            parts = layer.name.split("_")
            if len(parts) < 3:  # the first one, and the head
                return (0,) if layer is first else (99,)
            stage, block, place = parts[:3]
            return (int(stage[4:]), int(block[5:]), int(place) or 4)

        products.sort(key=key)
    return {id(layer): place for place, layer in enumerate(products)}
