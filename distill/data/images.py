"""Images in rows: the content of an image file, decoded when it is needed.

A cell is a record of ``bytes``, the content of a file in any format that Pillow reads, and
``path``, which names it in messages. That is how ``datasets`` stores images, too. Arrays become
files without compression (Netpbm's binary formats).
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image, ImageOps

from distill.core.errors import UserError
from distill.data.columns import describe_type
from distill.data.schema import InputType

Pixels = NDArray[np.uint8]

CELL = datasets.Image(decode=False)
"""Type of a column of images as rows hold them."""

# Modes of Pillow with more than 8 bits a channel, which a conversion would cut off.
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


class ImageInput(InputType):
    """A column of images."""

    has_faults = True

    def validate(self, role: str, split: str, feature: Any) -> None:
        """Raise a ``UserError`` if the column does not hold images."""
        if isinstance(feature, datasets.Image) or _is_record(feature):
            return
        raise UserError(
            f"the column of data.{role} holds {describe_type(feature)} in {split}, not images"
        )

    def is_empty(self, value: Mapping[str, Any] | None) -> bool:
        """Return whether there is no image."""
        return value is None or not (value["bytes"] or value["path"])

    def key(self, value: Mapping[str, Any]) -> str:
        """Return a hash of the file."""
        return hashlib.sha256(image_bytes(value)).hexdigest()

    def fault(self, value: Mapping[str, Any]) -> str | None:
        """Return why an image cannot be used, if it cannot."""
        described = f"the image {value['path']}" if value["path"] else "the image"
        try:
            with Image.open(io.BytesIO(image_bytes(value))) as image:
                if image.mode in DEEP_MODES:
                    return f"{described} has more than 8 bits a channel (mode {image.mode})"
                image.load()
        except Exception as error:  # Pillow's readers raise whatever their formats come upon
            reason = " ".join(str(error).split())[:120]
            if "cannot identify" in reason:
                reason = "it is no image file that Pillow reads"
            return f"{described} cannot be read: {reason or type(error).__name__}"
        return None


def image_bytes(cell: Mapping[str, Any]) -> bytes:
    """Return the content of an image file."""
    content = cell["bytes"]
    return Path(cell["path"]).read_bytes() if content is None else content


def decode(cell: Mapping[str, Any]) -> Image.Image:
    """Return an image, upright, as transformers' pipelines load it, but in its own mode."""
    with Image.open(io.BytesIO(image_bytes(cell))) as image:
        upright: Image.Image = ImageOps.exif_transpose(image)
        upright.load()
        return upright


def array_cell(pixels: Pixels, name: str = "") -> dict[str, Any]:
    """Return the cell of an array, ``(H, W)`` of greys or ``(H, W, 3)`` of red, green and blue."""
    height, width = pixels.shape[:2]
    kind = b"P5" if pixels.ndim == 2 else b"P6"
    header = b"%s %d %d 255\n" % (kind, width, height)
    return {"bytes": header + np.ascontiguousarray(pixels).tobytes(), "path": name}


def as_cells(rows: Dataset) -> Dataset:
    """Return rows whose columns of images hold cells, which are not decoded when they are read."""
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image) and feature.decode:
            rows = rows.cast_column(name, CELL)
    return rows


def common_size(cells: Iterable[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return the height and width of all images; ``None`` if they differ."""
    sizes = set()
    for cell in cells:
        with Image.open(io.BytesIO(image_bytes(cell))) as image:
            sizes.add(image.size)
        if len(sizes) > 1:
            return None
    ((width, height),) = sizes
    return height, width


def mean_and_deviation(images: Iterable[Pixels]) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel, of pixels from 0 to 1.

    Args:
        images: one or more, ``(C, H, W)``.

    Returns:
        C numbers each, rounded to four decimal places; deviations of at least 1/255.
    """
    total, squares, count = np.zeros(1), np.zeros(1), 0
    for image in images:
        pixels = image.astype(np.float64) / 255
        total, squares = total + pixels.sum((1, 2)), squares + (pixels**2).sum((1, 2))
        count += pixels[0].size
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 255.0**-2))
    return [round(float(x), 4) for x in mean], [round(float(x), 4) for x in deviation]


def _is_record(feature: Any) -> bool:
    return isinstance(feature, Mapping) and set(feature) == {"bytes", "path"}
