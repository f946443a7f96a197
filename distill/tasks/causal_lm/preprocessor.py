"""Documents and prompts as rows of tokens, each of which predicts the next one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.columns import numeric_column
from distill.data.preprocessor import POSITIONS
from distill.data.schema import LABEL
from distill.data.text_preprocessor import TextPreprocessor

BYTES = "bytes"
"""Column of the number of UTF-8 bytes of text that the targets of a row stand for."""
ROW = "row"
"""Column of the index of the prepared row that an example was made from."""
CUT = "cut"
"""Column of whether a response goes on beyond the maximum length."""


class NextTokenPreprocessor(TextPreprocessor):
    """Encodes texts such that every position but the last of a document predicts what follows.

    Targets are shifted here and nowhere else: the label of a position is the token after it. The
    end of the text is a target like any other, whatever its id: what is padding is said by lengths.

    A document that is longer than ``max_length`` continues in a further row, so that each of its
    tokens is a target once. Of a prompt and a response, the response and its end are targets.
    """

    token_level = True

    def check_processor(self, processor: PreTrainedTokenizerBase, max_length: int) -> None:
        """Raise a ``UserError`` without an end token or offsets, or without room for a target."""
        if processor.eos_token_id is None:
            raise UserError(
                "task=causal_lm: the teacher's tokenizer has no end token, so that no model could "
                "learn to stop: set one and save it (tokenizer.eos_token = ...)"
            )
        if not processor.is_fast:
            raise UserError(
                "task=causal_lm counts bytes by offsets, which takes a tokenizer of the tokenizers "
                f"library; the teacher's is {type(processor).__name__}"
            )
        if max_length < 2:
            raise UserError(f"data.max_length={max_length}: task=causal_lm needs 2 tokens or more")

    def encode(
        self, processor: PreTrainedTokenizerBase, rows: Mapping[str, list[Any]], max_length: int
    ) -> dict[str, list[Any]]:
        """Encode documents as one or several rows each, prompts with responses as one.

        Prompts without room for a target are left out.
        """
        start, end = start_tokens(processor), processor.eos_token_id
        columns: dict[str, list[Any]] = {
            name: [] for name in ("input_ids", POSITIONS, LABEL, BYTES, ROW, CUT)
        }

        def add(ids: Sequence[int], first: int, size: int, row: int, cut: bool) -> None:
            columns["input_ids"].append(list(ids[:-1]))
            columns[POSITIONS].append(list(range(first, len(ids) - 1)))
            columns[LABEL].append(list(ids[first + 1 :]))
            columns[BYTES].append(size)
            columns[ROW].append(row)
            columns[CUT].append(cut)

        if "prompt" not in rows:
            for text, (ids, ends), row in zip(
                rows["text"], _tokens_with_ends(processor, rows["text"]), rows[ROW], strict=True
            ):
                # Bytes of the text that end with each token; the end token adds none.
                ids = [*start, *ids, end]
                read = [*[0] * len(start), *_bytes_before(text, ends), len(text.encode())]
                for at in range(0, len(ids) - 1, max_length):
                    part = ids[at : at + max_length + 1]
                    add(part, 0, read[at + len(part) - 1] - read[at], row, False)
            return columns
        prompts = _tokens_with_ends(processor, rows["prompt"])
        responses = _tokens_with_ends(processor, rows["response"])
        for response, (asked, _), (answer, ends), row in zip(
            rows["response"], prompts, responses, rows[ROW], strict=True
        ):
            asked = [*start, *asked]
            if not asked or len(asked) > max_length:
                continue  # no position with a prompt before it, or no room
            ids = [*asked, *answer, end]
            cut = len(ids) > max_length + 1
            ids = ids[: max_length + 1]
            kept = len(ids) - len(asked)
            read = [*_bytes_before(response, ends), len(response.encode())]
            add(ids, len(asked) - 1, read[kept - 1], row, cut)
        return columns

    def notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Return how many prompts were left out, and how many responses are cut."""
        notes = []
        for split, rows in encoded.items():
            kept = np.unique(numeric_column(rows, ROW))
            # Rows are encoded in order; those after the last one kept are not known here.
            missing = int(kept.max()) + 1 - len(kept)
            if missing:
                notes.append(
                    f"{missing} prompts of {split} leave no room for a response in "
                    f"data.max_length={max_length} tokens and are left out."
                )
            cut = int(np.asarray(numeric_column(rows, CUT)).sum())
            if cut:
                notes.append(
                    f"{cut} of the {len(rows)} responses of {split} go on beyond "
                    f"data.max_length={max_length} tokens and are cut, without an end."
                )
        return notes


def start_tokens(processor: PreTrainedTokenizerBase) -> list[int]:
    """Return what the tokenizer itself puts before a text, if anything."""
    begin = processor.bos_token_id
    return [begin] if begin is not None and processor("a")["input_ids"][:1] == [begin] else []


def _tokens_with_ends(
    processor: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """Return the ids of each text without special tokens, and where each ends in characters."""
    encoded = processor(
        list(texts), add_special_tokens=False, return_offsets_mapping=True,
        return_attention_mask=False, verbose=False,
    )  # fmt: skip
    return [
        (ids, [end for _, end in offsets])
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def _bytes_before(text: str, ends: Sequence[int]) -> list[int]:
    """Return the number of UTF-8 bytes of the characters before each end, ``(tokens,)``."""
    if text.isascii():
        return list(ends)
    sizes = np.cumsum([0, *(len(character.encode()) for character in text)])
    return [int(sizes[end]) for end in ends]
