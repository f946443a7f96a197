"""A label for each word, and the entities that they mark."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from distill.answers.base import (
    AnswerReader,
    EncodedRecord,
    RecordError,
    Window,
    check_text,
    number,
    softmax,
    top_two,
)
from distill.answers.tokenizer import TextTokenizer
from distill.metrics.entities import OUTSIDE, TagScheme

WORD = re.compile(r"\w+|[^\w\s]")
"""Words of a text that is not split into words: runs of letters and digits, and single signs."""


class WordsReader(AnswerReader):
    """Words with their labels and places in the text, and entities.

    Args:
        labels: the tags in the order of the outputs.
        entities: whether the tags mark entities.
        **settings: see :class:`AnswerReader`.
    """

    kind: ClassVar[str] = "words"
    fields = ("entities", "words")

    def __init__(self, labels: Sequence[str], entities: bool, **settings: Any):
        super().__init__(**settings)
        self.labels, self.entities = list(labels), entities
        self._scheme = TagScheme.of(self.labels) if entities else None
        self._outside = self.labels.index(OUTSIDE) if OUTSIDE in self.labels else -1

    @property
    def settings(self) -> dict[str, Any]:
        """The tags, and what all readers have."""
        return super().settings | {"labels": self.labels, "entities": self.entities}

    def parse(self, record: Any) -> dict[str, Any]:
        """Return ``text`` and its ``words``: ``(word, start, end)``.

        A list of words is taken as it is, joined with spaces for the text that places refer to.

        Raises:
            RecordError: for anything else than a text or words.
        """
        if isinstance(record, Mapping):
            name = next((name for name in self.columns["text"] if name in record), None)
            if name is None:
                names = "' or '".join(self.columns["text"])
                raise RecordError(f"there is no '{names}'")
            record = record[name]
        if isinstance(record, str):
            check_text(record, "text")
            words = [(match[0], *match.span()) for match in WORD.finditer(record)]
            return {"text": record, "words": words}
        if not isinstance(record, list | tuple):
            raise RecordError("a record is a text or a list of words")
        words, start = [], 0
        for word in record:
            if not isinstance(word, str):
                raise RecordError("a word is no text")
            if word.strip():
                words.append((word, start, start + len(word)))
            start += len(word) + 1
        text = " ".join(record)
        check_text(text, "words")
        return {"text": text, "words": words}

    def encode(
        self, tokenizer: TextTokenizer, records: Sequence[Mapping[str, Any]]
    ) -> list[EncodedRecord]:
        """Encode sentences; logits belong to the first token of each word."""
        encoded = []
        for record in records:
            encoding = tokenizer.words([word for word, _, _ in record["words"]])
            first: dict[int, int] = {}
            for position, word in enumerate(encoding.word_ids):
                if word is not None:
                    first.setdefault(word, position)
            window = Window(encoding.ids, encoding.type_ids, list(first.values()))
            encoded.append(EncodedRecord([window], {**record, "read": list(first)}))
        return encoded

    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return ``entities`` (where the tags mark any) and ``words``.

        A word that the model does not read, beyond the maximum length, has no score, and the label
        ``O`` or none. The score of an entity is the mean of those of its words.
        """
        words, text = record.content["words"], record.content["text"]
        tags = np.full(len(words), self._outside)
        p = softmax(logits[0] / self.temperature)
        scores: list[float | None] = [None] * len(words)
        read = record.content["read"]
        tags[read] = logits[0].argmax(axis=-1)
        for word, row in zip(read, p, strict=True):
            scores[word] = number(row[tags[word]])
        shown = [
            {
                "word": word, "start": start, "end": end,
                "label": self.labels[tag] if tag >= 0 else None, "score": score,
            }
            for (word, start, end), tag, score in zip(words, tags, scores, strict=True)
        ]  # fmt: skip
        if everything:
            for word, row in zip(read, p, strict=True):
                shown[word]["scores"] = dict(zip(self.labels, map(number, row), strict=True))
        if self._scheme is None:
            return {"words": shown}
        begins = np.zeros(len(words), dtype=bool)
        begins[:1] = True
        spans = self._scheme.entities(tags, begins)
        entities = []
        for first, last, kind in zip(spans.first, spans.last, spans.types, strict=True):
            start, end = words[first][1], words[last][2]
            of_words = [score for score in scores[first : last + 1] if score is not None]
            entities.append(
                {
                    "label": self._scheme.names[kind], "text": text[start:end],
                    "start": start, "end": end,
                    "score": number(float(np.mean(of_words))) if of_words else None,
                }
            )  # fmt: skip
        return {"entities": entities, "words": shown}

    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the tag of each word."""
        return top_two(logits)
