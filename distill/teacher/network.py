"""A teacher for images that starts from random weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageClassification, PreTrainedConfig

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.image_preprocessor import load_pixels
from distill.data.images import common_size, mean_and_deviation
from distill.data.prepare import PreparedData
from distill.modeling import loading
from distill.modeling.image_networks import check_image_size, network_config
from distill.teacher.config import TeacherConfig

# Training images whose sizes, mean and deviation are taken. Prepared rows are in the order of a
# hash: the first are a random sample.
SAMPLE = 2000
PROVISIONAL_SIZE = (32, 32)
NETWORKS = "networks"
"""Folder in the cache for networks with random weights."""


@dataclass(kw_only=True)
class NetworkTeacher(TeacherConfig):
    """A network for images with random weights, which is trained like any teacher, and kept.

    Attributes:
        path: its folder with random weights, once the data are known.
        shape: name of the shape, see :data:`~distill.modeling.image_networks.SHAPES`.
        settings: fields of the network's configuration that differ from the shape.
        image_size: height and width that images are resized to, or one number for both; ``None``:
            their own, if all have the same.
        channels: 3, or 1 for images of one channel. transformers' pipelines make three channels of
            every image, so they run networks of three.
    """

    path: str = ""
    shape: str = "resnet8x4"
    settings: dict[str, Any] | None = None
    image_size: int | list[int] | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path and not is_network(self.path):
            raise UserError(
                f"teacher.path={self.path}: this teacher starts from random weights; teacher=hub "
                f"teacher.path={self.path} is the pretrained one"
            )
        for option in ("labels", "seeds"):
            if getattr(self, option) is not None:
                raise UserError(
                    f"teacher.{option}: teacher.shape={self.shape} starts from random weights, "
                    "which has none: leave it out"
                )
        if self.fine_tune is False:
            raise UserError(
                f"teacher.fine_tune=false: teacher.shape={self.shape} starts from random weights "
                "and has to be trained"
            )
        if self.channels not in (1, 3):
            raise UserError(f"teacher.channels={self.channels}: choose 1 or 3")
        size = self.given_size
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise UserError(f"teacher.image_size={self.image_size}: a number of pixels, or two")
        self._network(size or PROVISIONAL_SIZE)

    @property
    def name(self) -> str:
        """Name in reports: that of the shape."""
        return self.shape

    @property
    def given_size(self) -> tuple[int, int] | None:
        """Height and width that the user gives."""
        if self.image_size is None:
            return None
        both = [self.image_size] * 2 if isinstance(self.image_size, int) else self.image_size
        return both[0], both[-1] if len(both) == 2 else 0

    def load_config(self) -> PreTrainedConfig:
        """Return the network's configuration; before the data are known with a provisional size."""
        if self.path:
            return super().load_config()
        return self._network(self.given_size or PROVISIONAL_SIZE)

    def for_data(self, data: PreparedData, cache_dir: Path) -> "NetworkTeacher":
        """Return this teacher with a folder of random weights for the data's images.

        Raises:
            UserError: if the images differ in size and none is given, or are too small.
        """
        cells = data.splits["train"].select(range(min(len(data.splits["train"]), SAMPLE)))["image"]
        size = self.given_size or common_size(cells)
        if size is None:
            raise UserError(
                "the images differ in size: say to which they are resized, teacher.image_size=64 "
                "or teacher.image_size=[48,64] (height and width)"
            )
        config = self._network(size)
        check_image_size(config, size, self.channels, f"teacher.shape={self.shape}")
        processor: dict[str, Any] = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True, "size": {"height": size[0], "width": size[1]}, "resample": 2,
            "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": [0.0] * self.channels,
            "image_std": [1.0] * self.channels,
        }  # fmt: skip

        folder = cache_dir / NETWORKS / (
            f"{self.shape}-"
            + cache_key(
                kind="network", format=1, config=config.to_json_string(use_diff=False),
                processor=processor, seed=self.seed, data=data.hashes["train"],
            )
        )  # fmt: skip
        get_or_create(
            folder, lambda partial: _write_network(partial, config, processor, self.seed, cells)
        )
        return replace(self, path=str(folder))

    def _network(self, size: tuple[int, int]) -> PreTrainedConfig:
        return network_config(self.shape, self.settings or {}, "teacher", size, self.channels)


def is_network(path: str) -> bool:
    """Return whether a folder is one that this module has written."""
    return Path(path).parent.name == NETWORKS


def _write_network(
    folder: Path,
    config: PreTrainedConfig,
    settings: dict[str, Any],
    seed: int,
    cells: Sequence[Mapping[str, Any]],
) -> None:
    """Write a network with random weights, and the processor of the data's images."""
    _write_json(folder / loading.IMAGE_PROCESSOR, settings)
    processor = loading.load_image_processor(str(folder), "the new network")
    mean, deviation = mean_and_deviation(
        image for cell in cells for image in load_pixels(processor, [cell])
    )
    settings |= {"image_mean": mean, "image_std": deviation}
    _write_json(folder / loading.IMAGE_PROCESSOR, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageClassification.from_config(config)
    model.save_pretrained(folder)
    # Its head is not trained for any classes: it must not be taken for one that is.
    file = folder / "config.json"
    _write_json(file, json.loads(file.read_text(encoding="utf-8")) | {"architectures": None})


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
