"""What an evaluation predicted, and how it is kept."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from train.data.datasets import load_dataset
from train.predictions import Predictions
from train.run.last_evaluation import LastEvaluation, predictions_file


def predictions(labels, predicted, confidence) -> Predictions:
    return Predictions(
        np.array(labels), np.array(predicted), np.array(confidence, dtype=np.float32)
    )


def test_the_most_confident_mistakes_come_first():
    found = predictions(
        [0, 0, 1, 1, 2, 2], [1, 0, 0, 2, 0, 1], [0.5, 1.0, np.nan, 0.9, 0.5, np.nan]
    )
    assert found.accuracy == 1 / 6
    assert found.mistakes(9).tolist() == [3, 0, 4, 2, 5]  # equal ones, and NaN, in order
    assert found.mistakes(2).tolist() == [3, 0]
    assert predictions([1], [1], [1.0]).mistakes(3).tolist() == []


def test_predictions_survive_json():
    before = LastEvaluation(3, predictions([0, 1], [1, 1], [0.123449, np.inf]))
    epoch, after = LastEvaluation.of_json(json.loads(json.dumps(before.to_json())))
    assert epoch == 3
    assert after.labels.tolist() == [0, 1] and after.predicted.tolist() == [1, 1]
    assert after.confidence[0] == np.float32(0.1234) and np.isnan(after.confidence[1])


@pytest.mark.parametrize(("size", "kind", "side"), [(32, "png", 32), (200, "jpeg", 144)])
def test_pictures_are_those_of_the_mistakes(size, kind, side):
    data = load_dataset("digits", size)
    predicted = data.test.labels.copy()
    predicted[[7, 100]] = (predicted[[7, 100]] + 1) % 5
    confidence = np.linspace(0.2, 0.9, len(predicted))
    last = LastEvaluation(1, predictions(data.test.labels, predicted, confidence))
    content = predictions_file(last, data, data.test)
    assert content["classes"] == ["5", "6", "7", "8", "9"]
    assert [one["image"] for one in content["mistakes"]] == [100, 7]
    for one in content["mistakes"]:
        head, encoded = one["picture"].split(",")
        assert head == f"data:image/{kind};base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
        assert picture.shape == (side, side, 3)
        (pixels,) = data.test.images.take(np.array([one["image"]]))
        expected = np.asarray(Image.fromarray(pixels).resize((side, side)))
        assert np.abs(picture.astype(int) - expected).mean() < (0.5 if size == side else 6)
