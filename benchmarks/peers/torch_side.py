"""PyTorch's training step on the layers that are named; see ``serve`` in stepper.py.

Imports nothing of TensorFlow. Batch norm is by fixed statistics (``eval``), as ours is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Optional

import torch
import torchvision
from torch import nn

from benchmarks.peers.stepper import serve
from common.standard_streams import without_native_stderr

MB = 1e6
_PRODUCTS = (nn.Conv2d, nn.Linear)


def main() -> None:
    """Build, measure the peak of a step, serve."""
    asked = json.loads(sys.argv[1])
    torch.manual_seed(0)
    model = _BUILT[asked["model"]](asked["classes"]).eval()
    trained = _trained(asked["model"], model, asked["layers"])
    images = torch.rand(asked["batch"], 3, 224, 224)
    labels = torch.arange(asked["batch"]) % asked["classes"]
    if asked["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    forward: Callable[[torch.Tensor], torch.Tensor] = model
    if asked["compile"]:
        forward = torch.compile(model)
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        loss.detach().item()

    for _ in range(2):
        step()
    facts = {"peak_mb": _peak(step, model, trained), "torch": torch.__version__}
    serve(step, {**facts, "parameters": sum(one.numel() for one in trained)})


def _peak(step: Callable[[], None], model: nn.Module, trained: list[nn.Parameter]) -> float:
    """MB: the profiler's allocations, and the weights and the momentum that were there before."""
    optimizer_and_weights = [*model.parameters(), *model.buffers(), *trained]
    before = sum(one.numel() * one.element_size() for one in optimizer_and_weights)
    with (
        without_native_stderr(),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler,
    ):
        step()
    events = [
        event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    now = peak = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return (before + peak) / MB


def _trained(name: str, model: nn.Module, layers: Optional[list]) -> list[nn.Parameter]:
    """The parameters of ``layers`` (see ``peers.py``); all for None. The others are frozen."""
    chosen = list(model.parameters())
    if layers is not None:
        found = _vit_layers(model) if name == "vit" else _cnn_layers(model)
        chosen = [parameter for layer in layers for parameter in found[tuple(layer)]]
    wanted = set(map(id, chosen))
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in wanted)
    return chosen


def _cnn_layers(model: nn.Module) -> dict[tuple, list[nn.Parameter]]:
    """("product", n): the n-th convolution or dense layer; ("norm", n): the norm behind it."""
    found: dict[tuple, list[nn.Parameter]] = {}
    count = -1
    for module in model.modules():
        if isinstance(module, _PRODUCTS):
            count += 1
            found["product", count] = list(module.parameters())
        elif isinstance(module, nn.BatchNorm2d):
            found["norm", count] = list(module.parameters())
    return found


def _vit_layers(model: Any) -> dict[tuple, list[nn.Parameter]]:
    """("vit", n), in the order of ours."""
    layers = [
        list(model.conv_proj.parameters()),
        [model.class_token],
        [model.encoder.pos_embedding],
    ]
    for block in model.encoder.layers:
        parts = (block.ln_1, block.self_attention, block.ln_2, block.mlp[0], block.mlp[3])
        layers += [list(part.parameters()) for part in parts]
    layers += [list(model.encoder.ln.parameters()), list(model.heads.parameters())]
    return {("vit", number): parameters for number, parameters in enumerate(layers)}


class _Vgg16(nn.Module):
    """Without the dense layers of the original, as ours is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = torchvision.models.vgg16().features
        self.head = nn.Linear(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


def _mobilenetv2(classes: int) -> nn.Module:
    model = torchvision.models.mobilenet_v2(num_classes=classes)
    model.classifier[0].p = 0.0
    return model


_BUILT: dict[str, Callable[[int], nn.Module]] = {
    "mobilenetv2": _mobilenetv2,
    "resnet50": lambda classes: torchvision.models.resnet50(num_classes=classes),
    "vgg16": _Vgg16,
    "vit": lambda classes: torchvision.models.vit_b_16(num_classes=classes),
}

if __name__ == "__main__":
    main()
