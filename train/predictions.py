"""What a network made of each image of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FILE = "predictions.json"  # in a run's folder: that of its last evaluation
_DIGITS = 4  # of a confidence there


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of every sample, in the order in which they were given.

    Attributes:
        labels: the true classes, int64 ``[samples]``, at least one.
        predicted: the classes with the largest logits, int64 ``[samples]``.
        confidence: their softmax probabilities, float32 ``[samples]``; NaN where the logits are.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share that is classified correctly, 0 to 1."""
        return int(np.count_nonzero(self.labels == self.predicted)) / len(self.labels)

    def mistakes(self, most: int) -> np.ndarray:
        """Places of the wrong ones, the most confident first: int64, at most ``most`` of them."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        order = np.argsort(-self.confidence[wrong], kind="stable")  # NaN comes last
        return wrong[order[:most]]

    def to_json(self) -> dict[str, list]:
        """Lists by name; a confidence that is not finite is None."""
        confidence = [
            round(float(one), _DIGITS) if np.isfinite(one) else None for one in self.confidence
        ]
        return {
            "labels": self.labels.tolist(),
            "predicted": self.predicted.tolist(),
            "confidence": confidence,
        }

    @classmethod
    def of_json(cls, content: dict) -> Predictions:
        """From what :meth:`to_json` gave."""
        return cls(
            np.array(content["labels"], np.int64),
            np.array(content["predicted"], np.int64),
            np.array(content["confidence"], np.float32),  # None becomes NaN
        )
