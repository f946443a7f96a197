"""Views of images: shifted and mirrored copies, a few for each image, the same wherever asked for.

Augmentation usually draws anew in every epoch, so that a teacher's outputs cannot be stored. Here
each image has K views, fixed by its content; a pass over the data draws one of them for each image.
Teacher and student see the same one, at whatever size each reads images, and the teacher's outputs
are stored for all K. Student and teacher have to agree on the view (Beyer et al. 2022, "Knowledge
distillation: A good teacher is patient and consistent", section 3.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.preprocessor import PassSeed

# Greatest shift as a fraction of height and width: 4 of 32 pixels, as usual for CIFAR.
SHIFT = 1 / 8
# Numbers of the draws that a view consists of.
ROW, COLUMN, MIRROR = range(3)

Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class ImageViews:
    """Views of the images of one model.

    Attributes:
        column: encoded column of the images, bytes.
        key: encoded column of the numbers that views are drawn from.
        shape: channels, height and width of an image.
        count: number of views of each image, K.
        mirrors: whether half of them are mirrored.
        fixed: the view of every image, whatever the pass; ``None``: one is drawn in each pass, and
            there are none in an evaluation.
    """

    column: str
    key: str
    shape: tuple[int, int, int]
    count: int
    mirrors: bool
    fixed: int | None = None

    def with_view(self, number: int) -> "ImageViews":
        """Return the same with one view of every image."""
        return replace(self, fixed=number)

    def numbers(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> NDArray[np.int64] | None:
        """Return the number of the view of each row, ``(B,)``; ``None``: the images themselves."""
        keys = np.asarray(rows[self.key], dtype=np.int64).astype(np.uint64)
        if self.fixed is not None:
            return np.full(len(keys), self.fixed)
        if pass_seed is None:
            return None
        seed, number = pass_seed
        drawn = _mix(_mix(keys, seed), number)
        return (drawn % np.uint64(self.count)).astype(np.int64)

    def __call__(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> dict[str, Any]:
        """Return the rows with their images shifted and mirrored, black where nothing is known."""
        numbers = self.numbers(rows, pass_seed)
        if numbers is None:
            return dict(rows)
        keys = np.asarray(rows[self.key], dtype=np.int64).astype(np.uint64)
        by_view = _mix(keys, numbers.astype(np.uint64))
        _, height, width = self.shape
        down, right = (
            np.rint((2 * _uniform(by_view, draw) - 1) * SHIFT * size).astype(int)
            for draw, size in ((ROW, height), (COLUMN, width))
        )
        mirrored = (_uniform(by_view, MIRROR) < 0.5) & self.mirrors
        images = [
            self._view(image, *view)
            for image, *view in zip(rows[self.column], down, right, mirrored, strict=True)
        ]
        return {**rows, self.column: images}

    def _view(self, image: bytes, down: int, right: int, mirrored: bool) -> bytes:
        pixels = np.frombuffer(image, np.uint8).reshape(self.shape)
        if mirrored:
            pixels = pixels[:, :, ::-1]
        shifted = np.zeros_like(pixels)
        target, source = zip(*(_slices(step) for step in (down, right)), strict=True)
        shifted[(slice(None), *target)] = pixels[(slice(None), *source)]
        return shifted.tobytes()


class LogitsByView:
    """Stored logits of each view.

    Args:
        views: logits of every example, by view.
    """

    def __init__(self, views: Sequence[Any]):
        self.views = views

    def __len__(self) -> int:
        return len(self.views[0])

    def at(self, indices: Sequence[int], numbers: NDArray[np.int64]) -> np.ndarray:
        """Return the logits of one view of each of B examples, ``(B, C)``."""
        examples = np.asarray(indices)
        result: np.ndarray | None = None
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            logits = self.views[number][examples[places].tolist()]
            if result is None:
                result = np.empty((len(examples), *logits.shape[1:]), logits.dtype)
            result[places] = logits
        assert result is not None, "a batch has examples"
        return result


def _slices(step: int) -> tuple[slice, slice]:
    """Return the target and the source of a shift by some pixels."""
    if step >= 0:
        return slice(step, None), slice(None, -step or None)
    return slice(None, step), slice(-step, None)


def _uniform(keys: Keys, draw: int) -> NDArray[np.float64]:
    """Return a number from 0 to 1 for each key."""
    mixed = _mix(keys, draw)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53


def _mix(keys: Keys, value: int | Keys) -> Keys:
    """Return numbers that depend on keys and a value (splitmix64, Steele et al. 2014)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        mixed = keys + golden * (np.asarray(value).astype(np.uint64) + np.uint64(1))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: Keys = mixed ^ (mixed >> np.uint64(31))
    return result
