"""Images for tests: bright at the top or at the bottom, and their processor."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import ViTImageProcessorPil

from distill.data.images import array_cell

SIDE = 8
CLASSES = ("bottom", "top")


def image_array(count: int, seed: int, side: int = SIDE, colors: bool = False) -> np.ndarray:
    """Return images ``(N, H, W)`` or ``(N, H, W, 3)`` of the classes bottom, top, bottom, ..."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 120, (count, side, side, 3) if colors else (count, side, side))
    images[0::2, side // 2 :] += 100
    images[1::2, : side // 2] += 100
    return images.astype(np.uint8)


def image_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of an image and its class."""
    return [
        {"image": array_cell(image, f"{index}"), "label": CLASSES[index % 2]}
        for index, image in enumerate(image_array(count, seed))
    ]


def write_folder(folder: Path, count: int = 40, suffix: str = "png", colors: bool = False) -> Path:
    """Write a folder for each class with images called 000, 001, ... over both."""
    for index, image in enumerate(image_array(count, 1, colors=colors)):
        file = folder / CLASSES[index % 2] / f"{index:03d}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


def image_processor(side: int, mean: float = 0.4, deviation: float = 0.25) -> ViTImageProcessorPil:
    """Return transformers' processor that resizes to a square and normalizes."""
    return ViTImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[mean] * 3, image_std=[deviation] * 3
    )
