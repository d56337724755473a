"""AdaBet for a Keras model that you hold: which layers to retrain, and retraining them.

    select_layers(model, images, rho=0.1)     -> Selection
    selection.apply(model)                    sets ``trainable`` for Keras' own ``fit``
    retrain(model, selection, dataset)        the lean training step, with Keras' callbacks
    estimate_memory(model, selection, 8)      what a step takes, in MB

Models are functional or sequential ones of Keras 2 (``tf.keras``; from TensorFlow 2.16 on the
package ``tf_keras``), nested ones too, from pictures of a fixed square size to classes. What they
expect of pixels is yours to give: nothing is preprocessed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from common.environment import load_tensorflow

tf = load_tensorflow()

from common.errors import RunError, UserError  # noqa: E402 (TensorFlow has to be prepared first)
from memory_utils import MemoryEstimate  # noqa: E402
from memory_utils import estimate_memory as _estimate  # noqa: E402
from models.flat.own_model import OwnModel, own_model  # noqa: E402
from models.trained import Trained, ranks_of  # noqa: E402
from selection.registry import TRAIN_TYPES, train_type_named  # noqa: E402
from selection.request import SelectionRequest  # noqa: E402
from selection.selection import LayerChoice  # noqa: E402
from selection.selection import Selection as _Chosen  # noqa: E402
from train.config import paper_constants as paper  # noqa: E402
from train.optimizer import LearningRateSchedule  # noqa: E402
from train.trainer import Trainer  # noqa: E402

__all__ = [
    "TRAIN_TYPES",
    "MemoryEstimate",
    "RunError",
    "Selection",
    "UserError",
    "estimate_memory",
    "retrain",
    "select_layers",
]

Batches = Iterable[tuple[Any, Any]]
Data = Union[tuple[np.ndarray, np.ndarray], Batches]


@dataclass(frozen=True)
class Selection:
    """Which layers of a model are retrained, and why.

    Attributes:
        chosen: the rows of all layers with their scores, as in a run's ``selection.json``.
    """

    chosen: _Chosen

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """Every layer's row, in execution order: name, b1, |a|, score, rank, selected..."""
        return self.chosen.layers

    @property
    def names(self) -> list[str]:
        """The selected layers' names, in execution order."""
        return [row.name for row in self.chosen.selected]

    def figure(self, title: str = "") -> Any:
        """The scores, sizes and ranks of all layers as a picture, a ``matplotlib`` Figure.

        >>> selection = select_layers(small_model(), pictures(), rho=0.5)
        >>> selection.figure("my model").savefig("/dev/null", format="png")
        """
        from train.report.selection_figure import (
            selection_figure,  # matplotlib takes a second to import
        )

        return selection_figure(self.chosen, title)

    def apply(self, model: Any) -> list[str]:
        """Set ``trainable`` on the layers of ``model``, so that Keras' ``fit`` trains these alone.

        >>> model = small_model()
        >>> selection = select_layers(model, pictures(), train_type="last_k_training", rho=0.5)
        >>> selection.apply(model)
        []
        >>> [layer.name for layer in model.layers if layer.trainable and layer.weights]
        ['second', 'classes']

        Compile the model after that, as always in Keras.

        Args:
            model: the one it was made for, or one of the same architecture.

        Returns:
            What cannot be said by ``trainable``, a line each: a share of the channels, biases
            alone, one half of a separable convolution, batch norm by its moving statistics.

        Raises:
            UserError: ``model`` has other layers.
        """
        own = own_model(model)
        trained = _trained(own, self)
        origins = {id(own.origin(one.layer)) for one in trained}
        for layer in _leaves(model):
            layer.trainable = id(layer) in origins
        return _not_said(own, trained)


def select_layers(
    model: Any,
    images: np.ndarray,
    rho: float = paper.RHO,
    *,
    train_type: str = "act_norm_betti_train",
    rho_ch: float = 1.0,
    labels: Optional[np.ndarray] = None,
    batch_size: int = paper.BATCH_SIZE,
    seed: int = 0,
) -> Selection:
    """The layers of ``model`` that are worth retraining on pictures like ``images``.

    >>> model = small_model()
    >>> selection = select_layers(model, pictures(), rho=0.5)
    >>> len(selection.names), len(selection.layers)
    (2, 4)
    >>> all(row.b1 is not None for row in selection.layers)
    True

    Args:
        model: it stays as it is.
        images: ``[n, size, size, channels]`` as the model takes them; all of them are pooled, for
            AdaBet about 40 are enough (the paper, appendix D.3).
        rho: share of the layers, 0 to 1.
        train_type: a criterion, of those in ``TRAIN_TYPES`` that select once.
        rho_ch: share of the output channels of each selected layer (paper section 4.2.4).
        labels: ``[n]`` integers; for ``fisher_training`` and ``autorgn_training`` alone.
        batch_size: images that go through the model at a time.
        seed: of what is drawn at random.

    Raises:
        UserError: the model is of no kind that can be taken apart, or something does not fit.
        RunError: activations are not finite.
    """
    entry = train_type_named(train_type)
    if entry.schedule != "once":
        raise UserError(f"{train_type} selects again during training: use main.py for it")
    if entry.cost.endswith("gradients") and labels is None:
        raise UserError(f"{train_type} looks at labels: give labels")
    own = own_model(model)
    _check_images(own, images)
    # As the tool's own pipeline gives them: float32, whatever they came as.
    pixels = np.asarray(images, np.float32)
    size = min(batch_size, len(pixels))
    request = SelectionRequest(
        network=own.network,
        rho=rho,
        always_head=False,
        batch_size=size,
        num_batches=math.ceil(len(pixels) / size),
        sample_images=lambda count: pixels[:count],
        labelled_images=lambda count: (pixels[:count], np.asarray(labels, np.int64)[:count]),
        seed=seed,
        rho_ch=rho_ch,
    )
    return Selection(entry.select(request))


