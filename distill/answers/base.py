"""What every reader of answers provides."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from distill.answers.tokenizer import TextTokenizer, TokenizerSettings

Inputs = dict[str, np.ndarray]
"""A batch: ``input_ids``, ``attention_mask`` and ``token_type_ids``, ``(B, L)`` each."""
DIGITS = 6
"""Decimal places of scores: the last digits of a float depend on the size of its batch."""


class RecordError(ValueError):
    """A record that cannot be answered, with the reason in one line."""


@dataclass(frozen=True)
class Window:
    """One example that a model reads.

    Attributes:
        ids: token ids.
        type_ids: token types.
        positions: tokens with logits; ``None``: one row of logits for the whole example.
    """

    ids: Sequence[int]
    type_ids: Sequence[int]
    positions: Sequence[int] | None = None


@dataclass(frozen=True)
class EncodedRecord:
    """A record as the model reads it.

    Attributes:
        windows: one or more examples.
        content: what the answer is read with, such as words and their places.
    """

    windows: Sequence[Window]
    content: Mapping[str, Any] = field(default_factory=dict)


class AnswerReader(ABC):
    """Encodes the records of a task and reads the answers from the logits.

    Args:
        columns: usual names of each input by role, ``{"text": ["review", "text"]}``.
        pairs: whether examples are pairs of texts; ``None``: either.
        temperature: what logits are divided by before they become probabilities.

    Attributes:
        kind: name in settings.
        fields: keys of an answer, in order.
    """

    kind: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        columns: Mapping[str, Sequence[str]],
        pairs: bool | None = None,
        temperature: float = 1.0,
    ):
        self.columns = {role: list(names) for role, names in columns.items()}
        self.pairs, self.temperature = pairs, temperature

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make this reader again, and ``kind``; plain values."""
        return {
            "kind": self.kind,
            "columns": self.columns,
            "pairs": self.pairs,
            "temperature": self.temperature,
        }

    @abstractmethod
    def encode(
        self, tokenizer: TextTokenizer, records: Sequence[Mapping[str, Any]]
    ) -> list[EncodedRecord]:
        """Encode records that :meth:`parse` returned."""

    @abstractmethod
    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return an answer.

        Args:
            record: what was encoded.
            logits: of each window, ``(C,)`` or one row for each of its positions ``(P, C)``.
            everything: whether to add the scores of all classes.
        """

    @abstractmethod
    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a batch's logits decide, and how clearly.

        Args:
            logits: ``(U, C)``.
            counts: number of rows of each example; ``None``: one.

        Returns:
            Decisions ``(M,)`` and the distance of each from the next best, in logits, ``(M,)``;
            nothing for a number.
        """

    def parse(self, record: Any) -> dict[str, Any]:
        """Return the inputs of a record by role.

        Args:
            record: a text, two texts, or a mapping with the columns.

        Raises:
            RecordError: if an input is missing, empty or of another type.
        """
        if isinstance(record, str):
            found: dict[str, Any] = {"text": record}
        elif isinstance(record, list | tuple) and len(record) == 2:
            found = {"text": record[0], "text_pair": record[1]}
        elif isinstance(record, Mapping):
            found = {
                role: record[name]
                for role, names in self.columns.items()
                if (name := next((name for name in names if name in record), None)) is not None
            }
        else:
            raise RecordError(f"a record is a text, two texts or an object, not {_kind(record)}")
        self._check(found)
        return found

    def _check(self, found: dict[str, Any]) -> None:
        for role in ("text", "text_pair"):
            names = "' or '".join(self.columns.get(role, [role]))
            if role == "text_pair" and role not in self.columns and role in found:
                raise RecordError("there is a second text, and the model reads one")
            if role not in found or found[role] is None:
                if role == "text" or self.pairs:
                    raise RecordError(f"there is no '{names}'")
                found.pop(role, None)
                continue
            if role == "text_pair" and self.pairs is False:
                raise RecordError("there is a second text, and the model reads one")
            check_text(found[role], names)


def check_text(text: Any, name: str) -> None:
    """Raise a :class:`RecordError` unless it is a text with content that can be encoded."""
    if not isinstance(text, str):
        raise RecordError(f"'{name}' is {_kind(text)}, not a text")
    if not text.strip():
        raise RecordError(f"'{name}' is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RecordError(f"'{name}' is not valid UTF-8") from None


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    names |= {dict: "an object", type(None): "null", tuple: "a list"}
    return names.get(type(value), f"a {type(value).__name__}")


def pad(windows: Sequence[Window], settings: TokenizerSettings) -> Inputs:
    """Return a batch padded to its longest example."""
    length = max(len(window.ids) for window in windows)
    shape = len(windows), length
    ids = np.full(shape, settings.pad_id, np.int64)
    mask = np.zeros(shape, np.int64)
    types = np.full(shape, settings.pad_type_id, np.int64)
    for row, window in enumerate(windows):
        count = len(window.ids)
        ids[row, :count], mask[row, :count] = window.ids, 1
        types[row, :count] = window.type_ids
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: batch[name] for name in settings.inputs}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def top_two(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest of the last axis, and by how much it leads; ``(M, C)`` -> ``(M,)``."""
    if logits.shape[-1] < 2:
        return np.zeros(len(logits), np.int64), np.full(len(logits), math.inf)
    highest = np.partition(logits, -2, axis=-1)
    return logits.argmax(axis=-1), highest[..., -1] - highest[..., -2]


def number(value: float) -> float:
    """Return a score as it is written."""
    return round(float(value), DIGITS)
