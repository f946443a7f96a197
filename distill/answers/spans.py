"""The answer to a question as a span of its context."""

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
from distill.core.jagged import JaggedArray
from distill.metrics.squad import best_spans


class SpanReader(AnswerReader):
    """The best span over all windows of the context.

    Args:
        stride: number of context tokens that neighboring windows share; ``None``: a quarter.
        max_answer_length: maximum number of tokens of a span.
        no_answer_threshold: there is no answer where its score exceeds that of the best span by
            more than this.
        may_be_empty: whether there may be no answer at all.
        **settings: see :class:`AnswerReader`.
    """

    kind: ClassVar[str] = "span"
    fields = ("answer", "start", "end", "score")

    def __init__(
        self,
        stride: int | None = None,
        max_answer_length: int = 30,
        no_answer_threshold: float = 0.0,
        may_be_empty: bool = False,
        **settings: Any,
    ):
        super().__init__(**settings | {"pairs": True})
        self.stride, self.max_answer_length = stride, max_answer_length
        self.no_answer_threshold, self.may_be_empty = no_answer_threshold, may_be_empty

    @property
    def settings(self) -> dict[str, Any]:
        """How windows are made and spans chosen, and what all readers have."""
        return super().settings | {
            "stride": self.stride,
            "max_answer_length": self.max_answer_length,
            "no_answer_threshold": self.no_answer_threshold,
            "may_be_empty": self.may_be_empty,
        }

    def encode(
        self, tokenizer: TextTokenizer, records: Sequence[Mapping[str, Any]]
    ) -> list[EncodedRecord]:
        """Encode windows; logits belong to the first token ("no answer") and the context."""
        cls_id, encoded = tokenizer.settings.cls_id, []
        for record in records:
            windows, places = [], []
            for encoding in tokenizer.windows(record["text"], record["text_pair"], self.stride):
                context = [i for i, part in enumerate(encoding.sequence_ids) if part == 1]
                no_answer = encoding.ids.index(cls_id) if cls_id in encoding.ids else 0
                windows.append(Window(encoding.ids, encoding.type_ids, [no_answer, *context]))
                places.append([(0, 0), *(encoding.offsets[i] for i in context)])
            encoded.append(EncodedRecord(windows, {**record, "places": places}))
        return encoded

    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return ``answer``, its ``start`` and ``end`` in the context and its ``score``.

        The span is the one with the highest sum of start and end logit over all windows, as in
        evaluation; the score is its probability in its window, the product of those of start and
        end. Without an answer, the text is empty and the score that of no answer.
        """
        counts = np.array([len(rows) for rows in logits])
        scores, spans, no_answer = best_spans(
            JaggedArray(np.concatenate(list(logits)), counts), self.max_answer_length
        )
        best = int(len(scores) - 1 - np.argmax(scores[::-1]))  # the last of equal ones
        empty = not np.isfinite(scores[best])
        if self.may_be_empty:
            empty |= bool(no_answer.min() - scores[best] > self.no_answer_threshold)
        if empty:
            window = int(no_answer.argmin())
            first = last = 0
        else:
            window, (first, last) = best, spans[best]
        p = softmax(logits[window].T)
        answer: dict[str, Any] = {"answer": "", "start": None, "end": None}
        if not empty:
            places = record.content["places"][window]
            start, end = places[first][0], places[last][1]
            text = record.content["text_pair"][start:end]
            start += len(text) - len(text.lstrip())
            answer = {"answer": text.strip(), "start": start, "end": start + len(text.strip())}
        return answer | {"score": number(p[0, first] * p[1, last])}

    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the likeliest start and end of each window."""
        assert counts is not None
        rows = np.full((len(counts), counts.max(), 2), -np.inf)
        rows[np.arange(counts.max()) < counts[:, None]] = logits
        return top_two(rows.transpose(0, 2, 1).reshape(len(counts) * 2, -1))