def retrain(  # noqa: PLR0913 - as Keras' own fit
    model: Any,
    selection: Selection,
    dataset: Data,
    *,
    validation_data: Optional[Data] = None,
    epochs: int = 1,
    batch_size: int = paper.BATCH_SIZE,
    learning_rate: float = paper.LEARNING_RATE,
    weight_decay: float = paper.WEIGHT_DECAY,
    micro_batch: Optional[int] = None,
    callbacks: Sequence[Any] = (),
    seed: int = 0,
    verbose: int = 0,
) -> Any:
    """Train what was selected, by SGDW and the lean step: ``model`` has the new values after it.

    >>> model, x, y = small_model(), pictures(), np.arange(16) % 3
    >>> before = model.get_layer("first").get_weights()[0]
    >>> selection = select_layers(model, x, train_type="last_k_training", rho=0.5)
    >>> history = retrain(model, selection, (x, y), epochs=2, learning_rate=0.01)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    >>> bool((model.get_layer("first").get_weights()[0] == before).all())
    True

    The loss is the mean cross-entropy. Batch norm goes by its moving statistics, and does not
    change them. Learning rate and weight decay fall along a cosine over all epochs, as in the paper
    (appendix C). The last layer's softmax, if there is one, is left out while training.

    Args:
        model: ends in a classifier.
        selection: of that model.
        dataset: ``(images, labels)`` as arrays, shuffled anew in each epoch, or batches of both: a
            ``tf.data.Dataset``, or anything that can be gone through again. Labels are integers.
        validation_data: likewise; its loss is not computed, its accuracy is ``val_accuracy``.
        batch_size: of arrays.
        micro_batch: images computed at a time; see ``--micro_batch``.
        callbacks: Keras' own, such as ``EarlyStopping``; those that reach into an optimizer find
            none.
        verbose: 1 for Keras' progress bar.

    Returns:
        Keras' ``History``: ``loss``, ``accuracy`` and, with validation data, ``val_accuracy``.

    Raises:
        UserError: the selection is of another model, the model has no classifier, or the data do
            not fit.
        RunError: the loss is not finite; the model is then as it was after the last whole epoch.
    """
    own = own_model(model)
    classes = own.network.head.activation.shape[-1]
    steps = _steps(dataset, batch_size)
    rates = LearningRateSchedule(learning_rate, weight_decay, max(1, epochs * steps))
    trainer = Trainer(
        own.network, _trained(own, selection), rates, seed=seed, micro_batch=micro_batch
    )
    report = tf.keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        add_progbar=verbose > 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )
    history = next(one for one in report if isinstance(one, tf.keras.callbacks.History))
    model.stop_training = False
    report.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(epochs):
        report.on_epoch_begin(epoch)
        batches = _batches(own, dataset, batch_size, classes, (seed, epoch))
        logs = _train_epoch(trainer, batches, report)
        if validation_data is not None:
            batches = _batches(own, validation_data, batch_size, classes)
            logs["val_accuracy"] = trainer.evaluate(batches).accuracy
        own.write_back()
        report.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    report.on_train_end(logs)
    return history


def estimate_memory(
    model: Any,
    selection: Optional[Selection],
    batch_size: int,
    micro_batch: Optional[int] = None,
) -> MemoryEstimate:
    """What one step of :func:`retrain` takes; ``total`` is in MB of 1e6 bytes.

    >>> model = small_model()
    >>> selection = select_layers(model, pictures(), train_type="last_k_training", rho=0.25)
    >>> estimate_memory(model, selection, 8).total < estimate_memory(model, None, 8).total
    True

    Args:
        selection: None for every layer.
        batch_size: images per step.
        micro_batch: images computed at a time.
    """
    own = own_model(model)
    if selection is None:
        variables = [one for layer in own.network.layers for one in layer.variables]
        return _estimate(own.network, variables, batch_size, micro_batch=micro_batch)
    trained = _trained(own, selection)
    return _estimate(
        own.network,
        [one.variable for one in trained],
        batch_size,
        shares={one.variable.ref(): one.share for one in trained},
        ranks=ranks_of(trained),
        micro_batch=micro_batch,
    )


