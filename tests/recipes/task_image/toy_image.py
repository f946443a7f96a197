"""A toy task whose examples are no text: classification of 8x8 grey images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedConfig

from distill.core.errors import UserError
from distill.data.columns import describe_type
from distill.data.preprocessor import Field, Preprocessor
from distill.data.schema import LABEL, Column, InputType
from distill.modeling.head import Head
from distill.tasks import class_labels
from distill.tasks.base import Task
from distill.tasks.sequence_classification import (
    ClassificationEvaluator,
    CrossEntropyCriterion,
    SingleLabelSchema,
)

SIDE = 8


class ToyImages(Task):
    """Classification of small grey images.

    Args:
        metric: the selection metric.
    """

    def __init__(self, metric: str = "accuracy"):
        super().__init__(
            name="toy_image",
            schema=ImageSchema("toy_image"),
            preprocessor=ImagePreprocessor(),
            head=ImageHead(),
            criterion=CrossEntropyCriterion(),
            evaluator=ClassificationEvaluator(metric),
        )


class PixelInput(InputType):
    """A column of flat lists of grey values from 0 to 255."""

    def validate(self, role: str, split: str, feature: Any) -> None:
        """Refuse what is no list of numbers."""
        if not describe_type(feature).startswith("lists of int"):
            raise UserError(f"the column of data.{role} holds no images in {split}")

    def is_empty(self, value: Sequence[int] | None) -> bool:
        """An image without pixels."""
        return not value

    def key(self, value: Sequence[int]) -> str:
        """The pixels."""
        return bytes(value).hex()


class ImageSchema(SingleLabelSchema):
    """An image and its class."""

    columns: Mapping[str, Column] = {
        "image": Column(("image", "pixels"), PixelInput()),
        LABEL: Column(("label",)),
    }
    allows_augmentation = False


class PixelScaler:
    """The toy's image processor: standardizes pixels.

    Args:
        mean: subtracted from the pixels.
        std: divisor.
    """

    FILE = "preprocessor_config.json"

    def __init__(self, mean: float, std: float):
        self.mean, self.std = mean, std

    @classmethod
    def from_pretrained(cls, folder: str) -> "PixelScaler":
        """Load from a model's folder."""
        return cls(**json.loads((Path(folder) / cls.FILE).read_text()))

    def save_pretrained(self, folder: Any) -> None:
        """Save beside a model."""
        (Path(folder) / self.FILE).write_text(json.dumps({"mean": self.mean, "std": self.std}))


class ImagePreprocessor(Preprocessor[PixelScaler]):
    """Standardized pixels ``(1, 8, 8)``, stacked; every image costs the same."""

    @property
    def cache_key(self) -> str:
        """The task's name."""
        return "toy_image"

    def load_processor(self, path: str, description: str) -> PixelScaler:
        """Load the scaler."""
        try:
            return PixelScaler.from_pretrained(path)
        except OSError as error:
            raise UserError(f"{description}: there is no image processor in it") from error

    def check_processor(self, processor: PixelScaler, max_length: int) -> None:
        """Any will do."""

    def processor_hash(self, processor: PixelScaler) -> str:
        """Mean and deviation."""
        return f"{processor.mean} {processor.std}"

    def same_inputs(self, first: PixelScaler, second: PixelScaler) -> bool:
        """Equal mean and deviation."""
        return self.processor_hash(first) == self.processor_hash(second)

    def encode(
        self, processor: PixelScaler, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Scale pixels."""
        pixels = [
            ((np.array(image, dtype=np.float32) - processor.mean) / processor.std)
            .reshape(1, SIDE, SIDE)
            .tolist()
            for image in rows["image"]
        ]
        return {"pixel_values": pixels, LABEL: rows[LABEL]}

    def cost(self, encoded: Mapping[str, list]) -> list[int]:
        """All images cost the same."""
        return [1] * len(encoded["pixel_values"])

    def fields(self, processor: PixelScaler) -> tuple[Field, ...]:
        """One stacked field."""
        return (Field("pixel_values", padded=False, dtype="float32"),)

    def example_inputs(self, config: PreTrainedConfig, cost: int) -> dict[str, Tensor]:
        """One grey image."""
        return {"pixel_values": torch.zeros(1, 1, SIDE, SIDE)}


class ImageHead(Head):
    """A linear layer over the pooled image."""

    auto_model = AutoModelForImageClassification
    architectures = ("ForImageClassification",)
    problem_type = "single_label_classification"
    accepted_problem_types = (None, "single_label_classification")

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Match the classes by name."""
        return class_labels.head_order(model_names, names)


def toy_rows(count: int, seed: int) -> Dataset:
    """Images that are bright at the top or at the bottom."""
    draw = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        image = draw.integers(0, 120, (SIDE, SIDE))
        half = slice(0, 4) if index % 2 else slice(4, 8)
        image[half] += 100
        rows.append({"image": image.flatten().tolist(), LABEL: ("bottom", "top")[index % 2]})
    return Dataset.from_list(rows)
