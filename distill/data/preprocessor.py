"""How prepared rows become the examples that a model reads."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedConfig

from distill.modeling.inputs import POSITIONS

LENGTH = "length"
"""Column of the cost of an example, by which examples are grouped into batches."""

__all__ = [
    "LENGTH",
    "POSITIONS",
    "BatchTransform",
    "Field",
    "PassSeed",
    "Preprocessor",
    "Processor",
    "Views",
]

PassSeed = tuple[int, int] | None
"""A pass over the examples: the training's seed and the pass number; ``None``: an evaluation."""

BatchTransform = Callable[[Mapping[str, Any], PassSeed], dict[str, Any]]
"""Changes encoded rows whenever a batch is made, such as dynamic masking."""


class Views(Protocol):
    """Several views of each example, of which each pass over the data draws one.

    Attributes:
        count: number of views of each example.
    """

    @property
    def count(self) -> int:
        """Number of views of each example."""

    def with_view(self, number: int) -> "Views":
        """Return the same with one view of every example, whatever the pass."""

    def numbers(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> np.ndarray | None:
        """Return the number of the view of each row, ``(B,)``; ``None``: they stay as they are."""

    def __call__(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> dict[str, Any]:
        """Return rows as they are seen in a pass."""


class Processor(Protocol):
    """A model's processing class: a tokenizer, an image processor, a feature extractor."""

    def save_pretrained(self, save_directory: Any) -> Any:
        """Save beside the model."""


P = TypeVar("P")


@dataclass(frozen=True)
class Field:
    """One input of a model, and how a batch of it is made.

    Attributes:
        name: column of the encoded rows, and the model's argument.
        fill: value that shorter rows are padded with.
        padded: whether rows differ in length and are padded to the longest; else they are stacked.
        dtype: numpy type of the batch.
        mask_of: name of the field whose lengths this one marks with ones (an attention mask); such
            a field has no column of its own.
        embedding_ids: whether the values index the model's input embeddings.
        decode: turns the stored values of B rows into an array ``(B, ...)``, for what is stored
            in a smaller form than models read it; ``None``: they are padded or stacked.
    """

    name: str
    fill: int | float = 0
    padded: bool = True
    dtype: str = "int64"
    mask_of: str | None = None
    embedding_ids: bool = False
    decode: Callable[[Sequence[Any]], np.ndarray] | None = None


class Preprocessor(ABC, Generic[P]):
    """Encodes prepared rows with a model's processor and declares the fields of the result.

    Attributes:
        token_level: whether logits belong to single tokens, so that teacher and student must read
            the same ones.
    """

    token_level: ClassVar[bool] = False

    @property
    @abstractmethod
    def cache_key(self) -> str:
        """Every setting that changes what :meth:`encode` returns."""

    @abstractmethod
    def load_processor(self, path: str, description: str) -> P:
        """Load the processor saved beside a model.

        Args:
            path: a folder or a hub id.
            description: what messages call the model.

        Raises:
            UserError: if there is none.
        """

    @abstractmethod
    def check_processor(self, processor: P, max_length: int) -> None:
        """Raise a ``UserError`` for a teacher's processor that the task cannot work with."""

    def check_model(self, config: PreTrainedConfig, processor: P, description: str) -> None:
        """Raise a ``UserError`` for a model that cannot read what a processor makes.

        Args:
            config: the model's configuration.
            processor: its processor.
            description: what messages call the model.
        """
        return

    def feature_maps(
        self, config: PreTrainedConfig, processor: P
    ) -> Mapping[str, tuple[int, int, int]]:
        """Return channels, height and width of a model's feature maps by name; default: none.

        Args:
            config: the model's configuration.
            processor: its processor.
        """
        return {}

    @abstractmethod
    def processor_hash(self, processor: P) -> str:
        """Return a hash of everything that determines the processor's output."""

    @abstractmethod
    def same_inputs(self, first: P, second: P) -> bool:
        """Return whether two processors turn every example into the same model inputs."""

    @abstractmethod
    def encode(self, processor: P, rows: Mapping[str, list], max_length: int) -> dict[str, list]:
        """Encode rows; unpadded.

        Args:
            processor: processor of a model.
            rows: the schema's columns, and ``row``, the index of each row in its split.
            max_length: maximum number of tokens of an example.

        Returns:
            The declared fields, ``label``, and what the evaluator reads. One entry per example;
            there may be more or fewer examples than rows.
        """

    @abstractmethod
    def cost(self, encoded: Mapping[str, list]) -> list[int]:
        """Return the cost of each encoded example: its length in tokens, or 1 if all are alike."""

    @abstractmethod
    def fields(self, processor: P) -> tuple[Field, ...]:
        """Declare the model inputs among the encoded columns."""

    @abstractmethod
    def example_inputs(self, config: PreTrainedConfig, cost: int) -> dict[str, Tensor]:
        """Return the inputs of one example of a given cost, for counting operations.

        Args:
            config: the model's configuration.
            cost: as :meth:`cost` states it.
        """

    def notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Return notes for the report on how the splits were encoded."""
        return []

    def processor_notes(self, processor: P, train: Dataset) -> list[str]:
        """Return notes for the report on how well a processor fits the data.

        Args:
            processor: that encoded the rows.
            train: the encoded training split.
        """
        return []

    def batch_transform(self, processor: P, train: Dataset) -> BatchTransform | None:
        """Return what is applied to rows whenever a batch is made; ``None``: nothing.

        Args:
            processor: that encoded the rows.
            train: the encoded training split.
        """
        return None

    def views(self, processor: P) -> Views | None:
        """Return the views of each example that training draws from; ``None``: there are none.

        Args:
            processor: that encoded the rows.
        """
        return None

    @property
    def training_settings(self) -> dict[str, Any]:
        """Every setting that changes the result of a training, for cache keys.

        Settings that :attr:`cache_key` covers are repeated here: fine-tuned models are kept under
        these alone.
        """
        return {}
