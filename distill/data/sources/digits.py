"""The handwritten digits that scikit-learn carries: 1,797 images of 8 x 8 pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset

from distill.core.errors import UserError
from distill.data.readers.image_files import as_rows, rows_of_arrays
from distill.data.sources.images import ImageSource

SHADES = 16
# Sizes of the splits: a tenth for test, as usual, could not show a difference of three points.
TEST, VALIDATION = 600, 197


@dataclass(kw_only=True)
class DigitsSource(ImageSource):
    """Handwritten digits (Alpaydin and Kaynak 1998, the test set of "Optical Recognition").

    They are split at random, always in the same way.

    Attributes:
        path: not used; the images come with scikit-learn.
    """

    path: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise UserError(
                f"data.path={self.path}: data=digits reads scikit-learn's own images, data=images "
                "reads yours"
            )

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Return the images, their 17 shades spread over a byte."""
        from sklearn.datasets import load_digits  # slow to import

        self.read_notes = []
        digits = load_digits()
        pixels = np.round(digits.images * (255 / SHADES)).astype(np.uint8)
        order = np.random.default_rng(0).permutation(len(pixels))
        parts = np.split(order, [TEST, TEST + VALIDATION])
        return {
            split: as_rows(rows_of_arrays(pixels[part], digits.target[part], "digits"))
            for split, part in zip(("test", "validation", "train"), parts, strict=True)
        }