def _trained(own: OwnModel, selection: Selection) -> list[Trained]:
    rows, layers = selection.chosen.layers, own.network.layers
    fits = len(rows) == len(layers) and all(
        (row.type, row.params) == (layer.type, layer.params) for row, layer in zip(rows, layers)
    )
    if not fits:
        raise UserError(
            f"the selection is of another model than {own.model.name}: its {len(rows)} layers are "
            f"not the {len(layers)} of this one"
        )
    return selection.chosen.trained(layers)


def _leaves(model: Any) -> Iterator[Any]:
    """The layers that are no models; those are made trainable, so that what is in them counts."""
    model.trainable = True
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _not_said(own: OwnModel, trained: Sequence[Trained]) -> list[str]:
    """What of a selection ``trainable`` cannot say."""
    lines: dict[str, None] = {}
    chosen = {one.variable.ref() for one in trained}
    for one in trained:
        layer, name = one.layer, one.layer.name
        if one.channels is not None:
            lines[f"{name}: {len(one.channels)} channels are selected, Keras trains all"] = None
        if one.factor_rank is not None:
            lines[f"{name}: factors of its kernel are selected, Keras trains the kernel"] = None
        origin = own.origin(layer)
        parts = own.parts(origin)
        if any(weight.ref() not in chosen for part in parts for weight in part.trainable_weights):
            lines[f"{origin.name}: a part of its variables is selected, Keras trains all"] = None
        if layer.type == "batch_norm":
            lines[
                f"{name}: Keras normalises by each batch's statistics where batch norm is trained"
            ] = None
    return list(lines)


def _check_images(own: OwnModel, images: np.ndarray) -> None:
    expected = own.network.model.input_shape[1:]
    if np.ndim(images) != 4 or tuple(np.shape(images)[1:]) != tuple(expected) or not len(images):
        raise UserError(
            f"images have shape {np.shape(images)}: [n, {', '.join(map(str, expected))}] is needed"
        )


def _steps(data: Data, batch_size: int) -> int:
    """How many batches there are; gone through once where nothing says it."""
    if isinstance(data, tuple):
        return math.ceil(len(data[0]) / batch_size)
    if isinstance(data, Iterator):
        raise UserError("the dataset is an iterator, which can be gone through once: give batches")
    if isinstance(data, tf.data.Dataset):
        known = int(data.cardinality())
        if known == tf.data.INFINITE_CARDINALITY:
            raise UserError("the dataset never ends: give it take(...)")
        if known >= 0:
            return known
    return sum(1 for _ in data)


def _batches(
    own: OwnModel,
    data: Data,
    batch_size: int,
    classes: int,
    shuffled: Optional[tuple[int, int]] = None,
) -> Iterator[tuple[Any, Any]]:
    """Batches as the trainer takes them: float32 images, int64 labels."""
    for images, labels in _raw_batches(data, batch_size, shuffled):
        labels = tf.cast(labels, tf.int64)
        if labels.shape.rank != 1:
            raise UserError(f"labels have shape {tuple(labels.shape)}: [n] integers are needed")
        _check_images(own, images)
        low, high = int(tf.reduce_min(labels)), int(tf.reduce_max(labels))
        if low < 0 or high >= classes:
            raise UserError(f"labels go from {low} to {high}, the model has {classes} classes")
        yield tf.cast(images, tf.float32), labels


def _raw_batches(
    data: Data, batch_size: int, shuffled: Optional[tuple[int, int]]
) -> Iterator[tuple[Any, Any]]:
    if not isinstance(data, tuple):
        yield from data
        return
    images, labels = (np.asarray(one) for one in data)
    if len(images) != len(labels) or not len(images):
        raise UserError(f"there are {len(images)} images and {len(labels)} labels")
    order = np.arange(len(images))
    if shuffled is not None:
        order = np.random.default_rng(shuffled).permutation(len(images))
    for start in range(0, len(images), batch_size):
        some = order[start : start + batch_size]
        yield images[some], labels[some]


def _train_epoch(trainer: Trainer, batches: Iterator, report: Any) -> dict[str, float]:
    number = 0

    def on_step(loss: float, accuracy: float) -> None:
        nonlocal number
        report.on_train_batch_end(number, {"loss": loss, "accuracy": accuracy})
        number += 1

    result = trainer.train_epoch(batches, on_step)
    assert result.loss is not None and result.accuracy is not None, "there was a batch"
    return {"loss": result.loss, "accuracy": result.accuracy}
