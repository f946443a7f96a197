"""A linear model on pixels: what can be told without looking at an image as a whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from distill.baselines.base import PIXELS, Baseline, BaselineData, Costs, StoredBaseline
from distill.baselines.linear import LIBRARY_NAMES, Floats, Linear, fit_best
from distill.data.columns import iter_values
from distill.data.dataset import DistillationDataset
from distill.data.images import decode, image_bytes

# Maximum number of training examples: more take longer and change little. Prepared rows are in the
# order of a hash, so that the first are a random sample.
MAX_EXAMPLES = 10_000
# Inverse strengths of the penalty that are tried: fits on pixels take a few seconds each.
STRENGTHS = (0.01, 0.1, 1.0)
# Maximum height and width: larger images are reduced to them.
MAX_SIDE = 32
# Images that are looked at for colors and size.
SAMPLE = 500


class LinearPixelModel(StoredBaseline):
    """A linear model on the pixels of an image, reduced to a fixed size.

    Args:
        name: what it is, for the report.
        size: height and width that images are brought to.
        mode: ``L`` for greys, ``RGB`` for colors.
        model: weights of the pixels.
    """

    reads: ClassVar[str] = "the image"

    def __init__(self, name: str, size: tuple[int, int], mode: str, model: Linear):
        self.name, self.size, self.mode, self.model = name, size, mode, model

    def predict(self, examples: DistillationDataset) -> Floats:
        """Return logits ``(N, C)``."""
        assert examples.source is not None
        logits: Floats = self.logits(features(iter_values(examples.source, "image"), self))
        return logits

    def predict_row(self, row: Mapping[str, Any]) -> Floats:
        """Return the logits of one row, ``(1, C)``."""
        return self.logits(features([row["image"]], self))

    def logits(self, pixels: Floats) -> Floats:
        """Return logits ``(N, C)`` of pixels ``(N, F)``."""
        logits: Floats = pixels @ self.model.weights + self.model.intercept
        return logits

    def costs(self, examples: DistillationDataset) -> Costs:
        """Return the size."""
        return Costs(
            parameters=self.model.parameters,
            bytes=4 * self.model.parameters,
            multiply_accumulates=self.model.weights.size,
        )

    def save(self, folder: Path) -> None:
        """Write weights, size and name."""
        np.savez(folder / "model.npz", weights=self.model.weights, intercept=self.model.intercept)
        content = {"name": self.name, "size": self.size, "mode": self.mode}
        (folder / "pixels.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        with np.load(folder / "model.npz") as stored:
            model = Linear(stored["weights"], stored["intercept"])
        content = json.loads((folder / "pixels.json").read_text(encoding="utf-8"))
        height, width = content["size"]
        return cls(content["name"], (height, width), content["mode"], model)


class Pixels(Baseline):
    """Logistic regression on pixels from 0 to 1.

    Images larger than 32 pixels are reduced to that, those of several sizes to the first one's.
    Greys count once. The strength of the L2 penalty is the one of three that scores best on
    validation.
    """

    role: ClassVar[str] = PIXELS
    stored = LinearPixelModel

    def fit(self, data: BaselineData) -> LinearPixelModel:
        """Fit to the labeled training examples, at most ``MAX_EXAMPLES``."""
        source = data.train.source
        assert source is not None
        count = min(len(source), MAX_EXAMPLES)
        rows, labels = source.select(range(count)), data.train.label_values[:count]
        sample = list(iter_values(rows.select(range(min(count, SAMPLE))), "image"))
        mode = "L" if all(_is_grey(cell) for cell in sample) else "RGB"
        with Image.open(io.BytesIO(image_bytes(sample[0]))) as image:
            width, height = (min(side, MAX_SIDE) for side in image.size)
        empty = Linear(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
        fitted = LinearPixelModel("", (height, width), mode, empty)
        assert data.validation.source is not None
        validation = features(iter_values(data.validation.source, "image"), fitted)
        fitted.model, strength = fit_best(
            "categorical", features(iter_values(rows, "image"), fitted), labels, data.outputs,
            lambda model: data.score(validation @ model.weights + model.intercept), STRENGTHS,
        )  # fmt: skip
        fitted.name = f"{LIBRARY_NAMES['categorical']} on pixels, C={strength:g}"
        if count < len(source):
            fitted.name += f", fitted to {count:,} examples"
        return fitted


def features(cells: Iterable[Mapping[str, Any]], model: LinearPixelModel) -> Floats:
    """Return the pixels of images, from 0 to 1, ``(N, F)``."""
    pixels = np.stack(list(_pixels(cells, model.size, model.mode))).astype(np.float32)
    return pixels / np.float32(255)


def _pixels(
    cells: Iterable[Mapping[str, Any]], size: tuple[int, int], mode: str
) -> Iterator[np.ndarray]:
    height, width = size
    for cell in cells:
        image = decode(cell).convert(mode)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        yield np.asarray(image, dtype=np.uint8).reshape(-1)


def _is_grey(cell: Mapping[str, Any]) -> bool:
    image = decode(cell)
    if image.mode in ("1", "L", "LA"):
        return True
    colors = np.asarray(image.convert("RGB"))
    return bool((np.diff(colors, axis=2) == 0).all())
