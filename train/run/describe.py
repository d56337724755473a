"""``--describe``: a network's layers as the tool sees them."""

from __future__ import annotations

from models.graph.macs import layer_macs
from models.kinds import kernels
from models.layers import Layer
from models.network import Network, build_network
from train.config.resolve import backbone_of
from train.config.run_config import RunConfig

CLASSES = 10  # of the new head, where nothing says how many
_COLUMNS = "{:>5}  {:<36} {:<15} {:<18} {:<18} {:>11}  {:>13}"


def description(config: RunConfig) -> str:
    """The layers in execution order, each with its sizes, and what of a model is not used.

    Nothing is downloaded: the weights are random but where the model is a file.

    Raises:
        UserError: the network cannot be built.
    """
    backbone = backbone_of(config)
    network = build_network(
        backbone,
        config.num_classes or CLASSES,
        config.input_size,
        "file" if backbone.file else "none",
        keep_head=config.keep_head,
    )
    return "\n".join([_title(config, network), *network.notes, _header(), *_lines(network)])


def _title(config: RunConfig, network: Network) -> str:
    return (
        f"{network.backbone.title}: {len(network.layers)} layers that can be selected, "
        f"{network.params:,} parameters, {config.input_size} x {config.input_size} pixels, "
        f"{network.head.activation.shape[-1]} classes"
    )


def _header() -> str:
    return _COLUMNS.format(
        "index", "layer", "type", "kernel", "activation", "parameters", "MACs"
    ).rstrip()


def _lines(network: Network) -> list[str]:
    return [_line(layer) for layer in network.layers]


def _line(layer: Layer) -> str:
    shapes = [_sizes(kernel.shape) for kernel in kernels(layer.keras_layer)]
    return _COLUMNS.format(
        layer.index,
        layer.name,
        layer.type,
        shapes[0] if shapes else "-",
        _sizes(layer.activation.shape[1:]),
        f"{layer.params:,}",
        f"{layer_macs(layer):,}",
    )


def _sizes(shape: tuple) -> str:
    return " x ".join(map(str, shape))
