"""Words in the place of mask tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from distill.answers.base import (
    AnswerReader,
    EncodedRecord,
    RecordError,
    Window,
    number,
    softmax,
    top_two,
)
from distill.answers.tokenizer import TextTokenizer

CANDIDATES = 5
"""Number of tokens that are shown for a mask on request."""


class MaskedReader(AnswerReader):
    """The likeliest token of each mask, and the text with them."""

    kind: ClassVar[str] = "masked"
    fields = ("text", "masks")

    def encode(
        self, tokenizer: TextTokenizer, records: Sequence[Mapping[str, Any]]
    ) -> list[EncodedRecord]:
        """Encode texts; logits belong to the mask tokens.

        A text that is not masked, or only beyond the maximum length, has no positions.
        """
        mask_id, encoded = tokenizer.settings.mask_id, []
        encodings = tokenizer.texts([record["text"] for record in records])
        for record, encoding in zip(records, encodings, strict=True):
            positions = [i for i, token in enumerate(encoding.ids) if token == mask_id]
            content = {
                **record,
                "places": [encoding.offsets[i] for i in positions],
                "token": tokenizer.token,
            }
            window = Window(encoding.ids, encoding.type_ids, positions)
            encoded.append(EncodedRecord([window], content))
        return encoded

    def read(
        self, record: EncodedRecord, logits: Sequence[np.ndarray], everything: bool
    ) -> dict[str, Any]:
        """Return the ``text`` filled in and, for each mask, ``token``, ``score`` and its place.

        Raises:
            RecordError: for a text without a mask.
        """
        text, places = record.content["text"], record.content["places"]
        if not places:
            raise RecordError("there is no mask in the part of the text that the model reads")
        masks, filled, end_before = [], "", 0
        for (start, end), row in zip(places, logits[0], strict=True):
            p = softmax(row)
            best = np.argsort(-row, kind="stable")[: CANDIDATES if everything else 1]
            tokens = [
                {"token": record.content["token"](int(token)), "score": number(p[token])}
                for token in best
            ]
            mask = {**tokens[0], "start": start, "end": end}
            masks.append(mask | {"candidates": tokens} if everything else mask)
            filled += text[end_before:start] + str(tokens[0]["token"])
            end_before = end
        return {"text": filled + text[end_before:], "masks": masks}

    def decisions(
        self, logits: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the token of each mask."""
        return top_two(logits)
