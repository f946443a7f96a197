"""One class, any number of labels, or a number for a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from distill.answers.base import (
    AnswerReader,
    EncodedRecord,
    Window,
    number,
    softmax,
    top_two,
)
from distill.answers.tokenizer import TextTokenizer


class TextReader(AnswerReader):
    """A text or a pair of texts with one row of logits."""

    def encode(
        self, tokenizer: TextTokenizer, records: Sequence[Mapping[str, Any]]
    ) -> list[EncodedRecord]:
        """Encode texts, or pairs of them."""
        texts = [
            (record["text"], record["text_pair"]) if "text_pair" in record else record["text"]
            for record in records
        ]
        return [
            EncodedRecord([Window(encoding.ids, encoding.type_ids)])
            for encoding in tokenizer.texts(texts)
        ]


class ClassReader(TextReader):
    """The most likely class and its probability.

    Args:
        labels: the classes in the order of the outputs.
        **settings: see :class:`AnswerReader`.
    """

    kind: ClassVar[str] = "class"
    fields = ("label", "score")

    def __init__(self, labels: Sequence[str], **settings: Any):
        super().__init__(**settings)
        self.labels = list(labels)

    @property
    def settings(self) -> dict[str, Any]:
        """The classes, and what all readers have."""
        return super().settings | {"labels": self.labels}

    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return ``label``, its ``score`` and, on request, the ``scores`` of all."""
        p = softmax(logits[0] / self.temperature)
        best = int(logits[0].argmax())
        answer = {"label": self.labels[best], "score": number(p[best])}
        if everything:
            answer["scores"] = dict(zip(self.labels, map(number, p), strict=True))
        return answer

    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each example."""
        return top_two(logits)


class LabelsReader(TextReader):
    """Every label whose probability is one half or more.

    Args:
        labels: all of them in the order of the outputs.
        **settings: see :class:`AnswerReader`.
    """

    kind: ClassVar[str] = "labels"
    fields = ("labels", "scores")

    def __init__(self, labels: Sequence[str], **settings: Any):
        super().__init__(**settings)
        self.labels = list(labels)

    @property
    def settings(self) -> dict[str, Any]:
        """The labels, and what all readers have."""
        return super().settings | {"labels": self.labels}

    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return ``labels`` and the ``scores`` of these or, on request, of all."""
        z = logits[0].astype(np.float64)
        scores = 1 / (1 + np.exp(-z / self.temperature))
        chosen = [name for name, value in zip(self.labels, z, strict=True) if value >= 0]
        shown = {
            name: number(score)
            for name, score in zip(self.labels, scores, strict=True)
            if everything or name in chosen
        }
        return {"labels": chosen, "scores": shown}

    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the decision on every label of every example."""
        flat = logits.reshape(-1)
        return (flat >= 0).astype(np.int64), np.abs(flat)


class NumberReader(TextReader):
    """A number, in the units of the labels.

    Args:
        scale: what labels were divided by for training.
        **settings: see :class:`AnswerReader`.
    """

    kind: ClassVar[str] = "number"
    fields = ("value",)

    def __init__(self, scale: float = 1.0, **settings: Any):
        super().__init__(**settings)
        self.scale = scale

    @property
    def settings(self) -> dict[str, Any]:
        """The divisor, and what all readers have."""
        return super().settings | {"scale": self.scale}

    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return ``value``."""
        return {"value": number(float(logits[0][0]) * self.scale)}

    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return nothing: a number is no choice."""
        return np.empty(0, np.int64), np.empty(0)
