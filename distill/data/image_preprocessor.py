"""Images, brought to a model's size by its image processor and kept as bytes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import PreTrainedConfig

from distill.core.errors import UserError
from distill.data.images import Pixels, decode, image_bytes
from distill.data.preprocessor import Field, Preprocessor
from distill.data.views import ImageViews
from distill.modeling.image_networks import check_image_size, feature_map_sizes
from distill.modeling.inputs import PIXELS
from distill.modeling.loading import load_image_processor

VIEW_KEY = "view_key"
"""Encoded column of the numbers that views are drawn from."""
# Height and width of the images that a processor is tried on.
TRIALS = ((64, 48), (40, 96))


@dataclass(frozen=True)
class PixelDecoder:
    """Turns stored pixels into a model's inputs: ``(x * scale - mean) / deviation``.

    Attributes:
        shape: channels, height and width of an image.
        scale: factor of the bytes.
        mean: of each channel, subtracted.
        deviation: of each channel, the divisor.
    """

    shape: tuple[int, int, int]
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, column: Sequence[bytes]) -> NDArray[np.float32]:
        """Return images ``(B, C, H, W)`` of their bytes."""
        pixels = np.frombuffer(b"".join(column), dtype=np.uint8).reshape(-1, *self.shape)
        factor = np.array([self.scale / deviation for deviation in self.deviation], np.float32)
        offset = np.array(
            [mean / deviation for mean, deviation in zip(self.mean, self.deviation, strict=True)],
            np.float32,
        )
        normalized: NDArray[np.float32] = pixels * factor[:, None, None]
        normalized -= offset[:, None, None]
        return normalized


class ImagePreprocessor(Preprocessor[Any]):
    """Resizes and crops images as the model's processor does, and keeps them as bytes.

    They become numbers when a batch is made. An example's cost is its number of bytes, the same for
    all.

    Args:
        cache_key: see :class:`~distill.data.preprocessor.Preprocessor`.
        augmentation: views that training draws from: ``crop``, ``crop_flip``, or none.
        views: number of views of each image.

    Raises:
        UserError: for another augmentation, or no views.
    """

    def __init__(self, cache_key: str, augmentation: str | None = None, views: int = 8):
        if augmentation not in (None, "crop", "crop_flip"):
            raise UserError(f"task.augmentation={augmentation}: choose null, crop or crop_flip")
        if views < 1:
            raise UserError(f"task.views={views}: it must be 1 or more")
        self._cache_key, self.augmentation, self.view_count = cache_key, augmentation, views

    @property
    def cache_key(self) -> str:
        """Every setting that changes what :meth:`encode` returns."""
        return self._cache_key if self.augmentation is None else f"{self._cache_key}, views"

    def load_processor(self, path: str, description: str) -> Any:
        """Load the image processor saved beside a model."""
        processor = load_image_processor(path, description)
        output_shape(processor, description)
        return processor

    def check_processor(self, processor: Any, max_length: int) -> None:
        """Accept every processor that was loaded."""

    def check_model(self, config: PreTrainedConfig, processor: Any, description: str) -> None:
        """Refuse a network that cannot read what the processor makes."""
        channels, height, width = output_shape(processor, description)
        check_image_size(config, (height, width), channels, description)

    def feature_maps(
        self, config: PreTrainedConfig, processor: Any
    ) -> dict[str, tuple[int, int, int]]:
        """Return channels, height and width of a network's maps of the processor's images."""
        channels, height, width = output_shape(processor, "the model")
        return feature_map_sizes(config, (height, width), channels)

    def processor_hash(self, processor: Any) -> str:
        """Return everything that determines what the processor gives a model."""
        return json.dumps(processor.to_dict(), sort_keys=True, default=str)

    def same_inputs(self, first: Any, second: Any) -> bool:
        """Return whether two processors turn every image into the same numbers."""
        return self.processor_hash(first) == self.processor_hash(second)

    def encode(self, processor: Any, rows: Mapping[str, list], max_length: int) -> dict[str, list]:
        """Return the bytes of each image ``(C, H, W)``."""
        pixels = load_pixels(processor, rows["image"])
        encoded = {PIXELS: [image.tobytes() for image in pixels], "label": rows["label"]}
        if self.augmentation is not None:
            encoded[VIEW_KEY] = [content_number(cell) for cell in rows["image"]]
        return encoded

    def views(self, processor: Any) -> ImageViews | None:
        """Return shifted and mirrored views, if there are to be any."""
        if self.augmentation is None:
            return None
        shape = output_shape(processor, "the image processor")
        mirrors = self.augmentation == "crop_flip"
        return ImageViews(PIXELS, VIEW_KEY, shape, self.view_count, mirrors)

    @property
    def training_settings(self) -> dict[str, Any]:
        """The views, if there are any."""
        if self.augmentation is None:
            return {}
        return {"augmentation": self.augmentation, "views": self.view_count}

    def cost(self, encoded: Mapping[str, list]) -> list[int]:
        """Return the number of bytes of each image."""
        return [len(image) for image in encoded[PIXELS]]

    def fields(self, processor: Any) -> tuple[Field, ...]:
        """Declare the normalized pixels."""
        shape = output_shape(processor, "the image processor")
        mean, deviation = (0.0,) * shape[0], (1.0,) * shape[0]
        if getattr(processor, "do_normalize", False):
            mean, deviation = (
                _per_channel(values, shape[0])
                for values in (processor.image_mean, processor.image_std)
            )
        scale = processor.rescale_factor if getattr(processor, "do_rescale", False) else 1.0
        decoder = PixelDecoder(shape, float(scale), mean, deviation)
        return (Field(PIXELS, padded=False, dtype="float32", decode=decoder),)

    def example_inputs(self, config: PreTrainedConfig, cost: int) -> dict[str, Tensor]:
        """Return one image of the size that the configuration names, else a square one."""
        channels = getattr(config, "num_channels", None) or 3
        size = getattr(config, "image_size", None) or round((cost / channels) ** 0.5)
        height, width = (size, size) if isinstance(size, int) else size
        return {PIXELS: torch.zeros(1, channels, int(height), int(width))}


def content_number(cell: Mapping[str, Any]) -> int:
    """Return a number that stands for the content of an image file."""
    return int.from_bytes(hashlib.sha256(image_bytes(cell)).digest()[:8], "little", signed=True)


def load_pixels(processor: Any, cells: Sequence[Mapping[str, Any]]) -> list[Pixels]:
    """Return images as a processor resizes and crops them, ``(C, H, W)`` each, not normalized."""
    if number_of_channels(processor) == 1:
        # transformers' processors refuse images of one channel.
        height, width = processor.size["height"], processor.size["width"]
        images = [decode(cell).convert("L") for cell in cells]
        return [
            np.asarray(
                image
                if image.size == (width, height)
                else image.resize((width, height), Image.Resampling(processor.resample))
            )[None]
            for image in images
        ]
    images = [decode(cell).convert("RGB") for cell in cells]
    return list(_run(processor, images))


def number_of_channels(processor: Any) -> int:
    """Return the channels of the images that a processor makes, 1 or 3."""
    mean = getattr(processor, "image_mean", None)
    return 1 if isinstance(mean, list | tuple) and len(mean) == 1 else 3


def output_shape(processor: Any, description: str) -> tuple[int, int, int]:
    """Return channels, height and width of what a processor makes of any image.

    Raises:
        UserError: if they depend on the image.
    """
    if number_of_channels(processor) == 1:
        size = dict(processor.size)
        if set(size) != {"height", "width"} or not getattr(processor, "do_resize", False):
            raise UserError(f"{description}: for images of one channel it must resize to one size")
        return 1, size["height"], size["width"]
    return _tried_shape(_Hashed(processor), description)


class _Hashed:
    """A processor that a cache finds again by its settings."""

    def __init__(self, processor: Any):
        self.processor = processor
        self.key = json.dumps(processor.to_dict(), sort_keys=True, default=str)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self.key == other.key


@lru_cache
def _tried_shape(hashed: _Hashed, description: str) -> tuple[int, int, int]:
    shapes = set()
    for height, width in TRIALS:
        image = Image.fromarray(np.zeros((height, width, 3), np.uint8))
        try:
            shapes.add(_run(hashed.processor, [image])[0].shape)
        except Exception as error:  # whatever a processor of any model raises
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{description}: its image processor fails: {reason}") from error
    if len(shapes) > 1:
        raise UserError(
            f"{description}: its image processor keeps the images' own sizes or proportions, "
            "which cannot stand in one batch: let it resize to one height and width"
        )
    channels, height, width = shapes.pop()
    return int(channels), int(height), int(width)


def _run(processor: Any, images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Return images ``(N, C, H, W)`` resized and cropped, their values as they were."""
    result = processor(
        images=list(images), do_rescale=False, do_normalize=False, return_tensors="np"
    )
    pixels = np.asarray(result[PIXELS])
    assert pixels.dtype == np.uint8, "neither rescaled nor normalized"
    return pixels


def _per_channel(values: float | Sequence[float], channels: int) -> tuple[float, ...]:
    if isinstance(values, int | float):
        return (float(values),) * channels
    return tuple(map(float, values))
