"""The linear model on pixels."""

import numpy as np
import pytest
from datasets import Dataset, Features
from sklearn.linear_model import LogisticRegression

from distill.baselines.base import BaselineData
from distill.baselines.pixels import LinearPixelModel, Pixels
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.data.images import CELL, array_cell
from tests.images import image_array

LABELS = np.arange(60) % 2


def examples(images: np.ndarray) -> DistillationDataset:
    cells = [array_cell(image) for image in images]
    source = Dataset.from_dict({"image": cells}, features=Features({"image": CELL}))
    rows = Dataset.from_dict({"label": LABELS[: len(cells)], "length": [1] * len(cells)})
    return DistillationDataset(rows, PaddingCollator(()), source=source)


def fitted(images: np.ndarray) -> LinearPixelModel:
    train = examples(images)

    def score(logits):
        return float((logits.argmax(axis=1) == LABELS).mean())

    return Pixels().fit(BaselineData(train, train, ["bottom", "top"], 2, score))


@pytest.mark.parametrize(("colors", "features"), [(False, 64), (True, 192)])
def test_it_is_logistic_regression_on_pixels(colors, features):
    images = image_array(60, 1, colors=colors)
    model = fitted(images)
    assert model.model.weights.shape == (features, 2)
    strength = float(model.name.rpartition("=")[2])
    oracle = LogisticRegression(C=strength, max_iter=300).fit(images.reshape(60, -1) / 255, LABELS)
    logits = model.predict(examples(images))
    assert np.array_equal(logits.argmax(axis=1), oracle.predict(images.reshape(60, -1) / 255))
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], oracle.decision_function(images.reshape(60, -1) / 255),
        atol=1e-3,
    )  # fmt: skip


def test_large_images_are_reduced_and_three_equal_channels_count_once():
    grey = image_array(60, 1, side=48)
    model = fitted(np.stack([grey] * 3, axis=-1))
    assert (model.size, model.mode) == ((32, 32), "L")
    assert (model.predict(examples(grey)).argmax(axis=1) == LABELS).mean() > 0.9


def test_it_is_saved_and_loaded(tmp_path):
    images = image_array(60, 1)
    model = fitted(images)
    model.save(tmp_path)
    loaded = LinearPixelModel.load(tmp_path)
    rows = examples(images)
    assert loaded.name == model.name
    assert np.array_equal(loaded.predict(rows), model.predict(rows))
    assert np.array_equal(loaded.predict_row(rows.source[3])[0], model.predict(rows)[3])
    assert loaded.costs(rows).multiply_accumulates == 128
