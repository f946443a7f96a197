"""Words encoded as tokens, with the first token of each word."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.labels import IGNORED_LABEL
from distill.data.preprocessor import POSITIONS
from distill.data.text_preprocessor import TextPreprocessor
from distill.metrics.entities import OUTSIDE
from distill.tasks.token_classification.rows import flatten_rows
from distill.tasks.token_classification.schema import TagSchema


class WordPreprocessor(TextPreprocessor):
    """Encodes lists of words; logits belong to the first token of each word.

    Args:
        cache_key: see :class:`~distill.data.preprocessor.Preprocessor`.
        schema: knows what the tags mark.
    """

    token_level = True

    def __init__(self, cache_key: str, schema: TagSchema):
        super().__init__(cache_key)
        self.schema = schema

    def check_processor(self, processor: PreTrainedTokenizerBase, max_length: int) -> None:
        """Raise a ``UserError`` if there is no room for a single word."""
        special = processor.num_special_tokens_to_add()
        if max_length <= special:
            raise UserError(
                f"data.max_length={max_length} leaves no room for a word beside {special} special "
                "tokens: raise it"
            )

    def encode(
        self, processor: PreTrainedTokenizerBase, rows: Mapping[str, list[Any]], max_length: int
    ) -> dict[str, list[Any]]:
        """Encode sentences.

        Returns:
            The tokenizer's ids; for each word that is read its first token in ``positions``, its
            tag in ``label`` and its index in ``word``; ``tags``: of all words, read or not. White
            space that stands as a word is dropped.

        Raises:
            UserError: for a tokenizer that does not map tokens to words.
        """
        if not processor.is_fast:
            raise UserError(
                f"{type(processor).__name__} does not tell which pieces are of which word: "
                "task=token_classification needs a fast tokenizer (tokenizer.json)"
            )
        sentences, labels = [], []
        for words, tags in zip(rows["text"], rows["label"], strict=True):
            tags = tags or [IGNORED_LABEL] * len(words)
            kept = [
                (word, tag) for word, tag in zip(words, tags, strict=True) if (word or "").strip()
            ]
            sentences.append([word for word, _ in kept])
            labels.append([tag for _, tag in kept])
        space = " " if needs_leading_space(processor) else ""
        encoded = processor(
            [[word if not i else space + word for i, word in enumerate(s)] for s in sentences],
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        first_tokens: list[dict[int, int]] = []
        for row in range(len(sentences)):
            first: dict[int, int] = {}
            for position, word in enumerate(encoded.word_ids(row)):
                if word is not None:
                    first.setdefault(word, position)
            first_tokens.append(first)
        return dict(encoded) | {
            POSITIONS: [list(first.values()) for first in first_tokens],
            "label": [
                [tags[word] for word in first]
                for tags, first in zip(labels, first_tokens, strict=True)
            ],
            "word": [list(first) for first in first_tokens],
            "tags": labels,
        }  # fmt: skip

    def notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Return notes on words that are not read, and on entities without a beginning tag."""
        notes = []
        unread = "count as wrong." if self.schema.outside < 0 else f"count as predicted {OUTSIDE}."
        for split in ("train", "test"):
            rows = encoded[split]
            words, read = (sum(map(len, rows[column][:])) for column in ("tags", "word"))
            if read < words:
                notes.append(
                    f"{words - read} of the {words} words of {split} are not read (beyond "
                    "data.max_length, or without any token) and "
                    + ("teach nothing." if split == "train" else unread)
                )
            if self.schema.scheme is not None:
                tags, begins, _ = flatten_rows(rows["tags"][:])
                spans = self.schema.scheme.entities(tags, begins)
                if spans.implicit.any():
                    notes.append(
                        f"{spans.implicit.sum()} of the {len(spans.first)} entities of {split} "
                        "begin without B- (IOB1, or broken BIO) and are counted as conlleval does."
                    )
        return notes


def needs_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a word after a space is read differently from one by itself (RoBERTa's)."""
    text = tokenizer("a b", add_special_tokens=False)["input_ids"]
    words = tokenizer(["a", "b"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    spaced = tokenizer(["a", " b"], is_split_into_words=True, add_special_tokens=False)
    return bool(text != words and text == spaced["input_ids"])
