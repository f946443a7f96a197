"""What every format of an exported model provides."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel

Text = str | tuple[str, str]
"""A text, or the two of a pair."""


@dataclass(frozen=True)
class ExportSource:
    """A trained model that is exported.

    Attributes:
        model: the model, in evaluation mode.
        processor: its tokenizer.
        labels: names of its outputs in their order.
        max_length: maximum number of tokens of an example.
    """

    model: PreTrainedModel
    processor: Any
    labels: Sequence[str]
    max_length: int


class ExportFormat(ABC):
    """One way to write a model.

    Attributes:
        name: value of ``--format``.
        tolerance: maximum difference of a logit from that in torch.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 1e-4

    @abstractmethod
    def obstacle(self, source: ExportSource) -> str | None:
        """Return why a model cannot be written in this format; ``None`` if it can."""

    @abstractmethod
    def write(self, source: ExportSource, folder: Path) -> None:
        """Write a model into an empty folder."""

    @abstractmethod
    def load(self, folder: Path) -> Callable[[Sequence[Text]], np.ndarray]:
        """Return a function from texts to logits ``(N, C)`` that runs what was written."""


EXPORT_FORMATS: dict[str, ExportFormat] = {}


def register_export_format(kind: type[ExportFormat]) -> type[ExportFormat]:
    """Add a format under its name; a class decorator."""
    EXPORT_FORMATS[kind.name] = kind()
    return kind
