"""Our step, TensorFlow's own, or Keras' ``train_on_batch`` with the rest frozen; see ``serve``."""

from __future__ import annotations

import json
import sys

from common.environment import load_tensorflow


def main() -> None:
    """Build, measure the peak of a step, serve."""
    load_tensorflow()
    import tensorflow as tf

    from benchmarks.peers.stepper import serve
    from benchmarks.subjects import new_network, one_step, whole_layers
    from models.frozen_mode import FrozenMode
    from models.memory.allocator import reserve_region
    from models.memory.phase_meter import PhaseMeter
    from models.recompute import Recompute
    from train.optimizer import sgdw
    from train.step_memory import RATES, noise_batch
    from train.trainer import LeanOptions, Trainer

    reserve_region()
    asked = json.loads(sys.argv[1])
    network = new_network(asked["model"])
    trained = whole_layers(network, asked["indices"])
    batch = noise_batch(network, asked["batch"])
    if asked["way"] == "keras":
        model = network.model
        chosen = {id(one.layer.keras_layer) for one in trained}
        for layer in model.layers:
            layer.trainable = id(layer) in chosen
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(sgdw(RATES, [one.variable for one in trained], 0), loss)

        def step() -> None:
            model.train_on_batch(*batch)
    else:
        if asked["way"] == "stock":
            trainer = Trainer(network, trained, RATES, frozen=FrozenMode.STOCK)
        else:
            lean = LeanOptions(recompute=Recompute(asked["recompute"]))
            trainer = Trainer(network, trained, RATES, micro_batch=asked["micro_batch"], lean=lean)

        def step() -> None:
            one_step(trainer, batch)

    for _ in range(2):
        step()
    with PhaseMeter() as meter:
        step()
    parameters = sum(one.params for one in trained)
    serve(step, {"peak_mb": meter.allocator_peak, "parameters": parameters})


if __name__ == "__main__":
    main()
